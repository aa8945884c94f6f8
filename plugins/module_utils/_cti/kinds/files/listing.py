# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""One directory of a file scan: which of its entries are tracked, and whether they changed."""

import errno
import os
import stat
import sys
from binascii import crc32
from hashlib import sha256
from itertools import islice
from operator import itemgetter
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from .budget import FOLDER_ENTRIES, FOLDER_NAMES, SLICED_ABOVE, SLICES, Budget
from .file_rules import Claimants, Claims, Target, to_text
from .hashing import constructor
from .mounts import PSEUDO, Barred
from .opening import Paths, read_at_once
from .statx import mode, seconds, status_of

RACY = 2  # seconds; the coarsest time stamps, FAT's, tell nothing apart within them

BROKEN = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))

_ENCODING = sys.getfilesystemencoding()

Subdirectories = List[Tuple[str, str]]  # name, real path if behind a link
Found = Tuple[str, bytes, Claimants]  # name, status, the claims in the order of the rules


class Crowded(Exception):
    """A directory has more entries than are looked at."""

    def __init__(self, entries: int) -> None:
        super().__init__(entries)
        self.entries = entries


class OpenDirectory(NamedTuple):
    """An open directory."""

    descriptor: int
    path: str  # as the rules name it
    real: str  # without links
    home: str  # the mount point it lies on
    owner: str  # on whose account it counts, see owners.py
    identity: Tuple[int, int]  # device and inode


class Listing:
    """The tracked entries of one directory, or of one slice of it, and its subdirectories, between two moments."""

    def __init__(self, path: str, begin: float, slice_name: str = "") -> None:
        self.path = path
        self.prefix = path.rstrip("/") + "/"
        self.slice_name = slice_name
        self.found: List[Found] = []
        self.checksums: Dict[str, str] = {}  # of what was read at once, by name
        self.targets: Dict[str, Target] = {}
        self.subdirectories: Subdirectories = []
        self.hidden: List[str] = []  # names whose status could not be had
        self.mounts: List[str] = []  # names of mounts that are not entered
        self.unsure: Set[Tuple[str]] = set()
        self.racy = False  # some entry changed so lately that it could change again under the same time stamps
        self.settled = True  # nothing unreadable, nothing changed under way
        self.begin = self.end = int(begin)  # unix seconds

    def is_racy(self, second: int) -> bool:
        """Whether a change right after the listing could bear the same time stamp."""
        return self.begin - RACY <= second <= self.end + RACY

    def doubt(self, name: str) -> None:
        self.unsure.add((to_text(self.prefix + name),))
        self.settled = False

    def cut(self, count: int) -> None:
        """Keep the first entries only; the others are there, but not reported."""
        for name, _status, _claims in self.found[count:]:
            self.doubt(name)
            self.targets.pop(name, None)
        del self.found[count:]


class Lister:
    """Lists one directory after the other."""

    def __init__(self, paths: Paths, clock: Callable[[], float], budget: Budget) -> None:
        self._paths = paths
        self._clock = clock
        self._budget = budget

    def list(self, place: OpenDirectory, claims: Claims, first: bool, sliced: bool) -> Iterator[Listing]:
        """Read a directory, asking for each tracked entry's status once. OSError where it cannot be listed.

        A directory of more than SLICED_ABOVE entries, or one that is `sliced` already, is listed in SLICES slices. Raises
        Crowded for one that has more entries than are looked at. first: read small files at once, as nothing is known.
        """
        listing = None if sliced else self._whole(place, claims, first)
        if listing is not None:
            yield listing
            return
        buckets = self._buckets(place)
        for number in range(SLICES):
            listing = Listing(place.path, self._clock(), slice_name(number))
            self._fill(listing, place, claims, first, [_split(names.pop()) for names in buckets])
            yield listing

    def _whole(self, place: OpenDirectory, claims: Claims, first: bool) -> Optional[Listing]:
        """None where there are too many entries for one listing."""
        listing = Listing(place.path, self._clock())
        links: List[str] = []
        with _scan(place) as entries:
            self._take(listing, place, claims, first, islice(entries, SLICED_ABOVE), links)
            if next(entries, None) is not None:
                return None
        return self._finish(listing, place, claims, links)

    def _buckets(self, place: OpenDirectory) -> List[List[bytearray]]:
        """The names in a directory, each with a NUL behind: of files, links, directories, and others, by slice from the
        last to the first."""
        kinds = [[bytearray() for _number in range(SLICES)] for _kind in range(4)]
        files, links, directories, others = kinds
        count = total = 0
        with _scan(place) as entries:
            for entry in entries:
                count += 1
                if count > FOLDER_ENTRIES or total > FOLDER_NAMES:
                    continue
                if entry.is_file(follow_symlinks=False):
                    kind = files
                elif entry.is_symlink():
                    kind = links
                else:
                    kind = directories if entry.is_dir(follow_symlinks=False) else others
                name = entry.name.encode(_ENCODING, "surrogateescape")
                total += len(name)
                kind[-1 - crc32(name) % SLICES] += name + b"\0"
        if count > FOLDER_ENTRIES or total > FOLDER_NAMES:
            raise Crowded(count)
        return kinds

    def _fill(
        self, listing: Listing, place: OpenDirectory, claims: Claims, first: bool, kinds: Sequence[Sequence[str]]
    ) -> None:
        files, links, directories, others = kinds
        barred = self._paths.mounts.barred_in(place.real)
        for names, takers in ((files, claims.files), (directories, claims.directories), (others, claims.others)):
            for name in names:
                try:
                    if barred and name in barred:
                        self._bar(listing, claims, name, barred[name])
                        continue
                    if names is directories:
                        listing.subdirectories.append((name, ""))
                    hits = tuple([claim for claim in takers if claim.wants(name)])
                    if hits:
                        self._add(listing, place, name, hits, first and names is files)
                except OSError as error:
                    _missed(listing, claims, name, error)
        self._finish(listing, place, claims, links)

    def _add(self, listing: Listing, place: OpenDirectory, name: str, takers: Claimants, read: bool) -> None:
        """Ask for the status of an entry; read: and for the content, see read_at_once()."""
        algorithm = takers[0].rule.checksum if read else "none"
        if algorithm == "none":
            status = status_of(place.descriptor, name.encode(_ENCODING, "surrogateescape"))
        else:
            status, content = read_at_once(self._paths.descriptors, place.descriptor, name)
            if content is not None:
                listing.checksums[name] = constructor(algorithm)(content).hexdigest()
        listing.found.append((name, status, takers))

    def _take(
        self,
        listing: Listing,
        place: OpenDirectory,
        claims: Claims,
        first: bool,
        entries: Iterator[Any],
        links: List[str],
    ) -> None:
        barred = self._paths.mounts.barred_in(place.real)
        files, directories, others = claims.files, claims.directories, claims.others
        add, directory, descriptors = listing.found.append, place.descriptor, self._paths.descriptors
        for entry in entries:
            name = entry.name
            try:
                if barred and name in barred:
                    self._bar(listing, claims, name, barred[name])
                    continue
                if entry.is_file(follow_symlinks=False):
                    takers = files
                elif entry.is_symlink():
                    links.append(name)
                    continue
                elif entry.is_dir(follow_symlinks=False):
                    listing.subdirectories.append((name, ""))
                    takers = directories
                else:
                    takers = others
                if len(takers) != 1 or takers[0].match is not None:
                    takers = tuple([claim for claim in takers if claim.wants(name)])
                if not takers:
                    continue
                # As _add() does it, whose call would cost each entry 2 % more.
                if first and entry.is_file(follow_symlinks=False) and takers[0].rule.checksum != "none":
                    status, content = read_at_once(descriptors, directory, name)
                    if content is not None:
                        listing.checksums[name] = constructor(takers[0].rule.checksum)(content).hexdigest()
                else:
                    status = status_of(directory, name.encode(_ENCODING, "surrogateescape"))
                add((name, status, takers))
            except OSError as error:
                _missed(listing, claims, name, error)

    def _bar(self, listing: Listing, claims: Claims, name: str, kind: str) -> None:
        if claims.note_mount(listing.prefix, name, kind):
            listing.mounts.append(name)
        if any(claim.wants(name) for claim in claims.directories):
            listing.unsure.add((to_text(listing.prefix + name),))

    def _finish(self, listing: Listing, place: OpenDirectory, claims: Claims, links: Sequence[str]) -> Listing:
        for name in links if claims.links else ():
            try:
                self._list_link(listing, place, claims, name)
            except OSError as error:
                _missed(listing, claims, name, error)
        listing.end = int(self._clock())
        listing.found.sort(key=itemgetter(0))
        listing.subdirectories.sort()
        return listing

    def _list_link(self, listing: Listing, place: OpenDirectory, claims: Claims, name: str) -> None:
        hits = tuple(claim for claim in claims.links if claim.wants(name))
        if not hits and not claims.behind:
            return
        status = status_of(place.descriptor, os.fsencode(name))
        text = os.readlink(name, dir_fd=place.descriptor)
        target = Target(text, "", None)
        if claims.behind or any(claim.rule.links == "follow" for claim in hits):
            if not self._budget.link_names.left(place.owner):
                listing.hidden.append(name)
                listing.doubt(name)
                claims.note("links", listing.prefix + name, place.owner)
                return
            before = self._paths.names
            try:
                target = self._reach(listing, place, claims, name, text, bool(hits))
            finally:
                self._budget.link_names.spend(place.owner, self._paths.names - before)
            if target.status is not None and claims.behind and stat.S_ISDIR(mode(target.status)):
                listing.subdirectories.append((name, target.real))
        hits = tuple(claim for claim in hits if claim.rule.takes_link(target))
        if hits:
            listing.found.append((name, status, hits))
            listing.targets[name] = target

    def _reach(
        self, listing: Listing, place: OpenDirectory, claims: Claims, name: str, text: str, tracked: bool
    ) -> Target:
        try:
            step = self._paths.find(text, place.real, place.home)
        except Barred as barred:
            # Hosts are full of links such as /etc/mtab, and nobody looks behind them for files to track.
            if tracked or barred.kind not in PSEUDO:
                claims.note("barred", listing.prefix + name, "{0}, {1}".format(barred.point, barred.kind))
            return Target(text, "", None)
        except OSError as error:
            if error.errno in BROKEN:
                return Target(text, "", None)
            raise
        try:
            return Target(text, step.real, status_of(step.descriptor, b""))
        finally:
            os.close(step.descriptor)


def _scan(place: OpenDirectory) -> Any:
    return os.scandir(place.descriptor if sys.version_info >= (3, 7) else "/proc/self/fd/%d" % place.descriptor)


def _split(names: bytearray) -> List[str]:
    return names.decode(_ENCODING, "surrogateescape").split("\0")[:-1]


def slice_name(number: int) -> str:
    """What the name of a slice's part has behind that of its directory; no path holds `//`."""
    return "//%d" % number


def slice_of(path: str) -> int:
    """The number of the slice in which the entry with this path, see to_text(), is."""
    return crc32(path.rpartition("/")[2].encode("utf-8", "surrogateescape")) % SLICES


def _missed(listing: Listing, claims: Claims, name: str, error: OSError) -> None:
    if error.errno == errno.ENOENT:
        return
    listing.hidden.append(name)
    listing.doubt(name)
    claims.note("unseen", listing.prefix + name, str(error.strerror))


def signature(listing: Listing, claims: Claims, basis: bytes) -> str:
    """A digest of all that the items follow from; empty where equal time stamps would prove nothing."""
    statuses = b"".join([status for _name, status, _claims in listing.found])
    targets = [(name, listing.targets[name]) for name in sorted(listing.targets)]
    followed = b"".join([target.status for _name, target in targets if target.status is not None])
    listing.racy = _any_racy(listing, statuses) or _any_racy(listing, followed)
    if listing.racy or not listing.settled:
        return ""
    names = os.fsencode("/".join([name for name, _status, _claims in listing.found]))
    ends = os.fsencode("\0".join([target.text + ("\0+" if target.status else "\0-") for _name, target in targets]))
    pieces = (basis, claims.options, names, statuses, ends, followed)
    whole = b"".join([b"%d:%b" % (len(piece), piece) for piece in pieces])
    return sha256(whole).hexdigest()[:32]


def _any_racy(listing: Listing, statuses: bytes) -> bool:
    times = seconds(statuses)
    # The newest is past the window only for a file from the future: then each has to be looked at.
    newest = max(times) if times else 0
    return listing.is_racy(newest) or (newest > listing.end and any(map(listing.is_racy, times)))
