# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of the Azure Resource Manager over https: sign-in, and GET, PUT, PATCH and DELETE of any resource.

Strict where Azure is: no request without a token or an api-version, no resource below one that does not exist, no extension on a machine
that does not run, no rule in another resource group. It adds the keys that Azure adds, and finishes provisioning after a while.
"""

import copy
import json
import re
import ssl
import subprocess
import threading
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

SECRET = "s3cr3t-of-the-service-principal"  # which no output may have
TOKEN = "t0k3n-of-the-service-principal"
# As long as Azure's: ansible-core masks both in every result of a module, letter by letter if they are letters.
TENANT = "00000000-0000-0000-0000-00000000da7a"
CLIENT = "00000000-0000-0000-0000-0000000c11e7"
LISTS = re.compile(r"/(extensions|datacollectionruleassociations|associations|resources|roleassignments)$")
PAGE = 3  # elements of a list; Azure's are longer
WRITES = ("PUT", "PATCH", "POST", "DELETE")


class Fault:
    """Answers some requests with an error."""

    def __init__(self, method, path, status, code, message="", times=1, headers=()):
        self.method, self.path, self.status, self.code, self.message = (
            method,
            re.compile(path, re.I),
            status,
            code,
            message,
        )
        self.times, self.headers = times, dict(headers)

    def hits(self, method, path):
        if self.times and self.method == method and self.path.search(path):
            self.times -= 1
            return True
        return False


class Arm:
    """`folder`: where its certificate goes; without one, it does not listen, and is asked by ask()."""

    def __init__(self, folder=None):
        self.resources = {}  # lower-case id -> resource
        self.requests = []  # (method, id, body)
        self.faults = []
        self.outcomes = {}  # pattern of an id -> (state, message) in which its provisioning ends
        self.ignored = ()  # keys of extensionSettings that this Azure does not keep
        self.polls = 1  # reads until provisioning ended
        self._pending = Counter()
        self._lock = threading.Lock()
        self.url = "https://localhost"
        if folder is not None:
            self._listen(folder)

    def _listen(self, folder):
        self.certificate = folder / "arm.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "arm.key"), "-out", str(self.certificate)],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(self.certificate), str(folder / "arm.key"))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = "https://localhost:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def environment(self, folder):
        """What lets azcollection talk to this instead of Azure."""
        return {
            "ARM_CLOUD_METADATA_URL": self.url + "/metadata/endpoints",
            "AZURE_CLOUD_ENVIRONMENT": self.url,
            "AZURE_DISABLE_INSTANCE_DISCOVERY": "true",
            "AZURE_TENANT": TENANT,
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_SECRET": SECRET,
            "AZURE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000001",
            "AZURE_CONFIG_DIR": str(folder / "azure"),
            "SSL_CERT_FILE": str(self.certificate),
            "REQUESTS_CA_BUNDLE": str(self.certificate),
        }

    def ask(self, arguments):
        """The result of azcollection's azure_rm_resource with these arguments, as ansible-core returns it."""
        query = {"api-version": [arguments["api_version"]]}
        path, _mark, more = arguments["url"].partition("?")
        query.update(parse_qs(more))
        status, data, _headers = self._resource(arguments["method"], path, arguments.get("body"), query)
        if status not in (200, 201, 202, *((204,) if arguments.get("state") == "absent" else ())):
            return {"failed": True, "msg": "Task failed: Module failed: %r" % ((json.dumps(data), status),)}
        return {"changed": True, "response": data}

    def add(self, ident, **body):
        """A resource that is there already."""
        properties = {"provisioningState": "Succeeded", **body.pop("properties", {})}
        self.resources[ident.lower()] = {
            "id": ident,
            "name": ident.rpartition("/")[2],
            "properties": properties,
            **body,
        }

    def get(self, ident):
        return self.resources.get(ident.lower())

    def written(self):
        """The requests that write: (method, id)."""
        return [(method, ident) for method, ident, _body in self.requests if method in WRITES]

    def bodies(self, pattern):
        return [
            body
            for method, ident, body in self.requests
            if method in ("PUT", "PATCH") and re.search(pattern, ident, re.I)
        ]

    def _handler(self):
        arm = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments):
                pass

            def _serve(self):
                size = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(size)
                status, data, headers = arm._answer(self.command, self.path, self.headers, raw)
                content = b"" if data is None else json.dumps(data).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = _serve  # noqa: N815

        return Handler

    def _answer(self, method, target, headers, raw):
        split = urlsplit(target)
        path, query = unquote(split.path), parse_qs(split.query)
        signing_in = self._sign_in(path)
        if signing_in:
            if raw and parse_qs(raw.decode()).get("client_secret") not in (None, [SECRET]):
                refusal = {
                    "error": "invalid_client",
                    "error_description": "AADSTS7000215: Invalid client secret provided.",
                }
                return 401, refusal, {}
            return 200, signing_in, {}
        body = json.loads(raw) if raw else None
        if headers.get("Authorization") != "Bearer " + TOKEN:
            return _error(401, "AuthenticationFailed", "The 'Authorization' header is missing.")
        return self._resource(method, path, body, query)

    def _resource(self, method, path, body, query):
        with self._lock:
            self.requests.append((method, path, copy.deepcopy(body)))
            if "api-version" not in query:
                return _error(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
            for fault in self.faults:
                if fault.hits(method, path):
                    status, data, _headers = _error(fault.status, fault.code, fault.message)
                    return status, data, fault.headers
            return getattr(self, "_" + method.lower())(path.rstrip("/"), body, query)

    def _sign_in(self, path):
        if path == "/metadata/endpoints":
            return [
                {
                    "name": "Double", "resourceManager": self.url, "portal": self.url, "graph": self.url, "suffixes": {},
                    "authentication": {
                        "loginEndpoint": self.url, "audiences": [self.url], "tenant": TENANT, "identityProvider": "AAD",
                    },
                }
            ]  # fmt: skip
        if path.endswith("/.well-known/openid-configuration"):
            return {
                "issuer": self.url + "/" + TENANT + "/v2.0",
                "authorization_endpoint": self.url + "/" + TENANT + "/oauth2/v2.0/authorize",
                "token_endpoint": self.url + "/" + TENANT + "/oauth2/v2.0/token",
            }
        if path.endswith("/oauth2/v2.0/token"):
            return {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
        return None

    def _get(self, path, _body, query):
        key = path.lower()
        if LISTS.search(key):
            return 200, self._page(path, self._listed(key, query), query), {}
        found = self.resources.get(key)
        if found is None:
            return _error(404, "ResourceNotFound", "The Resource '%s' was not found." % path)
        self._proceed(key)
        return 200, self._view(found, query), {}

    def _page(self, path, elements, query):
        first = int(query.get("$skiptoken", ["0"])[0])
        page = {"value": elements[first : first + PAGE]}
        if len(elements) > first + PAGE:
            page["nextLink"] = "%s%s?api-version=x&$skiptoken=%d" % (self.url, path, first + PAGE)
        return page

    def _view(self, found, query):
        found = copy.deepcopy(found)
        if "/virtualmachines/" in found["id"].lower() and "instanceView" not in query.get("$expand", []):
            found["properties"].pop("instanceView", None)
        return found

    def _listed(self, key, query):
        parent, _slash, last = key.rpartition("/")
        if last == "associations":
            return [
                one for ident, one in self.resources.items()
                if "/datacollectionruleassociations/" in ident and one["properties"]["dataCollectionRuleId"].lower() == parent
            ]  # fmt: skip
        if last == "resources":
            return [
                one
                for ident, one in self.resources.items()
                if re.fullmatch(re.escape(parent) + "/providers/[^/]+/[^/]+/[^/]+", ident)
            ]
        inside = [ident for ident in self.resources if ident.rpartition("/")[0] == key]
        for ident in inside:
            self._proceed(ident)
        wanted = re.search("'(.*)'", query.get("$filter", [""])[0])
        found = [self._view(self.resources[ident], query) for ident in inside]
        return [one for one in found if not wanted or one["properties"].get("principalId") == wanted.group(1)]

    def _put(self, path, body, _query):
        key = path.lower()
        refused = self._refused(key, body)
        if refused:
            return refused
        old = self.resources.get(key)
        made = copy.deepcopy(body)
        made.update(id=path, name=path.rpartition("/")[2])
        properties = made.setdefault("properties", {})
        if "location" in made:
            made["location"] = made["location"].replace(" ", "").lower()
        if "identity" in made:
            made["identity"] = self._identity(made["identity"])
        if "/datacollectionrules/" in key:
            made.update(etag='"%s"' % uuid.uuid4(), systemData={"createdBy": "c"})
            properties.update(immutableId="dcr-" + uuid.uuid4().hex)
            if made.get("kind") == "Direct":
                properties["endpoints"] = {
                    "logsIngestion": "https://ct-direct-x1.westeurope-1.ingest.monitor.azure.com"
                }
            for extension in properties.get("dataSources", {}).get("extensions", []):
                for ignored in self.ignored:
                    extension["extensionSettings"].pop(ignored, None)
        if "/extensions/" in key:
            properties.setdefault("settings", {})
            properties["typeHandlerVersion"] = "1.33.2"
        self.resources[key] = made
        takes_time = re.search("/extensions/|/workspaces/|/solutions/", key)
        if takes_time:
            properties["provisioningState"] = "Creating" if old is None else "Updating"
            self._pending[key] = self.polls
        elif "/roleassignments/" not in key:
            properties["provisioningState"] = "Succeeded"
        status = 202 if "hybridcompute" in key and takes_time else 201 if old is None else 200
        operation = {"Azure-AsyncOperation": self.url + path + "?operation"} if takes_time else {}
        return status, copy.deepcopy(made), operation

    def _refused(self, key, body):
        if re.search("/extensions/", key):
            machine = self.resources.get(key.rpartition("/extensions/")[0])
            if machine is None:
                return _error(404, "ParentResourceNotFound", "Cannot perform requested operation on nested resource.")
            statuses = machine["properties"].get("instanceView", {}).get("statuses", [])
            if any(one["code"] == "PowerState/deallocated" for one in statuses):
                return _error(
                    409, "OperationNotAllowed", "Cannot modify extensions in the VM when the VM is not running."
                )
        if "/resourcegroups/" in key and key.count("/") > 4 and "/".join(key.split("/")[:5]) not in self.resources:
            return _error(404, "ResourceGroupNotFound", "Resource group could not be found.")
        if (
            "/datacollectionruleassociations/" in key
            and body["properties"]["dataCollectionRuleId"].lower() not in self.resources
        ):
            return _error(404, "NotFound", "Data collection rule does not exist.")
        if "/roleassignments/" in key:
            scope = key.rpartition("/")[0]
            same = [
                one for ident, one in self.resources.items()
                if ident.rpartition("/")[0] == scope
                and all(one["properties"][name] == body["properties"][name] for name in ("principalId", "roleDefinitionId"))
            ]  # fmt: skip
            if same and key not in self.resources:
                return _error(409, "RoleAssignmentExists", "The role assignment already exists.")
        return None

    def _patch(self, path, body, _query):
        found = self.resources.get(path.lower())
        if found is None:
            return _error(404, "ResourceNotFound", "The Resource '%s' was not found." % path)
        old = found.get("identity", {}).get("userAssignedIdentities", {})
        found["identity"] = self._identity(
            {
                **body["identity"],
                "userAssignedIdentities": {**old, **body["identity"].get("userAssignedIdentities", {})},
            }
        )
        found["properties"]["provisioningState"] = "Updating"
        self._pending[path.lower()] = self.polls
        return 200, copy.deepcopy(found), {}

    def _identity(self, identity):
        result = {"type": identity["type"]}
        if "SystemAssigned" in identity["type"]:
            result["principalId"] = str(uuid.uuid5(uuid.NAMESPACE_URL, self.url + json.dumps(identity)))
        if identity.get("userAssignedIdentities"):
            result["userAssignedIdentities"] = {
                name: {"principalId": str(uuid.uuid5(uuid.NAMESPACE_URL, name.lower()))}
                for name in identity["userAssignedIdentities"]
            }
        return result

    def _delete(self, path, _body, _query):
        if self.resources.pop(path.lower(), None) is None:
            return 204, None, {}
        for ident in [ident for ident in self.resources if ident.startswith(path.lower() + "/")]:
            del self.resources[ident]
        return 200, None, {}

    def _proceed(self, key):
        """One step of the provisioning of a resource."""
        if not self._pending[key]:
            return
        self._pending[key] -= 1
        if self._pending[key]:
            return
        properties = self.resources[key]["properties"]
        properties["provisioningState"] = "Succeeded"
        for pattern, (state, message) in self.outcomes.items():
            if re.search(pattern, key, re.I):
                properties["provisioningState"] = state
                said = {"statuses": [{"code": "ProvisioningState/failed", "message": message}]}
                properties["instanceView"] = said
                machine = self.resources[key.partition("/extensions/")[0]]["properties"]
                machine.setdefault("instanceView", {})["extensions"] = [{"name": self.resources[key]["name"], **said}]


def _error(status, code, message):
    return status, {"error": {"code": code, "message": message}}, {}
