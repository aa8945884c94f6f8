# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Decides which differences between two runs are changes of the host, where the rules changed in between.

A difference is a change of the host if it also shows by the rules of the last run. So the host is collected once more by
those. What differs by them is reported, even where the new rules no longer reach it; what does not differ by them is only
counted.
"""

from typing import Any, Callable, Dict, Iterable, List, Sequence

from ..errors import CtiError, StateError
from ..kinds.kind import Kind
from ..model import Item, Part
from ..state.store import Run, StoredParts
from .diff import Change, Identity
from .judge import Judge, Scope


class JudgeOfOtherRules(Judge):
    """Compares the parts of a run with those of the last, which had other rules."""

    def __init__(self, kind: Kind, last: Run, known: StoredParts, scope: Scope) -> None:
        super().__init__(kind, last, known, scope)
        self._rules = scope
        self._rules_before = last.scope
        self._doubtful: Dict[Identity, str] = {}  # -> category, of what the change of the rules may account for
        self._added: Dict[Identity, Change] = {}  # what the rules of the last run alone show as added so far

    def compare(self, part: Part, old: Sequence[Item]) -> None:
        super().compare(part, old)
        self._doubt_incomparable(old, part.items or [])
        self._known.changes += len(self._doubtful)

    def settle(self, out_of_sight: Callable[[str], bool]) -> None:
        """Report of the doubtful differences what also changed by the rules of the last run, and count the rest. A part that is
        out of sight is compared in a later run."""
        if self._doubtful or not self._is_appended():
            try:
                self._confirm_by_rules_before(out_of_sight)
                if self._added:
                    self._report_added()
            except StateError:
                raise
            except CtiError:
                pass  # this version refuses a rule of the last run: nothing can be confirmed
        for category in self._doubtful.values():
            self._counts[category] += 1
        self.changes.sort(key=lambda change: self._kind.identity(change.new or change.old))

    def rules(self, postponed: bool) -> List[Any]:
        """Those of the last run again, where rules were added since and some changes are postponed."""
        return self._rules_before if postponed and self._is_appended() else self._rules.rules

    def _add(self, change: Change) -> None:
        if self._is_out_of_scope(change):
            return
        if change.old is None and not self._rules.reaches(self._rules_before, change.new):
            self._counts["Added"] += 1
        else:
            self._doubtful[self._kind.identity(change.new or change.old)] = change.category

    def _doubt_incomparable(self, old: Sequence[Item], new: Sequence[Item]) -> None:
        """Doubt items that differ only in columns that cannot be compared, such as a checksum by another algorithm than before."""
        before = {self._kind.identity(item): item for item in old}
        for item in new:
            identity = self._kind.identity(item)
            if identity in before and self._kind.compared(before[identity]) != self._kind.compared(item):
                self._doubtful.setdefault(identity, "Modified")

    def _is_appended(self) -> bool:
        """Whether all that was tracked still is, in the same way: an item is tracked by the first rule that reaches it."""
        return list(self._rules.rules[: len(self._rules_before)]) == list(self._rules_before)

    def _confirm_by_rules_before(self, out_of_sight: Callable[[str], bool]) -> None:
        """Collect by the rules of the last run, and confirm what changed by them."""
        left = set(self._known.parts)
        self._known.changes = 0
        collection = self._rules.collect(self._rules_before, self._known)
        for part in collection:
            left.discard(part.name)
            if part.items is not None:
                old = self._known.items(part.name) if part.before is None else part.before
                self._confirm(self._differences(part, old), out_of_sight(part.name))
                self._known.changes = len(self.changes)
        for name in sorted(left - collection.replaced):
            if not collection.out_of_sight(name):
                self._confirm(self._removed(name), out_of_sight(name))

    def _confirm(self, changes: Iterable[Change], later: bool) -> None:
        """Report these changes by the old rules, unless a later run finds them by the new ones. `later`: whether it compares
        the part."""
        for change in changes:
            identity = self._kind.identity(change.new or change.old)
            if self._doubtful.pop(identity, None) is not None:
                self.changes.append(change)
            elif later:
                continue
            elif not self._rules.reaches(self._rules.rules, change.old or change.new):
                self.changes.append(change)
                if change.old is not None:
                    self._counts["Removed"] -= 1  # _add() took it for no longer tracked
            elif change.old is None:
                self._added[identity] = change

    def _report_added(self) -> None:
        """Report as added what the rules of this run still do not show. What they show by now was added after this run
        collected, and the next run reports it."""
        self._known.changes = 0
        for part in self._rules.collect(self._rules.rules, self._known):
            for identity in [*part.unsure, *(self._kind.identity(item) for item in part.items or ())]:
                self._added.pop(identity, None)
        self.changes += self._added.values()
