# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Splits a record of a host into what is stored once for the fleet: its content and its times. The host is not trusted."""

import hashlib
import json
import re
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple

from ..packed import LEFT_OUT
from ..records import ACTOR_COLUMNS, INTEGER_COLUMNS, INVENTORY_RECORDS, RECORD_ID, TIME
from . import schema

DIGEST_BYTES = 16
MAX_LEFT_OUT = 10**9  # of one row
KEY_BYTES = 800  # of a text in an index: an entry of a B-tree of PostgreSQL takes 2,704 bytes, of all columns
MAX_FORMS = 256
FORM_BYTES = 8192  # of keys; records with more are unlike any others
_MAX_INTEGER = (1 << 63) - 1
_SKIPPED = frozenset((*schema.MACHINE, TIME, schema.AGE, RECORD_ID, INVENTORY_RECORDS))
_INTEGER: Callable[[str], Any] = re.compile(r"-?[0-9]{1,19}\Z").match
_INTEGERS = frozenset(INTEGER_COLUMNS)
_OPTIONAL = frozenset(ACTOR_COLUMNS)
_to_json = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode

Values = Tuple[Any, ...]
Record = Mapping[str, Any]


class Part:
    """The columns of one table in which records with the same keys have values."""

    def __init__(self, columns: Sequence[str], present: FrozenSet[str]) -> None:
        self.names = tuple([name for name in columns if name in present])
        self._integers = [at for at, name in enumerate(self.names) if name in _INTEGERS]
        self._all = "[%s]" % ",".join(filter(None, [_element(name, present) for name in columns]))

    def values(self, record: Record, more: Dict[str, Any]) -> List[Any]:
        """The values, as texts and integers; None for AdditionalColumns. What does not fit its column is added to `more`."""
        values = [record.get(name) for name in self.names]
        texts: List[Any] = [
            str(value) if isinstance(value, str) and value.isprintable() else text(value) for value in values
        ]
        for at in self._integers:
            texts[at] = integer(values[at])
            if texts[at] is None and values[at] is not None and values[at] != "":
                more[self.names[at]] = values[at]
        return texts

    def digest(self, values: Sequence[Any]) -> bytes:
        """The same as that of the values of all columns, where those that are missing are None. A column that stores of older
        versions do not have counts only where it is present: so what is stored there keeps its digest."""
        parts = [
            _quote(value) if isinstance(value, str) else "null" if value is None else str(value) for value in values
        ]
        return _hash(self._all % tuple(parts))


def _element(name: str, present: FrozenSet[str]) -> str:
    """The place of a column in the text of a digest."""
    if name in _OPTIONAL:
        return _quote(name) + ",%s" if name in present else ""
    return "%s" if name in present else "null"


class Form:
    """How records with the same keys are stored. There are many records, and few such sets of keys."""

    def __init__(self, columns: Sequence[str], moments: Sequence[str], keys: Sequence[str]) -> None:
        present = frozenset(keys)
        times = present.intersection(moments)
        own = present.intersection(columns[:-1])
        self._others = tuple(present - own - times - _SKIPPED)
        # A value that is no integer is in AdditionalColumns.
        self.content = Part(columns, own.union([schema.MORE]) if self._others or (own | times) & _INTEGERS else own)
        self.times = Part(moments, times)

    def values(self, record: Record) -> Tuple[List[Any], List[Any]]:
        """The values of the content and of the times. What has no column, or does not fit it, is in AdditionalColumns."""
        more = {name: record[name] for name in self._others}
        times = self.times.values(record, more)
        values = self.content.values(record, more)
        if self.content.names[-1:] == (schema.MORE,):
            values[-1] = text(more) if more else None
        return values, times


class Columns:
    """The columns of one table of contents, the last one of which is AdditionalColumns, and those of moments."""

    def __init__(self, names: Tuple[str, ...], moments: Tuple[str, ...]) -> None:
        self._names = names
        self._moments = moments
        self._forms: Dict[Tuple[str, ...], Form] = {}

    def form(self, record: Record) -> Form:
        keys = tuple(record)
        form = self._forms.get(keys)
        if form is None:
            form = Form(self._names, self._moments, keys)
            if sum(map(len, keys)) <= FORM_BYTES:
                if len(self._forms) >= MAX_FORMS:
                    self._forms.clear()
                self._forms[keys] = form
        return form


ITEMS = Columns(schema.ITEM_COLUMNS, schema.TIMES)
CHANGES = Columns(schema.CHANGE_COLUMNS, schema.MOMENTS)


def digest(values: Iterable[Any]) -> bytes:
    return _hash(_to_json(list(values)))


def _hash(json_text: str) -> bytes:
    return hashlib.sha256(json_text.encode("ascii")).digest()[:DIGEST_BYTES]


def text(value: Any) -> Optional[str]:
    """A value as a text that both databases can store; None stays None."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
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
