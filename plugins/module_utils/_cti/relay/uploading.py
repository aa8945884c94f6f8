# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The uploader tasks: when each sink's segments go, and what happens when they are not taken."""

import queue
import threading
import time
from typing import Callable, Dict, NamedTuple, Optional

from ..errors import CtiError
from . import segments
from .errors import UploadError
from .segments import Segment
from .sinks import LocalSink, Sinks
from .uploaders import Uploader

MAX_BACKOFF_SECONDS = 300


class Job(NamedTuple):
    stream: str
    segment: Segment


class Outcome(NamedTuple):
    stream: str
    segment: Segment
    error: str  # empty: it was taken


class Courier(threading.Thread):
    """Carries one segment at a time to the uploader, so that a slow destination holds up no client."""

    def __init__(self, uploader: Uploader, log: Callable[[str], None], wake: Callable[[], None]) -> None:
        super().__init__(name="courier", daemon=True)  # a hanging destination does not hold up the end either
        self.jobs: "queue.Queue[Optional[Job]]" = queue.Queue()
        self.outcomes: "queue.Queue[Outcome]" = queue.Queue()
        self._uploader = uploader
        self._log = log
        self._wake = wake

    def run(self) -> None:
        for job in iter(self.jobs.get, None):
            error = ""
            try:
                self._uploader.take(job.stream, segments.read(job.segment.path, self._log))
            except CtiError as failure:
                error = str(failure)
            except Exception as failure:  # a defect must not end the thread: the segment stays, and the log says why
                error = "%s: %s." % (type(failure).__name__, failure)
            self.outcomes.put(Outcome(job.stream, job.segment, error))
            self._wake()
        self._uploader.close()


class Task:
    """One sink's."""

    def __init__(self, due: float) -> None:
        self.due = due
        self.in_flight: Optional[Segment] = None
        self.failures = 0
        self.error = ""


class Uploading:
    """tick() it every second or so, and when the courier wakes the loop. Times are the monotonic clock's."""

    def __init__(
        self,
        sinks: Sinks,
        uploader: Uploader,
        interval: float,
        log: Callable[[str], None],
        wake: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sinks = sinks
        self._interval = interval
        self._log = log
        self._monotonic = monotonic
        self._tasks: Dict[str, Task] = {}
        try:
            uploader.prepare()
        except UploadError as error:  # a full disk is no reason to take nothing; each upload tries again
            log("%s What arrives is kept until it can be." % error)
        self._courier = Courier(uploader, log, wake)
        self._courier.start()

    def tick(self) -> None:
        self._settle()
        now = self._monotonic()
        for sink in self._sinks:
            task = self._tasks.setdefault(sink.stream, Task(now + self._interval if sink.received else now))
            sink.trim(task.in_flight)
            if task.in_flight is None and now >= task.due:
                self._start(sink, task, now)

    def stop(self, seconds: float) -> None:
        """Let what is on its way arrive, if it does so in time."""
        while not self._courier.jobs.empty():
            self._courier.jobs.get()
        self._courier.jobs.put(None)
        self._courier.join(seconds)
        self._settle(last=True)

    def error(self, stream: str) -> str:
        """Why the last upload failed; empty when it did not."""
        return self._tasks[stream].error if stream in self._tasks else ""

    def _start(self, sink: LocalSink, task: Task, now: float) -> None:
        sink.seal()
        if sink.oldest() is None:
            task.due = now + self._interval
            return
        if not task.failures:
            self._log_rows(sink)
        self._send_oldest(sink, task)

    def _send_oldest(self, sink: LocalSink, task: Task) -> None:
        task.in_flight = sink.oldest()
        if task.in_flight is not None:
            self._courier.jobs.put(Job(sink.stream, task.in_flight))

    def _settle(self, last: bool = False) -> None:
        while not self._courier.outcomes.empty():
            outcome = self._courier.outcomes.get()
            sink, task = self._sinks.sink(outcome.stream), self._tasks[outcome.stream]
            task.in_flight = None
            if outcome.error:
                self._failed(sink, task, outcome.error)
                continue
            sink.taken(outcome.segment)
            if task.failures:
                self._log("Uploading LocalSink %s works again." % sink.stream)
            task.failures, task.error = 0, ""
            if sink.oldest() is None:
                task.due = self._monotonic() + self._interval
                self._log_rows(sink)
            elif not last:
                self._send_oldest(sink, task)

    def _failed(self, sink: LocalSink, task: Task, error: str) -> None:
        task.failures += 1
        task.error = error
        delay = min(self._interval * 2 ** min(task.failures, 16), MAX_BACKOFF_SECONDS)
        task.due = self._monotonic() + delay
        self._log(
            "Uploading LocalSink %s failed: %s Its %d rows are kept; the next attempt is in %d s."
            % (sink.stream, error, sink.rows, delay)
        )

    def _log_rows(self, sink: LocalSink) -> None:
        self._log("LocalSink %s now has (actual count) %d rows" % (sink.stream, sink.rows))
