# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the changes of a report, and who made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.kinds.registry import all_kinds
from ...module_utils._cti.text import timestamp
from .attribution import Attribution, Tasks
from .changes import from_record
from .report_columns import MAX_NAME, coded, delta, seconds, share, shown
from .report_items import DIGITS, Host
from .run_store import read_tasks

MAX_CHANGES = 300_000
MAX_DETAIL = 1_000  # characters
UNKNOWN = "unknown"  # no run was ever recorded, so nothing can be said
CHECKSUMS = ("FileContentChecksum",)
KINDS = {kind.config_type: kind for kind in all_kinds().values()}
WORDS = {
    "SvcState": "state", "SvcStartupType": "startup", "SvcRunlevels": "wanted by", "SvcController": "controller", "SvcPath": "unit file",
    "UnitFileState": "unit file state", "FileContentChecksum": "SHA-256", "Size": "size", "Owner": "owner", "Group": "group", "Mode": "mode",
    "FileType": "type", "LinkTarget": "target",
}  # fmt: skip
TIMES = ("DateModified", "DateCreated", "InstalledOn")


class Changes(NamedTuple):
    columns: dict[str, Any]
    total: int
    left_out: int


class _Row(NamedTuple):
    when: int
    host: int
    content: tuple[str, ...]  # kind, category, name, detail
    actor: tuple[str, ...]  # level, task, module, playbook, user


def read_changes(store: Store, hosts: list[Host], since: float) -> Changes:
    """The changes since then, the latest first. Of a host with too many, the latest ones."""
    numbers = {host.number: place for place, host in enumerate(hosts)}
    from_ = str(timestamp(since))
    chosen, left_out = _chosen(store, numbers, from_)
    rows = sorted(_rows(store, numbers, from_, chosen), key=lambda row: -row.when)
    contents = sorted({row.content for row in rows})
    actors = sorted({row.actor for row in rows})
    content_of = {content: number for number, content in enumerate(contents)}
    actor_of = {actor: number for number, actor in enumerate(actors)}
    columns = {
        "when": delta(row.when for row in rows),
        "host": [row.host for row in rows],
        "content": [content_of[row.content] for row in rows],
        "actor": [actor_of[row.actor] for row in rows],
        "contents": [coded([content[place] for content in contents]) for place in range(4)],
        "actors": actors,
    }
    return Changes(columns, len(rows), left_out)


def _chosen(store: Store, numbers: Mapping[int, int], since: str) -> tuple[set[int] | None, int]:
    """The numbers of the changes that fit, None for all, and how many do not."""
    sql = (
        "SELECT c.seq, b.host FROM batches b JOIN changes c ON c.batch = b.batch WHERE b.TimeGenerated >= ?"
        " ORDER BY b.TimeGenerated DESC, c.seq DESC"
    )
    of_host: dict[int, list[int]] = defaultdict(list)
    for seq, host in store.query(sql, since):
        if host in numbers:
            of_host[host].append(seq)
    total = sum(map(len, of_host.values()))
    if total <= MAX_CHANGES:
        return None, 0
    limit = int(share([(len(found), 1) for found in of_host.values()], MAX_CHANGES))
    chosen = {seq for found in of_host.values() for seq in found[:limit]}
    return chosen, total - len(chosen)


def _rows(store: Store, numbers: Mapping[int, int], since: str, chosen: set[int] | None) -> Iterator[_Row]:
    tasks = _Attribution(store, seconds(since))
    found = store.rows("SELECT * FROM ConfigurationChange WHERE TimeGenerated >= ? ORDER BY HostId", since)
    for host, group in groupby(found, key=lambda record: record["HostId"]):
        if host not in numbers:
            continue
        records = [
            record
            for record in group
            if record["ConfigChangeType"] in KINDS and (chosen is None or record["Seq"] in chosen)
        ]
        for record, actor in zip(records, tasks.actors(records)):
            yield _Row(seconds(record["TimeGenerated"]), numbers[host], _content(record), actor)


class _Attribution:
    """Who made changes: level, task, module, playbook and user."""

    def __init__(self, store: Store, since: float) -> None:
        runs = store.query("SELECT uuid, playbook, username FROM runs")
        self._runs = {uuid: (shown(playbook), shown(user)) for uuid, playbook, user in runs}
        self._tasks = Tasks(read_tasks(store, since=since - 86_400.0)) if runs else None

    def actors(self, records: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
        if self._tasks is None:
            return ((UNKNOWN, "", "", "", "") for _record in records)
        changes = [from_record(record["Host"], record) for record in records]
        return map(self._actor, self._tasks.attribute_all(changes))

    def _actor(self, found: Attribution) -> tuple[str, ...]:
        if found.task is None:
            return (found.level, "", "", "", "")
        return (
            found.level,
            shown(found.task.title),
            shown(found.task.module),
            *self._runs.get(found.task.run, ("", "")),
        )


def _content(record: Mapping[str, Any]) -> tuple[str, ...]:
    kind = KINDS[record["ConfigChangeType"]]
    name = shown(record.get(kind.columns[0]), MAX_NAME)
    category = shown(record.get("ChangeCategory"))
    parts = []
    for column, (current, previous) in kind.tracked.items():
        if column in TIMES:
            continue
        old, new = (_value(column, record.get(one)) for one in (previous, current))
        if old != new:
            word = f"{WORDS[column]} " if column in WORDS else ""
            parts.append(word + (f"{old or 'none'} \u2192 {new or 'none'}" if category == "Modified" else old or new))
    detail = ", ".join(parts)
    if not detail:
        detail = shown(record.get("FieldsChanged")).replace(",", ", ")
    if kind.name == "packages" and record.get("Architecture"):
        detail += f" ({shown(record['Architecture'], 40)})"
    return (kind.name, category, name, shown(detail, MAX_DETAIL))


def _value(column: str, value: Any) -> str:
    return str(value or "")[:DIGITS] if column in CHECKSUMS else shown(value)
