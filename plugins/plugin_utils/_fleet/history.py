# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads changes from the fleet store, and decides for each whether Ansible made it, and which mark covers it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ...module_utils._cti.fleet.parameters import AT_ONCE, placeholders, slices
from ...module_utils._cti.fleet.schema import column
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.records import CONTENT_DIFF, RECORD_ID, TIME, change_columns
from ...module_utils._cti.text import timestamp
from . import marks
from .attribution import DRIFT, RUN, TASK, Attribution, Tasks
from .changes import Change, from_record, seconds
from .report_columns import share
from .run_store import read_tasks
from .selection import DAY, Selects

UNKNOWN = "unknown"  # no run was recorded by then, so nothing can be said
LEVELS = (DRIFT, UNKNOWN, RUN, TASK)  # in the order in which they need attention
MOST_CHANGES = 100_000  # that are in memory at a time
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
    and whether there are more than MOST_CHANGES (of other hosts, too, if very many hosts are selected). Then each host has an equal share, and
    its older ones are left out: those of one host do not push out the others."""
    known = store.query("SELECT host, name FROM hosts")
    hosts = [host for host, name in known if selects(name)]
    times = [(sign, timestamp(at)) for sign, at in ((">=", since), ("<", until)) if at is not None]
    some = hosts if len(hosts) < min(len(known), AT_ONCE) else None
    found = _records(store, times, some, MOST_CHANGES + 1)
    if len(found) <= MOST_CHANGES:
        return [pair for pair in found if selects(pair[0])], False
    del found
    sql, parameters = _where(
        "SELECT b.host, count(*) FROM batches b JOIN changes c ON c.batch = b.batch", "b.host", times, some
    )
    selected = set(hosts)
    counts = {host: count for host, count in store.query(f"{sql} GROUP BY b.host", *parameters) if host in selected}
    limit = share([(count, 1) for count in counts.values()], MOST_CHANGES)
    pairs = [pair for host, count in counts.items() for pair in _records(store, times, [host], int(min(count, limit)))]
    return sorted(pairs, key=lambda pair: str(pair[1].get(TIME)), reverse=True), True


def _records(
    store: Store, times: list[tuple[str, Any]], hosts: list[int] | None, most: int
) -> list[tuple[str, Record]]:
    """The latest changes of these hosts, or of all, as (host, record)."""
    sql, parameters = _where(selected(store, COLUMNS), "HostId", times, hosts)
    return [
        (str(row["Host"]), {name: value for name, value in row.items() if value is not None})
        for row in store.rows(f"{sql} ORDER BY TimeGenerated DESC LIMIT ?", *parameters, most)
    ]


def selected(store: Store, names: Iterable[str]) -> str:
    """The query for these columns of changes, as far as the store has them."""
    columns = ", ".join(map(column, store.present("ConfigurationChange", names)))
    return f"SELECT {columns} FROM ConfigurationChange"


def _where(sql: str, host: str, times: list[tuple[str, Any]], hosts: list[int] | None) -> tuple[str, list[Any]]:
    """The query with its conditions, and its parameters."""
    conditions = ["1 = 1", *(f"TimeGenerated {sign} ?" for sign, _at in times)]
    if hosts is not None:
        conditions.append(f"{host} IN ({placeholders(hosts) or 'NULL'})")
    return f"{sql} WHERE {' AND '.join(conditions)}", [*(at for _sign, at in times), *(hosts or [])]


def attributed(
    store: Store | None, records: Iterable[tuple[str, Record]], every_mark: list[marks.Mark]
) -> Iterator[Found]:
    """Each change, with what explains it. A record of no kind is left out."""
    changes = list(changes_of(records))
    earliest = min((min(change.since, change.until) for change in changes), default=0.0)
    every_mark = [mark for mark in every_mark if mark.valid[1] > earliest]
    recorded_since = _recorded_since(store) if store is not None else math.inf
    is_recorded = any(change.until >= recorded_since for change in changes)
    tasks = list(_tasks(store, changes)) if store is not None and is_recorded else []
    if store is not None and (tasks or any(mark.word == marks.WINDOW for mark in every_mark)):
        changes = list(with_installed(store, changes))
    ran = _runs(store, {task.run for task in tasks}) if store is not None and tasks else {}
    for change, found in zip(changes, Tasks(tasks).attribute_all(changes)):
        of_task = ran.get(found.task.run) if found.task is not None else None
        if found.level == DRIFT and change.until < recorded_since:
            found = Attribution(UNKNOWN, witness=found.witness)
        yield Found(change, found, of_task, marks.first(every_mark, change))


def drifted(every: Iterable[Found]) -> set[str]:
    """The names of the hosts with changes that are drift."""
    return {found.change.host for found in every if found.attribution.level == DRIFT}


def _recorded_since(store: Store) -> float:
    """When the first run that was recorded began; inf if there is none."""
    first = seconds(store.query("SELECT min(started_at) FROM runs")[0][0])
    return math.inf if first is None else first


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
            f"SELECT uuid, playbook, username FROM runs WHERE uuid IN ({placeholders(uuids_)})", *uuids_
        )
    }


def with_installed(store: Store, changes: list[Change]) -> Iterator[Change]:
    """The changes, those of packages with the time at which the version that they name was installed."""
    wanted = {_version(change) for change in changes if change.kind == "packages" and not change.removed}
    installed: dict[tuple[Any, ...], str] = {}
    for some in slices(sorted({(name, str(version)) for _host, name, _architecture, version in wanted})):
        names, versions = (sorted(set(texts)) for texts in zip(*some))
        # With the versions, those that all the other hosts have need not be read.
        sql = (
            "SELECT Host, SoftwareName, Architecture, CurrentVersion, InstalledOn FROM ConfigurationData"
            f" WHERE SoftwareName IN ({placeholders(names)}) AND CurrentVersion IN ({placeholders(versions)})"
        )
        for *version, at in store.query(sql, *names, *versions):
            if tuple(version) in wanted:
                installed[tuple(version)] = at
    for change in changes:
        at = installed.get(_version(change)) if change.kind == "packages" else None
        yield from_record(change.host, change.values, at) if at else change


def _version(change: Change) -> tuple[Any, ...]:
    return change.host, change.name, change.values.get("Architecture"), change.values.get("Current")
