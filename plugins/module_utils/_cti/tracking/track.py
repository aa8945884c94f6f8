# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""One kind, from the host to the outbox: what is there, what changed, and the records that tell of it."""

from itertools import islice
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..kinds.files import scan
from ..kinds.files.budget import REHASH_DAYS
from ..kinds.packages import databases
from ..kinds.services import managers
from ..kinds.sources import Contained
from ..model import Collection, FileRule, Known
from ..records import CONTENT_DIFF, KINDS, Kind, Row, identified, sealed
from ..rule import dcr
from ..rule.settings import CHANGE_STREAM, DATA_STREAM, Settings
from ..state.store import Store
from . import report
from .judge import Scope
from .observe import Progress, observe
from .snapshot import Snapshot

BATCH = 1000  # records; so many share a message, and its acknowledgement
Machine = Dict[str, Optional[str]]  # of host.identity()


def collection(kind: Kind, settings: Settings, known: Known, rehash_days: float = REHASH_DAYS) -> Collection:
    """What is on the host now. A defect in what collects one kind is a failed source of that kind alone.

    rehash_days: within how many days every file is read again, though its times are the same; 0: never.
    """
    return Contained(kind.name, lambda: _collector(kind, settings, known, rehash_days))


def _collector(kind: Kind, settings: Settings, known: Known, rehash_days: float) -> Collection:
    if kind.name == "packages":
        return databases.collect(known)
    if kind.name == "services":
        return managers.collect(known)
    return scan.Scan(settings.file_rules, known, rehash_days=rehash_days)


def track(
    kind: Kind,
    settings: Settings,
    store: Store,
    keep_items: bool = False,
    progress: Optional[Progress] = None,
    rehash_days: float = REHASH_DAYS,
) -> Snapshot:
    """What is there, compared with the store, which then holds it; `progress` as observe() has it, `rehash_days` as
    collection() has it."""

    def collect(rules: Sequence[FileRule], known: Known) -> Collection:
        return collection(kind, settings._replace(file_rules=list(rules)), known, rehash_days)

    scope = None
    if kind is KINDS["files"]:
        rules = [list(rule.tracking) for rule in settings.file_rules]
        scope = Scope(rules, dcr.in_scope, lambda rules, known: collect([FileRule(*rule) for rule in rules], known))
    return observe(kind, lambda known: collect(settings.file_rules, known), store, scope, keep_items, progress)


def changes(
    snapshot: Snapshot, store: Store, machine: Machine, diffs: Optional[Mapping[Tuple[str, ...], str]] = None
) -> List[Row]:
    """The records of what changed, which the store remembers. `diffs`: identity -> how the text of that item differs."""
    records = list(identified(report.changes(snapshot, machine)))
    if diffs:
        for change, record in zip(snapshot.changes, records):
            diff = diffs.get(snapshot.kind.identity(change.new or change.old))
            if diff is not None:
                record[CONTENT_DIFF] = diff
    for batch in _batches(iter(records)):
        store.remember(batch)
    return records


def queue(snapshot: Snapshot, changed: List[Row], settings: Settings, store: Store, machine: Machine) -> None:
    """Put the records that follow from a run into the outbox, to be committed with it: its changes, and the inventory
    where it is due. The first run is the baseline: it has an inventory and no changes."""
    kind, now = snapshot.kind, snapshot.collected_at
    for batch in _batches(iter(changed)):
        store.queue(CHANGE_STREAM, kind, now, batch)
    unknown = not snapshot.count and snapshot.failed()  # no data, which is not an empty inventory
    if settings.inventory and not unknown and _is_due(store.inventory_queued_at(kind), now, settings.inventory_every):
        store.renew_inventory(DATA_STREAM, kind, now)
        for batch in _batches(identified(sealed(report.inventory(kind, store.all_items(kind), machine, now)))):
            store.queue(DATA_STREAM, kind, now, batch)


def _is_due(last: Optional[int], now: int, every: int) -> bool:
    """Also where the clock was set back to before the last time."""
    return last is None or not 0 <= now - last < every


def _batches(records: Iterator[Row]) -> Iterator[List[Row]]:
    return iter(lambda: list(islice(records, BATCH)), [])
