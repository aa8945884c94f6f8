# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Puts texts of files into the container of a storage account, where Azure Change Tracking looks for them.

A blob has a name that follows from the file, its time and its checksum. So a text that is put there twice is there once, and what is
there already is compared with it. Sources: "Put Blob" and "Authorize with Microsoft Entra ID" on learn.microsoft.com.
"""

import base64
import os
import re
import time
from email.utils import formatdate
from typing import Callable, Dict, Mapping, Optional, Sequence
from urllib.parse import quote

from ..kinds.files.hashing import constructor, is_allowed
from ..kinds.files.kind import File
from ..text import quoted
from . import https
from .errors import AzureError
from .https import Client, Endpoint, Response
from .identity import STORAGE, Tokens

CONTAINER = "changetrackingblob"
CLOUDS = (
    "blob.core.windows.net",
    "blob.storage.azure.net",
    "blob.core.usgovcloudapi.net",
    "blob.core.chinacloudapi.cn",
)
VERSION = "2023-11-03"  # of the storage API; tokens need 2017-11-09
ROLE = "Storage Blob Data Contributor"
RATE = 1 << 20  # bytes a second
_TOLERATED_SECONDS = 300.0  # that a clock may be off
_MAX_NAME = 200  # characters of a file's name in that of a blob
_MAX_PATH = 4000  # characters of a path in the metadata, of which Azure takes 8 KiB


class TextRefused(AzureError):
    """The account refuses this text alone."""


def account(endpoint: str, account_id: str = "", allowed: Sequence[str] = ()) -> Endpoint:
    """The blob service of a storage account, if a token may be sent there. Raises AzureError.

    `account_id`: its resource id, which must name the same account. `allowed`: the only hosts, with their port where that is not 443;
    empty: those of the Azure clouds.
    """
    found = https.parse(endpoint)
    if allowed:
        if found.authority not in allowed:
            raise AzureError(
                "The rule names the blob host '%s', which is not in upload_hosts, so nothing is uploaded. Add it there, or correct the rule."
                % quoted(found.authority)
            )
        return found
    name, _dot, cloud = found.host.partition(".")
    zone = re.sub(r"\Az[0-9]{2}\.", "", cloud)
    if not re.fullmatch("[a-z0-9]{3,24}", name) or zone not in CLOUDS or found.port != 443 or found.path:
        raise AzureError(
            "The rule names the blob host '%s', which is none of an Azure cloud, so nothing is uploaded. Correct blobEndpoint in the rule,"
            " or give the host in upload_hosts." % quoted(found.authority + found.path)
        )
    named = account_id.rstrip("/").rpartition("/")[2].lower()
    if named and named != name:
        raise AzureError(
            "The rule names the storage account '%s', but the blob host '%s', so nothing is uploaded. Correct the rule."
            % (quoted(named), quoted(found.host))
        )
    return found


def blob_name(machine: Mapping[str, Optional[str]], item: File) -> str:
    """The blob of a file's present text. `machine`: of host.identity()."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(item.modified or 0))
    words = (when, _plain(item.path.rpartition("/")[2])[:_MAX_NAME], item.checksum)
    return "/".join((_plain(machine["Computer"]), _plain(machine["SourceComputerId"]), "-".join(words)))


def _plain(text: Optional[str]) -> str:
    """A part of a blob's name, without what a URL or Azure reads in another way."""
    return re.sub("[^A-Za-z0-9._-]", "_", text or "").rstrip(".") or "unknown"


def link(endpoint: Endpoint, name: str) -> str:
    """The URL of a blob."""
    return "%s/%s/%s" % (str(endpoint), CONTAINER, quote(name, safe="/"))


def metadata(computer: str, path: str) -> Dict[str, str]:
    """The headers with which Azure Change Tracking describes a text. In a path, all but the usual characters are percent-encoded."""
    headers = {"x-ms-meta-ComputerName": quote(computer, safe=""), "x-ms-meta-TimeZoneid": "UTC"}
    encoded = quote(os.fsencode(path), safe="/")
    if len(encoded) <= _MAX_PATH:
        headers["x-ms-meta-FilePath"] = encoded
    return headers


class Blobs:
    """The container of one storage account. To be closed. Raises AzureError."""

    def __init__(
        self,
        endpoint: Endpoint,
        tokens: Tokens,
        ca: str = "",
        proxy: str = "",
        rate: float = RATE,
        seconds: float = https.SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.endpoint = endpoint
        self.tokens = tokens
        self._client = Client(endpoint, ca, proxy, seconds, rate=rate)
        self._now = now
        self._ahead = 0.0  # seconds that the clock of the account is ahead of ours, where they differ much

    def close(self) -> None:
        self._client.close()

    def put(self, name: str, content: bytes, described: Mapping[str, str]) -> None:
        """Store a text, and return when the blob has these very bytes. `described`: see metadata()."""
        headers = dict(described)
        headers.update(
            {
                "x-ms-blob-type": "BlockBlob",
                "x-ms-blob-content-type": "text/plain; charset=utf-8",
                "Content-Type": "application/octet-stream",
                "If-None-Match": "*",
            }
        )
        md5 = ""
        if is_allowed("md5"):  # in FIPS mode, TLS alone protects the way
            md5 = headers["Content-MD5"] = base64.b64encode(constructor("md5")(content).digest()).decode("ascii")
        response = self._request("PUT", name, headers, content)
        if response.status == 201 and md5 and response.headers.get("content-md5", md5) != md5:
            raise TextRefused(
                "%s stored another content than was sent as the blob '%s'. Delete it." % (str(self.endpoint), name)
            )
        if response.status == 409:
            self._compare(name, content, response)
        elif response.status != 201:
            raise self._refusal(response)

    def check(self, computer: str) -> None:
        """Check that texts can be stored, without storing one: the condition of the request cannot be met."""
        headers = {
            "x-ms-blob-type": "BlockBlob",
            "Content-Type": "application/octet-stream",
            "If-Match": '"0x0"',
            "Content-Length": "0",
        }
        response = self._request("PUT", _plain(computer) + "/doctor", headers)
        if response.status != 412:
            raise self._refusal(response)

    def _compare(self, name: str, content: bytes, conflict: Response) -> None:
        """Check what a blob has that is there already."""
        found = self._request("GET", name, {"Range": "bytes=0-%d" % len(content)})  # one byte more, if it is longer
        if found.status == 404:  # so the conflict is about something else, such as a container that is being deleted
            raise self._refusal(conflict)
        if found.status == 409:  # such as a blob in an archive
            raise TextRefused(str(self._refusal(found)))
        is_empty = found.status == 416
        if found.status not in (200, 206) and not is_empty:
            raise self._refusal(found)
        if (b"" if is_empty else found.body) != content:
            raise TextRefused(
                "The blob '%s' of %s has another content than the file that it is named after. Delete it."
                % (name, str(self.endpoint))
            )

    def _request(self, method: str, name: str, headers: Mapping[str, str], content: bytes = b"") -> Response:
        target = "/%s/%s" % (CONTAINER, quote(name, safe="/"))
        response = self._client.request(method, target, self._signed(headers), content)
        if response.status in (401, 403) and self._learn_time(response):
            response = self._client.request(method, target, self._signed(headers), content)
        if response.status == 401:
            self.tokens.forget(STORAGE)
            response = self._client.request(method, target, self._signed(headers), content)
        return response

    def _signed(self, headers: Mapping[str, str]) -> Dict[str, str]:
        date = formatdate(self._now() + self._ahead, usegmt=True)
        token = self.tokens.token(STORAGE)
        return dict(headers, **{"x-ms-version": VERSION, "x-ms-date": date, "Authorization": "Bearer " + token})

    def _learn_time(self, response: Response) -> bool:
        """Use the clock of the account from now on, where ours is far off; False where that is nothing new."""
        date = https.http_date(response.headers.get("date", ""))
        before, ahead = self._ahead, 0.0 if date is None else date - self._now()
        if abs(ahead - before) <= _TOLERATED_SECONDS:
            return False
        self._ahead = ahead
        return True

    def _refusal(self, response: Response) -> AzureError:
        code = response.headers.get("x-ms-error-code", "")
        who, where = self.tokens.describe(), "the container %s of %s" % (CONTAINER, str(self.endpoint))
        if response.status == 404:
            remedy = "Create %s." % where
        elif response.status == 403 and code == "AuthorizationFailure":
            remedy = "The firewall of the storage account refuses this host. Allow its network there."
        elif response.status == 403:
            remedy = "Give %s the role %s on %s. A new role takes up to ten minutes." % (who, ROLE, where)
        elif response.status == 401:
            remedy = "Check that the storage account is in the tenant of %s." % who
        elif response.status in (408, 409, 429) or response.status >= 500:
            remedy = "The upload is repeated automatically."
        elif response.status == 412:
            remedy = "Somebody holds a lease on the blob. Break it, or delete the blob."
        else:
            remedy = "Check that this is the blob service of a storage account."
        said = https.describe(response, 300) if not code else https.said("%d, %s" % (response.status, code))
        text = "%s does not accept the contents of files (the answer is %s). %s" % (str(self.endpoint), said, remedy)
        kind = TextRefused if response.status in (400, 412, 413) else AzureError
        return kind(text, response.status, response.retry_after)
