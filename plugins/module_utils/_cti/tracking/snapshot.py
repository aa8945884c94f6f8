# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The result of one run for one kind."""

import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..kinds.kind import Kind
from ..model import Collection, Item, Source
from ..text import line, printable

if TYPE_CHECKING:  # a module that compares nothing does without it
    from .diff import Change


class Snapshot(NamedTuple):
    """What one run collected of one kind, and how it differs from the last run."""

    kind: Kind
    collected_at: int  # unix seconds
    count: int  # type: ignore[assignment]  # nobody counts the fields of this tuple
    digest: str  # equal digests: nothing that counts as a change differs
    sources: Dict[str, Source]
    items: List[Item]  # empty unless asked for
    changes: "List[Change]"
    age: Optional[int]  # seconds since the run compared with; None: there is none, and this run is the baseline
    notes: List[str]
    owners: Dict[str, str] = {}  # see owners()
    kept: int = 0  # of `count`: items of an earlier run, whose part could not be read in this one
    partial: bool = False  # whether only a part was collected anew, see collectors.collect()

    def failed(self) -> List[str]:
        """The names of the sources that could not be read in full."""
        return [name for name, source in self.sources.items() if source.status == "failed"]

    def warnings(self) -> List[str]:
        """One sentence for each source that was not read in full, and for anything else that the operator should know."""
        noted = [
            (name, source) for name, source in self.sources.items() if source.message and source.status != "absent"
        ]
        return ["%s: %s" % (line(name), source.message) for name, source in noted] + self.notes


def collect_only(kind: Kind, collection: Collection, select: Optional[Callable[[str, Item], bool]] = None) -> Snapshot:
    """What is there now, compared with nothing; `select(part name, item)` says which items count."""
    items: List[Item] = []
    digests = {}
    signatures = []
    for part in collection:
        seen = [item for item in part.items or () if select is None or select(part.name, item)]
        if seen:
            digests[part.name] = digest(kind, seen)
            items.extend(seen)
            signatures.append((part.name, part.signature))
    return Snapshot(
        kind,
        int(time.time()),
        len(items),
        combined_digest(digests),
        outcomes(collection),
        in_order(kind, items),
        [],
        None,
        [],
        owners(kind, signatures),
    )


def owners(kind: Kind, signatures: Iterable[Tuple[str, Optional[str]]]) -> Dict[str, str]:
    """The owner of each folder that does not count to root, by its path; see Kind.owner. `signatures`: of parts, by name."""
    found = ((name, kind.owner(signature)) for name, signature in signatures)
    return {name.partition("//")[0] or "/": owner for name, owner in found if owner}


def owner_of(file: Item, folder_owners: Mapping[str, str]) -> str:
    """The owner of the folder of a file; empty for root. `folder_owners`: of owners()."""
    path: str = file[0]
    return folder_owners.get(path.rpartition("/")[0] or "/", "")


def outcomes(collection: Collection) -> Dict[str, Source]:
    """The status of each source, with names and messages that are safe to print."""
    return {
        printable(name): source._replace(message=line(source.message)) for name, source in collection.sources.items()
    }


def in_order(kind: Kind, items: List[Any]) -> List[Any]:
    return sorted(items, key=lambda item: (kind.identity(item), getattr(item, "version", "")))


def digest(kind: Kind, items: Sequence[Item]) -> str:
    """Hex SHA-256 of what is compared, so that equal digests mean that nothing changed."""
    compared = json.dumps([list(kind.compared(item)) for item in items], separators=(",", ":"))
    return hashlib.sha256(compared.encode("ascii")).hexdigest()


def combined_digest(digests: Dict[str, str]) -> str:
    """The digest of all parts, from their digests. Leave out empty parts: they are no different from missing ones."""
    whole = hashlib.sha256()
    for name in sorted(digests):
        whole.update(os.fsencode(name) + b"\0" + digests[name].encode("ascii") + b"\n")
    return "sha256:" + whole.hexdigest()
