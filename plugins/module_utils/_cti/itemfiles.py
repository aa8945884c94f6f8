# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Packages.json, Services.json and File.json: what the last run saw, in the form Microsoft's agent keeps.

Of its three files only File.json is known; the other two follow the documented records of the agent before it.
"""

import hashlib
import json
import os
from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, Optional, Tuple

from .model import File, Item, Package, Service
from .records import KINDS, Kind, service_state
from .replace import replace
from .text import printable_values, timestamp

NAMES = {"packages": "Packages.json", "services": "Services.json", "files": "File.json"}
TRACKED = "StartTracking"  # an item to which nothing has happened since the baseline
Identity = Tuple[str, ...]


def write(folder: str, kind: Kind, items: Iterable[Item], happened: Mapping[Identity, str]) -> None:
    """One item a line. `happened`: the category of what the last run found of an item. Raises OSError."""
    replace(os.path.join(folder, NAMES[kind.name]), _lines(kind, items, happened))


def _lines(kind: Kind, items: Iterable[Item], happened: Mapping[Identity, str]) -> Iterator[bytes]:
    form = FORMS[kind.name]
    start = b"[\n"
    for item in items:
        record = printable_values(form(item))
        record["ChangeType"] = happened.get(kind.identity(item), TRACKED)
        record["IsInventorySnapShot"] = False
        yield start + json.dumps(record).encode("ascii")
        start = b",\n"
    yield b"[]\n" if start == b"[\n" else b"\n]\n"


def _file(item: File) -> Dict[str, Any]:
    path = item.path
    described = json.dumps(list(KINDS["files"].compared(item))).encode("ascii")
    return {
        "CollectionName": path,
        "FileContentChecksum": item.checksum,
        "FileSystemPath": path,
        "Size": item.size,
        "Owner": item.owner,
        "Group": item.group,
        "ItemType": "File",
        "Name": path.rpartition("/")[2],
        "Mode": item.mode,
        "Contents": "",
        "DateModified": _spaced(item.modified),
        "DateCreated": timestamp(item.created),
        "FileContentBlobLink": "",
        "FileMetaDatacheckSum": str(int.from_bytes(hashlib.sha256(described).digest()[:8], "big")),
    }


def _package(item: Package) -> Dict[str, Any]:
    return {
        "CollectionName": item.name,
        "Name": item.name,
        "Architecture": item.architecture,
        "CurrentVersion": item.version,
        "Description": item.summary,
        "Publisher": item.publisher,
        "Size": item.size,
        "ItemType": "Package",
        "Timestamp": timestamp(item.installed_on),
    }


def _service(item: Service) -> Dict[str, Any]:
    name = item.name
    return {
        "CollectionName": name,
        "Name": name,
        "Description": item.description,
        "State": service_state(item),
        "Path": item.path,
        "Runlevels": item.wanted_by,
        "Enabled": "enabled" in item.unit_file_state,
        "Controller": "systemd",
        "ItemType": "Daemon",
    }


FORMS: Dict[str, Callable[[Any], Dict[str, Any]]] = {"files": _file, "packages": _package, "services": _service}


def _spaced(seconds: Optional[int]) -> Optional[str]:
    """UTC, in the other of the two forms that File.json has."""
    text = timestamp(seconds)
    return None if text is None else text.rstrip("Z").replace("T", " ")
