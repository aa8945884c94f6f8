# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides whether Ansible made a change: which task, or which run may have, or neither (drift).

Pure functions on a change and the tasks that the callback run_log recorded. Nothing is stored: a run that is recorded later counts
as well.

    task   A task named the item, or its result says that it installed this version, or the item was created within the task by a
           module that unpacks files there. Tasks explain all of the change, and nothing contradicts it: not the item's own time, not
           the size, owner and mode with which a task left the file, not the state that it found or asked for.
    run    A task that names nothing, such as a command, was active at the right time. It may have made the change.
    drift  Neither. Somebody or something else made at least a part of the change.

What the host says of the actor of a change is a second witness: it confirms a task, or the attribution says how it differs.

All times are compared on the host's clock. If the host never returned its time, its clock is taken to be the controller's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .attribution_files import has_own_time, judge_file
from .attribution_packages import judge_package
from .attribution_services import UNIT_FILE, judge_service, unit_path
from .changes import MODIFIED, Change
from .effects import ANYTHING, COPIES, NOTHING, PACKAGES, effect
from .evidence import NOT_THIS, POSSIBLE, PROVEN_BY_PLACE, WRITTEN, Verdict, is_related, path_is_related
from .runs import Task
from .windows import Timeline, Window, window
from .witness import agrees, contradicts, in_short

TASK, RUN, DRIFT = "task", "run", "drift"
CONFIRMED, DIFFERS = "confirmed", "differs"
NAMED = "named"  # it names an actor, which neither confirms nor contradicts the attribution


class Attribution(NamedTuple):
    level: str  # task, run or drift
    task: Task | None = None  # that made the change; at level `run`: the last one that may have made it
    reason: str = ""
    witness: str = ""  # what the host says of the actor: CONFIRMED, DIFFERS or NAMED; empty: nothing


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
    """The recorded tasks of any number of hosts and runs."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        of_host: dict[str, list[tuple[Window, Task]]] = defaultdict(list)
        for task in tasks:
            if effect(task.module) != NOTHING:
                of_host[task.host].append((window(task), task))
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
        return _witnessed(self._by_tasks(change, others), change)

    def _by_tasks(self, change: Change, others: Others | None) -> Attribution:
        found = self._by_unit_file(change, others)
        if found is not None:
            return found._replace(reason=found.reason and f"of its unit file: {found.reason}")
        if change.kind == "files" and change.name in COPIES:
            original = others.file(COPIES[change.name], change) if others is not None else None
            return self.attribute(original) if original is not None else Attribution(DRIFT, None, "no task made it")
        timeline = self._of_host.get(change.host)
        active = timeline.between(change.since, _latest(change)) if timeline is not None else ()
        verdicts = [(task, _judge(change, task, when)) for when, task in active]
        if self._is_of_other_package(change, others):
            verdicts = [pair for pair in verdicts if effect(pair[0].module) != PACKAGES]
        proven = [pair for pair in verdicts if pair[1].proof >= PROVEN_BY_PLACE]
        missing = _unexplained(change, [verdict for _task, verdict in proven])
        if not missing:
            task, verdict = _last(proven)
            return Attribution(TASK, task, verdict.reason)
        possible = [task for task, verdict in verdicts if verdict.proof == POSSIBLE]
        if possible:
            return Attribution(RUN, possible[-1], "a task that can make such a change was active at that time")
        if not proven:
            return Attribution(DRIFT, None, "no task made it")
        differs = any(missing & verdict.differs for _task, verdict in proven)
        return Attribution(
            DRIFT, None, "the file is not as the task left it" if differs else "a part of it was made by no task"
        )

    def _by_unit_file(self, change: Change, others: Others | None) -> Attribution | None:
        """What is said of the unit file of a service, where that decides: a service comes and goes with it, and what comes from a
        file that was changed by hand is no task's."""
        if others is None or change.kind != "services":
            return None
        unit_file = others.file(unit_path(change), change)
        if unit_file is None:
            return None
        found = self.attribute(unit_file)
        if change.category == MODIFIED:
            return found if found.level == DRIFT and not change.fields.isdisjoint(UNIT_FILE) else None
        return found if found.level != RUN and unit_file.category == change.category else None

    def _is_of_other_package(self, change: Change, others: Others | None) -> bool:
        """Whether a change without a time of its own may belong to a package that no task changed."""
        if others is None or not (change.kind == "services" or (change.kind == "files" and change.removed)):
            return False
        return any(self.attribute(one).level == DRIFT for one in others.packages_like(change))


def _witnessed(found: Attribution, change: Change) -> Attribution:
    """The attribution, with what the host says of the actor."""
    who = in_short(change.values)
    if not who or found.witness:
        return found
    level, task, reason, witness = found.level, found.task, found.reason, NAMED
    module = str(change.values.get("ChangedByModule") or "")
    if task is None:
        if module and level == DRIFT:
            reason += f"; the host names a module of Ansible: {who}"
    elif module:
        verdict = agrees(task.module, module)
        if verdict is False:
            witness = DIFFERS
            level, reason = RUN, f"a task may have made it, but the host names another module: {who}"
        elif verdict and not change.values.get("ChangedByCount"):
            witness = CONFIRMED
            reason += f", confirmed by the host: {who}"
        else:
            reason += f"; the host names {who}"
    elif level == TASK and contradicts(change, task.module):
        witness = DIFFERS
        level, task, reason = DRIFT, None, f"a task wrote it, but the host names no module of Ansible: {who}"
    else:
        reason += f"; not confirmed by the host, which names {who}"
    return Attribution(level, task, reason, witness)


def _latest(change: Change) -> float:
    """Until when the change can have happened. A time of its own after the snapshot is from before the clock of the host was set back."""
    own = change.installed
    if change.kind == "files":
        own = change.modified if has_own_time(change) else None
    return change.until if own is None else max(change.until, own)


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


def _unexplained(change: Change, verdicts: list[Verdict]) -> set[str]:
    """The fields that the tasks together do not explain: those of the change, or that it was written at all, and those in which the
    file is not as one of the tasks left it."""
    missing = set(change.fields) or {WRITTEN}
    for verdict in verdicts:
        missing |= verdict.differs
    for verdict in verdicts:
        missing = set() if verdict.explains is None else missing - verdict.explains
    return missing


def _last(proven: list[tuple[Task, Verdict]]) -> tuple[Task, Verdict]:
    """The last task with the best proof, of those that wrote the file where some did."""
    wrote = [pair for pair in proven if pair[1].explains is None or WRITTEN in pair[1].explains] or proven
    best = max(verdict.proof for _task, verdict in wrote)
    return [pair for pair in wrote if pair[1].proof == best][-1]
