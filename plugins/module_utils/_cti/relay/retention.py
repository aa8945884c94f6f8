# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Deletes old rows from the tables, and moves the rows of tables of version 0.1.

Age is the number of days on which a table got rows, in the order of arrival. So neither a clock that is set, of a host or
of the relay, nor a time without a relay makes rows old.
"""

import sqlite3
import time
from typing import Dict

from .tables import TABLES

KEEP_DAYS = 400
SLICE = 5000  # minimum number of rows to delete at a time, so that an upload does not wait for those of a whole day
MOVED = 20000  # rows of a table of version 0.1 to move at a time
_OLD = "%s_0_1"
_AGING = (*(table.name for table in TABLES), "Inventories")
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS ReceivedDays"
    " (TableName TEXT NOT NULL, Day TEXT NOT NULL, FirstRow INTEGER NOT NULL, UNIQUE (TableName, Day))",
    "CREATE TABLE IF NOT EXISTS Moved (TableName TEXT PRIMARY KEY NOT NULL, LastRow INTEGER NOT NULL)",
)


def prepare(db: sqlite3.Connection) -> None:
    """Before the tables are created: rename those of version 0.1, whose primary key made large tables slow."""
    for statement in _SCHEMA:
        db.execute(statement)
    for table in TABLES:
        columns = db.execute("PRAGMA table_info(%s)" % table.name).fetchall()
        if any(name == "RecordId" and is_key for _number, name, _type, _null, _default, is_key in columns):
            db.execute("BEGIN IMMEDIATE")
            db.execute("ALTER TABLE %s RENAME TO %s" % (table.name, _OLD % table.name))
            db.execute("INSERT INTO Moved VALUES (?, -1)", (table.name,))
            db.execute("COMMIT")


def move_old_rows(db: sqlite3.Connection) -> None:
    """Move the rows of tables that prepare() renamed, in several transactions, so that it can continue after an interruption."""
    for name, last in db.execute("SELECT TableName, LastRow FROM Moved").fetchall():
        old = _OLD % name
        present = {row[1] for row in db.execute("PRAGMA table_info(%s)" % name)}
        names = [row[1] for row in db.execute("PRAGMA table_info(%s)" % old) if row[1] in present]
        columns = ", ".join('"%s"' % column for column in names)
        while last is not None:
            end = "SELECT max(r) FROM (SELECT rowid AS r FROM %s WHERE rowid > ? ORDER BY rowid LIMIT %d)" % (
                old,
                MOVED,
            )
            db.execute("BEGIN IMMEDIATE")
            before, (following,) = newest_rows(db), db.execute(end, (last,)).fetchone()
            if following is None:
                db.execute("DROP TABLE %s" % old)
                db.execute("DELETE FROM Moved WHERE TableName = ?", (name,))
            else:
                db.execute(
                    "INSERT OR IGNORE INTO %s (%s) SELECT %s FROM %s WHERE rowid > ? AND rowid <= ? ORDER BY rowid"
                    % (name, columns, columns, old),
                    (last, following),
                )
                note_day(db, before)
                db.execute("UPDATE Moved SET LastRow = ? WHERE TableName = ?", (following, name))
            db.execute("COMMIT")
            last = following


def newest_rows(db: sqlite3.Connection) -> Dict[str, int]:
    """The highest rowid of each table. New rows get higher ones, and the newest rows are never deleted."""
    query = "SELECT coalesce(max(rowid), 0) FROM "
    return {name: db.execute(query + name).fetchone()[0] for name in _AGING}


def note_day(db: sqlite3.Connection, before: Dict[str, int]) -> int:
    """Record which tables got their first rows of today since newest_rows(). Returns the number of new rows."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    total = 0
    for name, newest in newest_rows(db).items():
        if newest > before[name]:
            total += newest - before[name]
            db.execute("INSERT OR IGNORE INTO ReceivedDays VALUES (?, ?, ?)", (name, day, before[name] + 1))
    return total


def delete_old_rows(db: sqlite3.Connection, keep_days: int, arrived: int) -> None:
    """Delete some of the rows that are older than `keep_days`: more than the `arrived` new ones, so that it catches up."""
    limit = max(SLICE, 2 * arrived)
    for name in _AGING:
        kept = "SELECT rowid, FirstRow FROM ReceivedDays WHERE TableName = ? ORDER BY rowid DESC LIMIT 1 OFFSET ?"
        for day, first in db.execute(kept, (name, keep_days)).fetchall():
            old = "SELECT rowid FROM %s WHERE rowid < ? ORDER BY rowid LIMIT ?" % name
            deleted = db.execute("DELETE FROM %s WHERE rowid IN (%s)" % (name, old), (first, limit)).rowcount
            if deleted < limit:
                db.execute("DELETE FROM ReceivedDays WHERE TableName = ? AND rowid < ?", (name, day))
