# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens: asked for once, kept until shortly before their end, whatever the clock says; and no file is read for a stranger."""

import base64
import json
import os
import signal
import socket
import subprocess
import time
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import credentials, identity
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.errors import AzureError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.https import Endpoint
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.identity import Identity, Tokens
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.ingestion import open_ingestion
from ansible_collections.changetracking.inventory.tests.helpers import web
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

TOKEN = "eyJ0.secret-token.x"
SECRET = "S3cret~value"
APPLICATION = Identity("secret", "app-id", "tenant-id", "/file")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def granted(token=TOKEN, **values):
    return web.answer(200, dict({"access_token": token, "expires_in": "3600", "token_type": "Bearer"}, **values))


@pytest.fixture
def serve(monkeypatch):
    """serve(respond) -> Web that is IMDS, and the service of an Arc machine."""
    opened = []

    def start(respond, **options):
        server = web.Web(respond, **options)
        opened.append(server)
        for name in ("IMDS", "HIMDS"):
            monkeypatch.setattr(identity, name, Endpoint("http", "127.0.0.1", server.port))
        return server

    yield start
    for server in opened:
        server.close()


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """The folder of the keys of challenges."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    owner = (0, os.geteuid())
    monkeypatch.setattr(credentials, "KEYS", str(folder))
    monkeypatch.setattr(credentials, "_owners", lambda: owner)
    return folder


def refusal(tokens, resource=identity.STORAGE):
    with pytest.raises(AzureError) as caught:
        tokens.token(resource)
    for secret in (TOKEN, SECRET, "KEY"):
        assert secret not in str(caught.value)
    return str(caught.value)


def test_a_virtual_machine_asks_as_documented_and_once(serve, clock):
    server = serve(lambda request: granted())
    tokens = Tokens(Identity("vm"), clock=clock)
    assert [tokens.token(identity.STORAGE) for _time in range(3)] == [TOKEN] * 3
    assert tokens.token(identity.MONITOR) == TOKEN
    assert [(request.method, request.headers["metadata"]) for request in server.requests] == [("GET", "true")] * 2
    path, query = server.requests[0].target.split("?")
    assert path == "/metadata/identity/oauth2/token"
    assert parse_qsl(query) == [("api-version", "2018-02-01"), ("resource", "https://storage.azure.com")]


@pytest.mark.parametrize("given, key", [("11-22", "client_id"), ("/subscriptions/s/x", "msi_res_id")])
def test_a_user_assigned_identity_is_named(serve, given, key):
    server = serve(lambda request: granted())
    Tokens(Identity("vm", given)).token(identity.STORAGE)
    assert parse_qs(urlsplit(server.requests[0].target).query)[key] == [given]


@pytest.mark.parametrize("off", [0, 86400, -86400])
@pytest.mark.parametrize("form", ["in", "on"])
def test_a_token_is_used_until_five_minutes_before_its_end_whatever_the_wall_clock_says(
    serve, clock, monkeypatch, off, form
):
    server_now = 1800000000
    monkeypatch.setattr(identity.time, "time", lambda: float(server_now + off))
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(server_now))
    values = {"expires_in": "3600"} if form == "in" else {"expires_in": None}
    body = dict({"access_token": TOKEN, "expires_on": str(server_now + 3600)}, **values)
    server = serve(lambda request: web.Answer(200, {"Date": date}, json.dumps(body).encode()))
    monkeypatch.setattr(web.BaseHTTPRequestHandler, "date_time_string", lambda self: date)
    tokens = Tokens(Identity("vm"), clock=clock)
    tokens.token(identity.STORAGE)
    clock.now += 3299
    tokens.token(identity.STORAGE)
    assert len(server.requests) == 1
    clock.now += 2
    tokens.token(identity.STORAGE)
    assert len(server.requests) == 2


def test_a_refused_token_is_asked_for_again(serve):
    answers = [granted("one"), granted("two")]
    serve(lambda request: answers.pop(0))
    tokens = Tokens(Identity("vm"))
    assert tokens.token(identity.STORAGE) == "one"
    tokens.forget(identity.STORAGE)
    assert tokens.token(identity.STORAGE) == "two"


@pytest.mark.parametrize("status", [404, 410, 429, 500, 503])
def test_a_service_that_is_busy_for_a_minute_is_asked_again(serve, clock, status):
    start = clock.now
    server = serve(lambda request: granted() if clock.now > start + 70 else web.answer(status))
    assert Tokens(Identity("vm"), clock=clock, sleep=clock.sleep).token(identity.STORAGE) == TOKEN
    assert 4 < len(server.requests) < 16


def test_what_it_says_about_waiting_is_honoured_and_waiting_ends(serve, clock):
    server = serve(lambda request: web.answer(429, Retry_After="30"))
    sentence = refusal(Tokens(Identity("vm"), clock=clock, sleep=clock.sleep))
    assert "No token (the answer is 429). The service is busy" in sentence
    assert len(server.requests) == 3 and clock.now < 1090


@pytest.mark.parametrize(
    "status, description, remedy",
    [
        (400, "Identity not found", "Assign a managed identity to this machine"),
        (400, "Multiple user assigned identities exist, please specify the clientId", "Give the client id of the one"),
        (400, "x\x1b[2J" * 500, "Assign a managed identity"),
        (403, "", "Assign a managed identity"),
    ],
)
def test_what_is_missing_is_said_with_the_remedy(serve, status, description, remedy):
    server = serve(lambda request: web.answer(status, {"error": "invalid_request", "error_description": description}))
    sentence = refusal(Tokens(Identity("vm")))
    assert "No token (the answer is %d, invalid_request" % status in sentence and remedy in sentence
    assert len(server.requests) == 1 and "\x1b" not in sentence and len(sentence) < 500


def test_a_host_outside_of_azure_is_told_so(serve):
    serve(lambda request: web.answer(200)).close()
    sentence = refusal(Tokens(Identity("vm")))
    assert "(Connection refused). Only virtual machines of Azure have this service. On another host, give" in sentence


def test_the_doctor_does_not_wait_for_a_service_that_is_busy(serve):
    server = serve(lambda request: web.answer(404))
    where = "azure:https://x.westeurope-1.ingest.monitor.azure.com/dcr-0"
    opened = open_ingestion(where, Identity("vm"), seconds=5.0, token_patience=0.0)
    with opened as ingestion, pytest.raises(AzureError, match="the answer is 404"):
        ingestion.check()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"<html>", b'{"access_token": 1}', b'{"access_token": ""}', b'{"access_token": "a\\nb: c"}',
     b'{"access_token": "\xc3\xa4"}', b'{"access_token": "' + b"x" * 40000 + b'"}', b"[" * 100000],
)  # fmt: skip
def test_an_answer_without_a_token_is_one_sentence(serve, body):
    serve(lambda request: web.answer(200, body))
    assert "has no token. Check who answers there." in refusal(Tokens(Identity("vm")))


def test_a_redirect_of_the_metadata_service_is_not_followed(serve):
    other = web.Web(lambda request: granted())
    serve(lambda request: web.answer(302, Location=other.url))
    assert "redirects" in refusal(Tokens(Identity("vm")))
    assert not other.requests
    other.close()


def test_no_token_is_in_any_text_of_an_object(serve):
    serve(lambda request: granted())
    tokens = Tokens(Identity("vm"))
    tokens.token(identity.STORAGE)
    assert TOKEN not in repr(tokens) + repr(tokens._tokens) + repr(vars(tokens))


# --- Arc machines


def arc(path, key="KEY"):
    def respond(request):
        if request.headers.get("authorization") == "Basic " + key:
            return granted()
        return web.answer(401, WWW_Authenticate="Basic realm=%s" % path)

    return respond


def test_an_arc_machine_answers_the_challenge_with_the_key_that_it_names(serve, keys, monkeypatch):
    monkeypatch.setattr(credentials, "check_himds", lambda port: None)
    (keys / "ab.key").write_text("KEY")
    server = serve(arc(keys / "ab.key"))
    assert Tokens(Identity("arc")).token(identity.STORAGE) == TOKEN
    first, second = server.requests
    assert first.target == second.target and "authorization" not in first.headers
    assert parse_qsl(urlsplit(first.target).query) == [
        ("api-version", "2020-06-01"),
        ("resource", "https://storage.azure.com"),
    ]
    assert second.headers["authorization"] == "Basic KEY"


@pytest.mark.parametrize(
    "challenge",
    ["", "Basic", "Basic realm", "Basic realm=", "Digest realm={keys}/a.key", "Basic realm=/etc/shadow",
     "Basic realm={keys}/../../etc/shadow", "Basic realm={keys}/sub/a.key", "Basic realm={keys}/a.txt", "Basic realm={keys}//a.key",
     "Basic realm={keys}/.key", "Basic realm={keys}/a\x00.key", "Basic realm={keys}/../tokens/a.key", "Basic realm=a.key"],
)  # fmt: skip
def test_a_challenge_that_names_another_file_is_not_answered(keys, challenge):
    (keys / "a.txt").write_text("KEY")
    (keys / "a.key").write_text("KEY")
    with pytest.raises(AzureError, match="is not read"):
        credentials.arc_key(challenge.format(keys=keys))


def make_fifo(path):
    os.mkfifo(str(path))


def make_link(path):
    target = path.with_name("target.key")
    target.write_text("KEY")
    path.symlink_to(target)


def make_hard_link(path):
    path.with_name("other").write_text("KEY")
    os.link(str(path.with_name("other")), str(path))


def make_large(path):
    path.touch()
    os.truncate(str(path), 1 << 30)


def make_public(path):
    path.write_text("KEY")
    path.chmod(0o666)


@pytest.mark.parametrize(
    "make", [make_fifo, make_link, make_hard_link, make_large, make_public, os.mkdir, lambda path: None]
)
def test_a_key_that_is_no_plain_small_file_is_not_read(keys, make):
    make(keys / "a.key")
    start = time.monotonic()
    with pytest.raises(AzureError) as caught:
        credentials.arc_key("Basic realm=%s/a.key" % keys)
    assert "KEY" not in str(caught.value) and time.monotonic() - start < 1


@pytest.mark.parametrize("content", [b"", b"a\nb", b"\x00\x01", "ä".encode(), b"x" * 4097])
def test_a_key_that_fits_no_header_is_not_sent(keys, content):
    (keys / "a.key").write_bytes(content)
    with pytest.raises(AzureError):
        credentials.arc_key("Basic realm=%s/a.key" % keys)


def test_a_key_of_another_user_is_not_read(keys, monkeypatch):
    (keys / "a.key").write_text("KEY")
    monkeypatch.setattr(credentials, "_owners", lambda: (123456,))
    with pytest.raises(AzureError, match="by others"):
        credentials.arc_key("Basic realm=%s/a.key" % keys)


def test_another_process_in_the_place_of_the_arc_agent_is_asked_nothing(serve, keys, monkeypatch):
    server = serve(arc(keys / "a.key"))
    monkeypatch.setattr(credentials, "_owners", lambda: (123456,))
    assert "in the place of the Azure Connected Machine agent. Nothing was sent." in refusal(Tokens(Identity("arc")))
    assert not server.requests
    server.close()
    assert "Nobody listens at port" in refusal(Tokens(Identity("arc")))


def test_another_process_that_took_the_place_after_the_first_look_is_asked_nothing(serve, keys, monkeypatch):
    server = serve(arc(keys / "a.key"))
    monkeypatch.setattr(credentials, "check_himds", lambda port: None)
    monkeypatch.setattr(credentials, "_owners", lambda: (123456,))
    assert "Another process than the Azure Connected Machine agent answers" in refusal(Tokens(Identity("arc")))
    assert not server.requests


def test_another_process_that_has_the_connection_is_noticed_when_it_listens_no_more():
    need_root("a process of another user")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    done, accepted = os.pipe()
    stranger = os.fork()
    if not stranger:
        try:
            os.setuid(65533)
            listener.listen(1)
            os.write(accepted, b"l")
            _connection = listener.accept()
            listener.close()
            os.write(accepted, b"a")
            time.sleep(60)
        finally:
            os._exit(1)
    try:
        listener.close()
        os.close(accepted)
        assert os.read(done, 1) == b"l"
        with socket.create_connection(("127.0.0.1", port)) as sock, socket.socket() as ours:
            assert os.read(done, 1) == b"a"
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ours.bind(("127.0.0.1", port))
            ours.listen(1)
            credentials.check_himds(port)
            with pytest.raises(AzureError, match="Another process than the Azure Connected Machine agent"):
                credentials.check_peer(sock)
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)
        os.close(done)


def test_an_arc_machine_has_one_identity():
    with pytest.raises(AzureError, match="Remove azure_client_id"):
        Tokens(Identity("arc", "client"))
    tokens = Tokens(Identity("auto", "client"))
    tokens.identity = Identity("arc", "client")  # as the rule may have it
    assert "Leave managedIdentity" in refusal(tokens)


def test_which_machine_it_is_shows_by_the_agent_that_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "ARC_AGENT", str(tmp_path / "himds"))
    assert Identity().kind() == "vm"
    assert Tokens(Identity()).describe() == "the system-assigned identity of this virtual machine"
    (tmp_path / "himds").touch()
    assert Identity().kind() == "arc"
    assert Identity("vm").kind() == "vm"


# --- applications


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return web.make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def authority(tmp_path, certificate):
    """authority(respond) -> (Web, Identity) for an application with a secret in a file."""
    servers = []

    def start(respond, kind="secret", content=SECRET + "\n"):
        file = tmp_path / "credential"
        if content is not None:
            file.write_text(content)
            file.chmod(0o600)
        servers.append(web.Web(respond, certificate=certificate))
        return servers[-1], Identity(kind, "app-id", "tenant-id", str(file), servers[-1].url, certificate[0])

    start.folder = tmp_path
    yield start
    for server in servers:
        server.close()


def form(request):
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


def test_an_application_shows_its_secret(authority):
    server, application = authority(lambda request: granted(expires_in=3599))
    assert Tokens(application).token(identity.MONITOR + "/") == TOKEN
    request = server.requests[0]
    assert (request.method, request.target) == ("POST", "/tenant-id/oauth2/v2.0/token")
    assert form(request) == {
        "client_id": "app-id",
        "client_secret": SECRET,
        "grant_type": "client_credentials",
        "scope": "https://monitor.azure.com/.default",
    }


def test_a_secret_that_is_refused_is_not_repeated_in_the_message(authority):
    body = {
        "error": "invalid_client",
        "error_description": "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: x",
    }
    server, application = authority(lambda request: web.answer(401, body))
    sentence = refusal(Tokens(application))
    assert "AADSTS7000215: Invalid client secret provided." in sentence and "may have expired" in sentence
    assert "Trace" not in sentence and len(server.requests) == 1


def test_a_secret_or_key_that_an_answer_repeats_is_not_in_the_message(authority, serve, keys, monkeypatch):
    secret = "a+b/c=?d e"
    said = {
        "error": "invalid_client",
        "error_description": "Bad: a+b/c=?d e or a%2Bb%2Fc%3D%3Fd%20e or a%2Bb%2Fc%3D%3Fd+e.",
    }
    _server, application = authority(lambda request: web.answer(401, said, x_ms_error_code=secret), content=secret)
    assert "No token (the answer is 401, ..., invalid_client, Bad: ... or ... or ....)" in refusal(Tokens(application))
    monkeypatch.setattr(credentials, "check_himds", lambda port: None)
    (keys / "ab.key").write_text("KEY")
    challenge = {"WWW_Authenticate": "Basic realm=%s/ab.key" % keys}
    serve(lambda request: web.answer(401, {"error": request.headers.get("authorization", "")}, **challenge))
    assert "No token (the answer is 401, Basic ...)" in refusal(Tokens(Identity("arc")))


@pytest.mark.parametrize(
    "content, words", [("", "one line"), ("a\nb", "one line"), (None, "No such file"), ("x" * 70000, "larger")]
)
def test_a_file_without_a_secret_is_one_sentence(authority, content, words):
    server, application = authority(lambda request: granted(), content=content)
    assert words in refusal(Tokens(application))
    assert not server.requests


def test_a_secret_that_others_can_read_is_not_used(authority):
    _server, application = authority(lambda request: granted())
    os.chmod(application.credential_file, 0o644)
    assert "Make root its owner" in refusal(Tokens(application))


def make_application_certificate(folder, *options):
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-days",
        "2",
        "-subj",
        "/CN=app",
        "-keyout",
        "appkey",
        "-out",
        "appcert",
    ]
    subprocess.run([*command, *(options or ("-nodes",))], cwd=str(folder), check=True, stderr=subprocess.DEVNULL)
    return (folder / "appkey").read_text() + (folder / "appcert").read_text()


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verify(folder, assertion):
    """Whether openssl takes the signature for that of the certificate."""
    signed, _dot, signature = assertion.rpartition(".")
    (folder / "signature").write_bytes(decoded(signature))
    public = subprocess.check_output(["openssl", "x509", "-in", "appcert", "-noout", "-pubkey"], cwd=str(folder))
    (folder / "public").write_bytes(public)
    command = ["openssl", "dgst", "-sha256", "-verify", "public", "-signature", "signature"]
    done = subprocess.run(command, cwd=str(folder), input=signed.encode(), stdout=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def test_an_application_signs_with_its_certificate(authority):
    content = make_application_certificate(authority.folder)
    server, application = authority(lambda request: granted(), "certificate", content)
    assert Tokens(application).token(identity.STORAGE) == TOKEN
    fields = form(server.requests[0])
    assert fields["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    head, claims, _signature = fields["client_assertion"].split(".")
    fingerprint = subprocess.check_output(
        ["openssl", "x509", "-in", "appcert", "-noout", "-fingerprint", "-sha1"], cwd=str(authority.folder)
    )
    sha1 = bytes.fromhex(fingerprint.decode().partition("=")[2].strip().replace(":", ""))
    assert json.loads(decoded(head).decode())["alg"] == "RS256"
    assert decoded(json.loads(decoded(head).decode())["x5t"]) == sha1
    found = json.loads(decoded(claims).decode())
    assert (found["iss"], found["sub"]) == ("app-id", "app-id")
    assert found["aud"] == application.authority + "/tenant-id/oauth2/v2.0/token"
    assert found["nbf"] <= time.time() < found["exp"] <= time.time() + 600
    assert verify(authority.folder, fields["client_assertion"])


@pytest.mark.parametrize("off", [86400, -86400])
def test_an_assertion_is_valid_by_the_clock_of_the_authority(authority, monkeypatch, off):
    really = time.time()

    def respond(request):
        claims = json.loads(decoded(form(request)["client_assertion"].split(".")[1]).decode())
        if claims["nbf"] <= really <= claims["exp"]:
            return granted()
        return web.answer(401, {"error": "invalid_client", "error_description": "AADSTS700024: not within its time"})

    server, application = authority(respond, "certificate", make_application_certificate(authority.folder))
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(really))
    monkeypatch.setattr(web.BaseHTTPRequestHandler, "date_time_string", lambda self: date)
    monkeypatch.setattr(identity.time, "time", lambda: really + off)
    assert Tokens(application).token(identity.STORAGE) == TOKEN
    assert len(server.requests) == 2


def test_a_key_with_a_passphrase_does_not_prompt_and_is_one_sentence(authority):
    content = make_application_certificate(authority.folder, "-passout", "pass:x")
    server, application = authority(lambda request: granted(), "certificate", content)
    assert "without a passphrase" in refusal(Tokens(application))
    assert not server.requests


def test_without_openssl_it_says_what_to_install(authority, monkeypatch):
    content = make_application_certificate(authority.folder)
    _server, application = authority(lambda request: granted(), "certificate", content)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "Cannot run openssl" in refusal(Tokens(application))


@pytest.mark.parametrize(
    "content", ["x", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n"]
)
def test_a_file_without_a_certificate_is_one_sentence(authority, content):
    _server, application = authority(lambda request: granted(), "certificate", content)
    sentence = refusal(Tokens(application))
    assert any(words in sentence for words in ("as PEM", "is not valid", "cannot sign"))


@pytest.mark.parametrize(
    "given",
    [Identity("other"), APPLICATION._replace(client_id=""), APPLICATION._replace(tenant_id="a/b"),
     APPLICATION._replace(credential_file=""), APPLICATION._replace(authority="http://a"), Identity("vm", "", "tenant"),
     Identity(credential_file="/x"), Identity(proxy="https://a"), Identity(proxy="http://u:p@a")],
)  # fmt: skip
def test_options_that_do_not_fit_together_are_refused(given):
    with pytest.raises(AzureError) as caught:
        Tokens(given)
    assert "u:p" not in str(caught.value)
