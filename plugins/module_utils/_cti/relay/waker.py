# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A wait that another thread, or a signal, can end."""

import selectors
import socket


class Waker:
    """Ends the selector's wait, from another thread or a signal handler."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._reader, self.writer = socket.socketpair()
        self._reader.setblocking(False)
        self.writer.setblocking(False)
        selector.register(self._reader, selectors.EVENT_READ, self)

    def wake(self) -> None:
        try:
            self.writer.send(b"\0")
        except BlockingIOError:  # it is being woken already
            pass

    def drain(self) -> None:
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass
