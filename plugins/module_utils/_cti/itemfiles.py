# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Packages.json, Services.json and File.json: what the last run saw, in the form Microsoft's agent keeps.

Of its three files only File.json is known; the other two follow the documented records of the agent before it.
"""

import json
import os
from typing import Any, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from . import folders
from .errors import StateError
from .kinds.kind import Kind
from .model import Item
from .replace import replace
from .text import check_size, printable_values

TRACKED = "StartTracking"  # an item to which nothing has happened since the baseline
MAX_BYTES = 256 << 20  # of one file that is read
Identity = Tuple[str, ...]


class ItemFile(NamedTuple):
    """What a file holds."""

    written_at: float  # unix seconds
    items: List[Any]


def write(folder: str, kind: Kind, items: Iterable[Item], happened: Mapping[Identity, str]) -> None:
    """One item a line. `happened`: the category of what the last run found of an item. Raises OSError."""
    replace(os.path.join(folder, kind.item_file), _lines(kind, items, happened))


def remove(folder: str, kind: Kind) -> None:
    """Remove the item file of a kind that is not collected any more, if there is one. Raises OSError."""
    try:
        os.unlink(os.path.join(folder, kind.item_file))
    except FileNotFoundError:
        pass


def _lines(kind: Kind, items: Iterable[Item], happened: Mapping[Identity, str]) -> Iterator[bytes]:
    start = b"[\n"
    for item in items:
        record = printable_values(kind.item_form(item))
        record["ChangeType"] = happened.get(kind.identity(item), TRACKED)
        record["IsInventorySnapShot"] = False
        yield start + json.dumps(record).encode("ascii")
        start = b",\n"
    yield b"[]\n" if start == b"[\n" else b"\n]\n"


def read(folder: str, kind: Kind) -> Optional[ItemFile]:
    """The item file of a kind; None where there is none. Raises StateError."""
    path = os.path.join(folder, kind.item_file)
    try:
        raw, status = folders.read(path, MAX_BYTES)
        check_size(raw)
        items = json.loads(raw.decode("utf-8-sig"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(
            "%s cannot be read (%s); give another folder, or become a user who may." % (path, error.strerror)
        ) from error
    except (ValueError, RecursionError) as error:
        raise StateError("%s is not JSON (%s); it may be half written: ask again." % (path, error)) from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise StateError("%s is no list of items; give the folder of an agent's item files." % path)
    return ItemFile(status.st_mtime, items)
