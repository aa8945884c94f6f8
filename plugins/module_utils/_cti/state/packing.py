# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""How the rows of the state database hold values: packed JSON, read within limits; what is damaged is set aside."""

import json
import sqlite3
import time
import zlib
from typing import Any, List, Sequence

from ..text import check_size

MAX_BYTES = 512 << 20  # of one row's JSON, once unpacked
ASIDE_BYTES = 64 << 20  # of the rows that are set aside


def pack(values: Sequence[Any]) -> bytes:
    return zlib.compress(json.dumps(values, separators=(",", ":")).encode("ascii"), 1)


def inflate(packed: bytes) -> bytes:
    """The JSON that was packed. Raises ValueError."""
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(packed, MAX_BYTES)
    except (zlib.error, TypeError) as error:
        raise ValueError(str(error)) from error
    if not stream.eof:
        raise ValueError("longer than %d bytes, or cut off" % MAX_BYTES)
    return raw


def json_list(text: str) -> List[Any]:
    """The list that a JSON text holds. Raises ValueError."""
    try:
        check_size(text)
        value = json.loads(text)
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def unpack(packed: bytes) -> List[Any]:
    """The list that was packed. Raises ValueError."""
    return json_list(inflate(packed).decode("ascii"))


def set_aside(db: sqlite3.Connection, source: str, reason: str, contents: str, values: Sequence[Any] = ()) -> None:
    """Copy the blobs that the query `contents` selects from the table `source` to where whoever looks into the damage finds
    them. The caller deletes the rows. Beyond ASIDE_BYTES the oldest go."""
    statement = "INSERT INTO set_aside (source, at, reason, content) SELECT ?, ?, ?, * FROM (%s)" % contents
    db.execute(statement, (source, int(time.time()), reason, *values))
    size = 0
    for row, length in db.execute("SELECT id, length(content) FROM set_aside ORDER BY id DESC").fetchall():
        size += length or 0
        if size > ASIDE_BYTES:
            db.execute("DELETE FROM set_aside WHERE id <= ?", (row,))
            return
