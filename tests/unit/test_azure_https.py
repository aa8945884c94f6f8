# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to Azure: an answer within its time and size, or one sentence; no secret in it, and no way around the options."""

import socket
import threading
import time

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import https
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.errors import AzureError
from ansible_collections.changetracking.inventory.tests.helpers import web

SECRET = "very-secret"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return web.make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def serve():
    """serve(respond) -> Web, closed at the end."""
    opened = []

    def start(respond, **options):
        opened.append(web.Web(respond, **options))
        return opened[-1]

    yield start
    for server in opened:
        server.close()


@pytest.fixture
def raw():
    """raw(pieces, pause) -> port of a server that sends these bytes to each client, with a pause after each piece."""
    listeners, threads = [], []
    ended = threading.Event()

    def run(target, *arguments):  # no thread may be left: other tests count those of the process
        threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        threads[-1].start()

    def start(pieces, pause=0.0):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        listeners.append(listener)

        def talk(connection):
            try:
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)
                    if ended.wait(pause):
                        break
            except OSError:
                pass
            finally:
                connection.close()

        def accept():
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                run(talk, connection)

        run(accept)
        return listener.getsockname()[1]

    yield start
    ended.set()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)  # ends accept(), which close() does not
        listener.close()
    for thread in threads:
        thread.join(10)


def client(url_or_port, **options):
    url = url_or_port if isinstance(url_or_port, str) else "http://127.0.0.1:%d" % url_or_port
    return https.Client(https.parse(url, ("http", "https")), **options)


def refusal(port, **options):
    with pytest.raises(AzureError) as caught, client(port, **options) as asked:
        asked.request("GET", "/x", {"Authorization": SECRET})
    assert SECRET not in str(caught.value) and SECRET not in repr(caught.value)
    return str(caught.value)


def test_requests_share_a_connection_and_have_what_was_given(serve, certificate):
    server = serve(lambda request: web.answer(201, b"done", X_Thing="a"), certificate=certificate)
    with client(server.url + "/below", ca=certificate[0]) as asked:
        for _time in range(3):
            response = asked.request("PUT", "/a?b=c", {"X-Thing": "b"}, b"body")
            assert (response.status, response.body, response.headers["x-thing"]) == (201, b"done", "a")
    assert server.connections == 1
    request = server.requests[0]
    assert (request.method, request.target, request.body) == ("PUT", "/below/a?b=c", b"body")
    assert (request.headers["x-thing"], request.headers["host"]) == ("b", "localhost:%d" % server.port)
    assert request.headers["content-length"] == "4"


def test_a_connection_that_the_server_closed_meanwhile_is_made_again(serve):
    server = serve(lambda request: web.answer(200))
    with client(server.port) as asked:
        asked.request("GET", "/", {})
        asked._connection.wire._socket.shutdown(socket.SHUT_RDWR)
        assert asked.request("GET", "/", {}).status == 200
    assert server.connections == 2


def test_an_answer_that_ends_its_connection_is_read_as_a_whole(serve):
    server = serve(lambda request: web.answer(200, b"x" * 100000, Connection="close"))
    with client(server.port) as asked:
        assert asked.request("GET", "/", {}).body == b"x" * 100000
        assert asked.request("GET", "/", {}).status == 200


def test_a_server_that_closes_each_time_is_asked_twice_at_most(serve):
    server = serve(lambda request: None)
    assert "No answer from http://127.0.0.1" in refusal(server.port)
    assert len(server.requests) == 1
    answers = [web.answer(200), None, None]
    server = serve(lambda request: answers.pop(0))
    with pytest.raises(AzureError), client(server.port) as asked:
        asked.request("GET", "/", {})
        asked.request("GET", "/", {})
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(serve, status):
    other = serve(lambda request: web.answer(200))
    server = serve(lambda request: web.answer(status, Location=other.url))
    assert "redirects to another place" in refusal(server.port)
    assert not other.requests


def test_a_trickle_does_not_move_the_deadline(raw):
    start = time.monotonic()
    port = raw([b"HTTP/1.1 200 OK\r\n"] + [b"a", b": b\r\n"] * 200, pause=0.05)
    assert "no answer within 0.5 s" in refusal(port, seconds=0.5)
    port = raw([b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n"] + [b"a"] * 400, pause=0.05)
    assert "no answer within 0.5 s" in refusal(port, seconds=0.5)
    assert time.monotonic() - start < 5


def test_silence_ends(raw):
    assert "no answer within 0.3 s" in refusal(raw([b""], pause=5), seconds=0.3)


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: ",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        b"",
    ],
)
def test_an_answer_without_end_is_refused_at_its_limit(raw, start):
    sentence = refusal(raw([start] + [b"x" * 5000] * 40), max_bytes=50000)
    assert "No answer from http://127.0.0.1" in sentence and len(sentence) < 500


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnumber\r\n",
        b"\x16\x03\x01\x00\x05\x01\n",
        b"HTTP/1.1 two OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nx",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_half_an_answer_is_none(raw, answer):
    assert "No answer from" in refusal(raw([answer]))


def test_what_is_no_answer_shows_no_secret_that_it_repeats(raw):
    token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsIng1dCI6.abc"
    for answer in (b"Bearer %s\r\n\r\n", b"HTTP/1.1 %s\r\n\r\n", b"HTTP/%s 200 OK\r\n\r\n"):
        sentence = refusal(raw([answer % token.encode()]))
        assert "No answer from" in sentence and "eyJ0" not in sentence


def test_a_connection_that_a_check_refuses_gets_not_one_byte(serve):
    server = serve(lambda request: web.answer(200))

    def check(sock):
        assert sock.getpeername()[1] == server.port
        raise AzureError("Refused.")

    assert refusal(server.port, check=check) == "Refused."
    assert not server.requests


def test_a_value_that_is_no_header_is_in_no_message(serve):
    server = serve(lambda request: web.answer(200))
    with pytest.raises(AzureError) as caught, client(server.port) as asked:
        asked.request("GET", "/", {"Authorization": SECRET + "\nX: y"})
    assert SECRET not in str(caught.value) and caught.value.__cause__ is None and caught.value.__suppress_context__
    assert not server.requests


def test_a_certificate_of_an_unknown_authority_or_of_another_name_is_refused(serve, certificate, tmp_path):
    server = serve(lambda request: web.answer(200), certificate=certificate)
    assert "as azure_ca" in refusal(server.url)
    other = web.make_certificate(tmp_path, "DNS:example.org")
    server = serve(lambda request: web.answer(200), certificate=other)
    assert "No answer from https://localhost" in refusal(server.url, ca=other[0])
    assert not server.requests
    assert "cannot be used for TLS" in refusal(server.url, ca="/nonexistent")


def test_the_environment_names_no_proxy(serve, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = serve(lambda request: web.answer(200))
    with client(server.port) as asked:
        assert asked.request("GET", "/", {}).status == 200


def test_a_proxy_that_is_given_is_asked_to_connect(serve, certificate):
    server = serve(lambda request: web.answer(200, b"through"), certificate=certificate)
    asked_for, proxy = start_proxy(server.port, b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
    with client("https://localhost:4443", ca=certificate[0], proxy="http://127.0.0.1:%d" % proxy) as asked:
        assert asked.request("GET", "/", {"Authorization": SECRET}).body == b"through"
    assert asked_for == [b"CONNECT localhost:4443 HTTP/1.1\r\nHost: localhost:4443\r\n\r\n"]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"", b"x" * 100000])
def test_a_proxy_that_refuses_is_one_sentence(answer):
    proxy = start_proxy(9, answer)[1]
    sentence = refusal("https://localhost:4443", proxy="http://127.0.0.1:%d" % proxy)
    assert "through the proxy http://127.0.0.1" in sentence


def start_proxy(port, answer):
    """(what the client sent first, the port of a proxy that leads to `port` and answers so)"""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    asked_for = []

    def pass_on(source, target):
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)

    def serve():
        sock = listener.accept()[0]
        asked_for.append(sock.recv(65536))
        try:
            sock.sendall(answer)
            if b" 200 " not in answer:
                sock.close()
                return
            onward = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=pass_on, args=(onward, sock), daemon=True).start()
            pass_on(sock, onward)
            onward.shutdown(socket.SHUT_RDWR)  # ends the other direction
        except OSError:
            pass

    threading.Thread(target=serve, daemon=True).start()
    return asked_for, listener.getsockname()[1]


def test_nobody_there_is_one_sentence():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert "(Connection refused). Check the name" in refusal(sock.getsockname()[1])
    assert "No answer from http://nowhere.invalid (" in refusal("http://nowhere.invalid")
    assert "No answer from http://a..b (a host name or an answer" in refusal("http://a..b")


@pytest.mark.parametrize(
    "url",
    ["", "http://a", "https://", "https://user:pw@a", "https://a/?b", "https://a/#b", "https://a b", "https://a/../b%0a",
     "https://a:0", "https://a:x", "https://[::1", "ftp://a", "https://a\n", "https://-a", "https://a/b\\c"],
)  # fmt: skip
def test_a_url_of_another_form_is_refused(url):
    with pytest.raises(AzureError):
        https.parse(url)


@pytest.mark.parametrize(
    "url, shown",
    [
        ("https://a.b/c?sv=1&sig=SECRET", "https://a.b/c?..."),
        ("https://a.b/#SECRET", "https://a.b/#..."),
        ("https://u:SECRET@a.b/c", "...@a.b/c"),
        ("https://u:SECRET@a.b/c?SECRET", "...@a.b/c?..."),
        ("https://u:SECRET?SECRET@a.b", "?..."),
        ("https://u:x@SECRET#SECRET@a.b", "#..."),
        ("https://a.b/?sig=SECRET@SECRET", "?..."),
        ("https://a.b/?SECRET\nSECRET", "https://a.b/?..."),
        ("ftp://a.b", "ftp://a.b"),
    ],
)
def test_a_url_that_is_refused_is_shown_without_password_and_signature(url, shown):
    with pytest.raises(AzureError) as caught:
        https.parse(url)
    assert "The URL '%s' cannot be used." % shown in str(caught.value)


def test_a_url_is_shown_as_it_was_given():
    for url in ("https://a", "https://a.b:4443/c/d", "https://[::1]:10000/c"):
        assert str(https.parse(url)) == url
    assert str(https.parse("https://a:443/")) == "https://a"


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "99999999"}, 3600),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2300"}, None),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 9999 23:59:59 GMT"}, 0),
        ({"retry-after": "Thu, 26 Nov 2026 10:01:00 GMT", "date": "Thu, 26 Nov 2026 10:00:30 GMT"}, 30),
        ({"retry-after": "Thu, 26 Nov 2026 10:00:00 GMT", "date": "Thu, 26 Nov 2026 10:00:30 GMT"}, 0),
    ],
)
def test_retry_after_is_read_in_both_forms_by_the_servers_clock(headers, seconds):
    assert https.Response(429, headers, b"").retry_after == seconds


def test_an_answer_shows_nothing_of_itself():
    assert repr(https.Response(200, {"a": SECRET}, SECRET.encode())) == "Response(200)"


@pytest.mark.parametrize(
    "body, words",
    [
        (b'{"error": {"code": "AuthFailed", "message": "The scope /subscriptions/1 is refused\\r\\nTrace"}}',
         "401, Code, AuthFailed, The scope /subscriptions/1 is refused"),
        (b'{"error": "invalid_client", "error_description": "Bad header Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsIng1dCI6.abc"}',
         "401, Code, invalid_client, Bad header Bearer ..."),
        (b'{"error": ["x"], "error_description": 7}', "401, Code"),
        (b"<html>", "401, Code"),
    ],
)  # fmt: skip
def test_an_error_is_said_in_its_own_words_without_what_looks_like_a_secret(body, words):
    assert https.describe(https.Response(401, {"x-ms-error-code": "Code"}, body)) == words


def test_the_rate_is_kept(serve):
    server = serve(lambda request: web.answer(200))
    start = time.monotonic()
    with client(server.port, rate=200000) as asked:
        asked.request("PUT", "/", {}, b"x" * 100000)
    assert time.monotonic() - start > 0.45
