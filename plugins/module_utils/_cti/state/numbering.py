# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Brings the history of a state database from version 2 to version 3."""

import sqlite3
import time

from .aside import set_aside
from .history import KEEP, ROOT, append, rows
from .packing import unpack


def number_history(db: sqlite3.Connection) -> None:
    """Number the changes that version 2 kept, and find out which machine's they are."""
    now, machines = int(time.time()), []
    for row, packed in db.execute("SELECT id, records FROM history_2 ORDER BY id").fetchall():
        try:
            records = [dict(record) for record in unpack(packed)]
            append(db, rows(records, ROOT) if records else (), KEEP, now)
            machines += [record.get("SourceComputerId") for record in records[-1:]]
        except (ValueError, TypeError) as error:
            set_aside(db, "history", str(error), "SELECT records FROM history_2 WHERE id = ?", (row,))
    for (packed,) in db.execute("SELECT records FROM outbox ORDER BY id DESC LIMIT 1").fetchall():
        try:
            machines += [dict(record).get("SourceComputerId") for record in unpack(packed)[-1:]]
        except (ValueError, TypeError):
            pass  # it is set aside when it is to be delivered
    db.execute("UPDATE state SET computer = ?, seen_at = 0", (machines[-1] if machines else None,))
    db.execute("DROP TABLE history_2")
