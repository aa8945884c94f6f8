# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts in a storage account: the very bytes, once, at a place that may have them; and a sentence for each way in which that fails."""

import os
import time
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import blobs
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.blobs import Blobs
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.errors import AzureError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.https import parse
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.identity import Identity, Tokens
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.hashing import is_allowed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import File
from ansible_collections.changetracking.inventory.tests.helpers import azure, web

MACHINE = {"Computer": "web01", "SourceComputerId": "id-1", "VMUUID": None}
NAME = "web01/id-1/20260101T000000Z-a.conf-abc"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return web.make_certificate(tmp_path_factory.mktemp("tls"))


class Cloud:
    """A storage account, and our client for it."""

    def __init__(self, folder, certificate):
        self.azure = azure.Azure()
        self.web = web.Web(self.azure, certificate=certificate)
        secret = folder / "secret"
        secret.write_text(azure.SECRET)
        secret.chmod(0o600)
        self.sleeps = []
        identity = Identity("secret", azure.APPLICATION, azure.TENANT, str(secret), self.web.url, certificate[0])
        self.tokens = Tokens(identity, sleep=self.sleeps.append)
        self.blobs = Blobs(parse(self.web.url), self.tokens, certificate[0])

    def requests(self):
        return [request for request in self.web.requests if not request.target.endswith("/token")]

    def refusal(self, content=b"text"):
        with pytest.raises(AzureError) as caught:
            self.blobs.put(NAME, content, {})
        text = str(caught.value)
        assert "token-" not in text and azure.SECRET not in text
        return text


@pytest.fixture
def cloud(tmp_path, certificate):
    cloud = Cloud(tmp_path, certificate)
    yield cloud
    cloud.blobs.close()
    cloud.web.close()
    assert not cloud.azure.wrong


# --- where


@pytest.mark.parametrize(
    "endpoint",
    ["https://abc.blob.core.windows.net/", "https://abc.blob.core.windows.net", "https://abc.blob.core.usgovcloudapi.net/",
     "https://abc.blob.core.chinacloudapi.cn/", "https://abc.z12.blob.storage.azure.net/", "https://ABC.blob.core.windows.net:443/"],
)  # fmt: skip
def test_blob_hosts_of_the_azure_clouds_are_used(endpoint):
    assert blobs.account(endpoint, "/subscriptions/s/resourceGroups/g/providers/p/storageAccounts/Abc").host.startswith(
        "abc."
    )


@pytest.mark.parametrize(
    "endpoint",
    ["http://abc.blob.core.windows.net/", "https://abc.blob.core.windows.net.evil.org/", "https://evil.org/abc.blob.core.windows.net",
     "https://abc.blob.core.windows.net@evil.org/", "https://evil.org#abc.blob.core.windows.net", "https://blob.core.windows.net/",
     "https://a.b.blob.core.windows.net/", "https://abc.blob.core.windows.net:8443/", "https://abc.blob.core.windows.net/path",
     "https://169.254.169.254/", "https://localhost/", "https://ab_c.blob.core.windows.net/", "https://abc.blob.core.windows.net./",
     "https://abc.z1.evil.blob.storage.azure.net/", "", "x", "https://abc.blob.core.windows.net/?a=b", "https://abc.file.core.windows.net/"],
)  # fmt: skip
def test_a_token_goes_to_no_other_host(endpoint):
    with pytest.raises(AzureError):
        blobs.account(endpoint)


def test_an_account_that_is_not_the_named_one_is_refused():
    with pytest.raises(AzureError, match="names the storage account 'mine', but the blob host 'theirs"):
        blobs.account("https://theirs.blob.core.windows.net/", "/subscriptions/s/storageAccounts/mine")


def test_hosts_that_the_operator_names_are_the_only_ones():
    hosts = ["10.0.0.1:10000", "mine.blob.core.windows.net"]
    assert str(blobs.account("https://10.0.0.1:10000/account", "", hosts)) == "https://10.0.0.1:10000/account"
    assert blobs.account("https://mine.blob.core.windows.net/", "", hosts).port == 443
    for other in ("https://other.blob.core.windows.net/", "https://10.0.0.1/", "http://10.0.0.1:10000/"):
        with pytest.raises(AzureError):
            blobs.account(other, "", hosts)


# --- under which name


def item(path, modified=1767225600, checksum="ab" * 32):
    return File(path, checksum, 1, "root", "root", 0o644, modified, None, "file", "")


def test_a_blob_has_the_name_that_azure_change_tracking_gives_it_and_the_checksum():
    name = blobs.blob_name(MACHINE, item("/etc/ssh/sshd_config"))
    assert name == "web01/id-1/20260101T000000Z-sshd_config-" + "ab" * 32
    assert blobs.link(parse("https://a.blob.core.windows.net"), name) == (
        "https://a.blob.core.windows.net/changetrackingblob/" + name
    )


@given(st.text(max_size=300), st.text(max_size=20), st.integers(-(2**40), 2**40))
def test_every_name_is_one_that_azure_takes(base, computer, modified):
    name = blobs.blob_name(dict(MACHINE, Computer=computer), item("/etc/" + base.replace("/", "_"), modified))
    assert name.count("/") == 2 and len(name) <= 1024 and name.isprintable() and name.encode("ascii")
    assert not any(part.endswith(".") or not part for part in name.split("/"))
    link = blobs.link(parse("https://a.blob.core.windows.net"), name)
    assert unquote(link).endswith(name)


@given(st.binary(min_size=1, max_size=300))
def test_metadata_is_ascii_and_the_path_can_be_read_back(raw):
    path = b"/" + raw.replace(b"\0", b"")
    headers = blobs.metadata("höst\n", os.fsdecode(path))
    assert all(value.isprintable() and value.encode("ascii") for value in headers.values())
    assert unquote_to_bytes(headers["x-ms-meta-FilePath"]) == path


# --- what is sent


def test_a_text_is_put_with_what_azure_asks_for(cloud):
    content = "tëxt\n".encode()
    cloud.blobs.put(NAME, content, blobs.metadata("web01", "/etc/a b.conf"))
    assert cloud.azure.blobs[NAME][0] == content
    (request,) = cloud.requests()
    assert (request.method, request.target) == ("PUT", "/changetrackingblob/" + NAME)
    headers = {name: value for name, value in request.headers.items() if name not in ("host", "accept-encoding")}
    assert headers.pop("authorization").startswith("Bearer token-")
    assert abs(time.time() - web_time(headers.pop("x-ms-date"))) < 60
    assert headers.pop("content-md5", "") == azure.content_md5(content)
    assert headers == {
        "content-length": "6",
        "content-type": "application/octet-stream",
        "if-none-match": "*",
        "x-ms-blob-content-type": "text/plain; charset=utf-8",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-meta-computername": "web01",
        "x-ms-meta-filepath": "/etc/a%20b.conf",
        "x-ms-meta-timezoneid": "UTC",
        "x-ms-version": "2023-11-03",
    }


def web_time(text):
    return parsedate_to_datetime(text).timestamp()


def test_an_empty_text_is_a_blob_too(cloud):
    cloud.blobs.put(NAME, b"", {})
    assert cloud.azure.blobs[NAME][0] == b""
    assert cloud.requests()[0].headers["content-length"] == "0"


def test_a_text_that_is_there_already_is_done_and_another_one_is_not(cloud):
    cloud.azure.blobs[NAME] = (b"text", {})
    cloud.blobs.put(NAME, b"text", {})
    assert [request.method for request in cloud.requests()] == ["PUT", "GET"]
    cloud.azure.blobs[NAME] = (b"other", {})
    assert "has another content than the file that it is named after. Delete it." in cloud.refusal()


@pytest.mark.skipif(not is_allowed("md5"), reason="in FIPS mode, nothing is sent that an answer could contradict")
def test_a_lie_about_what_was_stored_is_noticed(cloud):
    cloud.azure.trouble = lambda request: (
        web.answer(201, Content_MD5="AAAAAAAAAAAAAAAAAAAAAA==") if request.method == "PUT" else None
    )
    assert "stored another content than was sent" in cloud.refusal()


def test_a_token_that_expires_in_mid_upload_is_renewed_once(cloud):
    cloud.blobs.put(NAME + "1", b"text", {})
    cloud.azure.tokens.clear()
    cloud.blobs.put(NAME + "2", b"text", {})
    assert set(cloud.azure.blobs) == {NAME + "1", NAME + "2"} and len(cloud.requests()) == 3
    cloud.azure.trouble = lambda request: (
        azure.failed(401, "InvalidAuthenticationInfo") if request.method == "PUT" else None
    )
    assert "is in the tenant of the application 11111111-2222." in cloud.refusal()
    assert len(cloud.requests()) == 5


@pytest.mark.parametrize("off", [86400, -86400])
def test_a_clock_that_is_off_by_a_day_is_corrected_by_the_accounts(cloud, off, monkeypatch):
    cloud.blobs._now = lambda: time.time() + off
    cloud.blobs.put(NAME + "1", b"text", {})
    cloud.blobs.put(NAME + "2", b"text", {})
    assert len(cloud.azure.blobs) == 2 and len(cloud.requests()) == 3


@pytest.mark.parametrize(
    "status, code, words",
    [
        (404, "ContainerNotFound", "Create the container changetrackingblob of https://localhost"),
        (403, "AuthorizationPermissionMismatch", "Give the application 11111111-2222 the role Storage Blob Data Contributor on the"),
        (403, "AuthorizationFailure", "The firewall of the storage account refuses this host."),
        (429, "TooManyRequests", "The upload is repeated automatically."),
        (503, "ServerBusy", "The upload is repeated automatically."),
        (500, "InternalError", "The upload is repeated automatically."),
        (409, "ContainerBeingDeleted", "The upload is repeated automatically."),
        (400, "InvalidHeaderValue", "Check that this is the blob service"),
        (200, "", "Check that this is the blob service"),
        (418, "x\x1b[2J" * 100, "Check that this is the blob service"),
    ],
)  # fmt: skip
def test_each_refusal_is_a_sentence_with_the_remedy(cloud, status, code, words):
    cloud.azure.trouble = lambda request: (
        azure.failed(status, code, Retry_After="17") if request.method == "PUT" else None
    )
    with pytest.raises(AzureError) as caught:
        cloud.blobs.put(NAME, b"text", {})
    assert words in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 700
    assert (caught.value.status, caught.value.retry_after) == (status, 17)
    assert isinstance(caught.value, blobs.TextRefused) == (status == 400)


def test_the_check_stores_nothing_and_says_what_is_missing(cloud):
    cloud.blobs.check("web01")
    assert not cloud.azure.blobs
    cloud.azure.role = False
    with pytest.raises(AzureError, match=r"Give the application .* the role"):
        cloud.blobs.check("web01")
    cloud.azure.role, cloud.azure.container = True, False
    with pytest.raises(AzureError, match="Create the container"):
        cloud.blobs.check("web01")


def test_a_date_that_cannot_be_written_is_ignored_and_a_code_shows_no_token(cloud):
    token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsIng1dCI6.abc"
    date = "Fri, 31 Dec 9999 23:59:59 -2300"
    cloud.azure.trouble = lambda request: None if "/token" in request.target else azure.failed(403, token, Date=date)
    assert "(the answer is 403, ...)" in cloud.refusal()
    cloud.azure.trouble = lambda request: None
    cloud.blobs.put(NAME, b"text", {})
    assert cloud.azure.blobs[NAME][0] == b"text"


@pytest.mark.parametrize("others", [b"x" * (3 << 20), b"", b"texts"], ids=["long", "empty", "other"])
def test_what_another_one_put_there_is_about_this_text_alone(cloud, others):
    cloud.azure.blobs[NAME] = (others, {})
    with pytest.raises(blobs.TextRefused, match="has another content"):
        cloud.blobs.put(NAME, b"text", {})


def test_an_empty_text_that_is_there_already_is_done(cloud):
    cloud.azure.blobs[NAME] = (b"", {})
    cloud.blobs.put(NAME, b"", {})
    cloud.azure.blobs[NAME] = (b"x", {})
    with pytest.raises(blobs.TextRefused, match="has another content"):
        cloud.blobs.put(NAME, b"", {})


@pytest.mark.parametrize(
    "method, status, code", [("PUT", 412, "LeaseIdMissing"), ("GET", 409, "BlobArchived"), ("GET", 412, "LeaseLost")]
)
def test_a_blob_that_another_one_holds_is_about_this_text_alone(cloud, method, status, code):
    cloud.azure.blobs[NAME] = (b"text", {})
    cloud.azure.trouble = lambda request: azure.failed(status, code) if request.method == method else None
    with pytest.raises(blobs.TextRefused, match=code):
        cloud.blobs.put(NAME, b"text", {})
