# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_checks: from the checks of a fleet's agents to each cause with its hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..plugin_utils._bounded import calm
from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_checks
short_description: Group the failed checks and the warnings of a fleet by cause
version_added: "0.2.0"
description:
  - Returns the summary of each host's checks, and each of its warnings, with the hosts that have the same one.
  - Of the warnings of one host, up to 20 are shown.
  - What a host returned is shown on one line, without control characters.
positional: _input, hostvars
options:
  _input:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of all hosts.
    type: dict
    required: true
  register:
    description: Name of the variable in which each host keeps its result of M(changetracking.inventory.ct_agent_info).
    type: str
    default: ct_agent
seealso:
  - module: changetracking.inventory.ct_agent_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Ask the agents
  changetracking.inventory.ct_agent_info:
  become: true
  register: ct_agent

- name: Show each cause with its hosts
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | changetracking.inventory.ct_checks(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The names of the hosts, sorted and separated by commas, by the text that they have in common.
  type: dict
  sample:
    All checks passed.: web01, web02
    "Checks passed, with 1 warning: state.": web03
    "Warning: state: The file system of /var/lib/ctagent has less than 64 MiB free. Free some space: on a full disk, nothing new can be stored.": web03
"""

MAX_WARNINGS = 20  # of one host


def ct_checks(hosts, hostvars, register="ct_agent"):
    causes: dict[str, list[str]] = {}
    for host in sorted(set(hosts)):
        for text in dict.fromkeys(map(calm, _texts(hostvars[host].get(register)))):
            causes.setdefault(text, []).append(calm(host))
    return {text: ", ".join(names) for text, names in causes.items()}


def _texts(result):
    """Return the summary and the warnings of one host, whose result may have any type."""
    result = result if isinstance(result, Mapping) else {}
    if result.get("installed") is False:
        return ["No agent is installed."]
    doctor = result.get("doctor")
    if not isinstance(doctor, Mapping):
        return ["No answer."]
    summary, warnings = doctor.get("Summary"), doctor.get("Warnings")
    if not isinstance(summary, str) or not isinstance(warnings, Sequence) or isinstance(warnings, str):
        return [_of_older_agent(doctor)]
    texts = [summary, *(f"Warning: {text}" for text in warnings[:MAX_WARNINGS] if isinstance(text, str))]
    if len(warnings) > MAX_WARNINGS:
        texts.append(f"{MAX_WARNINGS} of {len(warnings)} warnings are shown.")
    return texts


def _of_older_agent(doctor):
    if doctor.get("Ok") is True:
        return "Checks passed. Deploy the agent again to see its warnings here: this version does not return them."
    return doctor["Remedy"] if isinstance(doctor.get("Remedy"), str) else "No answer."


class FilterModule:
    def filters(self):
        return {"ct_checks": untrusted(ct_checks)}
