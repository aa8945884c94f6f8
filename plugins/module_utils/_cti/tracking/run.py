# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Runs one kind: collects its items on the host, compares them with the state, and stores the result."""

import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple

from ..errors import DcrError
from ..kinds import collectors
from ..kinds.files.budget import REHASH_DAYS
from ..kinds.files.scope import FileRule
from ..kinds.kind import Kind
from ..model import Collection, Item, Known, Part, Source
from ..rule.settings import Settings
from ..state.store import Run, Store, StoredPart, StoredParts
from .diff import is_unsure
from .judge import Judge, Scope
from .snapshot import Snapshot, combined_digest, digest, in_order, outcomes, owners

if TYPE_CHECKING:
    from ..kinds.files.partial import Named
    from ..kinds.files.scan import Watch

Progress = Callable[[int], None]  # gets the number of items so far
PROGRESS_SECONDS = 5
SWITCHED_OFF = "(switched off)"  # in Run.unseen: the rule has switched off the kind since the last run


def compare_and_store(
    kind: Kind,
    collect: Callable[[Known], Collection],
    store: Store,
    scope: Optional[Scope] = None,
    keep_items: bool = False,
    progress: Optional[Progress] = None,
    ends: bool = False,
    first: Optional[Run] = None,
) -> Snapshot:
    """Collect the items of a kind, compare them with those in the store, and put the result into the store.

    `scope`: the rules that say what is collected, for a kind that has rules. Differences that only follow from other rules than
    those of the last run are not reported as changes; nor are items that one of the two runs could not see. `progress` is
    called with the number of items so far, every PROGRESS_SECONDS at most. `ends`: the rule has switched off the kind, and this is
    its last run, unless it postpones changes. `first`: the run to compare with instead of the stored one. Raises StateError.
    """
    now = int(time.time())
    reported = time.monotonic()
    last = first or store.last_run(kind)
    known = store.known(kind)
    judge = _judge(kind, last, known, scope)
    observed = _Observed(kind, store, known, judge, keep_items)
    collection = collect(known)
    for part in collection:
        if progress is not None and time.monotonic() - reported >= PROGRESS_SECONDS:
            progress(observed.count)
            reported = time.monotonic()
        observed.add(part)
        del part  # not in memory while the next one is made
    observed.add_missing(collection)
    sources = outcomes(collection)
    unseen = [*collection.unseen, *observed.never_known, *judge.still_never_known(observed.unchanged)]
    notes = []
    if ends and not collection.postponed:
        unseen.append(SWITCHED_OFF)
        notes.append("The rule has switched off %s. This run compared them for the last time." % kind.name)
    store.finish(kind, Run(now, judge.rules(collection.postponed), unseen), sources)
    snapshot = observed.snapshot(now, None if last is None else max(0, now - last.collected_at), sources)
    return snapshot._replace(notes=[*snapshot.notes, *notes], partial=collection.partial)


def _judge(kind: Kind, last: Optional[Run], known: StoredParts, scope: Optional[Scope]) -> Judge:
    if scope is None or last is None or last.scope == scope.rules:
        return Judge(kind, last, known, scope)
    from .rules_changed import JudgeOfOtherRules  # once after each change of a rule

    return JudgeOfOtherRules(kind, last, known, scope)


class _Observed:
    """The parts of one run so far: compared by the judge, and put into the store where they differ from what it holds."""

    def __init__(self, kind: Kind, store: Store, known: StoredParts, judge: Judge, keep_items: bool) -> None:
        self.count = 0  # items
        self.kept = 0  # of these: known from an earlier run, and not seen in this one
        self.items: List[Item] = []  # empty unless keep_items
        self.signatures: List[Tuple[str, Optional[str]]] = []  # of the parts with these
        self.digests: Dict[str, str] = {}  # of the parts that have items
        self.unchanged: List[str] = []  # names of parts that stay in the store as they are
        self.never_known: List[List[str]] = []  # see Judge.never_known()
        self._kind = kind
        self._store = store
        self._known = known
        self._judge = judge
        self._keep_items = keep_items
        self._missing = dict(known.parts)  # those that no part has been added for

    def add(self, part: Part) -> None:
        stored = self._missing.pop(part.name, None)
        if part.items is None and stored is not None:
            self._add_unchanged(part.name, stored)
        else:
            self._add_changed(part, part.items or [])

    def _add_unchanged(self, name: str, stored: StoredPart) -> None:
        if stored.count:
            self.digests[name] = stored.digest
        self.count += stored.count
        self.unchanged.append(name)
        if self._keep_items:
            self.items.extend(self._known.items(name))
            self.signatures.append((name, stored.signature))

    def _add_changed(self, part: Part, items: Sequence[Item]) -> None:
        old = self._known.items(part.name) if part.before is None else part.before
        part_digest = digest(self._kind, items)
        if items:
            self.digests[part.name] = part_digest
        self.count += len(items)
        if self._keep_items:
            self.items.extend(items)
            self.signatures.append((part.name, part.signature))
        self._judge.compare(part, old)
        self.never_known += self._judge.never_known(part, old)
        self._store.put(self._kind, part.name, part.signature, part_digest, self._to_store(part, items, old))

    def _to_store(self, part: Part, items: Sequence[Item], old: Sequence[Item]) -> Sequence[Item]:
        """The items as they were seen; those that are unsure, as they were known before."""
        if not part.unsure:
            return items
        identity = self._kind.identity
        sure = [item for item in items if not is_unsure(identity(item), part.unsure)]
        return in_order(self._kind, sure + [item for item in old if is_unsure(identity(item), part.unsure)])

    def snapshot(self, now: int, age: Optional[int], sources: Dict[str, Source]) -> Snapshot:
        """The result of the run. `age`: seconds since the last one."""
        return Snapshot(
            self._kind,
            now,
            self.count,
            combined_digest(self.digests),
            sources,
            in_order(self._kind, self.items),
            self._judge.changes,
            age,
            self._judge.notes(),
            owners(self._kind, self.signatures),
            self.kept,
        )

    def add_missing(self, collection: Collection) -> None:
        """Judge the parts in the store that the collection, now complete, did not yield."""
        for name, stored in self._missing.items():
            if name in collection.replaced:
                self._store.drop(self._kind, name)
            elif collection.out_of_sight(name):
                self._add_unchanged(name, stored)
                self.kept += stored.count
            else:
                self._judge.compare_gone(name)
                self._store.drop(self._kind, name)


def run_kind(
    kind: Kind,
    settings: Settings,
    store: Store,
    keep_items: bool = False,
    progress: Optional[Progress] = None,
    rehash_days: float = REHASH_DAYS,
    ends: bool = False,
    watch: "Optional[Watch]" = None,
    named: "Optional[Named]" = None,
) -> Snapshot:
    """compare_and_store() with the collection of the settings. `rehash_days`, `watch`, `named`: see collectors.collect(). `ends`: see
    compare_and_store().

    `named` counts only for files, and only where the last run saw everything by the same rules; else all is collected. Snapshot.partial
    says which of the two was done.
    """
    scope, last_rules = None, None
    if kind.reaches is not None:
        rules = [list(rule.tracking) for rule in settings.file_rules]
        last_rules = _last_rules(store.last_run(kind), rules)
        scope = Scope(rules, kind.reaches, last_rules is not None)
    if named is not None and (scope is None or not _may_be_partial(kind, store, scope)):
        named = None

    def collect(known: Known) -> Collection:
        return collectors.collect(kind, settings.file_rules, known, rehash_days, watch, named, last_rules)

    return compare_and_store(kind, collect, store, scope, keep_items, progress, ends)


def _last_rules(last: Optional[Run], rules: Sequence[Any]) -> Optional[Sequence[Any]]:
    """The rules of the last run, if they are others and this version accepts them all."""
    if last is None or last.scope == rules:
        return None
    from ..kinds.files.file_rules import are_valid

    return last.scope if are_valid([FileRule(*rule) for rule in last.scope]) else None


def _may_be_partial(kind: Kind, store: Store, scope: Scope) -> bool:
    """Whether the last run saw everything by these rules, so that a run may rely on what it stored."""
    last = store.last_run(kind)
    if last is None or last.scope != scope.rules:
        return False
    # An entry for all that an owner has, see Judge, would be lost: it stays only while the unsure parts are looked at.
    if any(isinstance(entry, str) or len(entry) < 2 for entry in last.unseen):
        return False
    return all(source.status != "failed" for source in store.last_sources(kind).values())


def end_kind(kind: Kind, settings: Settings, store: Store, rehash_days: float = REHASH_DAYS) -> Optional[Snapshot]:
    """Compare a kind that the rule has switched off with the state once more, by the file items of the last run.

    Returns None if that was done already, or if there is no last run. The state keeps its items, for the case that the kind is
    switched on again. Raises StateError.
    """
    last = store.last_run(kind)
    if last is None or SWITCHED_OFF in last.unseen:
        return None
    try:
        return run_kind(kind, with_items_of(last, settings), store, rehash_days=rehash_days, ends=True)
    except DcrError:  # this version refuses a file item of the last run
        return None


def with_items_of(last: Run, settings: Settings) -> Settings:
    """The settings with the file items of a run of files, as far as they say what is tracked."""
    return settings._replace(file_rules=[FileRule(*rule) for rule in last.scope])
