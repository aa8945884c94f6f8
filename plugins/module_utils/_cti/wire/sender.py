# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Sends records to a receiver of the forward protocol: the Azure Monitor Agent (AMA), a relay, or another."""

import errno
import fcntl
import math
import select
import socket
import struct
import termios
import time
from typing import Callable, Dict, Iterable, NamedTuple, Optional, Sequence, Set

from ..errors import FormatError, ForwardError, TurnOver
from .address import Address
from .ama import AMA_USERS
from .forward import RECORDS, Entry, message, new_chunk, pack_batches
from .msgpack import Unpacker
from .sockets import Deadline, connect, is_ama
from .tls import Tls

ACKS = ("auto", "require", "off")
FIRST_RECORDS = 16  # in the first message of a connection; each acknowledged message allows a larger next one
GROWTH = 4  # factor by which messages grow, up to RECORDS
QUICK_SECONDS = 1.0  # a receiver that acknowledges within this time is not overloaded by its senders
CROWD_RECORDS = 64  # in a message to a slower receiver: every sender gets its turn, and little is held or sent again
UNACKED_SECONDS = 10  # for a message to a receiver that is not asked for acks; AMA's other senders allow as much
_AHEAD = 3  # messages, each near 1 MiB
_ACK_BYTES = 4096  # an ack is a map of one short text
_TIMED_OUT = (
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
    """Delivers records to one receiver, over a connection that it keeps open and renews when it breaks.

    acks: `require`: a message is delivered once the receiver has acknowledged it. `off`: once the receiver has read all of it
    (unix socket) or all of it is written (TCP). `auto`: as `off` where the Azure Monitor Agent is at the other end of a
    unix socket, since whether it acknowledges is unknown; as `require` for every other receiver.
    `deadline`: seconds for one message, including a new connection where one is needed; may be changed at any time.
    `silence`: seconds without progress (bytes written, messages acknowledged) after which a message fails before its deadline.
    `turn`: seconds, from now on, after which send() starts no further message and raises TurnOver.
    `check` gets each new connection, and raises ForwardError where nothing may be sent over it.

    A busy receiver lets its senders wait before it reads from them. So the first message is small, and so are the next ones
    as long as acknowledgements are slow: if the wait fails, little is sent again.
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
        check: Optional[Callable[[socket.socket], None]] = None,
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
        self._check = check
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
        """Deliver (unix seconds, record) pairs, oldest first. Returns whether the receiver acknowledged them all.

        What a broken connection leaves unacknowledged is sent again, once, over a new one. Raises ForwardError where that fails
        too: its `taken` is the number of entries that were delivered. Some of the others may have arrived, and arrive twice
        if they are sent again.
        """
        self._pending.clear()
        acknowledged = True
        done = 0
        try:
            while done < len(entries):
                for packed, count in pack_batches(entries[done : done + self._records]):  # noqa: E203
                    # The receiver works on one message while the next one is packed, once it has shown that it keeps up.
                    ahead = _AHEAD if self._records == RECORDS and done + count < len(entries) else 0
                    acknowledged = self._deliver(_Message(tag, packed, count, done), ahead) and acknowledged
                    done += count
        except ForwardError as error:
            error.taken = min([done, *(message.start for message in self._pending.values())])
            raise
        return acknowledged

    def _deliver(self, new: "_Message", ahead: int) -> bool:
        """Transmit a message, over a new connection if the present one breaks. Returns and raises as _transmit() and send() do."""
        if time.monotonic() >= self._turn_end:
            raise TurnOver(_SLOW.format(self._address, self._turn))
        until = Deadline(self.deadline, self._silence)
        chunk = new_chunk()
        self._pending[chunk] = new
        reason = ""
        for _attempt in range(2):
            try:
                return self._transmit(chunk, ahead, until)
            except socket.timeout:
                self.close()
                seconds = min(self.deadline, self._silence if self._ask else UNACKED_SECONDS)
                raise ForwardError(_TIMED_OUT.format(self._address, seconds)) from None
            except FormatError as error:
                reason = f"the receiver's ack is not valid: {error}"
            except OSError as error:
                reason = f"the connection broke: {error.strerror or error}"
            self.close()
        raise ForwardError(f"{self._address}: not delivered in two attempts, {reason}; see the receiver's log")

    def _transmit(self, chunk: str, ahead: int, until: Deadline) -> bool:
        """Write a message, and over a new connection all others that are pending. Then wait until at most `ahead` of them are
        not acknowledged. Returns whether the receiver acknowledges messages at all."""
        sock, unsent = self._socket, [chunk]
        if sock is None:
            sock = self._connect(until)
            unsent = list(self._pending)
        if not self._ask:
            until.shorten(UNACKED_SECONDS)
        self._read_late_acks(sock, until)
        started = time.monotonic()
        for one in unsent:
            self._write(sock, one, until)
        if not self._ask:
            self._await_read(sock, until)
            return False
        while len(self._pending) > ahead:
            self._read_acks(sock, until.left(), until)
        most = RECORDS if time.monotonic() - started < QUICK_SECONDS else CROWD_RECORDS
        self._records = min(self._records * GROWTH, most)
        return True

    def _connect(self, until: Deadline) -> socket.socket:
        sock = self._socket = connect(self._address, until.left(), self._allowed_users, self._tls)
        if self._check is not None:
            self._check(sock)
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
        while rest:  # not sendall(): over TLS it allows each piece the whole timeout
            until.limit(sock)
            rest = rest[sock.send(rest) :]  # noqa: E203
            until.progress()

    def _read_late_acks(self, sock: socket.socket, until: Deadline) -> None:
        """Read what has arrived. Raises OSError where the receiver closed the connection: a write to it may succeed nevertheless."""
        try:
            if _readable(sock, 0):
                self._read_acks(sock, 0.001, until)
        except socket.timeout:
            pass  # TLS has bytes of its own, such as session tickets

    def _await_read(self, sock: socket.socket, until: Deadline) -> None:
        """Wait until the other end of a unix socket has read all that was written; over TCP that is unknown."""
        pause = 0.0
        while self._unix:
            unread = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]
            self._read_late_acks(sock, until)  # after the queue was measured: a close empties it too
            if not unread:
                break
            until.limit(sock)
            pause = min(pause + 0.0005, 0.02)
            _readable(sock, pause)
        self._pending.clear()

    def _read_acks(self, sock: socket.socket, seconds: float, until: Deadline) -> None:
        """Read once, waiting up to `seconds`. A complete ack counts as progress, a part of one does not."""
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
                raise FormatError("it names no message that was sent over this connection")
            self._asked.remove(chunk)
            self._pending.pop(chunk, None)
            until.progress()


def _readable(sock: socket.socket, seconds: float) -> bool:
    poll = select.poll()  # select.select cannot watch a descriptor above 1023
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
