# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""An inventory in ConfigurationData replaces the one before it, once all of its records are there.

The records of one inventory of one kind of a host share Computer, SourceComputerId, ConfigDataType, TimeGenerated and
what stands before the number in their RecordId; the last one says how many they are. The inventory whose first record
arrived later is the newer one, so no host's clock decides. What is sent again of one that was replaced is left out.
Records that do not say how many they are replace nothing.
"""

import sqlite3
from typing import Any, Dict, NamedTuple, Optional, Tuple

from ..records import INVENTORY_RECORDS, KINDS, RECORD_ID
from .segments import Entry
from .tables import generated

REMEMBERED = 8  # inventories of one kind of one host
_TYPES = frozenset(kind.config_type for kind in KINDS.values())
_SCHEMA = (
    # `Records` is NULL until it is known; where `Replaced` is 1 there is a newer one.
    "CREATE TABLE IF NOT EXISTS Inventories (Computer TEXT NOT NULL, SourceComputerId TEXT NOT NULL,"
    " ConfigDataType TEXT NOT NULL, Batch TEXT NOT NULL, Records INTEGER, Replaced INTEGER NOT NULL DEFAULT 0)",
    "CREATE UNIQUE INDEX IF NOT EXISTS Inventories_Once"
    " ON Inventories (Computer, SourceComputerId, ConfigDataType, Batch)",
)
_KEY = "Computer = ? AND SourceComputerId = ? AND ConfigDataType = ?"


class Inventory(NamedTuple):
    computer: str
    source: str  # SourceComputerId; empty where the record has none
    type: str
    batch: str
    time: str

    @property
    def records(self) -> Tuple[str, Tuple[str, str, str]]:
        """A condition for its rows, and the values for it; the index ConfigurationData_Once finds them."""
        return "TimeGenerated = ? AND RecordId >= ? AND RecordId < ?", (self.time, self.batch + "-", self.batch + ".")


def prepare(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        db.execute(statement)


def of(entry: Entry) -> Optional[Inventory]:
    """Which inventory a record belongs to; None: to none that could be replaced."""
    record = entry[1]
    type_, own = record.get("ConfigDataType"), record.get(RECORD_ID)
    if type_ not in _TYPES or not isinstance(own, str):
        return None
    batch, dash, _number = own.rpartition("-")
    computer, source = record.get("Computer"), record.get("SourceComputerId") or ""
    if not (batch and dash and computer and isinstance(computer, str) and isinstance(source, str)):
        return None
    return Inventory(computer, source, str(type_), batch, generated(entry))


class Arriving:
    """The inventories of which records arrive in one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._replaced: Dict[Inventory, bool] = {}

    def belongs(self, entry: Entry) -> bool:
        """Whether a record is to be stored: not one of an inventory that was replaced."""
        inventory = of(entry)
        if inventory is None:
            return True
        replaced = self._replaced.get(inventory)
        if replaced is None:
            replaced = self._replaced[inventory] = self._is_replaced(inventory)
        if not replaced and INVENTORY_RECORDS in entry[1]:
            self._announce(inventory, entry[1][INVENTORY_RECORDS])
        return not replaced

    def settle(self) -> None:
        """Once all is stored: let each inventory that is complete now replace those before it."""
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
            if count >= records:
                self._replace_before(inventory, first)

    def _replace_before(self, inventory: Inventory, first: int) -> None:
        """Remove what there is of the inventories of that kind of the host that began before this one's first row."""
        query = (
            "SELECT rowid, RecordId FROM ConfigurationData WHERE Computer = ? AND ConfigDataType = ?"
            " AND coalesce(SourceComputerId, '') = ?"
        )
        found = self._db.execute(query, (inventory.computer, inventory.type, inventory.source)).fetchall()
        rows = [(rowid, own.rpartition("-")[0]) for rowid, own in found]
        older = {batch for rowid, batch in rows if rowid < first and batch}
        gone = [(rowid,) for rowid, batch in rows if batch in older or rowid < first]
        self._db.executemany("DELETE FROM ConfigurationData WHERE rowid = ?", gone)
        for batch in older:
            self._db.execute("INSERT OR REPLACE INTO Inventories VALUES (?, ?, ?, ?, NULL, 1)", (*inventory[:3], batch))
        if older:
            self._forget(inventory)

    def _forget(self, inventory: Inventory) -> None:
        self._db.execute(
            "DELETE FROM Inventories WHERE %s AND Batch <> ? AND rowid NOT IN"
            " (SELECT rowid FROM Inventories WHERE %s ORDER BY rowid DESC LIMIT %d)" % (_KEY, _KEY, REMEMBERED),
            (*inventory[:4], *inventory[:3]),
        )
