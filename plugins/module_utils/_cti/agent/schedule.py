# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What is done when: each task at its own interval, in a thread of its own, so that a slow one delays no other."""

import os
import select
import threading
import time
from typing import Callable, Dict, Optional

LONGEST_WAIT = 30.0  # seconds; a wait does not end early where the machine is suspended meanwhile
_CLOCK_BOOTTIME = 7  # clock_gettime(2); time has its name from Python 3.7 on


def uptime() -> float:
    """Seconds, on a clock that nobody sets and that goes on while the machine is suspended."""
    return time.clock_gettime(_CLOCK_BOOTTIME)


class ScheduledTask:
    """Never due by itself until it has an interval."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.every: Optional[float] = None  # seconds
        self.due: Optional[float] = None
        self.running = False
        self.thread: Optional[threading.Thread] = None  # the last one

    def set_interval(self, every: Optional[float], now: float, delay: float) -> None:
        """The first time is in `delay` seconds; where only the interval is another, it is due at the latest in one."""
        if every == self.every:
            return
        first = now + (delay if self.every is None else every or 0.0)
        self.due = None if every is None else first if self.due is None else min(self.due, first)
        self.every = every

    def started(self, now: float) -> None:
        """The next time is a whole number of intervals after the last: runs that were missed are not made up for."""
        if self.every is None or self.due is None:
            self.due = None
        else:
            self.due += self.every * (1 + max(0, int((now - self.due) / self.every)))


class Schedule:
    """run() until stop(). A task must not raise: `failed` is told of one that does, which is a defect."""

    def __init__(self, failed: Callable[[str, BaseException], None], clock: Callable[[], float] = uptime) -> None:
        self._failed = failed
        self._clock = clock
        self._tasks: Dict[str, ScheduledTask] = {}
        self._stopping = False
        # A lock, as in threading.Event, could be held by the very thread that a signal handler interrupts.
        self._awoken, self._waker = os.pipe()
        os.set_blocking(self._awoken, False)
        os.set_blocking(self._waker, False)

    def set(self, name: str, work: Callable[[], object], every: Optional[float], delay: float = 0.0) -> None:
        """Add a task, or set the interval of one that is there; see ScheduledTask."""
        self._tasks.setdefault(name, ScheduledTask(work)).set_interval(every, self._clock(), delay)
        self._wake()

    def soon(self, name: str, seconds: float = 0.0) -> None:
        """Let a task be due at the latest then; from any thread."""
        task = self._tasks.get(name)
        if task is not None:
            due = self._clock() + seconds
            task.due = due if task.due is None else min(task.due, due)
            self._wake()

    def run(self, tick: Callable[[], None]) -> None:
        """`tick` is called at every turn, at the least every LONGEST_WAIT seconds."""
        while not self._stopping:
            tick()
            self._start_due(self._clock())
            self._wait(self._seconds_left())

    def stop(self, seconds: float) -> bool:
        """Once run() has returned: whether all that ran has ended within that time."""
        end = self._clock() + seconds
        for task in self._tasks.values():
            if task.thread is not None:
                task.thread.join(max(0.0, end - self._clock()))
        return not any(task.running for task in self._tasks.values())

    def end(self) -> None:
        """Let run() return; from a signal handler or any thread."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:  # it is being woken already
            pass

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._awoken, select.POLLIN)
        if poll.poll(seconds * 1000):
            os.read(self._awoken, 4096)

    def _start_due(self, now: float) -> None:
        for name, task in list(self._tasks.items()):  # a task may add others
            if task.due is not None and now >= task.due and not task.running:
                task.started(now)
                task.running = True
                task.thread = threading.Thread(target=self._do, args=(name, task), name=name, daemon=True)
                task.thread.start()

    def _do(self, name: str, task: ScheduledTask) -> None:
        try:
            task.work()
        except BaseException as error:
            self._failed(name, error)
        task.running = False  # before the schedule looks again, which the thread's end would not be
        self._wake()

    def _seconds_left(self) -> float:
        now = self._clock()
        waiting = [task.due - now for task in list(self._tasks.values()) if task.due is not None and not task.running]
        return max(0.0, min([LONGEST_WAIT, *waiting]))
