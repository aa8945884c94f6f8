# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Files: an item is one entry of a tracked path."""

import hashlib
import json
from typing import NamedTuple, Optional, Tuple

from ...text import timestamp
from ..kind import DcrKeys, Kind, Row
from .scope import in_scope


class File(NamedTuple):
    """One entry of a tracked path."""

    path: str
    checksum: str  # lower-case hex; empty where the content was not or could not be read
    size: Optional[int]  # bytes
    owner: str
    group: str
    mode: Optional[int]  # permission bits with setuid, setgid and sticky
    modified: Optional[int]  # unix seconds
    created: Optional[int]  # unix seconds; None where the file system keeps no birth time
    type: str  # file directory link fifo socket block char
    link_target: str
    # (dev, inode, size, mtime_ns, ctime_ns): equal means the content need not be read. With a 0 at the end: it changed so recently that
    # it could change again with the same times, so it equals none
    stamp: Optional[Tuple[int, ...]] = None


def _row(item: File) -> Row:
    return {
        "FileSystemPath": item.path,
        "FileContentChecksum": item.checksum,
        "Size": item.size,
        "Owner": item.owner,
        "Group": item.group,
        "Mode": None if item.mode is None else "%04o" % item.mode,
        "DateModified": timestamp(item.modified),
        "DateCreated": timestamp(item.created),
        "FileType": item.type,
        "LinkTarget": item.link_target,
    }


def _compared(item: File) -> Tuple[object, ...]:
    return item[:10]


def _incomparable(older: File, newer: File) -> Tuple[str, ...]:
    """A content that was not read has an empty checksum, and another algorithm one of another length."""
    return () if len(older.checksum) == len(newer.checksum) else ("FileContentChecksum",)


def _item_form(item: File) -> Row:
    described = json.dumps(_compared(item)).encode("ascii")
    modified = timestamp(item.modified)
    return {
        "CollectionName": item.path,
        "FileContentChecksum": item.checksum,
        "FileSystemPath": item.path,
        "Size": item.size,
        "Owner": item.owner,
        "Group": item.group,
        "ItemType": "File",
        "Name": item.path.rpartition("/")[2],
        "Mode": item.mode,
        "Contents": "",
        "DateModified": modified and modified.rstrip("Z").replace("T", " "),
        "DateCreated": timestamp(item.created),
        "FileContentBlobLink": "",
        "FileMetaDatacheckSum": str(int.from_bytes(hashlib.sha256(described).digest()[:8], "big")),
    }


def _owner(signature: Optional[str]) -> str:
    """The owner of the folder, see owners.py and marks.Mark."""
    fields = (signature or "").split(" ")
    return fields[3] if len(fields) == 4 else ""


_COLUMNS = tuple(_row(File("", "", None, "", "", None, None, None, "", "")))
FILES = Kind(
    name="files",
    config_type="Files",
    item=File,
    identity=lambda item: (item.path,),
    compared=_compared,
    make_row=_row,
    columns=_COLUMNS,
    tracked={column: (column, "Previous" + column) for column in _COLUMNS[1:]},
    uncompared=(),
    dcr=DcrKeys("enableFiles", "fileSettings", "fileCollectionFrequency", 900),
    fact_module="ct_file_facts",
    item_file="File.json",
    item_form=_item_form,
    received="File",
    shown=("Mode", "Owner", "Group", "Size", "DateModified", "FileSystemPath"),
    incomparable=_incomparable,
    reaches=in_scope,
    owner=_owner,
)
