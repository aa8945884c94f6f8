# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The SQLite tables ConfigurationData and ConfigurationChange, and the rows for records."""

import hashlib
import json
import sqlite3
from typing import Any, List, NamedTuple, Tuple

from ..kinds.registry import all_kinds
from ..records import INTEGER_COLUMNS, INVENTORY_RECORDS, RECORD_ID, TIME, change_columns, data_columns
from ..text import timestamp
from .segments import Entry

Row = Tuple[Any, ...]


class Table(NamedTuple):
    """A table. `marker` is the column that a record of this table has; empty for the table of all other records."""

    name: str
    marker: str
    columns: Tuple[str, ...]  # as documented; other fields of a record go to AdditionalColumns as JSON
    indexes: Tuple[str, ...]  # the columns of each index


# No index starts with a random column such as RecordId. So new rows go to few pages, which stay in memory however large the
# table is. Rows arrive roughly in the order of TimeGenerated.
DATA = Table(
    "ConfigurationData",
    "ConfigDataType",
    data_columns(),
    ("Computer, ConfigDataType", "SoftwareName"),
)
CHANGE = Table(
    "ConfigurationChange",
    "ConfigChangeType",
    change_columns(),
    (
        "ConfigChangeType, TimeGenerated, ChangeCategory",
        "Computer, TimeGenerated",
        *("%s, TimeGenerated" % kind.columns[0] for kind in all_kinds().values()),
    ),
)
OTHER = Table("OtherRecords", "", (TIME,), ())
TABLES = (CHANGE, DATA, OTHER)


def prepare(db: sqlite3.Connection) -> None:
    """Create the tables, or add missing columns to existing ones. Raises sqlite3.Error."""
    for table in TABLES:
        columns = ['"%s" %s' % (name, "INTEGER" if name in INTEGER_COLUMNS else "TEXT") for name in table.columns]
        db.execute(
            "CREATE TABLE IF NOT EXISTS %s (RecordId TEXT NOT NULL, Stream TEXT NOT NULL, %s, AdditionalColumns TEXT)"
            % (table.name, ", ".join(columns))
        )
        present = {row[1] for row in db.execute("PRAGMA table_info(%s)" % table.name)}
        for name, column in zip(table.columns, columns):
            if name not in present:
                db.execute("ALTER TABLE %s ADD COLUMN %s" % (table.name, column))
        # A record that is delivered twice has the same RecordId and the same TimeGenerated.
        db.execute("CREATE UNIQUE INDEX IF NOT EXISTS %s_Once ON %s (%s, RecordId)" % (table.name, table.name, TIME))
        for index in table.indexes:
            name = "%s_%s" % (table.name, index.replace(", ", "_"))
            first = index.split(",")[0]
            db.execute(
                "CREATE INDEX IF NOT EXISTS %s ON %s (%s) WHERE %s IS NOT NULL" % (name, table.name, index, first)
            )


class Plan(NamedTuple):
    """How records with the same keys become rows. There are many records, and few such sets of keys."""

    table: Table
    statement: str  # ignores a record that is already stored
    columns: Tuple[str, ...]
    others: Tuple[str, ...]


def plan(keys: Tuple[str, ...]) -> Plan:
    table = next((table for table in (CHANGE, DATA) if table.marker in keys), OTHER)
    columns = tuple(key for key in keys if key in table.columns and key != TIME)
    others = tuple(key for key in keys if key not in table.columns and key not in (RECORD_ID, INVENTORY_RECORDS))
    names = ["RecordId", "Stream", TIME, *['"%s"' % name for name in columns]]
    if others:
        names.append("AdditionalColumns")
    statement = "INSERT OR IGNORE INTO %s (%s) VALUES (%s)" % (
        table.name,
        ", ".join(names),
        ", ".join("?" * len(names)),
    )
    return Plan(table, statement, columns, others)


def row(plan: Plan, stream: str, entry: Entry) -> Row:
    """The record's values, in the order of the plan's statement."""
    record = entry[1]
    values: List[Any] = [record_id(stream, entry), stream, generated(entry)]
    for name in plan.columns:
        value = record[name]
        values.append(value if value is None or isinstance(value, str) else json.dumps(value))
    if plan.others:
        values.append(json.dumps({name: record[name] for name in plan.others}, sort_keys=True))
    return tuple(values)


def generated(entry: Entry) -> str:
    """The TimeGenerated of a record: its own, or the time it was sent with."""
    seconds, record = entry
    own = record.get(TIME)
    if own is None or own == "":
        return timestamp(seconds) or str(seconds)
    return own if isinstance(own, str) else json.dumps(own)


def printable(row: Row) -> Row:
    """The row without lone surrogates, which SQLite cannot store."""
    return tuple(None if value is None else value.encode("utf-8", "backslashreplace").decode("utf-8") for value in row)


def record_id(stream: str, entry: Entry) -> str:
    """The RecordId of a record, or a hash of its content, which is the same if the record is delivered again."""
    own = entry[1].get(RECORD_ID)
    if isinstance(own, str) and own:
        return own
    text = json.dumps([stream, entry], sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()
