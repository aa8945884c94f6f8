# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The tracked entries of one directory in full."""

import grp
import os
import pwd
import stat
from typing import Any, Dict, List, Sequence, Tuple

from ..model import File
from .birth import statx
from .hashing import LENGTHS, Order, Reading, read_files, unpack
from .listing import Found, Listing, Place, to_text

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block",
    stat.S_IFCHR: "char",
}
_FORMAT = 0o170000  # S_IFMT of inode(7)
_FORMATS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "any": 0}


_Row = List[Any]  # a File in the making
_PATH, _CHECKSUM, _CREATED, _TYPE, _STAMP = map(File._fields.index, ("path", "checksum", "created", "type", "stamp"))


class Users(Dict[int, str]):
    """uid -> name, each asked for once; the number where there is no name."""

    def __missing__(self, uid: int) -> str:
        try:
            self[uid] = pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            self[uid] = str(uid & 0xFFFFFFFF)
        return self[uid]


class Groups(Dict[int, str]):
    """gid -> name, likewise."""

    def __missing__(self, gid: int) -> str:
        try:
            self[gid] = grp.getgrgid(gid).gr_name
        except (KeyError, OverflowError):
            self[gid] = str(gid & 0xFFFFFFFF)
        return self[gid]


class Maker:
    """Makes the items of one directory after the other; remembers the names of users and groups."""

    def __init__(self) -> None:
        self._users = Users()
        self._groups = Groups()

    def items(self, listing: Listing, place: Place, known: Sequence[File]) -> List[File]:
        """The entries in full. What did not change since `known` is taken from there, its content is not read."""
        before = {item.path: item for item in known}
        status_of = statx()
        rows: List[_Row] = []
        unread: List[Tuple[_Row, Found]] = []
        orders: List[Order] = []
        for found in listing.found:
            name, status, claims = found
            target = listing.targets.get(name)
            rule = claims[0].rule
            if not _is_as_listed(status, _FORMATS[rule.type] if target is None else stat.S_IFLNK):
                listing.doubt(name)
                continue
            where = name
            if target is not None and target.status is not None and rule.links == "follow":
                where, status = target.real, target.status
            row = self._row(listing, name, status, target.text if target is not None else "")
            rows.append(row)
            algorithm = rule.checksum if row[_TYPE] == "file" else "none"
            old = before.get(row[_PATH])
            if old is not None and _serves(old, status, algorithm):
                row[_CHECKSUM], row[_CREATED] = old.checksum, old.created
            elif algorithm == "none":
                row[_CREATED] = status_of(place.descriptor, os.fsencode(where))[1]
            else:
                unread.append((row, found))
                orders.append(Order(where, algorithm, status))
        for (row, found), order, reading in zip(unread, orders, read_files(place.descriptor, orders)):
            if reading.status == order.status and not reading.problem:
                row[_CHECKSUM], row[_CREATED] = reading.checksum, reading.created
            else:
                self._settle(listing, row, found, reading, order.status)
        return sorted([File._make(row) for row in rows if row])

    def _row(self, listing: Listing, name: str, status: bytes, link_target: str) -> _Row:
        mode, inode, device, _links, uid, gid, size, mtime_ns, ctime_ns = unpack(status)
        racy = listing.racy and (listing.is_racy(ctime_ns) or listing.is_racy(mtime_ns))
        return [
            to_text(listing.prefix + name),
            "",
            size,
            self._users[uid],
            self._groups[gid],
            mode & 0o7777,
            mtime_ns // 1000000000,
            None,
            _TYPES.get(mode & _FORMAT, ""),
            to_text(link_target),
            None if racy else (device, inode, size, mtime_ns, ctime_ns),
        ]

    def _settle(self, listing: Listing, row: _Row, found: Found, reading: Reading, listed: bytes) -> None:
        """An entry that was no longer what it was when listed, or could not be read."""
        listing.settled = False
        name, _status, claims = found
        if reading.problem in ("gone", "replaced"):
            row.clear()
            if reading.problem == "replaced":
                listing.doubt(name)
            return
        if reading.problem:
            kind, why = ("changing", "") if reading.problem == "changing" else ("unread", reading.problem)
            for claim in claims:
                claim.rule.notes.add(kind, listing.prefix + name, why)
        link_target = listing.targets[name].text if name in listing.targets else ""
        row[:] = self._row(listing, name, reading.status or listed, link_target)
        row[_CHECKSUM], row[_CREATED], row[_STAMP] = reading.checksum, reading.created, None


def _serves(old: File, status: bytes, algorithm: str) -> bool:
    """Whether the checksum of an earlier sighting is that of the content now."""
    _mode, inode, device, _links, _uid, _gid, size, mtime_ns, ctime_ns = unpack(status)
    if old.stamp is None or tuple(old.stamp) != (device, inode, size, mtime_ns, ctime_ns):
        return False
    return len(old.checksum) == LENGTHS[algorithm]


def _is_as_listed(status: bytes, wanted: int) -> bool:
    """Between listing a name and asking for its status, something else may have taken its place."""
    return not wanted or unpack(status)[0] & _FORMAT == wanted
