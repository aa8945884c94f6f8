# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Records that are to be handed over: they leave the database once they were."""

import time
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from .ama.forward import Entry, flat
from .database import Database
from .errors import ForwardError
from .records import Row

MAX_BYTES = 64 << 20  # as they lie in the database

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


class Delivery(NamedTuple):
    delivered: int  # records
    waiting: int


class Outbox(Database):
    """What Store.queue() has put there, oldest first. Raises StateError."""

    def depth(self) -> Depth:
        rows = self._query("SELECT sum(count), sum(length(records)), min(created) FROM outbox", since=2)
        records, size, oldest = rows[0] if rows else (None, None, None)
        return Depth(records or 0, size or 0, oldest)

    def batches(self) -> Iterator[Batch]:
        """One at a time, so that memory does not follow what has gathered."""
        last = 0
        while True:
            statement = "SELECT id, stream, records FROM outbox WHERE id > ? ORDER BY id LIMIT 1"
            rows = self._query(statement, last, since=2)
            if not rows:
                return
            last, stream, packed = rows[0]
            records = self._unpack(packed)
            if not all(isinstance(record, dict) for record in records):
                raise self._error(ValueError("a record is no object"))
            yield Batch(last, stream, records)

    def remove(self, batch: Batch) -> None:
        self._query("DELETE FROM outbox WHERE id = ?", batch.id)


def deliver(outbox: Outbox, send: Send, tags: Mapping[str, Sequence[str]]) -> Delivery:
    """Hand over what waits, each record under every tag of its stream.

    A batch stays until it was handed over under all of them; what arrives twice then bears the same RecordId.
    Raises StateError, and ForwardError with what was and was not delivered in its sentence.
    """
    delivered = 0
    untagged: Dict[str, int] = {}
    try:
        for batch in outbox.batches():
            if not tags.get(batch.stream):
                untagged[batch.stream] = untagged.get(batch.stream, 0) + len(batch.records)
                continue
            now = int(time.time())
            entries = [(now, flat(record)) for record in batch.records]
            for tag in tags[batch.stream]:
                send(tag, entries)
            outbox.remove(batch)
            delivered += len(batch.records)
    except ForwardError as error:
        raise ForwardError(
            "%s (%d records were delivered, %d are kept)" % (error, delivered, outbox.depth().records)
        ) from error
    if untagged:
        raise ForwardError(
            "No data collection rule names a tag for the stream %s, so %d records are kept; associate a rule with this"
            " machine, or give the tags." % (" or ".join(sorted(untagged)), sum(untagged.values()))
        )
    return Delivery(delivered, outbox.depth().records)
