# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Sets aside what is damaged in a state database."""

import sqlite3
import time
from typing import Any, Sequence

ASIDE_BYTES = 64 << 20  # of the rows that are set aside


def set_aside(db: sqlite3.Connection, source: str, reason: str, contents: str, values: Sequence[Any] = ()) -> None:
    """Copy the blobs that the query `contents` selects from the table `source` to where whoever looks into the damage finds
    them. The caller deletes the rows. Beyond ASIDE_BYTES the oldest go."""
    statement = "INSERT INTO set_aside (source, at, reason, content) SELECT ?, ?, ?, * FROM (%s)" % contents
    db.execute(statement, (source, int(time.time()), reason, *values))
    size = 0
    for row, length in db.execute("SELECT id, length(content) FROM set_aside ORDER BY id DESC").fetchall():
        size += length or 0
        if size > ASIDE_BYTES:
            db.execute("DELETE FROM set_aside WHERE id <= ?", (row,))
            return
