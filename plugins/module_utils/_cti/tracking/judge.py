# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Decides which differences between two runs are changes of the host. Others only look like one: an item was out of sight or
unsure in the last run, or this run collects by other rules, see rules_changed.py.
"""

from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set

from ..kinds.files.budget import HIDDEN_BYTES, Share
from ..kinds.kind import Kind
from ..model import Item, Part
from ..state.store import DAMAGED, Run, StoredParts
from ..text import plural
from .diff import Change, Identity, compare, is_unsure

_OVERHEAD = 200  # bytes of an identity in addition to its characters
_ANY = "//"


class Scope(NamedTuple):
    """The rules that say what a run collects."""

    rules: List[Any]  # as JSON data, which the store keeps from one run to the next
    reaches: Callable[[Sequence[Any], Any], bool]  # (rules, item) -> whether the item may be one of theirs
    by_last_rules: bool = False  # whether parts that changed have Part.by_last_rules


class Judge:
    """Compares the parts of one run with those of the last; `changes` holds what is reported."""

    def __init__(self, kind: Kind, last: Optional[Run], known: StoredParts, scope: Optional[Scope]) -> None:
        self.changes: List[Change] = []
        self._kind = kind
        self._last = last
        self._known = known
        self._unseen: Set[str] = set()
        self._never_known: Dict[
            str, Set[Identity]
        ] = {}  # part -> identities that were there, in no form to compare with; _ANY + OWNER: any in the parts of this owner
        for entry in last.unseen if last is not None else ():
            if isinstance(entry, str):
                self._unseen.add(entry)
            else:
                self._never_known.setdefault(entry[0], set()).add(tuple(entry[1:]))
        self._share = Share(HIDDEN_BYTES)  # of the bytes for the identities in Run.unseen
        self._crowded: Set[str] = set()  # owners who have used up their share
        self._scope = scope
        self._counts = {"Added": 0, "Removed": 0, "Modified": 0}

    def compare(self, part: Part, old: Sequence[Item]) -> None:
        """Judge a part that was collected; `old`: the items that the store has of it."""
        for change in self._differences(part, old):
            self._add(change)
        self._known.changes = len(self.changes)

    def compare_gone(self, part: str) -> None:
        """Judge a part that is in the store and no longer on the host."""
        for change in self._removed(part):
            self._add(change)

    def never_known(self, part: Part, old: Sequence[Item]) -> List[List[str]]:
        """The identities that have been there in some form since the first look at the part, so that they are not added
        when they can be read; as Run.unseen holds them."""
        if not part.unsure:
            return []
        known = {self._kind.identity(item) for item in old}
        known.update([identity[:1] for identity in known])
        before = self._never_known.get(part.name, set())
        first = self._last is None or not self._was_seen(part)
        owner_of_part = self._kind.owner(part.signature)
        entries: List[List[str]] = []
        for unsure in sorted(part.unsure - known):
            owner = part.owners.get(unsure, owner_of_part)
            if first or is_unsure(unsure, before) or _ANY + owner in self._never_known:
                entries += self._bounded(part.name, unsure, owner)
        return entries

    def still_never_known(self, parts: Iterable[str]) -> List[List[str]]:
        """The same of parts that were not looked at in this run, or did not change."""
        entries: List[List[str]] = []
        for part in parts:
            owner = self._kind.owner(self._known.signature(part))
            for identity in sorted(self._never_known.get(part, ())):
                entries += self._bounded(part, identity, owner)
        return entries

    def _bounded(self, part: str, identity: Identity, owner: str) -> List[List[str]]:
        """The entry of an identity in Run.unseen; once the owner has too many of them, one entry for all of this owner."""
        if not owner or self._share.take(owner, len(part) + sum(map(len, identity)) + _OVERHEAD):
            return [[part, *identity]]
        if owner in self._crowded:
            return []
        self._crowded.add(owner)
        return [[_ANY + owner]]

    def rules(self, postponed: bool) -> List[Any]:
        """The rules that the next run compares by. `postponed`: that of this run's collection."""
        return [] if self._scope is None else self._scope.rules

    def notes(self) -> List[str]:
        """A sentence about what is not reported because the rules changed; empty where there is nothing."""
        if not any(self._counts.values()):
            return []
        counts = (
            plural(self._counts["Added"], "newly tracked item"),
            self._counts["Removed"],
            self._counts["Modified"],
        )
        return [
            "The rule changed since the last run. Not reported as changes of the host: %s,"
            " %d no longer tracked, %d tracked in another way." % counts
        ]

    def _differences(self, part: Part, old: Sequence[Item]) -> List[Change]:
        if self._last is None or not self._was_seen(part):
            return []
        skipped = part.unsure | part.uncompared | self._never_known.get(part.name, set())
        changes = self._owned(compare(self._kind, old, part.items or [], skipped), part.signature, part.owners)
        return [change for change in changes if change.old is not None or _ANY + change.owner not in self._never_known]

    def _removed(self, part: str) -> List[Change]:
        """The removal of all that the store has of a part."""
        return self._owned(compare(self._kind, self._known.items(part), []), self._known.signature(part), {})

    def _owned(self, changes: List[Change], signature: Optional[str], owners: Mapping[Identity, str]) -> List[Change]:
        owner = self._kind.owner(signature)
        if not owner:
            return changes
        identity = self._kind.identity
        return [change._replace(owner=owners.get(identity(change.new or change.old), owner)) for change in changes]

    def _was_seen(self, part: Part) -> bool:
        known = self._known.parts.get(part.name)
        if part.before is not None:
            return True
        if known is not None:
            return known.digest != DAMAGED
        return not self._was_unseen(part.name, "//" + self._kind.owner(part.signature))

    def _was_unseen(self, name: str, owner: str) -> bool:
        while name not in self._unseen and name + owner not in self._unseen:
            name, slash, _name = name.rpartition("/")
            if not slash:
                return "/" in self._unseen
        return True

    def _add(self, change: Change) -> None:
        if not self._is_out_of_scope(change):
            self.changes.append(change)

    def _is_out_of_scope(self, change: Change) -> bool:
        """Whether this is a removal of what the rules no longer reach, which is counted."""
        if change.new is not None or self._scope is None or self._scope.reaches(self._scope.rules, change.old):
            return False
        self._counts["Removed"] += 1  # also where it was out of sight in the run in which the rules changed
        return True
