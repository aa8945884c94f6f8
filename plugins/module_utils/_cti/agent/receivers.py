# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Notices that another process took the place of the receiver at a unix socket, such as the Azure Monitor Agent that of the relay.

The tags of records are those of the rule, and only the receiver that has the rule knows them. So the rule is read again before records
are sent to another process.
"""

import socket
from typing import Optional

from ..errors import ForwardError
from ..wire.sockets import peer


class Receivers:
    def __init__(self) -> None:
        self.known: Optional[int] = None  # the process since whose first connection the rule was read
        self.seen: Optional[int] = None  # the process at the other end of the last connection

    @property
    def changed(self) -> bool:
        return self.seen != self.known

    def check(self, sock: socket.socket) -> None:
        """Raise ForwardError where the rule has to be read first."""
        self.seen = peer(sock).pid
        if self.changed:
            raise ForwardError("Another process than before listens at the socket; the rule is read again first")
