# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Handing records over: to the Azure Monitor Agent (AMA), to a relay, to any receiver of the forward protocol."""

import errno
import fcntl
import math
import select
import socket
import struct
import termios
import time
from typing import Dict, Iterable, NamedTuple, Optional, Sequence, Set

from ..errors import FormatError, ForwardError, TurnOver
from .address import AMA_USERS, Address
from .forward import RECORDS, Entry, message, new_chunk, pack_batches
from .msgpack import Unpacker
from .sockets import Deadline, connect, is_ama
from .tls import Tls

ACKS = ("auto", "require", "off")
FIRST_RECORDS = 16  # of the first message over a connection; each one that is acknowledged lets the next be larger
GROWTH = 4  # times, up to RECORDS
QUICK_SECONDS = 1.0  # in which a receiver acknowledges that has no crowd of senders, or is up to it
CROWD_RECORDS = 64  # of a message to one that takes longer: all of the crowd get on, and little is held or sent again
UNACKED_SECONDS = 10  # for a message to a receiver that is not asked for acks, as the senders beside us grant AMA
_AHEAD = 3  # messages, each near 1 MiB
_ACK_BYTES = 4096  # an ack is a map of one short text
_HANGS = (
    "{0}: not delivered, the receiver did not take and acknowledge the records within {1:g} s;"
    " see the receiver's log, or, if it does not support acknowledgements, set acks to off"
)
_SLOW = "{0}: the receiver takes the records so slowly that {1:g} s are not enough; see the receiver's log"


class _Message(NamedTuple):
    tag: str
    packed: bytes
    records: int
    start: int  # how many records come before it in its send()


class Sender:
    """Delivers to one receiver, over a connection it keeps and renews.

    acks: `require`: a message is delivered once the receiver has acknowledged it. `off`: once the receiver has read it
    all, over a unix socket, or once it is written, over TCP. `auto`: as `off` where the Azure Monitor Agent is at the
    other end of a unix socket, since whether it acknowledges is unknown; as `require` for every other receiver.
    `deadline`: seconds for each message with all that it needs, such as a new connection; may be set anew at any time.
    `turn`: seconds, from now on, after which no further message is begun: send() then raises TurnOver.
    `silence`: seconds without any progress (bytes taken, messages acknowledged) after which it is given up before that.

    A busy receiver lets its senders wait before it takes anything from them. So the first message is small, and the
    others are while acknowledgements take long: when the wait is in vain, little is sent again.
    """

    def __init__(
        self,
        address: Address,
        allowed_users: Iterable[str] = AMA_USERS,
        acks: str = "auto",
        deadline: float = 120.0,
        silence: float = 10.0,
        tls: Optional[Tls] = None,
        turn: float = math.inf,
    ) -> None:
        if acks not in ACKS:
            raise ValueError("acks: one of " + ", ".join(ACKS))
        self._address = address
        self._allowed_users = list(allowed_users)
        self._acks = acks
        self.deadline = deadline
        self._silence = silence
        self._tls = tls
        self._turn = turn
        self._turn_end = time.monotonic() + turn
        self._unix = address.scheme in ("abstract", "file")
        self._ask = acks != "off"  # what is at the other end now for acks
        self._records = FIRST_RECORDS if self._ask else RECORDS  # of the next message
        self._socket: Optional[socket.socket] = None
        self._unpacker = Unpacker(_ACK_BYTES)
        self._pending: Dict[str, _Message] = {}  # messages of this send() by their chunks, until delivered
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
        `taken` of the error says how many entries were delivered; some of the others may have been, and arrive twice when they are sent again.
        """
        self._pending.clear()
        acknowledged = True
        done = 0
        try:
            while done < len(entries):
                for packed, count in pack_batches(entries[done : done + self._records]):  # noqa: E203
                    # The receiver works on one while we make the next, once it has shown that it keeps up.
                    ahead = _AHEAD if self._records == RECORDS and done + count < len(entries) else 0
                    acknowledged = self._deliver(_Message(tag, packed, count, done), ahead) and acknowledged
                    done += count
        except ForwardError as error:
            error.taken = min([done, *(message.start for message in self._pending.values())])
            raise
        return acknowledged

    def _deliver(self, new: "_Message", ahead: int) -> bool:
        """Send, and wait until at most `ahead` messages are not acknowledged. Whether the others are."""
        if time.monotonic() >= self._turn_end:
            raise TurnOver(_SLOW.format(self._address, self._turn))
        until = Deadline(self.deadline, self._silence)
        chunk = new_chunk()
        self._pending[chunk] = new
        reason = ""
        for _attempt in range(2):
            try:
                sock, unsent = self._socket, [chunk]
                if sock is None:
                    sock = self._connect(until)
                    unsent = list(self._pending)
                if not self._ask:
                    until = Deadline(min(until.left(), UNACKED_SECONDS))
                self._catch_up(sock, until)
                started = time.monotonic()
                for one in unsent:
                    self._write(sock, one, until)
                if not self._ask:
                    return self._await_taken(sock, until)
                self._await_acks(sock, ahead, until)
                most = RECORDS if time.monotonic() - started < QUICK_SECONDS else CROWD_RECORDS
                self._records = min(self._records * GROWTH, most)
                return True
            except socket.timeout:
                self.close()
                seconds = min(self.deadline, self._silence if self._ask else UNACKED_SECONDS)
                raise ForwardError(_HANGS.format(self._address, seconds)) from None
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
        until.progress()
        self._unpacker = Unpacker(_ACK_BYTES)
        self._asked.clear()
        self._ask = self._acks == "require" or (self._acks == "auto" and not (self._unix and is_ama(sock)))
        self._records = FIRST_RECORDS if self._ask else RECORDS
        return sock

    def _write(self, sock: socket.socket, chunk: str, until: Deadline) -> None:
        tag, packed, count, _start = self._pending[chunk]
        if self._ask:
            self._asked.add(chunk)
        rest = memoryview(message(tag, packed, count, chunk if self._ask else ""))
        while rest:  # not sendall: over TLS it grants every piece the whole time
            until.limit(sock)
            rest = rest[sock.send(rest) :]  # noqa: E203
            until.progress()

    def _catch_up(self, sock: socket.socket, until: Deadline) -> None:
        """Notice a connection that was closed meanwhile, for a write to it may succeed all the same; and late acks."""
        try:
            if _readable(sock, 0):
                self._read_acks(sock, 0.001, until)
        except socket.timeout:
            pass  # TLS has bytes of its own, such as session tickets

    def _await_acks(self, sock: socket.socket, ahead: int, until: Deadline) -> None:
        while len(self._pending) > ahead:
            self._read_acks(sock, until.left(), until)

    def _await_taken(self, sock: socket.socket, until: Deadline) -> bool:
        """Until a unix socket's other end has read all of it; that is no acknowledgement, hence False."""
        pause = 0.0
        while self._unix:
            taken = not struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]
            self._catch_up(sock, until)  # after the look at the queue, which a close empties, too
            if taken:
                break
            until.limit(sock)
            pause = min(pause + 0.0005, 0.02)
            _readable(sock, pause)
        self._pending.clear()
        return False

    def _read_acks(self, sock: socket.socket, seconds: float, until: Deadline) -> None:
        """What comes within `seconds`, one read of it. A complete ack is progress, a piece of one is not."""
        if seconds <= 0:
            raise socket.timeout("timed out")
        sock.settimeout(seconds)
        data = sock.recv(_ACK_BYTES)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the receiver")
        self._unpacker.feed(data)
        for value in self._unpacker:
            chunk = value.get("ack") if isinstance(value, dict) else None
            if not isinstance(chunk, str) or chunk not in self._asked:
                raise FormatError("it names no message we sent")
            self._asked.remove(chunk)
            self._pending.pop(chunk, None)
            until.progress()


def _readable(sock: socket.socket, seconds: float) -> bool:
    poll = select.poll()  # select.select cannot watch a descriptor above 1023
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
