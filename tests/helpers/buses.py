# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An independent marshaller of D-Bus messages, of either byte order, and a service manager that answers with it."""

import os
import socket
import struct
import threading

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services import dbus

SIZES = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
ALIGNMENTS = {"(": 8, "{": 8, "a": 4, "s": 4, "o": 4, "b": 4, "g": 1, "v": 1}


def put(out, order, signature, value):
    kind = signature[0]
    size = struct.calcsize(SIZES[kind]) if kind in SIZES else ALIGNMENTS[kind]
    out.extend(b"\0" * (-len(out) % size))
    if kind in SIZES:
        out.extend(struct.pack(order + SIZES[kind], value))
    elif kind == "b":
        out.extend(struct.pack(order + "I", value))
    elif kind in "so":
        raw = value.encode("utf-8")
        out.extend(struct.pack(order + "I", len(raw)) + raw + b"\0")
    elif kind == "v":
        inner, held = value
        out.extend(bytes((len(inner),)) + inner.encode() + b"\0")
        put(out, order, inner, held)
    elif kind == "a":
        at = len(out)
        out.extend(b"\0" * 4)
        element = signature[1:]
        out.extend(b"\0" * (-len(out) % (8 if element[0] in "({xtd" else 1)))
        if element[0] in "nq":
            out.extend(b"\0" * (-len(out) % 2))
        start = len(out)
        for item in value:
            put(out, order, element, item)
        struct.pack_into(order + "I", out, at, len(out) - start)
    else:
        for member, item in zip(split(signature[1:-1]), value):
            put(out, order, member, item)


def split(signature):
    out, depth, current = [], 0, ""
    for character in signature:
        current += character
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(character, 0)
        if depth == 0 and character != "a":
            out.append(current)
            current = ""
    return out


def message(kind, serial, signature, value, error=""):
    """A reply to the call with that serial; `kind`: 2 a return, 3 an error."""
    fields = struct.pack("<BBBBI", 5, 1, ord("u"), 0, serial)
    texts = [(8, "g", signature)] + ([(4, "s", error)] if error else [])
    for code, of, text in texts:
        fields += b"\0" * (-len(fields) % 8) + struct.pack("<BBBB", code, 1, ord(of), 0)
        fields += (struct.pack("<B", len(text)) if of == "g" else struct.pack("<I", len(text))) + text.encode() + b"\0"
    body = bytearray()
    put(body, "<", signature, value)
    head = struct.pack("<cBBBIII", b"l", kind, 1, 1, len(body), 1, len(fields)) + fields
    return head + b"\0" * (-len(head) % 8) + bytes(body)


def unit(name, load="loaded", active="inactive", sub="dead", description=""):
    """One entry of what ListUnits returns."""
    return (name, description or name, load, active, sub, "", "/unit/" + name, 0, "", "/")


class Manager:
    """Answers as systemd does, on its own socket and on the bus, from what the test puts into its attributes."""

    def __init__(self, root, units=(), path=(), version="252"):
        self.units, self.path, self.version = list(units), list(path), version
        self.properties = {}  # (name of a unit, property) -> (signature, value), or the name of an error
        self.ending = []  # units that are listed once, and then no longer
        self.connections = 0
        self.drop = 0  # so many connections are closed at the first call
        self.garbage = None  # sent in place of each reply
        for name in ("run/systemd/private", "run/dbus/system_bus_socket"):
            path = os.path.join(str(root), name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(path)
            listening.listen(5)
            threading.Thread(target=self._serve, args=(listening,), daemon=True).start()

    def _serve(self, listening):
        while True:
            client, _unused = listening.accept()
            self.connections += 1
            with client:
                try:
                    self._talk(client)
                except OSError:
                    pass

    def _talk(self, client):
        heard = b""
        while b"BEGIN\r\n" not in heard:
            heard += client.recv(65536)
        client.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
        heard = heard.partition(b"BEGIN\r\n")[2]
        while True:
            while len(heard) >= 16 and len(heard) >= dbus.message_length(heard[:16]):
                call, heard = heard[: dbus.message_length(heard[:16])], heard[dbus.message_length(heard[:16]) :]
                if self.connections <= self.drop:
                    return
                serial = struct.unpack_from("<I", call, 8)[0]
                client.sendall(self.garbage or message(*self._answer(call, serial)))
            data = client.recv(65536)
            if not data:
                return
            heard += data

    def _answer(self, call, serial):
        if b"ListUnitsByPatterns" in call:
            listed, self.ending = self.units + self.ending, []
            return 2, serial, "a(ssssssouso)", listed
        if b"Hello" in call:
            return 2, serial, "s", ":1.1"
        if b"UnitPath" in call:
            return 2, serial, "v", ("as", self.path)
        if b"Version" in call:
            return 2, serial, "v", ("s", self.version)
        for (name, wanted), value in self.properties.items():
            if b"/unit/" + name.encode() + b"\0" in call and wanted.encode() in call:
                return (2, serial, "v", value) if isinstance(value, tuple) else (3, serial, "s", "", value)
        return 2, serial, "v", (("as", []) if b"Triggers" in call else ("t", 0))
