# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Lists one directory of a file scan: which of its entries are tracked, and whether they changed."""

import copy
import errno
import os
import stat
import sys
from binascii import crc32
from hashlib import sha256
from itertools import islice
from operator import itemgetter
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .budget import PART_PATHS, SLICED_ABOVE, SLICES, Budget
from .file_rules import Claimants, Claims, Target, to_text
from .hashing import constructor
from .mounts import PSEUDO, Barred
from .opening import Paths, entries_of, read_at_once
from .statx import StatusOf, mode, seconds
from .statx import owner as owner_of

RACY = 2  # seconds; the coarsest time stamps, FAT's, tell nothing apart within them

_LARGE = 1 << 20  # bytes of a directory itself

BROKEN = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))

_ENCODING = sys.getfilesystemencoding()

Behind = Tuple[str, str]  # the real path of a directory behind a symlink, and on whose account the symlink is
Subdirectories = List[Tuple[str, Optional[Behind]]]  # with their names
Found = Tuple[str, bytes, Claimants]  # name, status, the claims in the order of the rules


class OpenDirectory(NamedTuple):
    """An open directory."""

    descriptor: int
    path: str  # as the rules name it
    real: str  # without links
    home: str  # the mount point it lies on
    owner: str  # on whose account it counts, see owners.py
    linker: str  # on whose account it was reached by a symlink; ROOT where by none
    identity: Tuple[int, int]  # device and inode
    device: bytes  # the same as in the status of an entry, see statx.DEVICE
    status_of: StatusOf  # see Mounts.status_of()
    # Of a sticky directory that others may write to, to which its entries do not count: its own owner, who may rename all of them.
    # None: all entries count to `owner`, since others may rename them, or nobody else has any.
    holder: Optional[str] = None


class Listing:
    """The tracked entries and the subdirectories of one directory, or of one slice of it, as they were from `begin` to `end`."""

    def __init__(self, place: OpenDirectory, claims: Claims, begin: float, slice_name: str = "") -> None:
        self.place = place
        self.claims = claims
        self.prefix = place.path.rstrip("/") + "/"
        self.slice_name = slice_name
        self.found: List[Found] = []
        self.checksums: Dict[str, str] = {}  # by name, of files that were read while they were listed
        self.targets: Dict[str, Target] = {}
        self.subdirectories: Subdirectories = []
        self.hidden: List[
            Tuple[str, str]
        ] = []  # names that may be directories and were not looked at, with their owners
        self.left_out: Sequence[str] = ()  # owners whose entries are too many, see slices.OwnedNames
        self.mounts: List[str] = []  # names of mounts that are not entered
        self.unsure: Set[Tuple[str]] = set()
        self.owners: Dict[Tuple[str, ...], str] = {}  # of entries that do not count to the owner of the directory
        self.changed: Dict[
            str, int
        ] = {}  # owner -> number of the entries that seem to differ, where `place` has a holder
        self.racy = False  # an entry changed so recently that it could change again with the same time stamps
        self.settled = True  # everything was readable, and nothing changed meanwhile
        self.begin = self.end = int(begin)  # unix seconds

    def is_racy(self, second: int) -> bool:
        """Whether a change right after the listing could have this time stamp."""
        return self.begin - RACY <= second <= self.end + RACY

    def doubt(self, name: str, owner: Optional[str] = None) -> None:
        """Report neither a change nor a removal of the entry, and do not rely on this listing in the next run. `owner`: of the
        entry, where that is not the one of the directory."""
        identity = (to_text(self.prefix + name),)
        self.unsure.add(identity)
        if owner is not None:
            self.owners[identity] = owner
        self.settled = False

    def view(self, claims: Claims) -> "Listing":
        """The same listing as some of its claims see it. Both have the same doubts."""
        view = copy.copy(self)
        view.claims, view.found, view.checksums, view.targets = claims, [], {}, {}
        numbers = {claim.rule.number for claim in claims.all}
        for name, status, claimants in self.found:
            own = tuple([claim for claim in claimants if claim.rule.number in numbers])
            if not own:
                continue
            view.found.append((name, status, own))
            if name in self.targets:
                view.targets[name] = self.targets[name]
            if name in self.checksums and own[0].rule.checksum == claimants[0].rule.checksum:
                view.checksums[name] = self.checksums[name]
        return view

    def cut(self, count: int) -> None:
        """Keep the first `count` entries; the others exist, but are not reported."""
        for name, _status, _claims in self.found[count:]:
            self.doubt(name)
            self.targets.pop(name, None)
        del self.found[count:]


class Read(NamedTuple):
    """What was read of the small files in one directory, before it is listed."""

    begin: float  # unix seconds
    files: Mapping[str, Tuple[bytes, str]]  # name -> status, checksum


NOTHING_READ = Read(float("inf"), {})


class Lister:
    """Lists one directory after the other."""

    def __init__(self, paths: Paths, clock: Callable[[], float], budget: Budget) -> None:
        self.paths = paths
        self.clock = clock
        self.budget = budget

    def list_whole(self, place: OpenDirectory, claims: Claims, first: Optional[Read]) -> Optional[Listing]:
        """Read a directory, and the status of each tracked entry once. None where there are too many entries for one listing.

        `first`: nothing is known of it, so read small files at once, except those that were read before. Raises OSError where it
        cannot be listed.
        """
        if _has_too_many(place):
            return None
        begin = self.clock()
        listing = Listing(place, claims, begin if first is None else min(begin, first.begin))
        with entries_of(place.descriptor) as entries:
            symlinks = self._add_entries(listing, first, islice(entries, most_entries(place)))
            if next(entries, None) is not None:
                return None
        self.complete(listing, symlinks)
        return listing

    def _add_entries(self, listing: Listing, first: Optional[Read], entries: Iterator[Any]) -> List[str]:
        """Add the tracked ones among these entries of os.scandir(). Returns the names of the symlinks, which are not added yet."""
        place, claims = listing.place, listing.claims
        barred = self.paths.mounts.barred_in(place.real)
        files, directories, others = claims.files, claims.directories, claims.others
        add, directory, descriptors = listing.found.append, place.descriptor, self.paths.descriptors
        read = {} if first is None else first.files
        device, status_of = place.device, place.status_of
        symlinks: List[str] = []
        for entry in entries:
            name = entry.name
            try:
                if barred and name in barred:
                    skip_mount(listing, name, barred[name])
                    continue
                if entry.is_file(follow_symlinks=False):
                    claimants = files
                elif entry.is_symlink():
                    symlinks.append(name)
                    continue
                elif entry.is_dir(follow_symlinks=False):
                    listing.subdirectories.append((name, None))
                    claimants = directories
                else:
                    claimants = others
                if len(claimants) != 1 or claimants[0].match is not None:
                    claimants = tuple([claim for claim in claimants if claim.wants(name)])
                if not claimants:
                    continue
                # The same as sliced._add(), a call of which would add 2 % to the cost of each entry.
                if first is not None and entry.is_file(follow_symlinks=False) and claimants[0].rule.checksum != "none":
                    if name in read:
                        status, listing.checksums[name] = read[name]
                    else:
                        status, content = read_at_once(descriptors, directory, device, name, status_of)
                        if content is not None:
                            listing.checksums[name] = constructor(claimants[0].rule.checksum)(content).hexdigest()
                else:
                    status = status_of(directory, name.encode(_ENCODING, "surrogateescape"))
                add((name, status, claimants))
            except OSError as error:
                note_unreadable(listing, name, error)
        return symlinks

    def subdirectories(self, place: OpenDirectory) -> Optional[Subdirectories]:
        """Those of a directory, without those behind symlinks, and without mounts that are not entered. None: see list_whole()."""
        barred = self.paths.mounts.barred_in(place.real)
        names: List[str] = []
        with entries_of(place.descriptor) as entries:
            for entry in islice(entries, most_entries(place)):
                if entry.is_dir(follow_symlinks=False) and entry.name not in barred:
                    names.append(entry.name)
            if next(entries, None) is not None:
                return None
        return [(name, None) for name in sorted(names)]

    def complete(self, listing: Listing, symlinks: Sequence[str]) -> None:
        """Add the tracked symlinks, and sort the listing."""
        for name in symlinks if listing.claims.links else ():
            try:
                self._add_symlink(listing, name)
            except OSError as error:
                note_unreadable(listing, name, error)
        now = int(self.clock())
        listing.begin, listing.end = sorted((listing.begin, now))  # the clock may have been set back
        listing.found.sort(key=itemgetter(0))
        listing.subdirectories.sort()

    def _add_symlink(self, listing: Listing, name: str) -> None:
        place, claims = listing.place, listing.claims
        claimants = tuple(claim for claim in claims.links if claim.wants(name))
        if not claimants and not claims.behind:
            return
        text = os.readlink(name, dir_fd=place.descriptor)
        target = Target(text, "", None)
        if claims.behind or any(claim.rule.links == "follow" for claim in claimants):
            linker = place.owner
            if linker and not place.linker:  # in a folder that several users may write to, each has links of their own
                uid = owner_of(place.status_of(place.descriptor, os.fsencode(name)))
                linker = self.budget.owners.of_user(uid) or linker
            if not self.budget.link_names.left(linker):
                listing.hidden.append((name, linker))
                listing.doubt(name, linker)
                claims.note("links", listing.prefix + name, linker)
                return
            target = self._follow(listing, name, text, bool(claimants), linker)
            if target.status is not None and claims.behind and stat.S_ISDIR(mode(target.status)):
                listing.subdirectories.append((name, (target.real, linker)))
        claimants = tuple(claim for claim in claimants if claim.rule.takes_link(target))
        if claimants:
            listing.found.append((name, place.status_of(place.descriptor, os.fsencode(name)), claimants))
            listing.targets[name] = target

    def _follow(self, listing: Listing, name: str, text: str, tracked: bool, linker: str) -> Target:
        """The target of a symlink with this text, looked up on the account of `linker`."""
        place = listing.place
        before = self.paths.names
        try:
            step = self.paths.find_now(text, place.real, place.home)
        except Barred as barred:
            # Hosts have many symlinks into /proc and the like, such as /etc/mtab: only those that are tracked are noted.
            if tracked or barred.kind not in PSEUDO:
                listing.claims.note("barred", listing.prefix + name, f"{barred.point}, {barred.kind}")
            return Target(text, "", None)
        except OSError as error:
            if error.errno in BROKEN:
                return Target(text, "", None)
            raise
        finally:
            self.budget.link_names.spend(linker, self.paths.names - before)
        try:
            return Target(text, step.real, place.status_of(step.descriptor, b""), linker)
        finally:
            os.close(step.descriptor)


def skip_mount(listing: Listing, name: str, kind: str) -> None:
    claims = listing.claims
    if claims.note_mount(listing.prefix, name, kind):
        listing.mounts.append(name)
    if any(claim.wants(name) for claim in claims.all):  # also a file, on which one can be mounted
        listing.unsure.add((to_text(listing.prefix + name),))


def slice_name(number: int) -> str:
    """What follows the path of the directory in the name of a slice's part; no path contains `//`."""
    return "//%d" % number


def slice_of(path: str) -> int:
    """The number of the slice that has the entry with this path, see to_text()."""
    return crc32(path.rpartition("/")[2].encode("utf-8", "surrogateescape")) % SLICES


def most_entries(place: OpenDirectory) -> int:
    """How many entries of the directory can be one part, whatever the length of their names."""
    return min(SLICED_ABOVE, PART_PATHS // (len(place.path) + 256))


def _has_too_many(place: OpenDirectory) -> bool:
    """Whether a directory that looks very large has too many entries for one listing, so that none is read in vain."""
    if os.fstat(place.descriptor).st_size < _LARGE:
        return False
    with entries_of(place.descriptor) as entries:
        return next(islice(entries, most_entries(place), None), None) is not None


def note_unreadable(listing: Listing, name: str, error: OSError) -> None:
    if error.errno == errno.ENOENT:
        return
    listing.hidden.append((name, listing.place.owner))
    listing.doubt(name)
    listing.claims.note("unseen", listing.prefix + name, str(error.strerror))


def signature(listing: Listing, basis: bytes) -> str:
    """A digest of everything that the items depend on; empty where equal time stamps would prove nothing."""
    statuses = b"".join([status for _name, status, _claims in listing.found])
    targets = [(name, listing.targets[name]) for name in sorted(listing.targets)]
    followed = b"".join([target.status for _name, target in targets if target.status is not None])
    listing.racy = _any_racy(listing, statuses) or _any_racy(listing, followed)
    if listing.racy or not listing.settled:
        return ""
    names = os.fsencode("/".join([name for name, _status, _claims in listing.found]))
    ends = os.fsencode("\0".join([target.text + ("\0+" if target.status else "\0-") for _name, target in targets]))
    pieces = (basis, listing.claims.options, names, statuses, ends, followed)
    whole = b"".join([b"%d:%b" % (len(piece), piece) for piece in pieces])
    return sha256(whole).hexdigest()[:32]


def _any_racy(listing: Listing, statuses: bytes) -> bool:
    times = seconds(statuses)
    # Only a file from the future is newer than the window: then each time has to be compared.
    newest = max(times) if times else 0
    return listing.is_racy(newest) or (newest > listing.end and any(map(listing.is_racy, times)))
