# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Compares two versions of one part: which items were added, removed and modified."""

from typing import AbstractSet, Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from ..kinds.kind import Kind, Row
from ..model import Item

Identity = Tuple[str, ...]


class Change(NamedTuple):
    category: str  # Added Removed Modified
    old: Optional[Item]
    new: Optional[Item]
    fields: Sequence[str]  # the columns that differ; empty unless Modified
    owner: str = ""  # see Kind.owner


def compare(
    kind: Kind, old: Iterable[Item], new: Iterable[Item], unsure: AbstractSet[Identity] = frozenset()
) -> List[Change]:
    """The changes from old to new, ordered by identity.

    An item that is_unsure() exists, but could not be read: it is no change. Several versions of one package
    (kernels) are distinguished by version; a single one that is replaced by another single one is Modified.
    """
    before, after = _by_identity(kind, old), _by_identity(kind, new)
    changes: List[Change] = []
    for identity in sorted(before.keys() | after.keys()):
        if is_unsure(identity, unsure):
            continue
        was, now = before.get(identity, []), after.get(identity, [])
        if len(was) == 1 and len(now) == 1:
            changes.extend(_modified(kind, was[0], now[0]))
        else:
            changes.extend(_versions(kind, was, now))
    return changes


def is_unsure(identity: Identity, unsure: AbstractSet[Identity]) -> bool:
    """Whether an identity is among these, which may hold the name of a package alone, for all its architectures."""
    return bool(unsure) and (identity in unsure or identity[:1] in unsure)


def _by_identity(kind: Kind, items: Iterable[Item]) -> Dict[Identity, List[Any]]:
    groups: Dict[Identity, List[Any]] = {}
    for item in items:
        groups.setdefault(kind.identity(item), []).append(item)
    return groups


def _versions(kind: Kind, was: List[Any], now: List[Any]) -> Iterable[Change]:
    old = {getattr(item, "version", ""): item for item in was}
    new = {getattr(item, "version", ""): item for item in now}
    for version in sorted(old.keys() | new.keys()):
        if version not in new:
            yield Change("Removed", old[version], None, ())
        elif version not in old:
            yield Change("Added", None, new[version], ())
        else:
            yield from _modified(kind, old[version], new[version])


def _modified(kind: Kind, old: Item, new: Item) -> Iterable[Change]:
    if kind.compared(old) == kind.compared(new):
        return
    before, after = kind.row(old), kind.row(new)
    skipped = kind.uncompared + kind.incomparable(old, new)
    fields = [column for column in after if column not in skipped and _differs(column, before, after)]
    if fields:
        yield Change("Modified", old, new, fields)


def _differs(column: str, before: Row, after: Row) -> bool:
    was, now = before[column], after[column]
    return was is not None and now is not None and bool(was != now)
