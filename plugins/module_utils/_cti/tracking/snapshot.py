# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What one run saw of one kind, ready to be reported."""

import hashlib
import os
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional

from ..kinds.kind import Kind, digest
from ..model import Collection, Item, Source
from ..text import line, printable

if TYPE_CHECKING:  # a module that compares nothing does without it
    from .diff import Change


class Snapshot(NamedTuple):
    """What one run saw of one kind."""

    kind: Kind
    collected_at: int  # unix seconds
    count: int  # type: ignore[assignment]  # nobody counts the fields of this tuple
    digest: str  # equal digests: nothing that counts as a change differs
    sources: Dict[str, Source]
    items: List[Item]  # empty unless asked for
    changes: "List[Change]"
    age: Optional[int]  # seconds since the run compared with; None: there is none, and this run is the baseline
    notes: List[str]

    def failed(self) -> List[str]:
        """The names of the sources that could not be read in full."""
        return [name for name, source in self.sources.items() if source.status == "failed"]

    def warnings(self) -> List[str]:
        """One sentence for each source of which not all is known, and for what else the operator should know."""
        told = [(name, source) for name, source in self.sources.items() if source.message and source.status != "absent"]
        return ["%s: %s" % (line(name), source.message) for name, source in told] + self.notes


def collect_only(kind: Kind, collection: Collection, select: Optional[Callable[[str, Item], bool]] = None) -> Snapshot:
    """What is there now, compared with nothing; `select(part name, item)` says which items count."""
    items: List[Item] = []
    digests = {}
    for part in collection:
        seen = [item for item in part.items or () if select is None or select(part.name, item)]
        if seen:
            digests[part.name] = digest(kind, seen)
            items.extend(seen)
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
    )


def outcomes(collection: Collection) -> Dict[str, Source]:
    """How the sources fared, printable: what leaves the library, and what the store keeps."""
    return {
        printable(name): source._replace(message=line(source.message)) for name, source in collection.sources.items()
    }


def in_order(kind: Kind, items: List[Any]) -> List[Any]:
    return sorted(items, key=lambda item: (kind.identity(item), getattr(item, "version", "")))


def combined_digest(digests: Dict[str, str]) -> str:
    """The digest of a whole from those of its parts. An empty part is to be left out, as it is no different from none."""
    whole = hashlib.sha256()
    for name in sorted(digests):
        whole.update(os.fsencode(name) + b"\0" + digests[name].encode("ascii") + b"\n")
    return "sha256:" + whole.hexdigest()
