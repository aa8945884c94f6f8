# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server that a test scripts, and that records what it was asked. With TLS where it gets a certificate."""

import collections
import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn

Request = collections.namedtuple("Request", "method target headers body")  # headers: names in lower case
Answer = collections.namedtuple("Answer", "status headers body")


def answer(status=200, body=b"", **headers):
    """`headers`: with _ for -."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): str(value) for name, value in headers.items()}, body)


def make_certificate(folder, names="DNS:localhost,IP:127.0.0.1"):
    """Make `cert` and `key` in a folder."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out cert -addext subjectAltName="
    subprocess.run((command + names).split(), cwd=str(folder), check=True, stderr=subprocess.DEVNULL)
    return str(folder / "cert"), str(folder / "key")


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, _request, _address):
        pass  # a client that went away


class Web:
    """`respond(request)` returns an answer(), or None to close the connection without one."""

    def __init__(self, respond, certificate=None, port=0, host="127.0.0.1"):
        self.requests = []
        self.connections = 0
        self.respond = respond
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                web.connections += 1
                super().setup()

            def log_message(self, *_arguments):
                pass

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body)
                web.requests.append(request)
                found = web.respond(request)
                if found is None:
                    self.close_connection = True
                    return
                self.send_response(found.status)
                for name, value in found.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in found.headers and "Transfer-Encoding" not in found.headers:
                    self.send_header("Content-Length", str(len(found.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(found.body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

        self._server = _Server((host, port), Handler)
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self.url = "%s://%s:%d" % ("https" if certificate else "http", "localhost", self.port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
