# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts are stale, could not be collected, or are not in the fleet store at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.text import line, plural, timestamp
from .groups import MAX_LENGTH
from .json_columns import read_list, read_mapping
from .selection import Selects

Entry = dict[str, Any]


def hosts(store: Store, selects: Selects, stale_before: float) -> Iterator[Entry]:
    """The selected hosts, with `status`: failed, stale, partial (a source could not be read) or ok. In this order."""
    every = [entry for _number, entry in numbered(store, selects, stale_before)]
    yield from sorted(every, key=lambda one: (STATUSES.index(one["status"]), one["last_seen"] or "", one["host"]))


def numbered(store: Store, selects: Selects, stale_before: float) -> Iterator[tuple[int, Entry]]:
    """The same, each with its number in the store, in no order."""
    inventories: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for host, *about in store.query("SELECT host, type, items, left_out, sources FROM inventories ORDER BY type"):
        inventories[host].append(tuple(about))
    sql = (
        "SELECT h.host, h.name, h.via, m.Computer, m.SourceComputerId, h.first_seen, h.last_seen, h.failed_at, h.failure, h.problems"
        " FROM hosts h JOIN machines m ON m.machine = h.machine"
    )
    before = timestamp(stale_before) or ""
    yield from ((row[0], _host(row, inventories[row[0]], before)) for row in store.query(sql) if selects(row[1]))


STATUSES = ("failed", "stale", "partial", "ok")


def _host(row: tuple[Any, ...], inventories: Iterable[tuple[Any, ...]], stale_before: str) -> Entry:
    _number, name, via, computer, source, first_seen, last_seen, failed_at, failure, problems = row
    found = read_list(problems)
    items: dict[str, int] = {}
    for type_, count, left_out, sources in inventories:
        items[type_] = count
        found += problems_of(type_, sources, left_out)
    status = "failed" if failure else "stale" if last_seen < stale_before else "partial" if found else "ok"
    return {
        "host": name,
        "via": via,
        "Computer": computer,
        "SourceComputerId": source,
        "status": status,
        "first_seen": first_seen,
        "last_seen": last_seen or None,
        "failed_at": failed_at,
        "failure": failure,
        "problems": [line(str(problem), MAX_LENGTH) for problem in found],
        "items": items,
    }


def problems_of(type_: str, sources: Any, left_out: Any) -> Iterator[str]:
    """What could not be read of a kind, and how much is left out of its inventory. `sources` and `left_out`: as in the table `inventories`."""
    for name, source in read_mapping(sources).items():
        if isinstance(source, dict) and source.get("status") == "failed":
            yield f"{type_}: {name}: {source.get('message') or 'could not be read'}"
    if left_out:
        yield f"{type_}: {plural(left_out, 'item', 'is')} left out"


def lines(entries: list[Entry], missing: list[str]) -> list[str]:
    shown = []
    for entry in entries:
        if entry["status"] != "ok":
            why = entry["failure"] or "; ".join(entry["problems"])
            seen = entry["last_seen"] or "never"
            shown.append(line(f"{entry['status']:<8}{entry['host']}  last seen {seen}  {why}".rstrip(), MAX_LENGTH))
    return shown + [line(f"missing {host}  never collected", MAX_LENGTH) for host in missing]
