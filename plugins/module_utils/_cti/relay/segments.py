# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A segment: a file of records, one JSON array [unix seconds, record] a line, that is only ever appended to."""

import json
import os
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple

SUFFIX = ".jsonl"
BATCH_ROWS = 500
BATCH_BYTES = 256 << 10  # as they lie on disk; a key of a few bytes takes a hundred in memory

Entry = Tuple[float, Dict[str, Any]]

_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_DECODE = json.JSONDecoder().raw_decode


class Segment(NamedTuple):
    """One that is no longer written to."""

    path: str
    rows: int
    bytes: int
    since: float  # seconds of the monotonic clock; from the relay's start on for one it found


def encode(entries: Iterable[Entry]) -> List[bytes]:
    """The lines of records that JSON has a form for."""
    return [_ENCODE(entry).encode("ascii") + b"\n" for entry in entries]


def read(path: str, damaged: Callable[[str], None]) -> Iterator[List[Entry]]:
    """The records of a segment, in batches of at most BATCH_ROWS, and of one record or BATCH_BYTES.

    `damaged` is told of lines which are none: a torn last line was never acknowledged.
    """
    batch: List[Entry] = []
    bad = size = 0
    with open(path, "rb") as file:
        for line in file:
            if batch and (len(batch) >= BATCH_ROWS or size + len(line) > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            try:
                batch.append(_parse(line))
            except (ValueError, TypeError, RecursionError):
                bad += 1
            size += len(line)
    if batch:
        yield batch
    if bad:
        damaged("%s: %d damaged lines were skipped (a last line that is torn was never acknowledged)." % (path, bad))


def _parse(line: bytes) -> Entry:
    text = line.decode("ascii")
    (seconds, record), end = _DECODE(text)
    if text[end:] not in ("\n", "") or not isinstance(record, dict) or not isinstance(seconds, (int, float)):
        raise ValueError
    return seconds, record


def found(folder: str, now: float) -> List[Segment]:
    """What an earlier relay left, oldest first. Raises OSError."""
    segments = []
    for name in sorted(os.listdir(folder)):
        stem = name[: -len(SUFFIX)]
        if name.endswith(SUFFIX) and stem.isdigit():
            path = os.path.join(folder, name)
            rows, size = _count(path)
            segments.append(Segment(path, rows, size, now))
    return segments


def number(segment: Segment) -> int:
    return int(os.path.basename(segment.path)[: -len(SUFFIX)])


def _count(path: str) -> Tuple[int, int]:
    rows = size = 0
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            rows += block.count(b"\n")
            size += len(block)
    return rows, size
