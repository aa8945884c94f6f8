# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Limits the time that SQLite computes, or waits."""

import sqlite3
import time

READ_SECONDS = 60.0  # for all that SQLite computes for one connection
_STEPS = 10000  # of SQLite's virtual machine between two looks at the clock


def limit_time(db: sqlite3.Connection, seconds: float = READ_SECONDS) -> None:
    """Interrupt what the connection computes after that time, with an sqlite3.OperationalError."""
    until = time.monotonic() + seconds
    db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)


def enable_wal(db: sqlite3.Connection, seconds: float) -> None:
    """Let others read while one writes, from now on (https://sqlite.org/wal.html). For this, SQLite itself does not wait for others."""
    until = time.monotonic() + seconds
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
