# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The outbox: records that wait for delivery in the state database, and leave it when they are delivered."""

import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from ..errors import ForwardError, Refused, TurnOver
from ..kinds.kind import Row
from ..text import plural, quoted
from ..wire.forward import Entry, flat
from .aside import set_aside
from .database import Database
from .packing import pack, unpack

MAX_BYTES = 64 << 20  # of the packed records in the database
SHARED_RECORDS = 100  # sent at once where each record goes out under several tags

Send = Callable[[str, Sequence[Entry]], bool]  # (tag, entries); see Sender.send


class Batch(NamedTuple):
    id: int
    stream: str
    records: List[Row]


class Depth(NamedTuple):
    """How much the outbox holds."""

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
    """Reads and removes the batches that Store.queue() has stored, oldest first. Raises StateError.

    `notes` has a sentence for each batch that could not be read and was moved to the table set_aside.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.notes: List[str] = []

    def depth(self) -> Depth:
        rows = self._query("SELECT sum(count), sum(length(records)), min(created) FROM outbox", since=2)
        records, size, oldest = rows[0] if rows else (None, None, None)
        return Depth(records or 0, size or 0, oldest)

    def batches(self) -> Iterator[Batch]:
        """Each batch, one in memory at a time, however many there are."""
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
            f"{count} undelivered records in the state '{quoted(self.path)}' are damaged ({reason}). They are not delivered, and were"
            " moved to its table set_aside. The others are delivered."
        )

    def set_aside(self, batch: Batch, refused: Sequence[Refused]) -> None:
        """Keep records that the receiver will never take where whoever looks into it finds them. The caller removes them."""
        if not refused or self._db is None:
            return
        reason = f"refused by the receiver: {refused[0].reason}"
        packed = pack([batch.records[one.number] for one in refused])
        self._query("BEGIN IMMEDIATE")
        set_aside(self._db, "outbox", reason, "SELECT ?", (packed,))
        self._query("COMMIT")
        self.notes.append(
            f"{plural(len(refused), 'record', 'was')} {reason}. The table set_aside of the state '{quoted(self.path)}' has"
            " what was refused. The others are delivered."
        )

    def keep_rest(self, batch: Batch, delivered: int) -> None:
        """Remove the first `delivered` records of a batch."""
        rest = batch.records[delivered:]
        self._query("UPDATE outbox SET count = ?, records = ? WHERE id = ?", len(rest), pack(rest), batch.id)

    def remove(self, batch: Batch) -> None:
        self._query("DELETE FROM outbox WHERE id = ?", batch.id)


def deliver(outbox: Outbox, send: Send, tags: Mapping[str, Sequence[str]]) -> DeliveryCounts:
    """Send the records in the outbox, each under every tag of its stream, and remove those that were delivered.

    A record is removed when it was delivered under all tags; one that arrives twice has the same RecordId both times. Where the
    sender's turn ends before everything is delivered, the rest stays. Raises StateError, and ForwardError with the numbers of
    records that were delivered and that are kept.
    """
    delivered = 0
    untagged: Dict[str, int] = {}
    try:
        for batch in outbox.batches():
            if not tags.get(batch.stream):
                untagged[batch.stream] = untagged.get(batch.stream, 0) + len(batch.records)
                continue
            try:
                _send_records(batch.records, send, tags[batch.stream])
            except ForwardError as error:
                outbox.set_aside(batch, error.refused)
                delivered -= len(error.refused)
                if not error.complete:
                    if error.taken:
                        outbox.keep_rest(batch, error.taken)
                        delivered += error.taken
                    raise
            outbox.remove(batch)
            delivered += len(batch.records)
    except ForwardError as error:
        if not (isinstance(error, TurnOver) and delivered):
            failure = ForwardError(
                f"{error} ({plural(delivered, 'record', 'was')} delivered, {outbox.depth().records} kept)"
            )
            failure.retry_after = error.retry_after
            raise failure from error
    if untagged:
        raise ForwardError(
            f"No data collection rule has a tag for the stream {' or '.join(sorted(untagged))}, so"
            f" {plural(sum(untagged.values()), 'record', 'is')} kept. Associate a rule with this machine, or give the tags."
        )
    return DeliveryCounts(delivered, outbox.depth().records)


def _send_records(records: Sequence[Row], send: Send, tags: Sequence[str]) -> None:
    """Send records under every tag. Raises ForwardError, whose `taken` is the number of records delivered under all tags."""
    now = int(time.time())
    entries = [(now, flat(record)) for record in records]
    # Under several tags, a few records at a time: some are delivered under all of them even if the receiver then fails.
    step = len(entries) if len(tags) == 1 else SHARED_RECORDS
    for start in range(0, len(entries), step or 1):
        for number, tag in enumerate(tags):
            try:
                send(tag, entries[start : start + step])  # noqa: E203
            except ForwardError as error:
                error.taken = start + (error.taken if number == len(tags) - 1 else 0)
                raise
