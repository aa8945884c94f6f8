# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Handing records over: to the Azure Monitor Agent (AMA), to a relay, to any receiver of the forward protocol."""

import errno
import fcntl
import select
import socket
import struct
import termios
from typing import Dict, Iterable, Optional, Sequence, Set

from ..errors import FormatError, ForwardError
from .address import AMA_USERS, Address, Deadline, Tls, connect
from .forward import Entry, message, new_chunk, pack_batches
from .msgpack import Unpacker

ACKS = ("auto", "require", "off")
_AHEAD = 3  # messages, each near 1 MiB
_ACK_BYTES = 4096  # an ack is a map of one short text
_HANGS = (
    "{0}: not delivered, the receiver did not take and acknowledge the records within {1:g} s;"
    " see why it hangs, or, if it knows no acks, set acks to off"
)


class Sender:
    """Delivers to one receiver, over a connection it keeps and renews.

    acks: `require`: a message is delivered once the receiver has acknowledged it. `off`: once the receiver has read it
    all, over a unix socket, or once it is written, over TCP. `auto`: over TCP as `require`, since all receivers there
    know acks; over a unix socket one that has read the first message, and stays silent for `patience` seconds, as AMA
    may, is asked no more.
    `deadline`: seconds for each message with all that it needs, such as a new connection; may be set anew at any time.
    """

    def __init__(
        self,
        address: Address,
        allowed_users: Iterable[str] = AMA_USERS,
        acks: str = "auto",
        deadline: float = 10.0,
        tls: Optional[Tls] = None,
        patience: float = 1.0,
    ) -> None:
        if acks not in ACKS:
            raise ValueError("acks: one of " + ", ".join(ACKS))
        self._address = address
        self._allowed_users = list(allowed_users)
        self.deadline = deadline
        self._tls = tls
        self._patience = patience
        self._unix = address.scheme in ("abstract", "file")
        self._ask = acks != "off"
        self._must = acks == "require" or (acks == "auto" and not self._unix)
        self._socket: Optional[socket.socket] = None
        self._unpacker = Unpacker(_ACK_BYTES)
        self._pending: Dict[str, bytes] = {}  # messages of this send() by their chunks, until acknowledged
        self._asked: Set[str] = set()  # all chunks sent over this connection, until acknowledged

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, tag: str, entries: Sequence[Entry]) -> bool:
        """Deliver (unix seconds, record) pairs, oldest first. Whether the receiver acknowledged them all.

        What a broken connection leaves unacknowledged is sent once more over a new one. ForwardError: that failed, too;
        some of the messages may have been delivered, so the same entries arrive twice when they are sent again.
        """
        self._pending.clear()
        acknowledged = True
        batches = pack_batches(entries)
        following = next(batches, None)
        while following is not None:
            (packed, count), following = following, next(batches, None)
            chunk = new_chunk() if self._ask else ""
            # The receiver works on one while we make the next, once it is certain that it acknowledges.
            ahead = _AHEAD if self._must and following is not None else 0
            acknowledged = self._deliver(message(tag, packed, count, chunk), chunk, ahead) and acknowledged
        return acknowledged

    def _deliver(self, data: bytes, chunk: str, ahead: int) -> bool:
        """Send, and wait until at most `ahead` messages are not acknowledged."""
        until = Deadline(self.deadline)
        if chunk:
            self._pending[chunk] = data
        reason = ""
        for _attempt in range(2):
            unsent = [data]
            sock = self._socket
            if sock is None:
                sock = self._connect(until)
                unsent = list(self._pending.values()) or unsent
            try:
                self._catch_up(sock)
                self._asked.update(self._pending)
                for one in unsent:
                    _write(sock, one, until)
                return self._await_acks(sock, ahead, until) if chunk else self._await_taken(sock, until)
            except socket.timeout:
                self.close()
                raise ForwardError(_HANGS.format(self._address, self.deadline)) from None
            except FormatError as error:
                reason = "the receiver's ack is not valid: {0}".format(error)
            except OSError as error:
                reason = "the connection broke: {0}".format(error.strerror or error)
            self.close()
        raise ForwardError(
            "{0}: not delivered in two attempts, {1}; see the receiver's log".format(self._address, reason)
        )

    def _connect(self, until: Deadline) -> socket.socket:
        sock = self._socket = connect(self._address, until.left(), self._allowed_users, self._tls)
        self._unpacker = Unpacker(_ACK_BYTES)
        self._asked.clear()
        return sock

    def _catch_up(self, sock: socket.socket) -> None:
        """Notice a connection that was closed meanwhile, for a write to it may succeed all the same; and late acks."""
        try:
            if _readable(sock, 0) and self._read_acks(sock, 0.001):
                self._ask = self._must = True
        except socket.timeout:
            pass  # TLS has bytes of its own, such as session tickets

    def _await_acks(self, sock: socket.socket, ahead: int, until: Deadline) -> bool:
        if not self._must and not _readable(sock, min(self._patience, until.left())):
            self._await_taken(sock, until)
            self._ask = False
            self._pending.clear()
            return False
        while len(self._pending) > ahead:
            self._read_acks(sock, until.left())
            self._must = True  # it knows how to, so silence is a failure from now on
        return True

    def _await_taken(self, sock: socket.socket, until: Deadline) -> bool:
        """Until a unix socket's other end has read all of it; that is no acknowledgement, hence False."""
        pause = 0.0
        while self._unix:
            taken = not struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]
            self._catch_up(sock)  # after the look at the queue, which a close empties, too
            if taken:
                break
            until.limit(sock)
            pause = min(pause + 0.0005, 0.02)
            _readable(sock, pause)
        return False

    def _read_acks(self, sock: socket.socket, seconds: float) -> bool:
        """What comes within `seconds`, at the least one read. Whether an ack was complete."""
        if seconds <= 0:
            raise socket.timeout("timed out")
        sock.settimeout(seconds)
        data = sock.recv(_ACK_BYTES)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the receiver")
        self._unpacker.feed(data)
        before = len(self._asked)
        for value in self._unpacker:
            chunk = value.get("ack") if isinstance(value, dict) else None
            if not isinstance(chunk, str) or chunk not in self._asked:
                raise FormatError("it names no message we sent")
            self._asked.remove(chunk)
            self._pending.pop(chunk, None)
        return len(self._asked) < before


def _readable(sock: socket.socket, seconds: float) -> bool:
    poll = select.poll()  # select.select cannot watch a descriptor above 1023
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _write(sock: socket.socket, data: bytes, until: Deadline) -> None:
    rest = memoryview(data)  # not sendall: over TLS it grants every piece the whole time
    while rest:
        until.limit(sock)
        rest = rest[sock.send(rest) :]
