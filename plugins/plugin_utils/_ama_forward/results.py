# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes parcels of Ansible's results. No other code accesses Ansible's result objects.

Values are selected by name; everything else in a result (arguments, variables, other facts) is never read.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from ansible import constants

from ...module_utils._cti.kinds.packages import databases
from ...module_utils._cti.kinds.registry import all_kinds
from ...module_utils._cti.packed import CHANGES
from ...module_utils._cti.packed_reader import PackedError
from ...module_utils._cti.packed_reader import kinds as opened
from ...module_utils._cti.records import MACHINE_COLUMNS, RECORD_ID, TIME, change_columns
from ...module_utils._cti.rule.settings import CHANGE_STREAM, DATA_STREAM
from ...module_utils._cti.text import timestamp
from .parcel import MAX_ID, MAX_PACKED, MAX_TEXT, REPORTED_COMPUTER, ROWS, Parcel, Row, clean, columns

COLLECTION = "changetracking.inventory."
MODULES = {  # whose results are taken, and the kind of each
    **{kind.fact_module: name for name, kind in all_kinds().items() if kind.fact_module},
    "ct_inventory_info": "",
    "ct_inventory_fetch": "",
}
GATHER_FACTS = ("ansible.builtin.gather_facts", "ansible.legacy.gather_facts", "gather_facts")
ASYNC_STATUS = ("ansible.builtin.async_status", "ansible.legacy.async_status", "async_status")
CHANGE_ROW = [RECORD_ID, *(column for column in change_columns() if column not in MACHINE_COLUMNS or column == TIME)]
MAX_ROWS = 100_000  # of one list
MAX_CHARACTERS = 4 << 20  # of the rows of one parcel
MAX_SOURCES = 50
MAX_JOBS = 100_000
MAX_IDS = 100_000  # of the changes of one host
# Those of files are called as a rule or an argument says.
SOURCES = (*databases.source_names(), *(source for kind in all_kinds().values() for source in kind.sources))
FAILED = "It failed; the output of the run says why."
UNREACHABLE = "The host was unreachable."
# The reasons that a status may name. A message of the host is never quoted: arguments of the task may be in it.
REASONS = tuple(
    os.strerror(number)
    for number in (
        errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE,
        errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ENOTCONN,
    )
)  # fmt: skip


class Reading(NamedTuple):
    host: str  # the inventory name of the host that was inventoried
    parcels: list[Parcel]
    refused: int  # rows that are invalid, or of another form


NOTHING = Reading("", [], 0)


class Reader:
    """Reads the results of a run, each of them when it comes."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], str] = {}  # (host, job id) -> which of our modules runs there
        self._loops: set[tuple[str, str]] = set()  # (host, task) whose items were read, one by one
        self._ids: dict[str, set[str]] = {}  # by host, the RecordIds of the changes that were read

    def read(self, result: Any, item: bool = False, problem: str = "") -> Reading:
        """The parcels in a result. `item`: it is the result of one item of a loop. `problem`: `failed`, `unreachable` or empty."""
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
        if task.check_mode:  # the next run returns it again
            return NOTHING
        host = _inventoried(result)
        data = result._result  # ansible-core 2.19 and later make it only when asked, and all of it
        if task.no_log or "censored" in data or data.get("_ansible_no_log"):
            return Reading(host, _trouble(host, module, {}, problem), 0)
        module = self._job(host, module, data)
        reading = _read_data(host, module, data)
        if problem and ("failed_modules" in data or not (reading.parcels or reading.refused)):
            reading.parcels.extend(_trouble(host, module, data, problem))
        return reading._replace(parcels=[new for parcel in reading.parcels for new in self._unseen(host, parcel)])

    def _unseen(self, host: str, parcel: Parcel) -> Iterator[Parcel]:
        """The parcel without the changes that this run has read already: more than one task may return them."""
        if parcel.stream != CHANGE_STREAM:
            yield parcel
            return
        ids = self._ids.setdefault(host, set())
        rows = [row for row in parcel.rows if row.get(RECORD_ID) not in ids]
        if len(ids) < MAX_IDS:
            ids.update(row[RECORD_ID] for row in rows if _is_id(row.get(RECORD_ID)))
        if rows:
            yield parcel._replace(rows=rows)

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


def _is_id(value: Any) -> bool:
    """Whether a record keeps this as its RecordId; other values are replaced, and need not be remembered."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ID


def _module(task: Any) -> str:
    """The short name of a module of this collection; the name of an action that can return its results; else empty."""
    action = str(task.action)
    if "{{" in action:  # it failed before its name was templated
        return ""
    action = str(getattr(task, "resolved_action", None) or action)
    if action in GATHER_FACTS or action in ASYNC_STATUS:
        return action
    return _short(action) if _short(action) in MODULES and action.startswith(COLLECTION) else ""


def _short(name: Any) -> str:
    return str(name)[len(COLLECTION) :] if str(name).startswith(COLLECTION) else str(name)  # noqa: E203


def _inventoried(result: Any) -> str:
    """The host that the module ran on: the one to which the task was delegated, if it was."""
    delegate = result._task.delegate_to
    return str(delegate) if delegate and "{{" not in str(delegate) else str(result._host.get_name())


def _read_data(host: str, module: str, data: Row) -> Reading:
    parcels: list[Parcel] = []
    refused = 0
    if module.endswith("_facts") or module in ASYNC_STATUS:
        facts = data.get("ansible_facts")
        for kind in all_kinds():
            fact = facts.get("ct_" + kind) if isinstance(facts, dict) else None
            if isinstance(fact, dict):
                common = {"Computer": host, TIME: _when(fact)}
                refused += _rows(parcels, DATA_STREAM, kind, common, fact.get("items"))
                parcels.extend(_failed_sources(host, module, kind, fact))
    if not module.endswith("_facts") and isinstance(data.get("inventory"), dict):
        refused += _inventory(parcels, host, module, data)
    return Reading(host, parcels, refused)


def _inventory(parcels: list[Parcel], host: str, module: str, data: Row) -> int:
    """Add the parcels of a result of ct_inventory_info or ct_inventory_fetch; the number of the rows refused.

    What the host says of itself is in their `common`, as a claim; see _identities.
    """
    summaries = {kind: data["inventory"][kind] for kind in all_kinds() if isinstance(data["inventory"].get(kind), dict)}
    refused = 0
    if "forward" not in data:  # by the host itself
        machine = _machine(host, data)
        packed = data.get("packed") or ""
        if module == "ct_inventory_fetch":
            changes, refused = _packed_changes(packed)
        else:
            changes = _list(data.get("changes"))
            refused = _packed_items(parcels, machine, packed, summaries)
        for kind in all_kinds().values():
            of_kind = [
                row for row in changes if isinstance(row, dict) and row.get("ConfigChangeType") == kind.config_type
            ]
            refused += _rows(parcels, CHANGE_STREAM, kind.name, machine, of_kind)
    for kind_name, summary in summaries.items():
        parcels.extend(_failed_sources(host, module, kind_name, summary))
    return refused


def _machine(host: str, data: Row) -> Row:
    machine = {"Computer": host}
    for column, key in ((REPORTED_COMPUTER, "Computer"), ("SourceComputerId",) * 2, ("VMUUID",) * 2):
        value = clean(data, [key]).get(key)
        if isinstance(value, str) and value and (column != REPORTED_COMPUTER or value != host):
            machine[column] = value
    return machine


def _packed_items(parcels: list[Parcel], machine: Row, packed: Any, summaries: Row) -> int:
    """Add the parcel, which is opened when it is delivered; the number of the rows refused."""
    if not isinstance(packed, str) or not packed:
        return 0
    kinds = {kind: [_when(summary), _count(summary)] for kind, summary in summaries.items()}
    parcel = Parcel(DATA_STREAM, "", machine, [], str.__str__(packed), kinds)
    if len(packed) > MAX_PACKED:
        return parcel.total
    parcels.append(parcel)
    return 0


def _packed_changes(packed: Any) -> tuple[list[Row], int]:
    """The changes, and how many things in there are none."""
    changes: list[Row] = []
    try:
        for name, rows in opened(packed) if packed else ():
            if name == CHANGES:
                changes.extend(itertools.islice(rows, MAX_ROWS))
    except PackedError:
        return changes, 1
    return changes, 0


def _rows(parcels: list[Parcel], stream: str, kind: str, common: Row, rows: Any) -> int:
    """Add parcels of the rows. Returns the number of rows refused."""
    names = columns(stream, kind) if stream == DATA_STREAM else CHANGE_ROW
    every = _list(rows)
    refused = max(len(every) - MAX_ROWS, 0)
    some: list[Row] = []
    size = 0
    for row in itertools.islice(every, MAX_ROWS):
        good = clean(row, names)
        if not good:
            refused += 1
            continue
        if len(some) == ROWS or size > MAX_CHARACTERS:
            parcels.append(Parcel(stream, kind, common, some))
            some, size = [], 0
        some.append(good)
        size += sum(len(value) for value in good.values() if isinstance(value, str))
    if some:
        parcels.append(Parcel(stream, kind, common, some))
    return refused


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(summary: Row) -> int:
    count = summary.get("count")
    return min(max(count, 0), MAX_ROWS) if isinstance(count, int) else 0


def _when(summary: Row) -> str:
    when = summary.get("collected_at")
    return str.__str__(when) if isinstance(when, str) and _TIME.fullmatch(when) else str(timestamp(time.time()))


_TIME = re.compile(r"[0-9TZ:.+-]{1,40}")


# --- what went wrong, as records


def _trouble(host: str, module: str, data: Row, problem: str) -> list[Parcel]:
    """A status record for each module of this collection that failed."""
    if not problem or module in ASYNC_STATUS:
        return []
    if data.get("unreachable") is True:
        problem = "unreachable"
    modules = [module]
    if module in GATHER_FACTS:
        failed = data.get("failed_modules")
        if not isinstance(failed, dict):  # none was reached
            failed = constants.config.get_config_value("FACTS_MODULES")
        modules = list(map(_short, failed))
    message = UNREACHABLE if problem == "unreachable" else FAILED
    return [_statuses(host, [_status(name, "", problem, message)]) for name in modules if name in MODULES]


def _statuses(host: str, rows: list[Row]) -> Parcel:
    return Parcel(DATA_STREAM, "", {"Computer": host, TIME: timestamp(time.time())}, rows)


def _status(module: str, kind: str, status: str, message: str, source: str = "") -> Row:
    row = {
        "Module": module,
        "Kind": kind or MODULES.get(module, ""),
        "Source": source,
        "Status": status,
        "Message": message,
    }
    return {column: value for column, value in row.items() if value}


def _failed_sources(host: str, module: str, kind: str, summary: Row) -> Iterator[Parcel]:
    """Status records for the sources that could not be read, for which a module does not fail. Sources that are named by a rule or an
    argument are only counted."""
    sources = summary.get("sources")
    messages: dict[str, list[Any]] = {}
    for name, source in itertools.islice(sources.items() if isinstance(sources, dict) else (), MAX_SOURCES):
        if isinstance(source, dict) and source.get("status") == "failed":
            known = all_kinds()[kind].reaches is None and name in SOURCES
            messages.setdefault(name if known else "", []).append(source.get("message"))
    rows = [
        _status(module if module in MODULES else "", kind, "failed", _reason(len(texts), texts), name)
        for name, texts in messages.items()
    ]
    if rows:
        yield _statuses(host, rows)


def _reason(count: int, messages: list[Any]) -> str:
    """A sentence with those of REASONS that the messages contain."""
    texts = [message for message in messages if isinstance(message, str) and len(message) <= MAX_TEXT]
    named = [reason for reason in REASONS if any(reason in text for text in texts)]
    what = "1 source" if count == 1 else f"{count} sources"
    return f"{what} could not be read{': ' if named else ''}{', '.join(named)}; the output of the run says more."
