# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Empties a state database that came to this machine as a copy, such as with the image of a virtual machine."""

import sqlite3
from typing import Callable, Mapping, Optional

from .aside import set_aside


def empty(db: sqlite3.Connection, machine: Mapping[str, Optional[str]], is_foreign: Callable[[], bool]) -> None:
    """Make the database that of `machine`, see host.identity(): without items and history, and with the undelivered records set aside.
    `is_foreign` says whether that is still to be done, once no other process can write."""
    db.execute("BEGIN IMMEDIATE")
    try:
        if is_foreign():  # no other process came first
            set_aside(db, "outbox", "of another machine", "SELECT records FROM outbox ORDER BY id")
            for table in ("part", "run", "outcome", "inventory", "outbox", "history", "content"):
                db.execute("DELETE FROM %s" % table)
            db.execute(
                "UPDATE state SET id = lower(hex(randomblob(16))), computer = ?, vm = ?, last = 0, mark = '', clock = 0,"
                " seen_at = 0, dropped_at = 0",
                (machine["SourceComputerId"] or "", machine["VMUUID"]),
            )
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
