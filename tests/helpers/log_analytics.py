# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of Azure's log ingestion, stricter than Azure: it answers with an error where Azure would cut, drop or guess."""

import datetime
import json
import re
import threading
import zlib

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import tables
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.errors import AzureError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.https import Response
from ansible_collections.changetracking.inventory.tests.helpers.web import Answer, Web, answer, make_certificate

RULE = "dcr-0123456789abcdef0123456789abcdef"
TARGET = re.compile(r"/dataCollectionRules/(dcr-[0-9a-f]{32})/streams/(Custom-[A-Za-z0-9_]+)\?api-version=2023-01-01\Z")
TOKEN = "a-token"
CALL_BYTES = 1048576
FIELD_BYTES = 65536


def error(status, code, message="", **headers):
    body = json.dumps({"error": {"code": code, "message": message}}).encode("utf-8")
    return status, dict(headers, **{"x-ms-error-code": code, "content-type": "application/json"}), body


def is_of_type(value, type_):
    if type_ == "long":
        return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63
    if type_ == "datetime":
        return datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ") is not None
    if type_ == "dynamic":
        return isinstance(value, dict) and len(json.dumps(value, ensure_ascii=False).encode("utf-8")) <= FIELD_BYTES
    return isinstance(value, str) and len(value.encode("utf-8")) <= FIELD_BYTES


class Workspace:
    """Takes calls as one rule with our tables does. `faults`: called with the number of a call and its rows, for the answer to give
    instead; `lost` as an answer: the rows are stored, and the sender hears nothing."""

    LOST = "lost"

    def __init__(self, faults=None, call_bytes=CALL_BYTES, keep=True, token=TOKEN):
        self.faults = faults or (lambda number, rows: None)
        self.call_bytes = call_bytes
        self.keep = keep
        self.token = token
        self.calls = 0
        self.bytes = 0  # as sent, of calls that were taken
        self.uncompressed = 0
        self.stored = 0  # rows, with those that came twice
        self.ids = set()
        self.rows = {table.name: [] for table in tables.TABLES}
        self.statuses = {}
        self._lock = threading.Lock()

    def take(self, method, target, headers, body):
        """The answer to a call: status, headers, body; or LOST."""
        headers = {name.lower(): value for name, value in headers.items()}
        with self._lock:
            self.calls += 1
            found = self._take(self.calls, method, target, headers, body)
            status = found if found == self.LOST else found[0]
            self.statuses[status] = self.statuses.get(status, 0) + 1
            return found

    def respond(self, request):
        """As take(), for a Web, which also is where an application gets its token."""
        if request.target.endswith("/oauth2/v2.0/token"):
            return answer(200, {"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"})
        found = self.take(request.method, request.target, request.headers, request.body)
        return None if found == self.LOST else Answer(*found)

    def _take(self, number, method, target, headers, body):
        found = TARGET.match(target)
        if method != "POST" or not found or found.group(1) != RULE:
            return error(404, "NotFound", "Data collection rule with immutable Id not found.")
        table = {table.stream: table for table in tables.TABLES}.get(found.group(2))
        if table is None:
            return error(404, "NotFound", "Stream not found.")
        if headers.get("authorization") != "Bearer " + self.token:
            return error(401, "InvalidToken")
        if headers.get("content-type") != "application/json" or headers.get("content-encoding") != "gzip":
            return error(415, "UnsupportedMediaType")
        plain = zlib.decompress(body, 16 + zlib.MAX_WBITS)
        for size in (len(body), len(plain)):
            if size > self.call_bytes:
                message = "Maximum allowed content length: %d bytes. Provided content length: %d bytes."
                return error(413, "ContentLengthLimitExceeded", message % (self.call_bytes, size))
        rows = json.loads(plain.decode("utf-8"))
        for row in rows:
            if "TimeGenerated" not in row or not row.get("RecordId"):
                return error(400, "InvalidRecord", "A row has no TimeGenerated or no RecordId.")
            for name, value in row.items():
                if not is_of_type(value, table.columns[name]):
                    return error(400, "InvalidRecord", "The value of %s is no %s." % (name, table.columns[name]))
        fault = self.faults(number, rows)
        if fault is not None and fault != self.LOST:
            return fault
        self.bytes += len(body)
        self.uncompressed += len(plain)
        self.stored += len(rows)
        self.ids.update(row["RecordId"] for row in rows)
        if self.keep:
            self.rows[table.name] += rows
        return self.LOST if fault == self.LOST else (204, {}, b"")

    def function(self, name):
        """The rows that the saved function shows: one a RecordId, the last by TimeGenerated."""
        found = {}
        for row in self.rows[name]:
            if row["TimeGenerated"] >= found.get(row["RecordId"], row)["TimeGenerated"]:
                found[row["RecordId"]] = row
        return list(found.values())


class Client:
    """In the place of https.Client, without a network."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.closed = False

    def request(self, method, target, headers, body=b""):
        found = self.workspace.take(method, target, headers, body)
        if found == Workspace.LOST:
            raise AzureError("No answer.")
        return Response(*found)

    def close(self):
        self.closed = True


class Tokens:
    """In the place of identity.Tokens."""

    def __init__(self, *tokens):
        self.left = list(tokens) or [TOKEN]
        self.asked = []

    def token(self, resource):
        self.asked.append(resource)
        return self.left[0]

    def forget(self, _resource):
        if len(self.left) > 1:
            del self.left[0]


class Azure:
    """A workspace, and the identity of an application for it."""

    def __init__(self, folder, faults=None):
        self.workspace = Workspace(faults)
        self.certificate = make_certificate(folder)
        self.secret = folder / "secret"
        self.secret.write_text("s3cret-of-the-application")
        self.secret.chmod(0o600)
        self.web = Web(self.workspace.respond, self.certificate)

    @property
    def where(self):
        return "azure:%s/%s" % (self.web.url, RULE)

    def options(self):
        given = {"identity": "secret", "client-id": "app", "tenant-id": "t", "credential-file": str(self.secret)}
        given.update(authority=self.web.url, ca=self.certificate[0])
        return ["--azure-%s=%s" % pair for pair in sorted(given.items())]
