# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One value of each item of a host: the versions of its packages, the states of its services, the checksums of its files. Of a host
that sends to a relay, what changed since its last inventory counts.

The items of 5,000 hosts are too many for the memory. What hosts share is read once, and the items of a host are put together when they
are asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ...module_utils._cti.errors import CtiError
from ...module_utils._cti.fleet.parameters import placeholders, slices
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.kinds.packages.versions import compare_dpkg, compare_rpm
from ...module_utils._cti.kinds.registry import all_kinds
from .._bounded import calm
from .later import COMPARED, Changed, Key, Variant, read_later
from .selection import matching

# The column that is the value of an item.
COLUMNS = {kind: columns[0] for kind, columns in COMPARED.items()}
_MAGIC = frozenset("*?[")


class Item(NamedTuple):
    name: str
    value: str


def _as_it_is(text: str) -> str:
    return text


class Values:
    """The items of a kind with these names (or patterns of names), of all hosts. `mark` is applied to each text of a host."""

    def __init__(self, store: Store, kind: str, names: Iterable[str], mark: Callable[[str], str] = _as_it_is) -> None:
        names = list(names)
        every = {host for (host,) in store.query("SELECT host FROM hosts")}
        self._later: dict[int, dict[Key, Changed]] = defaultdict(dict)
        for (host, key), changed in read_later(store, every, [all_kinds()[kind]], matching(names)).items():
            self._later[host][key] = changed
        self._mark = mark
        self._keys: dict[int, tuple[Key, Variant]] = {}
        self._items: dict[int, Item] = {}
        for number, name, value, architecture in _items(store, kind, names):
            self._items[number] = self._item(name, value)
            if self._later:
                self._keys[number] = (
                    Key(kind, name, architecture if kind == "packages" and architecture else ""),
                    (value,),
                )
        sets: dict[int, set[int]] = defaultdict(set)
        for base, item in _of_items(store, "base, item FROM set_items", self._items):
            sets[base].add(item)
        self._sets = dict(sets)
        self._of_set = {base: self._mapping(map(self._items.__getitem__, items)) for base, items in sets.items()}
        type_ = all_kinds()[kind].config_type
        self._base = dict(store.query("SELECT host, base FROM inventories WHERE type = ?", type_))
        own: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        for host, item, moment in _of_items(store, "host, item, moment FROM host_items", self._items):
            own[host].append((item, moment is not None))
        for host, item in _of_items(store, "host, item FROM loose", self._items):
            own[host].append((item, True))
        self._own = dict(own)

    def of(self, host: int) -> Mapping[str, str]:
        """{name: value} of the host with this number, not to be changed."""
        base = self._base.get(host, 0)
        later = self._later.get(host)
        if host not in self._own and not later:
            return self._of_set.get(base, {})
        items = set(self._sets.get(base, ()))
        for item, is_there in self._own.get(host, ()):
            (items.add if is_there else items.discard)(item)
        return self._mapping(self._after(items, later) if later else map(self._items.__getitem__, items))

    def _after(self, items: Iterable[int], later: Mapping[Key, Changed]) -> Iterator[Item]:
        """The items after these changes. The value of an item is the first one of its variant."""
        variants: dict[Key, list[Variant]] = defaultdict(list)
        for item in items:
            key, variant = self._keys[item]
            variants[key].append(variant)
        for key, changed in later.items():
            variants[key] = changed.applied(variants[key])
        return (
            self._item(key.name, variant[0])
            for key, some in variants.items()
            for variant in some
            if variant[0] is not None
        )

    def _item(self, name: str, value: str) -> Item:
        return Item(self._mark(calm(name)), self._mark(calm(value)))

    @staticmethod
    def _mapping(items: Iterable[Item]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in items:
            if name not in found or _is_newer(value, found[name]):
                found[name] = value
        return found


def _items(store: Store, kind: str, names: list[str]) -> Iterator[tuple[int, str, str, str | None]]:
    """(number, name, value, architecture) of the different items. Those without a value are left out."""
    column, name = COLUMNS[kind], all_kinds()[kind].columns[0]
    type_ = all_kinds()[kind].config_type
    sql = f"SELECT item, {name}, {column}, Architecture FROM items WHERE ConfigDataType = ? AND {name} IS NOT NULL AND {column} IS NOT NULL"
    if any(_MAGIC & set(one) for one in names):
        matches = matching(names)
        yield from (row for row in store.query(sql, type_) if matches(row[1]))
        return
    for some in slices(sorted(set(names))):
        yield from store.query(f"{sql} AND {name} IN ({placeholders(some)})", type_, *some)


def _of_items(store: Store, what: str, items: Iterable[int]) -> Iterator[tuple[Any, ...]]:
    for some in slices(list(items)):
        yield from store.query(f"SELECT {what} WHERE item IN ({placeholders(some)})", *some)


def _is_newer(one: str, other: str) -> bool:
    """Whether a version is the newer one of two that are installed. For other values, any order that is always the same."""
    compare = compare_rpm if ":" in one else compare_dpkg
    try:
        return compare(one, other) > 0
    except CtiError:
        return one > other
