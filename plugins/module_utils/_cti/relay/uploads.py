# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Uploads the segments of each sink at an interval, and retries or sets records aside when that fails."""

import contextlib
import queue
import threading
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..daemon import Log
from ..errors import CtiError
from ..text import plural
from . import segments
from .destinations import Uploader
from .errors import RecordsRefused, UploadError
from .refused import Refused
from .segments import Entry, Segment
from .sinks import LocalSink, Sinks

MAX_BACKOFF_SECONDS = 300
DOUBT_AFTER = 3  # failures, and after every further DOUBT_AFTER failures
MAX_SUSPECTS = 3  # records that fail in a row, after which the destination counts as unavailable


class Job(NamedTuple):
    stream: str
    segment: Segment
    following: Optional[Segment]
    doubtful: bool  # it failed repeatedly, so the destination may refuse some of its records


class Outcome(NamedTuple):
    stream: str
    segment: Segment
    error: str  # empty if the upload succeeded
    set_aside: int  # rows that were set aside
    retry_after: float  # seconds that the destination asks to wait after a failure


class Courier(threading.Thread):
    """Uploads one segment at a time in a thread of its own, so that a slow destination delays no client."""

    def __init__(
        self, uploader: Uploader, refused: Refused, log: Callable[[str], None], wake: Callable[[], None]
    ) -> None:
        super().__init__(name="courier", daemon=True)  # a destination that hangs does not delay the end of the process
        self.jobs: "queue.Queue[Optional[Job]]" = queue.Queue()
        self.outcomes: "queue.Queue[Outcome]" = queue.Queue()
        self._uploader = uploader
        self._refused = refused
        self._log = log
        self._wake = wake

    def run(self) -> None:
        with contextlib.suppress(Exception):  # the first upload tries again, and its error is logged
            self._uploader.begin()
        for job in iter(self.jobs.get, None):
            error, set_aside, retry_after = "", 0, 0.0
            try:
                set_aside = self._carry(job)
            except UploadError as failure:
                error, retry_after = str(failure), failure.retry_after
            except CtiError as failure:
                error = str(failure)
            except Exception as failure:  # a defect must not end the thread; the segment is kept
                error = "%s: %s." % (type(failure).__name__, failure)
            self.outcomes.put(Outcome(job.stream, job.segment, error, set_aside, retry_after))
            self._wake()
        self._uploader.close()

    def _carry(self, job: Job) -> int:
        """Upload a segment. Returns how many of its rows were set aside. Raises the errors of the uploader."""
        try:
            self._uploader.take(job.stream, segments.read(job.segment.path, self._log))
            return 0
        except RecordsRefused as error:
            if error.records:
                return Sieve(self._uploader, self._refused, self._log).put_aside(job.stream, error.records)
        except UploadError:
            if not (job.doubtful and self._uploader.remote):
                raise
        except Exception:
            if not job.doubtful:
                raise
        return Sieve(self._uploader, self._refused, self._log).sift(job)


class Sieve:
    """Uploads a segment in smaller and smaller pieces, and sets aside the records that the destination does not accept.

    If the destination closes the connection, it may be unavailable or may refuse a record. So a record is set aside only
    if the destination accepted another one after it failed, or if the form of the record is the reason.
    """

    def __init__(self, uploader: Uploader, refused: Refused, log: Callable[[str], None]) -> None:
        self._uploader = uploader
        self._refused = refused
        self._log = log
        self._suspects: List[Tuple[Entry, str]] = []
        self._good: Optional[List[Entry]] = None  # records that were accepted
        self._set_aside = 0

    def sift(self, job: Job) -> int:
        """Upload a segment. Returns how many rows were set aside. Raises UploadError if the destination seems unavailable."""
        for batch in segments.read(job.segment.path, self._log):
            self._take(job.stream, batch)
        if self._suspects:
            proof = self._good or self._first_batch(job.following)
            if proof:
                self._uploader.take(job.stream, [proof])  # again, which is harmless: the RecordIds are the same
                self._condemn(job.stream)
        if self._suspects:
            raise UploadError(self._suspects[0][1])
        return self._set_aside

    def put_aside(self, stream: str, records: Sequence[Tuple[Entry, str]]) -> int:
        """Set aside records that the destination has named. Returns how many."""
        for entry, reason in records:
            self._put_aside(stream, entry, reason)
        return self._set_aside

    def _take(self, stream: str, batch: List[Entry]) -> None:
        try:
            self._uploader.take(stream, [batch])
        except Exception as error:
            if len(batch) > 1:
                self._take(stream, batch[: len(batch) // 2])
                self._take(stream, batch[len(batch) // 2 :])  # noqa: E203
            elif isinstance(error, RecordsRefused):
                self._put_aside(stream, batch[0], str(error))
            else:
                self._suspects.append((batch[0], str(error)))
                if len(self._suspects) >= MAX_SUSPECTS:
                    raise
        else:
            self._good = batch
            self._condemn(stream)

    def _condemn(self, stream: str) -> None:
        for entry, reason in self._suspects:
            self._put_aside(stream, entry, reason)
        self._suspects = []

    def _put_aside(self, stream: str, entry: Entry, reason: str) -> None:
        self._refused.add(stream, entry, reason)
        self._set_aside += 1
        self._log(
            "LocalSink %s: a record that the destination does not accept was set aside in %s: %s"
            % (stream, self._refused.path, reason)
        )

    def _first_batch(self, segment: Optional[Segment]) -> Optional[List[Entry]]:
        return next(segments.read(segment.path, self._log), None) if segment is not None else None


class UploadTask:
    """When a sink is uploaded next, and the result of the last upload."""

    def __init__(self, due: float) -> None:
        self.due = due
        self.in_flight: Optional[Segment] = None
        self.failures = 0
        self.error = ""


class Uploading:
    """All uploads. Call tick() about every second, and when `wake` was called. Times are those of `monotonic`."""

    def __init__(
        self,
        sinks: Sinks,
        uploader: Uploader,
        refused: Refused,
        interval: float,
        log: Log,
        wake: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sinks = sinks
        self._interval = interval
        self._log = log
        self._monotonic = monotonic
        self._tasks: Dict[str, UploadTask] = {}
        try:
            uploader.prepare()
        except UploadError as error:  # records are accepted even if the disk is full; each upload tries again
            log.error("%s Records are kept until that works." % error)
        self._courier = Courier(uploader, refused, log.warning, wake)
        self._courier.start()

    def tick(self) -> None:
        self._settle()
        now = self._monotonic()
        for stream in [stream for stream in self._tasks if self._sinks.get(stream) is None]:
            del self._tasks[stream]
        for sink in self._sinks:
            task = self._tasks.setdefault(sink.stream, UploadTask(now + self._interval if sink.received else now))
            sink.trim(task.in_flight)
            if task.in_flight is None and now >= task.due:
                self._start(sink, task, now)

    def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for the running upload, and start no others."""
        while not self._courier.jobs.empty():
            self._courier.jobs.get()
        self._courier.jobs.put(None)
        self._courier.join(seconds)
        self._settle(last=True)

    def error(self, stream: str) -> str:
        """The error of the last upload; empty if it succeeded."""
        return self._tasks[stream].error if stream in self._tasks else ""

    def _start(self, sink: LocalSink, task: UploadTask, now: float) -> None:
        sink.seal()
        if sink.oldest() is None:
            task.due = now + self._interval
            return
        if not task.failures:
            self._log_rows(sink)
        self._send_oldest(sink, task)

    def _send_oldest(self, sink: LocalSink, task: UploadTask) -> None:
        task.in_flight = sink.oldest()
        if task.in_flight is not None:
            doubtful = task.failures > 0 and task.failures % DOUBT_AFTER == 0
            self._courier.jobs.put(Job(sink.stream, task.in_flight, sink.after(task.in_flight), doubtful))

    def _settle(self, last: bool = False) -> None:
        while not self._courier.outcomes.empty():
            outcome = self._courier.outcomes.get()
            sink, task = self._sinks.get(outcome.stream), self._tasks[outcome.stream]
            task.in_flight = None
            if sink is None:  # not expected: sinks with rows are kept
                continue
            if outcome.error:
                self._failed(sink, task, outcome.error, outcome.retry_after)
                continue
            sink.taken(outcome.segment, outcome.set_aside)
            if task.failures:
                self._log("Uploading LocalSink %s works again." % sink.stream)
            task.failures, task.error = 0, ""
            if sink.oldest() is None:
                task.due = self._monotonic() + self._interval
                self._log_rows(sink)
            elif not last:
                self._send_oldest(sink, task)

    def _failed(self, sink: LocalSink, task: UploadTask, error: str, retry_after: float) -> None:
        task.failures += 1
        task.error = error
        delay = max(min(self._interval * 2 ** min(task.failures, 16), MAX_BACKOFF_SECONDS), retry_after)
        task.due = self._monotonic() + delay
        self._log.error(
            "Uploading LocalSink %s failed: %s The sink keeps %s. The next attempt is in %d s."
            % (sink.stream, error, plural(sink.rows, "row"), delay)
        )

    def _log_rows(self, sink: LocalSink) -> None:
        self._log("LocalSink %s now has (actual count) %d rows" % (sink.stream, sink.rows))
