# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Runs tasks at their intervals, each in a thread of its own, so that a slow one does not delay the others."""

import os
import select
import threading
import time
from typing import Callable, Dict, Optional

LONGEST_WAIT = 30.0  # seconds; the timeout of poll() does not advance while the machine is suspended
_CLOCK_BOOTTIME = 7  # clock_gettime(2); Python 3.7 and later name it in `time`


def uptime() -> float:
    """Seconds on a clock that cannot be set and that advances while the machine is suspended."""
    return time.clock_gettime(_CLOCK_BOOTTIME)


class ScheduledTask:
    """Work to do again and again. It is not due until it has an interval, or until Schedule.run_within() is called."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.every: Optional[float] = None  # seconds
        self.due: Optional[float] = None
        self.between: Optional[float] = None  # when it is to run in addition
        self.is_between = False  # whether the current run is such a one
        self.running = False
        self.thread: Optional[threading.Thread] = None  # of the last run
        self.proc = ""  # of the thread, below /proc
        self.switches = b""  # how often the thread had run, as it was `looked_at`
        self.looked_at = 0.0
        self.stuck = 0.0  # seconds for which it has not run since

    def set_interval(self, every: Optional[float], now: float, delay: float) -> None:
        """Set or change the interval; None: no longer due.

        A task that had no interval is due in `delay` seconds, one whose interval changes in `every` seconds, unless it
        already is due earlier.
        """
        if every == self.every:
            return
        is_new, self.every = self.every is None, every
        if every is None:
            self.due = self.between = None
        else:
            self.make_due(now + (delay if is_new else every))

    def make_due(self, at: float) -> None:
        """Let the task be due at that time, unless it is due earlier."""
        self.due = at if self.due is None else min(self.due, at)

    @property
    def next(self) -> Optional[float]:
        """When it is to run, as its intervals say or in addition."""
        times = [at for at in (self.due, self.between) if at is not None]
        return min(times) if times else None

    def started(self, now: float) -> None:
        """Set when the task is due next: a whole number of intervals after the last time, so missed runs are skipped. A run in
        addition changes nothing about that."""
        self.between = None
        self.is_between = self.due is not None and now < self.due
        if self.is_between:
            return
        if self.every is None or self.due is None:
            self.due = None
        else:
            self.due += self.every * (1 + max(0, int((now - self.due) / self.every)))


class Schedule:
    """Runs tasks until end() is called. `failed` is called with the exception of a task that raises, which is a defect."""

    def __init__(self, failed: Callable[[str, BaseException], None], clock: Callable[[], float] = uptime) -> None:
        self._failed = failed
        self._clock = clock
        self._tasks: Dict[str, ScheduledTask] = {}
        self.stopping = False  # whether end() was called
        # A pipe, because a signal handler must not wait for a lock, which threading.Event has.
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)

    def set(self, name: str, work: Callable[[], object], every: Optional[float], delay: float = 0.0) -> None:
        """Add a task, or change the interval of an existing one, see ScheduledTask.set_interval()."""
        self._tasks.setdefault(name, ScheduledTask(work)).set_interval(every, self._clock(), delay)
        self._wake()

    def run_within(self, name: str, seconds: float = 0.0) -> None:
        """Run a task in that many seconds at the latest. May be called from any thread."""
        task = self._tasks.get(name)
        if task is not None:
            task.make_due(self._clock() + seconds)
            self._wake()

    def wake(self, name: str) -> None:
        """Run a task that has intervals at once in addition, see is_between(). May be called from any thread."""
        task = self._tasks.get(name)
        if task is not None and task.every is not None:
            task.between = self._clock()
            self._wake()

    def is_between(self, name: str) -> bool:
        """Whether the current run of a task is in addition to its intervals."""
        task = self._tasks.get(name)
        return task is not None and task.is_between

    def run(self, tick: Callable[[], None]) -> None:
        """Start tasks when they are due, until end() is called. Calls `tick` at least every LONGEST_WAIT seconds."""
        while not self.stopping:
            tick()
            self._start_due(self._clock())
            self._wait(self._seconds_until_due())

    def stop(self, seconds: float) -> bool:
        """Wait for running tasks after run() has returned. Returns whether all ended within that many seconds."""
        end = self._clock() + seconds
        for task in self._tasks.values():
            if task.thread is not None:
                task.thread.join(max(0.0, end - self._clock()))
        return not any(task.running for task in self._tasks.values())

    def stuck(self, name: str) -> float:
        """Seconds for which the thread of a running task has been waiting in one call of the kernel, as far as they were counted: at most
        LONGEST_WAIT for each call of this function, since the machine may have been suspended."""
        task = self._tasks.get(name)
        if task is None or not task.running:
            return 0.0
        now, switches = self._clock(), _switches(task.proc)
        task.stuck = task.stuck + min(now - task.looked_at, LONGEST_WAIT) if switches == task.switches else 0.0
        task.switches, task.looked_at = switches, now
        return task.stuck if switches else 0.0

    def end(self) -> None:
        """Let run() return. May be called from a signal handler and from any thread."""
        self.stopping = True
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_writer, b"\0")
        except BlockingIOError:  # the pipe is full, so it wakes up anyway
            pass

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._wake_reader, select.POLLIN)
        if poll.poll(seconds * 1000):
            os.read(self._wake_reader, 4096)

    def _start_due(self, now: float) -> None:
        for name, task in list(self._tasks.items()):  # tasks may add others
            if task.next is not None and now >= task.next and not task.running:
                task.started(now)
                task.running = True
                task.thread = threading.Thread(target=self._do, args=(name, task), name=name, daemon=True)
                task.thread.start()

    def _do(self, name: str, task: ScheduledTask) -> None:
        try:
            task.proc = os.readlink("/proc/thread-self")
        except OSError:
            task.proc = ""
        try:
            task.work()
        except BaseException as error:
            self._failed(name, error)
        task.running = False  # before the schedule wakes up; the thread itself ends later
        self._wake()

    def _seconds_until_due(self) -> float:
        now = self._clock()
        waiting = [task.next - now for task in list(self._tasks.values()) if task.next is not None and not task.running]
        return max(0.0, min([LONGEST_WAIT, *waiting]))


def _switches(proc: str) -> bytes:
    """How often a thread was switched to; empty where that cannot be read. Source: proc(5)."""
    try:
        with open("/proc/%s/status" % proc, "rb") as status:
            return b"".join(line for line in status if b"ctxt_switches:" in line)
    except OSError:
        return b""


def deepest_folder(state: str) -> str:
    """The longest path that this process has open, but for those of the state. Asks no file system but /proc."""
    paths = ["/"]
    for name in os.listdir("/proc/self/fd"):
        try:
            paths.append(os.readlink("/proc/self/fd/" + name))
        except OSError:
            pass
    return max((path for path in paths if path[0] == "/" and not path.startswith(("/proc/", state))), key=len)
