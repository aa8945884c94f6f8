# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A D-Bus client that only calls methods.

Source: the D-Bus specification, https://dbus.freedesktop.org/doc/dbus-specification.html; chapters are cited by name.
"""

import _socket as socket  # socket itself, which adds only names, costs 2 ms
import os
import struct
import time
from functools import lru_cache
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from ...errors import SourceFailed
from ...text import decode

LARGEST_MESSAGE = 32 << 20  # bytes; the specification allows 128 MiB, 10,000 units fill 2
_DEEPEST = 32  # "Valid Signatures" allows 32 arrays and 32 structs; systemd sends far less
_IN_FLIGHT = 100  # dbus-daemon refuses more than 128 unanswered calls of one connection (max_replies_per_connection)
_METHOD_CALL, _METHOD_RETURN, _ERROR = 1, 2, 3  # "Message Format"
# "Header Fields"
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8


class Disconnected(SourceFailed):
    """The peer closed the connection, or never opened it."""


class Refusal(NamedTuple):
    """An error reply."""

    name: str  # org.freedesktop.DBus.Error.UnknownObject, ...
    message: str


class Message(NamedTuple):
    """The parts of a received message that a caller of methods needs."""

    type: int
    reply_serial: int
    error_name: str
    signature: str
    body: bytes
    order: str  # struct's prefix: < or >


def marshal(signature: str, values: Sequence[Any]) -> bytes:
    """Little-endian "Marshaling (Wire Format)" of strings (s), object paths (o) and arrays of strings (as)."""
    out = b""
    rest = signature
    for value in values:
        out += b"\0" * (-len(out) % 4)
        if rest.startswith("as"):
            rest = rest[2:]
            array = b""
            for item in value:
                array += b"\0" * (-len(array) % 4) + _string(item)
            out += struct.pack("<I", len(array)) + array
        elif rest[:1] in ("s", "o"):
            rest = rest[1:]
            out += _string(value)
        else:
            raise ValueError("cannot marshal " + repr(signature))
    if rest:
        raise ValueError("fewer values than " + repr(signature))
    return out


def _string(value: str) -> bytes:
    raw = value.encode("utf-8")
    return struct.pack("<I", len(raw)) + raw + b"\0"


class Method:
    """One method with its arguments, marshalled once and then called on any number of object paths."""

    def __init__(
        self,
        destination: str,
        interface: str,
        member: str,
        signature: str = "",
        arguments: Sequence[Any] = (),
        returns: Optional[str] = None,
    ) -> None:
        """`signature` and `arguments` are of the call, `returns` is the signature of its reply; None: any."""
        self.returns = returns
        fields = b""
        for code, value in ((_DESTINATION, destination), (_INTERFACE, interface), (_MEMBER, member)):
            fields += bytes((code, 1)) + b"s\0" + _string(value)
            fields += b"\0" * (-len(fields) % 8)
        if signature:
            fields += bytes((_SIGNATURE, 1)) + b"g\0" + bytes((len(signature),)) + signature.encode("ascii") + b"\0"
            fields += b"\0" * (-len(fields) % 8)
        # The path comes last, so that everything before it is the same in every call.
        self._fields = fields + bytes((_PATH, 1)) + b"o\0"
        self._body = marshal(signature, arguments)

    def message(self, serial: int, path: str) -> bytes:
        fields = self._fields + _string(path)
        head = struct.pack("<cBBBIII", b"l", _METHOD_CALL, 0, 1, len(self._body), serial, len(fields)) + fields
        return head + b"\0" * (-len(head) % 8) + self._body


class _BodyReader:
    """Reads a marshalled body from front to end. For any bytes, it returns values or raises ValueError."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self._position = 0
        self._uint32 = struct.Struct(order + "I").unpack_from
        self._order = order

    def values(self, signature: str) -> List[Any]:
        out = [self._value(kind, 0) for kind in _types(signature)]
        if self._position != len(self._data):
            raise ValueError("a body longer than its signature")
        return out

    def _value(self, signature: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("values nested too deeply")
        kind = signature[0]
        if kind in "so":
            return self._text(self._length())
        if kind == "g":
            return self._text(self._take("B"))
        if kind == "v":
            inner = _types(self._text(self._take("B")))
            if len(inner) != 1:
                raise ValueError("a variant which does not hold one value")
            return self._value(inner[0], depth + 1)
        if kind == "a":
            return self._array(signature[1:], depth)
        if kind in "({":
            self._align(8)
            return tuple(self._value(member, depth + 1) for member in _types(signature[1:-1]))
        return bool(self._take("I")) if kind == "b" else self._take(_FIXED[kind])

    def _array(self, element: str, depth: int) -> List[Any]:
        length = self._length()
        self._align(_ALIGNMENT[element[0]])
        end = self._position + length
        if end > len(self._data):
            raise ValueError("an array beyond the end of its message")
        out = []
        while self._position < end:
            out.append(self._value(element, depth + 1))
        if self._position != end:
            raise ValueError("an array whose length cuts an element")
        return out

    def _length(self) -> int:
        at = self._position + 3 & ~3
        self._position = at + 4
        if self._position > len(self._data):
            raise ValueError("a value beyond the end of its message")
        return int(self._uint32(self._data, at)[0])

    def _text(self, length: int) -> str:
        start = self._position
        end = start + length
        if self._data[end : end + 1] != b"\0":  # noqa: E203
            raise ValueError("a string without its end")
        self._position = end + 1
        return decode(self._data[start:end])

    def _take(self, code: str) -> Any:
        layout = struct.Struct(self._order + code)
        self._align(layout.size)
        start = self._position
        self._position = start + layout.size
        if self._position > len(self._data):
            raise ValueError("a value beyond the end of its message")
        return layout.unpack_from(self._data, start)[0]

    def _align(self, size: int) -> None:
        self._position += -self._position % size


_FIXED = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "h": "I", "x": "q", "t": "Q", "d": "d"}
_ALIGNMENT: Dict[str, int] = dict.fromkeys("sobaiuh", 4)
_ALIGNMENT.update({"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8})


def _complete(signature: str, at: int, depth: int) -> int:
    """The end of the single complete type that starts at `at`."""
    kind = signature[at : at + 1]  # noqa: E203
    if depth > _DEEPEST or kind not in _ALIGNMENT:
        raise ValueError("an invalid signature")
    if kind == "a":
        return _complete(signature, at + 1, depth + 1)
    if kind not in "({":
        return at + 1
    close = ")" if kind == "(" else "}"
    first = at = at + 1
    while signature[at : at + 1] != close:  # noqa: E203
        at = _complete(signature, at, depth + 1)
    if at == first:
        raise ValueError("an empty struct in a signature")
    return at + 1


@lru_cache(maxsize=64)
def _types(signature: str) -> Tuple[str, ...]:
    """The single complete types in a signature."""
    out = []
    at = 0
    while at < len(signature):
        end = _complete(signature, at, 0)
        out.append(signature[at:end])
        at = end
    return tuple(out)


def unmarshal(signature: str, body: bytes, order: str = "<") -> List[Any]:
    """The values of a body; structs and dict entries are tuples, arrays lists, a variant is the value it holds.

    Raises ValueError where the bytes do not match the signature.
    """
    return _BodyReader(body, order).values(signature)


def message_length(head: bytes) -> int:
    """The length in bytes of the message that starts with these 16 bytes. Raises ValueError where they are not its start."""
    order = _ORDERS.get(head[:1])
    if order is None or head[3] != 1:
        raise ValueError("not the start of a D-Bus message")
    body, _serial, fields = struct.unpack_from(order + "III", head, 4)
    length = (16 + fields + 7 & ~7) + body
    if length > LARGEST_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    return int(length)


_ORDERS = {b"l": "<", b"B": ">"}


def parse_message(data: bytes) -> Message:
    """One whole message. ValueError: its header is malformed.

    Header fields are an array of (byte, variant); this reads the three that matter and steps over the rest,
    which costs a tenth of demarshalling them all.
    """
    order = _ORDERS[data[:1]]
    uint32 = struct.Struct(order + "I").unpack_from
    body, fields = uint32(data, 4)[0], uint32(data, 12)[0]
    end = 16 + fields
    found: Dict[int, Any] = {}
    at = 16
    while at < end:
        at += -at % 8
        code, kind = data[at], data[at + 1 : at + 4]  # noqa: E203
        at += 4
        if kind == b"\1u\0":
            found[code] = uint32(data, at)[0]
            at += 4
        elif kind in (b"\1s\0", b"\1o\0", b"\1g\0"):
            short = kind == b"\1g\0"
            length = data[at] if short else uint32(data, at)[0]
            at += 1 if short else 4
            if code in (_ERROR_NAME, _SIGNATURE):
                found[code] = decode(data[at : at + length])  # noqa: E203
            at += length + 1
        else:
            raise ValueError("a header field of a type no field has")
    if at > end:
        raise ValueError("a header field beyond the header")
    text = {code: value for code, value in found.items() if isinstance(value, str)}
    serial = found.get(_REPLY_SERIAL, 0)
    return Message(
        data[1],
        serial if isinstance(serial, int) else 0,
        text.get(_ERROR_NAME, ""),
        text.get(_SIGNATURE, ""),
        data[len(data) - body :],  # noqa: E203
        order,
    )


Reply = Union[Refusal, List[Any]]


class DBusConnection:
    """A connection to the socket at `path`, good for `seconds` in all. SourceFailed: it cannot be used (any more).

    `bus`: a message bus, where every client says Hello first ("Message Bus Messages"); a peer, such as systemd on its
    private socket, knows no such thing.
    """

    def __init__(self, path: str, seconds: float = 25.0, bus: bool = False) -> None:
        self._path = path
        self._deadline = time.monotonic() + seconds
        self._serial = 0
        self._received = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._authenticate()
            if bus:
                hello = Method("org.freedesktop.DBus", "org.freedesktop.DBus", "Hello")
                self.calls([("/org/freedesktop/DBus", hello)])
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "DBusConnection":
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def _authenticate(self) -> None:
        """SASL EXTERNAL ("Authentication Protocol"): the peer knows our user from the socket and wants to hear it."""
        self._attempt(self._socket.connect, self._path)
        user = str(os.geteuid()).encode("ascii").hex()
        # BEGIN ahead of the OK, as systemd's own client does: systemd reads the greeting in large pieces, and
        # a call that arrives in one piece with BEGIN waits there until another one comes.
        self._send(b"\0AUTH EXTERNAL " + user.encode("ascii") + b"\r\nBEGIN\r\n")
        while b"\r\n" not in self._received:
            if len(self._received) > 16384:
                raise SourceFailed(f"{self._path}: the reply to the D-Bus authentication has no end")
            self._receive()
        line = bytes(self._received).partition(b"\r\n")[0]
        if not line.startswith(b"OK "):
            raise SourceFailed(f"{self._path}: the D-Bus peer refuses the current user ({decode(line[:80])})")
        del self._received[: len(line) + 2]  # what follows are signals

    def calls(self, calls: Sequence[Tuple[str, Method]]) -> List[Reply]:
        """Call each (object path, method); the replies in the same order, each a list of values or a Refusal.

        Calls are sent ahead of the replies as far as a bus allows it, which is never so far that both ends could wait
        for each other to read: what is in flight fits in a socket's buffer many times.
        """
        base = self._serial + 1
        self._serial += len(calls)
        replies: Dict[int, Reply] = {}
        sent = 0
        while len(replies) < len(calls):
            if sent < len(calls) and sent - len(replies) <= _IN_FLIGHT // 2:
                upto = min(len(calls), len(replies) + _IN_FLIGHT)
                self._send(b"".join(calls[n][1].message(base + n, calls[n][0]) for n in range(sent, upto)))
                sent = upto
            try:
                for message in self._messages():
                    number = message.reply_serial - base
                    if message.type in (_METHOD_RETURN, _ERROR) and 0 <= number < sent:
                        replies[number] = _reply(message, calls[number][1].returns)
            except (ValueError, IndexError, struct.error) as error:
                raise SourceFailed(f"{self._path}: malformed D-Bus message ({error})") from error
            if len(replies) < sent:
                self._receive()
        return [replies[n] for n in range(len(calls))]

    def _messages(self) -> Iterator[Message]:
        """The complete ones among what was received."""
        received = self._received
        at = 0
        while len(received) - at >= 16:
            length = message_length(bytes(received[at : at + 16]))  # noqa: E203
            if len(received) - at < length:
                break
            yield parse_message(bytes(received[at : at + length]))  # noqa: E203
            at += length
        del received[:at]

    def _receive(self) -> None:
        data = self._attempt(self._socket.recv, 1 << 18)
        if not data:
            raise Disconnected(f"{self._path}: the peer closed the connection")
        self._received += data

    def _send(self, data: bytes) -> None:
        self._attempt(self._socket.sendall, data)

    def _attempt(self, operation: Callable[[Any], Any], argument: Any) -> Any:
        left = self._deadline - time.monotonic()
        try:
            if left <= 0:
                raise socket.timeout()
            self._socket.settimeout(left)
            return operation(argument)
        except socket.timeout:
            raise SourceFailed(f"{self._path}: no complete reply in time") from None
        except OSError as error:
            raise Disconnected(f"{self._path}: no connection ({error.strerror or error})") from error


def _reply(message: Message, signature: Optional[str]) -> Reply:
    if message.type == _METHOD_RETURN and signature is not None and message.signature != signature:
        raise ValueError(f"a reply of type {message.signature[:80]!r}")
    values = unmarshal(message.signature, message.body, message.order)
    if message.type == _ERROR:
        text = values[0] if values and isinstance(values[0], str) else ""
        return Refusal(message.error_name, text)
    return values
