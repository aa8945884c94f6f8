# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Makes the items of the tracked entries of one directory."""

import grp
import os
import pwd
import stat
from typing import Dict, List, Optional, Sequence, Tuple

from .budget import SMALL_BYTES, Budget
from .file_rules import Claimants, Target, to_text
from .hashing import LENGTHS, HashResult, constructor, read_file
from .kind import File
from .listing import Found, Listing, OpenDirectory
from .mounts import Barred
from .opening import Paths, Replaced, read_at_once, reopen
from .owners import ROOT
from .statx import CTIME, LINKS, MODE, MTIME, SIZE, UID, Numbers, unpack

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block",
    stat.S_IFCHR: "char",
}
_PROBLEMS = ("changing", "large", "late")  # are kinds of notes
_FORMAT = 0o170000  # S_IFMT of inode(7)
_FORMATS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "any": 0}


_MAX_REMEMBERED = 10000  # checksums of files with several names
_tuple = tuple.__new__  # what a NamedTuple's own constructor calls, at a third of the cost


class Users(Dict[int, str]):
    """uid -> name, looked up once; the number as text where there is no name."""

    def __missing__(self, uid: int) -> str:
        try:
            self[uid] = pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            self[uid] = str(uid & 0xFFFFFFFF)
        return self[uid]


class Groups(Dict[int, str]):
    """gid -> name, looked up once; the number as text where there is no name."""

    def __missing__(self, gid: int) -> str:
        try:
            self[gid] = grp.getgrgid(gid).gr_name
        except (KeyError, OverflowError):
            self[gid] = str(gid & 0xFFFFFFFF)
        return self[gid]


class Maker:
    """Makes the items of one directory after the other; remembers the names of users and groups."""

    def __init__(self, paths: Paths, budget: Budget) -> None:
        self._paths = paths
        self._budget = budget
        self._users = Users()
        self._groups = Groups()
        self._checksums: Dict[Tuple[bytes, str], str] = {}  # of large files with several names, by status and algorithm

    def items(self, listing: Listing, known: Sequence[File], again: bool = False) -> List[File]:
        """The items of a listing. The checksum of a file that did not change since `known` is taken from there; `again`: its
        content is read nevertheless."""
        before = {item.path: item for item in known}
        items = [self._item(listing, found, before, again) for found in listing.found]
        return sorted([item for item in items if item is not None])

    def items_by_others(
        self, listing: Listing, known: Sequence[File], again: bool, made: Sequence[File], other: Listing
    ) -> List[File]:
        """The items of the view that other rules have of a listing. `made`: those of the view `other`, as items() returned them,
        which are used where both make them in the same way."""
        before = {item.path: item for item in known}
        by_path = {item.path: item for item in made}
        ways = {name: _way(claims) for name, _status, claims in other.found}
        items: List[Optional[File]] = []
        listing.racy = True  # any of its own entries may be
        for found in listing.found:
            name, _status, claims = found
            if ways.get(name) == _way(claims):
                items.append(by_path.get(to_text(listing.prefix + name)))
            else:
                items.append(self._item(listing, found, before, again))
        return sorted([item for item in items if item is not None])

    def _item(self, listing: Listing, found: Found, before: Dict[str, File], again: bool) -> Optional[File]:
        """None where the entry is gone, or something else took its place."""
        name, status, claims = found
        numbers = unpack(status)
        checksum = listing.checksums.get(name)
        if checksum is not None:
            racy = listing.racy and _is_racy(listing, numbers)
            return self._file(to_text(listing.prefix + name), checksum, numbers, "", racy)
        rule = claims[0].rule
        target = listing.targets.get(name)
        expected = _FORMATS[rule.type] if target is None else stat.S_IFLNK
        if expected and numbers[MODE] & _FORMAT != expected:  # replaced after its name was listed
            listing.doubt(name)
            return None
        link_target = ""
        if target is not None:
            link_target = to_text(target.text)
            if target.status is not None and rule.links == "follow":
                status = target.status
                numbers = unpack(status)
        path = to_text(listing.prefix + name)
        checksum = ""
        if rule.checksum != "none" and numbers[MODE] & _FORMAT == stat.S_IFREG:
            old = before.get(path)
            if old is not None and not _is_current(old, numbers, rule.checksum):
                old = None
            if old is not None and not again:
                checksum = old.checksum
            else:
                result = self._hash(listing, found, target, status, numbers, old)
                if result.problem or result.status != status:
                    return self._unsettled(listing, found, result, status, path, link_target)
                checksum = result.checksum
        return self._file(path, checksum, numbers, link_target, listing.racy and _is_racy(listing, numbers))

    def _hash(
        self,
        listing: Listing,
        found: Found,
        target: Optional[Target],
        status: bytes,
        numbers: Numbers,
        current: Optional[File],
    ) -> HashResult:
        """Read the content. Where no time is left for that, the checksum of `current` is used: the item of an earlier run, if
        it still is that of the same content."""
        name, _status, claims = found
        result = self._read(listing.place, name, target, claims[0].rule.checksum, status, numbers)
        if current is None or result.problem != "late":
            return result
        for claim in claims:
            claim.rule.notes.add("again", listing.prefix + name)
        return HashResult(status, current.checksum, "")

    def _read(
        self, place: OpenDirectory, name: str, target: Optional[Target], algorithm: str, status: bytes, numbers: Numbers
    ) -> HashResult:
        """Read a regular file. A large one with several names, or with symlinks to it, is read once for all of them."""
        new = constructor(algorithm)
        # Whoever made a symlink decides what is read there.
        if target is not None:
            owner = target.linker or self._budget.owners.of_user(numbers[UID])
        else:
            owner = self._budget.owners.of_entry(numbers[UID], numbers[MODE], numbers[LINKS], place.owner)
        if numbers[SIZE] <= SMALL_BYTES and target is None:
            if place.holder != ROOT:
                owner = owner or place.owner
            if not self._budget.seconds(owner, numbers[SIZE]):
                return HashResult(None, "", "late")
            start = self._budget.clock() if owner else 0.0
            try:
                _status, content = read_at_once(
                    self._paths.descriptors,
                    place.descriptor,
                    place.device,
                    name,
                    place.status_of,
                    status,
                )
            except OSError:
                content = None
            if owner:
                self._budget.spend(owner, self._budget.clock() - start, numbers[SIZE])
            if content is not None:
                return HashResult(status, new(content).hexdigest(), "")
        shared = numbers[SIZE] > SMALL_BYTES and (target is not None or numbers[LINKS] > 1)
        known = self._checksums.get((status, algorithm)) if shared else None
        if known is not None:
            return HashResult(status, known, "")

        def open_file() -> int:
            try:
                if target is None:
                    return self._paths.open_regular(
                        name, place.descriptor, place.real.rstrip("/") + "/" + name, place.home
                    )
                return self._open_target(place, target)
            except Barred as barred:
                raise Replaced(str(barred)) from barred

        reading = read_file(open_file, new, status, self._budget, owner)
        if shared and not reading.problem and reading.status is not None and len(self._checksums) < _MAX_REMEMBERED:
            self._checksums[reading.status, algorithm] = reading.checksum
        return reading

    def _open_target(self, place: OpenDirectory, target: Target) -> int:
        step = self._paths.find_now(target.real, home=place.home)
        try:
            return reopen(step.descriptor)
        finally:
            os.close(step.descriptor)

    def _file(self, path: str, checksum: str, numbers: Numbers, link_target: str, racy: bool) -> File:
        _links, uid, gid, mode, _inode, size, born, _ctime, _ns, mtime, _ns, _device = numbers
        kind, owner, group = _TYPES.get(mode & _FORMAT, ""), self._users[uid], self._groups[gid]
        stamp = (*stamp_of(numbers), 0) if racy else stamp_of(numbers)
        return _tuple(
            File, (path, checksum, size, owner, group, mode & 0o7777, mtime, born or None, kind, link_target, stamp)
        )

    def _unsettled(
        self, listing: Listing, found: Found, reading: HashResult, listed: bytes, path: str, link_target: str
    ) -> Optional[File]:
        """The item of an entry that changed after it was listed, or could not be read; None where it is gone or replaced."""
        listing.settled = False
        name, _status, claims = found
        if reading.problem in ("gone", "replaced"):
            if reading.problem == "replaced":
                listing.doubt(name)
            return None
        if reading.problem:
            kind, why = (reading.problem, "") if reading.problem in _PROBLEMS else ("unread", reading.problem)
            for claim in claims:
                claim.rule.notes.add(kind, listing.prefix + name, why)
        return self._file(path, reading.checksum, unpack(reading.status or listed), link_target, racy=True)


def _way(claims: Claimants) -> Tuple[str, str, str]:
    """What an item depends on in addition to its entry."""
    rule = claims[0].rule
    return rule.links, rule.type, rule.checksum


def stamp_of(numbers: Numbers) -> Tuple[int, ...]:
    _links, _uid, _gid, _mode, inode, size, _born, ctime, ctime_ns, mtime, mtime_ns, device = numbers
    return device, inode, size, mtime * 1000000000 + mtime_ns, ctime * 1000000000 + ctime_ns


def _is_racy(listing: Listing, numbers: Numbers) -> bool:
    return listing.is_racy(numbers[CTIME]) or listing.is_racy(numbers[MTIME])


def _is_current(old: File, numbers: Numbers, algorithm: str) -> bool:
    """Whether the checksum that an earlier run recorded is that of the present content, by this algorithm."""
    if old.stamp is None or tuple(old.stamp) != stamp_of(numbers):
        return False
    return len(old.checksum) == LENGTHS[algorithm]
