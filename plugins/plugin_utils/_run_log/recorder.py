# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes records of what a run reports. No other code accesses Ansible's task and result objects.

The result of a task is made only when it is asked for, at a cost, so it is read only if the task changed something or may return
the time or the identity of the host.
"""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Callable
from typing import Any

from ...module_utils._cti.host import source_computer_id
from ...module_utils._cti.text import line, printable
from .._fleet.effects import ANYTHING, NOTHING, PACKAGES, TREE, effect, resolved
from .._fleet.runs import CHANGED, FAILED, UNREACHABLE, Run, Task, measured, narrowed
from .named import named

MAX_TITLE = 300
MAX_JOBS = 100_000
_DESCRIBE_THE_HOST = re.compile(
    r"ansible\.builtin\.(gather_facts|setup)|changetracking\.inventory\.ct_(agent_info|inventory_info|inventory_fetch|[a-z]+_facts)"
)
ASYNC_STATUS = "ansible.builtin.async_status"
_MICROSECONDS = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{6}))?Z", re.ASCII)


class Recorder:
    """Records one run. `write` takes each record when it is complete."""

    def __init__(self, run: Run, write: Callable[[Run | Task], None], now: Callable[[], float] = time.time) -> None:
        self._run = run
        self._write = write
        self._now = now
        self._play = ""
        self._number = 0
        self._hosts: dict[str, dict[str, Any]] = {}
        self._started: dict[tuple[str, str], float] = {}
        self._loops: set[tuple[str, str]] = set()  # (host, task) whose items were recorded, one by one
        self._jobs: dict[tuple[str, str], Task] = {}  # (host, job id) -> task that started the job
        write(run)

    def play(self, name: Any) -> None:
        self._play = _title(name)

    def started(self, host: Any, task: Any) -> None:
        self._started[host.get_name(), task._uuid] = self._now()

    def ended(self, result: Any, item: bool = False, problem: str = "") -> None:
        """Record the result of a task, or of one item of its loop. `problem`: FAILED, UNREACHABLE or empty."""
        task = result._task
        place = (result._host.get_name(), task._uuid)
        now = self._now()
        started = self._started.get(place, now)
        if item:
            self._loops.add(place)
            self._started[place] = now  # when the next item starts
        else:
            self._started.pop(place, None)
            if place in self._loops:
                self._loops.discard(place)
                return
        module = _module(task)
        host = _where(result)
        was_reached = host in self._hosts
        known = self._hosts.setdefault(host, {}) if problem != UNREACHABLE else {}
        if _DESCRIBE_THE_HOST.fullmatch(module):
            _learn(known, started, now, result._result)
        if task.check_mode:
            return
        if module == ASYNC_STATUS:
            self._job_ended(place[0], result._result, now, problem)
        elif self._may_have_changed(result, module, problem, was_reached):
            title = _title(task.get_name())
            outcome = problem or CHANGED
            self._record(result, Task(self._run.uuid, 0, host, self._play, title, module, started, now, outcome))

    def end(self) -> None:
        """Record the jobs that nobody waited for, and the run with its hosts."""
        for task in self._jobs.values():
            self._add(task._replace(ended_at=None))
        self._jobs = {}
        self._write(self._run._replace(ended_at=self._now(), hosts=self._hosts))

    def _may_have_changed(self, result: Any, module: str, problem: str, was_reached: bool) -> bool:
        """Whether the task changed the host, or may have changed part of it before it failed."""
        kind = effect(module)
        if kind == NOTHING:
            return False
        if problem == UNREACHABLE:
            return was_reached
        return bool(result.is_changed()) or (problem == FAILED and kind in (ANYTHING, PACKAGES, TREE))

    def _record(self, result: Any, task: Task) -> None:
        data = result._result
        hidden = bool(result._task.no_log or "censored" in data or data.get("_ansible_no_log"))
        task = task._replace(no_log=hidden, named={} if hidden else named(task.module, _arguments(result._task), data))
        job = data.get("ansible_job_id")
        if isinstance(job, str) and not data.get("finished") and len(self._jobs) < MAX_JOBS:
            self._jobs[result._host.get_name(), job] = task
        else:
            self._add(task)

    def _job_ended(self, host: str, data: Any, now: float, problem: str) -> None:
        """Record the task that started a job, now that the result of the job is there."""
        job = data.get("ansible_job_id")
        if not isinstance(job, str) or not data.get("finished"):
            return
        task = self._jobs.pop((host, job), None)
        if task is None or not (problem or data.get("changed")):
            return
        more = {} if task.no_log else named(task.module, {}, data)
        self._add(task._replace(ended_at=now, outcome=FAILED if problem else CHANGED, named={**task.named, **more}))

    def _add(self, task: Task) -> None:
        self._number += 1
        clock = self._hosts.get(task.host, {}).get("clock")
        self._write(task._replace(number=self._number, clock=clock))


def _title(text: Any) -> str:
    return line(printable(str(text)), MAX_TITLE)


def _module(task: Any) -> str:
    """The FQCN of the module, or of the action plugin that runs it."""
    action = str(task.action)
    return resolved(str(getattr(task, "resolved_action", None) or action)) if "{{" not in action else ""


def _where(result: Any) -> str:
    """The host that the module ran on: the one to which the task was delegated, if it was."""
    delegate = result._task.delegate_to
    return str(delegate) if delegate and "{{" not in str(delegate) else str(result._host.get_name())


def _arguments(task: Any) -> dict[str, Any]:
    return task.args if isinstance(task.args, dict) else {}


# --- what a host returns about itself


def _learn(known: dict[str, Any], started: float, now: float, data: Any) -> None:
    """Add the host's identity and clock, where the result has them."""
    facts = data.get("ansible_facts")
    facts = facts if isinstance(facts, dict) else {}
    machine = facts.get("ansible_machine_id")
    identity = source_computer_id(machine) if isinstance(machine, str) and machine else data.get("SourceComputerId")
    if isinstance(identity, str) and 0 < len(identity) <= 64:
        known["identity"] = printable(identity)
    clock = _clock(facts, data, started, now)
    if clock is not None:
        known["clock"] = narrowed(known.get("clock"), clock)


def _clock(facts: dict[str, Any], data: Any, started: float, now: float) -> tuple[float, float] | None:
    date = facts.get("ansible_date_time")
    exact = _seconds(date.get("iso8601_micro")) if isinstance(date, dict) else None
    if exact is not None:
        return measured(started, now, exact)
    summaries = data.get("inventory")
    for summary in [*facts.values(), *(summaries.values() if isinstance(summaries, dict) else ())]:
        whole = _seconds(summary.get("collected_at")) if isinstance(summary, dict) else None
        if whole is not None:
            return measured(started, now, whole, resolution=1.0)
    return None


def _seconds(text: Any) -> float | None:
    match = _MICROSECONDS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    try:
        return calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S")) + int(match[2] or 0) / 1e6
    except ValueError:
        return None


def controller() -> str:
    return printable(os.uname().nodename)
