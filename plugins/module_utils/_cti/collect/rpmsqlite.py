# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Packages out of rpm's SQLite database; its headers are laid out as rpm's docs/manual/format_header.md has it."""

import os
import sqlite3
import struct
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..errors import SourceFailed
from ..model import Package
from ..text import decode
from .rpmtags import INT32, INT64, REMEDY, TAGS, package

_LOCK_WAIT = 2.0  # seconds
_NUMBERS = {INT32: struct.Struct(">I"), INT64: struct.Struct(">Q")}
_INTRO = struct.Struct(">II")
_ENTRY = struct.Struct(">IIII")  # tag, type, offset, count

_Layout = Tuple[struct.Struct, Sequence[Tuple[int, Optional[struct.Struct]]]]


def read(path: str) -> List[Package]:
    """Every package; SourceFailed where the database cannot be read in full."""
    with open(path, "rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            raise SourceFailed("the rpm database %s is not an SQLite database; %s" % (path, REMEDY))
    uri = "file:%s?mode=ro" % path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        try:
            return _packages(path, uri)
        except sqlite3.OperationalError as error:
            # Without leave to write beside it, SQLite opens a database with a write-ahead log only if told that nobody
            # writes to it: right as long as that log is empty, and rpm.collect() looks again afterwards.
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
            if any(os.path.exists(path + log) and os.path.getsize(path + log) for log in ("-wal", "-journal")):
                raise
            return _packages(path, uri + "&immutable=1")
    except sqlite3.Error as error:
        raise SourceFailed("the rpm database %s cannot be read: %s; %s" % (path, error, REMEDY)) from error


def _packages(path: str, uri: str) -> List[Package]:
    connection = sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT)
    try:
        layouts: Dict[bytes, _Layout] = {}
        packages = []
        for number, blob in connection.execute("SELECT hnum, blob FROM Packages"):
            try:
                packages.append(parse_header(blob, layouts))
            except ValueError as error:
                raise SourceFailed("header %s of the rpm database %s %s; %s" % (number, path, error, REMEDY)) from error
        return packages
    finally:
        connection.close()


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
    index = blob[_INTRO.size : data]
    shape = memoryview(index).cast("Q")[::2].tobytes()  # tag and type of each entry
    layout = layouts.get(shape)
    if layout is None:
        layout = layouts[shape] = _layout(index)
    offsets, slots = layout
    values: List[Any] = [None] * len(TAGS)
    try:
        for (slot, number), offset in zip(slots, offsets.unpack_from(index)):
            start = data + offset
            if number is None:
                values[slot] = decode(blob[start : blob.index(b"\0", start)])
            else:
                (values[slot],) = number.unpack_from(blob, start)
    except (struct.error, ValueError):
        raise ValueError("has a tag whose value is not inside it") from None
    return package(*values)


def _layout(index: bytes) -> _Layout:
    """Where an index of this shape has the offsets of the tags of interest, and what to make of each."""
    slots = {tag: (slot, types) for slot, (tag, _name, types) in enumerate(TAGS)}
    found: Dict[int, Tuple[int, int]] = {}
    for position, (tag, kind, _offset, _count) in enumerate(_ENTRY.iter_unpack(index)):
        if tag in slots:
            slot, types = slots[tag]
            if kind not in types:
                raise ValueError("has tag %d with a value of type %d" % (tag, kind))
            found[slot] = position, kind  # what rpm added on installation stands last, and counts
    wanted = sorted((position, slot, kind) for slot, (position, kind) in found.items())
    columns = ">"
    at = 0
    for position, _slot, _kind in wanted:
        columns += "%dxI" % (position * _ENTRY.size + 8 - at)
        at = position * _ENTRY.size + 12
    return struct.Struct(columns), [(slot, _NUMBERS.get(kind)) for _position, slot, kind in wanted]
