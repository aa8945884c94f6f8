# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""One directory of a file scan: which of its entries are tracked, and whether they changed."""

import errno
import hashlib
import os
import stat
import sys
from operator import itemgetter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from ..model import FileRule
from .mounts import PSEUDO, Barred, Mounts
from .notes import Notes
from .status import mode, seconds, status_of

RACY = 2  # seconds; the coarsest time stamps, FAT's, tell nothing apart within them

BROKEN = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))


_ENCODING = sys.getfilesystemencoding()
UTF8 = _ENCODING.lower() in ("utf-8", "utf8")


def to_text(name: str) -> str:
    """A name as the interpreter has it -> its identity: UTF-8 with surrogateescape, whatever the locale."""
    return name if UTF8 else os.fsencode(name).decode("utf-8", "surrogateescape")


def to_name(text: str) -> str:
    """The reverse of to_text."""
    return text if UTF8 else os.fsdecode(text.encode("utf-8", "surrogateescape"))


class Rule:
    """A rule at work."""

    def __init__(self, number: int, rule: FileRule) -> None:
        self.number = number
        self.path = rule.path
        self.links = rule.links
        self.type = rule.type
        self.checksum = rule.checksum
        self.forbidden = ""  # the checksum that the rule asks for, where the host's policy forbids it
        self.recurse = rule.recurse
        self.matched = 0
        self.reported = 0
        self.absent = ""  # why there is nothing to read
        self.notes = Notes()

    def takes_link(self, target: "Optional[Target]") -> bool:
        """Whether a link with this target, None where it was not looked for, is one of the rule's entries."""
        if self.links == "manage" or target is None or target.status is None:
            return self.type != "directory"
        kind = stat.S_IFMT(mode(target.status))
        return self.type == "any" or kind == {"file": stat.S_IFREG, "directory": stat.S_IFDIR}[self.type]


class Claim(NamedTuple):
    """A rule's claim on one directory."""

    rule: Rule
    match: Optional[Callable[[str], Any]]  # name -> true if claimed; None claims every name
    recurse: bool

    def wants(self, name: str) -> bool:
        return self.match is None or bool(self.match(name))


Claimants = Tuple[Claim, ...]


class Claims:
    """All claims on a directory, in the order of the rules. Shared by the directories which have the same."""

    def __init__(self, claims: Claimants) -> None:
        self.all = claims
        self.files = tuple(claim for claim in claims if claim.rule.type != "directory")
        self.directories = tuple(claim for claim in claims if claim.rule.type != "file")
        self.others = tuple(claim for claim in claims if claim.rule.type == "any")
        self.links = tuple(claim for claim in claims if claim.rule.links != "ignore")
        self.below = tuple(claim for claim in claims if claim.recurse)
        self.behind = tuple(claim for claim in self.below if claim.rule.links == "follow")
        self.options = ascii(
            [
                (
                    claim.rule.path,
                    claim.rule.links,
                    claim.rule.type,
                    claim.rule.checksum,
                    claim.recurse,
                    claim.match is None,
                )
                for claim in claims
            ]
        ).encode("ascii")

    def note(self, kind: str, path: str, why: str = "") -> None:
        for claim in self.all:
            claim.rule.notes.add(kind, path, why)

    def note_mount(self, prefix: str, name: str, kind: str) -> None:
        for claim in self.all:
            if claim.recurse or (claim.rule.type != "file" and claim.wants(name)):
                claim.rule.notes.add("mount", prefix + name, kind)


class Target(NamedTuple):
    """Where a link leads."""

    text: str  # as readlink(2) has it
    real: str  # absolute path without links; empty where it was not reached
    status: Optional[bytes]  # see status.py; None where the link is broken or must not be followed


Found = Tuple[str, bytes, Claimants]  # name, status, the claims in the order of the rules


class Listing:
    """The tracked entries of one directory and its subdirectories, as they were between two moments."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.prefix = path.rstrip("/") + "/"
        self.found: List[Found] = []
        self.targets: Dict[str, Target] = {}
        self.subdirectories: List[Tuple[str, str]] = []  # name, real path if behind a link
        self.hidden: List[str] = []  # names whose status could not be had
        self.unsure: Set[Tuple[str]] = set()
        self.racy = False  # some entry changed so lately that it could change again under the same time stamps
        self.settled = True  # nothing unreadable, nothing changed under way
        self.begin = self.end = 0  # unix seconds

    def is_racy(self, second: int) -> bool:
        """Whether a change right after the listing could bear the same time stamp."""
        return self.begin - RACY <= second <= self.end + RACY

    def doubt(self, name: str) -> None:
        self.unsure.add((to_text(self.prefix + name),))
        self.settled = False

    def cut(self, size: int) -> None:
        """Keep the first entries only; the others are there, but not reported."""
        for name, _status, _claims in self.found[size:]:
            self.doubt(name)
            self.targets.pop(name, None)
        del self.found[size:]


class Place(NamedTuple):
    """An open directory."""

    descriptor: int
    path: str  # as the rules name it
    real: str  # without links
    home: str  # the mount point it lies on


def list_directory(place: Place, claims: Claims, mounts: Mounts, clock: Callable[[], float]) -> Listing:
    """Read a directory, asking for each tracked entry's status once. OSError where it cannot be listed."""
    listing = Listing(place.path)
    listing.begin = int(clock())
    links: "List[os.DirEntry[str]]" = []
    barred = mounts.barred_in(place.real)
    files, directories, others = claims.files, claims.directories, claims.others
    add, directory = listing.found.append, place.descriptor
    with os.scandir(directory if sys.version_info >= (3, 7) else "/proc/self/fd/%d" % directory) as entries:
        for entry in entries:
            name = entry.name
            try:
                if barred and name in barred:
                    claims.note_mount(listing.prefix, name, barred[name])
                    continue
                if entry.is_file(follow_symlinks=False):
                    takers = files
                elif entry.is_symlink():
                    links.append(entry)
                    continue
                elif entry.is_dir(follow_symlinks=False):
                    listing.subdirectories.append((name, ""))
                    takers = directories
                else:
                    takers = others
                if len(takers) != 1 or takers[0].match is not None:
                    takers = tuple([claim for claim in takers if claim.wants(name)])
                if takers:
                    add((name, status_of(directory, name.encode(_ENCODING, "surrogateescape")), takers))
            except OSError as error:
                _missed(listing, claims, name, error)
    for entry in links if claims.links else ():
        try:
            _list_link(listing, place, claims, mounts, entry.name)
        except OSError as error:
            _missed(listing, claims, entry.name, error)
    listing.end = int(clock())
    listing.found.sort(key=itemgetter(0))
    listing.subdirectories.sort()
    return listing


def _missed(listing: Listing, claims: Claims, name: str, error: OSError) -> None:
    if error.errno == errno.ENOENT:
        return
    listing.hidden.append(name)
    listing.doubt(name)
    claims.note("unseen", listing.prefix + name, str(error.strerror))


def _list_link(listing: Listing, place: Place, claims: Claims, mounts: Mounts, name: str) -> None:
    hits = tuple(claim for claim in claims.links if claim.wants(name))
    if not hits and not claims.behind:
        return
    status = status_of(place.descriptor, os.fsencode(name))
    text = os.readlink(name, dir_fd=place.descriptor)
    target = Target(text, "", None)
    if claims.behind or any(claim.rule.links == "follow" for claim in hits):
        target = _reach(listing, place, claims, mounts, name, text, bool(hits))
        if target.status is not None and claims.behind and stat.S_ISDIR(mode(target.status)):
            listing.subdirectories.append((name, target.real))
    hits = tuple(claim for claim in hits if claim.rule.takes_link(target))
    if hits:
        listing.found.append((name, status, hits))
        listing.targets[name] = target


def _reach(
    listing: Listing, place: Place, claims: Claims, mounts: Mounts, name: str, text: str, tracked: bool
) -> Target:
    try:
        real = mounts.resolve(text, place.real, place.home)
        status = status_of(place.descriptor, os.fsencode(real))
    except Barred as barred:
        # Hosts are full of links such as /etc/mtab, and nobody looks behind them for files to track.
        if tracked or barred.kind not in PSEUDO:
            claims.note("barred", listing.prefix + name, "{0}, {1}".format(barred.point, barred.kind))
        return Target(text, "", None)
    except OSError as error:
        if error.errno in BROKEN:
            return Target(text, "", None)
        raise
    return Target(text, "", None) if stat.S_ISLNK(mode(status)) else Target(text, real, status)


def signature(listing: Listing, claims: Claims, basis: bytes) -> Optional[str]:
    """A digest of all that the items follow from; None where equal time stamps would prove nothing."""
    statuses = b"".join([status for _name, status, _claims in listing.found])
    targets = [(name, listing.targets[name]) for name in sorted(listing.targets)]
    followed = b"".join([target.status for _name, target in targets if target.status is not None])
    listing.racy = _any_racy(listing, statuses) or _any_racy(listing, followed)
    if listing.racy or not listing.settled:
        return None
    names = os.fsencode("/".join([name for name, _status, _claims in listing.found]))
    ends = os.fsencode("\0".join([target.text + ("\0+" if target.status else "\0-") for _name, target in targets]))
    pieces = (basis, claims.options, names, statuses, ends, followed)
    whole = b"".join([b"%d:%b" % (len(piece), piece) for piece in pieces])
    return hashlib.sha256(whole).hexdigest()[:32]  # half of it is plenty, and there is one for each folder


def _any_racy(listing: Listing, statuses: bytes) -> bool:
    times = seconds(statuses)
    # The newest is past the window only for a file from the future: then each has to be looked at.
    newest = max(times) if times else 0
    return listing.is_racy(newest) or (newest > listing.end and any(map(listing.is_racy, times)))
