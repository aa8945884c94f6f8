# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The tables and views of the fleet store, for SQLite and PostgreSQL. docs/store.md describes them.

What is the same on many hosts is stored once: an item, the content of a change, the times of an item. A host points to a set of
items, which many hosts share, and has rows of its own only where it differs from the set.
"""

from typing import Container, Dict, Iterable, Iterator, List

from ..kinds.registry import all_kinds
from ..records import INTEGER_COLUMNS, MACHINE_COLUMNS, TIME, change_columns, data_columns

VERSION = 2  # 2: ACTOR_COLUMNS
AGE = "LastSnapshotAge"
MORE = "AdditionalColumns"  # fields of a record without a column, as JSON
TIMES = ("DateModified", "DateCreated", "InstalledOn", "PreviousDateModified", "PreviousDateCreated")
# The columns of the table moments: what differs from host to host, and from time to time.
MOMENTS = (*TIMES, "ChangedAt", "ChangedBySession")
CHANNEL = "changetracking_fleet"  # of NOTIFY; the payload is the counter

MACHINE = ("Computer", "SourceComputerId", "VMUUID")

_COMMON = (*MACHINE_COLUMNS, AGE, *MOMENTS)
ITEM_COLUMNS = (*(name for name in data_columns() if name not in _COMMON), MORE)
CHANGE_COLUMNS = (*(name for name in change_columns() if name not in _COMMON), MORE)

COLUMNS = {"items": ITEM_COLUMNS, "contents": CHANGE_COLUMNS, "moments": MOMENTS}  # a later version may have more
CREATING = 1701864557  # PostgreSQL's advisory lock of whoever creates the tables

Words = Dict[str, str]
SQLITE: Words = {"id": "INTEGER PRIMARY KEY", "int": "INTEGER", "blob": "BLOB", "compact": " WITHOUT ROWID", "hash": ""}
POSTGRESQL: Words = {"id": "BIGINT PRIMARY KEY", "int": "BIGINT", "blob": "BYTEA", "compact": "", "hash": "USING hash "}


def column(name: str) -> str:
    """The name as SQL writes it: Group is a word of SQL."""
    return '"%s"' % name if name == "Group" else name


def declared(name: str, words: Words) -> str:
    """The column with its type."""
    return _typed([name]).format(**dict(words, text="TEXT"))


def _typed(names: Iterable[str]) -> str:
    return ", ".join("%s {%s}" % (column(name), "int" if name in INTEGER_COLUMNS else "text") for name in names)


_TABLES = (
    # version: of the schema. counter: the number that was given last, to a change or to anything else with a number.
    "meta (name TEXT PRIMARY KEY, value {int} NOT NULL)",
    # The days on which rows arrived. A day's number is smaller than those of its rows; a row's age is the number of days after its own.
    "days (day {id}, content TEXT NOT NULL, date TEXT NOT NULL, UNIQUE (content, date))",
    # How a host called itself. NULL where it did not say.
    "machines (machine {id}, digest {blob} NOT NULL UNIQUE, %s)" % _typed(MACHINE),
    # via: playbook (name is the inventory name) or relay (name is Computer, source is SourceComputerId).
    "hosts (host {id}, via TEXT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, machine {int} NOT NULL,"
    " first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, failed_at TEXT, failure TEXT, problems TEXT,"
    " UNIQUE (name, via, source))",
    # How far the history of a host's state is stored; `seen` is the newer the larger.
    "places (host {int} NOT NULL, state TEXT NOT NULL, place TEXT NOT NULL, path TEXT NOT NULL, seen {int} NOT NULL,"
    " PRIMARY KEY (host, state)){compact}",
    # An item without its times. `digest` is of all columns.
    "items (item {id}, digest {blob} NOT NULL UNIQUE, %s)" % _typed(ITEM_COLUMNS),
    "moments (moment {id}, digest {blob} NOT NULL UNIQUE, %s)" % _typed(MOMENTS),
    # Items that many hosts have.
    "set_items (base {int} NOT NULL, item {int} NOT NULL, moment {int} NOT NULL, PRIMARY KEY (base, item)){compact}",
    # The last inventory of a kind of a host: the items of `base`, except for those in host_items.
    "inventories (host {int} NOT NULL, type TEXT NOT NULL, base {int} NOT NULL, machine {int} NOT NULL,"
    " collected_at TEXT, received_at TEXT NOT NULL, record TEXT, stream TEXT, first {int}, day {int}, items {int} NOT NULL,"
    " left_out {int} NOT NULL, sources TEXT, digest TEXT, PRIMARY KEY (host, type)){compact}",
    # moment: NULL where the host does not have this item of its set.
    "host_items (host {int} NOT NULL, item {int} NOT NULL, type TEXT NOT NULL, moment {int},"
    " PRIMARY KEY (host, item)){compact}",
    # The content of a change, without its times.
    "contents (content {id}, digest {blob} NOT NULL UNIQUE, %s)" % _typed(CHANGE_COLUMNS),
    # The changes of a kind that a host found in one run. RecordId is record-number; record alone where number is -1.
    "batches (batch {id}, host {int} NOT NULL, machine {int} NOT NULL, TimeGenerated TEXT NOT NULL, record TEXT NOT NULL,"
    " stream TEXT NOT NULL, UNIQUE (host, TimeGenerated, record))",
    # seq: rises in the order in which changes became visible.
    "changes (seq {id}, batch {int} NOT NULL, number {int} NOT NULL, age {int}, content {int} NOT NULL, moment {int} NOT NULL,"
    " UNIQUE (batch, number))",
    # Items that the relay got and that belong to no complete inventory, in the order in which they arrived. type: NULL for those
    # that never will. RecordId as in batches.
    "loose (row {id}, host {int} NOT NULL, machine {int} NOT NULL, type TEXT, TimeGenerated TEXT NOT NULL, record TEXT NOT NULL,"
    " number {int} NOT NULL, stream TEXT NOT NULL, item {int} NOT NULL, moment {int} NOT NULL, day {int} NOT NULL,"
    " UNIQUE (host, TimeGenerated, record, number))",
    # What the relay knows of inventories: the number of their records, once it is announced, and which have been replaced.
    "arrivals (arrival {id}, host {int} NOT NULL, type TEXT NOT NULL, record TEXT NOT NULL, records {int},"
    " replaced {int} NOT NULL, day {int} NOT NULL, UNIQUE (host, type, record))",
    # Records of the relay that belong to neither view.
    "OtherRecords (row {id}, RecordId TEXT NOT NULL, Stream TEXT NOT NULL, TimeGenerated TEXT NOT NULL, AdditionalColumns TEXT,"
    " day {int} NOT NULL, UNIQUE (TimeGenerated, RecordId))",
    # What Ansible ran, by the callback run_log.
    "runs (run {id}, uuid TEXT NOT NULL UNIQUE, playbook TEXT, username TEXT, controller TEXT, check_mode {int} NOT NULL,"
    " started_at TEXT NOT NULL, ended_at TEXT, details TEXT)",
    # number: of the task in its run, so that a run that is read twice is stored once.
    "run_tasks (task {id}, run {int} NOT NULL, number {int} NOT NULL, name TEXT NOT NULL, play TEXT, title TEXT, module TEXT,"
    " started_at DOUBLE PRECISION NOT NULL, ended_at DOUBLE PRECISION, clock_offset DOUBLE PRECISION, named TEXT, details TEXT,"
    " UNIQUE (run, number))",
    # What a host last returned as its SourceComputerId under this inventory name, and in which run.
    "identities (name TEXT PRIMARY KEY, SourceComputerId TEXT NOT NULL, run {int} NOT NULL)",
    # word: ignore, window or acknowledge. what: JSON, which changes it applies to.
    "marks (mark {id}, word TEXT NOT NULL, what TEXT NOT NULL, reason TEXT, made_by TEXT, made_at TEXT NOT NULL,"
    " valid_from TEXT, valid_until TEXT)",
)

_INDEXES = (
    "set_items (item, base)",
    "inventories (base, type)",
    "host_items (item, host)",
    "loose (host, type, row)",
    "loose (item)",
    "loose (machine)",
    "hosts (source)",
    "inventories (machine)",
    "batches (TimeGenerated)",
    "batches (machine, TimeGenerated)",
    "changes (content)",
    "run_tasks (name, started_at)",
)
# Of texts of any length, which are looked up as a whole. An entry of a hash index of PostgreSQL has no limit.
_TEXT_INDEXES = (
    "machines (Computer)",
    *("items (%s)" % kind.columns[0] for kind in all_kinds().values()),
    *("contents (%s)" % kind.columns[0] for kind in all_kinds().values()),
)


def statements(words: Words) -> Iterator[str]:
    """The statements that create the tables, indexes and views where they are missing."""
    for table in tables(words).values():
        yield "CREATE TABLE IF NOT EXISTS " + table
    for index in _INDEXES:
        yield _create_index(index)
    for index in _TEXT_INDEXES:
        yield _create_index(index, words["hash"])
    for view, text in views().items():
        yield "DROP VIEW IF EXISTS " + view
        yield "CREATE VIEW %s AS %s" % (view, text)


def tables(words: Words) -> Dict[str, str]:
    """{name: the name and the columns, as CREATE TABLE takes them}."""
    words = dict(words, text="TEXT")
    return {table.split(" ", 1)[0]: table.format(**words) for table in _TABLES}


def _create_index(index: str, method: str = "") -> str:
    table, columns = index.split(" ", 1)
    name = "".join(letter if letter.isalnum() else "_" for letter in index).strip("_").replace("__", "_")
    return "CREATE INDEX IF NOT EXISTS %s ON %s %s%s" % (name, table, method, columns)


def views(without: Container[str] = ()) -> Dict[str, str]:
    """{name: the query}. `without`: columns that a store of an older version does not have."""
    data = [name for name in (*data_columns(), MORE) if name not in without]
    changes = [name for name in (*change_columns(), MORE) if name not in without]
    return {"ConfigurationData": _data_view(data), "ConfigurationChange": _change_view(changes)}


def _select(columns: Iterable[str], own: Dict[str, str], table: str) -> str:
    """The columns of a view: as `own` says, those of MOMENTS of t, and all others of `table`."""
    out: List[str] = []
    for name in columns:
        out.append(
            "%s AS %s" % (own.get(name) or (("t." if name in MOMENTS else table + ".") + column(name)), column(name))
        )
    return ", ".join(out)


_OF_MACHINE = {name: "m." + name for name in MACHINE}


def _data_view(names: Iterable[str]) -> str:
    own = dict(_OF_MACHINE, **{TIME: "v.collected_at"})
    columns = "h.host AS HostId, h.name AS Host, v.record || '-' || i.item AS RecordId, v.stream AS Stream, " + _select(
        names, own, "i"
    )
    joins = (
        " JOIN hosts h ON h.host = v.host JOIN machines m ON m.machine = v.machine"
        " JOIN items i ON i.item = s.item JOIN moments t ON t.moment = s.moment"
    )
    loose = (
        "h.host AS HostId, h.name AS Host, CASE WHEN s.number < 0 THEN s.record ELSE s.record || '-' || s.number END AS RecordId,"
        " s.stream AS Stream, " + _select(names, dict(own, **{TIME: "s.TimeGenerated"}), "i")
    )
    return (
        "SELECT %s FROM set_items s JOIN inventories v ON v.base = s.base%s"
        " WHERE NOT EXISTS (SELECT 1 FROM host_items o WHERE o.host = v.host AND o.item = s.item)"
        " UNION ALL SELECT %s FROM host_items s JOIN inventories v ON v.host = s.host AND v.type = s.type%s"
        " WHERE s.moment IS NOT NULL"
        " UNION ALL SELECT %s FROM loose s%s" % (columns, joins, columns, joins, loose, joins.replace("v.", "s."))
    )


def _change_view(names: Iterable[str]) -> str:
    own = dict(_OF_MACHINE, **{TIME: "b.TimeGenerated", AGE: "c.age"})
    columns = (
        "c.seq AS Seq, h.host AS HostId, h.name AS Host, CASE WHEN c.number < 0 THEN b.record ELSE b.record || '-' || c.number END"
        " AS RecordId, b.stream AS Stream, " + _select(names, own, "w")
    )
    return (
        "SELECT %s FROM changes c JOIN batches b ON b.batch = c.batch JOIN hosts h ON h.host = b.host"
        " JOIN machines m ON m.machine = b.machine JOIN contents w ON w.content = c.content"
        " JOIN moments t ON t.moment = c.moment" % columns
    )


def documented() -> Dict[str, str]:
    """Names as PostgreSQL folds them -> as they are documented."""
    names = ("HostId", "Host", "RecordId", "Stream", "Seq", *data_columns(), *change_columns(), MORE)
    return {name.lower(): name for name in names}
