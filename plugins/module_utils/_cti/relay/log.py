# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The relay's log: one line an event, to standard error."""

import os
import sys
import time
from typing import Callable, Optional, TextIO

COMPLAINTS_A_MINUTE = 30


def one_line(text: str) -> str:
    """Text of unknown origin, which can neither end the line nor reach the terminal's controls."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\\x%02x" % ord(char) for char in text)


class Log:
    """Call it with a line. It never fails: a relay whose log is gone goes on."""

    def __init__(self, stream: Optional[TextIO] = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._monotonic = monotonic
        self._stamped = "JOURNAL_STREAM" not in os.environ  # the journal has its own time
        self._minute = 0
        self._complaints = 0

    def __call__(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) if self._stamped else ""
        line = stamp + one_line(text) + "\n"
        try:
            self._stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
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
