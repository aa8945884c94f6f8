# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a task was active, on the clock of its host."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .runs import Task

# A snapshot has one time, but is read over a while: what a task did shortly before that time may not be in it yet.
SLACK = 60.0


class Window(NamedTuple):
    start: float
    end: float

    @property
    def is_open(self) -> bool:
        """Whether the end is not known."""
        return self.end == math.inf

    def overlaps(self, since: float, until: float) -> bool:
        """Whether what the task did can be the difference between the snapshots of these times."""
        return self.end >= since - SLACK and self.start <= until + SLACK

    def contains(self, second: float | None) -> bool:
        """Whether a time in whole seconds, such as a file's, lies within it. False for an unknown time."""
        return second is not None and self.start < second + 1 and second <= self.end

    def is_after(self, second: float | None) -> bool:
        """Whether a time in whole seconds lies before it. False for an unknown time."""
        return second is not None and second + 1 <= self.start


def window(task: Task) -> Window:
    """A measurement of the clock that allows for equal clocks is taken as that: it is the rule, and
    a window without leeway names no change that was made just after the task."""
    low, high = task.clock or (0.0, 0.0)
    if low <= 0 <= high:
        low = high = 0.0
    return Window(task.started_at + low, math.inf if task.ended_at is None else task.ended_at + high)


class Timeline:
    """The tasks of one host, in the order in which they ended."""

    def __init__(self, tasks: Iterable[tuple[Window, Task]]) -> None:
        self._tasks = sorted(tasks, key=lambda pair: (pair[0].end, pair[0].start, pair[1].number))
        self._ends = [when.end for when, _task in self._tasks]
        self._longest = max((when.end - when.start for when, _task in self._tasks), default=0.0)

    def between(self, since: float, until: float) -> Iterator[tuple[Window, Task]]:
        """Those whose window overlaps the time between two snapshots."""
        first = bisect_left(self._ends, since - SLACK)
        last = bisect_right(self._ends, until + SLACK + self._longest)
        return (pair for pair in self._tasks[first:last] if pair[0].overlaps(since, until))
