# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Replaces the previous inventory of a host in the fleet store once all records of the new one have arrived.

The records of one inventory of one kind share Computer, SourceComputerId, ConfigDataType, TimeGenerated and the part of
their RecordId before the number. The last record has the number of records. Until all are there, they are in the table `loose`.
The inventory whose first record arrived later is the newer one, so that clocks of hosts do not matter. Records of an inventory
that is complete or was replaced and that arrive again are ignored. An inventory without a number of records replaces nothing.

A host is a Computer with a SourceComputerId. The first inventory under a new name replaces those under other names of the
same SourceComputerId, because the host was renamed. Two hosts with the same machine-id look like that at first, but then
the other name returns. So a known name replaces another name only after it replaced SILENT inventories of its own since
the last one of the other name. A name never replaces one with another VMUUID.
"""

from typing import Any, Dict, List, NamedTuple, Optional

from ..fleet.content import as_key, batch_and_number, text
from ..fleet.transaction import RELAY, Host, Inventory, Transaction
from ..kinds.registry import all_kinds
from ..records import INVENTORY_RECORDS
from .entries import generated, record_id
from .segments import Entry

REMEMBERED = 8  # inventories of one kind of one host
SILENT = 3  # replaced inventories of one name without one of the other name, after which the other name counts as old
SHARED_ITEMS = 5000  # of an inventory; a larger one is not compared with those of other hosts, which takes memory
_TYPES = frozenset(kind.config_type for kind in all_kinds().values())
_SAME = "host = ? AND type = ?"
_OWN = _SAME + " AND TimeGenerated = ? AND record = ?"  # of rows of loose


class Arriving(NamedTuple):
    """An inventory of which records arrive."""

    host: int
    type: str
    time: str
    record: str


class Inventories:
    """The inventories with records in one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._names: Dict[Any, Host] = {}
        self._settled: Dict[Arriving, bool] = {}  # whether it is complete or was replaced
        self.arrived = 0

    def host(self, record: Any) -> Host:
        """The host of a record."""
        name = (record.get("Computer") or "", record.get("SourceComputerId") or "", record.get("VMUUID"))
        key = tuple(map(str, name))
        if key not in self._names:
            self._names[key] = self._transaction.host(RELAY, _text(name[0]), _text(name[1]), record)
        return self._names[key]

    def add(self, stream: str, entries: List[Entry]) -> None:
        """Store records of ConfigurationData, except for those of inventories that are complete or were replaced."""
        transaction = self._transaction
        new, records = [], []
        for entry in entries:
            own = entry[1]
            host, time = self.host(own), as_key(generated(entry))
            record, number = batch_and_number(_text(record_id(stream, entry)))
            type_ = own["ConfigDataType"] if number >= 0 and _is_replaceable(own) else None
            if type_ is not None:
                arriving = Arriving(host.host, type_, time, record)
                if self._is_settled(arriving):
                    continue
                if INVENTORY_RECORDS in own:
                    self._announce(arriving, own[INVENTORY_RECORDS])
            new.append((host.host, host.machine, type_, time, record, number))
            records.append(own)
        name, day = _text(stream), transaction.day("data") if new else 0
        contents = transaction.items(records)
        rows = [(transaction.number(), *row, name, *content, day) for row, content in zip(new, contents)]
        columns = (
            *("row", "host", "machine", "type", "TimeGenerated", "record", "number"),
            *("stream", "item", "moment", "day"),
        )
        transaction.insert("loose", columns, rows, checked=True)
        self.arrived += len(rows)

    def settle(self) -> None:
        """After all records are stored: let each complete inventory replace the previous ones."""
        for arriving, settled in self._settled.items():
            if not settled:
                self._settle(arriving)

    def _is_settled(self, arriving: Arriving) -> bool:
        if arriving not in self._settled:
            query = self._transaction.query
            sql = "SELECT 1 FROM arrivals WHERE host = ? AND type = ? AND record = ? AND replaced = 1"
            found = query(sql, arriving.host, arriving.type, arriving.record)
            sql = "SELECT 1 FROM inventories WHERE host = ? AND type = ? AND record = ? AND collected_at = ?"
            found = found or query(sql, arriving.host, arriving.type, arriving.record, arriving.time)
            self._settled[arriving] = bool(found)
        return self._settled[arriving]

    def _announce(self, arriving: Arriving, records: Any) -> None:
        digits = str(records)
        if digits.isdecimal() and len(digits) < 10:
            self._remember(arriving.host, arriving.type, arriving.record, int(digits), 0)

    def _remember(self, host: int, type_: str, record: str, records: Optional[int], replaced: int) -> None:
        transaction = self._transaction
        columns = ("arrival", "host", "type", "record", "records", "replaced", "day")
        row = (transaction.number(), host, type_, record, records, replaced, transaction.day("data"))
        transaction.insert("arrivals", columns, [row])

    def _settle(self, arriving: Arriving) -> None:
        transaction, (host, type_, time, record) = self._transaction, arriving
        sql = "SELECT records FROM arrivals WHERE host = ? AND type = ? AND record = ? AND records IS NOT NULL"
        for (records,) in transaction.query(sql, host, type_, record):
            sql = "SELECT count(*), min(row), max(stream), max(machine) FROM loose WHERE " + _OWN
            count, first, stream, machine = transaction.query(sql, host, type_, time, record)[0]
            if count and count >= records:
                sql = "SELECT 1 FROM arrivals WHERE host = ? AND type = ? AND record <> ? LIMIT 1"
                is_new = not transaction.query(sql, host, type_, record)
                self._replace_before(host, type_, record, first)
                about = Inventory(type_, time, record, stream, first=first, day=transaction.day("data"))
                self._complete(Host(host, machine, None), about, arriving, count)
                self._replace_names(arriving, first, is_new, machine)

    def _complete(self, host: Host, about: Inventory, arriving: Arriving, count: int) -> None:
        """Move the records of an inventory that is complete from `loose` to where hosts share them."""
        transaction = self._transaction
        where = (arriving.host, arriving.type, arriving.time, arriving.record)
        sql = "SELECT item, max(moment) FROM loose WHERE %s GROUP BY item" % _OWN
        if count <= SHARED_ITEMS:
            transaction.replace_pairs(host, about, dict(transaction.query(sql, *where)))
        else:
            transaction.replace_many(host, about, sql, *where)
        transaction.execute("DELETE FROM loose WHERE " + _OWN, *where)

    def _replace_before(self, host: int, type_: str, record: str, first: int) -> None:
        """Remove the inventories of this kind of the host whose first row is older than `first`."""
        transaction = self._transaction
        older = []
        for (own,) in transaction.query(
            "SELECT record FROM inventories WHERE %s AND first < ?" % _SAME, host, type_, first
        ):
            older.append(own)
        sql = "SELECT record FROM loose WHERE %s AND row < ? AND number >= 0 AND record <> ? GROUP BY record ORDER BY max(row) DESC LIMIT %d"
        older += [own for (own,) in transaction.query(sql % (_SAME, REMEMBERED), host, type_, first, record)]
        transaction.execute("DELETE FROM loose WHERE %s AND row < ?" % _SAME, host, type_, first)
        for own in older:
            transaction.execute("DELETE FROM loose WHERE %s AND record = ?" % _SAME, host, type_, own)
            transaction.execute("DELETE FROM arrivals WHERE host = ? AND type = ? AND record = ?", host, type_, own)
            self._remember(host, type_, own, None, 1)
        if older:
            sql = "SELECT arrival FROM arrivals WHERE host = ? AND type = ? ORDER BY arrival DESC LIMIT 1 OFFSET %d" % (
                REMEMBERED - 1
            )
            for (last,) in transaction.query(sql, host, type_):
                sql = "DELETE FROM arrivals WHERE host = ? AND type = ? AND record <> ? AND arrival < ?"
                transaction.execute(sql, host, type_, record, last)

    def _replace_names(self, arriving: Arriving, first: int, is_new: bool, machine: int) -> None:
        """Remove the inventories under other names of the same host that are older than the row `first`."""
        transaction, type_ = self._transaction, arriving.type
        source = transaction.query("SELECT source FROM hosts WHERE host = ?", arriving.host)[0][0]
        if not source:
            return
        sql = (
            "SELECT a.host, max(a.arrival) FROM hosts h JOIN arrivals a ON a.host = h.host WHERE h.source = ? AND h.via = ?"
            " AND a.type = ? AND a.host <> ? AND a.replaced = 0 GROUP BY a.host"
        )
        for other, announced in transaction.query(sql, source, RELAY, type_, arriving.host):
            sql = "SELECT count(*) FROM arrivals WHERE host = ? AND type = ? AND replaced = 1 AND arrival > ?"
            replaced = transaction.query(sql, arriving.host, type_, announced)[0][0]
            if (is_new or replaced >= SILENT) and not self._is_another_machine(other, type_, machine):
                self._replace_before(other, type_, "", first)
                if transaction.query("SELECT 1 FROM inventories WHERE %s AND first < ?" % _SAME, other, type_, first):
                    transaction.remove_inventory(other, type_)

    def _is_another_machine(self, other: int, type_: str, machine: int) -> bool:
        """Whether the inventory under the other name has another VMUUID. A missing VMUUID does not count."""
        sql = (
            "SELECT 1 FROM machines m, machines o WHERE m.machine = ? AND m.VMUUID <> '' AND o.VMUUID <> '' AND o.VMUUID <> m.VMUUID"
            " AND (o.machine IN (SELECT machine FROM inventories WHERE host = ? AND type = ?)"
            " OR o.machine IN (SELECT machine FROM loose WHERE host = ? AND type = ?))"
        )
        return bool(self._transaction.query(sql, machine, other, type_, other, type_))


def _is_replaceable(record: Any) -> bool:
    """Whether the inventory of this record, which has a number, can be replaced: its kind and host are known."""
    type_, computer, source = record["ConfigDataType"], record.get("Computer"), record.get("SourceComputerId") or ""
    named = computer and isinstance(computer, str) and isinstance(source, str)
    return bool(named and isinstance(type_, str) and type_ in _TYPES)


def _text(value: Any) -> str:
    return str(text(value))
