# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores, next to the files in a folder, the place in the host's history up to which they have its changes.

This file is written last, when all others are on disk. If a run ends before that, the next one gets the same changes again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...module_utils._cti.replace import replace
from ...module_utils._cti.state import since

FILE = ".place.json"
MOST = 8  # states that one folder may be fetched from, such as that of root and that of a user
MAX_BYTES = 64 << 10
MAX_PATH = 4096


class Kept(NamedTuple):
    """One state's place."""

    place: str
    path: str  # of the state on the host, which is not trusted


def read(folder: str) -> list[Kept]:
    """The places in the folder, the latest last; none where the file is damaged, and all changes that the host keeps come again."""
    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            rows = json.loads(file.read(MAX_BYTES))["places"]
        return [kept(row) for row in rows][-MOST:]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def kept(history: Any) -> Kept:
    """The place in what a host returned as `history`, or in a row of the file. Raises ValueError."""
    place, path = history["place"], history["path"]
    if since.place(place) is None or not isinstance(path, str) or len(path) > MAX_PATH:
        raise ValueError("the place in its history is missing")
    return Kept(str(place), str(path))


def moved(places: list[Kept], to: Kept) -> list[Kept]:
    """The places after a run that ended at the place `to`."""
    others = [one for one in places if state(one) != state(to)]
    return [*others, to][-MOST:]


def state(one: Kept) -> str:
    return one.place.partition(":")[0]


def number(one: Kept) -> int:
    """Of the last change before the place."""
    return int(one.place.split(":")[1])


def write(folder: str, places: list[Kept]) -> None:
    """Write the places to disk, after everything that was written to the folder before. Raises OSError."""
    sync(folder)
    text = _text(places)
    while len(text) > MAX_BYTES:  # which read() would not read; one place alone is never so long
        places = places[1:]
        text = _text(places)
    replace(os.path.join(folder, FILE), [text.encode()])
    sync(folder)


def _text(places: list[Kept]) -> str:
    return json.dumps({"places": [one._asdict() for one in places]}, indent=1) + "\n"


def sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock(folder: str) -> Iterator[None]:
    """Create the folder, and lock it against other runs. Raises OSError."""
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a network file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
