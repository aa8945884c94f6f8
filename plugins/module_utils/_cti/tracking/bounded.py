# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Packs the items of a result within the limits of the controller. What is too large is left out, counted and named.

Each kind has a space of its own, so one that is too large costs no other kind. Within the files, those in folders of root come first,
and all other owners get equal shares of the rest. What is left out is still in the state, and its changes are reported.
"""

import hashlib
from typing import Callable, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Tuple

from ..kinds.kind import Kind, Row
from ..kinds.registry import all_kinds
from ..packed import LEFT_OUT, MAX_BYTES, MAX_ROW, MAX_ROWS, Packer, to_json
from ..text import plural, quoted
from .report import text_pieces
from .snapshot import Snapshot

ROOT = ""  # as an owner
_SMALL = MAX_BYTES >> 4  # of a kind whose items no user makes
_LEAST = MAX_BYTES // MAX_ROWS  # what an item counts at least: then the limit of bytes is that of items too
_SHOWN = 3  # owners in a message
_MARKED = 1000  # owners with a row of their own

Entries = Callable[[], Iterable[Tuple[str, Row]]]  # the items of a kind, each with its owner, see Kind.owner


class Loss(NamedTuple):
    """What is left out of one owner's items."""

    owner: str
    items: int
    of: int
    first: str  # name of the first of them


class TooLarge(Exception):
    """The items of a kind need more space than it has."""


def entries(snapshot: Snapshot) -> Iterator[Tuple[str, Row]]:
    row, owners = snapshot.kind.row, snapshot.owners
    for item in snapshot.items:
        owner = owners.get(item[0].rpartition("/")[0] or "/", ROOT) if owners else ROOT
        yield owner, row(item)


def pack_items(
    items: Mapping[str, Entries], known: Mapping[str, Optional[str]], computer: str, warn: Callable[[str], None]
) -> str:
    """The items by kind, packed, without the kinds of which the caller has the same, see run_host(). `warn` gets a sentence for each
    kind of which items are left out; `computer` is the name in it."""
    packer = Packer()
    for name, of_kind in items.items():
        digest = known.get(name)
        if digest is not None and digest == _digest(row for _owner, row in of_kind()):
            continue
        attempt = packer.copy()
        try:
            attempt.add(name, _within(of_kind(), space(all_kinds()[name])))
        except TooLarge:
            selection = Selection(all_kinds()[name], of_kind)
            warn(selection.sentence(computer))
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


def _within(items: Iterable[Tuple[str, Row]], limit: int) -> Iterator[str]:
    """The JSON of each item. Raises TooLarge."""
    used = 0
    for _owner, row in items:
        text = to_json(row)
        used += _cost(text)
        if used > limit or len(text) > MAX_ROW:
            raise TooLarge
        yield text


def _cost(text: str) -> int:
    return max(len(text) + 1, _LEAST)


class Selection:
    """The items of a kind that is too large: of each owner, those that come first."""

    def __init__(self, kind: Kind, items: Entries) -> None:
        self._kind = kind
        self._items = items
        sizes: Dict[str, int] = {}
        counts: Dict[str, int] = {}
        for owner, row in items():
            text = to_json(row)
            sizes[owner] = sizes.get(owner, 0) + (_cost(text) if len(text) <= MAX_ROW else 0)
            counts[owner] = counts.get(owner, 0) + 1
        self._shares = divide(sizes, space(kind))
        left_out: Dict[str, int] = {}
        firsts: Dict[str, str] = {}
        for owner, row, fits in self._judged():
            if not fits:
                left_out[owner] = left_out.get(owner, 0) + 1
                firsts.setdefault(owner, str(next(iter(row.values()), "")))
        losses = [Loss(owner, count, counts[owner], firsts[owner]) for owner, count in left_out.items()]
        self.losses = sorted(losses, key=lambda loss: (-loss.items, loss.owner))

    def _judged(self) -> Iterator[Tuple[str, Row, bool]]:
        remaining = dict(self._shares)
        for owner, row in self._items():
            text = to_json(row)
            fits = len(text) <= MAX_ROW and _cost(text) <= remaining[owner]
            if fits:
                remaining[owner] -= _cost(text)
            yield owner, row, fits

    def rows(self) -> Iterator[Row]:
        """What is returned: the items, and for each owner a row with the columns of an item that says how many are left out."""
        columns: Iterable[str] = self._kind.columns
        for _owner, row, fits in self._judged():
            columns = row or columns
            if fits:
                yield row
        for loss in self.losses[:_MARKED]:
            marker: Row = dict.fromkeys(columns)
            marker[next(iter(marker))] = "(%s)" % self._described(loss)
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
