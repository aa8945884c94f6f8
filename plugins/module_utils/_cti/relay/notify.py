# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""sd_notify(3): telling the service manager that the relay is ready, alive, or stopping."""

import os
import socket
from typing import Mapping, Optional


class Notifier:
    """Says nothing where no service manager asked for it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds: Optional[float] = None  # tell() at least that often
        try:
            limit = int(environment.get("WATCHDOG_USEC", "0"))
            meant = int(environment.get("WATCHDOG_PID", str(os.getpid()))) == os.getpid()
        except ValueError:
            return
        if limit > 0 and meant:
            self.watchdog_seconds = limit / 2000000.0

    def tell(self, state: str) -> None:
        """`state` as READY=1, WATCHDOG=1, STOPPING=1 or STATUS=..."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                peer.setblocking(False)
                peer.sendto(state.encode("utf-8"), address)
        except OSError:
            pass
