# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides whether Ansible made a change: which task, or which run may have, or neither (drift).

Pure functions on a change and the tasks that the callback run_log recorded. Nothing is stored: a run that is recorded later counts
as well.

    task   A task named the item, or its result says that it installed this version, or the item was created within the task by a
           module that unpacks files there. Nothing contradicts it: not the item's own time, not the size, owner and mode with which
           the task left the file, not the state that it asked for.
    run    A task that names nothing, such as a command, was active at the right time. It may have made the change.
    drift  Neither. Somebody or something else made at least a part of the change.

All times are compared on the host's clock. If the host never returned its time, its clock is taken to be the controller's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .attribution_files import judge_file, leaves
from .attribution_packages import judge_package
from .attribution_services import judge_service, unit_path
from .changes import MODIFIED, Change
from .effects import ANYTHING, COPIES, NOTHING, PACKAGES, effect
from .evidence import NOT_THIS, POSSIBLE, PROVEN_BY_PLACE, Verdict, is_related, path_is_related
from .runs import Clock, Task
from .windows import Timeline, Window, window

TASK, RUN, DRIFT = "task", "run", "drift"


class Attribution(NamedTuple):
    level: str  # task, run or drift
    task: Task | None = None  # that made the change; at level `run`: the last one that may have made it
    reason: str = ""


class Others:
    """Changes of one host, in which attribution looks for what else happened at the time of a change."""

    def __init__(self) -> None:
        self._packages: list[Change] = []
        self._files: dict[str, list[Change]] = defaultdict(list)

    def add(self, change: Change) -> None:
        if change.kind == "packages":
            self._packages.append(change)
        elif change.kind == "files":
            self._files[change.name].append(change)

    def file(self, path: str, change: Change) -> Change | None:
        """The change of a file at the time of the change."""
        return next((one for one in self._files.get(path, ()) if one.overlaps(change)), None)

    def packages_like(self, change: Change) -> Iterator[Change]:
        """The changes of packages to which a service or a file may belong by its name, at the time of its change."""
        related = is_related if change.kind == "services" else path_is_related
        return (one for one in self._packages if one.overlaps(change) and related(change.name, [one.name]))


class Tasks:
    """The recorded tasks of any number of hosts and runs. `clocks`: of hosts that did not return their time in a run."""

    def __init__(self, tasks: Iterable[Task], clocks: dict[str, Clock] | None = None) -> None:
        of_host: dict[str, list[tuple[Window, Task]]] = defaultdict(list)
        for task in tasks:
            if effect(task.module) != NOTHING:
                of_host[task.host].append((window(task, (clocks or {}).get(task.host)), task))
        self._of_host = {host: Timeline(some) for host, some in of_host.items()}

    def attribute_all(self, changes: Iterable[Change]) -> Iterator[Attribution]:
        """Attribute the changes of any number of hosts. Those of one host shed light on each other."""
        every = list(changes)
        of_host: dict[str, Others] = defaultdict(Others)
        for change in every:
            of_host[change.host].add(change)
        return (self.attribute(change, of_host[change.host]) for change in every)

    def attribute(self, change: Change, others: Others | None = None) -> Attribution:
        """Attribute a change. `others`: changes of the same host, of which those of the same time count."""
        if others is not None and change.kind == "services" and change.category != MODIFIED:
            unit_file = others.file(unit_path(change), change)
            if unit_file is not None and unit_file.category == change.category:
                found = self.attribute(unit_file)
                if found.level != RUN:
                    return found._replace(reason=found.reason and f"of its unit file: {found.reason}")
        if change.kind == "files" and change.name in COPIES:
            original = others.file(COPIES[change.name], change) if others is not None else None
            return self.attribute(original) if original is not None else Attribution(DRIFT, None, "no task made it")
        timeline = self._of_host.get(change.host)
        active = timeline.between(change.since, change.until) if timeline is not None else ()
        verdicts = [(task, _judge(change, task, when)) for when, task in active]
        if self._is_of_other_package(change, others):
            verdicts = [pair for pair in verdicts if effect(pair[0].module) != PACKAGES]
        proven = [pair for pair in verdicts if pair[1].proof >= PROVEN_BY_PLACE]
        if proven and _is_explained(change, [verdict for _task, verdict in proven]):
            task, verdict = _last(change, proven)
            if leaves(change, task) is False:
                return Attribution(DRIFT, None, "the file is not as the task left it")
            return Attribution(TASK, task, verdict.reason)
        possible = [task for task, verdict in verdicts if verdict.proof == POSSIBLE]
        if possible:
            return Attribution(RUN, possible[-1], "a task that can make such a change was active at that time")
        return Attribution(DRIFT, None, "a part of it was made by no task" if proven else "no task made it")

    def _is_of_other_package(self, change: Change, others: Others | None) -> bool:
        """Whether a change without a time of its own may belong to a package that no task changed."""
        if others is None or not (change.kind == "services" or (change.kind == "files" and change.removed)):
            return False
        return any(self.attribute(one).level == DRIFT for one in others.packages_like(change))


def _judge(change: Change, task: Task, when: Window) -> Verdict:
    if change.kind == "files":
        verdict = judge_file(change, task, when)
    elif change.kind == "packages":
        verdict = judge_package(change, task, when)
    elif change.kind == "services":
        verdict = judge_service(change, task)
    else:
        verdict = Verdict(POSSIBLE) if effect(task.module) == ANYTHING else NOT_THIS
    return Verdict(POSSIBLE) if when.is_open and verdict.proof else verdict


def _is_explained(change: Change, verdicts: list[Verdict]) -> bool:
    """Whether the tasks together explain all fields of the change."""
    explained: set[str] = set()
    for verdict in verdicts:
        if verdict.explains is None:
            return True
        explained |= verdict.explains
    return change.fields <= explained


def _last(change: Change, proven: list[tuple[Task, Verdict]]) -> tuple[Task, Verdict]:
    """The task that left the file as it is; where none is known to have, the last one with the best proof."""
    fitting = [pair for pair in proven if change.kind == "files" and leaves(change, pair[0])]
    best = max(verdict.proof for _task, verdict in proven)
    return (fitting or [pair for pair in proven if pair[1].proof == best])[-1]
