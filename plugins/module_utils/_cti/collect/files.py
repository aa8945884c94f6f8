# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Tracked files: the rules of a data collection rule, merged into one walk that opens only what may have changed."""

import errno
import os
import stat
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..errors import CtiError, DcrError, SourceFailed, describe_defect
from ..model import Collection, File, FileRule, Known, Part, Source
from ..pathspec import PathSpec, parse
from ..text import quoted
from .hashing import LENGTHS, is_allowed
from .items import Maker
from .listing import (
    BROKEN,
    UTF8,
    Claim,
    Claimants,
    Claims,
    Found,
    Listing,
    Place,
    Rule,
    list_directory,
    signature,
    to_name,
    to_text,
)
from .mounts import Barred, Mounts
from .notes import plural

MAX_LINKS = 8  # to directories, in one path
MAX_VISITS = 100  # to one directory by way of links: many links to each other would otherwise multiply without end

_FORMAT = b"3"  # of the signatures; another one makes every known signature void
_GONE = frozenset((errno.ENOENT, errno.ENOTDIR))
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_Above = Tuple[int, int, Any]  # device and inode of a directory, and the same of the one above or None


class _Frame(NamedTuple):
    """A directory still to be visited."""

    path: str  # as the rules name it; natively, see listing.to_text
    real: str  # without links
    home: str  # mount point
    claims: Claimants
    above: Optional[_Above]
    links: int  # followed on the way here


class Scan(Collection):
    """Yields one Part a directory that holds tracked entries, named by its path. Sources are named after the rules.

    A rule's source is `absent` where its directory does not exist, `failed` where some of it could not be seen;
    what was seen is yielded all the same. max_files: entries above that number are counted, not reported; 0: no limit.
    clock gives unix seconds; its readings are compared with the files' time stamps. Raises DcrError for a rule that
    cannot be read.
    """

    def __init__(
        self, rules: Sequence[FileRule], known: Known, max_files: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._known = known
        self._max_files = max_files
        self._clock = clock
        self._rules = [
            (name, Rule(number, rule), parse(rule.path))
            for number, (name, rule) in enumerate(zip(_source_names(rules), rules))
        ]
        for _name, rule, _spec in self._rules:
            _check(rule)
        self._pending: Dict[str, Claimants] = {}  # roots of rules the walk did not reach so far
        self._roots: Dict[str, str] = {}  # path -> real path
        self._merged: Dict[Claimants, Claims] = {}
        self._visits: Dict[Tuple[int, int], int] = {}  # by way of links
        self._hidden: Set[str] = set()  # names of parts that could not be seen, nor what is below
        self._beyond: Set[str] = set()  # names of parts beyond max_files
        self._reported = 0
        self._maker = Maker()
        self._basis = b""
        self._complete = False

    def __iter__(self) -> Iterator[Part]:
        try:
            self._mounts = Mounts.read()
        except SourceFailed as error:
            self.sources = {name: Source("failed", 0, str(error)) for name, _rule, _spec in self._rules}
            self.unseen = ["/"]
            return
        self._basis = _FORMAT + b"".join(_account_state(path) for path in ("/etc/passwd", "/etc/group"))
        for _name, rule, spec in self._rules:
            self._place(rule, spec)
        for path in sorted(self._roots):
            if path in self._pending:
                yield from self._walk(path, self._roots[path])
        for name, rule, _spec in self._rules:
            self.sources[name] = _outcome(rule, self._max_files)
        self.unseen = sorted(self._hidden | self._beyond)
        self._complete = True

    def out_of_sight(self, part: str) -> bool:
        if not self._complete or part in self._beyond or "/" in self._hidden:
            return True
        while part not in self._hidden:
            part, slash, _name = part.rpartition("/")
            if not slash:
                return False
        return True

    def _hide(self, path: str) -> None:
        self._hidden.add(to_text(path))

    def _place(self, rule: Rule, spec: PathSpec) -> None:
        """Find the directories a rule starts from: its own, or for a literal path to a directory that one."""
        directory, name = to_name(spec.directory), to_name(spec.name)
        path = _join(directory, name) if spec.syntax == "literal" else directory
        match = spec.match if UTF8 else lambda name: spec.match(to_text(name))
        try:
            real = self._mounts.resolve(directory)
            if not stat.S_ISDIR(os.lstat(real).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            inside = self._inside(rule, _join(real, name)) if spec.syntax == "literal" else ""
        except Barred as barred:
            rule.notes.add(
                "refused", path, "{0} is a file system of type {1}; name another path".format(barred.point, barred.kind)
            )
            self._hide(path)
        except OSError as error:
            if error.errno in _GONE:
                rule.absent = "{0} does not exist".format(quoted(path))
            else:
                rule.notes.add("unseen", path, str(error.strerror))
                self._hide(path)
        else:
            if inside:
                self._claim(path, inside, Claim(rule, None, rule.recurse))
            if name and not (inside and rule.type == "file"):
                self._claim(directory, real, Claim(rule, match, rule.recurse and spec.syntax != "literal"))

    def _inside(self, rule: Rule, entry: str) -> str:
        """The real directory a literal path means, or "" for any other entry; OSError where there is none."""
        self._mounts.check(entry)
        status = os.lstat(entry)
        if stat.S_ISLNK(status.st_mode) and rule.links == "follow":
            try:
                entry = self._mounts.resolve(entry)
                status = os.lstat(entry)
            except Barred:
                return ""
            except OSError as error:
                if error.errno in BROKEN:
                    return ""
                raise
        return entry if stat.S_ISDIR(status.st_mode) else ""

    def _claim(self, path: str, real: str, claim: Claim) -> None:
        self._pending[path] = self._pending.get(path, ()) + (claim,)
        self._roots[path] = real

    def _walk(self, path: str, real: str) -> Iterator[Part]:
        frames = [_Frame(path, real, self._mounts.of(real), (), None, 0)]
        while frames:
            frame = frames.pop()
            part, below = self._visit(frame)
            if part is not None:
                yield part
            frames.extend(reversed(below))

    def _visit(self, frame: _Frame) -> Tuple[Optional[Part], List[_Frame]]:
        claims = self._claims_on(frame)
        try:
            descriptor = os.open(frame.real, _DIRECTORY)
        except OSError as error:
            self._pending.pop(frame.path, None)
            if error.errno not in _GONE:
                claims.note("unseen", frame.path, str(error.strerror))
                self._hide(frame.path)
            return None, []
        try:
            status = os.fstat(descriptor)
            if not self._may_enter(frame, status):
                return None, []
            self._pending.pop(frame.path, None)
            place = Place(descriptor, frame.path, frame.real, frame.home)
            listing = list_directory(place, claims, self._mounts, self._clock)
            for name in listing.hidden:
                self._hide(listing.prefix + name)
            part = self._part(place, claims, listing)
            return part, self._below(frame, claims, listing, (status.st_dev, status.st_ino, frame.above))
        except (OSError, SourceFailed) as error:  # in the midst of it
            claims.note("unseen", frame.path, getattr(error, "strerror", None) or str(error))
            self._hide(frame.path)
            return None, []
        except CtiError:
            raise
        except Exception as error:  # a defect, which is no reason to lose the other folders
            claims.note("unseen", frame.path, describe_defect(error))
            self._hide(frame.path)
            return None, []
        finally:
            os.close(descriptor)

    def _claims_on(self, frame: _Frame) -> Claims:
        claimants = frame.claims
        if frame.path in self._pending:
            claimants = tuple(sorted(claimants + self._pending[frame.path], key=lambda claim: claim.rule.number))
        if claimants not in self._merged:
            self._merged[claimants] = Claims(claimants)
        return self._merged[claimants]

    def _may_enter(self, frame: _Frame, status: os.stat_result) -> bool:
        refusal = self._refusal(frame, status)
        for claim in frame.claims if refusal else ():
            claim.rule.notes.add(refusal[0], frame.path, refusal[1])
        return not refusal

    def _refusal(self, frame: _Frame, status: os.stat_result) -> Tuple[str, ...]:
        """Why a directory is not entered, a kind of note and its reason, or nothing."""
        identity = (status.st_dev, status.st_ino)
        above = frame.above
        if above is not None and above[0] != status.st_dev and frame.real not in self._mounts.kinds:
            # A btrfs subvolume, or a mount that came after the table was read.
            self._mounts = Mounts.read()
            try:
                self._mounts.check(frame.real, frame.home)
            except Barred as barred:
                return ("mount", barred.kind)
        if not frame.links:
            return ()
        while above is not None:
            if above[:2] == identity:
                return ("loop", "")
            above = above[2]
        self._visits[identity] = self._visits.get(identity, 0) + 1
        return ("often", "") if self._visits[identity] > MAX_VISITS else ()

    def _below(self, frame: _Frame, claims: Claims, listing: Listing, above: _Above) -> List[_Frame]:
        frames = []
        for name, target in listing.subdirectories if claims.below else ():
            path = listing.prefix + name
            real = target or _join(frame.real, name)
            if not target:
                home = real if real in self._mounts.kinds else frame.home
                frames.append(_Frame(path, real, home, claims.below, above, frame.links))
            elif frame.links < MAX_LINKS:
                frames.append(_Frame(path, real, self._mounts.of(real), claims.behind, above, frame.links + 1))
            else:
                claims.note("deep", path)
        return frames

    def _part(self, place: Place, claims: Claims, listing: Listing) -> Optional[Part]:
        name = to_text(place.path)
        found = listing.found
        for rule, count in _tally(claims, found):
            rule.matched += count
        if self._max_files and self._reported + len(found) > self._max_files:
            if self._reported == self._max_files:
                self._beyond.add(name)
                return None
            listing.cut(self._max_files - self._reported)
        for rule, count in _tally(claims, found):
            rule.reported += count
        self._reported += len(found)
        if not found and not listing.unsure:
            return None
        mark = signature(listing, claims, self._basis)
        if mark is not None and mark == self._known.signature(name):
            return Part(name, mark, None)
        known = [item for item in self._known.items(name) if isinstance(item, File)]
        items = self._maker.items(listing, place, known)
        return Part(name, mark if listing.settled else None, items, frozenset(listing.unsure))


def _tally(claims: Claims, found: List[Found]) -> List[Tuple[Rule, int]]:
    """How many of the entries are each rule's."""
    if len(claims.all) == 1:
        return [(claims.all[0].rule, len(found))]
    return [(claim.rule, sum(claim in hits for _name, _status, hits in found)) for claim in claims.all]


def _join(directory: str, name: str) -> str:
    return directory.rstrip("/") + "/" + name


def _source_names(rules: Sequence[FileRule]) -> List[str]:
    """The rules' own names; where several DCRs use the same one, with the path, and a number if need be."""
    names: List[str] = []
    for rule in rules:
        shared = [other for other in rules if other.name == rule.name]
        name = base = rule.name if len(shared) == 1 else "{0} ({1})".format(rule.name, rule.path)
        number = 2
        while name in names:
            name = "{0} #{1}".format(base, number)
            number += 1
        names.append(name)
    return names


def _check(rule: Rule) -> None:
    for key, value, allowed in (
        ("links", rule.links, ("follow", "manage", "ignore")),
        ("type", rule.type, ("file", "directory", "any")),
        ("checksum", rule.checksum, tuple(LENGTHS)),
    ):
        if value not in allowed:
            raise DcrError(
                "The rule for {0} has {1} {2!r}; use one of {3}.".format(
                    quoted(rule.path), key, value, ", ".join(allowed)
                )
            )
    if not is_allowed(rule.checksum):
        rule.forbidden = rule.checksum
        rule.checksum = "none"


def _account_state(path: str) -> bytes:
    """Changes when names of users or groups may have changed."""
    try:
        status = os.stat(path)
    except OSError:
        return b"-"
    return b"%d %d %d %d " % (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _outcome(rule: Rule, max_files: int) -> Source:
    if rule.absent:
        return Source("absent", 0, rule.absent)
    message = rule.notes.message()
    if rule.matched > rule.reported:
        cut = "{0} of {1}; raise the limit of {2} or narrow the rules".format(
            rule.reported, plural(rule.matched, "file"), max_files
        )
        message = cut + ("; " + message if message else "")
    if rule.forbidden:
        reason = "without checksums, because this host forbids {0} (FIPS); set the rule's checksum to sha256"
        message = reason.format(rule.forbidden) + ("; " + message if message else "")
    return Source("failed" if "unseen" in rule.notes or "refused" in rule.notes else "ok", rule.reported, message)
