# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Requests to one server, over one connection that is kept open.

Each request ends within its deadline, and each answer within its size, however the server behaves. Redirects are refused, and the
environment names no proxy: only an option does. (SSL_CERT_FILE and SSL_CERT_DIR name authorities, as for every program that uses OpenSSL.)
No header or body is in any message.
"""

import http.client
import io
import re
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import quote, urlsplit

from ..errors import CtiError
from ..text import quoted, without_secrets
from ..wire.sockets import Deadline
from ..wire.tls import Tls, tls_context
from .errors import AzureError

SECONDS = 30.0  # for one request, from the connection to the last byte of the answer
MAX_BYTES = 1 << 20  # of one answer, with its headers
MAX_RETRY_SECONDS = 3600.0  # that a server may ask to wait
_MAX_DATE = 1 << 36  # in the year 4147; nobody can write a date after 9999
_PIECE = 64 << 10
_DROPPED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
_SECRET = re.compile(r"[A-Za-z0-9+_~.=-]{37,}")  # as tokens, keys and secrets are; a GUID is shorter
_NETWORK = "Check the name, the network and the firewall."
_CERTIFICATES = "Give the authority that signed its certificate as azure_ca, if it is a private one."


class Endpoint(NamedTuple):
    """A server, and the path below which the requests go. str() of it is its URL, without a slash at the end."""

    scheme: str  # http https
    host: str
    port: int
    path: str = ""

    @property
    def authority(self) -> str:
        """Host and port as in a URL; the port only where it is not the usual one."""
        host = "[%s]" % self.host if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else "%s:%d" % (host, self.port)

    def __str__(self) -> str:
        return "%s://%s%s" % (self.scheme, self.authority, self.path)


_PORTS = {"http": 80, "https": 443}


def parse(url: str, schemes: Tuple[str, ...] = ("https",)) -> Endpoint:
    """The endpoint of a URL without user, query and fragment. Raises AzureError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        good = url.isprintable() and not (parts.username or parts.query or parts.fragment or "@" in parts.netloc)
        if good and parts.scheme in schemes and _HOST.fullmatch(host) and _PATH.fullmatch(parts.path) and port != 0:
            return Endpoint(parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"))
    except ValueError:
        pass
    raise AzureError("The URL '%s' cannot be used. Give %s://HOST." % (quoted(without_secrets(url)), schemes[0]))


class Response(NamedTuple):
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def __repr__(self) -> str:  # an answer may hold a token
        return "Response(%d)" % self.status

    @property
    def retry_after(self) -> Optional[float]:
        """The seconds of Retry-After, or until its date by the clock of the server; None where it has neither."""
        value = self.headers.get("retry-after", "").strip()
        if re.fullmatch("[0-9]{1,12}", value):
            return min(float(value), MAX_RETRY_SECONDS)
        seconds = http_date(value)
        if seconds is None:
            return None
        now = http_date(self.headers.get("date", ""))
        return min(max(0.0, seconds - (time.time() if now is None else now)), MAX_RETRY_SECONDS)


def http_date(text: str) -> Optional[float]:
    """Unix seconds of a date in a header; None where it is none, or is in a year that cannot be meant."""
    try:
        seconds = parsedate_to_datetime(text).timestamp() if text else -1.0
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return seconds if 0 <= seconds < _MAX_DATE else None


class Client:
    """Requests to an endpoint. `ca`: PEM file of the authorities to trust instead of those of the system. `proxy`: http://HOST:PORT to
    connect through; empty: none. `rate`: bytes a second to send at most. `remedy`: what to do where there is no answer. `check`: looks at
    a new connection before anything is sent, and raises AzureError. To be used by one thread at a time, and closed."""

    def __init__(
        self,
        endpoint: Endpoint,
        ca: str = "",
        proxy: str = "",
        seconds: float = SECONDS,
        max_bytes: int = MAX_BYTES,
        rate: float = 0.0,
        remedy: str = _NETWORK,
        check: Optional[Callable[[socket.socket], None]] = None,
    ) -> None:
        self.endpoint = endpoint
        self.seconds = seconds
        self._ca = ca
        self._proxy = parse(proxy, ("http",)) if proxy else None
        self._max_bytes = max_bytes
        self._rate = rate
        self._remedy = remedy
        self._check = check
        self._connection: Optional[_Connection] = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_error: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection.wire.end()
            self._connection = None

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        """Send a request for `target`, a path with its query, below the endpoint, and return the answer, whatever its status.

        A connection that the server has closed meanwhile is made again once: a request may arrive twice. Raises AzureError.
        """
        deadline = Deadline(self.seconds)
        while True:
            is_new = self._connection is None
            try:
                connection = self._connection = self._connection or self._connect(deadline)
                return self._send(connection, deadline, method, target, headers, body)
            except socket.timeout:
                raise self._failed("no answer within %g s" % self.seconds) from None
            except (OSError, http.client.HTTPException) as error:
                if is_new or not isinstance(error, _DROPPED):
                    raise self._failed(getattr(error, "strerror", None) or said(str(error))) from error
                self.close()
            except ValueError:  # of http.client or a codec, whose text may have any part of an answer
                raise self._failed("a host name or an answer that is not valid") from None
            except BaseException:
                self.close()
                raise

    def _failed(self, reason: str) -> AzureError:
        self.close()
        remedy = _CERTIFICATES if "CERTIFICATE" in reason.upper() else self._remedy
        through = f" through the proxy {self._proxy}" if self._proxy else ""
        return AzureError(f"No answer from {self.endpoint}{through} ({quoted(reason)}). {remedy}")

    def _connect(self, deadline: Deadline) -> "_Connection":
        try:
            context = tls_context(Tls(self._ca)) if self.endpoint.scheme == "https" else None
        except CtiError as error:
            raise AzureError("%s." % error) from error
        first = self._proxy or self.endpoint
        sock = _connect(first.host, first.port, deadline)
        try:
            if self._check is not None:
                self._check(sock)
            if self._proxy is not None:
                _open_tunnel(sock, self.endpoint, deadline)
            if context is not None:
                deadline.limit(sock)
                sock = context.wrap_socket(sock, server_hostname=self.endpoint.host)
        except ValueError as error:  # Python 3.6 has ssl.CertificateError as a ValueError
            sock.close()
            raise OSError(str(error)) from error
        except BaseException:
            sock.close()
            raise
        return _Connection(self.endpoint, _Wire(sock))

    def _send(
        self,
        connection: "_Connection",
        deadline: Deadline,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Response:
        connection.wire.begin(deadline, self._max_bytes, self._rate)
        try:
            connection.request(method, self.endpoint.path + target, body or None, dict(headers))
        except ValueError:  # of a header, whose value the text of the error has
            raise AzureError(f"A header of a request to {self.endpoint} is not valid.") from None
        answer = connection.getresponse()
        if answer.status < 200:  # the real one would be taken for that of the next request
            raise http.client.HTTPException("the answer has the status %d" % answer.status)
        raw = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        if answer.will_close:
            self.close()
        if 300 <= answer.status < 400 and answer.status != 304:
            raise AzureError(
                f"{self.endpoint} redirects to another place, which is not followed. Check who answers there.",
                answer.status,
            )
        return Response(answer.status, found, raw)


def query(values: Mapping[str, str]) -> str:
    """A query string, with its question mark."""
    return "?" + "&".join("%s=%s" % (quote(name, safe=""), quote(value, safe="")) for name, value in values.items())


def _too_large(limit: int) -> str:
    return "the answer is larger than %d bytes" % limit


def _connect(host: str, port: int, deadline: Deadline) -> Any:
    targets = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    for number, (family, kind, protocol, _canonical, address) in enumerate(targets, 1):
        sock = socket.socket(family, kind, protocol)
        try:
            deadline.limit(sock)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except BaseException as error:
            sock.close()
            if number == len(targets) or not isinstance(error, OSError):
                raise
    raise OSError("the name has no address")


def _open_tunnel(sock: Any, endpoint: Endpoint, deadline: Deadline) -> None:
    """Let a proxy connect to the endpoint. Source: RFC 9110, 9.3.6."""
    host = "[%s]" % endpoint.host if ":" in endpoint.host else endpoint.host
    name = "%s:%d" % (host, endpoint.port)
    deadline.limit(sock)
    sock.sendall(("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (name, name)).encode("ascii"))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        deadline.limit(sock)
        piece = sock.recv(1)  # what follows is TLS, of which nothing may be read here
        if not piece or len(answer) >= _PIECE:
            raise OSError("the proxy does not answer as one")
        answer += piece
    if not re.match(rb"HTTP/1\.[01] 2\d\d[ \r]", answer):
        raise OSError("the proxy refuses: %s" % answer.split(b"\r\n")[0].decode("ascii", "replace")[:100])


class _Connection(http.client.HTTPConnection):
    """A connection that http.client never makes by itself."""

    auto_open = 0

    def __init__(self, endpoint: Endpoint, wire: "_Wire") -> None:
        super().__init__(endpoint.host, endpoint.port)
        self.default_port = _PORTS[endpoint.scheme]  # which has no place in the header Host
        self.wire = wire
        self.sock: Any = wire


class _Wire:
    """What http.client sees of a socket: with a deadline for each request, and a limit for each answer."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._deadline = Deadline(0)
        self._remaining = 0
        self._limit = 0
        self._rate = 0.0

    def begin(self, deadline: Deadline, max_bytes: int, rate: float) -> None:
        """Start a request."""
        self._deadline, self._limit, self._remaining, self._rate = deadline, max_bytes, max_bytes, rate

    def sendall(self, data: Any) -> None:
        view = memoryview(data)
        while view:
            self._deadline.limit(self._socket)
            sent = self._socket.send(view[:_PIECE])
            view = view[sent:]
            if self._rate:
                time.sleep(min(sent / self._rate, self._deadline.left()))

    def makefile(self, *_arguments: Any) -> io.BufferedReader:
        return _Answer(self, self._limit)

    def read_answer(self, buffer: Any) -> int:
        if self._remaining <= 0:
            raise http.client.HTTPException(_too_large(self._limit))
        self._deadline.limit(self._socket)
        count = int(self._socket.recv_into(memoryview(buffer)[: self._remaining]))
        self._remaining -= count
        return count

    def close(self) -> None:
        """http.client closes before it reads the body of a last answer: see end()."""

    def end(self) -> None:
        self._socket.close()


class _Answer(io.BufferedReader):
    """The bytes of one answer. To close it leaves the connection open."""

    def __init__(self, wire: _Wire, limit: int) -> None:
        super().__init__(_Pieces(wire))
        self._limit = limit

    def read(self, size: Optional[int] = -1) -> bytes:
        """BufferedReader itself would need memory for all of the size that an answer says it has."""
        if (size or 0) > self._limit:
            raise http.client.HTTPException(_too_large(self._limit))
        return super().read(size)


class _Pieces(io.RawIOBase):
    def __init__(self, wire: _Wire) -> None:
        super().__init__()
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.read_answer(buffer)


def json_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object in an answer; an empty one where there is none."""
    from ..text import load_json

    try:
        value = load_json(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def describe(response: Response, limit: int = 200) -> str:
    """The status of an answer and what its error says, in the forms of Azure Resource Manager, Storage, Entra ID and IMDS.

    What looks like a secret is left out: a server may repeat what it was sent.
    """
    found = json_object(response.body)
    error = found.get("error")
    texts: List[Any] = [response.headers.get("x-ms-error-code")]
    if isinstance(error, dict):
        texts += [error.get("code"), error.get("message")]
    else:
        texts += [error, found.get("error_description")]
    words = list(
        dict.fromkeys(text.strip().splitlines()[0] for text in texts if isinstance(text, str) and text.strip())
    )
    return said(", ".join([str(response.status), *words]), limit)


def said(text: str, limit: int = 300) -> str:
    """A text of a server as it stands in a message: on one line, without what looks like a secret."""
    return quoted(_SECRET.sub("...", text), limit)
