# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The records that follow from a run: into the history, and into the outbox."""

from itertools import islice
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from ..kinds.kind import Kind, Row
from ..model import Item
from ..records import CONTENT_DIFF, CONTENT_LINK, change_record, data_record, identified, sealed
from ..rule.settings import CHANGE_STREAM, DATA_STREAM, Settings
from ..state.store import Store
from ..text import timestamp
from .snapshot import Snapshot

BATCH = 1000  # records; so many share a message, and its acknowledgement
Machine = Dict[str, Optional[str]]  # of host.identity()
ByIdentity = Mapping[Tuple[str, ...], str]  # identity of an item -> a text
Actors = Mapping[Tuple[str, ...], Row]  # identity of an item -> those of ACTOR_COLUMNS that are known


def remember(
    snapshot: Snapshot,
    store: Store,
    machine: Machine,
    diffs: Optional[ByIdentity] = None,
    links: Optional[ByIdentity] = None,
    actors: Optional[Actors] = None,
) -> List[Row]:
    """The records of what changed, which the store remembers, those of root first. `diffs`: how the text of an item differs.
    `links`: where it is uploaded to. `actors`: who changed it."""
    records = list(identified(change_records(snapshot, machine)))
    for column, values in ((CONTENT_DIFF, diffs), (CONTENT_LINK, links)):
        if values:
            for change, record in zip(snapshot.changes, records):
                value = values.get(snapshot.kind.identity(change.new or change.old))
                if value is not None:
                    record[column] = value
    if actors:
        for change, record in zip(snapshot.changes, records):
            record.update(actors.get(snapshot.kind.identity(change.new or change.old), {}))
    owned: Dict[str, List[Row]] = {"": []}
    for change, record in zip(snapshot.changes, records):
        owned.setdefault(change.owner, []).append(record)
    for owner, theirs in owned.items():
        for batch in _batches(iter(theirs)):
            store.remember(batch, owner)
    return records


def queue(snapshot: Snapshot, changed: List[Row], settings: Settings, store: Store, machine: Machine) -> None:
    """Put the records that follow from a run into the outbox, to be committed with it: its changes, and the inventory
    where it is due. The first run is the baseline: it has an inventory and no changes."""
    kind, now = snapshot.kind, snapshot.collected_at
    for batch in _batches(iter(changed)):
        store.queue(CHANGE_STREAM, kind, now, batch)
    unknown = snapshot.count == snapshot.kept and snapshot.failed()  # no data, which is not an empty inventory
    if settings.inventory and not unknown and _is_due(store.inventory_queued_at(kind), now, settings.inventory_every):
        store.renew_inventory(DATA_STREAM, kind, now)
        for batch in _batches(identified(sealed(inventory_records(kind, store.all_items(kind), machine, now)))):
            store.queue(DATA_STREAM, kind, now, batch)


def _is_due(last: Optional[int], now: int, every: int) -> bool:
    """Also where the clock was set back to before the last time."""
    return last is None or not 0 <= now - last < every


def _batches(records: Iterator[Row]) -> Iterator[List[Row]]:
    return iter(lambda: list(islice(records, BATCH)), [])


def change_records(snapshot: Snapshot, machine: Machine) -> List[Row]:
    """ConfigurationChange records; LastSnapshotAge is in seconds."""
    common = {
        "Computer": machine["Computer"],
        "SourceComputerId": machine["SourceComputerId"],
        "TimeGenerated": timestamp(snapshot.collected_at),
        "LastSnapshotAge": snapshot.age,
    }
    return [
        dict(common, **change_record(snapshot.kind, change.category, change.old, change.new, change.fields))
        for change in snapshot.changes
    ]


def inventory_records(kind: Kind, items: Iterable[Item], machine: Machine, now: int) -> Iterator[Row]:
    """ConfigurationData records; `now` in unix seconds."""
    common = dict(machine, TimeGenerated=timestamp(now))
    for item in items:
        yield dict(common, **data_record(kind, kind.row(item)))
