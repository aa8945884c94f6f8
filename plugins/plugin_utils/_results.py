# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From Ansible's results to parcels. No other code touches Ansible's result objects.

What is taken is asked for by name; whatever else a result holds (arguments, variables, other facts) is never looked at.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from ansible import constants

from ..module_utils._cti.dcr import CHANGE_STREAM, DATA_STREAM
from ..module_utils._cti.records import CHANGE_COLUMNS, KINDS, RECORD_ID, timestamp
from ._parcel import MAX_PACKED, MAX_TEXT, ROWS, Parcel, Row, clean, columns

COLLECTION = "changetracking.inventory."
MODULES = {  # whose results are taken, and the kind of each
    "ct_package_facts": "packages",
    "ct_service_facts": "services",
    "ct_file_facts": "files",
    "ct_inventory_info": "",
    "ct_inventory_fetch": "",
}
GATHER_FACTS = ("ansible.builtin.gather_facts", "ansible.legacy.gather_facts", "gather_facts")
ASYNC_STATUS = ("ansible.builtin.async_status", "ansible.legacy.async_status", "async_status")
MACHINE = ("Computer", "SourceComputerId", "VMUUID")
CHANGE_ROW = [RECORD_ID, *(column for column in CHANGE_COLUMNS if column not in MACHINE)]
MAX_MESSAGE = 500  # characters
MAX_SOURCES = 50
MAX_JOBS = 100000
UNQUOTED = "It failed; the output of the run says why."


class Reading(NamedTuple):
    host: str  # the inventory name of the host that was inventoried
    parcels: list[Parcel]
    refused: int  # rows that are none of ours


NOTHING = Reading("", [], 0)
Texts = Optional[list[str]]  # all values of arguments; None: it is not known which they are


class Reader:
    """Reads the results of a run, each of them when it comes."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], str] = {}  # (host, job id) -> which of our modules runs there
        self._loops: set[tuple[str, str]] = set()  # (host, task) whose items were read, one by one

    def read(self, result: Any, item: bool = False, problem: str = "") -> Reading:
        """What a result tells. `item`: it is that of one item of a loop. `problem`: `failed` or `unreachable`, or neither."""
        task = result._task
        module = _module(task)
        if not module:
            return NOTHING
        loop = (result._host.get_name(), task._uuid)
        if item:
            self._loops.add(loop)
        elif loop in self._loops:
            self._loops.discard(loop)
            return NOTHING
        if task.check_mode:  # the next run tells it again
            return NOTHING
        host = _inventoried(result)
        data = result._result  # ansible-core 2.19 and later make it only when asked, and all of it
        if task.no_log or "censored" in data or data.get("_ansible_no_log"):
            return Reading(host, _trouble(host, module, {}, problem, []), 0)
        given = _arguments(task, module, data)
        module = self._job(host, module, data)
        reading = _told(host, module, data, given)
        if problem and ("failed_modules" in data or not (reading.parcels or reading.refused)):
            reading.parcels.extend(_trouble(host, module, data, problem, given))
        return reading

    def _job(self, host: str, module: str, data: Row) -> str:
        """The module behind the status of a job, where this run has started it."""
        job = data.get("ansible_job_id")
        if not isinstance(job, str):
            return module
        if module in ASYNC_STATUS:
            return self._jobs.get((host, job), module)
        if len(self._jobs) < MAX_JOBS:
            self._jobs[host, job] = module
        return module


def _module(task: Any) -> str:
    """The short name of one of our modules; the action's name where it can carry what they return; else empty."""
    action = str(task.action)
    if "{{" in action:  # it failed before anybody knew what it is
        return ""
    action = str(getattr(task, "resolved_action", None) or action)
    if action in GATHER_FACTS or action in ASYNC_STATUS:
        return action
    return _short(action) if _short(action) in MODULES and action.startswith(COLLECTION) else ""


def _short(name: Any) -> str:
    return str(name)[len(COLLECTION) :] if str(name).startswith(COLLECTION) else str(name)


def _inventoried(result: Any) -> str:
    """The module ran on the host the task was delegated to, if it was."""
    delegate = result._task.delegate_to
    return str(delegate) if delegate and "{{" not in str(delegate) else str(result._host.get_name())


def _told(host: str, module: str, data: Row, given: Texts) -> Reading:
    parcels: list[Parcel] = []
    refused = 0
    if module.endswith("_facts") or module in ASYNC_STATUS:
        facts = data.get("ansible_facts")
        for kind in KINDS:
            fact = facts.get("ct_" + kind) if isinstance(facts, dict) else None
            if isinstance(fact, dict):
                common = {"Computer": host, "TimeGenerated": _when(fact)}
                refused += _rows(parcels, DATA_STREAM, kind, common, fact.get("items"))
                parcels.extend(_failed_sources(host, module, kind, fact, given))
    if not module.endswith("_facts") and isinstance(data.get("inventory"), dict) and data.get("Computer"):
        refused += _inventory(parcels, host, module, data, given)
    return Reading(host, parcels, refused)


def _inventory(parcels: list[Parcel], host: str, module: str, data: Row, given: Texts) -> int:
    """The result of ct_inventory_info, which names the machine itself."""
    refused = 0
    machine = clean(data, MACHINE) or {"Computer": host}
    summaries = {kind: data["inventory"][kind] for kind in KINDS if isinstance(data["inventory"].get(kind), dict)}
    sent = "forward" in data  # by the host itself
    packed = data.get("packed")
    if isinstance(packed, str) and packed and not sent:
        kinds = {kind: [_when(summary), _count(summary)] for kind, summary in summaries.items()}
        parcel = Parcel(DATA_STREAM, "", machine, [], str.__str__(packed), kinds)
        if len(packed) > MAX_PACKED:
            refused += parcel.count
        else:
            parcels.append(parcel)
    changes = [] if sent else data.get("changes")
    for kind in KINDS.values():
        of_kind = [
            row for row in _list(changes) if isinstance(row, dict) and row.get("ConfigChangeType") == kind.config_type
        ]
        refused += _rows(parcels, CHANGE_STREAM, kind.name, machine, of_kind)
    for kind_name, summary in summaries.items():
        parcels.extend(_failed_sources(machine["Computer"], module, kind_name, summary, given))
    return refused


def _rows(parcels: list[Parcel], stream: str, kind: str, common: Row, rows: Any) -> int:
    """Add parcels of the rows; the number of those refused."""
    names = columns(stream, kind) if stream == DATA_STREAM else CHANGE_ROW
    every = [clean(row, names) for row in _list(rows)]
    good = [row for row in every if row]
    for start in range(0, len(good), ROWS):
        some = good[start : start + ROWS]
        parcels.append(Parcel(stream, kind, common, some))
    return len(every) - len(good)


def _list(value: Any) -> list:
    return value if isinstance(value, list) else []


def _count(summary: Row) -> int:
    count = summary.get("count")
    return min(max(count, 0), MAX_PACKED) if isinstance(count, int) else 0


def _when(summary: Row) -> str:
    when = clean(summary, ["collected_at"]).get("collected_at")
    return when if isinstance(when, str) else str(timestamp(time.time()))


# --- what went wrong, as records


def _trouble(host: str, module: str, data: Row, problem: str, given: Texts) -> list[Parcel]:
    """A status for each of our modules that failed."""
    if not problem or module in ASYNC_STATUS:
        return []
    if data.get("unreachable") is True:
        problem = "unreachable"
    if module in GATHER_FACTS:
        failed = data.get("failed_modules")
        if not isinstance(failed, dict):  # none was reached
            failed = {name: {} for name in constants.config.get_config_value("FACTS_MODULES")}
        reasons = {_short(name): _reason(failure, problem, _invocation(failure)) for name, failure in failed.items()}
    else:
        reasons = {module: _reason(data, problem, given)}
    rows = [_status(name, "", problem, reason) for name, reason in reasons.items() if name in MODULES]
    return [_statuses(host, [row]) for row in rows]


def _statuses(host: str, rows: list[Row]) -> Parcel:
    common = {"Computer": host, "TimeGenerated": timestamp(time.time())}
    return Parcel(DATA_STREAM, "", common, rows)


def _status(module: str, kind: str, status: str, message: str, source: str = "") -> Row:
    row = {
        "Module": module,
        "Kind": kind or MODULES.get(module, ""),
        "Source": source,
        "Status": status,
        "Message": message,
    }
    return {column: value for column, value in row.items() if value}


def _failed_sources(host: str, module: str, kind: str, summary: Row, given: Texts) -> Iterator[Parcel]:
    """A source that could not be read is no reason for a module to fail."""
    sources = summary.get("sources")
    rows = []
    for name, source in list(sources.items())[:MAX_SOURCES] if isinstance(sources, dict) else []:
        if isinstance(source, dict) and source.get("status") == "failed":
            message = _quoted(source.get("message"), given) or UNQUOTED
            rows.append(_status(module if module in MODULES else "", kind, "failed", message, str(name)[:MAX_MESSAGE]))
    if rows:
        yield _statuses(host, rows)


def _reason(data: Any, problem: str, given: Texts) -> str:
    if problem == "unreachable":
        return "The host was unreachable."
    return (_quoted(data.get("msg"), given) if isinstance(data, dict) else "") or UNQUOTED


def _quoted(message: Any, given: Texts) -> str:
    """A module's message as one line, without any word that its arguments hold. Empty where that cannot be told."""
    if not isinstance(message, str) or given is None or len(message) > MAX_TEXT:
        return ""
    every = "\n".join(given)

    def word(match: re.Match[str]) -> str:
        return "..." if match[0].rstrip(".") in every else match[0]

    text = " ".join(_WORD.sub(word, message).split())
    return "".join(char if char.isprintable() else "?" for char in text)[:MAX_MESSAGE]


_WORD = re.compile(r"[^\s'\"(),;:\\]{3,}")


def _arguments(task: Any, module: str, data: Row) -> Texts:
    """What the module was given. None where it is not certain that the module ran: Ansible's own messages quote variables."""
    if module not in MODULES:
        return _invocation(data)
    return list(_texts(task.args)) if "_ansible_module_name" in task.args else None


def _invocation(data: Any) -> Texts:
    """The same, as ansible-core before 2.21 tells it."""
    invocation = data.get("invocation") if isinstance(data, dict) else None
    arguments = invocation.get("module_args") if isinstance(invocation, dict) else None
    return list(_texts(arguments)) if isinstance(arguments, dict) else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, element in value.items():
            if not str(key).startswith("_ansible_"):
                yield from _texts(element)
    elif isinstance(value, list):
        for element in value:
            yield from _texts(element)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
