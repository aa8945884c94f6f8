# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the results of a fleet as the lines of a table."""

from __future__ import annotations

from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_table
short_description: A fleet's inventory results as a table
version_added: "0.1.0"
description:
  - One line per host with its counts, what changed since the run before, and the sources that failed.
positional: _input, hostvars
options:
  _input:
    description: Names of the hosts, in the order of the table.
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
seealso:
  - module: changetracking.inventory.ct_inventory_fetch
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Collect
  changetracking.inventory.ct_inventory_info:
  register: ct_inventory

- name: Show
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

KINDS = ("packages", "services", "files")
HEADER = ("HOST", "PACKAGES", "SERVICES", "FILES", "CHANGES", "PROBLEMS")


def ct_table(hosts, hostvars, register="ct_inventory"):
    rows = [HEADER] + [_row(str(host), hostvars[host].get(register)) for host in hosts]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _row(host, result):
    inventory = (result or {}).get("inventory")
    if not inventory:
        message = (result or {}).get("msg") or "no result: unreachable, or failed before"
        return (host, "-", "-", "-", "-", str(message).splitlines()[0])
    counts = [str(inventory[kind]["count"]) if kind in inventory else "-" for kind in KINDS]
    return (host, *counts, _changes(inventory), _failures(inventory))


def _changes(inventory):
    compared = [kind for kind in inventory.values() if not kind.get("baseline", True)]
    if not compared:
        return "baseline" if any(kind.get("baseline") for kind in inventory.values()) else "-"
    totals = [sum(kind[category] for kind in compared) for category in ("added", "removed", "modified")]
    return "{0} ({1} added, {2} removed, {3} modified)".format(sum(totals), *totals) if any(totals) else "0"


def _failures(inventory):
    failed = [
        name for kind in inventory.values() for name, source in kind["sources"].items() if source["status"] == "failed"
    ]
    return ", ".join(failed)


class FilterModule:
    def filters(self):
        return {"ct_table": untrusted(ct_table)}
