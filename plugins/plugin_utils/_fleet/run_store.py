# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves what the callback run_log recorded from its spool to the fleet store, and reads it there.

A record that is moved twice, because the process was killed in between, is stored once.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ansible import constants

from ...module_utils._cti.fleet.parameters import placeholders, slices
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.fleet.transaction import Transaction
from ...module_utils._cti.text import timestamp
from .._spool import Spool, SpoolFile
from .changes import seconds
from .identities import read_names, store_identities
from .json_columns import read_mapping
from .runs import CHANGED, Run, Task, from_line

FOLDER = "run_log"
AT_ONCE = 2_000  # records in one transaction
MARGIN = 30 * 86_400.0  # seconds

_RUN_COLUMNS = ("run", "uuid", "playbook", "username", "controller", "check_mode", "started_at", "ended_at", "details")
_TASK_COLUMNS = (
    *("task", "run", "number", "name", "play", "title", "module", "started_at", "ended_at"),
    *("clock_offset", "named", "details"),
)


def default_folder() -> str:
    """The spool of a callback without the option `spool`."""
    return os.environ.get("RUN_LOG_SPOOL") or os.path.join(constants.config.get_config_value("ANSIBLE_HOME"), FOLDER)


def store_spool(spool: Spool, store: Store) -> int:
    """Store all records of the spool that no other run is writing. Returns their number. Raises FleetError; what is not stored
    by then stays in the spool."""
    stored = 0
    for file in spool.files():
        complete = True
        for part in _parts(file):
            with store.writing() as transaction:
                runs: dict[str, int] = {}
                stored += sum(_add(transaction, runs, line) for _offset, line in part)
            try:
                for offset, _line in part:
                    file.done(offset, 1)
            except OSError:  # they are found again, and stored once nevertheless
                complete = False
        if complete:
            spool.remove(file)
    if stored:
        with store.writing() as transaction:
            delete_old(transaction)
    return stored


def delete_old(transaction: Transaction) -> None:
    """Delete the runs that ended MARGIN before the oldest change that is kept was found and stored, so they explain none.

    When it was found is what the clock of its host said, which may be years ahead.
    """
    found = seconds(transaction.query("SELECT min(TimeGenerated) FROM batches")[0][0])
    stored = transaction.query("SELECT min(date) FROM days WHERE content = 'changes'")[0][0]
    if found is not None:
        oldest = min(found, seconds(f"{stored}T00:00:00Z") or found)
        transaction.execute("DELETE FROM run_tasks WHERE ended_at < ?", oldest - MARGIN)
        sql = (
            "DELETE FROM runs WHERE ended_at < ? AND run NOT IN (SELECT run FROM run_tasks)"
            " AND run <> (SELECT min(run) FROM runs)"  # it says since when runs have been recorded
        )
        transaction.execute(sql, timestamp(oldest - MARGIN))
        transaction.execute("DELETE FROM identities WHERE run NOT IN (SELECT run FROM runs)")


def read_tasks(store: Store, hosts: list[str] | None = None, since: float = 0.0) -> Iterator[Task]:
    """The tasks that ended after `since` by the clock of their host (or have no end), of these hosts or all, for attribution.

    A task of a run in which the host did not return its time has the clock of the last run before in which it did so, of those of the same
    controller, or else of the first one after. The tasks of a host that has another name in the Ansible inventory are those of both names.
    """
    sql = (
        "SELECT r.uuid, t.number, t.name, t.play, t.title, t.module, t.started_at, t.ended_at, t.clock_offset, t.named, t.details,"
        " r.controller FROM run_tasks t JOIN runs r ON r.run = t.run WHERE (t.ended_at IS NULL OR t.ended_at + coalesce(t.clock_offset, 0) >= ?)"
    )
    wanted = None if hosts is None else set(hosts)
    others: dict[str, list[str]] = defaultdict(list)
    for host, name in read_names(store).inventory.items():
        if wanted is None or host in wanted:
            others[name].append(host)
    for rows in _rows(store, sql, since, None if wanted is None else sorted(wanted.union(others))):
        for task in _with_clocks(rows):
            if wanted is None or task.host in wanted:
                yield task
            yield from (task._replace(host=host) for host in others.get(task.host, ()))


def _rows(store: Store, sql: str, since: float, names: list[str] | None) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of tasks, those of a host together."""
    if names is None:
        yield store.query(sql, since)
        return
    for some in slices(names):
        yield store.query(f"{sql} AND t.name IN ({placeholders(some)})", since, *some)


def _with_clocks(rows: list[tuple[Any, ...]]) -> Iterator[Task]:
    """The tasks, those of one host and controller in their order."""
    of_pair: dict[Any, list[Task]] = defaultdict(list)
    for *row, controller in rows:
        task = _task(*row)
        of_pair[task.host, controller].append(task)
    for tasks in of_pair.values():
        tasks.sort(key=lambda task: task.started_at)
        clock = next((task.clock for task in tasks if task.clock is not None), None)
        for task in tasks:
            clock = task.clock or clock
            yield task if task.clock == clock else task._replace(clock=clock)


def _parts(file: SpoolFile) -> Iterator[list[tuple[int, bytes]]]:
    """The lines of a file, at most AT_ONCE at a time."""
    lines = file.lines()
    return iter(lambda: list(islice(lines, AT_ONCE)), [])


def _add(transaction: Transaction, runs: dict[str, int], line: bytes) -> int:
    """Add a record. A damaged line is skipped."""
    try:
        record = from_line(line)
    except (ValueError, RecursionError):
        return 0
    if isinstance(record, Run):
        run = _run(transaction, runs, record)
        if record.ended_at is not None:
            sql = "UPDATE runs SET ended_at = ?, details = ? WHERE run = ?"
            transaction.execute(sql, timestamp(record.ended_at), json.dumps({"hosts": record.hosts}), run)
            _set_clocks(transaction, run, record)
            store_identities(transaction, run, record.hosts)
        return 1
    run = _run(transaction, runs, Run(record.run, "", "", "", False, record.started_at))
    details: dict[str, Any] = {"outcome": record.outcome}
    offset = None
    if record.clock is not None:
        low, high = record.clock
        offset = (low + high) / 2
        details["clock_error"] = (high - low) / 2
    if record.no_log:
        details["no_log"] = True
    row = (
        *(transaction.number(), run, record.number, record.host, record.play, record.title, record.module),
        *(record.started_at, record.ended_at, offset, json.dumps(record.named), json.dumps(details)),
    )
    transaction.insert("run_tasks", _TASK_COLUMNS, [row])
    return 1


def _set_clocks(transaction: Transaction, run: int, record: Run) -> None:
    """Give the tasks that ended before the host returned its time the clock that it had later in the run."""
    for host, known in record.hosts.items():
        clock = known.get("clock") if isinstance(known, dict) else None
        if clock is not None:
            low, high = map(float, clock)
            without = "SELECT task, details FROM run_tasks WHERE run = ? AND name = ? AND clock_offset IS NULL"
            for task, details in transaction.query(without, run, host):
                more = json.dumps({**read_mapping(details), "clock_error": (high - low) / 2})
                sql = "UPDATE run_tasks SET clock_offset = ?, details = ? WHERE task = ?"
                transaction.execute(sql, (low + high) / 2, more, task)


def _run(transaction: Transaction, runs: dict[str, int], run: Run) -> int:
    """The number of a run, which is added where it is missing."""
    if run.uuid not in runs:
        found = transaction.query("SELECT run FROM runs WHERE uuid = ?", run.uuid)
        if not found:
            number = transaction.number()
            row = (
                number,
                run.uuid,
                run.playbook,
                run.user,
                run.controller,
                int(run.check_mode),
                timestamp(run.started_at),
            )
            transaction.insert("runs", _RUN_COLUMNS, [(*row, None, None)])
            found = [(number,)]
        runs[run.uuid] = found[0][0]
    return runs[run.uuid]


def _task(*row: Any) -> Task:
    uuid, number, host, play, title, module, started_at, ended_at, offset, named, details = row
    known = read_mapping(details)
    clock = None
    if offset is not None:
        error = float(known.get("clock_error") or 0)
        clock = (offset - error, offset + error)
    return Task(
        *(uuid, number, host, play or "", title or "", module or "", started_at, ended_at),
        outcome=str(known.get("outcome") or CHANGED),
        named=read_mapping(named),
        clock=clock,
        no_log=bool(known.get("no_log")),
    )
