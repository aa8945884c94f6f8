# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""An SQLite database that somebody else may write: what it holds is checked before it is read, and reading it ends."""

import re
import sqlite3
from typing import Iterable

from .sqlite_time import limit_time

WAIT_SECONDS = 5.0  # for a lock
VALUE_BYTES = 256 << 20  # of one value
HEAP_BYTES = 640 << 20  # of SQLite in this process; a version before 3.31 knows no such limit
_INTEGERS = "BETWEEN 0 AND %d" % (1 << 45)  # no time, count or size that we store is outside of this
_UNREAD = ("set_aside",)
_TYPES = {"INTEGER": "integer", "TEXT": "text", "BLOB": "blob"}
_COLUMN = r"(\w+) (INTEGER|TEXT|BLOB)( PRIMARY KEY| NOT NULL)?"


def restrict(db: sqlite3.Connection) -> None:
    """Limit how long SQLite computes and waits, and what its schema may call."""
    limit_time(db)
    db.execute("PRAGMA busy_timeout = %d" % (WAIT_SECONDS * 1000))
    db.execute("PRAGMA trusted_schema = OFF")


def check_state(db: sqlite3.Connection, schema: Iterable[str]) -> None:
    """Check that the database holds the tables that the statements of `schema` make and nothing else, and in them only values of
    the declared types within limits. Raises ValueError, MemoryError and sqlite3.Error.

    A view or a computed column can run for ever, and a text where a number is expected is a defect in whoever reads it.
    """
    db.execute("PRAGMA hard_heap_limit = %d" % HEAP_BYTES)
    expected = {" ".join(text.split()) for script in schema for text in script.split(";") if "CREATE TABLE" in text}
    rows = db.execute("SELECT type, substr(name, 1, 80), substr(sql, 1, 4096) FROM sqlite_master LIMIT 100").fetchall()
    for kind, name, text in rows:
        text = " ".join(str(text).split())
        if (kind, text) == ("index", "None") or text == "CREATE TABLE sqlite_sequence(name,seq)":
            continue  # what SQLite makes for the tables
        if kind != "table" or text not in expected or len(rows) == 100:
            raise ValueError("its %s '%s' is not one that this collection makes" % (kind, name))
        table = text.split()[2]
        for column, declared, constraint in re.findall(_COLUMN, text) if table not in _UNREAD else ():
            _check_column(db, table, column, declared, bool(constraint))


def _check_column(db: sqlite3.Connection, table: str, column: str, declared: str, required: bool) -> None:
    within = (
        "%s %s" % (column, _INTEGERS)
        if declared == "INTEGER"
        else "length(%s) <= %d" % (column if declared == "BLOB" else "CAST(%s AS BLOB)" % column, VALUE_BYTES)
    )
    good = "typeof(%s) = '%s' AND %s" % (column, _TYPES[declared], within)
    if not required:
        good = "(%s IS NULL OR (%s))" % (column, good)
    if db.execute("SELECT 1 FROM %s WHERE NOT (%s) LIMIT 1" % (table, good)).fetchone():
        raise ValueError(
            "a value in the column %s of its table %s is not of the type or size it should be" % (column, table)
        )
