# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Packages out of rpm's SQLite database; its headers are laid out as rpm's docs/manual/format_header.md has it."""

import os
import re
import sqlite3
import stat
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ... import folders
from ...errors import SourceFailed
from ...sqlite_time import limit_time
from ...text import decode
from .kind import Package
from .rpm_tags import REMEDY, TAGS, Found, package, usual

_LOCK_WAIT = 2.0  # seconds
_MAX_HEADER = 64 << 20  # bytes of one header; the lists of files make some of them megabytes
_MAX_HEADERS = 1 << 30  # bytes of all of them, of which one is in memory at a time
_MAX_TEXT = 64 << 20  # characters of what is kept of all packages
_MAX_PACKAGES = 500000
_MAX_NAME = 1024  # bytes
_TAGS = {tag: slot for slot, (tag, _name, _is_text) in enumerate(TAGS)}
_STRING, _BINARY, _TEXTS = (
    6,
    7,
    (6, 8, 9),
)  # the types of one text; of bytes; of texts, arrays and translations among them
_NUMBERS = {1: struct.Struct(">B"), 2: struct.Struct(">B"), 3: struct.Struct(">H"), 4: struct.Struct(">I"),
            5: struct.Struct(">Q")}  # fmt: skip
_INTRO = struct.Struct(">II")
_ENTRY = struct.Struct(">IIII")  # tag, type, offset, count


class _Layout(NamedTuple):
    """Where an index has the entries of interest, and what to make of each."""

    entries: struct.Struct  # reads offset and count of each
    slots: Sequence[Tuple[int, Optional[struct.Struct], int]]  # where in TAGS; how a number is read, and its size
    ones: Tuple[int, ...]  # the counts that nearly every header has
    kinds: Sequence[int]
    is_usual: bool  # texts where TAGS has texts, and numbers elsewhere


def read(path: str) -> Found:
    """Every package, and the names of those whose header cannot be read; SourceFailed where the database cannot."""
    with open(path, "rb", opener=folders.opener()) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SourceFailed("the rpm database %s is not a regular file; %s" % (path, REMEDY))
        if file.read(16) != b"SQLite format 3\0":
            raise SourceFailed("the rpm database %s is not an SQLite database; %s" % (path, REMEDY))
    uri = "file:%s?mode=ro" % path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        try:
            return _packages(path, uri)
        except sqlite3.OperationalError as error:
            # Without permission to write next to it, SQLite opens a database with a write-ahead log only if told that nobody
            # writes to it: right as long as that log is empty, and rpm.collect() looks again afterwards.
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
            if any(os.path.exists(path + log) and os.path.getsize(path + log) for log in ("-wal", "-journal")):
                raise
            return _packages(path, uri + "&immutable=1")
    except sqlite3.Error as error:
        raise SourceFailed("the rpm database %s cannot be read: %s; %s" % (path, error, REMEDY)) from error


_TABLES = (
    "SELECT type, sql FROM sqlite_master WHERE lower(tbl_name) IN ('packages', 'name') AND type IN ('table', 'view')"
)
_COMPUTED = re.compile(r"\b(?:VIRTUAL|AS)\b", re.IGNORECASE)  # what is computed can be of any size
# A header beyond the limit is not loaded: SQLite knows a blob's length without it.
_HEADERS = (
    "SELECT hnum, CASE WHEN typeof(blob) = 'blob' AND length(blob) <= ? THEN blob END,"
    " CASE WHEN typeof(blob) = 'blob' THEN length(blob) END FROM Packages"
)


def _packages(path: str, uri: str) -> Found:
    connection = sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT)
    try:
        limit_time(connection)
        for kind, sql in connection.execute(_TABLES):
            if kind != "table" or _COMPUTED.search(str(sql)):
                raise SourceFailed("the rpm database %s holds a %s that rpm does not make; %s" % (path, kind, REMEDY))
        layouts: Dict[bytes, _Layout] = {}
        packages = []
        damaged = []
        problem = ""
        size = kept = 0
        for number, blob, length in connection.execute(_HEADERS, (_MAX_HEADER,)):
            size += length or 0
            try:
                package = parse_header(blob, layouts)
                packages.append(package)
                name, architecture, version, summary, publisher, _size, _installed_on = package
                kept += len(name) + len(architecture) + len(version) + len(summary) + len(publisher)
            except ValueError as error:
                damaged.append(number)
                problem = "header %s of the rpm database %s %s" % (number, path, error)
            if size > _MAX_HEADERS or kept > _MAX_TEXT or len(packages) + len(damaged) > _MAX_PACKAGES:
                raise SourceFailed("the rpm database %s holds more than rpm writes; %s" % (path, REMEDY))
        if damaged and not packages:
            raise SourceFailed("%s, and no other header can be read; %s" % (problem, REMEDY))
        return Found(packages, _names(connection, damaged) if damaged else [])
    finally:
        connection.close()


def _names(connection: sqlite3.Connection, numbers: Sequence[int]) -> List[str]:
    """The names in rpm's index of packages with these headers."""
    try:
        statement = "SELECT hnum, key FROM Name WHERE length(CAST(key AS BLOB)) <= ? LIMIT ?"
        names = dict(connection.execute(statement, (_MAX_NAME, _MAX_PACKAGES)))
    except sqlite3.Error:
        names = {}
    keys = [names.get(number, "") for number in numbers]
    return [key if isinstance(key, str) else decode(key) if isinstance(key, bytes) else "" for key in keys]


def parse_header(blob: Any, layouts: Dict[bytes, _Layout]) -> Package:
    """A package out of its header; ValueError says what is wrong with it.

    layouts: what was learnt of earlier headers. Most have one of few sets of tags, and looking up where each tag
    stands would take most of the time.
    """
    if not isinstance(blob, bytes) or len(blob) < _INTRO.size:
        raise ValueError("is no header")
    entries, length = _INTRO.unpack_from(blob)
    data = _INTRO.size + entries * _ENTRY.size
    if data + length != len(blob):
        raise ValueError("is %d bytes long instead of %d" % (len(blob), data + length))
    index = blob[_INTRO.size : data]  # noqa: E203
    shape = memoryview(index).cast("Q")[::2].tobytes()  # tag and type of each entry
    layout = layouts.get(shape)
    if layout is None:
        layout = layouts[shape] = _layout(index)
    entries, slots, ones, kinds, is_usual = layout
    values: List[Any] = [None] * len(TAGS)
    try:
        found = entries.unpack_from(index)
        if found[1::2] != ones:
            _check_counts(kinds, found[1::2])
        for (slot, number, size), offset in zip(slots, found[::2]):
            start = data + offset
            if number is None:
                values[slot] = decode(blob[start : blob.index(b"\0", start)])  # noqa: E203
            elif offset % size:
                raise ValueError
            else:
                (values[slot],) = number.unpack_from(blob, start)
    except (struct.error, ValueError):
        raise ValueError("has a tag whose value is not inside it, or is none") from None
    return package(*(values if is_usual else usual(values)))


def _check_counts(kinds: Sequence[int], counts: Sequence[int]) -> None:
    for kind, count in zip(kinds, counts):
        if count == 0 or (kind == _STRING and count != 1):
            raise ValueError


def _layout(index: bytes) -> _Layout:
    found: Dict[int, Tuple[int, int]] = {}
    for position, (tag, kind, _offset, _count) in enumerate(_ENTRY.iter_unpack(index)):
        if tag in _TAGS:
            if kind not in _NUMBERS and kind not in _TEXTS and kind != _BINARY:
                raise ValueError("has tag %d with a value of type %d" % (tag, kind))
            found[_TAGS[tag]] = position, kind  # what rpm added on installation stands last, and counts
    # Bytes are neither a text nor a number, to `rpm -q` as well.
    wanted = sorted((position, slot, kind) for slot, (position, kind) in found.items() if kind != _BINARY)
    columns = ">"
    at = 0
    for position, _slot, _kind in wanted:
        columns += "%dxII" % (position * _ENTRY.size + 8 - at)
        at = position * _ENTRY.size + 16
    kinds = [kind for _position, _slot, kind in wanted]
    numbers = [_NUMBERS.get(kind) for kind in kinds]
    return _Layout(
        struct.Struct(columns),
        [(slot, number, number.size if number else 1) for (_at, slot, _kind), number in zip(wanted, numbers)],
        (1,) * len(wanted),
        kinds,
        all(TAGS[slot][2] == (kind in _TEXTS) for _position, slot, kind in wanted),
    )
