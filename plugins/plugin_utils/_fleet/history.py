# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads changes from the fleet store, and decides for each whether Ansible made it, and which mark covers it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from ...module_utils._cti.fleet.schema import column
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.records import CONTENT_DIFF, RECORD_ID, change_columns
from ...module_utils._cti.text import timestamp
from . import marks
from .attribution import DRIFT, RUN, TASK, Attribution, Tasks
from .changes import Change, from_record
from .run_store import read_tasks
from .selection import DAY, Selects

UNKNOWN = "unknown"  # no run was ever recorded, so nothing can be said
LEVELS = (DRIFT, UNKNOWN, RUN, TASK)  # in the order in which they need attention
MOST_CHANGES = 100_000  # that are in memory at a time
AT_ONCE = 500  # parameters of a query
COLUMNS = ("Host", RECORD_ID, *(name for name in change_columns() if name != CONTENT_DIFF))
_MARGIN = 2 * DAY  # by which the clocks of a host and of the controller may differ if no run measured it

Record = Mapping[str, Any]


class Ran(NamedTuple):
    """The run of a task."""

    playbook: str
    user: str


class Found(NamedTuple):
    change: Change
    attribution: Attribution
    ran: Ran | None  # of the task in `attribution`
    mark: marks.Mark | None


def read(
    store: Store, since: float | None, until: float | None, selects: Selects
) -> tuple[list[tuple[str, Record]], bool]:
    """The changes that were found from `since` until before `until` on the selected hosts, as (host, record), the latest first;
    and whether there are more than MOST_CHANGES (of other hosts, too, if very many hosts are selected), so that older ones are left out."""
    where, parameters = ["1 = 1"], []
    for sign, at in ((">=", since), ("<", until)):
        if at is not None:
            where.append(f"TimeGenerated {sign} ?")
            parameters.append(timestamp(at))
    known = store.query("SELECT host, name FROM hosts")
    hosts = [host for host, name in known if selects(name)]
    if len(hosts) < min(len(known), AT_ONCE):
        where.append(f"HostId IN ({', '.join('?' * len(hosts)) or 'NULL'})")
        parameters += hosts
    columns = ", ".join(map(column, COLUMNS))
    sql = f"SELECT {columns} FROM ConfigurationChange WHERE {' AND '.join(where)} ORDER BY TimeGenerated DESC"
    rows = [
        (str(row["Host"]), {name: value for name, value in row.items() if value is not None})
        for row in store.rows(f"{sql} LIMIT ?", *parameters, MOST_CHANGES + 1)
    ]
    return [pair for pair in rows[:MOST_CHANGES] if selects(pair[0])], len(rows) > MOST_CHANGES


def attributed(
    store: Store | None, records: Iterable[tuple[str, Record]], every_mark: list[marks.Mark]
) -> Iterator[Found]:
    """Each change, with what explains it. A record of no kind is left out."""
    changes = list(changes_of(records))
    earliest = min((min(change.since, change.until) for change in changes), default=0.0)
    every_mark = [mark for mark in every_mark if mark.valid[1] > earliest]
    is_recorded = store is not None and bool(store.query("SELECT 1 FROM runs LIMIT 1"))
    tasks = list(_tasks(store, changes)) if store is not None and is_recorded and changes else []
    if store is not None and (tasks or any(mark.word == marks.WINDOW for mark in every_mark)):
        changes = list(with_installed(store, changes))
    if not is_recorded:
        for change in changes:
            yield Found(change, Attribution(UNKNOWN), None, marks.first(every_mark, change))
        return
    ran = _runs(store, {task.run for task in tasks}) if store is not None and tasks else {}
    for change, found in zip(changes, Tasks(tasks).attribute_all(changes)):
        of_task = ran.get(found.task.run) if found.task is not None else None
        yield Found(change, found, of_task, marks.first(every_mark, change))


def changes_of(records: Iterable[tuple[str, Record]]) -> Iterator[Change]:
    """The changes of records. A record of no kind is left out."""
    for host, record in records:
        try:
            yield from_record(host, record)
        except (ValueError, OverflowError):
            continue


def _tasks(store: Store, changes: list[Change]) -> Iterator[Any]:
    hosts = sorted({change.host for change in changes})
    since = min(change.since for change in changes) - _MARGIN
    return read_tasks(store, hosts, 0.0 if since == -math.inf else since)


def _runs(store: Store, uuids: set[str]) -> dict[str, Ran]:
    return {
        uuid: Ran(playbook or "", user or "")
        for uuids_ in slices(sorted(uuids))
        for uuid, playbook, user in store.query(
            f"SELECT uuid, playbook, username FROM runs WHERE uuid IN ({', '.join('?' * len(uuids_))})", *uuids_
        )
    }


def with_installed(store: Store, changes: list[Change]) -> Iterator[Change]:
    """The changes, those of packages with the time at which the version that they name was installed."""
    names = sorted({change.name for change in changes if change.kind == "packages" and not change.removed})
    wanted = {_version(change) for change in changes if change.kind == "packages"}
    installed: dict[tuple[Any, ...], str] = {}
    for some in slices(names):
        marks_ = ", ".join("?" * len(some))
        sql = f"SELECT Host, SoftwareName, Architecture, CurrentVersion, InstalledOn FROM ConfigurationData WHERE SoftwareName IN ({marks_})"
        for *version, at in store.query(sql, *some):
            if tuple(version) in wanted:
                installed[tuple(version)] = at
    for change in changes:
        at = installed.get(_version(change)) if change.kind == "packages" else None
        yield from_record(change.host, change.values, at) if at else change


def _version(change: Change) -> tuple[Any, ...]:
    return change.host, change.name, change.values.get("Architecture"), change.values.get("Current")


def slices(values: list[Any]) -> Iterator[list[Any]]:
    iterator = iter(values)
    return iter(lambda: list(islice(iterator, AT_ONCE)), [])
