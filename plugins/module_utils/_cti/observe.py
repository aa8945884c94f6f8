# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The road of the data for one kind: collect, compare with what the last run saw, keep what this one sees."""

import time
from typing import Any, Callable, Iterable, List, Optional, Sequence

from .diff import Change, compare
from .model import Collection, Item, Known
from .records import Kind, digest
from .snapshot import Snapshot, combined_digest, in_order, outcomes
from .store import DAMAGED, Run, Store

Progress = Callable[[int], None]  # is told the number of items so far
PROGRESS_SECONDS = 5
Scope = Callable[[Sequence[Any], Any], bool]  # whether an item is among what was to be collected


def observe(
    kind: Kind,
    collect: Callable[[Known], Collection],
    store: Store,
    scope: Sequence[Any] = (),
    in_scope: Optional[Scope] = None,
    keep_items: bool = False,
    progress: Optional[Progress] = None,
) -> Snapshot:
    """What is there now, compared with what the store holds, which then holds what is there now.

    `scope` is what was to be collected, as JSON data. An item that comes or goes only because the scope is another one than
    last time is no change. Nor is one that was out of sight then, or is now. `progress` is called every PROGRESS_SECONDS
    at most. Raises StateError.
    """
    now = int(time.time())
    told = time.monotonic()
    last = store.last_run(kind)
    known = store.known(kind)
    known.compared = last is not None
    judge = _Judge(kind, last, scope, in_scope)
    left = dict(known.parts)
    digests = {}
    items: List[Item] = []
    count = 0
    collection = collect(known)
    for part in collection:
        if progress is not None and time.monotonic() - told >= PROGRESS_SECONDS:
            progress(count)
            told = time.monotonic()
        before = left.pop(part.name, None)
        if part.items is None and before is not None:
            if before.count:
                digests[part.name] = before.digest
            count += before.count
            items.extend(known.items(part.name) if keep_items else ())
            continue
        seen = part.items or []
        old = known.items(part.name) if part.before is None else part.before
        part_digest = digest(kind, seen)
        if seen:
            digests[part.name] = part_digest
        count += len(seen)
        items.extend(seen if keep_items else ())
        was_seen = before.digest != DAMAGED if before is not None else not judge.was_unseen(part.name)
        if last is not None and (was_seen or part.before is not None):
            judge.add(compare(kind, old, seen, part.unsure | part.uncompared))
        kept = list(seen)
        if part.unsure:
            kept = [item for item in seen if kind.identity(item) not in part.unsure]
            kept += [item for item in old if kind.identity(item) in part.unsure]
        store.put(kind, part.name, part.signature, part_digest, in_order(kind, kept))
    for name in left:
        if name in collection.replaced:
            store.drop(kind, name)
        elif not collection.out_of_sight(name):
            judge.add(compare(kind, known.items(name), []))
            store.drop(kind, name)
    sources = outcomes(collection)
    store.finish(kind, Run(now, list(scope), collection.unseen), sources)
    return Snapshot(
        kind,
        now,
        count,
        combined_digest(digests),
        sources,
        in_order(kind, items),
        judge.changes,
        None if last is None else max(0, now - last.collected_at),
        judge.notes(),
    )


class _Judge:
    """Tells what happened on the host from what only looks so, because this run looked elsewhere than the last."""

    def __init__(self, kind: Kind, last: Optional[Run], scope: Sequence[Any], in_scope: Optional[Scope]) -> None:
        self.changes: List[Change] = []
        self._unseen = frozenset(() if last is None else last.unseen)
        self._before = [] if last is None else last.scope
        self._scope = scope
        self._in_scope = in_scope if last is not None and last.scope != list(scope) else None
        self._newly_tracked = 0
        self._no_longer_tracked = 0

    def was_unseen(self, part: str) -> bool:
        while part not in self._unseen:
            part, slash, _name = part.rpartition("/")
            if not slash:
                return "/" in self._unseen
        return True

    def add(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if self._in_scope and change.old is None and not self._in_scope(self._before, change.new):
                self._newly_tracked += 1
            elif self._in_scope and change.new is None and not self._in_scope(self._scope, change.old):
                self._no_longer_tracked += 1
            else:
                self.changes.append(change)

    def notes(self) -> List[str]:
        if not self._newly_tracked and not self._no_longer_tracked:
            return []
        return [
            "What is tracked differs from the run before: %d items are newly tracked and %d no longer; they are not reported as changes."
            % (self._newly_tracked, self._no_longer_tracked)
        ]
