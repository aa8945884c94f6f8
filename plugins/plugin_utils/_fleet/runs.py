# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of Ansible and their tasks, as the callback run_log records them and as attribution reads them.

Times are Unix seconds of the controller's clock. A clock is (low, high): how many seconds the host's clock was ahead of the
controller's, at least and at most.
"""

from __future__ import annotations

import json
import math
import os
import pwd
from typing import Any, NamedTuple

CHANGED, FAILED, UNREACHABLE = "changed", "failed", "unreachable"

Clock = tuple[float, float]


class Run(NamedTuple):
    uuid: str
    playbook: str
    user: str  # on the controller
    controller: str
    check_mode: bool
    started_at: float
    ended_at: float | None = None  # None: it is running, or was killed
    hosts: dict[
        str, dict[str, Any]
    ] = {}  # on which a task ran: {"identity": text, "clock": [low, high]}, both optional


class Task(NamedTuple):
    """A task that changed a host, or may have changed it before it failed."""

    run: str  # uuid
    number: int  # in the run
    host: str  # inventory name of the host where it ran
    play: str
    title: str
    module: str  # resolved FQCN
    started_at: float
    ended_at: float | None  # None: a job that the run did not wait for
    outcome: str = CHANGED
    named: dict[str, Any] = {}  # see _run_log/named.py
    clock: Clock | None = None
    no_log: bool = False  # so nothing is known of what it named


def measured(started_at: float, ended_at: float, time_on_host: float, resolution: float = 0.0) -> Clock:
    """The clock of a host that returned its time in a task: a multiple of `resolution` seconds that it was at or after."""
    return (time_on_host - ended_at, time_on_host + resolution - started_at)


def narrowed(one: Clock | None, other: Clock) -> Clock:
    """What two measurements say together; the later one where they contradict each other, because the clock was set."""
    if one is None:
        return other
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return (low, high) if low <= high else other


def user() -> str:
    """The name of the user who runs Ansible."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, a user may have no name
        return str(os.getuid())


# --- as lines of a spool


def to_line(record: Run | Task) -> bytes:
    """A record as one line of JSON."""
    name = "run" if isinstance(record, Run) else "task"
    return json.dumps({name: record._asdict()}, separators=(",", ":")).encode("ascii") + b"\n"


def from_line(line: bytes) -> Run | Task:
    """Raises ValueError for a line that is no record."""
    value = json.loads(line)
    try:
        ((name, fields),) = value.items()
        if name == "run":
            return Run(**_checked(fields, _RUN))
        if name == "task":
            fields = _checked(fields, _TASK)
            return Task(**dict(fields, clock=_clock(fields["clock"])))
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"not a record: {error}") from None
    raise ValueError(f"not a record: {name}")


_TIME = (int, float)
_OPTIONAL_TIME = (int, float, type(None))
_RUN = {
    "uuid": str, "playbook": str, "user": str, "controller": str, "check_mode": bool, "started_at": _TIME,
    "ended_at": _OPTIONAL_TIME, "hosts": dict,
}  # fmt: skip
_TASK = {
    "run": str, "number": int, "host": str, "play": str, "title": str, "module": str, "started_at": _TIME,
    "ended_at": _OPTIONAL_TIME, "outcome": str, "named": dict, "clock": (list, type(None)), "no_log": bool,
}  # fmt: skip


def _checked(fields: Any, types: dict[str, Any]) -> dict[str, Any]:
    for name, wanted in types.items():
        value = fields[name]
        if not isinstance(value, wanted) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{name} is invalid")
    return {name: fields[name] for name in types}


def _clock(value: Any) -> Clock | None:
    if value is None:
        return None
    low, high = map(float, value)
    return (low, high)
