# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_fleet_info: answers questions about a fleet from the fleet store, on the controller."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from itertools import islice
from typing import Any, NamedTuple

from ansible.plugins.action import ActionBase

from ..module_utils._cti.errors import CtiError
from ..module_utils._cti.fleet.errors import FleetMissing
from ..module_utils._cti.fleet.store import URLS, open_store
from ..module_utils._cti.kinds.registry import all_kinds
from ..module_utils._cti.packed_reader import PackedError
from ..module_utils._cti.records import RECORD_ID, change_columns
from ..module_utils._cti.text import plural
from ..plugin_utils._bounded import calm
from ..plugin_utils._fleet import comparison, groups, health, history, inventories, marks
from ..plugin_utils._fleet.changes import ADDED, MODIFIED, REMOVED
from ..plugin_utils._fleet.selection import matching, moment, selecting
from ..plugin_utils._results import change_rows

ASK = ("changes", "versions", "outliers", "compare", "hosts")
HIDE, SHOW, ONLY = MARKED = ("hide", "show", "only")
NONE = "none"
MOST = 100_000  # entries of a result
MOST_LINES = 1000
COLUMNS = (RECORD_ID, *change_columns())  # of a change in a result
ARGUMENTS = {
    "ask": {"type": "str", "choices": list(ASK), "default": "changes"},
    "store": {"type": "str", "default": "inventory/fleet.db"},
    "since": {"type": "raw"},
    "until": {"type": "raw"},
    "at": {"type": "raw"},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "kinds": {"type": "list", "elements": "str", "choices": list(all_kinds())},
    "items": {"type": "list", "elements": "str", "default": []},
    "categories": {"type": "list", "elements": "str", "choices": [ADDED, REMOVED, MODIFIED]},
    "levels": {"type": "list", "elements": "str", "choices": list(history.LEVELS)},
    "actors": {"type": "list", "elements": "str", "default": []},
    "marks": {"type": "raw"},
    "marked": {"type": "str", "choices": list(MARKED), "default": HIDE},
    "group": {"type": "bool", "default": True},
    "reference": {"type": "list", "elements": "str", "default": []},
    "reference_at": {"type": "raw"},
    "majority": {"type": "int", "default": 90},
    "stale_after": {"type": "raw", "default": "2d"},
    "limit": {"type": "int", "default": 1000},
    "results": {"type": "str"},
}


class Asked(NamedTuple):
    """What the options select."""

    arguments: Mapping[str, Any]
    groups: Mapping[str, Any]  # of the Ansible inventory
    task_vars: Mapping[str, Any]

    @property
    def selects(self):
        return selecting(self.arguments["hosts"], self.groups)

    @property
    def kinds(self):
        return self.arguments["kinds"] or list(all_kinds())

    def moment(self, option, end=False):
        value = self.arguments[option]
        return None if value is None else moment(value, option, end)


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            where = _location(arguments)
            asked = Asked(arguments, task_vars.get("groups") or {}, task_vars)
            with _opened(where, asked) as store, store.reading() if store else nullcontext():
                if store and not arguments["results"]:
                    _check_hosts(store, asked)
                answer = ANSWERS[arguments["ask"]](store, asked)
        except (CtiError, ValueError) as error:
            return {"failed": True, "msg": calm(str(error))}
        return {"changed": False, **_calm(answer)}


def _location(arguments):
    """Where the store is; empty: there is none. Raises ValueError."""
    store = arguments["store"].strip()
    if not 0 < arguments["limit"] <= MOST:
        raise ValueError(f"The value of limit is {arguments['limit']}. Give a number from 1 to {MOST}.")
    if not 50 < arguments["majority"] <= 100:
        raise ValueError(f"The value of majority is {arguments['majority']}. Give a percentage from 51 to 100.")
    if store in ("", NONE):
        if arguments["results"] is None:
            raise ValueError("There is no fleet store to ask. Give its path or URL as store.")
        return ""
    return store if store.startswith(URLS) else os.path.abspath(os.path.expanduser(store))


def _opened(where, asked):
    """Return the store; None where there is none, which a question about results can do without."""
    try:
        return open_store(where) if where else nullcontext()
    except FleetMissing:
        if asked.arguments["results"] is None:
            raise
        return nullcontext()


def _check_hosts(store, asked):
    """Raise ValueError where an option selects no host."""
    known = [name for (name,) in store.query("SELECT name FROM hosts")]
    if asked.arguments["ask"] == "hosts":
        known += asked.groups.get("all", [])
    for option in ("hosts", "reference"):
        names = asked.arguments[option]
        if names and not any(map(selecting(names, asked.groups), known)):
            raise ValueError(
                f"No host in the fleet store matches the value of {option}, {', '.join(names)[:200]!r}. Give names or groups of hosts, or"
                " patterns such as web*."
            )


# --- changes


def _changes(store, asked):
    arguments = asked.arguments
    warnings = []
    if arguments["results"] is not None:
        records = list(islice(_of_results(asked), history.MOST_CHANGES + 1))
        more = len(records) > history.MOST_CHANGES
    else:
        records, more = history.read(store, asked.moment("since"), asked.moment("until", end=True), asked.selects)
    if more:
        warnings.append(
            f"There are more than {history.MOST_CHANGES} changes, and the others are left out. Give since, until or hosts."
        )
    every_mark = (marks.from_store(store, asked.groups) if store else []) + marks.from_option(
        arguments["marks"], asked.groups
    )
    found = list(filter(_wanted(arguments), history.attributed(store, records, every_mark)))
    shown = [one for one in found if arguments["marked"] == SHOW or bool(one.mark) == (arguments["marked"] == ONLY)]
    together = groups.grouped(shown)
    limit = arguments["limit"]
    lines = groups.lines(together, min(limit, MOST_LINES))
    lines += _marked(found, arguments["marked"], bool(lines))
    if arguments["group"]:
        entries = [one.entry() for one in together[:limit]]
    else:
        entries = [groups.entry(one) for one in shown[:limit]]
    return {
        "changes": entries,
        "left_out": len(together if arguments["group"] else shown) - len(entries),
        "totals": _totals(found, shown),
        "lines": lines,
        **({"warnings": warnings} if warnings else {}),
    }


def _of_results(asked):
    """(host, record) of each change in the results of the hosts of the play."""
    selects = asked.selects
    for host in asked.task_vars.get("ansible_play_hosts_all", ()):
        result = asked.task_vars["hostvars"][host].get(asked.arguments["results"])
        if not isinstance(result, Mapping) or not selects(host):
            continue
        with suppress(PackedError):
            for row in change_rows(result):
                if not isinstance(row, Mapping):
                    continue
                yield str(host), {name: row[name] for name in COLUMNS if isinstance(row.get(name), (str, int))}


def _wanted(arguments):
    """Return whether a change is what the options select, whatever the mark."""
    kinds, categories, levels = (arguments[option] or () for option in ("kinds", "categories", "levels"))
    is_item, is_actor = matching(arguments["items"]), matching(arguments["actors"])

    def wanted(found):
        change, ran = found.change, found.ran
        return (
            (not kinds or change.kind in kinds)
            and (not categories or change.category in categories)  # noqa: W503
            and (not levels or found.attribution.level in levels)  # noqa: W503
            and is_item(change.name)  # noqa: W503
            and (not arguments["actors"] or (ran is not None and is_actor(ran.user)))  # noqa: W503
        )

    return wanted


def _totals(found, shown):
    levels = Counter(one.attribution.level for one in shown)
    words = Counter(one.mark.word for one in found if one.mark)
    return {
        "changes": len(shown),
        "hosts": len({one.change.host for one in shown}),
        **{level: levels[level] for level in history.LEVELS},
        **{word: words[word] for word in marks.WORDS},
    }


def _marked(found, marked, below):
    """A line with the number of marked changes that are not shown."""
    words = Counter(one.mark.word for one in found if one.mark)
    if marked != HIDE or not words:
        return []
    said = {marks.IGNORE: "ignored", marks.WINDOW: "in a maintenance window", marks.ACKNOWLEDGE: "acknowledged"}
    return [""] * below + [
        "Not shown: " + ", ".join(f"{words[word]} {said[word]}" for word in marks.WORDS if words[word])
    ]


# --- inventories


def _read(store, asked, selects, at):
    items = asked.arguments["items"]
    return inventories.read(store, selects, asked.kinds, items, matching(items), at)


def _now(store, asked):
    return _read(store, asked, asked.selects, asked.moment("at", end=True))


def _versions(store, asked):
    return _listed(comparison.versions(_now(store, asked)), asked)


def _outliers(store, asked):
    return _listed(comparison.outliers(_now(store, asked), asked.arguments["majority"] / 100), asked)


def _compare(store, asked):
    reference, at = asked.arguments["reference"], asked.moment("reference_at", end=True)
    if not reference and at is None:
        raise ValueError(
            "There is nothing to compare with. Give reference, a host or a group, or reference_at, a time."
        )
    if not reference:
        return _listed(comparison.moved(_read(store, asked, asked.selects, at), _now(store, asked)), asked)
    other = _read(store, asked, selecting(reference, asked.groups), at)
    return _listed(comparison.differences(other, _now(store, asked)), asked)


def _listed(entries, asked):
    limit = asked.arguments["limit"]
    shown = list(islice(entries, limit))
    lines = comparison.lines(shown[:MOST_LINES])
    left_out = sum(1 for _one in entries)
    if left_out:
        lines.append(f"{plural(left_out, 'more item')} not shown")
    return {"found": shown, "left_out": left_out, "lines": lines}


# --- hosts


def _hosts(store, asked):
    seconds = time.time()
    stale_before = moment(asked.arguments["stale_after"], "stale_after")
    selects = asked.selects
    if stale_before > seconds:
        raise ValueError("The value of stale_after is in the future. Give an age such as 2d.")
    every = list(health.hosts(store, selects, stale_before))
    known = {one["host"] for one in every}
    missing = sorted(host for host in asked.groups.get("all", []) if host not in known and selects(host))
    limit = asked.arguments["limit"]
    return {
        "hosts": every[:limit],
        "missing": missing[:limit],
        "left_out": max(0, len(every) - limit) + max(0, len(missing) - limit),
        "totals": {
            **dict.fromkeys(health.STATUSES, 0),
            **Counter(one["status"] for one in every),
            "missing": len(missing),
        },
        "lines": health.lines(every, missing)[:MOST_LINES],
    }


ANSWERS = {"changes": _changes, "versions": _versions, "outliers": _outliers, "compare": _compare, "hosts": _hosts}


def _calm(value):
    """The same data, with texts of hosts that are safe to show in a terminal."""
    if isinstance(value, str):
        return calm(value)
    if isinstance(value, Mapping):
        return {key: _calm(element) for key, element in value.items()}
    return list(map(_calm, value)) if isinstance(value, (list, tuple)) else value
