# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The tracked entries of one directory in full."""

import grp
import pwd
import stat
from typing import Dict, List, Optional, Sequence, Tuple

from ..model import File
from .hashing import LENGTHS, Reading, constructor, read_file, read_small
from .listing import Found, Listing, Place, to_text
from .status import CTIME, MODE, MTIME, SIZE, Numbers, unpack

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


_tuple = tuple.__new__  # what a NamedTuple's own constructor calls, at a third of the cost


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
        items = [self._item(listing, place, found, before) for found in listing.found]
        return sorted([item for item in items if item is not None])

    def _item(self, listing: Listing, place: Place, found: Found, before: Dict[str, File]) -> Optional[File]:
        name, status, claims = found
        rule = claims[0].rule
        target = listing.targets.get(name)
        where, link_target = name, ""
        numbers = unpack(status)
        wanted = _FORMATS[rule.type] if target is None else stat.S_IFLNK
        if wanted and numbers[MODE] & _FORMAT != wanted:
            # Between listing a name and asking for its status, something else took its place.
            listing.doubt(name)
            return None
        if target is not None:
            link_target = to_text(target.text)
            if target.status is not None and rule.links == "follow":
                where, status = target.real, target.status
                numbers = unpack(status)
        path = to_text(listing.prefix + name)
        algorithm = rule.checksum if numbers[MODE] & _FORMAT == stat.S_IFREG else "none"
        old = before.get(path)
        if old is not None and _serves(old, numbers, algorithm):
            checksum = old.checksum
        elif algorithm == "none":
            checksum = ""
        else:
            new = constructor(algorithm)
            read = read_small(place.descriptor, where, new, status, numbers[SIZE])
            if read is None:
                reading = read_file(place.descriptor, where, new, status)
                if reading.problem or reading.status != status:
                    return self._unsettled(listing, found, reading, status, path, link_target)
                read = reading.checksum
            checksum = read
        return self._file(path, checksum, numbers, link_target, listing.racy and _is_racy(listing, numbers))

    def _file(self, path: str, checksum: str, numbers: Numbers, link_target: str, racy: bool) -> File:
        _links, uid, gid, mode, _inode, size, born, _ctime, _ns, mtime, _ns, _device = numbers
        kind, owner, group = _TYPES.get(mode & _FORMAT, ""), self._users[uid], self._groups[gid]
        stamp = None if racy else _stamp(numbers)
        return _tuple(
            File, (path, checksum, size, owner, group, mode & 0o7777, mtime, born or None, kind, link_target, stamp)
        )

    def _unsettled(
        self, listing: Listing, found: Found, reading: Reading, listed: bytes, path: str, link_target: str
    ) -> Optional[File]:
        """An entry that was no longer what it was when listed, or could not be read."""
        listing.settled = False
        name, _status, claims = found
        if reading.problem in ("gone", "replaced"):
            if reading.problem == "replaced":
                listing.doubt(name)
            return None
        if reading.problem:
            kind, why = ("changing", "") if reading.problem == "changing" else ("unread", reading.problem)
            for claim in claims:
                claim.rule.notes.add(kind, listing.prefix + name, why)
        return self._file(path, reading.checksum, unpack(reading.status or listed), link_target, racy=True)


def _stamp(numbers: Numbers) -> Tuple[int, ...]:
    _links, _uid, _gid, _mode, inode, size, _born, ctime, ctime_ns, mtime, mtime_ns, device = numbers
    return device, inode, size, mtime * 1000000000 + mtime_ns, ctime * 1000000000 + ctime_ns


def _is_racy(listing: Listing, numbers: Numbers) -> bool:
    return listing.is_racy(numbers[CTIME]) or listing.is_racy(numbers[MTIME])


def _serves(old: File, numbers: Numbers, algorithm: str) -> bool:
    """Whether the checksum of an earlier sighting is that of the content now."""
    if old.stamp is None or tuple(old.stamp) != _stamp(numbers):
        return False
    return len(old.checksum) == LENGTHS[algorithm]
