# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Collects several kinds in one run, as far as wanted, and compares them with the state of the last run."""

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from .. import host
from ..kinds import collectors
from ..kinds.files.budget import REHASH_DAYS
from ..kinds.files.kind import FILES
from ..kinds.kind import Kind, Row
from ..kinds.registry import all_kinds
from ..model import Known
from ..rule.settings import Settings
from ..state.store import Store
from . import report, run
from .snapshot import Snapshot, collect_only


def run_host(
    kinds: Sequence[str],
    settings: Settings,
    wanted: str,
    store: Optional[Store],
    warn: Callable[[str], None],
    forward: bool = False,
    known: Optional[Mapping[str, Optional[str]]] = None,
    rehash_days: float = REHASH_DAYS,
    full_rows: bool = False,
) -> Dict[str, Any]:
    """The result of ct_inventory_info.

    `wanted`: `summary`, `changes` (adds the change records) or `full` (adds all items, packed, and the change records where a
    store is given). `warn` gets each sentence that the operator should read. `forward`: put the records that follow into the
    store's outbox. `known`: by kind, the SHA-256 of the text that the caller has, see report.text(); a kind whose text
    would be the same is not packed. `rehash_days`: see collectors.collect(). `full_rows`: items have the columns of Kind.on_request
    as well. A kind that the rule has switched off since the last run is compared once more; only its changes are in the result.
    Raises StateError; a source that fails is reported in the result.
    """
    machine = host.identity()
    if store is not None:
        for note in store.claim(machine):
            warn(note)
        settings = _held(settings, store, warn)
    snapshots = [_snapshot(all_kinds()[kind], settings, store, wanted == "full", rehash_days) for kind in kinds]
    ended = [] if store is None else _end_others(kinds, settings, store, rehash_days)
    for snapshot in snapshots + ended:
        for warning in snapshot.warnings():
            warn(warning)
    changed: List[Row] = []
    if store is not None:
        changed += _store_records(snapshots, settings if forward else None, store, machine)
        changed += _store_records(ended, settings._replace(inventory=False) if forward else None, store, machine)
    result: Dict[str, Any] = dict(
        machine, inventory={snapshot.kind.name: report.summary(snapshot, store is not None) for snapshot in snapshots}
    )
    if settings.problems:
        result["rule_problems"] = settings.problems
    if wanted == "full":
        from . import bounded

        items = {snapshot.kind.name: bounded.of_snapshot(snapshot, full_rows) for snapshot in snapshots}
        result["packed"] = bounded.pack_items(items, known or {}, str(machine["Computer"]), warn, result["inventory"])
    if store is not None and wanted != "summary":
        if changed and store.read_only:  # the run that stores them gives them their ids
            from ..records import RECORD_ID

            changed = [{key: value for key, value in record.items() if key != RECORD_ID} for record in changed]
        result["changes"] = changed
    return result


def _held(settings: Settings, store: Store, warn: Callable[[str], None]) -> Settings:
    """The settings; where the file items of the rule cannot be used, with those of the last run."""
    last = store.last_run(FILES) if FILES.name in settings.errors else None
    if last is None or not last.scope:
        return settings
    from ..rule.hold import hold

    held = hold(settings, run.with_items_of(last, settings))
    for text in held.warnings:
        if text not in settings.warnings:
            warn(text)
    return held


def _end_others(kinds: Sequence[str], settings: Settings, store: Store, rehash_days: float) -> List[Snapshot]:
    """The last runs of those kinds that the rule has switched off, unless they are made already. `kinds`: what this run collects."""
    off = [kind for name, kind in all_kinds().items() if name not in settings.kinds and name not in kinds]
    ended = [run.end_kind(kind, settings, store, rehash_days) for kind in off]
    return [snapshot for snapshot in ended if snapshot is not None]


def _store_records(
    snapshots: List[Snapshot], settings: Optional[Settings], store: Store, machine: Dict[str, Optional[str]]
) -> List[Row]:
    """Put the change records into the history, and with `settings` into the outbox as well. Returns them."""
    changed: List[Row] = []
    for snapshot in snapshots:
        if not snapshot.changes and settings is None:
            continue
        from . import enqueue

        records = enqueue.remember(snapshot, store, machine)
        changed += records
        if settings is not None:
            enqueue.queue(snapshot, records, settings, store, machine)
    return changed


def _snapshot(kind: Kind, settings: Settings, store: Optional[Store], keep_items: bool, rehash_days: float) -> Snapshot:
    if store is None:
        return collect_only(kind, collectors.collect(kind, settings.file_rules, Known()))
    return run.run_kind(kind, settings, store, keep_items, rehash_days=rehash_days)
