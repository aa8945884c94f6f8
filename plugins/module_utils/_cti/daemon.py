# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What a program that runs as a service needs: a log of one line an event, and a word to the service manager."""

import os
import socket
import sys
import time
from typing import Callable, Mapping, Optional, TextIO

from .text import line

VERSION = "0.1.0"  # as in galaxy.yml
COMPLAINTS_A_MINUTE = 30


class Log:
    """Call it with a line. It never fails: a program whose log is gone goes on."""

    def __init__(self, stream: Optional[TextIO] = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._monotonic = monotonic
        self._stamped = "JOURNAL_STREAM" not in os.environ  # the journal has its own time
        self._minute = 0
        self._complaints = 0

    def __call__(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) if self._stamped else ""
        entry = stamp + line(text) + "\n"
        try:
            self._stream.write(entry.encode("ascii", "backslashreplace").decode("ascii"))
            self._stream.flush()
        except (OSError, ValueError):
            pass

    def complaint(self, text: str) -> None:
        """A line that a client can cause: only so many a minute, then their number."""
        minute = int(self._monotonic() // 60)
        if minute != self._minute:
            if self._complaints > COMPLAINTS_A_MINUTE:
                self("%d more complaints about clients were not logged." % (self._complaints - COMPLAINTS_A_MINUTE))
            self._minute, self._complaints = minute, 0
        self._complaints += 1
        if self._complaints <= COMPLAINTS_A_MINUTE:
            self(text)


class Notifier:
    """sd_notify(3); says nothing where no service manager asked for it."""

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
