# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The custom tables of a Log Analytics workspace, and a record as a row of one of them.

Azure accepts no rows for its own tables ConfigurationChange and ConfigurationData, so these have the same columns, and ours.
What has no column, or does not fit its type, is in AdditionalColumns. No I/O.

Source of the limits and types: https://learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview, and the
service limits of Azure Monitor.
"""

import json
import re
from calendar import timegm
from functools import lru_cache
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional

from ..fleet.content import integer
from ..fleet.schema import MORE, TIMES
from ..records import CONTENT_LINK, INTEGER_COLUMNS, INVENTORY_RECORDS, RECORD_ID, TIME, change_columns, data_columns
from ..text import timestamp

CALL_BYTES = 1 << 20  # of one call, compressed and not: Azure refuses 1,048,577
FIELD_BYTES = 64 << 10  # of a value; Azure cuts a longer one and does not say so
KEY_CHARACTERS = 200  # of a key in AdditionalColumns
STREAM = "Stream"  # of a record that belongs to neither table
ORIGINAL_TIME = "OriginalTime"  # TimeGenerated of a row that Azure may give another one: see TIME_SECONDS
# Azure replaces a time that is two days old or a day ahead. A row waits on the way, and clocks differ.
TIME_SECONDS = 43200
TIME_CHARACTERS = 20
_TYPES = {
    **dict.fromkeys((*INTEGER_COLUMNS, INVENTORY_RECORDS), "long"),
    **dict.fromkeys((*TIMES, "ChangedAt", TIME, ORIGINAL_TIME), "datetime"),
    MORE: "dynamic",
}
_TIME: Callable[[str], Any] = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z\Z").match
_FRACTION = re.compile(r"\.[0-9]{3}(?=Z\Z)")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

Row = Dict[str, Any]


class Table(NamedTuple):
    name: str
    columns: Dict[str, str]  # name -> type

    @property
    def stream(self) -> str:
        """The name of its stream in a data collection rule."""
        return "Custom-" + self.name


def _table(name: str, *columns: str) -> Table:
    return Table(name, {column: _TYPES.get(column, "string") for column in columns})


_OWN = (RECORD_ID, ORIGINAL_TIME, MORE)
CHANGES = _table("CTConfigurationChange_CL", *change_columns(), CONTENT_LINK, *_OWN)
DATA = _table("CTConfigurationData_CL", *data_columns(), INVENTORY_RECORDS, *_OWN)
OTHERS = _table("CTOtherRecords_CL", TIME, STREAM, *_OWN)
TABLES = (CHANGES, DATA, OTHERS)


def table_of(record: Mapping[str, Any]) -> Table:
    """The table that a record belongs to."""
    return CHANGES if "ConfigChangeType" in record else DATA if "ConfigDataType" in record else OTHERS


def encode_row(table: Table, stream: str, seconds: float, record: Mapping[str, Any], now: float) -> bytes:
    """A record as a JSON object that fits into one call. `seconds`: when it was sent, for one without a valid TimeGenerated.

    The record has a RecordId. `now` in unix seconds.
    """
    limit = FIELD_BYTES
    while True:
        data = _to_json(_row(table, stream, seconds, record, now, limit))
        if len(data) <= CALL_BYTES - 2:  # the brackets
            return data
        limit //= 2  # many long values: all of them are cut shorter


def _row(table: Table, stream: str, seconds: float, record: Mapping[str, Any], now: float, limit: int) -> Row:
    columns = table.columns
    row: Row = {}
    more: Row = {}
    for name, value in record.items():
        if value == "" or value is None:
            continue  # Azure has no difference between an empty text and none
        form = columns.get(name)
        fitting = cut(value, limit) if form == "string" and value.__class__ is str else _fitting(form, value, limit)
        if fitting is None:
            more[name] = value
        else:
            row[name] = fitting
    sent = timestamp(seconds) or ""
    if TIME not in row:
        row[TIME] = sent if _seconds(sent) is not None else timestamp(now)
    if abs(now - (_seconds(row[TIME]) or 0)) > TIME_SECONDS:
        row[ORIGINAL_TIME] = row[TIME]
    if table is OTHERS:
        row[STREAM] = cut(stream, limit)
    if more:
        row[MORE] = _bounded(more, limit)
    return row


def _fitting(form: Optional[str], value: Any, limit: int) -> Any:
    """A value as its column takes it; None if it does not fit, or if there is no column."""
    if form == "long":
        return integer(value)
    if form == "datetime":
        return value if isinstance(value, str) and _seconds(value) is not None else None
    if form == "string" and not isinstance(value, (dict, list)):
        return cut(_encode(value), limit)
    return None


def _seconds(text: str) -> Optional[int]:
    """Unix seconds of a time such as 2026-01-09T08:00:01Z or 2026-01-09T08:00:01.123Z, the forms that our records have, without the
    fraction; None for any other text."""
    if len(text) == TIME_CHARACTERS + 4:
        text = _FRACTION.sub("", text)
    return _parse(text) if len(text) == TIME_CHARACTERS else None  # a sender's long text would be kept in memory


@lru_cache(maxsize=4096)
def _parse(text: str) -> Optional[int]:
    found = _TIME(text)
    if found is None:
        return None
    try:
        seconds = timegm(tuple(map(int, found.groups())))
    except ValueError:
        return None
    return seconds if timestamp(seconds) == text else None  # not for a 31st of February


def cut(text: str, limit: int) -> str:
    """A text of at most `limit` bytes, with a note at its end if it is longer: how many bytes of how many it has."""
    if 6 * len(text) <= limit:  # a lone surrogate, as an escape, has six bytes
        return text
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= limit:
        return text
    room = limit - len(_NOTE % (len(raw), len(raw)))
    kept = raw[:room].decode("utf-8", "ignore")
    return kept + _NOTE % (len(kept.encode("utf-8")), len(raw))


_NOTE = "... [%d of %d bytes]"


def _bounded(values: Row, limit: int) -> Row:
    """The same keys and values, as long as they have at most `limit` bytes of JSON. Else texts are cut, and then keys left out."""
    if len(_to_json(values)) <= limit:
        return values
    out: Row = {}
    size = 2 + len('"...":"%d of %d keys",' % (len(values), len(values)))
    for key, value in values.items():
        short = cut(value if isinstance(value, str) else _encode(value), limit // 16)
        length = len(_to_json({key: short}))
        if len(key) <= KEY_CHARACTERS and size + length <= limit:
            out[key] = short
            size += length
    if len(out) < len(values):
        out["..."] = "%d of %d keys" % (len(out), len(values))
    return out


def _to_json(row: Row) -> bytes:
    text = _encode(row)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # of a sender who has lone surrogates in a text
        return _encode(_clean(row)).encode("utf-8")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(key): _clean(element) for key, element in value.items()}
    return [_clean(element) for element in value] if isinstance(value, list) else value
