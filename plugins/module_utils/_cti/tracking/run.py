# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""One run for one kind: collect what is on the host, compare it with the state, store it."""

import time
from typing import Any, Callable, List, Optional, Sequence

from ..kinds import collectors
from ..kinds.files.budget import REHASH_DAYS
from ..kinds.kind import Kind, digest
from ..model import Collection, Item, Known
from ..rule.settings import Settings
from ..state.store import Run, Store
from .diff import is_unsure
from .judge import Judge, Scope
from .snapshot import Snapshot, combined_digest, in_order, outcomes

Progress = Callable[[int], None]  # is told the number of items so far
PROGRESS_SECONDS = 5


def compare_and_store(
    kind: Kind,
    collect: Callable[[Known], Collection],
    store: Store,
    scope: Optional[Scope] = None,
    keep_items: bool = False,
    progress: Optional[Progress] = None,
) -> Snapshot:
    """What is there now, compared with what the store holds, which then holds what is there now.

    `scope` is what was to be collected, where rules say so. What differs only because the rules are others than last time is
    no change. Nor is what was out of sight then, or is now. `progress` is called every PROGRESS_SECONDS at most. Raises
    StateError.
    """
    now = int(time.time())
    told = time.monotonic()
    last = store.last_run(kind)
    known = store.known(kind)
    judge = Judge(kind, last, known, scope)
    left = dict(known.parts)
    unchanged = []
    never_known: List[List[str]] = []
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
            unchanged.append(part.name)
            items.extend(known.items(part.name) if keep_items else ())
            continue
        seen = part.items or []
        old = known.items(part.name) if part.before is None else part.before
        part_digest = digest(kind, seen)
        if seen:
            digests[part.name] = part_digest
        count += len(seen)
        items.extend(seen if keep_items else ())
        judge.compare(part, old)
        never_known += judge.never_known(part, old)
        kept = seen
        if part.unsure:
            sure = [item for item in seen if not is_unsure(kind.identity(item), part.unsure)]
            kept = in_order(kind, sure + [item for item in old if is_unsure(kind.identity(item), part.unsure)])
        store.put(kind, part.name, part.signature, part_digest, kept)
    for name in left:
        if name in collection.replaced:
            store.drop(kind, name)
        elif not collection.out_of_sight(name):
            judge.compare_gone(name)
            store.drop(kind, name)
        else:
            unchanged.append(name)
    judge.settle(collection.out_of_sight)
    unseen = [*collection.unseen, *never_known, *judge.still_never_known(unchanged)]
    sources = outcomes(collection)
    store.finish(kind, Run(now, judge.rules(collection.postponed), unseen), sources)
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


def run_kind(
    kind: Kind,
    settings: Settings,
    store: Store,
    keep_items: bool = False,
    progress: Optional[Progress] = None,
    rehash_days: float = REHASH_DAYS,
) -> Snapshot:
    """What is there, compared with the store, which then holds it; `progress` as compare_and_store() has it, `rehash_days` as
    collectors.collect() has it."""

    def collect_by(rules: Sequence[Any], known: Known) -> Collection:
        return collectors.collect(kind, rules, known, rehash_days)

    scope = None
    if kind.reaches is not None:
        scope = Scope([list(rule.tracking) for rule in settings.file_rules], kind.reaches, collect_by)
    return compare_and_store(
        kind, lambda known: collect_by(settings.file_rules, known), store, scope, keep_items, progress
    )
