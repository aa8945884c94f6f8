# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions are there, and who differs: from the rest, from a golden host or a group, or from itself at an earlier time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from ...module_utils._cti.errors import CtiError
from ...module_utils._cti.kinds.packages.versions import Condition, compare_dpkg, compare_rpm, has_epoch, satisfies
from ...module_utils._cti.text import line, plural
from .groups import MAX_LENGTH, MOST_HOSTS, SHOWN_HOSTS
from .inventories import Inventories
from .later import COMPARED, Key, Variant

Entry = dict[str, Any]
Expected = set[Variant]  # empty: the item should not be there
Meets = Callable[[Key, Variant], bool]

MOST_VARIANTS = 100  # of one item
_CHECKSUM_SHOWN = 12  # characters
_OF_DPKG = frozenset(
    ("all", "amd64", "arm64", "armel", "armhf", "i386", "mips64el", "mipsel", "ppc64el")
)  # architectures


def versions(found: Inventories, meets: Meets | None = None, with_lacking: bool = False) -> Iterator[Entry]:
    """Each item with its variants, the most frequent one first: those that meet a condition. `with_lacking`: the last one is the hosts
    that do not have the item, in any architecture."""
    for (kind, _name), same in groupby(sorted(found.variants), key=lambda key: key[:2]):
        keys = list(same)
        lacking = found.of_kind(kind) if with_lacking else 0
        for key in keys:
            ranked = [pair for pair in _ranked(found.variants[key]) if meets is None or meets(key, pair[0])]
            for pair in ranked:
                lacking &= ~pair[1]
            variants = [_variant(found, key, *pair) for pair in ranked]
            if lacking and key is keys[-1]:
                variants.append(_variant(found, key, None, lacking))
            if variants:
                yield _entry(key, variants)


def meeting(condition: Condition) -> Meets:
    """Whether the version of a package meets a condition, in the order of its package manager."""

    def meets(key: Key, variant: Variant) -> bool:
        version = str(variant[0] or "")
        is_rpm = key.architecture not in _OF_DPKG if has_epoch(version) else ":" in version
        try:
            return satisfies(version, condition, compare_rpm if is_rpm else compare_dpkg)
        except CtiError:  # what the host says is no version
            return False

    return meets


def outliers(found: Inventories, share: float) -> Iterator[Entry]:
    """The items that at least this share of the hosts have in one variant, or do not have, and others differently. The rarest
    difference first. A package is compared on the hosts of its architecture."""

    def expected(key: Key) -> Expected | None:
        comparable = found.comparable(key)
        enough = share * comparable.bit_count()
        variants = found.variants[key].items()
        usual = {variant for variant, hosts in variants if (hosts & comparable).bit_count() >= enough}
        return usual if usual or found.lacking(key).bit_count() >= enough else None

    return _sorted(found, expected)


def differences(reference: Inventories, found: Inventories) -> Iterator[Entry]:
    """In what hosts differ from a reference: a host, or what more than half of a group have. What the group does not agree on is
    left out. The rarest difference first."""

    def expected(key: Key) -> Expected | None:
        hosts = reference.of_kind(key.kind)
        if not hosts:
            return None
        half = hosts.bit_count() / 2
        usual = {variant for variant, some in reference.variants.get(key, {}).items() if some.bit_count() > half}
        return usual if usual or reference.lacking(key).bit_count() > half else None

    return _sorted(found, expected, reference)


def moved(then: Inventories, now: Inventories) -> Iterator[Entry]:
    """In what hosts differ from themselves at an earlier time. What differs on most hosts first."""
    every = []
    for key in {**now.variants, **then.variants}:
        pairs = _moves(then.variants.get(key, {}), now.variants.get(key, {}))
        if pairs:
            every.append((-sum(hosts.bit_count() for hosts in pairs.values()), key, pairs))
    for _count, key, pairs in sorted(every, key=lambda one: one[:2]):
        variants = [
            {"before": None if old is None else _values(key, old), **_variant(now, key, new, hosts)}
            for (old, new), hosts in sorted(pairs.items(), key=lambda pair: (-pair[1].bit_count(), str(pair[0])))
        ]
        yield _entry(key, variants)


def _moves(before: dict[Variant, int], after: dict[Variant, int]) -> dict[tuple[Variant | None, Variant | None], int]:
    """{(old, new): hosts}, where None stands for a host without the item."""
    lost, gained = _only_in(before, after), _only_in(after, before)
    pairs: dict[tuple[Variant | None, Variant | None], int] = defaultdict(int)
    for bit in {**lost, **gained}:
        for old in lost.get(bit, [None]):
            for new in gained.get(bit, [None]):
                pairs[old, new] |= bit
    return pairs


def _only_in(some: dict[Variant, int], others: dict[Variant, int]) -> dict[int, list[Variant | None]]:
    """{host, as a set of one: the variants that it has in `some` alone}."""
    found: dict[int, list[Variant | None]] = defaultdict(list)
    for variant, hosts in some.items():
        remaining = hosts & ~others.get(variant, 0)
        while remaining:
            bit = remaining & -remaining
            found[bit].append(variant)
            remaining ^= bit
    return found


def _sorted(
    found: Inventories, expected: Callable[[Key], Expected | None], reference: Inventories | None = None
) -> Iterator[Entry]:
    every = []
    for key in {**found.variants, **(reference.variants if reference is not None else {})}:
        usual = expected(key)
        if usual is None:
            continue
        others = [pair for pair in _ranked(found.variants.get(key, {})) if pair[0] not in usual]
        lacking = found.lacking(key) if usual else 0
        count = (lacking.bit_count() if lacking else 0) + sum(hosts.bit_count() for _variant_, hosts in others)
        if count:
            every.append((count, key, usual, others, lacking))
    for _count, key, usual, others, lacking in sorted(every, key=lambda one: one[:2]):
        variants = [_variant(found, key, *pair) for pair in others]
        if lacking:
            variants.append(_variant(found, key, None, lacking))
        yield {**_entry(key, variants), "expected": [_values(key, variant) for variant in sorted(usual, key=str)]}


def _ranked(variants: dict[Variant, int]) -> list[tuple[Variant, int]]:
    some = [(variant, hosts) for variant, hosts in variants.items() if hosts]
    return sorted(some, key=lambda pair: (-pair[1].bit_count(), str(pair[0])))


def _entry(key: Key, variants: list[Entry]) -> Entry:
    """`more`: the number of variants beyond MOST_VARIANTS."""
    item = {"kind": key.kind, "item": key.name, "architecture": key.architecture}
    return {**item, "variants": variants[:MOST_VARIANTS], "more": max(0, len(variants) - MOST_VARIANTS)}


def _values(key: Key, variant: Variant) -> Entry:
    return dict(zip(COMPARED[key.kind], variant))


def _variant(found: Inventories, key: Key, variant: Variant | None, hosts: int) -> Entry:
    return {
        "values": None if variant is None else _values(key, variant),  # None: the hosts do not have the item
        "count": hosts.bit_count(),
        "hosts": found.names(hosts, MOST_HOSTS),
    }


# --- as lines


def lines(entries: list[Entry], of_one_host: bool = False) -> list[str]:
    """A line for each item and for each of its variants. `of_one_host`: one line for an item with its only variant."""
    shown: list[str] = []
    for entry in entries:
        usual = entry.get("expected")
        name = f"{entry['kind']}  {entry['item']}"
        if of_one_host and len(entry["variants"]) == 1:
            shown.append(line(f"{name}  {_short(entry['variants'][0]['values'], {})}", MAX_LENGTH))
            continue
        if usual is not None:
            name += f"  (expected: {' or '.join(_short(values, {}) for values in usual) or 'not there'})"
        shown.append(line(name, MAX_LENGTH))
        for variant in entry["variants"]:
            hosts, count = variant["hosts"], variant["count"]
            more = f", {count - SHOWN_HOSTS} more" if count > SHOWN_HOSTS else ""
            about = _short(variant["values"], variant.get("before") or (usual[0] if usual else {}))
            if "before" in variant:
                about = f"{_short(variant['before'], variant['values'] or {})} -> {about}"
            text = f"  {plural(count, 'host'):>9}  {about}  ({', '.join(hosts[:SHOWN_HOSTS])}{more})"
            shown.append(line(text, MAX_LENGTH))
        if entry["more"]:
            shown.append(f"  {plural(entry['more'], 'more variant')}")
    return shown


def _short(values: Entry | None, other: Entry) -> str:
    """The values; of several, those that differ from the other ones."""
    if values is None:
        return "not there"
    if len(values) == 1:
        return str(next(iter(values.values())))
    some = {name: value for name, value in values.items() if value != other.get(name)} or values
    return " ".join(f"{name}={_cut(name, value)}" for name, value in some.items() if value or name in other)


def _cut(name: str, value: Any) -> str:
    return str(value or "")[:_CHECKSUM_SHOWN] if name == "FileContentChecksum" else str(value or "")
