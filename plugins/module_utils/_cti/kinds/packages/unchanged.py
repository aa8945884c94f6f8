# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Reads a package database in one consistent state, although its package manager may be changing it."""

import os
import time
from typing import AbstractSet, Callable, List, NamedTuple, Tuple

from ...errors import SourceFailed
from ...model import Known, Part
from .absence import signature
from .kind import Package

_CLOCK_GRAIN = 2  # seconds; a file that changed this recently may change again with the same time stamp
_ATTEMPTS = 10


class Installed(NamedTuple):
    """The packages in a database; `unsure` and `message` as Part has them."""

    items: List[Package]
    unsure: AbstractSet[Tuple[str, ...]] = frozenset()
    message: str = ""
    final: bool = True  # if not, the next run reads again, so that it can report this again


def read_unchanged(
    name: str,
    path: str,
    folder: str,
    known: Known,
    stamp: Callable[[], Tuple[str, float]],
    read: Callable[[], Installed],
) -> Part:
    """The part `name` with what read() returns; without items where the database is unchanged since the last run.

    stamp() returns a text that changes whenever the database does, and the unix time of its last change. read() is repeated
    until the stamps before and after it are equal. path: what messages call the database, which is in `folder`.
    Raises SourceFailed where the database cannot be read, or keeps changing.
    """
    try:
        for _attempt in range(_ATTEMPTS):
            before, changed = stamp()
            settled = time.time() - changed >= _CLOCK_GRAIN
            mark = signature(before, folder, settled)
            if settled and mark == known.signature(name):
                return Part(name, mark, None)
            try:
                found = read()
            except FileNotFoundError:
                if stamp()[0] == before:
                    raise
                continue
            if stamp()[0] == before:
                mark = signature(before, folder, settled and found.final)
                return Part(name, mark, found.items, frozenset(found.unsure), found.message)
    except OSError as error:
        raise SourceFailed(
            f"Cannot read the {name} database: '{error.filename or path}': {error.strerror or error}."
        ) from error
    raise SourceFailed(
        f"The {name} database '{path}' kept changing while it was read. Run again when {name} has finished."
    )


def names(folder: str) -> List[str]:
    """The names in a folder, sorted; none where it does not exist."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
