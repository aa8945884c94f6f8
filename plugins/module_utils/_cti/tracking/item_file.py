# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Writes an item file of bounded size: a user who gives one file very many long names does not fill the disk with it.

The items in folders of root are not limited. Those of all other owners have OTHERS_BYTES together, of which each has an equal share,
and who needs less leaves it to the others.
"""

from typing import Dict, Iterable, Iterator, Mapping

from .. import itemfiles
from ..kinds.files.owners import ROOT
from ..kinds.kind import Kind
from ..model import Item
from ..state.store import Store
from ..text import plural
from .bounded import divide
from .snapshot import owner_of, owners

OTHERS_BYTES = 256 << 20
_OVERHEAD = 600  # bytes of an item in addition to its path, which is in it twice
_SHOWN = 3  # owners in a sentence


class _TooLarge(Exception):
    """The items of others than root need more than OTHERS_BYTES."""


def write(folder: str, kind: Kind, store: Store, happened: Mapping[itemfiles.Identity, str]) -> str:
    """Write the item file of a kind. Returns a sentence about what is left out; empty where nothing is. `happened`: see
    itemfiles.write(). Raises OSError and StateError."""
    parts = store.known(kind).parts
    bounded = _Bounded(owners(kind, ((name, part.signature) for name, part in parts.items())))
    try:
        itemfiles.write(folder, kind, bounded.all(store.all_items(kind)), happened)
        return ""
    except _TooLarge:
        bounded.divide(store.all_items(kind))
    itemfiles.write(folder, kind, bounded.fitting(store.all_items(kind)), happened)
    return "%s has %d MiB of items in folders of users at most. Left out are %s. Narrow the rule." % (
        kind.item_file,
        OTHERS_BYTES >> 20,
        bounded.losses(),
    )


class _Bounded:
    def __init__(self, folder_owners: Mapping[str, str]) -> None:
        self._owners = folder_owners  # see snapshot.owners()
        self._shares: Dict[str, int] = {}
        self._counts: Dict[str, int] = {}  # of items
        self._left_out: Dict[str, int] = {}

    def all(self, items: Iterable[Item]) -> Iterator[Item]:
        """All items. Raises _TooLarge as soon as they are too many."""
        used = 0
        for item in items:
            if self._owner(item) != ROOT:
                used += _size(item)
                if used > OTHERS_BYTES:
                    raise _TooLarge
            yield item

    def divide(self, items: Iterable[Item]) -> None:
        """Give each owner its share."""
        sizes: Dict[str, int] = {}
        for item in items:
            owner = self._owner(item)
            if owner != ROOT:
                sizes[owner] = sizes.get(owner, 0) + _size(item)
                self._counts[owner] = self._counts.get(owner, 0) + 1
        self._shares = divide(sizes, OTHERS_BYTES)

    def fitting(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items that fit into the shares."""
        for item in items:
            owner = self._owner(item)
            if owner != ROOT:
                self._shares[owner] = self._shares.get(owner, 0) - _size(item)
                if self._shares[owner] < 0:
                    self._left_out[owner] = self._left_out.get(owner, 0) + 1
                    continue
            yield item

    def losses(self) -> str:
        most = sorted(self._left_out.items(), key=lambda loss: (-loss[1], loss[0]))
        named = [
            "%d of %s in folders of %s" % (count, plural(self._counts[owner], "item"), owner)
            for owner, count in most[:_SHOWN]
        ]
        return ", ".join(named) + (", ..." if len(most) > _SHOWN else "")

    def _owner(self, item: Item) -> str:
        return owner_of(item, self._owners)


def _size(item: Item) -> int:
    return 2 * len(item[0]) + _OVERHEAD
