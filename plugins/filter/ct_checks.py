# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_checks: from the checks of a fleet's agents to each cause with its hosts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..module_utils._cti.daemon import VERSION
from ..plugin_utils._bounded import calm
from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_checks
short_description: Group the failed checks and the warnings of a fleet by cause
version_added: "0.2.0"
description:
  - Returns the summary of each host's checks, and each of its warnings, with the hosts that have the same one.
  - Of the warnings of one host, up to 20 are shown.
  - Also returns, with its hosts, each version of an agent or a relay that differs from the version of this collection.
  - What a host returned is shown on one line, without control characters.
positional: _input, hostvars, register, relay, relay_status
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
  relay:
    description:
      - Name of the variable in which each host keeps the result of the command C(/usr/local/lib/ctrelay/relay.pyz --version). If it is
        empty, the versions of relays are not compared.
    type: str
    default: ""
  relay_status:
    description:
      - Name of the variable in which a host without an agent keeps the result of the command C(/usr/local/lib/ctrelay/relay.pyz status).
        Such a host is checked as a relay.
    type: str
    default: ""
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
    The relay runs and uploads. There is no agent.: relay01
    "Checks passed, with 1 warning: state.": web03
    "Warning: The agent has version 0.1.0, but this collection has version 0.2.0. Run the playbook deploy again.": web03
    "Warning: state: The file system of /var/lib/ctagent has less than 64 MiB free. Free some space: on a full disk, nothing new can be stored.": web03
"""

MAX_WARNINGS = 20  # of one host
A_VERSION = r"(\d{1,9}(?:\.\d{1,9}){1,3}[\w.+-]{0,20})"


def ct_checks(hosts, hostvars, register="ct_agent", relay="", relay_status=""):
    causes: dict[str, list[str]] = {}
    for host in sorted(set(hosts)):
        variables = hostvars[host]
        agent = variables.get(register)
        texts = [*_texts(agent, variables.get(relay_status)), *_versions(agent, variables.get(relay))]
        for text in dict.fromkeys(map(calm, texts)):
            causes.setdefault(text, []).append(calm(host))
    return {text: ", ".join(names) for text, names in causes.items()}


def _texts(result, relay):
    """Return the summary and the warnings of one host, whose results may have any type."""
    result = result if isinstance(result, Mapping) else {}
    if result.get("installed") is False:
        return [_of_relay(relay)]
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


def _of_relay(status):
    """Return the summary of a host without an agent. `status`: the result of the relay's command status, skipped if it has none."""
    if not isinstance(status, Mapping) or status.get("skipped") or "rc" not in status:
        return "No agent is installed."
    if status["rc"] == 0:
        return "The relay runs and uploads. There is no agent."
    problem = (str(status.get("stderr", "")).strip().splitlines() or [""])[-1]
    return problem or "The relay cannot store or upload records. Run relay.pyz status on this host to see the error."


def _versions(agent, relay):
    """Yield a warning for the agent, and for the relay, of another version than this collection. The results may have any type."""
    status = agent.get("status") if isinstance(agent, Mapping) else None
    version = status.get("Version") if isinstance(status, Mapping) else None
    yield from _of_version("agent", re.fullmatch(A_VERSION, str(version)), "Run the playbook deploy again.")
    output = relay.get("stdout") if isinstance(relay, Mapping) else None
    yield from _of_version("relay", re.fullmatch("relay " + A_VERSION, str(output)), "Run the role relay again.")


def _of_version(program, found, remedy):
    if found and found.group(1) != VERSION:
        if _numbers(found.group(1)) > _numbers(VERSION):
            remedy = "Upgrade the collection on this controller."
        yield f"Warning: The {program} has version {found.group(1)}, but this collection has version {VERSION}. {remedy}"


def _numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)]


def _of_older_agent(doctor):
    if doctor.get("Ok") is True:
        return "Checks passed. Deploy the agent again to see its warnings here: this version does not return them."
    return doctor["Remedy"] if isinstance(doctor.get("Remedy"), str) else "No answer."


class FilterModule:
    def filters(self):
        return {"ct_checks": untrusted(ct_checks)}
