#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin ct_dcr_info."""

DOCUMENTATION = r"""
module: ct_dcr_info
short_description: Validate a data collection rule and show what it tracks
version_added: "0.1.0"
description:
  - Reads a data collection rule (DCR) on the controller, in the way the agent and the modules of this collection read it on a host,
    and returns what it tracks.
  - A rule that cannot be read, and one with file items of which none can be used, fails the task with one sentence. Each ignored key and
    each skipped file item is a warning.
  - The module connects to no host.
options:
  dcr:
    description:
      - The rule, as the path of a file on the controller, as data, or as JSON text.
      - Accepts an ARM resource, a list of them, an ARM or Bicep template, a config chunk of the Azure Monitor Agent (AMA), and the
        document that AMA sends to its extensions.
      - With V(recommended), the recommended rule of this collection. For a file of that name, give C(./recommended).
      - Ansible looks for a relative path next to the role or the playbook, and then in the current directory.
    type: raw
    required: true
  name:
    description: Prefix for the rule ids in RV(chunk). Give a different one to each document, so that their ids differ.
    type: str
    default: ""
attributes:
  platform:
    platforms: all
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
seealso:
  - module: changetracking.inventory.ct_inventory_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Check a rule before deploying it
  changetracking.inventory.ct_dcr_info:
    dcr: dcr.json
  delegate_to: localhost
  run_once: true

- name: Get the recommended rule, to edit it
  changetracking.inventory.ct_dcr_info:
    dcr: recommended
  register: recommended
  delegate_to: localhost
  run_once: true

- name: Write it to a file
  ansible.builtin.copy:
    content: "{{ recommended.rule | to_nice_json }}"
    dest: dcr.json
    mode: "0644"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
ids:
  description: Ids of the rules in the document, sorted. Several rules are merged into one.
  returned: success
  type: list
  elements: str
  sample: [CTDataSource-Linux]
rule:
  description: The rule as data, as it was given; for V(recommended), the recommended rule.
  returned: success
  type: raw
chunk:
  description:
    - The rule as a config chunk, for O(changetracking.inventory.relay#role:main:relay_chunks). A rule without tags gets tags.
    - A config chunk is returned unchanged.
  returned: success
  type: dict
every:
  description: Seconds between two collections of each tracked kind, and between two complete inventories.
  returned: success
  type: dict
  sample: {packages: 300, services: 300, files: 900, inventory: 36000}
files:
  description: The enabled file items of the rule.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the file item; its path if it has no name.
      type: str
      returned: success
    path:
      description: The C(destinationPath) of the file item.
      type: str
      returned: success
    syntax:
      description: How the last segment of the path is read, as V(literal), V(glob) or V(regex).
      type: str
      returned: success
  sample: [{name: ChangeTrackingLinuxPath_default, path: /etc/.*.conf, syntax: regex}]
"""
