# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The connection of one client: what arrived of its message, and what is left to send of the answers."""

import selectors
import socket
import time
from typing import Iterable, List, NamedTuple, Optional, Tuple

from ..wire.msgpack import Unpacker
from .segments import Encoder, Entry


class Client(NamedTuple):
    """Who connected, and where: `peer` is what clients that share a place in the queue have in common, from the general
    to the particular: the kind of listener, then the user and the process, or the network address."""

    sock: socket.socket
    name: str  # what an operator calls it
    kind: str
    peer: Tuple[str, ...]


class Work(NamedTuple):
    """A message whose records are being encoded as lines, over several turns if there are many."""

    tag: str
    chunk: str
    entries: Iterable[Entry]
    encoder: Encoder
    weight: int = 0  # bytes of memory that the message may take, besides its lines


class Connection:
    """A connection. The relay reads nothing from a client that does not take its answers, so these cannot pile up."""

    def __init__(self, client: Client, unpacker: Unpacker) -> None:
        self.sock = client.sock
        self.name = client.name
        self.kind = client.kind
        self.peer = client.peer
        self.unpacker = unpacker
        self.served = 0  # rises with each turn that it had
        self.closed = False
        self.ended = False  # the client will send no more
        self.paused = False
        self.handshaking = hasattr(client.sock, "do_handshake")
        self.in_record = False  # OpenSSL holds the beginning of a TLS record, in a buffer for a whole one
        self.spoken = False  # has sent a whole message
        self.work: Optional[Work] = None  # its message that is being read
        self.held = 0  # bytes of a half message, as they were counted last
        self.opened = self.heard = time.monotonic()  # when it connected, and when it last sent something
        self.since: Optional[float] = None  # since when it owes us the rest of a message, or takes no answer
        self._out: List[memoryview] = []
        self._events = 0  # what the selector watches for
        self.wants_write = False  # TLS does, before it reads on: in the handshake, or to answer a change of keys
        self.sock.setblocking(False)

    @property
    def drained(self) -> bool:
        return not self._out

    @property
    def owes(self) -> bool:
        """Whether the relay waits for the client, to finish a message or to take an answer."""
        return bool(self._out or self.wants_write or len(self.unpacker)) and self.work is None

    def receive(self, limit: int) -> int:
        """Read up to `limit` bytes into the unpacker. Returns their number. Raises OSError if the connection is broken."""
        waited, self.wants_write = self.wants_write, False
        if waited and not self.owes:
            self.since = None
        try:
            if self.handshaking:
                self.sock.do_handshake()  # type: ignore[attr-defined]
                self.handshaking = False
                return 0  # what follows is still in the kernel, and the selector says whether something does
            data = self.sock.recv(limit)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if not _would_block(error):
                raise
            self.wants_write = type(error).__name__ == "SSLWantWriteError"
            if not (self.handshaking or waited or self.wants_write):
                self.in_record = True  # because something came
            return 0
        self.in_record = False
        pending = getattr(self.sock, "pending", None)  # TLS: the selector does not see what is decrypted already
        while data and pending is not None and pending():
            data += self.sock.recv(pending())
        self.ended = not data
        if data:
            self.unpacker.feed(data)
        return len(data)

    def send(self, data: bytes) -> None:
        """Queue data, which flush() sends."""
        self._out.append(memoryview(data))

    def flush(self) -> None:
        """Send queued data, as much as the client takes. Raises OSError if the connection is broken."""
        while self._out:
            try:
                sent = self.sock.send(self._out[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if _would_block(error):
                    return
                raise
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
            else:
                del self._out[0]

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Register the events to wait for next."""
        reading = 0 if self.paused or self.ended else selectors.EVENT_READ
        wanted = selectors.EVENT_WRITE if self._out or self.wants_write else reading
        if wanted == self._events:
            return
        if not self._events:
            selector.register(self.sock, wanted, self)
        elif wanted:
            selector.modify(self.sock, wanted, self)
        else:
            selector.unregister(self.sock)
        self._events = wanted

    def close(self, selector: selectors.BaseSelector) -> None:
        if self._events:
            selector.unregister(self.sock)
        self._events = 0
        self._out.clear()
        self.work = (
            None  # whose encoder refers to this connection: the lines would stay until the garbage collector runs
        )
        self.closed = True
        self.sock.close()


def _would_block(error: OSError) -> bool:
    """Of a TLS connection (ssl.SSLWantReadError); its module is imported only where TLS is used."""
    return type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")
