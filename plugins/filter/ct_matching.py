# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_matching: returns a host pattern unchanged, and fails if it matches no host."""

from __future__ import annotations

from ansible import context
from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

DOCUMENTATION = r"""
name: ct_matching
short_description: Refuse a host pattern that matches no host
version_added: "0.2.0"
description:
  - Returns the pattern. Fails if the pattern matches no host in the inventory, which ansible-playbook treats as success.
  - The playbooks of this collection use it for C(hosts).
positional: _input, groups, limit
options:
  _input:
    description: The host pattern.
    type: str
    required: true
  groups:
    description: The groups of the inventory, which are the magic variable C(groups).
    type: dict
    required: true
  limit:
    description: The value of C(--limit), which is the magic variable C(ansible_limit).
    type: str
    default: ""
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Run on the hosts of a variable pattern
  hosts: "{{ target | changetracking.inventory.ct_matching(groups, ansible_limit | default('')) }}"
  tasks: []
"""

RETURN = r"""
_value:
  description: The host pattern, unchanged.
  type: str
"""


def ct_matching(pattern, groups, limit=""):
    if any(
        context.CLIARGS.get(option) for option in ("syntax", "listtasks", "listtags")
    ):  # where no inventory is needed
        return pattern
    inventory = InventoryManager(loader=DataLoader(), parse=False)
    for group, hosts in groups.items():
        inventory.add_group(group)
        for host in hosts:
            inventory.add_host(host, group=group)
    if not inventory.list_hosts(pattern):
        raise AnsibleFilterError(
            f"The host pattern '{pattern}' matches no host in the inventory. Give another pattern with -e ct_hosts=PATTERN, or another inventory with -i."
        )
    inventory.subset(limit or None)
    if limit and not inventory.get_hosts(pattern):  # list_hosts returns the implicit localhost whatever the limit
        raise AnsibleFilterError(
            f"The host pattern '{pattern}' matches no host within --limit '{limit}'. Correct ct_hosts or --limit."
        )
    return pattern


class FilterModule:
    def filters(self):
        return {"ct_matching": ct_matching}
