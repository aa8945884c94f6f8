# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our requests for tokens are those of azure-identity: method, URL, headers that matter, and body."""

import base64
import json
import os
import subprocess
from urllib.parse import parse_qsl, urlsplit

import azure.identity
import msal.managed_identity
import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import credentials, identity
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.https import Endpoint
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.identity import Identity, Tokens
from ansible_collections.changetracking.inventory.tests.helpers import web

TENANT, CLIENT = "0a0a0a0a-1111-2222-3333-444444444444", "11111111-2222-3333-4444-555555555555"
RESOURCES = ["https://storage.azure.com", "https://monitor.azure.com", "https://monitor.azure.us"]
RESOURCE_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"


def granted(**values):
    token = {
        "access_token": "the-token",
        "expires_in": "3600",
        "expires_on": "1900000000",
        "token_type": "Bearer",
        "resource": "r",
    }
    return web.answer(200, dict(token, **values))


def seen(request, *headers):
    """What matters of a request: the parameters in any order."""
    parts = urlsplit(request.target)
    return (
        request.method,
        parts.path,
        sorted(parse_qsl(parts.query)),
        {name: request.headers.get(name) for name in headers},
        sorted(parse_qsl(request.body.decode())),
    )


def both(server, theirs, ours, resource):
    """The requests of azure-identity's credential and of our tokens for one resource."""
    assert theirs.get_token(resource + "/.default").token == "the-token"
    their_requests, server.requests[:] = list(server.requests), []
    assert ours.token(resource) == "the-token"
    our_requests, server.requests[:] = list(server.requests), []
    return their_requests, our_requests


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("given", ["", CLIENT, RESOURCE_ID])
def test_a_virtual_machine_asks_as_azure_identity_does(monkeypatch, resource, given):
    with web.Web(lambda request: granted()) as server:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:%d" % server.port)
        monkeypatch.setattr(identity, "IMDS", Endpoint("http", "127.0.0.1", server.port))
        if given.startswith("/"):
            theirs = azure.identity.ManagedIdentityCredential(identity_config={"resource_id": given})
        else:
            theirs = azure.identity.ManagedIdentityCredential(client_id=given or None)
        expected, found = both(server, theirs, Tokens(Identity("vm", given)), resource)
    assert [seen(request, "metadata") for request in found] == [seen(request, "metadata") for request in expected]


@pytest.mark.parametrize("resource", RESOURCES)
def test_an_arc_machine_asks_as_azure_identity_does(monkeypatch, tmp_path, resource):
    key = tmp_path / "a.key"
    key.write_text("the-key")

    def respond(request):
        if "authorization" in request.headers:
            return granted()
        return web.answer(401, WWW_Authenticate="Basic realm=%s" % key)

    with web.Web(respond) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:%d/metadata/identity/oauth2/token" % server.port)
        monkeypatch.setenv("IMDS_ENDPOINT", "http://127.0.0.1:%d" % server.port)
        folders = msal.managed_identity._supported_arc_platforms_and_their_prefixes
        monkeypatch.setitem(folders, "linux", str(tmp_path))
        monkeypatch.setattr(credentials, "KEYS", str(tmp_path))
        monkeypatch.setattr(identity, "HIMDS", Endpoint("http", "127.0.0.1", server.port))
        expected, found = both(server, azure.identity.ManagedIdentityCredential(), Tokens(Identity("arc")), resource)
    headers = ("metadata", "authorization")
    assert len(found) == 2
    assert [seen(request, *headers) for request in found] == [seen(request, *headers) for request in expected]


@pytest.fixture
def application(certificate, monkeypatch):
    """(server, what both sides need to know)"""

    def respond(request):
        if request.method == "GET":
            base = server.url + "/" + TENANT
            return web.answer(200, {
                "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
                "issuer": base + "/v2.0",
            })  # fmt: skip
        return granted(expires_in=3600)

    with web.Web(respond, certificate=certificate) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate[0])
        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
        yield server, {"authority": server.url, "disable_instance_discovery": True}


def posted(requests):
    return [request for request in requests if request.method == "POST"]


@pytest.mark.parametrize("resource", RESOURCES)
def test_an_application_shows_its_secret_as_azure_identity_does(application, certificate, tmp_path, resource):
    server, options = application
    secret = tmp_path / "secret"
    secret.write_text("a+secret&with=signs ~\u00e4")
    secret.chmod(0o600)
    theirs = azure.identity.ClientSecretCredential(TENANT, CLIENT, secret.read_text(), **options)
    ours = Tokens(Identity("secret", CLIENT, TENANT, str(secret), server.url, certificate[0]))
    expected, found = map(posted, both(server, theirs, ours, resource))
    ((method, path, query, headers, body),) = [seen(request, "content-type") for request in expected]
    body = [pair for pair in body if pair[0] != "client_info"]  # asks for a claim about a user
    assert [seen(request, "content-type") for request in found] == [(method, path, query, headers, body)]


def decoded(part):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_an_application_signs_with_its_certificate_as_azure_identity_does(application, certificate, tmp_path):
    server, options = application
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=app -keyout key -out cert"
    subprocess.run(command.split(), cwd=str(tmp_path), check=True, stderr=subprocess.DEVNULL)
    pem = tmp_path / "pem"
    pem.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "cert").read_bytes())
    pem.chmod(0o600)
    theirs = azure.identity.CertificateCredential(TENANT, CLIENT, str(pem), **options)
    ours = Tokens(Identity("certificate", CLIENT, TENANT, str(pem), server.url, certificate[0]))
    expected, found = map(posted, both(server, theirs, ours, RESOURCES[0]))
    (their_body,), (our_body,) = (
        [dict(parse_qsl(request.body.decode())) for request in side] for side in (expected, found)
    )
    (their_head, their_claims, _theirs), (our_head, our_claims, _ours) = (
        body.pop("client_assertion").split(".") for body in (their_body, our_body)
    )
    their_body.pop("client_info")
    assert our_body == their_body and expected[0].target == found[0].target
    their_head = decoded(their_head)
    their_head["x5t"] = their_head["x5t"].rstrip("=")  # RFC 7515 has none
    assert decoded(our_head) == their_head
    theirs, ours = decoded(their_claims), decoded(our_claims)
    assert [ours[name] for name in ("aud", "iss", "sub")] == [theirs[name] for name in ("aud", "iss", "sub")]
    assert abs(ours["exp"] - theirs["exp"]) < 60


def test_the_environment_of_these_tests_names_no_other_place():
    assert not any(name.startswith("AZURE_") for name in os.environ)
