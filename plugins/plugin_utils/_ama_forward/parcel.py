# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A parcel: the records that one result of a task has for one stream. It has only columns that were selected by name.

A parcel becomes one line of the spool, and its records get their RecordIds from the line: the same line, delivered again, gives
the same records.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ...module_utils._cti.kinds.registry import all_kinds
from ...module_utils._cti.packed import LEFT_OUT
from ...module_utils._cti.packed_reader import kinds
from ...module_utils._cti.records import MACHINE_COLUMNS, RECORD_ID, change_columns, data_record
from ...module_utils._cti.rule.settings import CHANGE_STREAM, DATA_STREAM

ROWS = 500  # a parcel has no more: a message of some 200 KB
MAX_TEXT = 64 << 10  # characters of one value
MAX_ROW_TEXT = 128 << 10  # of all values of a row
MAX_ID = 128  # of a RecordId
MAX_PACKED = 32 << 20
REPORTED_COMPUTER = "ReportedComputer"  # what the host calls itself; Computer is its inventory name
STATUS = "CollectionStatus"
STATUS_COLUMNS = ("Module", "Kind", "Source", "Status", "Message")
_MAX_INTEGER = 1 << 63

Row = dict[str, Any]


class Parcel(NamedTuple):
    """Records of one host for one stream. With `packed`, the rows are in there, and `rows` and `kind` are empty."""

    stream: str
    kind: str  # of all_kinds(); empty: the rows are those of a status
    common: Row  # the machine columns all records share
    rows: list[Row]
    packed: str = ""
    # packed: the kinds to take, each with [its TimeGenerated, the number of records that the host reported]
    kinds: dict[str, list[Any]] = {}
    query: str = ""
    identity: str = ""

    @property
    def total(self) -> int:
        """The number of records, as far as it is known without unpacking."""
        return sum(count for _time, count in self.kinds.values()) if self.packed else len(self.rows)


def clean(row: Any, columns: Iterable[str]) -> Row:
    """The columns that are set. Empty where the row has none of them, stands for items that are left out, or has a value that is too
    long or no plain value."""
    if not isinstance(row, dict) or LEFT_OUT in row:
        return {}
    new: Row = {}
    size = 0
    for column in columns:
        value = row.get(column)
        if value is None:
            continue
        if isinstance(value, str):
            size += len(value)
            if len(value) > MAX_TEXT or size > MAX_ROW_TEXT:
                return {}
            new[column] = str.__str__(value)  # Ansible has types of text of its own
        elif isinstance(value, bool):
            new[column] = value
        elif isinstance(value, int) and -_MAX_INTEGER <= value < _MAX_INTEGER:
            new[column] = int(value)
        else:
            return {}
    return new


def columns(stream: str, kind: str) -> tuple[str, ...]:
    """The columns that the rows of a parcel may have."""
    if stream == CHANGE_STREAM:
        return (RECORD_ID, *change_columns())
    return all_kinds()[kind].columns if kind else STATUS_COLUMNS


def of_kinds(parcel: Parcel, kinds: Iterable[str]) -> Parcel | None:
    """The part of a parcel that is of these kinds; None where there is none. A status without a kind is always included."""
    if parcel.packed:
        some = {kind: value for kind, value in parcel.kinds.items() if kind in kinds}
        return parcel._replace(kinds=some) if some else None
    kind = parcel.kind or parcel.rows[0].get("Kind", "")
    return parcel if not kind or kind in kinds else None


def line(parcel: Parcel) -> bytes:
    """The parcel as one line of ASCII, with a new, unique identity."""
    text = json.dumps(parcel._replace(identity=uuid.uuid4().hex)._asdict(), separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def parse(raw: bytes) -> Parcel:
    """The parcel in a line, which is not trusted. Raises ValueError."""
    try:
        parcel = Parcel(**json.loads(raw))
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    for value, preset in zip(parcel, Parcel("", "", {}, [])):
        if type(value) is not type(preset):
            raise ValueError("a field is of the wrong type")
    known = parcel.stream in (CHANGE_STREAM, DATA_STREAM) and (not parcel.kind or parcel.kind in all_kinds())
    shaped = all(isinstance(pair, list) and list(map(type, pair)) == [str, int] for pair in parcel.kinds.values())
    if not known or not shaped or not parcel.identity:
        raise ValueError("a field has a value that it cannot have")
    return parcel


def records(parcel: Parcel) -> Iterator[Row]:
    """The records of a parcel, one at a time; damaged ones are left out. Raises PackedError."""
    common = clean(parcel.common, (*MACHINE_COLUMNS, REPORTED_COMPUTER))
    for number, (kind, row) in enumerate(_rows(parcel)):
        new = clean(row, columns(parcel.stream, kind))
        if not new or (parcel.packed and kind not in parcel.kinds):
            continue
        if parcel.stream == DATA_STREAM:
            new = data_record(all_kinds()[kind], new) if kind else dict(new, ConfigDataType=STATUS)
        new.update(common)
        if parcel.packed:
            new["TimeGenerated"] = parcel.kinds[kind][0]
        identity = new.get(RECORD_ID)  # a change may have been forwarded by the host, too
        if not isinstance(identity, str) or not 0 < len(identity) <= MAX_ID:
            new[RECORD_ID] = f"{parcel.identity}-{number}"
        yield new


def _rows(parcel: Parcel) -> Iterator[tuple[str, Any]]:
    if not parcel.packed:
        for row in parcel.rows:
            yield parcel.kind, row
        return
    for kind, rows in kinds(parcel.packed):
        if kind in all_kinds():
            for row in rows:
                yield kind, row
