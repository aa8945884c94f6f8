# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_table: from the results of a fleet to the lines of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..module_utils._cti.kinds.registry import all_kinds
from ..module_utils._cti.packed_reader import PackedError
from ..module_utils._cti.records import change_columns, change_line
from ..module_utils._cti.text import line, plural
from ..plugin_utils._results import change_rows
from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_table
short_description: Show the inventory results of a fleet as a table
version_added: "0.1.0"
description:
  - Returns one line per host, with its counts, the number of changes, the sources that failed, and the file items of the rule that cannot
    be used. The changes of each host follow, up to 20 per host and 1,000 lines in all.
  - A count with C(*) includes items that could not be read in this run. They are those of an earlier run. A line below the table says so.
  - Of more than 20 hosts, a line below the table names the first ten with problems.
  - The number of changes is that of the changes in the result. With M(changetracking.inventory.ct_inventory_fetch), these are all
    changes since the last run with the same O(changetracking.inventory.ct_inventory_fetch#module:dest). If a result lists no
    changes, it is the number that the run found.
  - Texts that a host returned are cut to the length of a line, and their control characters are replaced.
positional: _input, hostvars
options:
  _input:
    description: Names of the hosts, in the order of the rows.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of all hosts.
    type: dict
    required: true
  register:
    description: Name of the variable in which each host keeps its result of M(changetracking.inventory.ct_inventory_info)
      or M(changetracking.inventory.ct_inventory_fetch).
    type: str
    default: ct_inventory
  changes:
    description: Whether to list the changes of each host below the table.
    type: bool
    default: true
seealso:
  - module: changetracking.inventory.ct_inventory_fetch
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Collect the inventory
  changetracking.inventory.ct_inventory_info:
  register: ct_inventory

- name: Show the table
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | changetracking.inventory.ct_table(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The lines of the table.
  type: list
  elements: str
"""

HEADER = ("HOST", *(kind.upper() for kind in all_kinds()), "CHANGES", "PROBLEMS")
CATEGORIES = ("Added", "Removed", "Modified")
KEPT = "*"  # behind a count
KEPT_MEANS = "* includes items of an earlier run, because their source cannot be read now (see PROBLEMS)"
MAX_CHANGES = 20  # of one host
MAX_LINES = 1000  # with changes
MAX_PROBLEMS = 3  # of one host
MANY = 20  # hosts, from which on those with problems are named below the table
NAMED = 10  # of them
MAX_LENGTH = 300  # characters of a problem, or of a change
# What the file scan says of one path, of which the table shows the path and the reason.
_ONE_PATH = re.compile(r"1 path could not be read; its last known items are kept: ([^;]*) \(([^();]*)\)")


def ct_table(hosts, hostvars, register="ct_inventory", changes=True):
    results = {str(host): _mapping(hostvars[host].get(register)) for host in hosts}
    rows = [HEADER] + [_row(line(host, MAX_LENGTH), result) for host, result in results.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    if any(cell.endswith(KEPT) for row in rows for cell in row[1 : 1 + len(all_kinds())]):  # noqa: E203
        table += ["", KEPT_MEANS]
    named = [row[0] for row in rows[1:] if row[-1]]
    if named and len(results) > MANY:
        more = [f"{len(named) - NAMED} more"] if len(named) > NAMED else []
        names = ", ".join(named[:NAMED] + more)
        table += ["", f"{plural(len(named), 'host')} of {len(results)} with problems: {names}"]
    return table + (_all_changes(results) if changes else [])


def _row(host, result):
    inventory = {kind: seen for kind, seen in _mapping(result.get("inventory")).items() if isinstance(seen, Mapping)}
    problems = _problems(result, inventory)
    if not inventory:
        message = result.get("msg") or "no result: unreachable, or failed before"
        if result.get("unreachable") and result.get("msg"):  # as the fleet store says it
            message = "unreachable: " + _text(message).removeprefix("Task failed: ")
        return (host, *["-"] * (len(HEADER) - 2), problems or _short(message))
    counts = [_count(inventory[kind]) if kind in inventory else "-" for kind in all_kinds()]
    return (host, *counts, _changes(result, inventory), problems)


def _count(seen):
    return _number(seen.get("count")) + (KEPT if seen.get("kept") else "")


def _changes(result, inventory):
    """Return the number of changes in the result; if it lists none, the number that the run found."""
    categories, count = _changes_of(result)[1:]
    if count:
        return _totals(count, categories)
    kinds = [seen for kind, seen in inventory.items() if kind in all_kinds()]
    compared = [seen for seen in kinds if not seen.get("baseline", True)]
    if not compared:
        return "baseline" if any(seen.get("baseline") for seen in kinds) else "-"
    columns = [[seen.get(category) for seen in compared] for category in ("added", "removed", "modified")]
    totals = [sum(count for count in counts if _number(count) != "?") for counts in columns]
    if not any(totals) or isinstance(result.get("files"), Sequence):  # ct_inventory_fetch lists whatever there is
        return "0"
    return _totals(sum(totals), totals)


def _totals(count, categories):
    return "{0} ({1} added, {2} removed, {3} modified)".format(count, *categories)


def _problems(result, inventory):
    """Return why the task failed, followed by the sources that could not be read, and what of the rule cannot be used."""
    problems = [_text(result["msg"])] if inventory and result.get("failed") and result.get("msg") else []
    root = bool(result.get("VMUUID"))  # only root can read that
    for kind in all_kinds().values():
        for name, source in _mapping(inventory.get(kind.name, {}).get("sources")).items():
            if isinstance(source, Mapping) and source.get("status") == "failed":
                message = _ONE_PATH.sub(r"\1: \2", _text(source.get("message") or "could not be read"))
                hint = " (run with -b)" if "Permission denied" in message and not root else ""
                # The sources of files are rules, whose names say less than their messages.
                where = kind.name if kind.reaches else f"{kind.name}: {_text(name)}"
                problems.append(f"{where}: {message}{hint}")
    of_rule = result.get("rule_problems")
    if isinstance(of_rule, Sequence) and not isinstance(of_rule, str):
        problems += [f"rule: {_text(problem)}" for problem in of_rule]
    more = [f"{len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
    return "; ".join([_short(problem) for problem in problems[:MAX_PROBLEMS]] + more)


def _all_changes(results):
    """Return, for each host with changes, an empty line, its name, and its changes."""
    lines: list[str] = []
    left_out = 0
    for host, result in results.items():
        changes, _categories, count = _changes_of(result)
        if not count:
            continue
        if len(lines) > MAX_LINES:
            left_out += 1
            continue
        lines += ["", line(host, MAX_LENGTH)] + ["  " + line(change_line(row), MAX_LENGTH) for row in changes]
        if count > len(changes):
            lines.append(f"  {len(changes)} of {count} changes{_where(result)}")
    if left_out:
        lines += ["", f"The changes of {plural(left_out, 'more host')} are not shown."]
    return lines


def _changes_of(result):
    """Return the first MAX_CHANGES changes, the number of changes of each of CATEGORIES, and the number of all."""
    first, count = [], 0
    categories = dict.fromkeys(CATEGORIES, 0)
    try:
        for row in change_rows(result):
            if isinstance(row, Mapping):
                count += 1
                if count <= MAX_CHANGES:
                    first.append({column: _text(row[column]) for column in change_columns() if row.get(column)})
                category = _text(row.get("ChangeCategory"))
                if category in categories:
                    categories[category] += 1
    except PackedError:
        return [], [0, 0, 0], 0
    return first, list(categories.values()), count


def _where(result):
    """Return the end of a line that names the file with all changes of a host."""
    files = result.get("files")
    paths = [path for path in files if _text(path).endswith("Changes.json")] if isinstance(files, Sequence) else []
    return f"; all are in {_short(paths[0])}" if paths else ""


def _mapping(value):
    return value if isinstance(value, Mapping) else {}


def _number(value):
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12
    return str(value) if whole else "?"


def _text(value):
    return str(value)[: 4 * MAX_LENGTH] if isinstance(value, (str, int)) else "?"


def _short(value):
    return line((_text(value).splitlines() or [""])[0], MAX_LENGTH)


class FilterModule:
    def filters(self):
        return {"ct_table": untrusted(ct_table)}
