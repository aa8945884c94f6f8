# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A storage account and an authority that gives tokens, as strict as Azure about what is sent, for a Web to answer with."""

import base64
import hashlib
import itertools
import time
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, unquote, urlsplit

from ansible_collections.changetracking.inventory.tests.helpers import web

CONTAINER = "changetrackingblob"
APPLICATION, SECRET, TENANT = "11111111-2222", "S3cret~of.the_application", "tenant-1"


def failed(status, code, **headers):
    body = '<?xml version="1.0"?><Error><Code>%s</Code><Message>Message of %s</Message></Error>' % (code, code)
    return web.answer(status, body.encode(), x_ms_error_code=code, **headers)


def content_md5(content):
    """The header Content-MD5; empty in FIPS mode."""
    try:
        return base64.b64encode(hashlib.md5(content).digest()).decode()
    except (AttributeError, ValueError):
        return ""


class Azure:
    """Answers for both. `trouble(request)`: an answer instead of the real one, None for that one, or GONE for none at all."""

    GONE = object()

    def __init__(self, token_seconds=3600):
        self.blobs = {}  # name -> (content, metadata)
        self.tokens = {}  # token -> its end
        self.token_seconds = token_seconds
        self.container = True
        self.role = True
        self.clock = time.time
        self.trouble = lambda request: None
        self.wrong = []  # requests that Azure would not take
        self._numbers = itertools.count()

    def __call__(self, request):
        found = self.trouble(request)
        if found is Azure.GONE:
            return None
        if found is not None:
            return found
        if request.target.endswith("/oauth2/v2.0/token"):
            return self._token(request)
        return self._blob(request)

    def _token(self, request):
        fields = dict(parse_qsl(request.body.decode()))
        if (fields.get("client_id"), fields.get("client_secret")) != (APPLICATION, SECRET):
            return web.answer(401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid secret."})
        token = "token-%d" % next(self._numbers)
        self.tokens[token] = self.clock() + self.token_seconds
        return web.answer(200, {"access_token": token, "expires_in": self.token_seconds, "token_type": "Bearer"})

    def _blob(self, request):
        headers = request.headers
        scheme, _blank, token = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or self.tokens.get(token, 0) < self.clock():
            return failed(401, "InvalidAuthenticationInfo")
        if headers.get("x-ms-version", "") < "2017-11-09":
            return failed(400, "InvalidHeaderValue")
        if abs(parsedate_to_datetime(headers["x-ms-date"]).timestamp() - self.clock()) > 900:
            return failed(403, "AuthenticationFailed")
        if not self.role:
            return failed(403, "AuthorizationPermissionMismatch")
        container, _slash, name = unquote(urlsplit(request.target).path).lstrip("/").partition("/")
        if container != CONTAINER or not self.container:
            return failed(404, "ContainerNotFound")
        if request.method == "GET":
            if name not in self.blobs:
                return failed(404, "BlobNotFound")
            return self._found(request, self.blobs[name][0])
        if request.method != "PUT" or headers.get("x-ms-blob-type") != "BlockBlob" or not name:
            self.wrong.append(request)
            return failed(400, "UnsupportedHttpVerb")
        if headers.get("if-match"):
            return failed(412, "ConditionNotMet")
        md5 = content_md5(request.body)
        if headers.get("content-md5", md5) != md5:
            self.wrong.append(request)
            return failed(400, "Md5Mismatch")
        if headers.get("if-none-match") == "*" and name in self.blobs:
            return failed(409, "BlobAlreadyExists")
        described = {key[10:]: value for key, value in headers.items() if key.startswith("x-ms-meta-")}
        self.blobs[name] = (request.body, described)
        return web.answer(201, ETag='"0x1"', **({"Content_MD5": md5} if md5 else {}))

    def _found(self, request, content):
        if "range" not in request.headers:
            return web.answer(200, content)
        first, last = map(int, request.headers["range"][len("bytes=") :].split("-"))
        if first >= len(content):
            return failed(416, "InvalidRange")
        return web.answer(206, content[first : last + 1])
