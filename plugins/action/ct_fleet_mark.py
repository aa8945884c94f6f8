# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_fleet_mark: adds and removes marks of changes in the fleet store, on the controller."""

from __future__ import annotations

import time
from typing import NamedTuple

import yaml
from ansible.plugins.action import ActionBase

from ..module_utils._cti.errors import CtiError
from ..module_utils._cti.fleet.store import open_store
from ..module_utils._cti.kinds.registry import all_kinds
from ..module_utils._cti.text import plural, timestamp
from ..plugin_utils._bounded import calm, calm_data
from ..plugin_utils._fleet import history, mark_store, marks
from ..plugin_utils._fleet.changes import ADDED, MODIFIED, REMOVED
from ..plugin_utils._fleet.runs import user
from ..plugin_utils._fleet.selection import location, moment, selecting

PRESENT, ABSENT = STATES = ("present", "absent")
FOREVER = "9999-12-31"
AHEAD = 300.0  # seconds that the clock of a host may be ahead
# Options, and what they are called in a mark.
SELECTORS = {
    "kinds": "kind",
    "items": "item",
    "categories": "category",
    "fields": "fields",
    "hosts": "hosts",
    "records": "record",
    "logins": "login",
}
ARGUMENTS = {
    "mark": {"type": "str", "choices": [marks.ACKNOWLEDGE, marks.IGNORE, marks.WINDOW], "default": marks.ACKNOWLEDGE},
    "state": {"type": "str", "choices": list(STATES), "default": PRESENT},
    "store": {"type": "str", "default": "inventory/fleet.db"},
    "kinds": {"type": "list", "elements": "str", "choices": list(all_kinds())},
    "items": {"type": "list", "elements": "str"},
    "categories": {"type": "list", "elements": "str", "choices": [ADDED, REMOVED, MODIFIED]},
    "fields": {"type": "list", "elements": "str"},
    "hosts": {"type": "list", "elements": "str"},
    "records": {"type": "list", "elements": "str"},
    "logins": {"type": "list", "elements": "str"},
    "from": {"type": "raw"},
    "until": {"type": "raw"},
    "reason": {"type": "str"},
    "by": {"type": "str"},
    "number": {"type": "int"},
}


class Covered(NamedTuple):
    """Changes in the store that a mark covers."""

    changes: int
    hosts: int
    latest: float  # Unix seconds, when the last one was found; 0: there is none
    warnings: list[str]


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec=ARGUMENTS, required_if=[("state", PRESENT, ("reason",))]
        )
        groups = (task_vars or {}).get("groups") or {}
        try:
            where = location(arguments["store"])
            if arguments["state"] == PRESENT:
                result = _add(where, arguments, groups, self._task.check_mode)
            else:
                result = _remove(where, arguments, self._task.check_mode)
        except (CtiError, ValueError) as error:
            return {"failed": True, "msg": calm(str(error))}
        before, after = result.pop("before"), result.pop("after")
        result = calm_data(result)
        if self._task.diff:
            result["diff"] = {"before": _shown(before), "after": _shown(after)}
        return result


def _add(where, arguments, groups, check_mode):
    if arguments["number"] is not None:
        raise ValueError("The option number selects a mark to remove. Give state=absent with it.")
    mark = _asked(arguments)
    with open_store(where) as store, store.reading():
        covered = _covered(store, mark, groups)
        if mark.word == marks.ACKNOWLEDGE and not mark.end and "record" not in mark.selected:
            mark = mark._replace(end=timestamp(covered.latest + 1))
        before = mark_store.find(store, mark)
    changed = not mark.equals(before)
    mark = mark._replace(number=before.number if before else 0)
    if not changed:
        mark = before
    elif not check_mode:
        with open_store(where, write=True) as store, store.writing() as transaction:
            mark = mark._replace(number=mark_store.put(transaction, mark))
    return {
        "changed": changed,
        "marks": [mark.as_data()],
        "covered": {"changes": covered.changes, "hosts": covered.hosts},
        **({"warnings": covered.warnings} if covered.warnings else {}),
        "before": [before] if before else [],
        "after": [mark],
    }


def _remove(where, arguments, check_mode):
    with open_store(where) as store:
        before = _to_remove(mark_store.read_all(store), arguments)
    if before and not check_mode:
        with open_store(where, write=True) as store, store.writing() as transaction:
            mark_store.remove(transaction, [mark.number for mark in before])
    return {"changed": bool(before), "marks": [mark.as_data() for mark in before], "before": before, "after": []}


def _to_remove(every, arguments):
    """Return the stored marks with this number, or with this selection and the times that are given."""
    number, selected = arguments["number"], _selected(arguments)
    is_selected = bool(selected) or (arguments["mark"] == marks.WINDOW and number is None)
    if is_selected == (number is not None):
        raise ValueError(
            "Give the number of the mark to remove, or what it selects, and not both. The module ct_fleet_info lists the marks with ask=marks."
        )
    if number is not None:
        return [mark for mark in every if mark.number == number]
    wanted = _asked(arguments)
    return [
        mark
        for mark in every
        if not mark.error
        and (mark.word, mark.selected) == (wanted.word, wanted.selected)  # noqa: W503
        and wanted.start in ("", mark.start)  # noqa: W503
        and wanted.end in ("", mark.end)  # noqa: W503
    ]


def _asked(arguments):
    """Return the mark of the options. Raises ValueError."""
    start, end = (_time(arguments[option], option) for option in ("from", "until"))
    if start and end and start >= end:
        raise ValueError("The value of until is not after that of from. Give a later until.")
    return mark_store.StoredMark(
        number=0,
        word=arguments["mark"],
        selected=_selected(arguments),
        reason=arguments["reason"] or "",
        by=user() if arguments["by"] is None else arguments["by"],
        made_at=str(timestamp(time.time())),
        start=start,
        end=end,
    )


def _time(value, option):
    return "" if value is None else timestamp(moment(value, option, end=option == "until"))


def _selected(arguments):
    return mark_store.normalized({key: arguments[option] for option, key in SELECTORS.items() if arguments[option]})


def _covered(store, mark, groups):
    """Count what a mark covers of the changes in the store. Raises ValueError if the mark is wrong, or acknowledges nothing.

    When a change was found is what its host says. An acknowledgement without an end does not cover what was found later than now:
    a host whose clock is a year ahead would have the changes of all hosts acknowledged for a year.
    """
    if not mark.selected and mark.word != marks.WINDOW:
        raise ValueError(f"The mark selects every change. Give at least one of {', '.join(SELECTORS)}.")
    nothing_yet = mark.word == marks.ACKNOWLEDGE and not mark.end
    end = mark.end
    if nothing_yet:
        end = FOREVER if "record" in mark.selected else timestamp(time.time() + AHEAD)
    checked = marks.from_entry(mark._replace(end=end).entry(), groups)
    start = checked.valid[0]
    hosts = selecting(mark.selected.get("hosts", ()), groups)
    records, _more = history.read(store, start if start > 0 else None, None, hosts)
    selected = [change for change in history.changes_of(records) if checked.applies(change)]
    changes = [change for change in history.with_installed(store, selected) if checked.covers(change)]
    later = [change.host for change in selected if nothing_yet and change.until >= checked.valid[1]]
    warnings = []
    if later:
        warnings.append(
            f"{plural(len(later), 'change')} of {min(later)}{' and others' if len(set(later)) > 1 else ''} not acknowledged: by the clock of the"
            " host, it was found later than now. Correct the clock, and acknowledge it with records."
        )
    if nothing_yet and not changes:
        raise ValueError(
            warnings[0]
            if warnings
            else "No change in the fleet store is selected, so there is nothing to acknowledge. Correct the selection; ct_fleet_info lists the"
            " changes."
        )
    latest = max((change.until for change in changes), default=0.0)
    return Covered(len(changes), len({change.host for change in changes}), latest, warnings)


def _shown(every):
    """Return marks as YAML, for the difference."""
    return yaml.safe_dump(calm_data([mark.entry() for mark in every]), sort_keys=False) if every else ""
