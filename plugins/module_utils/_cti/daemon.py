# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What a program that runs as a service needs: a log with levels, and sd_notify(3)."""

import os
import socket
import sys
import time
from typing import Callable, Mapping, Optional, TextIO

from .text import line, plural

VERSION = "0.1.0"  # as in galaxy.yml
ERROR, WARNING, INFO = 3, 4, 6  # levels of syslog, which sd-daemon(3) writes as <3> in front of a line
CLIENT_LINES_A_MINUTE = 30


class Log:
    """Writes one line per event: call it for information, or use warning() and error(). It never fails.

    Lines have their level in front where the stream is the journal, which stores it as the priority (`journalctl -p err`),
    and the time everywhere else.
    """

    def __init__(self, stream: Optional[TextIO] = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._monotonic = monotonic
        self._to_journal = _is_journal(self._stream)
        self._minute = 0
        self._client_lines = 0

    def __call__(self, text: str, level: int = INFO) -> None:
        start = f"<{level}>" if self._to_journal else time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime())
        entry = f"{start}{line(text)}\n"
        try:
            self._stream.write(entry.encode("ascii", "backslashreplace").decode("ascii"))
            self._stream.flush()
        except (OSError, ValueError):
            pass

    def warning(self, text: str) -> None:
        """Something is wrong, and the program goes on with its work or tries again by itself."""
        self(text, WARNING)

    def error(self, text: str) -> None:
        """A part of the work is not done until somebody acts, or something was lost."""
        self(text, ERROR)

    def about_client(self, text: str, level: int = WARNING) -> None:
        """Write a line that a client can cause: at most CLIENT_LINES_A_MINUTE, then the number of the others."""
        minute = int(self._monotonic() // 60)
        if minute != self._minute:
            if self._client_lines > CLIENT_LINES_A_MINUTE:
                left_out = self._client_lines - CLIENT_LINES_A_MINUTE
                self.warning(f"Not logged: {plural(left_out, 'more message')} about clients.")
            self._minute, self._client_lines = minute, 0
        self._client_lines += 1
        if self._client_lines <= CLIENT_LINES_A_MINUTE:
            self(text, level)


def print_error(program: str, error: Exception) -> None:
    """Write why a program ends to stderr, on one line."""
    level = f"<{ERROR}>" if _is_journal(sys.stderr) else ""
    sys.stderr.write(f"{level}{program}: {line(str(error))}\n")


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream is connected to the journal, see JOURNAL_STREAM in systemd.exec(5)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Notifier:
    """Sends states to the service manager as sd_notify(3) does; nothing where NOTIFY_SOCKET is not set."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds: Optional[float] = None  # notify() at least that often
        try:
            limit = int(environment.get("WATCHDOG_USEC", "0"))
            meant = int(environment.get("WATCHDOG_PID", str(os.getpid()))) == os.getpid()
        except ValueError:
            return
        if limit > 0 and meant:
            self.watchdog_seconds = limit / 2000000.0

    def notify(self, state: str) -> None:
        """Send a state such as READY=1, WATCHDOG=1, STOPPING=1 or STATUS=..."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                peer.setblocking(False)
                peer.sendto(state.encode("utf-8"), address)
        except OSError:
            pass
