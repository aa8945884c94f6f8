# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Records of any kind: the columns of the Log Analytics tables ConfigurationData (an item as it is) and
ConfigurationChange (what happened to it).

Owner, Group, Mode and systemd's raw states have no documented column; they ride along.
"""

from functools import lru_cache
from typing import Iterable, Iterator, Optional, Sequence, Tuple

from .kinds.kind import Kind, Row
from .kinds.registry import all_kinds
from .model import Item

# What a record on the wire has in addition to the columns of its kind, and the columns of the two tables.
RECORD_ID = "RecordId"  # stays the same when a record is delivered again
TIME = "TimeGenerated"
INVENTORY_RECORDS = "InventoryRecords"  # in the last record of an inventory of one kind: how many records it has
CONTENT_DIFF = "ContentDiff"  # of a file whose text is kept
CONTENT_LINK = "FileContentBlobLink"  # of a file whose text is uploaded; no column of the tables
MACHINE_COLUMNS = ("Computer", "SourceComputerId", "VMUUID", TIME)
# Who made a change, by the kernel's audit; each is absent where that is not known.
ACTOR_COLUMNS = (
    "ChangedAt", "ChangedBy", "ChangedByUid", "ChangedByProcess", "ChangedByCommand", "ChangedBySession",
    "ChangedByModule", "ChangedByCount",
)  # fmt: skip
INTEGER_COLUMNS = (
    "Size", "PreviousSize", "LastSnapshotAge", "ChangedByUid", "ChangedBySession", "ChangedByCount",
)  # fmt: skip


def _changed(kind: Kind) -> Iterator[str]:
    for column in kind.columns:
        if column not in kind.tracked and column not in kind.uncompared:
            yield column
    for current, previous in kind.tracked.values():
        yield current
        yield previous


def _unique(*groups: Iterable[str]) -> Tuple[str, ...]:
    return tuple(dict.fromkeys(column for group in groups for column in group))


@lru_cache(maxsize=None)
def data_columns() -> Tuple[str, ...]:
    """Those of ConfigurationData."""
    return _unique(
        MACHINE_COLUMNS,
        ("ConfigDataType", "Name", "SvcDisplayName"),
        *(kind.columns for kind in all_kinds().values()),
    )


@lru_cache(maxsize=None)
def change_columns() -> Tuple[str, ...]:
    """Those of ConfigurationChange."""
    return _unique(
        MACHINE_COLUMNS,
        ("ConfigChangeType", "ChangeCategory", "FieldsChanged", "LastSnapshotAge", "SvcDisplayName", "SvcChangeType"),
        *(_changed(kind) for kind in all_kinds().values()),
        (CONTENT_DIFF,),
        ACTOR_COLUMNS,
    )


def change_record(kind: Kind, category: str, old: Optional[Item], new: Optional[Item], fields: Sequence[str]) -> Row:
    """A ConfigurationChange record, without the columns that say when and where.

    A Removed record has no current values, an Added one no previous ones: those keys are left out.
    """
    before = kind.row(old) if old is not None else {}
    after = kind.row(new) if new is not None else {}
    record = {"ConfigChangeType": kind.config_type, "ChangeCategory": category, "FieldsChanged": ",".join(fields)}
    for column, value in (after or before).items():
        if column not in kind.tracked and column not in kind.uncompared:
            record[column] = value
    for column, (current, previous) in kind.tracked.items():
        if after:
            record[current] = after[column]
        if before:
            record[previous] = before[column]
    return record


def change_line(row: Row) -> str:
    """A ConfigurationChange record in short: when, what happened to what, the old and new version, the fields that differ, and by
    whom, where that is known."""
    name, values = None, ""
    kind = next((kind for kind in all_kinds().values() if row.get(kind.columns[0])), None)
    if kind is not None:
        name = row[kind.columns[0]]
        if kind.version:
            current, previous = kind.tracked[kind.version]
            values = "%s -> %s" % (row.get(previous) or "-", row.get(current) or "-")
    who = actor(row)
    words = (row.get("TimeGenerated"), row.get("ChangeCategory"), row.get("ConfigChangeType"), name)
    return "  ".join(
        str(word) for word in (*words, values, row.get("FieldsChanged"), "by " + who if who else "") if word
    )


def actor(row: Row) -> str:
    """Who made a change, in short: `alice (vim)`, or `alice, Ansible's copy`; empty where it is not known."""
    login, module, count = (str(row.get(name) or "") for name in ("ChangedBy", "ChangedByModule", "ChangedByCount"))
    process = str(row.get("ChangedByProcess") or "").rpartition("/")[2]
    if module:
        text = ", ".join(filter(None, (login, "Ansible's " + module)))
    else:
        text = "%s (%s)" % (login, process) if login and process else login or process
    return "%s, the last of %s" % (text, count) if text and count.isdecimal() and count != "1" else text


def data_record(kind: Kind, row: Row) -> Row:
    """A ConfigurationData record of an item's row, without the columns that say when and where."""
    return dict(row, ConfigDataType=kind.config_type)


def sealed(records: Iterable[Row]) -> Iterator[Row]:
    """The records of an inventory, the last one of which says how many there are: who has so many has all of it."""
    last: Optional[Row] = None
    count = 0
    for record in records:
        if last is not None:
            yield last
        last = record
        count += 1
    if last is not None:
        yield dict(last, **{INVENTORY_RECORDS: count})


def identified(records: Iterable[Row]) -> Iterator[Row]:
    """The same, each with a RecordId that no other record has, unless it has one: it is given once, before it is sent."""
    batch = ""
    for number, record in enumerate(records):
        if not batch:
            import uuid  # which a run without changes does without

            batch = uuid.uuid4().hex
        record.setdefault(RECORD_ID, "%s-%d" % (batch, number))
        yield record
