# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_fleet_info: answers questions about a fleet from the fleet store, on the controller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from ansible.plugins.action import ActionBase

from ..module_utils._cti.errors import CtiError
from ..module_utils._cti.fleet.errors import FleetMissing
from ..module_utils._cti.fleet.store import open_store
from ..module_utils._cti.kinds.packages.versions import parse_condition
from ..module_utils._cti.kinds.registry import all_kinds
from ..module_utils._cti.text import line, plural
from ..plugin_utils._bounded import calm, calm_data
from ..plugin_utils._fleet import (
    actors,
    comparison,
    groups,
    health,
    history,
    identities,
    inventories,
    mark_store,
    marks,
    play_results,
    totals,
)
from ..plugin_utils._fleet.changes import ADDED, MODIFIED, REMOVED
from ..plugin_utils._fleet.selection import NONE, check_hosts, location, matching, moment, past, selecting

ASK = ("changes", "actors", "versions", "outliers", "compare", "hosts", "marks")
OF_CHANGES = ("changes", "actors")
ALL, LINES = FORMATS = ("all", "lines")
OF_ITEMS = ("versions", "outliers", "compare")
# The questions that an option is for. All others ignore it.
IS_FOR = {
    **dict.fromkeys(("since", "until", "categories", "levels", "actors"), OF_CHANGES),
    **dict.fromkeys(("items", "kinds"), (*OF_CHANGES, *OF_ITEMS)),
    "at": OF_ITEMS,
    **dict.fromkeys(("reference", "reference_at"), ("compare",)),
    "hosts": (*OF_CHANGES, *OF_ITEMS, "hosts"),
}
BRIEF = ("lines", "totals", "left_out", "warnings")  # of an answer without data
HIDE, SHOW, ONLY = MARKED = ("hide", "show", "only")
MOST = 100_000  # entries of a result
MOST_LINES = 1000
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
    "version": {"type": "str"},
    "majority": {"type": "int", "default": 90},
    "stale_after": {"type": "raw", "default": "2d"},
    "limit": {"type": "int", "default": 1000},
    "results": {"type": "str"},
    "format": {"type": "str", "choices": list(FORMATS), "default": ALL},
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
        if self.arguments["version"] is not None:
            return ["packages"]
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
            with _reading(where, asked) as store:
                warnings = _ignored(arguments) + (
                    _check_hosts(store, asked) + _too_early(store, asked) if store and not arguments["results"] else []
                )
                answer = ANSWERS[arguments["ask"]](store, asked)
                warnings += answer.pop("warnings", [])
                if arguments["format"] == LINES:
                    answer = {name: value for name, value in answer.items() if name in BRIEF}
                answer = calm_data({**answer, **({"warnings": warnings} if warnings else {})})
        except (CtiError, ValueError) as error:
            return {"failed": True, "msg": calm(str(error))}
        return {"changed": False, **answer}


def _location(arguments):
    """Where the store is; empty: there is none. Raises ValueError."""
    if not 0 < arguments["limit"] <= MOST:
        raise ValueError(f"The value of limit is {arguments['limit']}. Give a number from 1 to {MOST}.")
    if not 50 < arguments["majority"] <= 100:
        raise ValueError(f"The value of majority is {arguments['majority']}. Give a percentage from 51 to 100.")
    if arguments["version"] is not None and (
        arguments["ask"] != "versions" or arguments["kinds"] not in (None, ["packages"])
    ):
        raise ValueError(
            "The option version selects versions of packages. Give ask=versions with it, and no other kinds."
        )
    if arguments["results"] is not None and arguments["ask"] not in OF_CHANGES:
        raise ValueError("The option results is for changes. Leave out results, or ask.")
    if arguments["results"] is not None and arguments["store"].strip() in ("", NONE):
        return ""
    return location(arguments["store"])


def _ignored(arguments):
    """Return a warning for each option that the question ignores."""
    ask = arguments["ask"]
    return [
        f"The option {option} is ignored with ask={ask}. It is for {' and '.join(questions)}."
        for option, questions in IS_FOR.items()
        if arguments[option] and ask not in questions
    ]


@contextmanager
def _reading(where, asked):
    """A store whose content stays the same while it is read; None where there is none, which a question about results can do without."""
    try:
        store = open_store(where) if where else None
    except FleetMissing:
        if asked.arguments["results"] is None:
            raise
        store = None
    if store is None:
        yield None
    else:
        with store, store.reading():
            yield store


def _check_hosts(store, asked):
    """Return a warning for each name of a host, group or pattern that matches no host. Raises ValueError if none of them does."""
    known = {name for (name,) in store.query("SELECT name FROM hosts")}
    if asked.arguments["ask"] == "hosts":
        known.update(asked.groups.get("all", []))
    warnings = []
    for option in ("hosts", "reference"):
        names = asked.arguments[option]
        if names:
            warnings += check_hosts(option, names, asked.groups, known)
    return warnings


def _too_early(store, asked):
    """Return a warning if the inventory of an earlier time is asked for that the store does not have."""
    arguments = asked.arguments
    if arguments["ask"] not in OF_ITEMS:
        return []
    hosts = {"at": arguments["hosts"], "reference_at": arguments["reference"] or arguments["hosts"]}
    names = sorted(
        {
            name
            for option, selected in hosts.items()
            if arguments[option] is not None
            for name in inventories.unknown_at(store, selecting(selected, asked.groups), asked.moment(option, end=True))
        }
    )
    if not names:
        return []
    more = f" and {plural(len(names) - 1, 'other host')}" if len(names) > 1 else ""
    return [
        f"The store has nothing of {names[0]}{more} from before that time. The first inventory is used instead, which may be different."
    ]


# --- changes


def _found(store, asked):
    """Return the changes that the options select, those of them that are not hidden by a mark, and warnings."""
    arguments = asked.arguments
    warnings = []
    since = None if arguments["since"] is None else past(arguments["since"], "since")
    until = asked.moment("until", end=True)
    if None not in (since, until) and since >= until:
        raise ValueError("The value of until is not after that of since. Give a later until.")
    if arguments["results"] is not None:
        records, more = play_results.read(asked.task_vars, arguments["results"], asked.selects)
    else:
        records, more = history.read(store, since, until, asked.selects)
    if more:
        warnings.append(
            f"There are more than {history.MOST_CHANGES} changes, and the others are left out. Give since, until or hosts."
        )
    stored, wrong = marks.from_store(store, asked.groups) if store else ([], [])
    warnings += wrong
    every_mark = stored + marks.from_option(arguments["marks"], asked.groups)
    found = list(filter(_wanted(arguments), history.attributed(store, records, every_mark)))
    if store:
        warnings += identities.warnings(store, history.drifted(found))
    shown = [one for one in found if arguments["marked"] == SHOW or bool(one.mark) == (arguments["marked"] == ONLY)]
    return found, shown, warnings


def _changes(store, asked):
    arguments = asked.arguments
    found, shown, warnings = _found(store, asked)
    together = groups.grouped(shown)
    limit = arguments["limit"]
    lines = groups.lines(together, min(limit, MOST_LINES))
    lines += totals.not_shown(found, bool(lines)) if arguments["marked"] == HIDE else []
    if arguments["group"]:
        entries = [one.entry() for one in together[:limit]]
    else:
        entries = [groups.entry(one) for one in shown[:limit]]
    return {
        "changes": entries,
        "left_out": len(together if arguments["group"] else shown) - len(entries),
        "totals": totals.of(found, shown),
        "lines": lines or (["No changes."] if arguments["results"] is None else []),
        **({"warnings": warnings} if warnings else {}),
    }


def _actors(store, asked):
    found, shown, warnings = _found(store, asked)
    entries, limit = actors.by_actor(shown), asked.arguments["limit"]
    lines = _cut(actors.lines(entries[:limit]), "actor")
    lines += totals.not_shown(found, bool(lines)) if asked.arguments["marked"] == HIDE else []
    return {
        "actors": entries[:limit],
        "left_out": max(0, len(entries) - limit),
        "totals": totals.of(found, shown),
        "lines": lines or ["No changes."],
        "warnings": warnings,
    }


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
            and (  # noqa: W503
                not arguments["actors"]
                or (ran is not None and is_actor(ran.user))  # noqa: W503
                or ("ChangedBy" in change.values and is_actor(str(change.values["ChangedBy"])))  # noqa: W503
            )
        )

    return wanted


# --- inventories


def _read(store, asked, selects, at):
    items = asked.arguments["items"]
    return inventories.read(store, selects, asked.kinds, items, matching(items), at)


def _now(store, asked):
    return _read(store, asked, asked.selects, asked.moment("at", end=True))


def _versions(store, asked):
    arguments, found = asked.arguments, _now(store, asked)
    meets = None if arguments["version"] is None else comparison.meeting(_condition(arguments["version"]))
    named = bool(arguments["items"]) and not any(set("*?[") & set(name) for name in arguments["items"])
    entries = comparison.versions(found, meets, with_lacking=named and meets is None)
    nothing = "No host has such an item." if meets is None else "No host has such a version."
    answer = _listed(entries, asked, nothing, of_one_host=len(found.hosts) == 1)
    names = {key.name for key in found.variants}
    answer["lines"] += [
        line(f"{name}  no host has it", groups.MAX_LENGTH) for name in arguments["items"] if named and name not in names
    ]
    return answer


def _condition(text):
    try:
        return parse_condition(text)
    except CtiError:
        raise ValueError(
            f"The value of version is {text[:80]!r}. Give one of < <= = != >= > and a version, such as '< 3.0.2' or '>= 1:2.4-1'."
        ) from None


def _outliers(store, asked):
    return _listed(
        comparison.outliers(_now(store, asked), asked.arguments["majority"] / 100), asked, "No host differs."
    )


def _compare(store, asked):
    reference, at = asked.arguments["reference"], asked.moment("reference_at", end=True)
    if not reference and at is None:
        raise ValueError(
            "There is nothing to compare with. Give reference, a host or a group, or reference_at, a time."
        )
    if not reference:
        return _listed(
            comparison.moved(_read(store, asked, asked.selects, at), _now(store, asked)), asked, "No host differs."
        )
    other = _read(store, asked, selecting(reference, asked.groups), at)
    return _listed(comparison.differences(other, _now(store, asked)), asked, "No host differs.")


def _listed(entries, asked, nothing, of_one_host=False):
    limit = asked.arguments["limit"]
    shown = list(islice(entries, limit))
    lines = comparison.lines(shown[:MOST_LINES], of_one_host) or [nothing]
    left_out = sum(1 for _one in entries)
    more = left_out + max(0, len(shown) - MOST_LINES)
    if more:
        lines.append(f"{plural(more, 'more item')} not shown")
    return {"found": shown, "left_out": left_out, "lines": lines}


# --- hosts and marks


def _cut(lines, noun):
    """Return the lines, up to MOST_LINES of them."""
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"{plural(len(lines) - MOST_LINES, f'more {noun}')} not shown"]
    return lines


def _hosts(store, asked):
    stale_before = past(asked.arguments["stale_after"], "stale_after")
    selects = asked.selects
    every = list(health.hosts(store, selects, stale_before))
    known = {one["host"] for one in every}
    missing = sorted(host for host in asked.groups.get("all", []) if host not in known and selects(host))
    limit = asked.arguments["limit"]
    lines = _cut(health.lines(every, missing), "host")
    return {
        "hosts": every[:limit],
        "missing": missing[:limit],
        "left_out": max(0, len(every) - limit) + max(0, len(missing) - limit),
        "totals": {
            **dict.fromkeys(health.STATUSES, 0),
            **Counter(one["status"] for one in every),
            "missing": len(missing),
        },
        "lines": lines or [f"{plural(len(every), 'host')}, all ok" if every else "The fleet store has no hosts yet."],
    }


def _marks(store, asked):
    every = mark_store.read(store)
    limit = asked.arguments["limit"]
    _used, warnings = marks.from_store(store, asked.groups)
    return {
        "marks": [mark.as_data() for mark in every[:limit]],
        "left_out": max(0, len(every) - limit),
        "lines": _cut(mark_store.lines(every[:limit]), "mark") or ["The fleet store has no marks."],
        "warnings": warnings,
    }


ANSWERS = {
    "changes": _changes,
    "actors": _actors,
    "versions": _versions,
    "outliers": _outliers,
    "compare": _compare,
    "hosts": _hosts,
    "marks": _marks,
}
