# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The marks in the fleet store: reads, adds, replaces and removes them. What a mark covers is decided in marks.py."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from ...module_utils._cti.fleet.transaction import Transaction
from ...module_utils._cti.text import line

MAX_LENGTH = 300  # characters of a line
_COLUMNS = "mark, word, what, reason, made_by, made_at, valid_from, valid_until"

Selected = Mapping[str, list[str]]


class Queried(Protocol):
    """A store, or a transaction of one."""

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement gives."""


class StoredMark(NamedTuple):
    """A row of the table `marks`. Times are texts in UTC; empty: there is no such limit."""

    number: int  # 0: it is not stored yet
    word: str
    selected: Selected
    reason: str
    by: str
    made_at: str
    start: str
    end: str
    error: str = ""  # why it cannot be read, if a program wrote it wrongly; it then selects nothing

    def entry(self) -> dict[str, Any]:
        """The mark as a file of marks has it. An acknowledgement without an end covers what was found before it was made."""
        end = self.end
        if not end and self.word == "acknowledge" and "record" not in self.selected:
            end = self.made_at
        about = {"from": self.start, "until": end, "reason": self.reason, "by": self.by}
        return {self.word: self.selected, **{key: text for key, text in about.items() if text}}

    def as_data(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "mark": self.word,
            "selects": self.selected,
            "from": self.start or None,
            "until": self.end or None,
            "reason": self.reason,
            "by": self.by,
            "made_at": self.made_at,
        }

    def replaces(self, other: StoredMark) -> bool:
        """Whether the other one is the same mark: an `ignore` with this selection, or another mark with this selection and time."""
        times = self.word == "ignore" or (self.start, self.end) == (other.start, other.end)
        return self.word == other.word and self.selected == other.selected and times

    def equals(self, other: StoredMark | None) -> bool:
        """Whether both are the same, whenever they were made."""
        return other is not None and self._replace(number=0, made_at="") == other._replace(number=0, made_at="")


def normalized(selected: Mapping[str, Any]) -> Selected:
    """What a mark selects, so that equal selections are equal."""
    return {
        key: sorted({str(one) for one in (value if isinstance(value, list) else [value])})
        for key, value in sorted(selected.items())
    }


def read(store: Queried) -> list[StoredMark]:
    """The marks that can be read, the oldest first."""
    return [mark for mark in read_all(store) if not mark.error]


def read_all(store: Queried) -> list[StoredMark]:
    """All marks, the oldest first."""
    return [_row(*row) for row in store.query(f"SELECT {_COLUMNS} FROM marks ORDER BY mark")]


def _row(number: int, word: Any, what: Any, *texts: Any) -> StoredMark:
    try:
        selected = json.loads(what)
    except (ValueError, TypeError, RecursionError):
        selected = None
    error = ""
    if not isinstance(selected, dict):
        error = f"is not JSON of an object: {str(what)[:80]!r}"
    elif not all(isinstance(text, (str, type(None))) for text in (word, *texts)):
        error = "has a value that is no text"
    if error:
        error = f"The fleet store has a mark that {error}. Delete mark {number} of the table marks (ct_fleet_mark: state=absent number={number})."
        selected = {}
    mark = StoredMark(number, str(word), normalized(selected), *[str(text or "") for text in texts])
    return mark._replace(error=error)


def find(store: Queried, mark: StoredMark) -> StoredMark | None:
    """The stored mark that this one replaces."""
    return next((one for one in read(store) if mark.replaces(one)), None)


def put(transaction: Transaction, mark: StoredMark) -> int:
    """Add a mark, or replace the one that is the same. Returns its number. Raises ValueError."""
    about = (mark.reason, mark.by, mark.made_at, mark.start or None, mark.end or None)
    found = find(transaction, mark)
    if found is not None:
        sql = "UPDATE marks SET reason = ?, made_by = ?, made_at = ?, valid_from = ?, valid_until = ? WHERE mark = ?"
        transaction.execute(sql, *about, found.number)
        return found.number
    number = transaction.number()
    row = (number, mark.word, json.dumps(mark.selected, sort_keys=True), *about)
    transaction.insert("marks", _COLUMNS.split(", "), [row])
    return number


def remove(transaction: Transaction, numbers: Iterable[int]) -> None:
    for number in numbers:
        transaction.execute("DELETE FROM marks WHERE mark = ?", number)


def lines(marks: Iterable[StoredMark]) -> list[str]:
    """A line for each mark, with its number."""
    return [line(_line(mark), MAX_LENGTH) for mark in marks]


def _line(mark: StoredMark) -> str:
    words = [str(mark.number), mark.word]
    words += [f"{key}={','.join(values)}" for key, values in mark.selected.items()]
    words += [f"{word} {at}" for word, at in (("from", mark.start), ("until", mark.end)) if at]
    about = f"by {mark.by}" if mark.by else ""
    return "  ".join([*words, ": ".join(filter(None, (about, mark.reason)))]).rstrip()
