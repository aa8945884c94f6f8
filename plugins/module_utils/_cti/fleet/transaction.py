# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What is written to the fleet store in one transaction: the inventory of a host, its changes, and its place in them."""

import time
from itertools import chain, islice
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from ..records import RECORD_ID, TIME
from ..text import timestamp
from . import schema
from .content import (
    CHANGES,
    ITEMS,
    Columns,
    Record,
    Values,
    as_key,
    batch_and_number,
    digest,
    integer,
    left_out,
    machine,
    storable,
    text,
)
from .parameters import AT_ONCE, placeholders, slices

PLAYBOOK, RELAY = "playbook", "relay"
MAX_STATES = 8  # of one host, such as that of root and that of a user
_BATCH = 2000  # records in memory at a time
_SAMPLE = 32  # items of a host, by which a set that fits is found
_CANDIDATES = 4  # sets that are compared in full
_FEW = 16  # items in which every host may differ from its set

_Some = TypeVar("_Some")
Rows = Sequence[Sequence[Any]]
Batch = Tuple[int, str, str]  # host, TimeGenerated, what the RecordIds share
Content = Tuple[Sequence[str], Sequence[Any]]  # columns, and their values
Pairs = Dict[int, Optional[int]]  # item -> moment; None where a host does not have the item of its set


class Host(NamedTuple):
    """A host that is written to."""

    host: int
    machine: int
    before: Optional[int]  # the machine that it was before; None: it is new


class Inventory(NamedTuple):
    """What is known of the inventory of one kind, beside its items. Times are texts in UTC."""

    type: str  # Software, Daemons, Files
    collected_at: Optional[str] = None
    record: Optional[str] = None  # the part that the RecordIds share
    stream: Optional[str] = None
    sources: Optional[str] = None  # JSON
    digest: Optional[str] = None  # what the filler knows the items by
    first: Optional[int] = None  # the number of the first row that the relay got of it
    day: Optional[int] = None  # likewise, when


class Transaction:
    """Begun by Store.writing(). Raises FleetError."""

    def __init__(self, db: Any) -> None:
        self._db = db
        lock = " FOR UPDATE" if db.words is schema.POSTGRESQL else ""
        # The lock makes writers wait for each other, so that numbers become visible in their order.
        self._begun = self._number = int(self.query("SELECT value FROM meta WHERE name = 'counter'" + lock)[0][0])
        self.now = str(timestamp(time.time()))
        self._machines: Dict[Values, int] = {}
        self._days: Dict[str, int] = {}

    # --- for whoever has tables of their own

    def number(self) -> int:
        """A new number; all numbers of the store rise together."""
        self._number += 1
        return self._number

    def query(self, sql: str, *parameters: Any) -> List[Tuple[Any, ...]]:
        return list(self._db.fetch(sql, parameters))

    def execute(self, sql: str, *parameters: Any) -> int:
        """Run a statement. Returns the number of its rows."""
        return int(self._db.execute(sql, parameters).rowcount)

    def insert(self, table: str, columns: Sequence[str], rows: Rows, checked: bool = False) -> None:
        """Insert rows; one that is already there is left as it is. `checked`: each text is one that content.text() returned."""
        if rows:
            self._db.insert(table, columns, rows if checked else list(map(storable, rows)))

    def finish(self) -> int:
        """Store the counter. Returns it where it has grown, else 0."""
        if self._number == self._begun:
            return 0
        self.execute("UPDATE meta SET value = ? WHERE name = 'counter'", self._number)
        return self._number

    # --- hosts

    def host(self, via: str, name: str, source: str, record: Record) -> Host:
        """The host of that name, which calls itself as `record` says. Notes that it was seen."""
        number = self.machine(record)
        name, source = as_key(name), as_key(source)
        found = self.query(
            "SELECT host, machine FROM hosts WHERE name = ? AND via = ? AND source = ?", name, via, source
        )
        if found:
            sql = "UPDATE hosts SET machine = ?, last_seen = ?, failed_at = NULL, failure = NULL WHERE host = ?"
            self.execute(sql, number, self.now, found[0][0])
            return Host(found[0][0], number, found[0][1])
        columns = ("host", "via", "name", "source", "machine", "first_seen", "last_seen")
        host = self.number()
        self.insert("hosts", columns, [(host, via, name, source, number, self.now, self.now)])
        return Host(host, number, None)

    def machine(self, record: Record) -> int:
        values = machine(record)
        if values not in self._machines:
            if len(self._machines) >= _BATCH:
                self._machines.clear()
            mark = digest(values)
            self._machines[values] = self._stored("machines", "machine", {mark: (schema.MACHINE, values)})[mark]
        return self._machines[values]

    def failed(self, via: str, name: str, source: str, why: str) -> None:
        """Note that a host could not be collected. A host that was never seen is added."""
        changed = self.execute(
            "UPDATE hosts SET failed_at = ?, failure = ? WHERE name = ? AND via = ? AND source = ?",
            *(self.now, text(why), as_key(name), via, as_key(source)),
        )
        if not changed:
            host = self.host(via, name, source, {}).host
            sql = "UPDATE hosts SET failed_at = ?, failure = ?, last_seen = '' WHERE host = ?"
            self.execute(sql, self.now, text(why), host)

    def problems(self, host: int, problems: Optional[str]) -> None:
        """What is tracked less than the rule says: a JSON list; None where there are none."""
        self.execute("UPDATE hosts SET problems = ? WHERE host = ?", problems, host)

    # --- places

    def move(self, host: int, state: str, place: str, path: str) -> None:
        """Store how far the history of the host's state is stored."""
        self.execute("DELETE FROM places WHERE host = ? AND state = ?", host, text(state))
        columns = ("host", "state", "place", "path", "seen")
        self.insert("places", columns, [(host, text(state), text(place), text(path), self.number())])
        sql = "SELECT seen FROM places WHERE host = ? ORDER BY seen DESC LIMIT 1 OFFSET ?"
        for (seen,) in self.query(sql, host, MAX_STATES):
            self.execute("DELETE FROM places WHERE host = ? AND seen <= ?", host, seen)

    # --- inventories

    def replace_inventory(self, host: Host, about: Inventory, records: Iterable[Record]) -> int:
        """Replace the inventory of a kind. Returns the number of items."""
        pairs: Pairs = {}
        missing = 0
        for rows in _batches(records):
            missing += left_out(rows)
            own = [dict(row, ConfigDataType=about.type) for row in rows if "LeftOut" not in row]
            items, moments = self._contents("items", "item", ITEMS, own)
            pairs.update(zip(items, moments))
        self.replace_pairs(host, about, pairs, missing)
        return len(pairs)

    def replace_pairs(self, host: Host, about: Inventory, pairs: Pairs, missing: int = 0) -> None:
        """As replace_inventory(), by the numbers of items and moments."""
        found = self.query("SELECT base FROM inventories WHERE host = ? AND type = ?", host.host, about.type)
        base, own = self._fitting(found[0][0] if found else None, pairs)
        self._own(host.host, about.type, own)
        self._describe(host, about, base, len(pairs), missing)

    def replace_many(self, host: Host, about: Inventory, query: str, *parameters: Any) -> None:
        """As replace_pairs(), with a query for the pairs, which are too many for the memory: in a set of their own."""
        self.remove_inventory(host.host, about.type)
        base = self.number()
        count = self.execute(
            "INSERT INTO set_items (base, item, moment) SELECT %d, p.* FROM (%s) p" % (base, query), *parameters
        )
        self._describe(host, about, base, count, 0)

    def _describe(self, host: Host, about: Inventory, base: int, items: int, missing: int) -> None:
        self.execute("DELETE FROM inventories WHERE host = ? AND type = ?", host.host, about.type)
        columns = (
            *("host", "type", "base", "machine", "collected_at", "received_at", "record", "stream"),
            *("items", "left_out", "sources", "digest", "first", "day"),
        )
        row = (host.host, about.type, base, host.machine, text(about.collected_at), self.now, text(about.record))
        more = (text(about.stream), items, missing, text(about.sources), text(about.digest), about.first, about.day)
        self.insert("inventories", columns, [(*row, *more)])

    def touch_inventory(self, host: Host, about: Inventory) -> bool:
        """Note that the inventory of a kind was collected again and is the same. Returns whether there is one."""
        sql = "UPDATE inventories SET collected_at = coalesce(?, collected_at), received_at = ?, sources = ?, machine = ? WHERE host = ? AND type = ?"
        values = (text(about.collected_at), self.now, text(about.sources), host.machine, host.host, about.type)
        return self.execute(sql, *values) > 0

    def remove_inventory(self, host: int, type_: str) -> None:
        found = self.query("SELECT base FROM inventories WHERE host = ? AND type = ?", host, type_)
        self.execute("DELETE FROM host_items WHERE host = ? AND type = ?", host, type_)
        self.execute("DELETE FROM inventories WHERE host = ? AND type = ?", host, type_)
        if found and not self.query("SELECT 1 FROM inventories WHERE base = ? LIMIT 1", found[0][0]):
            self.execute("DELETE FROM set_items WHERE base = ?", found[0][0])

    def _fitting(self, current: Optional[int], pairs: Pairs) -> Tuple[int, Pairs]:
        """A set for a host with these items, and what the host has differently. The current one is kept while it fits."""
        few = max(_FEW, len(pairs) // 4)
        if current is not None:
            own = self._difference(current, pairs)
            if len(own) <= few:
                return current, own
        sample = list(islice(pairs, 0, None, max(1, len(pairs) // _SAMPLE)))[:_SAMPLE]
        best: Optional[Tuple[int, Pairs]] = None
        if sample:
            sql = "SELECT base, count(*) FROM set_items WHERE item IN (%s) GROUP BY base ORDER BY 2 DESC, 1 LIMIT ?"
            for base, _count in self.query(sql % placeholders(sample), *sample, _CANDIDATES):
                own = self._difference(base, pairs)
                if len(own) <= few and (best is None or len(own) < len(best[1])):
                    best = base, own
        if best is not None:
            return best
        base = self.number()
        rows = [(base, *pair) for pair in sorted(pairs.items())]
        self.insert("set_items", ("base", "item", "moment"), rows, checked=True)
        return base, {}

    def _difference(self, base: int, pairs: Pairs) -> Pairs:
        shared: Pairs = dict(self.query("SELECT item, moment FROM set_items WHERE base = ?", base))
        own = {item: moment for item, moment in pairs.items() if shared.get(item) != moment}
        own.update({item: None for item in shared if item not in pairs})
        return own

    def _own(self, host: int, type_: str, own: Pairs) -> None:
        """Store what the host has differently from its set."""
        sql = "SELECT item, moment FROM host_items WHERE host = ? AND type = ?"
        before: Pairs = dict(self.query(sql, host, type_))
        gone = [item for item, moment in before.items() if item not in own or own[item] != moment]
        for items in slices(gone):
            self.execute("DELETE FROM host_items WHERE host = ? AND item IN (%s)" % placeholders(items), host, *items)
        new = [
            (host, item, type_, own[item]) for item in sorted(own) if item not in before or before[item] != own[item]
        ]
        self.insert("host_items", ("host", "item", "type", "moment"), new)

    # --- changes

    def add_changes(self, host: int, stream: str, records: Iterable[Record]) -> int:
        """Add changes of a host, as add_all_changes()."""
        return self.add_all_changes(stream, ((host, record) for record in records))

    def add_all_changes(self, stream: str, records: Iterable[Tuple[int, Record]]) -> int:
        """Add changes, each with its host. Those that are there already, by RecordId, are left. Returns the number of new ones."""
        added = 0
        columns = ("seq", "batch", "number", "age", "content", "moment")
        for rows in _batches(records):
            new = self._new(stream, rows)
            contents, moments = self._contents("contents", "content", CHANGES, [row for _batch, _number, row in new])
            values: Rows = [
                (self.number(), batch, number, integer(row.get(schema.AGE)), content, moment)
                for (batch, number, row), content, moment in zip(new, contents, moments)
            ]
            self.insert("changes", columns, values, checked=True)
            added += len(new)
        return added

    def _new(self, stream: str, rows: Iterable[Tuple[int, Record]]) -> List[Tuple[int, int, Record]]:
        """Those that are not stored yet, with their batch and number."""
        grouped: Dict[Batch, Dict[int, Record]] = {}
        for host, row in rows:
            own, generated = row.get(RECORD_ID), row.get(TIME)
            record, number = batch_and_number(digest([row]).hex() if own is None else str(text(own)))
            at = self.now if generated is None else as_key(generated)
            grouped.setdefault((host, at, record), {}).setdefault(number, row)
        batches = self._stored_batches(list(grouped))
        for key, batch in batches.items():
            for (number,) in self.query("SELECT number FROM changes WHERE batch = ?", batch):
                grouped[key].pop(number, None)
        batches.update(self._add_batches(stream, {key: rows for key, rows in grouped.items() if key not in batches}))
        return [(batches[key], number, row) for key, rows in grouped.items() for number, row in rows.items()]

    def _stored_batches(self, keys: List[Batch]) -> Dict[Batch, int]:
        """Those that are stored, with their numbers."""
        found: Dict[Batch, int] = {}
        for some in slices(keys, AT_ONCE // 3):
            sql = (
                "WITH k (host, at, record) AS (VALUES %s) SELECT b.host, b.TimeGenerated, b.record, b.batch FROM k CROSS JOIN batches b"
                " WHERE b.host = k.host AND b.TimeGenerated = k.at AND b.record = k.record"
            )
            rows = self.query(sql % ", ".join(["(?, ?, ?)"] * len(some)), *chain.from_iterable(some))
            found.update(((host, at, record), batch) for host, at, record, batch in rows)
        return found

    def _add_batches(self, stream: str, new: Dict[Batch, Dict[int, Record]]) -> Dict[Batch, int]:
        if not new:
            return {}
        self.day("changes")
        numbers: Dict[Batch, int] = {}
        values: List[Values] = []
        name = text(stream)
        for (host, at, record), rows in new.items():
            machine = self.machine(next(iter(rows.values())))
            numbers[host, at, record] = batch = self.number()
            values.append((batch, host, machine, at, record, name))
        columns = ("batch", "host", "machine", "TimeGenerated", "record", "stream")
        self.insert("batches", columns, values, checked=True)
        return numbers

    def day(self, content: str) -> int:
        """The number of today, among the days on which rows of this content arrived."""
        if content not in self._days:
            date = self.now[:10]
            days = self.query("SELECT day, date FROM days WHERE content = ? ORDER BY day", content)
            if date not in [known for _day, known in days]:
                days.append((self.number(), date))
                self.insert("days", ("day", "content", "date"), [(days[-1][0], content, date)])
            self._days[content] = days[-1][0]  # the newest one, even where the clock was set back to another
        return self._days[content]

    # --- what is stored once

    def items(self, records: Sequence[Record]) -> List[Tuple[int, int]]:
        """The numbers of the items and of the times of records of ConfigurationData."""
        return list(zip(*self._contents("items", "item", ITEMS, records)))

    def _contents(
        self, table: str, key: str, columns: Columns, records: Iterable[Record]
    ) -> Tuple[List[int], List[int]]:
        """The numbers of the contents and of the times of records, in their order."""
        contents: Dict[bytes, Content] = {}
        moments: Dict[bytes, Content] = {}
        marks: List[Tuple[bytes, bytes]] = []
        for record in records:
            form = columns.form(record)
            values, times = form.values(record)
            mark = form.content.digest(values), form.times.digest(times)
            contents[mark[0]], moments[mark[1]] = (form.content.names, values), (form.times.names, times)
            marks.append(mark)
        numbers = self._stored(table, key, contents)
        times_ = self._stored("moments", "moment", moments)
        return [numbers[mark] for mark, _time in marks], [times_[mark] for _content, mark in marks]

    def _stored(self, table: str, key: str, contents: Dict[bytes, Content]) -> Dict[bytes, int]:
        """The numbers of rows by their digests, of which those that are missing are added."""
        numbers: Dict[bytes, int] = {}
        for marks in slices(list(contents)):
            sql = "SELECT digest, %s FROM %s WHERE digest IN (%s)" % (key, table, placeholders(marks))
            numbers.update((bytes(mark), number) for mark, number in self.query(sql, *marks))
        new: Dict[Sequence[str], List[Values]] = {}
        for mark, (names, values) in contents.items():
            if mark not in numbers:
                numbers[mark] = self.number()
                new.setdefault(names, []).append((numbers[mark], mark, *values))
        for names, rows in new.items():
            self.insert(table, (key, "digest", *names), rows, checked=True)
        return numbers


def _batches(records: Iterable[_Some]) -> Iterator[List[_Some]]:
    iterator = iter(records)
    return iter(lambda: list(islice(iterator, _BATCH)), [])
