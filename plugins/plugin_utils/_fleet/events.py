# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the fleet store as events for Event-Driven Ansible, in the order in which they were stored.

Events get into extra variables of playbooks, and there Ansible evaluates templates. So no text in them is one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...module_utils._cti.fleet.errors import FleetMissing
from ...module_utils._cti.fleet.store import Store, open_store
from ...module_utils._cti.text import timestamp
from .._bounded import calm
from . import history, marks
from .groups import entry
from .names import is_of, usable
from .selection import moment

AT_ONCE = 1_000  # changes
WAIT_SECONDS = 2.0  # for new changes
REOPEN_SECONDS = 60.0  # so that a store that was moved aside is not read for ever
NOW, EVERYTHING = "now", "all"
# What makes a text a template: a delimiter, or the header by which a text gives itself other delimiters.
_TEMPLATE = re.compile(r"\{(?=[{%#])|\A#(?=jinja2:)")
_COLUMNS = ("Seq", "HostId", *history.COLUMNS)


class Event(NamedTuple):
    seq: int
    data: dict[str, Any]

    @property
    def uuid(self) -> str:
        return str(self.data["meta"]["uuid"])


class Batch(NamedTuple):
    events: list[Event]
    reached: int  # the number of the last change that was read, also if it is no event
    skipped: list[
        str
    ]  # names of hosts whose changes are no events, because Ansible would not take the name for that of one host
    warnings: list[str]  # of marks that cannot be used


class Events:
    """Reads the store. All methods raise FleetError, and belong to one thread."""

    def __init__(self, where: str, via: list[str], mark_option: Any) -> None:
        self._where = where
        self._via = via
        self._marks = mark_option
        self._store: Store | None = None
        self._until = 0.0

    def start(self, since: str) -> int:
        """The number after which the events begin that were found since `now`, `all`, or a time."""
        try:
            store = self._opened()
        except FleetMissing:
            return 0  # all that will be in it is new
        if since == EVERYTHING:
            return 0
        if since == NOW:
            return store.counter()
        sql = "SELECT min(Seq) FROM ConfigurationChange WHERE TimeGenerated >= ?"
        first = store.query(sql, timestamp(moment(since, "since")))[0][0]
        return store.counter() if first is None else int(first) - 1

    def after(self, place: int) -> Batch:
        """The events after this place; none after a wait of WAIT_SECONDS without any. If the store has fewer numbers than the place,
        it is a new one, and read from its beginning."""
        store = self._opened()
        with store.checking():
            counter = store.counter()
            if counter < place:
                place = 0
            batch = self._read(store, place)
            if batch.reached == place and store.wait(counter, WAIT_SECONDS) > counter:
                batch = self._read(store, place)
            return batch

    def close(self) -> None:
        if self._store is not None:
            store, self._store = self._store, None
            store.close()

    def _opened(self) -> Store:
        if time.monotonic() > self._until:
            self.close()
        if self._store is None:
            self._store = open_store(self._where)
            self._until = time.monotonic() + REOPEN_SECONDS
        return self._store

    def _read(self, store: Store, place: int) -> Batch:
        with store.reading():
            sql = f"{history.selected(store, _COLUMNS)} WHERE Seq > ? ORDER BY Seq LIMIT ?"
            rows = list(store.rows(sql, place, AT_ONCE))
            if not rows:
                return Batch([], place, [], [])
            via = dict(store.query("SELECT host, via FROM hosts"))
            stored, wrong = marks.from_store(store, {})
            every_mark = stored + marks.from_option(self._marks, {})
            found = list(history.attributed(store, _context(store, rows), every_mark))
        first, last = rows[0]["Seq"], rows[-1]["Seq"]
        events, skipped = [], set()
        for one in found:
            values = one.change.values
            if first <= values["Seq"] <= last and is_of(via[values["HostId"]], self._via):
                if usable(one.change.host, via[values["HostId"]]):
                    events.append(Event(values["Seq"], _event(one)))
                else:
                    skipped.add(one.change.host)
        return Batch(sorted(events, key=lambda event: event.seq), last, sorted(skipped), wrong)


def _context(store: Store, rows: list[dict[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows, and those of the same host and time that the limit has cut off before and after them: attribution looks at them together."""
    known = {row["Seq"]: row for row in rows}
    for edge in (rows[0], rows[-1]):
        sql = f"{history.selected(store, _COLUMNS)} WHERE HostId = ? AND TimeGenerated = ? LIMIT ?"
        for row in store.rows(sql, edge["HostId"], edge["TimeGenerated"], history.MOST_CHANGES):
            known.setdefault(row["Seq"], row)
    return [
        (str(row["Host"]), {name: value for name, value in row.items() if value is not None}) for row in known.values()
    ]


def _event(found: history.Found) -> dict[str, Any]:
    change = {name: _harmless(value) for name, value in entry(found).items() if value is not None}
    return {"change": change, "meta": {"hosts": found.change.host, "uuid": change["record"]}}


def _harmless(value: Any) -> Any:
    """The same data, with texts that are no templates, and safe to show in a terminal."""
    if isinstance(value, str):
        return _TEMPLATE.sub(r"\g<0> ", calm(value))
    if isinstance(value, Mapping):
        return {key: _harmless(element) for key, element in value.items() if element is not None}
    if isinstance(value, bytes):
        raise TypeError("bytes are no text")
    return [_harmless(element) for element in value] if isinstance(value, (list, tuple)) else value
