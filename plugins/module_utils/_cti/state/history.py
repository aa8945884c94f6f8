# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The history of a host: its change records under rising numbers, kept for a time and a size.

Each change that is stored gets the next number, from 1 on, and no number is given twice. Asking uses nothing up: a consumer
says which place it has and gets what follows. A row of the table holds the records of one run, kind and owner, up to ROW_BYTES.

A history that is too large loses the oldest rows of the owner who takes the most of it, so no user's changes push out those of the
others. The numbers of dropped rows are missing from then on.
"""

import sqlite3
from typing import Dict, Iterable, Iterator, List, NamedTuple, Tuple

from ..errors import RetentionError
from ..kinds.kind import Row
from .packing import inflate, json_list, pack

ROW_BYTES = 1 << 20  # of the JSON of one row, unless a single record is longer
MOST_DAYS = 36500
MOST_MIB = 1 << 20
DAY = 86400
# A gap between two runs counts as a day at the most: after a clock that jumped ahead, the history is still there.
MOST_SECONDS_BETWEEN_RUNS = DAY
ROOT = ""  # owner of all changes but those in folders of users, see Kind.owner


class Retention(NamedTuple):
    """How much of the history is kept, see append()."""

    days: float = 30  # see MOST_SECONDS_BETWEEN_RUNS
    mib: float = 64  # as stored, compressed

    @classmethod
    def checked(cls, days: float, mib: float) -> "Retention":
        """Of what a user wrote. Raises RetentionError."""
        for name, value, most in (("history_days", days, MOST_DAYS), ("history_mib", mib, MOST_MIB)):
            if not 0 < value <= most:
                raise RetentionError("The value of %s is %s. Give a number above 0, up to %d." % (name, value, most))
        return cls(days, mib)


KEEP = Retention()


def rows(records: List[Row], owner: str) -> Iterator[Tuple[int, str, str, bytes]]:
    """Records as (count, mark, owner, packed), one for each row they need."""
    packed = pack(records)
    if len(records) > 1 and len(inflate(packed)) > ROW_BYTES:
        half = len(records) // 2
        yield from rows(records[:half], owner)
        yield from rows(records[half:], owner)
    else:
        yield len(records), mark(records[-1]), owner, packed


def mark(record: Row) -> str:
    from ..records import RECORD_ID  # a run without changes does without

    text = str(record.get(RECORD_ID, ""))[:8]
    return text if all(character in "0123456789abcdef" for character in text) else ""


def append(
    db: sqlite3.Connection, added: Iterable[Tuple[int, str, str, bytes]], retention: Retention, now: int
) -> None:
    """Number what rows() made of a run's records. Drop what is older than is to be kept, and, where the rest is too large, see
    _too_large(). Runs in the caller's transaction."""
    last, last_mark, clock, seen_at = db.execute("SELECT last, mark, clock, seen_at FROM state").fetchone()
    if seen_at:
        clock += min(max(0, now - seen_at), MOST_SECONDS_BETWEEN_RUNS)
    elif not last:
        db.execute("UPDATE state SET dropped_at = ?", (now,))  # what changed before is not in the history either
    (total,) = db.execute("SELECT total FROM history ORDER BY last DESC LIMIT 1").fetchone() or (0,)
    for count, last_mark, owner, packed in added:
        last += count
        total += len(packed)
        db.execute(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (last, count, last_mark, now, clock, total, owner, packed),
        )
    db.execute("UPDATE state SET last = ?, mark = ?, clock = ?, seen_at = ?", (last, last_mark, clock, now))
    _drop(db, _too_old(db, clock - retention.days * DAY))
    _drop(db, _too_large(db, int(retention.mib * (1 << 20))))


def _drop(db: sqlite3.Connection, rows: List[Tuple[int, int]]) -> None:
    """Drop rows, given as (last, stored_at)."""
    if rows:
        db.executemany("DELETE FROM history WHERE last = ?", [(last,) for last, _stored_at in rows])
        dropped_at = max(stored_at for _last, stored_at in rows)
        db.execute("UPDATE state SET dropped_at = max(dropped_at, ?)", (dropped_at,))


def _too_old(db: sqlite3.Connection, since: float) -> List[Tuple[int, int]]:
    """The rows from before that time of the clock."""
    old = []
    for last, stored_at, clock in db.execute("SELECT last, stored_at, clock FROM history ORDER BY last"):
        if clock >= since:
            break
        old.append((last, stored_at))
    return old


def _too_large(db: sqlite3.Connection, limit: int) -> List[Tuple[int, int]]:
    """The rows to drop so that no more than `limit` bytes remain: the oldest of the owner who has the most, row by row. Those of
    root are dropped only while they take more than half of the limit, or nobody else has any."""
    before = db.execute("SELECT total - length(records) FROM history ORDER BY last LIMIT 1").fetchone()
    after = db.execute("SELECT total FROM history ORDER BY last DESC LIMIT 1").fetchone()
    if before is None or after[0] - before[0] <= limit:  # with what was dropped in between
        return []
    owned: Dict[str, List[Tuple[int, int, int]]] = {}
    newest_first = "SELECT owner, last, stored_at, length(records) FROM history ORDER BY last DESC"
    for owner, last, stored_at, size in db.execute(newest_first):
        owned.setdefault(owner, []).append((last, stored_at, size))
    sizes = {owner: sum(size for _last, _stored_at, size in rows) for owner, rows in owned.items()}
    dropped = []
    excess = sum(sizes.values()) - limit
    while excess > 0:
        owner = max(sizes, key=lambda owner: sizes[owner] if owner != ROOT or sizes[owner] > limit // 2 else 0)
        last, stored_at, size = owned[owner].pop()
        sizes[owner] -= size
        excess -= size
        dropped.append((last, stored_at))
    return dropped


def read_row(raw: bytes, count: int) -> List[Row]:
    """The records in the JSON of one row. Raises ValueError."""
    records = json_list(raw.decode("ascii"))
    if len(records) != count or not all(isinstance(record, dict) for record in records):
        raise ValueError("not %d records" % count)
    return records
