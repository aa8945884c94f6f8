# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Packages.json, Services.json and File.json: what the last run saw, in the form Microsoft's agent keeps.

Of its three files only File.json is known; the other two follow the documented records of the agent before it.
"""

import json
import os
from typing import Iterable, Iterator, Mapping, Tuple

from .kinds.kind import Kind
from .model import Item
from .replace import replace
from .text import printable_values

TRACKED = "StartTracking"  # an item to which nothing has happened since the baseline
Identity = Tuple[str, ...]


def write(folder: str, kind: Kind, items: Iterable[Item], happened: Mapping[Identity, str]) -> None:
    """One item a line. `happened`: the category of what the last run found of an item. Raises OSError."""
    replace(os.path.join(folder, kind.item_file), _lines(kind, items, happened))


def _lines(kind: Kind, items: Iterable[Item], happened: Mapping[Identity, str]) -> Iterator[bytes]:
    start = b"[\n"
    for item in items:
        record = printable_values(kind.item_form(item))
        record["ChangeType"] = happened.get(kind.identity(item), TRACKED)
        record["IsInventorySnapShot"] = False
        yield start + json.dumps(record).encode("ascii")
        start = b",\n"
    yield b"[]\n" if start == b"[\n" else b"\n]\n"
