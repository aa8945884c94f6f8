# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the hosts of a report and their items. Items are in it once for the whole fleet, and so are the sets that many hosts share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...module_utils._cti.fleet.schema import TIMES, column
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.fleet.transaction import PLAYBOOK
from ...module_utils._cti.kinds.kind import Kind
from ...module_utils._cti.kinds.registry import all_kinds
from .health import problems_of
from .json_columns import read_list
from .later import Changed, Variant, read_later
from .report_columns import MAX_NAME, MAX_TEXT, coded, delta, seconds, share, shown
from .selection import Selects

MAX_COST = 64 << 20  # bytes, before compression, of all items and of what hosts have of them
REFERENCE = 8  # bytes that an item of a host costs
MAX_PROBLEMS = 20  # of a host
DIGITS = 16  # of a checksum: two contents differ in them
# The columns of a kind, without its times. The first ones, IDENTITY, tell the items of a host apart; the last one, ABOUT, is no difference.
FIELDS: dict[str, tuple[tuple[str, str], ...]] = {
    "packages": (("SoftwareName", "Package"), ("Architecture", "Architecture"), ("CurrentVersion", "Version"), ("SoftwareDescription", "Description")),
    "services": (("SvcName", "Service"), ("SvcState", "State"), ("SvcStartupType", "Startup"), ("SvcPath", "Unit file"), ("SvcDescription", "Description")),
    "files": (("FileSystemPath", "File"), ("FileContentChecksum", "SHA-256"), ("Mode", "Mode"), ("Owner", "Owner"), ("Group", "Group"),
              ("Size", "Size"), ("FileType", "Type"), ("LinkTarget", "Target")),
}  # fmt: skip
IDENTITY = {"packages": 2}  # else 1
ABOUT = {"packages": 1, "services": 1}  # else 0

Values = tuple[str, ...]


class Host(NamedTuple):
    number: int  # in the store
    name: str  # in the inventory; in the relay's part of the store, what the host calls itself
    label: str  # that no other host of the report has
    computer: str
    seen: int  # Unix seconds; 0: never
    failed: int
    failure: str
    problems: list[str]


class Items(NamedTuple):
    kinds: list[dict[str, Any]]
    left_out: int


def read_hosts(store: Store, selects: Selects) -> list[Host]:
    """The selected hosts, in the order of their names."""
    rows = store.query(
        "SELECT h.host, h.via, h.name, h.source, h.last_seen, h.failed_at, h.failure, h.problems, m.Computer FROM hosts h"
        " JOIN machines m ON m.machine = h.machine ORDER BY h.name, h.host"
    )
    problems = _source_problems(store)
    hosts: list[Host] = []
    labels: set[str] = set()
    for number, via, name, source, last_seen, failed_at, failure, stated, computer in rows:
        if not selects(name):
            continue
        found = [shown(problem, 2 * MAX_TEXT) for problem in [*read_list(stated), *problems[number]]]
        label = shown(name)
        if label in labels:
            label = f"{label} ({via})" if via != PLAYBOOK else f"{label} ({shown(source, 40) or number})"
        if label in labels:
            label = f"{shown(name)} ({number})"
        labels.add(label)
        hosts.append(
            Host(number, name, label, shown(computer), seconds(last_seen), seconds(failed_at), shown(failure, 2 * MAX_TEXT), found[:MAX_PROBLEMS])
        )  # fmt: skip
    return hosts


def _source_problems(store: Store) -> dict[int, list[str]]:
    """What health.problems_of() says of each host."""
    problems: dict[int, list[str]] = defaultdict(list)
    for host, kind, sources, left_out in store.query(
        "SELECT host, type, sources, left_out FROM inventories ORDER BY host, type"
    ):
        problems[host] += problems_of(kind, sources, left_out)
    return problems


def read_items(store: Store, hosts: list[Host]) -> Items:
    numbers = {host.number: place for place, host in enumerate(hosts)}
    kinds = [_Items(store, kind, numbers) for kind in all_kinds().values()]
    costs = [cost for kind in kinds for cost in kind.costs()]
    limit = share(costs, MAX_COST)
    return Items([kind.columns(limit) for kind in kinds], sum(kind.left_out for kind in kinds))


def _every(_name: str) -> bool:
    return True


class _Items:
    """The items of one kind, with what changed on the hosts of a relay since their inventories. An item's number is its place in the order of their values."""

    def __init__(self, store: Store, kind: Kind, hosts: dict[int, int]) -> None:
        self.name, type_ = kind.name, kind.config_type
        other = tuple((name, name) for name in kind.columns if name not in TIMES)
        self._fields = FIELDS.get(kind.name, other)
        first = self._fields[0][0]
        self._limits = [
            MAX_NAME if name in (first, "LinkTarget", "SvcPath") else MAX_TEXT for name, _label in self._fields
        ]
        self.left_out = 0
        self._identity = IDENTITY.get(kind.name, 1)
        self._hosts = len(hosts)
        self._base_of: dict[int, int] = {}  # host -> base
        self._missing = [0] * len(hosts)
        for host, base in store.query("SELECT host, base FROM inventories WHERE type = ?", type_):
            if host in hosts:
                self._base_of[hosts[host]] = base
        values = dict(self._values(store, type_))
        later = {
            (hosts[host], self._shown((key.name, key.architecture))[: self._identity]): (
                changed,
                self._changed(kind, changed),
            )
            for (host, key), changed in read_later(store, hosts, [kind], _every).items()
        }
        self._values_of = sorted(
            {*values.values(), *(one for _changed, some in later.values() for one in some.values())}
        )
        order = {value: number for number, value in enumerate(self._values_of)}
        page_number = {item: order[value] for item, value in values.items()}
        del values
        self._key_of = self._keys()
        bases: dict[int, Counter[int]] = {base: Counter() for base in self._base_of.values()}
        for base, item in store.query("SELECT base, item FROM set_items"):
            if base in bases and item in page_number:
                bases[base][page_number[item]] += 1
        added: dict[int, set[int]] = defaultdict(set)
        gone: dict[int, Counter[int]] = defaultdict(Counter)
        for host, item, moment in self._differences(store, type_):
            if host in hosts and item in page_number:
                if moment is None:
                    gone[hosts[host]][page_number[item]] += 1
                else:
                    added[hosts[host]].add(page_number[item])
                    gone[hosts[host]][page_number[item]] += 0
        self._apply(later, order, bases, added, gone)
        del later, order
        self._bases = {base: sorted(counts) for base, counts in bases.items()}
        self._added: dict[int, list[int]] = {}
        self._gone: dict[int, list[int]] = {}
        by_key = {base: self._by_key(some) for base, some in self._bases.items()}
        for place in {*added, *gone}:
            base = self._base_of.get(place, -1)
            counts = bases.get(base, Counter())
            new = {item for item in added[place] if item not in counts}
            old = {item for item, number in gone[place].items() if 0 < counts[item] <= number} - added[place]
            self._differ(place, new, old, by_key.get(base, {}))

    def _apply(
        self, later: Mapping[tuple[int, Values], tuple[Changed, dict[Variant, Values]]], order: Mapping[Values, int],
        bases: Mapping[int, Counter[int]], added: dict[int, set[int]], gone: dict[int, Counter[int]],
    ) -> None:  # fmt: skip
        """Apply what changed on a host since its inventory. `later`: by host and identity of an item; `order`: the number of an item."""
        wanted: dict[Values, list[int]] = {identity: [] for _place, identity in later}
        for item, value in enumerate(self._values_of):
            if value[: self._identity] in wanted:
                wanted[value[: self._identity]].append(item)
        for (place, identity), (changed, new) in later.items():
            counts = bases.get(self._base_of.get(place, -1), Counter())
            known = {
                (self._values_of[item][self._identity],): item  # the version of a package
                for item in wanted[identity]
                if item in added[place] or counts[item] > gone[place][item]
            }
            after = changed.applied(known)
            for variant, item in known.items():
                if variant not in after:
                    added[place].discard(item)
                    gone[place][item] = counts[item]
            added[place].update(order[new[variant]] for variant in after if variant not in known)

    def _changed(self, kind: Kind, changed: Changed) -> dict[Variant, Values]:
        """The items that changes left."""
        fields = [kind.tracked.get(name, (name, name))[0] for name, _label in self._fields]
        return {variant: self._shown([row.get(name) for name in fields]) for variant, row in changed.rows.items()}

    def _differ(self, place: int, new: set[int], old: set[int], by_key: dict[int, list[int]]) -> None:
        """Store how a host differs from its base: its items replace those of the base that have the same identity."""
        keys = {self._key_of[item] for item in new}
        kept = {item for key in keys for item in by_key.get(key, ()) if item not in old}
        self._added[place] = sorted(new | kept)
        self._gone[place] = sorted(item for item in old if self._key_of[item] not in keys)

    def _values(self, store: Store, type_: str) -> Iterator[tuple[int, Values]]:
        fields = [name for name, _label in self._fields]
        names = ", ".join(map(column, fields))
        for item, *row in store.query(f"SELECT item, {names} FROM items WHERE ConfigDataType = ?", type_):
            yield item, self._shown(row)

    def _shown(self, row: Sequence[Any]) -> Values:
        """The values as they are shown, of all fields or the first ones."""
        if self.name == "files" and len(row) > 1:
            row = [row[0], str(row[1] or "")[:DIGITS], *row[2:]]
        return tuple([shown(value, limit) for value, limit in zip(row, self._limits)])

    @staticmethod
    def _differences(store: Store, type_: str) -> Iterator[tuple[Any, ...]]:
        yield from store.query("SELECT host, item, moment FROM host_items WHERE type = ?", type_)
        yield from store.query("SELECT DISTINCT host, item, 0 FROM loose WHERE type = ?", type_)

    def _keys(self) -> list[int]:
        keys: list[int] = []
        before: Values | None = None
        for value in self._values_of:
            key = value[: self._identity]
            keys.append((keys[-1] + (key != before)) if keys else 0)
            before = key
        return keys

    def _by_key(self, items: list[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for item in items:
            found[self._key_of[item]].append(item)
        return found

    # --- so that the report has a limited size

    def _cost(self, items: Iterable[int], counted: set[int]) -> int:
        """Bytes of these items: their texts only where they were not counted before."""
        cost = 0
        for item in items:
            cost += REFERENCE
            if item not in counted:
                counted.add(item)
                cost += sum(map(len, self._values_of[item]))
        return cost

    def costs(self) -> list[tuple[int, int]]:
        """Bytes and weight of each set, which is the number of hosts that have it, and of what each host has differently."""
        counted: set[int] = set()
        weights = Counter(self._base_of.values())
        costs = [(self._cost(items, counted), weights[base]) for base, items in self._bases.items()]
        costs += [(self._cost(items, counted), 1) for items in self._added.values()]
        return [(cost, weight) for cost, weight in costs if cost]

    def _cut(self, limit: float) -> None:
        """Leave out what does not fit into the shares."""
        counted: set[int] = set()
        weights = Counter(self._base_of.values())
        cut: dict[int, int] = {}
        for base, items in self._bases.items():
            kept = self._fitting(items, limit * weights[base], counted)
            cut[base] = len(items) - len(kept)
            self._bases[base] = kept
        for place, items in self._added.items():
            kept = self._fitting(items, limit, counted)
            self._missing[place] += len(items) - len(kept)
            self.left_out += len(items) - len(kept)
            self._added[place] = kept
        for place, base in self._base_of.items():
            self._missing[place] += cut[base]
            self.left_out += cut[base]

    def _fitting(self, items: list[int], limit: float, counted: set[int]) -> list[int]:
        for number, item in enumerate(items):
            limit -= self._cost((item,), counted)
            if limit < 0:
                return items[:number]
        return items

    def columns(self, limit: float) -> dict[str, Any]:
        self._cut(limit)
        used = sorted(
            {item for items in (*self._bases.values(), *self._added.values(), *self._gone.values()) for item in items}
        )
        number = {item: place for place, item in enumerate(used)}
        rows = [self._values_of[item] for item in used]
        order = {base: place for place, base in enumerate(self._bases)}
        return {
            "name": self.name,
            "identity": self._identity,
            "about": ABOUT.get(self.name, 0),
            "columns": [coded([row[place] for row in rows]) for place in range(len(self._fields))],
            "bases": [delta(number[item] for item in items) for items in self._bases.values()],
            "base": [order[self._base_of[place]] if place in self._base_of else -1 for place in range(self._hosts)],
            "added": [delta(number[item] for item in self._added.get(place, ())) for place in range(self._hosts)],
            "gone": [delta(number[item] for item in self._gone.get(place, ())) for place in range(self._hosts)],
            "missing": self._missing,
        }
