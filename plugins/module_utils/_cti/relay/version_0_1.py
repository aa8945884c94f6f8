# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Moves the rows of a relay's database of version 0.1, an SQLite file with tables where the fleet store has views.

Several transactions, so that it can continue after an interruption.
"""

import json
import os
from typing import Any, Callable, Dict, Iterable, List

from ..fleet.sqlite import Sqlite
from ..fleet.store import Store, is_url, path_of
from ..fleet.transaction import Transaction
from .segments import Entry

MOVED = 20000  # rows to move in one transaction
TABLES = ("ConfigurationChange", "ConfigurationData", "OtherRecords")
_OLD = "%s_0_1"
_FORMER = ("Inventories", "ReceivedDays", "Moved")  # of versions before the fleet store

Add = Callable[[Transaction, str, Iterable[List[Entry]]], int]


def rename_tables(where: str) -> None:
    """Before the store is opened: rename the tables whose names the store needs. Raises FleetError."""
    path = path_of(where)
    if is_url(where) or not os.path.isfile(path):
        return
    db = Sqlite(path, write=True)
    try:
        db.begin(write=True)
        tables = {name for (name,) in db.fetch("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "meta" in tables or not tables & set(TABLES):
            return
        db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
        for name in TABLES:
            if name in tables and _OLD % name not in tables:
                sql = "SELECT name FROM sqlite_master WHERE tbl_name = ? AND type = 'index' AND sql <> ''"
                for (index,) in list(db.fetch(sql, (name,))):
                    db.execute('DROP INDEX "%s"' % index)
                db.execute("ALTER TABLE %s RENAME TO %s" % (name, _OLD % name))
        for name in _FORMER:
            db.execute("DROP TABLE IF EXISTS %s" % name)
        db.execute("COMMIT")
    finally:
        db.rollback()
        db.close()


def move_rows(store: Store, add: Add) -> None:
    """Move the rows of the tables that rename_tables() renamed. Raises FleetError."""
    if not store.is_file:
        return
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%@_0@_1' ESCAPE '@'"
    for (old,) in store.query(sql):
        while True:
            with store.writing() as transaction:
                rows = list(store.rows("SELECT rowid AS OldRow, * FROM %s ORDER BY rowid LIMIT %d" % (old, MOVED)))
                if not rows:
                    transaction.execute("DROP TABLE " + old)
                    break
                streams: Dict[str, List[Entry]] = {}
                for row in rows:
                    streams.setdefault(str(row.get("Stream") or ""), []).append((0, _record(old, row)))
                for stream, entries in streams.items():
                    add(transaction, stream, [entries])
                transaction.execute("DELETE FROM %s WHERE rowid <= ?" % old, rows[-1]["OldRow"])


def _record(old: str, row: Dict[str, Any]) -> Dict[str, Any]:
    """The record that a row was made of."""
    more = row.pop("AdditionalColumns", None)
    record = {name: value for name, value in row.items() if name not in ("OldRow", "Stream") and value is not None}
    try:
        record.update(json.loads(more) if more else {})
    except ValueError:
        pass
    if old.startswith("ConfigurationChange"):
        record.setdefault("ConfigChangeType", "")
    elif old.startswith("ConfigurationData"):
        record.setdefault("ConfigDataType", "")
    return record
