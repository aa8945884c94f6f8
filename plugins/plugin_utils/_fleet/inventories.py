# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts have which variant of an item, now or at an earlier time.

A set of hosts is an integer, in which bit n stands for host n: 5,000 hosts with 1,200 items each are read and compared in seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import or_
from typing import Any

from ...module_utils._cti.fleet.parameters import placeholders, slices
from ...module_utils._cti.fleet.schema import column
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.kinds.kind import Kind
from ...module_utils._cti.kinds.registry import all_kinds
from ...module_utils._cti.text import timestamp
from .history import COLUMNS, selected
from .later import COMPARED, Changed, Key, Variant, collected_by_agents, key_of, read_later
from .selection import Selects

_MAGIC = frozenset("*?[")


class Inventories:
    """The inventories of the selected hosts. `variants`: {key: {variant: hosts}}."""

    def __init__(
        self,
        hosts: list[str],
        of_kind: Mapping[str, int],
        native: Mapping[str, int],
        variants: dict[Key, dict[Variant, int]],
    ) -> None:
        self.hosts = hosts
        self.variants = variants
        self._of_kind = of_kind
        self._native = native  # architecture -> hosts

    def of_kind(self, kind: str) -> int:
        """The hosts with an inventory of this kind."""
        return self._of_kind.get(kind, 0)

    def comparable(self, key: Key) -> int:
        """The hosts on which the item can be expected: of a package, those that are not of another architecture."""
        mask = self.of_kind(key.kind)
        own = self._native.get(key.architecture)
        if own is None:
            return mask
        others = reduce(or_, self._native.values()) & ~own
        return mask & ~others

    def lacking(self, key: Key) -> int:
        """The comparable hosts that do not have the item."""
        mask = self.comparable(key)
        for some in self.variants.get(key, {}).values():
            mask &= ~some
        return mask

    def names(self, mask: int, most: int) -> list[str]:
        """The first names of a set of hosts, sorted."""
        return sorted(name for number, name in enumerate(self.hosts) if mask >> number & 1)[:most]


def read(
    store: Store, selects: Selects, kinds: Iterable[str], items: list[str], matches: Selects, at: float | None = None
) -> Inventories:
    """The inventories of the hosts that `selects` selects, of items whose names `matches`: any of the patterns `items`.

    at: Unix seconds of an earlier time. The changes since then are undone. An agent sends an inventory only every few hours: the changes that a
    relay got of a host since its inventory are applied to it.
    """
    hosts = [one for one in store.query("SELECT host, name FROM hosts ORDER BY name, host") if selects(one[1])]
    numbers = {host: number for number, (host, _name) in enumerate(hosts)}
    known = [all_kinds()[kind] for kind in kinds]
    rows = {kind.name: list(_items(store, kind, items, matches)) for kind in known}
    masks, of_kind = _masks(store, numbers, [row[0] for every in rows.values() for row in every])
    variants: dict[Key, dict[Variant, int]] = defaultdict(lambda: defaultdict(int))
    for kind in known:
        for item, name, architecture, *values in rows[kind.name]:
            if masks.get(item):
                variants[Key(kind.name, name, architecture or "")][tuple(values)] |= masks[item]
    later = read_later(store, numbers, known, matches, at)
    for changes, is_undone in ((later, False), (_to_undo(store, numbers, known, matches, at, of_kind), True)):
        _move(changes, numbers, variants, is_undone)
    return Inventories(
        [name for _host, name in hosts],
        {kind.name: of_kind.get(kind.config_type, 0) for kind in known},
        _native(store, numbers),
        variants,
    )


def unknown_at(store: Store, selects: Selects, at: float) -> list[str]:
    """The selected hosts of which nothing is stored of that time: they were seen, and changed, only later."""
    sql = "SELECT h.name, h.first_seen, (SELECT min(b.TimeGenerated) FROM batches b WHERE b.host = h.host) FROM hosts h ORDER BY h.name"
    before = timestamp(at) or ""
    return [name for name, seen, changed in store.query(sql) if selects(name) and min(seen, changed or seen) > before]


def _items(store: Store, kind: Kind, items: list[str], matches: Selects) -> Iterator[tuple[Any, ...]]:
    """(item, name, architecture, values...) of the different items of a kind."""
    name = kind.columns[0]
    architecture = "Architecture" if "Architecture" in kind.columns else "NULL"
    columns = ", ".join(map(column, COMPARED[kind.name]))
    sql = f"SELECT item, {name}, {architecture}, {columns} FROM items WHERE ConfigDataType = ?"
    if items and not any(_MAGIC & set(item) for item in items):
        for some in slices(items):
            yield from store.query(f"{sql} AND {name} IN ({placeholders(some)})", kind.config_type, *some)
        return
    yield from (row for row in store.query(sql, kind.config_type) if row[1] is not None and matches(row[1]))


def _masks(store: Store, numbers: Mapping[int, int], items: list[int]) -> tuple[dict[int, int], dict[str, int]]:
    """{item: hosts}, and {type: hosts that have an inventory of it}."""
    of_base: dict[int, int] = defaultdict(int)
    of_type: dict[str, int] = defaultdict(int)
    for host, type_, base in store.query("SELECT host, type, base FROM inventories"):
        if host in numbers:
            of_base[base] |= 1 << numbers[host]
            of_type[type_] |= 1 << numbers[host]
    masks: dict[int, int] = defaultdict(int)
    for base, item in _of_items(store, "base, item FROM set_items", items):
        masks[item] |= of_base.get(base, 0)
    for host, item, moment in _of_items(store, "host, item, moment FROM host_items", items):
        if host in numbers:
            bit = 1 << numbers[host]
            masks[item] = masks[item] & ~bit if moment is None else masks[item] | bit
    for host, type_, item in _of_items(store, "host, type, item FROM loose", items):
        if host in numbers:
            masks[item] |= 1 << numbers[host]
            of_type[type_] |= 1 << numbers[host]
    return masks, of_type


def _native(store: Store, numbers: Mapping[int, int]) -> dict[str, int]:
    """{architecture: hosts}, by the package of the package manager."""
    sql = "SELECT item, Architecture FROM items WHERE ConfigDataType = ? AND SoftwareName IN ('dpkg', 'rpm')"
    architectures = dict(store.query(sql, all_kinds()["packages"].config_type))
    masks, _of_type = _masks(store, numbers, list(architectures))
    native: dict[str, int] = defaultdict(int)
    for item, mask in masks.items():
        native[architectures.get(item) or ""] |= mask
    return {architecture: mask for architecture, mask in native.items() if architecture and mask}


def _of_items(store: Store, what: str, items: list[int]) -> Iterator[tuple[Any, ...]]:
    """The rows of these items. Many are read with all the others."""
    if len(items) > 5000:
        yield from store.query(f"SELECT {what}")
        return
    for some in slices(items):
        yield from store.query(f"SELECT {what} WHERE item IN ({placeholders(some)})", *some)


def _to_undo(
    store: Store,
    numbers: Mapping[int, int],
    kinds: list[Kind],
    matches: Selects,
    at: float | None,
    of_kind: Mapping[str, int],
) -> dict[tuple[int, Key], Changed]:
    """The changes that are in the inventories and were found after `at`."""
    found: dict[tuple[int, Key], Changed] = defaultdict(Changed)
    if at is None:
        return found
    collected = collected_by_agents(store)
    by_type = {kind.config_type: kind for kind in kinds}
    sql = f"{selected(store, ('HostId', *COLUMNS))} WHERE TimeGenerated > ? ORDER BY Seq"
    for row in store.rows(sql, timestamp(at)):
        kind, host = by_type.get(row["ConfigChangeType"]), row["HostId"]
        if kind is None or host not in numbers or not matches(row[kind.columns[0]] or ""):
            continue
        own = collected.get((host, kind.config_type))
        if of_kind.get(kind.config_type, 0) >> numbers[host] & 1 and (own is None or row["TimeGenerated"] <= own):
            found[host, key_of(kind, row)].add(kind, row)
    return found


def _move(
    changes: Mapping[tuple[int, Key], Changed],
    numbers: Mapping[int, int],
    variants: dict[Key, dict[Variant, int]],
    undo: bool,
) -> None:
    """Apply or undo the changes. An item that is not in the inventory any more, though no change removed it, was taken out of the rule
    since: if changes are undone, nothing is said of it."""
    for (host, key), changed in changes.items():
        bit = 1 << numbers[host]
        now = [variant for variant, hosts in variants[key].items() if hosts & bit]
        if undo and not now and changed.after is not None:
            continue
        for variant in now:
            variants[key][variant] &= ~bit
        for variant in changed.undone(now) if undo else changed.applied(now):
            variants[key][variant] |= bit
