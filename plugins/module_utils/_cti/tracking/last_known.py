# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Returns what the last run recorded, without collecting again: from a state database, or from Microsoft's item files."""

import os
from typing import Any, Callable, Dict, Optional, Sequence

from .. import folders, host, itemfiles
from ..errors import StateError
from ..kinds.kind import Kind, Row
from ..kinds.registry import all_kinds
from ..state import pages
from ..state.place import Since
from ..state.store import Store
from ..text import quoted, timestamp
from . import bounded, report
from .snapshot import Snapshot, combined_digest, in_order, owners

PLAYBOOK_STATE = "~/.local/state/changetracking/inventory.db"  # the default of ct_state


def from_database(
    path: str,
    kinds: Sequence[str],
    wanted: str,
    owner: Optional[int],
    since: Optional[Since],
    warn: Callable[[str], None],
) -> Dict[str, Any]:
    """The result of ct_state_info. `wanted`, `warn`: see run_host(). `owner`: a uid that may own the database, in addition to root
    and the current user. Raises StateError."""
    require(path, f"the state is elsewhere: then give its path (the playbook inventory uses {PLAYBOOK_STATE})")
    machine = host.identity()
    with Store(path, read_only=True, owner=owner, leave_no_files=True) as store:
        if store.is_foreign(machine):
            warn(
                f"The state '{quoted(path)}' was created by another machine: this one is a clone of it, or its machine-id changed."
            )
        snapshots = [_snapshot(store, all_kinds()[kind], wanted == "full") for kind in kinds]
        seen = [snapshot for snapshot in snapshots if snapshot is not None]
        result: Dict[str, Any] = {"inventory": {one.kind.name: report.summary(one, with_state=False) for one in seen}}
        if wanted == "full":
            items = {one.kind.name: bounded.of_snapshot(one) for one in seen}
            result["packed"] = bounded.pack_items(items, {}, str(machine["Computer"]), warn, result["inventory"])
    with pages.History(path, owner=owner, leave_no_files=True) as changes:
        if since is None and wanted == "summary":
            page = changes.end()
        else:
            page = changes.follow(since) if since is not None else changes.latest()
            types = {all_kinds()[kind].config_type for kind in kinds}
            result["changes"] = [record for record in page.records if record.get("ConfigChangeType") in types]
    for text in pages.warnings(page, os.path.abspath(path), since):
        warn(text)
    result["history"] = pages.describe(page, os.path.abspath(path))
    return result


def require(path: str, otherwise: str) -> None:
    """Raise StateError where there is no state database at `path`, or the current user may not access it. `otherwise`: the other
    possible reason, with its remedy."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise StateError(
            f"There is no state '{quoted(path)}'. Either nothing was collected yet, or {otherwise}."
        ) from None
    except OSError as error:
        raise StateError(
            f"Cannot read the state '{quoted(path)}' ({error.strerror}). {folders.remedy(error, path, 'Give another path.')}"
        ) from error


def _snapshot(store: Store, kind: Kind, with_items: bool) -> Optional[Snapshot]:
    last = store.last_run(kind)
    if last is None:
        return None
    parts = store.known(kind).parts
    digest = combined_digest({name: part.digest for name, part in parts.items() if part.count})
    items = in_order(kind, list(store.all_items(kind))) if with_items else []
    count = sum(part.count for part in parts.values())
    owned = owners(kind, [(name, part.signature) for name, part in parts.items()]) if with_items else {}
    return Snapshot(kind, last.collected_at, count, digest, store.last_sources(kind), items, [], None, [], owned)


def from_item_files(folder: str, kinds: Sequence[str], wanted: str, warn: Callable[[str], None]) -> Dict[str, Any]:
    """The result of ct_state_info from Packages.json, Services.json and File.json: their items unchanged, and no changes, which
    these files do not have. A missing file is left out. `warn`: see run_host(). Raises StateError."""
    files = {kind: itemfiles.read(folder, all_kinds()[kind]) for kind in kinds}
    found = {kind: file for kind, file in files.items() if file is not None}
    if not found:
        raise StateError(
            f"The folder '{quoted(folder)}' has none of {', '.join(all_kinds()[kind].item_file for kind in kinds)}. Give the folder of an"
            " agent's item files, or the path of a state database."
        )
    result: Dict[str, Any] = {
        "inventory": {
            kind: {"count": len(file.items), "collected_at": timestamp(file.written_at)} for kind, file in found.items()
        }
    }
    if wanted == "full":
        items = {kind: bounded.Items(file.items, dict, _owner) for kind, file in found.items()}
        computer = str(host.identity()["Computer"])
        result["packed"] = bounded.pack_items(items, {}, computer, warn, result["inventory"])
    return result


def _owner(item: Row) -> str:
    """The owner of the file that an item of a file is about; whose folder it is in is not known."""
    owner = item.get("Owner")
    return owner if isinstance(owner, str) and owner != "root" else bounded.ROOT
