# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delivers the spool to the receiver, within the time that a run may spend on it.

A connection is closed after each attempt: workers are forked between attempts, and would keep it open.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...module_utils._cti.ama import config
from ...module_utils._cti.errors import CtiError, ForwardError
from ...module_utils._cti.packed_reader import PackedError
from ...module_utils._cti.rule import dcr, tags
from ...module_utils._cti.rule.settings import EXTENSION
from ...module_utils._cti.wire import sockets
from ...module_utils._cti.wire.address import Address
from ...module_utils._cti.wire.forward import flat
from ...module_utils._cti.wire.sender import Sender
from ...module_utils._cti.wire.sockets import Deadline
from ...module_utils._cti.wire.tls import Tls
from .._query import MISSING, jmespath, search
from .._spool import Spool, SpoolFile
from . import parcel as parcels
from .parcel import ROWS, Parcel, Row

LOST_SECONDS = 0.8  # that a run may spend on deliveries that fail
KEPT_SECONDS = 0.4  # of these, reserved for the end of the run
TASK_SECONDS = 0.25  # for deliveries between two tasks
LEAST_SECONDS = 0.05  # without which no attempt is made
PAUSE_SECONDS = 1.0  # after a failure; doubled by each further one
NO_TIME = "Not all records could be delivered in time. Raise flush_deadline if the next runs do not catch up"


class Receiver(NamedTuple):
    address: Address
    config: Address  # of the socket to request the tags from that are not given
    allow_users: Sequence[str]
    tags: Mapping[str, str]  # by stream; those that are given
    acks: str
    tls: Tls


class Delivery:
    """Delivers records, and counts them. `problem`: why the last attempt failed; empty after a successful one."""

    def __init__(self, receiver: Receiver, flush_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.delivered = 0
        self.dropped = 0
        self.left_out = 0  # by queries
        self.damaged = 0  # lines of the spool
        self.problem = ""
        self.query_problem = ""
        self._receiver = receiver
        self._tags = tags.choose(receiver.address, {}, receiver.tags)
        self._asked = False  # for the tags that are not given
        self._sender: Sender | None = None
        self._clock = clock
        self._flush_left = flush_seconds
        self._lost_left = LOST_SECONDS
        self._pause = PAUSE_SECONDS
        self._not_before = clock()
        self._until = self._give_up = 0.0
        self._patience = 0.0

    def between_tasks(self, spool: Spool) -> None:
        """Deliver what this run has spooled, unless the receiver has just failed."""
        if self._clock() >= self._not_before:
            self._attempt(spool, spool.own(), TASK_SECONDS, self._lost_left - KEPT_SECONDS)

    def at_the_end(self, spool: Spool) -> None:
        """Deliver the whole spool, the records of earlier runs first."""
        self._attempt(spool, spool.files(), self._flush_left, self._lost_left)

    def _attempt(self, spool: Spool, files: Iterable[SpoolFile], seconds: float, patience: float) -> None:
        if self._flush_left <= 0:
            self.problem = NO_TIME
        if self._flush_left <= 0 or patience < LEAST_SECONDS:
            return
        start = self._clock()
        self._give_up = start + self._flush_left
        self._until = min(start + seconds, self._give_up)
        self._patience = round(patience, 2)  # as messages show it
        try:
            self.problem = ""
            for file in files:
                if not self._deliver_file(spool, file):
                    break
        except CtiError as error:
            self.problem = str(error)
            self._pause_for_a_while()
        except OSError as error:
            self.problem = f"The spool {spool.folder} cannot be used ({error.strerror})"
        finally:
            if self._sender is not None:
                self._sender.close()
                self._sender = None
            self._flush_left -= self._clock() - start

    def _pause_for_a_while(self) -> None:
        self._not_before = self._clock() + self._pause
        self._pause *= 2

    def _deliver_file(self, spool: Spool, file: SpoolFile) -> bool:
        """Deliver a file. Returns whether there is time for more."""
        all_done = True
        for offset, line in file.lines():
            if self._clock() >= self._until:
                self.problem = NO_TIME
                return False
            records = self._deliver_line(line)
            if records is None:
                all_done = False
            else:
                file.done(offset, records)
        if all_done:
            spool.remove(file)
        else:
            self._pause_for_a_while()
        return True

    def _deliver_line(self, line: bytes) -> int | None:
        """Deliver a line. Returns the number of records that it was counted as; None where it has to wait. Raises CtiError."""
        try:
            parcel = parcels.parse(line)
        except ValueError:
            self.damaged += 1
            return 0
        chosen = self._tags_of(parcel.stream)
        if parcel.query and jmespath is None:
            self.problem = f"Records wait for a query, which {MISSING}"
            return None
        if not chosen:
            return None
        sent = 0
        try:
            for records in _batches(self._chosen(parcel)):
                for tag in chosen:
                    self._send(tag, records)
                sent += len(records)
        except PackedError:
            self.damaged += 1
            self.dropped += max(parcel.total - sent, 0)
        self.delivered += sent
        return parcel.total

    # --- what blocks

    def _send(self, tag: str, records: list[Row]) -> None:
        if self._clock() >= self._give_up:
            raise ForwardError("The flush deadline passed during the delivery; raise flush_deadline")
        receiver = self._receiver
        sender = self._sender
        if sender is None:
            sender = self._sender = Sender(receiver.address, receiver.allow_users, receiver.acks, tls=receiver.tls)
        sender.deadline = self._patience
        now = int(time.time())
        entries = [(now, flat(record)) for record in records]
        self._patiently(lambda: sender.send(tag, entries))

    def _tags_of(self, stream: str) -> Sequence[str]:
        """The tags of a stream; where there are none, `problem` is set."""
        if not self._asked and not self._tags[stream]:
            self._tags = tags.choose(self._receiver.address, self._patiently(self._ask_for_tags), self._receiver.tags)
            self._asked = True
        if not self._tags[stream]:
            self.problem = f"AMA has no tag for the stream {stream}. Associate a data collection rule with this machine, or set the tag"
            if not any(self._tags.values()):  # no need to read on
                raise ForwardError(self.problem)
        return self._tags[stream]

    def _ask_for_tags(self) -> Mapping[str, Sequence[str]]:
        until = Deadline(self._patience)
        address = self._receiver.config
        with sockets.connect(address, until.left(), self._receiver.allow_users) as sock:
            document = config.request(sock, EXTENSION, until.left())
        return dcr.load(document, "that AMA gave out").streams if document is not None else {}

    def _patiently(self, action: Callable[[], Any]) -> Any:
        """Call `action`. Where it fails, its time counts as lost."""
        start = self._clock()
        try:
            return action()
        except BaseException:
            self._lost_left -= self._clock() - start
            raise

    # --- queries

    def _chosen(self, parcel: Parcel) -> Iterator[Row]:
        """The records that the parcel's query selects, one at a time. Raises PackedError."""
        for record in parcels.records(parcel):
            if not parcel.query or self._is_chosen(parcel.query, record):
                yield record
            else:
                self.left_out += 1

    def _is_chosen(self, query: str, record: Row) -> bool:
        """Whether the query's result is true in JMESPath's sense: 0 is true."""
        try:
            found = search(query, record)
        except ValueError as error:
            self.query_problem = (
                f"The query does not work on all records. Those on which it fails are not sent ({error})"
            )
            return False
        return not (found is None or found is False or (not isinstance(found, int) and not found))


def _batches(records: Iterator[Row]) -> Iterator[list[Row]]:
    """The records in lists of up to ROWS."""
    while True:
        batch = list(itertools.islice(records, ROWS))
        if not batch:
            return
        yield batch
