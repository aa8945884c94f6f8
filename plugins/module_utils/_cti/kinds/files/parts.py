# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Makes the parts of a file scan from the listings of directories and from what the state holds of them."""

import os
from typing import TYPE_CHECKING, Dict, FrozenSet, List, Optional, Sequence, Set, Tuple

from ...model import Known, Part
from .budget import Budget
from .file_rules import Claims, Rule, to_text
from .kind import File
from .listing import Found, Listing, signature, slice_name, slice_of
from .marks import Mark, home_id, left_out, parse_mark, period
from .opening import Paths

if TYPE_CHECKING:  # a run that finds all as it was does without
    from .items import Maker

_FORMAT = b"4"  # of the signatures; with another one, no stored signature is relied on


class Parts:
    """Reads what is new or has changed, within the budget. max_files, rehash_days: see scan.Scan."""

    def __init__(self, known: Known, budget: Budget, max_files: int, rehash_days: float) -> None:
        self.replaced: Set[str] = set()  # see Collection
        self.postponed = False  # likewise
        self.beyond: Set[str] = set()  # names of parts beyond max_files, and of postponed ones that are newly tracked
        self._known = known
        self._budget = budget
        self._max_files = max_files
        self._rehash_days = rehash_days
        self._maker: "Optional[Maker]" = None
        self._regrouped: Dict[str, List[File]] = {}  # slice -> what was known of it while its folder was one part
        self._homes: Dict[str, str] = {}  # mount point -> its id
        self._reported = 0

    def begin(self, paths: Paths, now: float) -> None:
        """To be called before the first part; `now` in unix seconds."""
        self._paths = paths
        self._now = now
        self._is_known = any(True for _name in self._known.names())  # else nothing can be left for the next run
        self._basis = _FORMAT + b"".join(_account_state(path) for path in ("/etc/passwd", "/etc/group"))

    def part(self, listing: Listing, last_view: Optional[Listing] = None) -> Optional[Part]:
        """The part of a listing: without items where they are the known ones, or where its owner has no changes left in this
        run. None where there is nothing to report. `last_view`: the listing as the rules of the last run see it, if they are others.
        """
        place = listing.place
        folder = to_text(place.path)
        name = folder + listing.slice_name
        if not self._count(name, listing):
            return None
        stored = self._known.signature(name)
        before = self._before(folder, listing)
        is_empty = not listing.found and (last_view is None or not last_view.found)
        if is_empty and not listing.unsure and not before and stored is None and not listing.left_out:
            return None
        mark = Mark(
            signature(listing, self._basis),
            period(name, self._now, self._rehash_days),
            self._home_id(place.home),
            place.real != place.path,
            place.owner,
        )
        if mark.digest and str(mark) == stored:
            return Part(name, stored, None)
        was = parse_mark(stored)
        again = was.period != mark.period and was.period >= 0
        if again and not self._budget.rehash.left(place.owner):
            again, mark = False, mark._replace(period=was.period)
            if mark.digest and str(mark) == stored:
                return Part(name, stored, None)
        why = self._why_later(place.owner) if place.holder is None else ""
        if why:
            if stored is None and last_view is not None and not last_view.found:
                self.beyond.add(name)  # the next run, for which these rules are the last ones, must not take it for new
            return self._postpone(why, name, listing, mark, stored, before)
        return self._changed_part(name, listing, last_view, mark, was, before, again)

    def _why_later(self, owner: str) -> str:
        """The kind of the note, where the owner's changes are left for the next run; empty otherwise."""
        if not self._budget.changes.left(owner):
            return "postponed"
        return "slow" if self._is_known and not self._budget.seconds(owner, 0) else ""

    def _postpone(
        self, why: str, name: str, listing: Listing, mark: Mark, stored: Optional[str], before: Optional[List[File]]
    ) -> Optional[Part]:
        """Leave the changes of a part for the next run, and what is known of it as it is. `why`: the kind of the note."""
        listing.claims.note(why, listing.place.path, listing.place.owner)
        self.postponed = True
        if before is not None:
            return Part(name, str(mark._replace(digest="")), sorted(before), before=before)
        return None if stored is None else Part(name, stored, None)

    def _changed_part(
        self,
        name: str,
        listing: Listing,
        last_view: Optional[Listing],
        mark: Mark,
        was: Mark,
        before: Optional[List[File]],
        again: bool,
    ) -> Optional[Part]:
        """A part with its items. `was`: the mark that is stored of it. `again`: read all contents, since that is due."""
        known = self._items(name) if before is None else before
        views = [listing] if last_view is None else [listing, last_view]
        mark = self._keep_covered(mark, was, views, known)
        new: FrozenSet[Tuple[str]] = frozenset()
        if listing.left_out or was.left_out or listing.place.holder is not None:
            from . import shared  # few hosts track such a folder

            if listing.left_out:
                shared.keep_left_out(listing, known)
            if listing.place.holder is not None:
                self.postponed |= shared.count_by_owner(listing, known, self._budget.owners, self._why_later)
            for view in views:
                new |= shared.left_out_before(was.left_out, view, known, self._budget.owners)
        is_empty = not listing.found and not listing.unsure and not before and not listing.left_out
        if is_empty and not listing.owners and not (last_view is not None and last_view.found):
            return None
        if self._maker is None:
            from .items import Maker

            self._maker = Maker(self._paths, self._budget)
        start = self._budget.clock()
        items = self._maker.items(listing, known, again)
        by_last_rules = None
        if last_view is not None:
            by_last_rules = self._maker.items_by_others(last_view, known, again, items, listing)
            listing.settled = listing.settled and last_view.settled
        if again:
            self._budget.rehash.spend(listing.place.owner, self._budget.clock() - start)
        if is_empty or not listing.settled:  # the next run looks again, and has no part of an empty directory
            mark = mark._replace(digest=left_out(listing.left_out))
        return Part(name, str(mark), items, frozenset(listing.unsure), "", new, before, listing.owners, by_last_rules)

    def _count(self, name: str, listing: Listing) -> bool:
        """Count the entries for their rules; False where max_files leaves none of them."""
        claims = listing.claims
        if not self._max_files and len(claims.all) == 1:  # nearly always
            claims.all[0].rule.matched += len(listing.found)
            claims.all[0].rule.reported += len(listing.found)
            return True
        for rule, count in _tally(claims, listing.found):
            rule.matched += count
        if self._max_files and self._reported + len(listing.found) > self._max_files:
            if self._reported == self._max_files:
                self.beyond.add(name)
                return False
            listing.cut(self._max_files - self._reported)
        for rule, count in _tally(claims, listing.found):
            rule.reported += count
        self._reported += len(listing.found)
        return True

    def _home_id(self, point: str) -> str:
        if point not in self._homes:
            self._homes[point] = home_id(point)
        return self._homes[point]

    def _items(self, name: str) -> List[File]:
        return [item for item in self._known.items(name) if isinstance(item, File)]

    def _before(self, folder: str, listing: Listing) -> Optional[List[File]]:
        """What is known of a slice, where its folder was one part so far; None otherwise."""
        if not listing.slice_name or self._known.signature(folder) is None:
            return None
        if folder not in self.replaced:
            self.replaced.add(folder)
            self._regrouped = {}
            for item in self._items(folder):
                self._regrouped.setdefault(slice_name(slice_of(item.path)), []).append(item)
        return self._regrouped.pop(listing.slice_name, [])

    def _keep_covered(self, mark: Mark, was: Mark, views: Sequence[Listing], known: Sequence[File]) -> Mark:
        """Treat what was seen on another mount than the directory is on now, and is not there now, as out of sight."""
        if not was.home or was.home == mark.home:
            return mark
        listing = views[0]
        there = {to_text(listing.prefix + name) for view in views for name, _status, _claims in view.found}
        absent = {(item.path,) for item in known if item.path not in there}
        if not absent:
            return mark
        listing.unsure |= absent
        listing.claims.note("covered", listing.place.path)
        return mark._replace(digest="", home=was.home, linked=was.linked)


def _tally(claims: Claims, found: List[Found]) -> List[Tuple[Rule, int]]:
    """The number of entries of each rule."""
    if len(claims.all) == 1:
        return [(claims.all[0].rule, len(found))]
    return [(claim.rule, sum(claim in hits for _name, _status, hits in found)) for claim in claims.all]


def _account_state(path: str) -> bytes:
    """The state of a file of users or groups: it changes whenever their names may have changed."""
    try:
        status = os.stat(path)
    except OSError:
        return b"-"
    return b"%d %d %d %d " % (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
