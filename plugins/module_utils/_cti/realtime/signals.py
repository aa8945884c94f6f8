# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Receives the signals of systemd's service manager. Source: org.freedesktop.systemd1(5)."""

import os
import struct
from typing import Any, Dict, Iterator, NamedTuple, Tuple

from ..errors import SourceFailed
from ..kinds.services.dbus import DBusConnection, Disconnected, Method, message_length, unmarshal

_MANAGER = "/org/freedesktop/systemd1"
_MANAGER_INTERFACE = "org.freedesktop.systemd1.Manager"
_UNIT_INTERFACE = "org.freedesktop.systemd1.Unit"
_PROPERTIES_INTERFACE = "org.freedesktop.DBus.Properties"
_SUBSCRIBE = Method("org.freedesktop.systemd1", _MANAGER_INTERFACE, "Subscribe")
_MATCHES = tuple(
    "type='signal',sender='org.freedesktop.systemd1',interface='%s'" % interface
    for interface in (_MANAGER_INTERFACE, _PROPERTIES_INTERFACE)
)
_CONNECT_SECONDS = 5.0
_READ_BYTES = 1 << 18
_SIGNAL = 4
_PATH, _INTERFACE, _MEMBER, _SIGNATURE = 1, 2, 3, 8  # "Header Fields"
_HEADER = "yyyyuua(yv)"
# What starts services is asked for as well, since it decides which of them are started on demand.
_SUFFIXES = (".service", ".socket", ".timer", ".path")
_OF_LOGINS = ("user@", "user-runtime-dir@")  # come and go with each login, and are not tracked
_MOST_STATES = 20000
ALL = "systemd"  # as a unit: any may have changed


class _Signal(NamedTuple):
    path: str
    interface: str
    member: str
    signature: str
    body: bytes
    order: str


class Signals(DBusConnection):
    """A connection whose signals are read without waiting. Raises SourceFailed where systemd cannot be reached; a bus is used where
    there is no private socket, or it takes root only."""

    def __init__(self, root: str = "/") -> None:
        bus = not (os.geteuid() == 0 and os.path.exists(os.path.join(root, "run/systemd/private")))
        path = "run/dbus/system_bus_socket" if bus else "run/systemd/private"
        self._states: Dict[str, Tuple[Any, ...]] = {}  # object path of a unit -> ActiveState, SubState
        super().__init__(os.path.join(root, path), _CONNECT_SECONDS, bus)
        try:
            if bus:
                add = [
                    Method("org.freedesktop.DBus", "org.freedesktop.DBus", "AddMatch", "s", [rule]) for rule in _MATCHES
                ]
                self.calls([("/org/freedesktop/DBus", method) for method in add])
            self.calls([(_MANAGER, _SUBSCRIBE)])  # a refusal says that it is subscribed already
            self._socket.setblocking(False)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def close(self) -> None:
        self._socket.close()

    def units(self) -> Iterator[str]:
        """The names of units that may have changed, by the signals that wait; ALL for any. Raises SourceFailed where the connection
        ended."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            data = b""
        except OSError as error:
            raise Disconnected("%s: no connection (%s)" % (self._path, error.strerror)) from error
        else:
            if not data:
                raise Disconnected("%s: the peer closed the connection" % self._path)
        self._received += data
        try:
            for message in self._whole():
                if message[1] == _SIGNAL:
                    unit = self._unit(_parse(message))
                    if unit == ALL or (unit.endswith(_SUFFIXES) and not unit.startswith(_OF_LOGINS)):
                        yield unit
        except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
            raise SourceFailed("%s: malformed D-Bus message (%s)" % (self._path, error)) from error

    def _whole(self) -> Iterator[bytes]:
        received = self._received
        at = 0
        try:
            while len(received) - at >= 16:
                length = message_length(bytes(received[at : at + 16]))  # noqa: E203
                if len(received) - at < length:
                    break
                at += length
                yield bytes(received[at - length : at])  # noqa: E203
        finally:
            del received[:at]

    def _unit(self, signal: _Signal) -> str:
        """The unit that a signal is of; empty for one that is of no interest."""
        if signal.interface == _MANAGER_INTERFACE:
            if signal.member in ("UnitFilesChanged", "Reloading"):
                return ALL
            # UnitNew and UnitRemoved do not count: a status command loads and unloads units.
            if signal.member != "JobRemoved":
                return ""
            return str(unmarshal(signal.signature, signal.body, signal.order)[2])
        if signal.member != "PropertiesChanged" or not signal.path.endswith("_2eservice"):
            return ""
        values = unmarshal(signal.signature, signal.body, signal.order)
        if values[0] != _UNIT_INTERFACE:
            return ""
        properties = dict(values[1])
        state = (properties.get("ActiveState"), properties.get("SubState"))
        if state == self._states.get(signal.path):  # services send their status text again and again
            return ""
        if len(self._states) >= _MOST_STATES:
            self._states.clear()
        self._states[signal.path] = state
        return _unit_name(signal.path)


def _parse(message: bytes) -> _Signal:
    order = "<" if message[:1] == b"l" else ">"
    body, _serial, length = struct.unpack_from(order + "III", message, 4)
    fields = dict(unmarshal(_HEADER, message[: 16 + length], order)[-1])
    texts = [str(fields.get(code, "")) for code in (_PATH, _INTERFACE, _MEMBER, _SIGNATURE)]
    return _Signal(texts[0], texts[1], texts[2], texts[3], message[len(message) - body :], order)  # noqa: E203


def _unit_name(path: str) -> str:
    """The name of a unit by its object path, where each character but letters and digits is _ and its code."""
    pieces = path.rpartition("/")[2].split("_")
    out = pieces[0].encode("utf-8")
    for piece in pieces[1:]:
        out += bytes((int(piece[:2], 16),)) + piece[2:].encode("utf-8")
    return out.decode("utf-8", "replace")
