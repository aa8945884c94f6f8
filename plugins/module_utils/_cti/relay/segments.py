# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A segment: a file of records, one JSON array [unix seconds, record] a line, that is only ever appended to."""

import json
import os
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from ..errors import FormatError
from ..records import RECORD_ID
from ..text import plural
from ..wire.forward import flat

SUFFIX = ".jsonl"
RECORD_BYTES = 4 << 20  # of a line, here and in relays that it is forwarded to, where it has a RecordId
RECORD_KEYS = 10000  # with the RecordId; receivers accept a limited number of values
MESSAGE_BYTES = 16 << 20  # of the lines of one message: an escaped character takes up to six times its bytes
LOOK_AFTER = 32  # records between two looks at the clock
PART_BYTES = 1 << 20  # of lines that are encoded at a time
BATCH_ROWS = 500
BATCH_BYTES = 256 << 10  # on disk; a key of a few bytes takes a hundred in memory

Entry = Tuple[float, Dict[str, Any]]

_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_DECODE = json.JSONDecoder().raw_decode


class Segment(NamedTuple):
    """A segment that is no longer written to."""

    path: str
    rows: int
    bytes: int
    since: float  # seconds of the monotonic clock; the start of the relay for a segment of an earlier process
    foreign: int  # bytes from clients of the network; all bytes if that is not known


class Encoder:
    """Encodes the records of one message as JSON lines, a part at a time, because a large message takes long.

    `too_large` is called with a record that a destination could not accept, and the reason. The record gets no line.
    """

    def __init__(self, entries: Iterable[Entry], too_large: Callable[[Entry, str], None]) -> None:
        self.lines: List[bytes] = []
        self.bytes = 0  # of all lines
        self._entries = iter(entries)
        self._too_large = too_large

    def advance(self, until: float) -> bool:
        """Whether all is done; or else it is `until` by the monotonic clock, or PART_BYTES or a large record was read.

        FormatError: they are too large together.
        """
        end = self.bytes + PART_BYTES
        for number, entry in enumerate(self._entries, 1):
            stored = self._encode(entry)
            if not stored or self.bytes >= end or (not number % LOOK_AFTER and time.monotonic() >= until):
                return False
        return True

    def _encode(self, entry: Entry) -> bool:
        """Add the line of a record. Returns False if the record is too large."""
        reason = _too_large(entry[1])
        line = b"" if reason else _ENCODE(entry).encode("ascii") + b"\n"
        if len(line) > RECORD_BYTES // 3:  # or else it is not too large when it is forwarded, either
            longest = max(len(line), _forwarded(entry)) if len(line) <= RECORD_BYTES else len(line)
            reason = _REASON % (longest, "bytes", RECORD_BYTES) if longest > RECORD_BYTES else ""
        if reason:
            self._too_large(entry, reason)
            return False
        self.lines.append(line)
        self.bytes += len(line)
        if self.bytes > MESSAGE_BYTES:
            raise FormatError("the records of a message are more than %d bytes of JSON" % MESSAGE_BYTES)
        return True


def encode(entries: Iterable[Entry], too_large: Callable[[Entry, str], None]) -> List[bytes]:
    """The lines of all records at once; see Encoder."""
    encoder = Encoder(entries, too_large)
    while not encoder.advance(float("inf")):
        pass
    return encoder.lines


_REASON = "it has %d %s, and the limit for a record is %d"


def _too_large(record: Dict[str, Any]) -> str:
    """Why a record is too large, without encoding it, which takes up to six times its size in memory; empty if it is not."""
    if len(record) >= RECORD_KEYS and len(record) + (RECORD_ID not in record) > RECORD_KEYS:
        return _REASON % (len(record), "keys", RECORD_KEYS)
    if set(map(type, record.values())) == _TEXTS:
        characters = sum(map(len, record)) + sum(map(len, record.values()))
    else:
        characters = _characters(record)
    return _REASON % (characters, "characters", RECORD_BYTES) if characters > RECORD_BYTES else ""


_TEXTS = {str}


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(len, value)) + sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0


def _forwarded(entry: Entry) -> int:
    """The length of the line in a relay that the record is forwarded to: with a RecordId, and nested values as text."""
    record: Dict[str, Any] = dict(flat(entry[1]))
    own = entry[1].get(RECORD_ID)
    if not isinstance(own, str) or not own:
        record[RECORD_ID] = "sha256:" + "0" * 64
    return len(_ENCODE((entry[0], record))) + 1


def read(path: str, damaged: Callable[[str], None]) -> Iterator[List[Entry]]:
    """The records of a segment, in batches of at most BATCH_ROWS, and of one record or BATCH_BYTES.

    `damaged` is called with a message about lines that are not valid. An incomplete last line was never acknowledged.
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
        skipped = plural(bad, "damaged line", "was")
        damaged("%s: %s skipped (an incomplete last line was never acknowledged)." % (path, skipped))


def _parse(line: bytes) -> Entry:
    text = line.decode("ascii")
    (seconds, record), end = _DECODE(text)
    if text[end:] not in ("\n", "") or not isinstance(record, dict) or not isinstance(seconds, (int, float)):
        raise ValueError
    return seconds, record


def found(folder: str, now: float) -> List[Segment]:
    """The segments that an earlier process left, oldest first. Raises OSError."""
    segments = []
    for name in sorted(os.listdir(folder)):
        stem = name[: -len(SUFFIX)]
        if name.endswith(SUFFIX) and stem.isdecimal():
            path = os.path.join(folder, name)
            rows, size = _count(path)
            segments.append(Segment(path, rows, size, now, size))
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
