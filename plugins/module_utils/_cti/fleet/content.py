# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Splits a record of a host into what is stored once for the fleet: its content and its times. The host is not trusted."""

import hashlib
import json
import re
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..packed import LEFT_OUT
from ..records import INTEGER_COLUMNS, INVENTORY_RECORDS, RECORD_ID, TIME
from . import schema

DIGEST_BYTES = 16
MAX_LEFT_OUT = 10**9  # of one row
KEY_BYTES = 800  # of a text in an index: an entry of a B-tree of PostgreSQL takes 2,704 bytes, of all columns
_MAX_INTEGER = (1 << 63) - 1
_SKIPPED = frozenset((*schema.MACHINE, TIME, schema.AGE, RECORD_ID, INVENTORY_RECORDS))
_INTEGER: Callable[[str], Any] = re.compile(r"-?[0-9]{1,19}\Z").match
_to_json = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode

Values = Tuple[Any, ...]
Record = Mapping[str, Any]


class Columns(NamedTuple):
    """The columns of one table of contents; the last one is AdditionalColumns."""

    names: Tuple[str, ...]
    known: frozenset  # type: ignore[type-arg]


ITEMS = Columns(schema.ITEM_COLUMNS, frozenset((*schema.ITEM_COLUMNS[:-1], *schema.TIMES)))
CHANGES = Columns(schema.CHANGE_COLUMNS, frozenset((*schema.CHANGE_COLUMNS[:-1], *schema.TIMES)))


def split(columns: Columns, record: Record) -> Tuple[Values, Values]:
    """The values of the columns, and those of the times. What has no column, or does not fit it, is in AdditionalColumns."""
    more: Dict[str, Any] = {}
    values: List[Any] = []
    for name in columns.names[:-1]:
        value = record.get(name)
        if name in INTEGER_COLUMNS and value is not None:
            number = integer(value)
            if number is None and value != "":
                more[name] = value
            values.append(number)
        else:
            values.append(text(value))
    for name in record:
        if name not in columns.known and name not in _SKIPPED:
            more[name] = record[name]
    values.append(text(more) if more else None)
    return tuple(values), tuple([text(record.get(name)) for name in schema.TIMES])


def digest(values: Iterable[Any]) -> bytes:
    return hashlib.sha256(_to_json(list(values)).encode("ascii")).digest()[:DIGEST_BYTES]


def text(value: Any) -> Optional[str]:
    """A value as a text that both databases can store; None stays None."""
    if value is None:
        return None
    if not isinstance(value, str):
        value = json.dumps(value, sort_keys=True)
    elif value.isprintable():
        return str(value)
    if "\0" in value:
        value = value.replace("\0", "\\x00")
    return str(value.encode("utf-8", "backslashreplace").decode("utf-8"))


def as_key(value: Any) -> str:
    """A value as a text in a unique constraint. Of one that is too long, the hash of the whole text replaces the end."""
    whole = str(text(value))
    if len(whole) <= KEY_BYTES // 4:  # a character takes up to four bytes
        return whole
    raw = whole.encode("utf-8")
    if len(raw) <= KEY_BYTES:
        return whole
    return "%s...%s" % (raw[: KEY_BYTES - 67].decode("utf-8", "ignore"), hashlib.sha256(raw).hexdigest())


def storable(values: Iterable[Any]) -> List[Any]:
    """The values of a row or the parameters of a query, with each text as both databases take it."""
    return [text(value) if isinstance(value, str) else value for value in values]


def integer(value: Any) -> Optional[int]:
    """A number, or a text of one, as the databases can store it."""
    if isinstance(value, str) and _INTEGER(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -_MAX_INTEGER <= value <= _MAX_INTEGER:
        return value
    return None


def machine(record: Record) -> Values:
    return tuple([text(record.get(name)) for name in schema.MACHINE])


def left_out(rows: Sequence[Record]) -> int:
    """The number of items that a row stands for which says that items are left out."""
    return sum(min(max(integer(row[LEFT_OUT]) or 0, 0), MAX_LEFT_OUT) for row in rows if LEFT_OUT in row)


def batch_and_number(record_id: str) -> Tuple[str, int]:
    """The parts of a RecordId: what all records of one run share, as a key, and the number. The number is -1 where there is none."""
    batch, dash, number = record_id.rpartition("-")
    if batch and dash and number.isdecimal() and len(number) < 10 and str(int(number)) == number:
        return as_key(batch), int(number)
    return as_key(record_id), -1
