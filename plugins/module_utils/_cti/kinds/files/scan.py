# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Collects tracked files: one walk for all file items of the data collection rules, which opens only what may have changed."""

import os
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from ...errors import CtiError, SourceFailed, describe_defect
from ...model import Collection, Known, Part, Source
from .budget import REHASH_DAYS, Budget
from .directories import Directories, Frame, NotEntered, weight_of
from .file_rules import Claimants, Claims, Rule, check, outcome, source_names, to_name, to_text
from .listing import NOTHING_READ, Lister, Listing, OpenDirectory, Read, Subdirectories
from .marks import home_id, parse_mark
from .mounts import Mounts
from .opening import Paths
from .owners import ROOT
from .parts import Parts
from .roots import GONE, Roots, join
from .scope import FileRule, parse_path
from .unseen import Unseen

if TYPE_CHECKING:
    from .readers import Reader, Readers

READERS_ABOVE = 2000  # files that one process has read: fewer do not pay for the start of more
READERS = 3  # at most
MAX_LINKS = 8  # to directories, in one path

_tuple = tuple.__new__  # what a NamedTuple's own constructor calls, at a third of the cost
# (descriptor, path, owner, claims) of a directory that is about to be listed; see Scan
Watch = Callable[[int, str, str, Claims], None]


class Scan(Collection):
    """Yields one Part for each directory with tracked entries, named by its path; for a very large one, a Part for each slice.
    The sources have the names of the rules.

    The source of a rule is `absent` where its directory does not exist, and `failed` where a part of it could not be read; what could
    be read is yielded nevertheless. max_files: entries above that number are counted, but not reported; 0: no limit. clock: returns
    unix seconds, which are compared with the time stamps of files. rehash_days: days within which every content is read
    again, whatever its time stamps; 0: never. watch: called for each directory that the scan has entered, before it lists it, with
    the open descriptor, the path as OpenDirectory has it, on whose account the directory counts, and the claims of the rules on it.
    A directory that several paths lead to is watched once for each. last_rules: other rules, those of the last run; each part also has
    its items by these. None: the rules are the same. Raises DcrError for an invalid rule.
    """

    def __init__(
        self,
        rules: Sequence[FileRule],
        known: Known,
        max_files: int = 0,
        clock: Callable[[], float] = time.time,
        rehash_days: float = REHASH_DAYS,
        budget: Optional[Budget] = None,
        watch: Optional[Watch] = None,
        last_rules: Optional[Sequence[FileRule]] = None,
    ) -> None:
        super().__init__()
        self._known = known
        self._max_files = max_files
        self._clock = clock
        self._budget = budget or Budget()
        self._watch = watch
        self._parts = Parts(known, self._budget, max_files, rehash_days)
        self.replaced = self._parts.replaced
        self._rules = [
            (name, Rule(number, rule), parse_path(rule.path))
            for number, (name, rule) in enumerate(zip(source_names(rules), rules))
        ]
        self._compares_rules = last_rules is not None
        self._last_rules = [
            (Rule(len(rules) + number, rule), parse_path(rule.path)) for number, rule in enumerate(last_rules or ())
        ]
        for rule in [*(rule for _name, rule, _spec in self._rules), *(rule for rule, _spec in self._last_rules)]:
            check(rule)
        self._pending: Dict[str, Claimants] = {}  # roots of rules the walk did not reach so far
        self._roots: Dict[str, str] = {}  # path -> real path
        self._merged: Dict[Claimants, Claims] = {}
        self._unseen = Unseen(self._budget.hidden)
        self._later: Set[str] = set()  # names of parts that are gone, or may be, which a later run reports
        self._seen: Set[str] = set()  # names of parts yielded
        self._names: Optional[List[str]] = None  # of the known parts, sorted
        self._read_at_once = 0  # files
        self._readers: Optional[Readers] = None
        self._reader: Optional[Reader] = None  # in the process of a reader
        self._complete = False

    def __iter__(self) -> Iterator[Part]:
        try:
            mounts = Mounts.read()
        except SourceFailed as error:
            self.sources = {name: Source("failed", 0, str(error)) for name, _rule, _spec in self._rules}
            self.unseen = ["/"]
            return
        self._paths = Paths(mounts)
        try:
            yield from self._scan()
        finally:
            if self._readers is not None:
                self._readers.end()
            self._paths.close()

    def _scan(self) -> Iterator[Part]:
        self._directories = Directories(self._paths, self._budget)
        self._lister = Lister(self._paths, self._clock, self._budget)
        self._parts.begin(self._paths, self._clock())
        self._sliced = {name.rpartition("//")[0] for name in self._known.names() if "//" in name}
        roots = Roots(self._paths, self._budget, self._hide)
        for _name, rule, spec in self._rules:
            roots.place(rule, spec)
        for rule, spec in self._last_rules:
            roots.place(rule, spec)
        self._pending, self._roots = roots.claims, roots.reals
        parts = self._all_parts()
        for part in parts:
            if self._readers is None and self._read_at_once > READERS_ABOVE and "//" not in part.name:
                self._start_readers(parts)
            self._seen.add(part.name)
            yield part
            del part  # not in memory while the next one is made
        self._judge_gone()
        for name, rule, _spec in self._rules:
            self.sources[name] = outcome(rule, self._max_files)
        self.unseen = sorted(self._parts.beyond.union(self._unseen.names()))
        self.postponed = self._parts.postponed
        self._complete = True

    def _all_parts(self) -> Iterator[Part]:
        for path in sorted(self._roots):
            if path in self._pending:
                yield from self._walk(path, self._roots[path])

    def _start_readers(self, parts: Iterator[Part]) -> None:
        """Start readers, which do not return from here, where there are CPUs for them. `parts`: see _all_parts()."""
        from . import cpus, readers  # few scans need them

        self._readers = readers.Readers()
        self._reader = self._readers.start(min(READERS, cpus.usable() - 1))
        if self._reader is not None:
            self._readers = self._watch = None  # which are the scan's alone
            self._paths.reopen()
            self._reader.run(parts)

    def out_of_sight(self, part: str) -> bool:
        if not self._complete or part in self._parts.beyond or part in self._later:
            return True
        return self._unseen.has(part)

    def _hide(self, path: str, owner: str = ROOT) -> None:
        self._unseen.add(to_text(path), owner)

    def _judge_gone(self) -> None:
        """Tell the known parts that are gone from those that a mount hides, and from those that are too many for one run."""
        homes: Set[str] = set()
        changes = self._budget.changes
        for name in self._known.names():
            if name in self._seen or name in self.replaced or name in self._parts.beyond or self._unseen.has(name):
                continue
            if not homes:
                self._paths.read_mounts()  # a mount may have come or gone since the scan looked there
                homes = {home_id(point) for point in self._paths.mounts.kinds}
            path = name.partition("//")[0] or "/"
            if self._unseen.may_have(name) and self._paths.may_have_folder(to_name(path)):
                self._later.add(name)
                continue
            mark = parse_mark(self._known.signature(name))
            # Behind a link, the mount point of the path is not the one that counts.
            point = self._paths.mounts.of(to_name(path))
            if mark.home and (mark.home not in homes or not (mark.linked or mark.home == home_id(point))):
                if self._known.count(name):
                    self._note_over("covered", path)
                self._hide(to_name(path), mark.owner)
            elif not changes.left(mark.owner):
                self._note_over("postponed", path, mark.owner)
                self._later.add(name)
            else:
                changes.spend(mark.owner, weight_of(path) * self._known.count(name))

    def _note_over(self, kind: str, path: str, why: str = "") -> None:
        """Note a path in the rules that reach it."""
        for _name, rule, spec in self._rules:
            root = spec.directory.rstrip("/") + "/" + (spec.name if spec.syntax == "literal" else "")
            if path == spec.directory or (path + "/").startswith(root):
                rule.notes.add(kind, path, why)

    def _walk(self, path: str, real: str) -> Iterator[Part]:
        """Walk a tree, depth first. Each directory stays open until those below it are done, which are opened relative to it."""
        root = Frame(path, "", real, self._paths.mounts.of(real), (), None, 0, ROOT)
        levels: List[Tuple[int, Iterator[Frame]]] = [(-1, iter((root,)))]
        try:
            while levels:
                directory, frames = levels[-1]
                frame = next(frames, None)
                if frame is None:
                    levels.pop()
                    if directory >= 0:
                        os.close(directory)
                    continue
                claims = self._claims_on(frame)
                place = self._enter(directory, frame, claims, len(levels))
                if place is not None:
                    levels.append((place.descriptor, iter(())))
                    if self._watch is not None:
                        self._watch_directory(self._watch, place, claims)
                    listings: List[Subdirectories] = []
                    yield from self._visit(place, frame, claims, listings)
                    levels[-1] = (place.descriptor, self._below(place, frame, claims, listings))
        finally:
            for directory, _frames in levels[1:]:
                os.close(directory)

    def _enter(self, directory: int, frame: Frame, claims: Claims, depth: int) -> Optional[OpenDirectory]:
        """Open a directory; None where it is gone, or where it must not be entered, which is noted."""
        try:
            return self._directories.open(directory, frame, depth)
        except NotEntered as refusal:
            if refusal.kind != "loop":
                self._hide(frame.path, refusal.owner or self._directories.holder(directory, frame))
            claims.note(refusal.kind, frame.path, refusal.why)
        except OSError as error:
            if error.errno not in GONE:
                claims.note("unseen", frame.path, str(error.strerror))
                self._hide(frame.path, self._directories.holder(directory, frame))
        finally:
            self._pending.pop(frame.path, None)
        return None

    def _visit(
        self, place: OpenDirectory, frame: Frame, claims: Claims, listings: List[Subdirectories]
    ) -> Iterator[Part]:
        """The parts of an open directory; `listings` gets the subdirectories of each."""
        name = to_text(place.path)
        sliced = name in self._sliced
        # Contents are read at once only where they can be reported: a run that postpones them would read them in vain. What others
        # than root have is read later, when it is known on whose account.
        is_first = not (place.owner or sliced or self._known.signature(name)) and self._budget.changes.left(ROOT)
        number = self._directories.direct if is_first and not frame.links else 0
        first = self._first_read(place, number) if is_first else None
        self._budget.owner = place.owner
        try:
            if self._reader is not None:
                listings.append(self._reader.visit(self._lister, place, claims, number))
                return
            for listing in self._listings(place, claims, first, sliced):
                for hidden, owner in listing.hidden:
                    self._hide(listing.prefix + hidden, owner)
                for owner in listing.left_out:
                    self._unseen.add_owner(name, owner)
                self._judge_mounts(listing, claims)
                self._read_at_once += len(listing.checksums)
                if self._compares_rules:
                    part = self._parts.part(*map(listing.view, self._views(claims)))
                else:
                    part = self._parts.part(listing)
                if part is not None:
                    before = self._known.changes
                    yield part
                    if self._known.changes != before:
                        self._spend_changes(listing, name, self._known.changes - before)
                listings.append(listing.subdirectories)
                del listing, part  # see _scan()
        except (OSError, SourceFailed) as error:  # after some parts were yielded
            claims.note("unseen", place.path, getattr(error, "strerror", None) or str(error))
            self._hide(place.path, place.owner)
        except CtiError:
            raise
        except Exception as error:  # a defect must not affect the other directories
            claims.note("unseen", place.path, describe_defect(error))
            self._hide(place.path, place.owner)

    def _listings(self, place: OpenDirectory, claims: Claims, first: Optional[Read], sliced: bool) -> Iterator[Listing]:
        """The listing of a directory. One of more than SLICED_ABOVE entries or PART_PATHS bytes, or one that is `sliced` already,
        has a listing for each of SLICES slices."""
        listing = None if sliced else self._lister.list_whole(place, claims, first)
        if listing is not None:
            yield listing
            return
        from .sliced import listings  # few hosts have such a folder

        yield from listings(self._lister, place, claims, first is not None)

    def _first_read(self, place: OpenDirectory, number: int) -> Read:
        """What readers have read of a directory of which nothing is known. `number`: see Reader.visit()."""
        if self._readers is None or not number:
            return NOTHING_READ
        return self._readers.take(number, place.identity)

    def _spend_changes(self, listing: Listing, name: str, changes: int) -> None:
        """Count the changes of a part for the owners of the entries, as far as these are known."""
        weight = weight_of(name)
        for owner, number in listing.changed.items():
            number = min(number, changes)
            self._budget.changes.spend(owner, weight * number)
            changes -= number
        self._budget.changes.spend(listing.place.owner, weight * changes)

    def _claims_on(self, frame: Frame) -> Claims:
        claimants = frame.claims
        if frame.path in self._pending:
            claimants = tuple(sorted(claimants + self._pending[frame.path], key=lambda claim: claim.rule.number))
        return self._merge(claimants)

    def _merge(self, claimants: Claimants) -> Claims:
        claims = self._merged.get(claimants)
        if claims is None:
            claims = self._merged[claimants] = Claims(claimants)
        return claims

    def _views(self, claims: Claims) -> Tuple[Claims, Claims]:
        """The claims of the rules, and those of the rules of the last run."""
        own = tuple([claim for claim in claims.all if claim.rule.number < len(self._rules)])
        return self._merge(own), self._merge(claims.all[len(own) :])  # noqa: E203

    def _watch_directory(self, watch: Watch, place: OpenDirectory, claims: Claims) -> None:
        if self._compares_rules:
            claims = self._views(claims)[0]
        if claims.all:
            watch(place.descriptor, place.path, place.owner, claims)

    def _judge_mounts(self, listing: Listing, claims: Claims) -> None:
        """Treat everything below a mount that is not entered as out of sight."""
        for name in listing.mounts:
            path = listing.prefix + name
            self._hide(path, listing.place.owner)
            if self._knows_below(to_text(path)):
                claims.note("covered", path)

    def _knows_below(self, path: str) -> bool:
        if self._names is None:
            self._names = sorted(self._known.names())
        at = bisect_left(self._names, path + "/")
        below = at < len(self._names) and self._names[at].startswith(path + "/")
        return below or self._known.signature(path) is not None

    def _below(
        self, place: OpenDirectory, frame: Frame, claims: Claims, listings: List[Subdirectories]
    ) -> Iterator[Frame]:
        if not claims.below:
            return
        above = (*place.identity, frame.above)
        prefix = place.path.rstrip("/") + "/"
        for subdirectories in listings:
            for name, behind in subdirectories:
                path = prefix + name
                if behind is None:
                    real = join(place.real, name)
                    yield _tuple(Frame, (path, name, real, place.home, claims.below, above, frame.links, frame.linker))
                elif frame.links < MAX_LINKS:
                    real, linker = behind
                    home = self._paths.mounts.of(real)
                    yield Frame(path, "", real, home, claims.behind, above, frame.links + 1, linker)
                else:
                    claims.note("deep", path)
