# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the changes of a report, who made them, and how they are marked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from ...module_utils._cti.fleet.schema import TIMES
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.kinds.registry import all_kinds
from ...module_utils._cti.records import CONTENT_DIFF, RECORD_ID, change_columns
from ...module_utils._cti.text import timestamp
from . import history
from .attribution import DRIFT
from .changes import MODIFIED
from .marks import Mark
from .report_columns import MAX_NAME, coded, delta, seconds, share, shown
from .report_items import DIGITS, Host
from .witness import in_short

MAX_CHANGES = 300_000
AT_ONCE = 20_000  # changes that are attributed together: those of whole hosts
MAX_DETAIL = 1_000  # characters
KINDS = {kind.config_type: kind for kind in all_kinds().values()}
WORDS = {
    "SvcState": "state", "SvcStartupType": "startup", "SvcRunlevels": "wanted by", "SvcController": "controller", "SvcPath": "unit file",
    "UnitFileState": "unit file state", "FileContentChecksum": "SHA-256", "Size": "size", "Owner": "owner", "Group": "group", "Mode": "mode",
    "FileType": "type", "LinkTarget": "target",
}  # fmt: skip

Record = dict[str, Any]
_COLUMNS = ("HostId", "Host", "Seq", RECORD_ID, *(name for name in change_columns() if name != CONTENT_DIFF))


class Changes(NamedTuple):
    columns: dict[str, Any]
    total: int
    left_out: int
    drifted: set[str]  # names of hosts with changes that are drift


class _Row(NamedTuple):
    when: int
    host: int
    content: tuple[str, ...]  # kind, category, name, detail
    actor: tuple[str, ...]  # level, task, module, playbook, user; whom the host names, and whether that agrees
    mark: tuple[str, ...]  # word, reason, by; empty where there is none


def read_changes(store: Store, hosts: list[Host], since: float, marks: list[Mark]) -> Changes:
    """The changes since then, the latest first. Of a host with too many, the latest ones."""
    numbers = {host.number: place for place, host in enumerate(hosts)}
    from_ = str(timestamp(since))
    chosen, left_out = _chosen(store, numbers, from_)
    rows = sorted(_rows(store, numbers, from_, chosen, marks), key=lambda row: -row.when)
    contents, content = _numbered([row.content for row in rows])
    actors, actor = _numbered([row.actor for row in rows])
    marked, mark = _numbered([row.mark for row in rows])
    columns = {
        "when": delta(row.when for row in rows),
        "host": [row.host for row in rows],
        "content": content,
        "actor": actor,
        "mark": mark,
        "contents": [coded([one[place] for one in contents]) for place in range(4)],
        "actors": actors,
        "marks": marked,
    }
    drifted = {hosts[row.host].name for row in rows if row.actor[0] == DRIFT}
    return Changes(columns, len(rows), left_out, drifted)


def _numbered(values: list[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], list[int]]:
    """The different values, and the place of each value among them."""
    different = sorted(set(values))
    places = {value: place for place, value in enumerate(different)}
    return different, [places[value] for value in values]


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


def _rows(
    store: Store, numbers: Mapping[int, int], since: str, chosen: set[int] | None, marks: list[Mark]
) -> Iterator[_Row]:
    for records in _whole_hosts(store, numbers, since, chosen):
        for found in history.attributed(store, [(record["Host"], record) for record in records], marks):
            record = found.change.values
            yield _Row(
                seconds(record.get("TimeGenerated")),
                numbers[record["HostId"]],
                _content(record),
                _actor(found),
                _mark(found),
            )


def _whole_hosts(
    store: Store, numbers: Mapping[int, int], since: str, chosen: set[int] | None
) -> Iterator[list[Record]]:
    """The records, those of a host together: attribution needs them all."""
    rows = store.rows(
        f"{history.selected(store, _COLUMNS)} WHERE TimeGenerated >= ? ORDER BY HostId, TimeGenerated DESC, Seq DESC",
        since,
    )
    some: list[Record] = []
    for host, group in groupby(rows, key=lambda row: row["HostId"]):
        if host in numbers:
            for row in group:
                if row["ConfigChangeType"] in KINDS and (chosen is None or row["Seq"] in chosen):
                    some.append({name: value for name, value in row.items() if value is not None})
        if len(some) >= AT_ONCE:
            yield some
            some = []
    yield some


def _actor(found: history.Found) -> tuple[str, ...]:
    level, task, _reason, witness = found.attribution
    host = (in_short(found.change.values), witness)
    ran = (shown(found.ran.playbook), shown(found.ran.user)) if found.ran is not None else ("", "")
    of_task = (shown(task.title), shown(task.module)) if task is not None else ("", "")
    return (level, *of_task, *ran, *host)


def _mark(found: history.Found) -> tuple[str, ...]:
    return () if found.mark is None else (found.mark.word, shown(found.mark.reason), shown(found.mark.by))


def _content(record: Mapping[str, Any]) -> tuple[str, ...]:
    kind = KINDS[record["ConfigChangeType"]]
    name = shown(record.get(kind.columns[0]), MAX_NAME)
    category = shown(record.get("ChangeCategory"))
    parts = []
    for field, (current, previous) in kind.tracked.items():
        if field in TIMES:
            continue
        old, new = (_value(field, record.get(one)) for one in (previous, current))
        if old != new:
            word = f"{WORDS[field]} " if field in WORDS else ""
            parts.append(word + (f"{old or 'none'} \u2192 {new or 'none'}" if category == MODIFIED else old or new))
    detail = ", ".join(parts)
    if not detail:
        detail = shown(record.get("FieldsChanged")).replace(",", ", ")
    if kind.name == "packages" and record.get("Architecture"):
        detail += f" ({shown(record['Architecture'], 40)})"
    return (kind.name, category, name, shown(detail, MAX_DETAIL))


def _value(field: str, value: Any) -> str:
    return str(value or "")[:DIGITS] if field == "FileContentChecksum" else shown(value)
