#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: ct_dcr_info
short_description: How a data collection rule is read
version_added: "0.1.0"
description:
  - Reads a data collection rule on the controller as the agent and the modules of this collection do on a host, and tells what they will track.
  - A rule that cannot be read fails the task with one sentence. A key that would be ignored, and a file item that would be left out, are warnings.
  - No host is needed, and none is touched.
options:
  dcr:
    description:
      - The rule, as the path of a file on the controller, as data, or as JSON text.
      - Any form is taken, the ARM resource, a list of them, an ARM or Bicep template, the config chunk, or what the Azure Monitor Agent hands
        to its extensions.
      - A relative path is looked for as Ansible looks for files, next to the role or the playbook, and then in the current directory.
    type: raw
    required: true
  name:
    description: What to put before the ids of the rules in RV(chunk), so that those of several documents differ.
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
- name: Check a rule before it is rolled out
  changetracking.inventory.ct_dcr_info:
    dcr: dcr.json
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
ids:
  description: The rules that were found in it, sorted. Several are merged.
  returned: success
  type: list
  elements: str
  sample: [CTDataSource-Linux]
rule:
  description: The rule as data, as it was given.
  returned: success
  type: raw
chunk:
  description:
    - The rule in the form of a config chunk, for O(changetracking.inventory.relay#role:main:relay_chunks). A rule that names no tags gets some of its own.
    - A config chunk is returned as it is.
  returned: success
  type: dict
every:
  description: Of each kind that is tracked, and of the inventory, every how many seconds it is collected.
  returned: success
  type: dict
  sample: {packages: 300, services: 300, files: 900, inventory: 36000}
files:
  description: The file items that are enabled, as they are read.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name, or its path where it has none.
      type: str
      returned: success
    path:
      description: Its C(destinationPath).
      type: str
      returned: success
    syntax:
      description: How the last segment of the path is read, C(literal), C(glob) or C(regex).
      type: str
      returned: success
  sample: [{name: ChangeTrackingLinuxPath_default, path: /etc/.*.conf, syntax: regex}]
"""
