# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""ConfigurationData and ConfigurationChange as SQLite tables, and records as their rows."""

import hashlib
import json
import sqlite3
from typing import Any, List, NamedTuple, Tuple

from ..records import CHANGE_COLUMNS, DATA_COLUMNS, INTEGER_COLUMNS, RECORD_ID, TIME, timestamp
from .segments import Entry

Row = Tuple[Any, ...]


class Table(NamedTuple):
    """`marker` is the column whose presence says that a record belongs here; what has none goes where it is empty."""

    name: str
    marker: str
    columns: Tuple[str, ...]  # documented ones; all others of a record go into AdditionalColumns, as JSON


DATA = Table("ConfigurationData", "ConfigDataType", DATA_COLUMNS)
CHANGE = Table("ConfigurationChange", "ConfigChangeType", CHANGE_COLUMNS)
OTHER = Table("OtherRecords", "", (TIME,))
TABLES = (CHANGE, DATA, OTHER)


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables, or add the columns that one made earlier has not."""
    for table in TABLES:
        columns = ['"%s" %s' % (name, "INTEGER" if name in INTEGER_COLUMNS else "TEXT") for name in table.columns]
        db.execute(
            "CREATE TABLE IF NOT EXISTS %s "
            "(RecordId TEXT PRIMARY KEY NOT NULL, Stream TEXT NOT NULL, %s, AdditionalColumns TEXT)"
            % (table.name, ", ".join(columns))
        )
        present = {row[1] for row in db.execute("PRAGMA table_info(%s)" % table.name)}
        for name, column in zip(table.columns, columns):
            if name not in present:
                db.execute("ALTER TABLE %s ADD COLUMN %s" % (table.name, column))


class Plan(NamedTuple):
    """How records with the same keys become rows; there are few such sets of keys, and many records."""

    statement: str  # leaves a record that is there already as it is
    columns: Tuple[str, ...]
    others: Tuple[str, ...]
    timed: bool  # the record says itself when it was made


def plan(keys: Tuple[str, ...]) -> Plan:
    table = next((table for table in (CHANGE, DATA) if table.marker in keys), OTHER)
    columns = tuple(key for key in keys if key in table.columns)
    others = tuple(key for key in keys if key not in table.columns and key != RECORD_ID)
    names = ["RecordId", "Stream", *['"%s"' % name for name in columns]]
    if TIME not in columns:
        names.append('"%s"' % TIME)
    if others:
        names.append("AdditionalColumns")
    statement = "INSERT OR IGNORE INTO %s (%s) VALUES (%s)" % (
        table.name,
        ", ".join(names),
        ", ".join("?" * len(names)),
    )
    return Plan(statement, columns, others, TIME in columns)


def row(plan: Plan, stream: str, entry: Entry) -> Row:
    """The record's values, in the order of the plan's statement."""
    seconds, record = entry
    values: List[Any] = [record_id(stream, entry), stream]
    for name in plan.columns:
        value = record[name]
        values.append(value if value is None or isinstance(value, str) else json.dumps(value))
    if not plan.timed:
        values.append(timestamp(seconds) or str(seconds))
    if plan.others:
        values.append(json.dumps({name: record[name] for name in plan.others}, sort_keys=True))
    return tuple(values)


def printable(row: Row) -> Row:
    """SQLite takes no lone surrogate."""
    return tuple(None if value is None else value.encode("utf-8", "backslashreplace").decode("utf-8") for value in row)


def record_id(stream: str, entry: Entry) -> str:
    """Its own, or a hash of what it holds: the same record, delivered again, has the same."""
    own = entry[1].get(RECORD_ID)
    if isinstance(own, str) and own:
        return own
    text = json.dumps([stream, entry], sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()
