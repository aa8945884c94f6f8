# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Packs the items of a result within the limits of the controller. What is too large is left out, counted and named.

Each kind has a space of its own, so one that is too large costs no other kind. Within the files, those in folders of root come first,
and all other owners get equal shares of the rest. What is left out is still in the state, and its changes are reported.
"""

import hashlib
from array import array
from collections import Counter
from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Sequence

from ..kinds.kind import Kind, Row
from ..kinds.registry import all_kinds
from ..packed import LEFT_OUT, MAX_BYTES, MAX_ROW, MAX_ROWS, Packer, to_json
from ..text import plural, quoted
from .report import text_pieces
from .snapshot import Snapshot, owner_of

ROOT = ""  # as an owner
_SMALL = MAX_BYTES >> 4  # of a kind whose items no user makes
_LEAST = MAX_BYTES // MAX_ROWS  # what an item counts at least: then the limit of bytes is that of items too
_SHOWN = 3  # owners in a message
_MARKED = 1000  # owners with a row of their own


class Items(NamedTuple):
    """The items of a kind."""

    all: Sequence[Any]
    row: Callable[[Any], Row]  # an item as it is returned
    owner: Callable[[Any], str]  # of an item, see Kind.owner


class Loss(NamedTuple):
    """What is left out of one owner's items."""

    owner: str
    items: int
    of: int
    first: str  # name of the first of them


class TooLarge(Exception):
    """The items of a kind need more space than it has."""


def of_snapshot(snapshot: Snapshot, full: bool = False) -> Items:
    """The items of a snapshot. `full`: with the columns of Kind.on_request."""
    owners = snapshot.owners
    return Items(
        snapshot.items,
        snapshot.kind.full_row if full else snapshot.kind.row,
        lambda item: owner_of(item, owners) if owners else ROOT,
    )


def pack_items(
    items: Mapping[str, Items],
    known: Mapping[str, Optional[str]],
    computer: str,
    warn: Callable[[str], None],
    summaries: Mapping[str, Dict[str, Any]],
) -> str:
    """The items by kind, packed, without the kinds of which the caller has the same, see run_host(). `warn` gets a sentence for each
    kind of which items are left out, and its summary gets their number; `computer` is the name in the sentence."""
    packer = Packer()
    for name, of_kind in items.items():
        digest = known.get(name)
        if digest is not None and digest == _digest(map(of_kind.row, of_kind.all)):
            continue
        attempt = packer.copy()
        try:
            attempt.add(name, _within(of_kind, space(all_kinds()[name])))
        except TooLarge:
            selection = Selection(all_kinds()[name], of_kind)
            warn(selection.sentence(computer))
            summaries[name]["left_out"] = sum(loss.items for loss in selection.losses)
            if digest is not None and digest == _digest(selection.rows()):
                continue
            attempt = packer.copy()
            attempt.add(name, map(to_json, selection.rows()))
        packer = attempt
    return packer.text()


def space(kind: Kind) -> int:
    """How many bytes of JSON the items of a kind may have. What remains of MAX_BYTES is for the rows about what is left out."""
    return _SMALL if kind.reaches is None else MAX_BYTES - _SMALL * len(all_kinds())


def _digest(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for piece in text_pieces(rows):
        digest.update(piece.encode("utf-8"))
    return digest.hexdigest()


def _within(items: Items, limit: int) -> Iterator[str]:
    """The JSON of each item. Raises TooLarge."""
    used = 0
    for item in items.all:
        text = to_json(items.row(item))
        used += _cost(text)
        if used > limit or len(text) > MAX_ROW:
            raise TooLarge
        yield text


def _cost(text: str) -> int:
    return max(len(text) + 1, _LEAST)


class Selection:
    """The items of a kind that is too large: of each owner, those that come first."""

    def __init__(self, kind: Kind, items: Items) -> None:
        self._kind = kind
        self._items = items
        self._kept = bytearray()  # of each item, whether it is returned
        owners = [items.owner(item) for item in items.all]
        costs = array("l")  # 0: the item alone is too large
        sizes: Dict[str, int] = {}
        for item, owner in zip(items.all, owners):
            text = to_json(items.row(item))
            costs.append(_cost(text) if len(text) <= MAX_ROW else 0)
            sizes[owner] = sizes.get(owner, 0) + costs[-1]
        remaining = divide(sizes, space(kind))
        counts = Counter(owners)
        left_out: Dict[str, int] = {}
        firsts: Dict[str, Any] = {}
        for item, owner, cost in zip(items.all, owners, costs):
            self._kept.append(0 < cost <= remaining[owner])
            if self._kept[-1]:
                remaining[owner] -= cost
            else:
                left_out[owner] = left_out.get(owner, 0) + 1
                firsts.setdefault(owner, item)
        losses = [Loss(owner, count, counts[owner], self._label(firsts[owner])) for owner, count in left_out.items()]
        self.losses = sorted(losses, key=lambda loss: (-loss.items, loss.owner))

    def _label(self, item: Any) -> str:
        return str(next(iter(self._items.row(item).values()), ""))

    def rows(self) -> Iterator[Row]:
        """What is returned: the items, and for each owner a row with the columns of an item that says how many are left out."""
        for item, kept in zip(self._items.all, self._kept):
            if kept:
                yield self._items.row(item)
        columns = list(self._items.row(self._items.all[0]) or self._kind.columns)
        for loss in self.losses[:_MARKED]:
            marker: Row = dict.fromkeys(columns)
            marker[columns[0]] = "(%s)" % self._described(loss)
            marker[LEFT_OUT] = loss.items
            yield marker

    def sentence(self, computer: str) -> str:
        """What is left out, for the operator."""
        named = "; ".join(self._described(loss) for loss in self.losses[:_SHOWN])
        more = "; and of %s" % plural(len(self.losses) - _SHOWN, "more owner") if len(self.losses) > _SHOWN else ""
        limit = space(self._kind)
        return (
            "%s has more %s than a result can hold (%d MiB, %d items). %s%s. Their changes are reported nevertheless. Remove the"
            " items, or narrow the rule."
            % (quoted(computer), self._kind.name, limit >> 20, limit // _LEAST, named, more)
        )

    def _described(self, loss: Loss) -> str:
        where = "" if self._kind.reaches is None else " in folders of %s" % _name(loss.owner)
        return "%d of %s%s left out, the first is %s" % (loss.items, plural(loss.of, "item"), where, quoted(loss.first))


def _name(owner: str) -> str:
    """An owner, see owners.py, with the name of the user."""
    if not owner.startswith("uid="):
        return owner or "root"
    import pwd  # not in memory unless it is needed

    try:
        return "%s (%s)" % (quoted(pwd.getpwuid(int(owner[4:])).pw_name), owner)
    except (KeyError, ValueError, OverflowError):
        return owner


def divide(sizes: Mapping[str, int], limit: int) -> Dict[str, int]:
    """How much of the limit each owner may use. Root has what it needs, up to three quarters, and beyond that what the others
    leave. All others have equal shares of the rest; who needs less leaves it to them."""
    others = sorted((size, owner) for owner, size in sizes.items() if owner != ROOT)
    needed = sum(size for size, _owner in others)
    shares = {ROOT: min(sizes.get(ROOT, 0), max(limit * 3 // 4, limit - needed))}
    rest = limit - shares[ROOT]
    for number, (size, owner) in enumerate(others):
        shares[owner] = min(size, rest // (len(others) - number))
        rest -= shares[owner]
    return shares
