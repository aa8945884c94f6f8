# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Records that are to be handed over: they leave the database once they were."""

import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from ..errors import ForwardError, TurnOver
from ..kinds.kind import Row
from ..text import quoted
from ..wire.forward import Entry, flat
from .database import Database
from .packing import pack, set_aside, unpack

MAX_BYTES = 64 << 20  # as they lie in the database
SHARED_RECORDS = 100  # handed over at once, where each goes out under several tags

Send = Callable[[str, Sequence[Entry]], bool]  # (tag, entries); see Sender.send


class Batch(NamedTuple):
    id: int
    stream: str
    records: List[Row]


class Depth(NamedTuple):
    """What waits."""

    records: int
    bytes: int
    oldest: Optional[int]  # unix seconds

    @property
    def full(self) -> bool:
        return self.bytes >= MAX_BYTES


class DeliveryCounts(NamedTuple):
    delivered: int  # records
    waiting: int


class Outbox(Database):
    """What Store.queue() has put there, oldest first. Raises StateError.

    `notes` holds a sentence for each batch that could not be read and was set aside.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.notes: List[str] = []

    def depth(self) -> Depth:
        rows = self._query("SELECT sum(count), sum(length(records)), min(created) FROM outbox", since=2)
        records, size, oldest = rows[0] if rows else (None, None, None)
        return Depth(records or 0, size or 0, oldest)

    def batches(self) -> Iterator[Batch]:
        """One at a time, so that memory does not follow what has gathered."""
        last = 0
        while True:
            statement = "SELECT id, stream, count, records FROM outbox WHERE id > ? ORDER BY id LIMIT 1"
            rows = self._query(statement, last, since=2)
            if not rows:
                return
            last, stream, count, packed = rows[0]
            try:
                records = unpack(packed)
                if not all(isinstance(record, dict) for record in records):
                    raise ValueError("a record is no object")
            except ValueError as error:
                self._set_aside(last, count, str(error))
                continue
            yield Batch(last, stream, records)

    def _set_aside(self, batch: int, count: int, reason: str) -> None:
        if self._db is not None and not self._read_only:
            self._query("BEGIN IMMEDIATE")
            set_aside(self._db, "outbox", reason, "SELECT records FROM outbox WHERE id = ?", (batch,))
            self._query("DELETE FROM outbox WHERE id = ?", batch)
            self._query("COMMIT")
        self.notes.append(
            "%d undelivered records in %s are damaged (%s). They are in its table set_aside now; the others are delivered."
            % (count, quoted(self.path), reason)
        )

    def keep_rest(self, batch: Batch, delivered: int) -> None:
        """Remove so many records from the front of a batch."""
        rest = batch.records[delivered:]
        self._query("UPDATE outbox SET count = ?, records = ? WHERE id = ?", len(rest), pack(rest), batch.id)

    def remove(self, batch: Batch) -> None:
        self._query("DELETE FROM outbox WHERE id = ?", batch.id)


def deliver(outbox: Outbox, send: Send, tags: Mapping[str, Sequence[str]]) -> DeliveryCounts:
    """Hand over what waits, each record under every tag of its stream.

    A record stays until it was handed over under all of them; what arrives twice then bears the same RecordId. Where the
    sender's turn is over before all is delivered, the rest waits. Raises StateError, and ForwardError with what was and
    was not delivered in its sentence.
    """
    delivered = 0
    untagged: Dict[str, int] = {}
    try:
        for batch in outbox.batches():
            if not tags.get(batch.stream):
                untagged[batch.stream] = untagged.get(batch.stream, 0) + len(batch.records)
                continue
            try:
                _hand_over(batch.records, send, tags[batch.stream])
            except ForwardError as error:
                if error.taken:
                    outbox.keep_rest(batch, error.taken)
                    delivered += error.taken
                raise
            outbox.remove(batch)
            delivered += len(batch.records)
    except ForwardError as error:
        if not (isinstance(error, TurnOver) and delivered):
            raise ForwardError(
                "%s (%d records were delivered, %d are kept)" % (error, delivered, outbox.depth().records)
            ) from error
    if untagged:
        raise ForwardError(
            "No data collection rule names a tag for the stream %s, so %d records are kept; associate a rule with this"
            " machine, or give the tags." % (" or ".join(sorted(untagged)), sum(untagged.values()))
        )
    return DeliveryCounts(delivered, outbox.depth().records)


def _hand_over(records: Sequence[Row], send: Send, tags: Sequence[str]) -> None:
    """ForwardError: its `taken` is the number of records that were handed over under every tag."""
    now = int(time.time())
    entries = [(now, flat(record)) for record in records]
    # Under several tags, a few at a time, so that some are done with when the receiver takes no more.
    step = len(entries) if len(tags) == 1 else SHARED_RECORDS
    for start in range(0, len(entries), step or 1):
        for number, tag in enumerate(tags):
            try:
                send(tag, entries[start : start + step])  # noqa: E203
            except ForwardError as error:
                error.taken = start + (error.taken if number == len(tags) - 1 else 0)
                raise
