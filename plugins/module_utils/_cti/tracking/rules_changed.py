# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Decides which differences between two runs are changes of the host, where the rules changed in between.

A difference is a change of the host if it also shows by the rules of the last run. So each part has its items twice: by the rules of
this run, which are stored, and by those of the last run, both from one look at the directory. What differs by the rules of the last run
is reported, even where the new rules no longer reach it; what does not differ by them is only counted.
"""

from typing import Any, Dict, List, Optional, Sequence

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

    def compare(self, part: Part, old: Sequence[Item]) -> None:
        identity = self._kind.identity
        found = {identity(item): item for item in part.items or ()}
        before = {identity(item): item for item in old}
        now = self._by_identity(self._differences(part, old))
        then: Dict[Identity, Change] = {}
        if part.by_last_rules is not None:
            then = self._by_identity(self._differences(part._replace(items=part.by_last_rules), old))
        for key in sorted(now.keys() | then.keys() | (found.keys() & before.keys())):
            is_same = key in found and key in before and self._is_same(before[key], found[key])
            if not is_same:
                self._judge(now.get(key), then.get(key), key in found)
        self._known.changes = len(self.changes)

    def compare_gone(self, part: str) -> None:
        for change in self._removed(part):
            self._judge(change, change if self._rules.by_last_rules else None, False)

    def rules(self, postponed: bool) -> List[Any]:
        """Those of the last run again, where rules were added since and some changes are postponed."""
        return self._rules_before if postponed and self._is_appended() else self._rules.rules

    def _judge(self, now: Optional[Change], then: Optional[Change], is_tracked: bool) -> None:
        """Report or count what differs from the last run. `now`, `then`: the change by the rules of this run and of the last.
        `is_tracked`: whether the item is tracked by the rules of this run."""
        if then is None or (then.new is None and not self._rules.reaches(self._rules_before, then.old)):
            self._counts["Modified" if now is None else now.category] += 1
        elif then.category != "Removed" or not is_tracked:
            self.changes.append(then)
        elif now is not None:  # the rules of the last run lost sight of it as it changed
            self.changes.append(now)

    def _is_same(self, old: Item, new: Item) -> bool:
        return self._kind.compared(old) == self._kind.compared(new)

    def _by_identity(self, changes: Sequence[Change]) -> Dict[Identity, Change]:
        return {self._kind.identity(change.new or change.old): change for change in changes}

    def _is_appended(self) -> bool:
        """Whether all that was tracked still is, in the same way: an item is tracked by the first rule that reaches it."""
        return list(self._rules.rules[: len(self._rules_before)]) == list(self._rules_before)
