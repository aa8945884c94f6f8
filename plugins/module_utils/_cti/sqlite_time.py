# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Limits the time that SQLite computes."""

import sqlite3
import time

READ_SECONDS = 60.0  # for all that SQLite computes for one connection
_STEPS = 10000  # of SQLite's virtual machine between two looks at the clock


def limit_time(db: sqlite3.Connection, seconds: float = READ_SECONDS) -> None:
    """Interrupt what the connection computes after that time, with an sqlite3.OperationalError."""
    until = time.monotonic() + seconds
    db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
