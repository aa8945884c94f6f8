#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin ct_azure_plan."""

DOCUMENTATION = r"""
module: ct_azure_plan
short_description: Read what is in Azure, and return what change tracking needs there
version_added: "0.2.0"
description:
  - Returns resources in the order in which M(changetracking.inventory.ct_azure_resource) has to make them. Changes nothing.
  - Or checks everything between a machine and the tables, in Azure and on the host, up to the first check that fails.
  - Sends the requests with P(azure.azcollection.azure_rm_resource#module), which must be installed where the task runs.
  - The role P(changetracking.inventory.azure#role) uses it.
options:
  part:
    description:
      - V(preflight) validates O(options), and V(agreement) refuses hosts that differ in what is made once for all of them. Both read nothing.
      - V(look) reads what all machines share, and V(checks) checks a machine. Each other part returns RV(plan) for what its name says.
    type: str
    choices: [preflight, agreement, shared, machine, grants, policy, policy_grants, look, checks, remove_machine, remove_policy, remove_shared]
    required: true
  options:
    description: The options of the role P(changetracking.inventory.azure#role), without C(azure_credentials). With V(agreement), those of
      each host, by its name.
    type: dict
    required: true
  machine:
    description: Resource id of the machine.
    type: str
    default: ""
  document:
    description: The data collection rule, as data.
    type: raw
  made:
    description: The policy assignments, by id.
    type: dict
    default: {}
  host:
    description: What was seen on the host, as C(seen), lines of the form C(name=value), and C(agent), a result of M(changetracking.inventory.ct_agent_info).
    type: dict
    default: {}
  reads:
    description: What V(look) returned. By default, V(checks) reads it.
    type: dict
  machines:
    description: Resource ids of the machines whose associations this run removes.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
  - changetracking.inventory.attributes.azure
seealso:
  - module: changetracking.inventory.ct_azure_resource
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Check everything between a machine and the tables
  changetracking.inventory.ct_azure_plan:
    part: checks
    machine: "{{ azure_machine }}"
    options:
      azure_workspace: "{{ azure_workspace }}"
  delegate_to: localhost
  register: chain

- name: Show the first check that failed
  ansible.builtin.debug:
    msg: "{{ chain.summary }}"
"""

RETURN = r"""
plan:
  description: Resources, each as options of M(changetracking.inventory.ct_azure_resource).
  returned: for every part but V(preflight), V(agreement), V(look) and V(checks)
  type: list
  elements: dict
machines:
  description: Resource ids of the machines.
  returned: for V(preflight)
  type: list
  elements: str
rule:
  description: Resource id of the rule.
  returned: for V(preflight)
  type: str
options:
  description: The options as they were given.
  returned: for V(preflight)
  type: dict
reads:
  description: The workspace, the solution and the rule as Azure has them; null for what does not exist.
  returned: for V(look)
  type: dict
send_to:
  description: A sentence with the address that records are sent to.
  returned: for V(look), without AMA
  type: str
checks:
  description: The checks up to the first that fails, each with C(Name), C(Status) (V(ok), V(warning), V(broken), V(unknown)), C(Message) and C(Remedy).
  returned: for V(checks)
  type: list
  elements: dict
ok:
  description: Whether no check failed.
  returned: for V(checks)
  type: bool
broken:
  description: Name of the check that failed; empty if none did.
  returned: for V(checks)
  type: str
summary:
  description: The result in one line.
  returned: for V(checks)
  type: str
  sample: "First failed check: identity. web01 has no system-assigned identity, so AMA cannot sign in. Run the playbook azure_deploy again."
"""
