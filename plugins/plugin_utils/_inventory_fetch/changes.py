# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes that follow a place in the history of a host. The host returns a page at a time and is asked until there are no more.

The limits are as large as what one run of a host stores at the most, so a user's flood of changes does not delay those of the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...module_utils._cti.packed import CHANGES, MAX_BYTES, Packer, to_json
from ...module_utils._cti.packed_reader import MAX_VALUES, accepted
from .._bounded import MAX_NOTES, taken
from . import places
from .places import Kept

MAX_CHANGES = 100_000
# No further page is asked for once there is that much. One more page is within the limits of packed_reader.py.
ENOUGH_CHANGES = 80_000
ENOUGH_BYTES = 224 << 20  # of JSON
ENOUGH_SECONDS = 600.0
MAX_EMPTY_PAGES = 10  # a real host returns none while changes follow

Row = dict[str, Any]


class Changes:
    """The changes of one host. The first page is `changes`, which the host returned with `history`. For a further one, `ask` returns the
    host's answer to the place it is given; None: there is none to be asked for. Raises ValueError where the host returned something else.
    """

    def __init__(
        self, changes: Any, history: Row, to: Kept | None, ask: Callable[[str], Mapping[str, Any]] | None
    ) -> None:
        self.to = to  # the place after the changes so far; None: the host has none
        self.history = dict(history)
        self.warnings: list[str] = []
        self.stopped = ""  # why there are more changes than these
        self.count = 0
        self._bytes = self._values = self._empty_pages = 0
        self._first = self._checked(changes)
        self._ask = ask
        self._packer = Packer()

    def rows(self) -> Iterator[Row]:
        """Each change. To be iterated once, and before the other members are used."""
        until = time.monotonic() + ENOUGH_SECONDS
        self._packer.begin(CHANGES)
        page: list[Row] | None = self._first
        while page is not None:
            for row in page:
                self._packer.put(to_json(row))
                self.count += 1
                yield row
            page = self._next(until) if self.remaining else None
        self._packer.end()

    @property
    def remaining(self) -> int:
        return _number_of(self.history, "remaining")

    def packed(self) -> str:
        return self._packer.text()

    def _next(self, until: float) -> list[Row] | None:
        """The next page; None where there is none, for the reason `stopped`."""
        if self._ask is None or self.to is None:
            self.stopped = "check mode returns one page"
        elif self.count >= ENOUGH_CHANGES or self._bytes >= ENOUGH_BYTES:
            self.stopped = f"one run fetches about {ENOUGH_CHANGES} changes, or {ENOUGH_BYTES >> 20} MiB"
        elif time.monotonic() >= until:
            self.stopped = f"one run takes {ENOUGH_SECONDS / 60:.0f} minutes for them"
        else:
            try:
                return self._read(self._ask(self.to.place), self.to)
            except (ValueError, RecursionError) as error:
                self.stopped = str(error)
        return None

    def _read(self, answer: Mapping[str, Any], before: Kept) -> list[Row]:
        result = taken(answer, {"history": dict})
        if result.get("failed") or result.get("unreachable"):
            raise ValueError(str(result.get("msg", "the host did not return them")))
        page = self._checked(answer.get("changes"))
        history: Any = result.get("history")
        to = next_place(history)
        same = to is not None and places.state(to) == places.state(before) and not history.get("restarted")
        if to is None or not same or places.number(to) <= places.number(before):
            raise ValueError("the history of the host was replaced")
        if self.count + len(page) > MAX_CHANGES:
            raise ValueError(f"they are more than {MAX_CHANGES}")
        self._empty_pages += not page
        if self._empty_pages > MAX_EMPTY_PAGES:
            raise ValueError(f"the host returned {self._empty_pages} pages without changes")
        self._warn(result.get("warnings", ()))
        missed = _number_of(self.history, "missed") + _number_of(history, "missed")
        self.history.update(
            {key: history[key] for key in ("place", "last", "remaining") if key in history}, missed=missed
        )
        self.to = Kept(to.place, before.path)
        return page

    def _checked(self, changes: Any) -> list[Row]:
        """The changes of a page. Raises ValueError if they are not a list of records, or ct_unpack would refuse them."""
        if (
            not isinstance(changes, list)
            or len(changes) > MAX_CHANGES  # noqa: W503
            or not all(isinstance(row, dict) for row in changes)  # noqa: W503
        ):
            raise ValueError(f"its changes are not a list of at most {MAX_CHANGES} records")
        rows = []
        for change in changes:
            row, values, size = accepted(change)
            self._values += values
            self._bytes += size + 1  # and what separates it from the next one
            if self._values > MAX_VALUES or self._bytes > MAX_BYTES - 100:  # what is around all of them
                raise ValueError(f"they are more than {MAX_BYTES >> 20} MiB, or {MAX_VALUES} values")
            rows.append(row)
        return rows

    def _warn(self, texts: list[str]) -> None:
        """Keep warnings of a further page that are not kept yet, up to MAX_NOTES."""
        for text in texts:
            if text not in self.warnings and len(self.warnings) <= MAX_NOTES:
                last = f"Further warnings of the host, after the first {MAX_NOTES}, are not shown."
                self.warnings.append(text if len(self.warnings) < MAX_NOTES else last)


def next_place(history: Any) -> Kept | None:
    """The place after the changes that the host returned; None in check mode without a state. Raises ValueError."""
    try:
        return None if history["place"] is None and "not_stored" in history else places.kept(history)
    except (KeyError, TypeError):
        raise ValueError("the place in its history is missing") from None


def _number_of(history: Row, name: str) -> int:
    """The value of a member that is a number of changes; 0 if it cannot be one."""
    value = history.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18 else 0
