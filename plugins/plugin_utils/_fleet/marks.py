# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks of changes: what is ignored, what happened in a maintenance window, and what somebody has acknowledged.

A mark deletes nothing. It says of a change why it needs no attention. Marks are in a file, in an option, or in the table `marks` of
the fleet store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import yaml

from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.kinds.registry import all_kinds
from ...module_utils._cti.text import plural
from . import mark_store
from .changes import ADDED, MODIFIED, REMOVED, Change
from .selection import Groups, matching, moment, selecting

IGNORE, WINDOW, ACKNOWLEDGE = WORDS = ("ignore", "window", "acknowledge")
MOST = 10_000
MAX_BYTES = 8 << 20
MOST_WRONG = 3  # marks that are named in warnings
_ABOUT = ("from", "until", "reason", "by")
_CATEGORIES = (ADDED, REMOVED, MODIFIED)
_FIELDS = dict.fromkeys(name for kind in all_kinds().values() for name in kind.columns[1:])


class Mark(NamedTuple):
    word: str
    reason: str
    by: str
    valid: tuple[float, float]  # Unix seconds
    applies: Callable[[Change], bool]  # whatever the time

    def covers(self, change: Change) -> bool:
        start, end = self.valid
        if self.word == WINDOW:
            since, until = _when(change)
            within = since < end and until >= start
        else:
            within = start <= change.until < end
        return within and self.applies(change)


def _when(change: Change) -> tuple[float, float]:
    """When a change happened, at the earliest and at the latest: by the item's own time, if it has one that fits."""
    own = change.installed if change.kind == "packages" else change.modified
    if own is not None and change.since <= own <= change.until and not change.removed:
        return own, own
    return change.since, change.until


def first(marks: Iterable[Mark], change: Change) -> Mark | None:
    """The first mark that covers a change."""
    return next((mark for mark in marks if mark.covers(change)), None)


def from_store(store: Store, groups: Groups) -> tuple[list[Mark], list[str]]:
    """The marks of the table `marks`; and warnings of those that a program wrote wrongly, which cover nothing."""
    made, wrong = [], []
    for mark in mark_store.read_all(store):
        where = f" of the fleet store (ct_fleet_mark removes it with state=absent number={mark.number})"
        try:
            if mark.error:
                raise ValueError(mark.error)
            made.append(from_entry(mark.entry(), groups, where))
        except (ValueError, OverflowError) as error:
            wrong.append(str(error))
    more = len(wrong) - MOST_WRONG
    if more > 0:
        wrong[MOST_WRONG:] = [
            f"{plural(more, 'other mark')} of the fleet store cannot be used, either. Correct or delete these, and ask again."
        ]
    return made, wrong


def from_option(value: Any, groups: Groups) -> list[Mark]:
    """The marks of a list, or of a YAML or JSON file with a list. Raises ValueError."""
    if value in (None, "", []):
        return []
    where = ""
    if isinstance(value, str):
        where = f" in {value!r}"
        value = _read(value)
    if not isinstance(value, list):
        raise ValueError(f"The marks{where} are not a list. Give a list of marks, or the path of a YAML file with one.")
    if len(value) > MOST:
        raise ValueError(f"There are {len(value)} marks{where}. Give at most {MOST}.")
    made = [from_entry(entry, groups, where) for entry in value]
    for entry, (start, end) in zip(value, (mark.valid for mark in made)):
        if start >= end:
            raise ValueError(f"The mark {str(entry)[:100]!r}{where} ends before it begins. Give a later until.")
    return made


def _read(path: str) -> Any:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return yaml.safe_load(file.read(MAX_BYTES)) or []
    except OSError as error:
        raise ValueError(
            f"Cannot read the marks {path!r} on the controller ({error.strerror}). Give the path of a YAML file."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"The marks {path!r} are not YAML: {' '.join(str(error).split())[:200]}") from None


def from_entry(entry: Any, groups: Groups, where: str = "") -> Mark:
    """A mark: {word: what it selects, from, until, reason, by}. Raises ValueError."""
    shown = f"The mark {str(entry)[:100]!r}{where}"
    words = [word for word in WORDS if isinstance(entry, Mapping) and word in entry]
    if len(words) != 1:
        raise ValueError(f"{shown} has {len(words)} of the keys {', '.join(WORDS)}. Give exactly one.")
    (word,) = words
    unknown = [str(key) for key in entry if key not in (word, *_ABOUT)]
    if unknown:
        raise ValueError(f"{shown} has the unknown key {unknown[0][:80]!r}. The keys are {word}, {', '.join(_ABOUT)}.")
    selected = entry[word] if entry[word] is not None else {}
    if not isinstance(selected, Mapping):
        raise ValueError(f"{shown}: {word} is not a mapping, such as {{kind: files, item: /etc/adjtime}}.")
    if word == WINDOW and ("from" not in entry or "until" not in entry):
        raise ValueError(f"{shown} has no beginning or no end. Give from and until.")
    if word != WINDOW and not selected:
        raise ValueError(f"{shown} selects every change. Give at least one of {', '.join(_SELECTORS)}.")
    if word == ACKNOWLEDGE and "until" not in entry and "record" not in selected:
        raise ValueError(
            f"{shown} would acknowledge what has not happened yet. Give until, the time up to which you have looked, or record."
        )
    try:
        start = moment(entry["from"], "from") if "from" in entry else float("-inf")
        end = moment(entry["until"], "until", end=True) if "until" in entry else float("inf")
        applies = _applies(selected, groups)
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from None
    return Mark(word, str(entry.get("reason") or ""), str(entry.get("by") or ""), (start, end), applies)


def _applies(selected: Mapping[str, Any], groups: Groups) -> Callable[[Change], bool]:
    tests: list[Callable[[Change], bool]] = []
    for key, value in selected.items():
        if key not in _SELECTORS:
            raise ValueError(f"unknown key {str(key)[:80]!r}. The keys are {', '.join(_SELECTORS)}.")
        values = [str(one) for one in (value if isinstance(value, list) else [value])]
        tests.append(_SELECTORS[key](values, groups))
    return lambda change: all(test(change) for test in tests)


def _kind(values: list[str], _groups: Groups) -> Callable[[Change], bool]:
    return _one_of("kind", values, all_kinds(), lambda change: change.kind)


def _category(values: list[str], _groups: Groups) -> Callable[[Change], bool]:
    return _one_of("category", values, _CATEGORIES, lambda change: change.category)


def _one_of(key: str, values: list[str], known: Iterable[str], of: Callable[[Change], str]) -> Callable[[Change], bool]:
    _check(key, values, known)
    return lambda change: of(change) in values


def _check(key: str, values: list[str], known: Iterable[str]) -> None:
    wrong = [value for value in values if value not in known]
    if wrong:
        raise ValueError(f"{key} is {wrong[0][:80]!r}. Give some of {', '.join(known)}.")


def _item(values: list[str], _groups: Groups) -> Callable[[Change], bool]:
    matches = matching(values)
    return lambda change: matches(change.name)


def _fields(values: list[str], _groups: Groups) -> Callable[[Change], bool]:
    """Those of which nothing else changed."""
    _check("fields", values, _FIELDS)
    known = frozenset(values)
    return lambda change: bool(change.fields) and change.fields <= known


def _hosts(values: list[str], groups: Groups) -> Callable[[Change], bool]:
    selects = selecting(values, groups)
    return lambda change: selects(change.host)


def _record(values: list[str], _groups: Groups) -> Callable[[Change], bool]:
    known = frozenset(values)
    return lambda change: change.values.get("RecordId") in known


def _login(values: list[str], _groups: Groups) -> Callable[[Change], bool]:
    """Those that the host says these logins made."""
    matches = matching(values)
    return lambda change: bool(change.values.get("ChangedBy")) and matches(str(change.values["ChangedBy"]))


_SELECTORS: dict[str, Callable[[list[str], Groups], Callable[[Change], bool]]] = {
    "kind": _kind,
    "item": _item,
    "fields": _fields,
    "category": _category,
    "hosts": _hosts,
    "record": _record,
    "login": _login,
}
