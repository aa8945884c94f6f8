# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changed on the hosts of a relay since their inventories: an agent sends changes at once, and an inventory only every few hours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

from ...module_utils._cti.fleet.parameters import placeholders, slices
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.fleet.transaction import RELAY
from ...module_utils._cti.kinds.kind import Kind
from ...module_utils._cti.text import timestamp
from .history import COLUMNS, selected
from .selection import Selects

# The columns that make two items of one name different variants.
COMPARED = {
    "packages": ("CurrentVersion",),
    "services": ("SvcState", "SvcStartupType"),
    "files": ("FileContentChecksum", "Mode", "Owner", "Group", "FileType", "LinkTarget"),
}

Row = Mapping[str, Any]
Variant = tuple[Any, ...]  # the values of the columns in COMPARED


class Key(NamedTuple):
    """An item, whatever its variant."""

    kind: str
    name: str
    architecture: str


class Changed:
    """What the changes of one item on one host, from the oldest to the newest, say of the time before and after them."""

    def __init__(self) -> None:
        self.before: Variant | None = None  # what the first change found; None: nothing
        self.after: Variant | None = None  # what the last change left
        self.rows: dict[Variant, Row] = {}  # the last record that left this variant
        self._net: dict[Variant, int] = defaultdict(int)  # above 0: the changes added it; below 0: they removed it
        self._has_several = False
        self._is_first = True

    def add(self, kind: Kind, row: Row) -> None:
        """Add a record of ConfigurationChange."""
        before, after = (
            None
            if row["ChangeCategory"] == absent
            else tuple(row[kind.tracked[name][which]] for name in COMPARED.get(kind.name, kind.tracked))
            for which, absent in ((1, "Added"), (0, "Removed"))
        )
        self._has_several = kind.name == "packages"  # of which a host may have several versions
        if self._is_first:
            self.before, self._is_first = before, False
        self.after = after
        for step, variant in ((-1, before), (1, after)):
            if variant is not None:
                self._net[variant] += step
        if after is not None:
            self.rows[after] = row

    def applied(self, now: Iterable[Variant]) -> list[Variant]:
        """The variants that a host has after the changes, if it had `now` before."""
        return self._moved(now, self.after, 1)

    def undone(self, now: Iterable[Variant]) -> list[Variant]:
        """The variants that a host had before the changes, if it has `now` after them."""
        return self._moved(now, self.before, -1)

    def _moved(self, now: Iterable[Variant], only: Variant | None, sign: int) -> list[Variant]:
        if not self._has_several:
            return [] if only is None else [only]
        kept = [variant for variant in now if sign * self._net.get(variant, 0) >= 0]
        return kept + [variant for variant, net in self._net.items() if sign * net > 0 and variant not in kept]


def read_later(
    store: Store, hosts: Container[int], kinds: Iterable[Kind], matches: Selects, until: float | None = None
) -> dict[tuple[int, Key], Changed]:
    """What changed on the hosts that send to a relay since their inventories, until then (Unix seconds) or now: {(host, item): changes}."""
    collected = collected_by_agents(store)
    last = timestamp(until)
    by_type = {kind.config_type: kind for kind in kinds}
    found: dict[tuple[int, Key], Changed] = defaultdict(Changed)
    for some in slices(_numbers(store) if collected else []):
        sql = f"{selected(store, ('HostId', *COLUMNS))} WHERE Seq IN ({placeholders(some)}) ORDER BY Seq"
        for row in store.rows(sql, *some):
            kind, host, at = by_type.get(row["ConfigChangeType"]), row["HostId"], row["TimeGenerated"]
            if kind is None or host not in hosts or not matches(row[kind.columns[0]] or ""):
                continue
            own = collected.get((host, kind.config_type))
            if own is not None and own < at and (last is None or at <= last):
                found[host, key_of(kind, row)].add(kind, row)
    return found


def _numbers(store: Store) -> list[int]:
    """The numbers of the changes after the first inventory of their host."""
    sql = (
        "SELECT c.seq FROM (SELECT v.host, min(v.collected_at) AS since FROM inventories v JOIN hosts h ON h.host = v.host WHERE h.via = ?"
        " GROUP BY v.host) i CROSS JOIN batches b CROSS JOIN changes c WHERE b.host = i.host AND b.TimeGenerated > i.since AND c.batch = b.batch"
        " ORDER BY c.seq"
    )
    return [seq for (seq,) in store.query(sql, RELAY)]


def key_of(kind: Kind, row: Row) -> Key:
    """The item of a change."""
    return Key(kind.name, row[kind.columns[0]], row["Architecture"] or "" if kind.name == "packages" else "")


def collected_by_agents(store: Store) -> dict[tuple[int, str], str]:
    """{(host, type): time of the inventory} of the hosts that send to a relay."""
    sql = "SELECT i.host, i.type, i.collected_at FROM inventories i JOIN hosts h ON h.host = i.host WHERE h.via = ?"
    return {(host, type_): at for host, type_, at in store.query(sql, RELAY) if at is not None}
