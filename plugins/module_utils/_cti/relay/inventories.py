# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Replaces the previous inventory of a host in ConfigurationData once all records of the new one have arrived.

The records of one inventory of one kind share Computer, SourceComputerId, ConfigDataType, TimeGenerated and the part of
their RecordId before the number. The last record has the number of records. The inventory whose first record arrived
later is the newer one, so that clocks of hosts do not matter. Records of a replaced inventory that arrive again are
ignored. An inventory without a number of records replaces nothing.

A host is a Computer with a SourceComputerId. The first inventory under a new name replaces those under other names of the
same SourceComputerId, because the host was renamed. Two hosts with the same machine-id look like that at first, but then
the other name returns. So a known name replaces another name only after it replaced SILENT inventories of its own since
the last one of the other name. A name never replaces one with another VMUUID.
"""

import sqlite3
from typing import Any, Dict, Iterable, NamedTuple, Optional, Tuple

from ..kinds.registry import all_kinds
from ..records import INVENTORY_RECORDS, RECORD_ID
from .segments import Entry
from .tables import generated

REMEMBERED = 8  # inventories of one kind of one host
SILENT = 3  # replaced inventories of one name without one of the other name, after which the other name counts as old
_TYPES = frozenset(kind.config_type for kind in all_kinds().values())
_SCHEMA = (
    # `Records` is NULL until it is known. `Replaced` is 1 if there is a newer one.
    "CREATE TABLE IF NOT EXISTS Inventories (Computer TEXT NOT NULL, SourceComputerId TEXT NOT NULL,"
    " ConfigDataType TEXT NOT NULL, Batch TEXT NOT NULL, Records INTEGER, Replaced INTEGER NOT NULL DEFAULT 0)",
    "CREATE UNIQUE INDEX IF NOT EXISTS Inventories_Once"
    " ON Inventories (Computer, SourceComputerId, ConfigDataType, Batch)",
    "CREATE INDEX IF NOT EXISTS Inventories_Names ON Inventories (SourceComputerId, ConfigDataType)",
)
_SAME = "Computer = ? AND ConfigDataType = ? AND coalesce(SourceComputerId, '') = ?"  # of rows of ConfigurationData
_KEY = "Computer = ? AND SourceComputerId = ? AND ConfigDataType = ?"


class Inventory(NamedTuple):
    computer: str
    source: str  # SourceComputerId; empty if the record has none
    type: str
    batch: str
    time: str

    @property
    def records(self) -> Tuple[str, Tuple[str, str, str]]:
        """An SQL condition for the rows of the inventory, which uses the index ConfigurationData_Once, and its values."""
        return "TimeGenerated = ? AND RecordId >= ? AND RecordId < ?", (self.time, self.batch + "-", self.batch + ".")


def prepare(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        db.execute(statement)


def of(entry: Entry) -> Optional[Inventory]:
    """The inventory that a record belongs to; None if it belongs to none that can be replaced."""
    record = entry[1]
    type_, own = record.get("ConfigDataType"), record.get(RECORD_ID)
    if not isinstance(type_, str) or type_ not in _TYPES or not isinstance(own, str):
        return None
    batch, dash, _number = own.rpartition("-")
    computer, source = record.get("Computer"), record.get("SourceComputerId") or ""
    if not (batch and dash and computer and isinstance(computer, str) and isinstance(source, str)):
        return None
    return Inventory(computer, source, type_, batch, generated(entry))


def _is_text(values: Iterable[str]) -> bool:
    """Whether SQLite can store the values: they have no lone surrogates."""
    try:
        "".join(values).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Arriving:
    """The inventories with records in one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._replaced: Dict[Inventory, bool] = {}

    def belongs(self, entry: Entry) -> bool:
        """Whether to store a record. Records of a replaced inventory are not stored."""
        inventory = of(entry)
        if inventory is None:
            return True
        replaced = self._replaced.get(inventory)
        if replaced is None:
            if not _is_text(inventory):
                return True
            replaced = self._replaced[inventory] = self._is_replaced(inventory)
        if not replaced and INVENTORY_RECORDS in entry[1]:
            self._announce(inventory, entry[1][INVENTORY_RECORDS])
        return not replaced

    def settle(self) -> None:
        """After all records are stored: let each complete inventory replace the previous ones."""
        for inventory, replaced in self._replaced.items():
            if not replaced:
                self._settle(inventory)

    def _is_replaced(self, inventory: Inventory) -> bool:
        query = "SELECT Replaced FROM Inventories WHERE %s AND Batch = ?" % _KEY
        return any(replaced for (replaced,) in self._db.execute(query, inventory[:4]))

    def _announce(self, inventory: Inventory, records: Any) -> None:
        text = str(records)
        if text.isdecimal() and len(text) < 10:
            self._db.execute(
                "INSERT OR IGNORE INTO Inventories (Computer, SourceComputerId, ConfigDataType, Batch, Records)"
                " VALUES (?, ?, ?, ?, ?)",
                (*inventory[:4], int(text)),
            )

    def _settle(self, inventory: Inventory) -> None:
        query = "SELECT Records FROM Inventories WHERE %s AND Batch = ? AND Records IS NOT NULL" % _KEY
        for (records,) in self._db.execute(query, inventory[:4]).fetchall():
            condition, values = inventory.records
            query = "SELECT count(*), min(rowid) FROM ConfigurationData WHERE " + condition
            count, first = self._db.execute(query, values).fetchone()
            if count and count >= records:
                is_new = not self._is_known(inventory)
                self._replace_before(inventory, first)
                if inventory.source:
                    self._replace_names(inventory, first, is_new)

    def _is_known(self, inventory: Inventory) -> bool:
        """Whether the host already had an inventory of this kind under this name."""
        query = "SELECT 1 FROM Inventories WHERE %s AND Batch <> ? LIMIT 1" % _KEY
        return self._db.execute(query, inventory[:4]).fetchone() is not None

    def _replace_names(self, inventory: Inventory, first: int, is_new: bool) -> None:
        """Remove the inventories under other names of the same host that are older than the row `first`."""
        same = (inventory.computer, inventory.source, inventory.type)
        query = (
            "SELECT Computer, max(rowid) FROM Inventories"
            " WHERE Computer <> ? AND SourceComputerId = ? AND ConfigDataType = ? AND NOT Replaced GROUP BY Computer"
        )
        for computer, announced in self._db.execute(query, same).fetchall():
            # Each inventory that comes marks the one before it as replaced, in a new row.
            since = "SELECT count(*) FROM Inventories WHERE %s AND Replaced AND rowid > ?" % _KEY
            (replaced,) = self._db.execute(since, (*same, announced)).fetchone()
            other = inventory._replace(computer=computer)
            if (is_new or replaced >= SILENT) and not self._is_another_machine(other, first):
                self._replace_before(other, first)

    def _is_another_machine(self, other: Inventory, first: int) -> bool:
        """Whether rows of the other name have another VMUUID than the row `first`. A missing VMUUID does not count."""
        query = (
            "SELECT 1 FROM ConfigurationData WHERE %s AND rowid < ?"
            " AND VMUUID <> (SELECT nullif(VMUUID, '') FROM ConfigurationData WHERE rowid = ?) AND VMUUID <> '' LIMIT 1"
            % _SAME
        )
        values = (other.computer, other.type, other.source, first, first)
        return self._db.execute(query, values).fetchone() is not None

    def _replace_before(self, inventory: Inventory, first: int) -> None:
        """Remove the inventories of this kind of the host whose first row is older than `first`."""
        older: Dict[str, None] = {}  # in the order of their last rows; at most REMEMBERED
        same = (inventory.computer, inventory.type, inventory.source)
        query = "SELECT RecordId FROM ConfigurationData WHERE %s AND rowid < ? ORDER BY rowid" % _SAME
        for (own,) in self._db.execute(query, (*same, first)):
            batch = own.rpartition("-")[0]
            older.pop(batch, None)
            older[batch] = None
            if len(older) > REMEMBERED:
                del older[next(iter(older))]
        self._db.execute("DELETE FROM ConfigurationData WHERE %s AND rowid < ?" % _SAME, (*same, first))
        older.pop("", None)
        for batch in older:
            later = "DELETE FROM ConfigurationData WHERE %s AND rowid > ? AND RecordId >= ? AND RecordId < ?" % _SAME
            self._db.execute(later, (*same, first, batch + "-", batch + "."))
            self._db.execute("INSERT OR REPLACE INTO Inventories VALUES (?, ?, ?, ?, NULL, 1)", (*inventory[:3], batch))
        if older:
            self._forget(inventory)

    def _forget(self, inventory: Inventory) -> None:
        self._db.execute(
            "DELETE FROM Inventories WHERE %s AND Batch <> ? AND rowid NOT IN"
            " (SELECT rowid FROM Inventories WHERE %s ORDER BY rowid DESC LIMIT %d)" % (_KEY, _KEY, REMEMBERED),
            (*inventory[:4], *inventory[:3]),
        )
