# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Reads the history of a host: what follows a consumer's place in it. Asking uses nothing up."""

import json
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ..kinds.kind import Row
from ..text import plural, printable, quoted
from .database import Database
from .history import read_row
from .packing import inflate
from .place import Place, Since

PAGE_RECORDS = 10000  # returned at once; the rest of the last row comes along
PAGE_BYTES = 16 << 20  # likewise, of JSON
REST = "The rest comes with the next run that gives history.place as since."


class Page(NamedTuple):
    """What follows a place in the history."""

    records: List[Row]
    place: Optional[Place]  # of the last one, for the next question. None: no state, or one of an older version
    first: Optional[int]  # number of the oldest change that is kept
    last: Optional[int]  # number of the newest change
    missed: int  # changes after the place asked for that are no longer kept
    damaged: int  # changes that are kept and cannot be read
    remaining: int  # changes that follow this page
    restarted: bool  # the place is not one of this state, so the page begins with the oldest change
    begins_at: int = 0  # when the history begins, if that is after the time asked for


NOTHING = Page([], None, None, None, 0, 0, 0, False)


class History(Database):
    """The history of the state at `path`, read only. Raises StateError."""

    def __init__(self, path: str, owner: Optional[int] = None, leave_no_files: bool = False) -> None:
        super().__init__(path, True, owner, leave_no_files)

    def follow(self, since: Since, until: Optional[int] = None) -> Page:
        """What follows `since`, oldest first, up to the number `until`."""
        now, first, dropped_at = self._begin()
        if now is None:
            return self._of_version_2()
        start, missed = self._start(since, now, first, dropped_at)
        if start is None:
            return self._page(0, now, first, now.number)._replace(restarted=True)
        end = now.number if until is None else min(now.number, until)
        page = self._page(start, now, first, end)
        missed += page.missed
        begins_at = dropped_at if since.at is not None and since.at < dropped_at and not missed else 0
        return page._replace(missed=missed, begins_at=begins_at)

    def end(self, number: Optional[int] = None) -> Page:
        """No changes, and the place after the last one, or after that `number`."""
        now, first, _dropped_at = self._begin()
        if now is None:
            return NOTHING
        number = now.number if number is None else number
        return self._page(number, now, first, number)

    def latest(self) -> Page:
        """The newest changes, about as many as one page holds, oldest first."""
        now, first, _dropped_at = self._begin()
        if now is None:
            return self._of_version_2()
        start, size = first - 1, 0
        statement = "SELECT last, count, length(records) FROM history ORDER BY last DESC LIMIT ?"
        records = 0
        for last, count, length in self._query(statement, PAGE_RECORDS + 1):
            records += count
            size += length
            if records > PAGE_RECORDS or size > PAGE_BYTES // 4:  # four times that, once unpacked
                start = last
                break
        return self._page(start, now, first, now.number)._replace(missed=0)

    def _begin(self) -> Tuple[Optional[Place], int, int]:
        """The end of the history, the number of the oldest change that is kept (one more than the end where none is), and
        when the newest one was stored that is not, or the history began; all that is read from here on is of one moment."""
        self._query("BEGIN")
        for state, last, last_mark, dropped_at in self._query("SELECT id, last, mark, dropped_at FROM state", since=3):
            oldest = self._query("SELECT last - count + 1 FROM history ORDER BY last LIMIT 1")
            return Place(state, last, last_mark), oldest[0][0] if oldest else last + 1, dropped_at
        return None, 0, 0

    def _start(self, since: Since, now: Place, first: int, dropped_at: int) -> Tuple[Optional[int], int]:
        """The number after which the page begins, and how many changes before it are missed. None: the place is not ours."""
        if since.at is not None:
            found = self._query("SELECT last - count FROM history WHERE stored_at >= ? ORDER BY last LIMIT 1", since.at)
            start = found[0][0] if found else now.number
            return start, (start - self._kept(0, start) if since.at <= dropped_at else 0)
        if since.number is not None:
            given: Optional[Place] = Place(now.state, since.number, "")
        else:
            given = next((place for place in reversed(since.places) if place.state == now.state), None)
        if given is None or not self._is_ours(given, now):
            return None, 0
        return (first - 1 if since.number == 0 else given.number), 0

    def _is_ours(self, given: Place, now: Place) -> bool:
        """Whether the change of that number, if it is still kept, is the one that the consumer has."""
        if given.number >= now.number:
            return given.number == now.number and given.mark in ("", now.mark)
        kept = self._kept(given.number - 1, given.number)
        return not given.mark or not kept or given.mark == self._mark(given.number)

    def _kept(self, start: int, end: int) -> int:
        """How many of the changes after the number `start` up to `end` are kept."""
        statement = "SELECT sum(min(last, ?) - max(last - count, ?)) FROM history WHERE last > ? AND last - count < ?"
        return self._query(statement, end, start, start, end)[0][0] or 0

    def _mark(self, number: int) -> str:
        rows = self._query("SELECT mark FROM history WHERE last = ?", number)
        return str(rows[0][0]) if rows else ""

    def _page(self, start: int, now: Place, first: int, end: int) -> Page:
        """The changes after the number `start` up to `end`."""
        records: List[Row] = []
        reached, damaged, missed, size = start, 0, 0, 0
        while len(records) < PAGE_RECORDS and size < PAGE_BYTES:
            statement = "SELECT last, count, records FROM history WHERE last > ? AND last <= ? ORDER BY last LIMIT 1"
            found = self._query(statement, reached, end)
            if not found:
                missed += max(0, end - reached)
                reached = max(reached, end)
                break
            last, count, packed = found[0]
            missed += max(0, last - count - reached)
            had = max(0, count - (last - reached))  # a consumer with a number of its own may have a part of the row
            try:
                raw = inflate(packed)
                records += read_row(raw, count)[had:]
                size += len(raw)
            except ValueError:
                damaged += count - had
            reached = last
        place = now if reached == now.number else Place(now.state, reached, self._mark(reached))
        oldest = first if first <= now.number else None
        remaining = self._kept(reached, end) if reached < end else 0
        return Page(records, place, oldest, now.number, missed, damaged, remaining, False)

    def _of_version_2(self) -> Page:
        """Changes without numbers, as they are until a run stores something."""
        records: List[Row] = []
        for (packed,) in self._query("SELECT records FROM history ORDER BY id", since=2):
            records += self._unpack(packed)
        return NOTHING._replace(records=records)


def describe(page: Page, path: str) -> Dict[str, Any]:
    """`history` as the modules return it."""
    return {
        "state": page.place.state if page.place else None,
        "path": printable(path),
        "place": str(page.place) if page.place else None,
        "first": page.first,
        "last": page.last,
        "missed": page.missed + page.damaged,
        "remaining": page.remaining,
        "restarted": page.restarted,
    }


def answer(
    store: Any, since: Optional[Since], found: Optional[List[Row]], warn: Callable[[str], None]
) -> Dict[str, Any]:
    """The results `history` and `changes` of a run with a state, whose context `store` has ended.

    Without `since`, `changes` are those of the run; `found` are these, None where they are not wanted. Those of a run that
    stores nothing come last, and `not_stored` is their number. `warn` is called as run_host() has it. Raises StateError.
    """
    path = os.path.abspath(store.path)
    until, asked = None, since
    if since is None:
        until = store.after.number if store.after is not None else None
        since = Since(places=[store.before]) if store.before is not None and found else None
    with History(path) as history:
        page = history.follow(since, until) if since is not None else history.end(until)
    if store.ignored:
        page = NOTHING
    for text in warnings(page, path, asked):
        warn(text)
    result: Dict[str, Any] = {"history": describe(page, path)}
    if since is not None or found is not None:
        result["changes"] = page.records
    if store.read_only:
        shown = _first_page(found or [])
        if found and len(shown) < len(found):
            warn(
                "%d of %d changes that this run found in check mode are returned. Run without check mode to get all."
                % (len(shown), len(found))
            )
        result["history"]["not_stored"] = len(shown)
        result["changes"] = [*result.get("changes", ()), *shown]
    return result


def _first_page(records: List[Row]) -> List[Row]:
    """As many of the records as one page holds."""
    size = 0
    for number, record in enumerate(records[:PAGE_RECORDS]):
        size += len(json.dumps(record))
        if size > PAGE_BYTES:
            return records[:number]
    return records[:PAGE_RECORDS]


def warnings(page: Page, path: str, since: Optional[Since] = None) -> List[str]:
    """Say why a consumer did not get what it asked for: one text for each reason. `since`: what it asked for."""
    name = quoted(path)
    texts = []
    if since is not None:
        from .since import misses  # sent where since is given

        texts = misses(since, name, page.last or 0, page.restarted, page.begins_at)
    if page.restarted and not texts:
        texts.append(
            "The place given as since is not in the history of %s: the state was removed, restored from a backup, or belongs to"
            " another machine or user. All changes that are kept are returned." % name
        )
    elif page.missed and not page.restarted:
        texts.append(
            "%s no longer kept in the history of %s. Ask more often, or raise history_days or history_mib."
            % (plural(page.missed, "change", "is"), name)
        )
    if page.damaged:
        texts.append("%s damaged and left out, in the history of %s." % (plural(page.damaged, "change", "is"), name))
    if page.remaining and not (since is not None and since.paged):
        texts.append(
            "%d of %d changes are returned. %s" % (len(page.records), len(page.records) + page.remaining, REST)
        )
    return texts
