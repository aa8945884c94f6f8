# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""One client's connection: what it has sent of a message, what it has yet to take of our answers."""

import collections
import selectors
import socket
from typing import Deque, Optional

from ..ama.msgpack import Unpacker


class Connection:
    """Nothing is read from a client that has not taken its answers, so these cannot pile up."""

    def __init__(self, sock: socket.socket, name: str, unpacker: Unpacker, config: bool) -> None:
        self.sock = sock
        self.name = name  # what an operator calls it
        self.unpacker = unpacker
        self.config = config  # asks for configuration; else it brings records
        self.closed = False
        self.ended = False  # the client will send no more
        self.paused = False
        self.held = 0  # bytes of a half message, as the relay has counted them
        self.heard = 0.0  # when it last sent something while we listened
        self.since: Optional[float] = None  # since when it owes us the rest of a message, or takes no answer
        self._out: Deque[memoryview] = collections.deque()
        self._events = 0  # what the selector watches for
        sock.setblocking(False)

    @property
    def owes(self) -> bool:
        """Whether the other side is to move: to finish a message, or to take an answer."""
        return bool(self._out or len(self.unpacker))

    @property
    def drained(self) -> bool:
        return not self._out

    def receive(self, limit: int) -> int:
        """Feed the unpacker; the number of bytes. OSError: the connection is broken."""
        try:
            data = self.sock.recv(limit)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if _would_block(error):
                return 0
            raise
        pending = getattr(self.sock, "pending", None)  # TLS: the selector does not see what is decrypted already
        while data and pending is not None and pending():
            data += self.sock.recv(pending())
        self.ended = not data
        if data:
            self.unpacker.feed(data)
        return len(data)

    def send(self, data: bytes) -> None:
        """Once flush() is called and the client takes it."""
        self._out.append(memoryview(data))

    def flush(self) -> None:
        """Send what the client takes. OSError: the connection is broken."""
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
                self._out.popleft()

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have the selector look for what is wanted next."""
        reading = 0 if self.paused or self.ended else selectors.EVENT_READ
        wanted = selectors.EVENT_WRITE if self._out else reading
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
        self.closed = True
        self.sock.close()


def _would_block(error: OSError) -> bool:
    """Of a TLS connection (ssl.SSLWantReadError); its module is imported only where TLS is used."""
    return type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")
