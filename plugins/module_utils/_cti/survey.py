# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""One host in one pass: every kind a DCR asks for, as much of it as is wanted, with the state of the run before."""

import base64
import json
import zlib
from typing import Any, Callable, Dict, Optional, Sequence

from . import dcr, host, report
from .model import Known
from .records import KINDS, Kind
from .snapshot import Snapshot, glance
from .store import Store
from .track import collection, queue_records, track


def survey(
    kinds: Sequence[str],
    settings: dcr.Settings,
    wanted: str,
    store: Optional[Store],
    warn: Callable[[str], None],
    forward: bool = False,
) -> Dict[str, Any]:
    """The result of ct_inventory_info.

    `wanted` is `summary`, `changes` (adds the change records) or `full` (adds all items, packed; and the change records
    where a store is given); `warn` is told what the operator should know. `forward`: put what is to be sent into the
    store's outbox. Raises StateError; a source that fails is told in the result instead.
    """
    machine = host.identity()
    snapshots = [_snapshot(KINDS[kind], settings, store, wanted == "full") for kind in kinds]
    for snapshot in snapshots:
        for warning in snapshot.warnings():
            warn(warning)
        if forward and store is not None:
            queue_records(snapshot, settings, store, machine)
    result: Dict[str, Any] = dict(
        machine, inventory={snapshot.kind.name: report.summary(snapshot, store is not None) for snapshot in snapshots}
    )
    if wanted == "full":
        result["packed"] = pack({snapshot.kind.name: report.rows(snapshot) for snapshot in snapshots})
    if store is not None and wanted != "summary":
        result["changes"] = [record for snapshot in snapshots for record in report.changes(snapshot, machine)]
    return result


def pack(value: Any) -> str:
    """Base64 of zlib of JSON: one string costs the controller a fraction of what nested data costs."""
    return base64.b64encode(zlib.compress(json.dumps(value, separators=(",", ":")).encode("ascii"), 6)).decode("ascii")


def _snapshot(kind: Kind, settings: dcr.Settings, store: Optional[Store], keep_items: bool) -> Snapshot:
    if store is None:
        return glance(kind, collection(kind, settings, Known()))
    return track(kind, settings, store, keep_items)
