#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin ct_fleet_report."""

DOCUMENTATION = r"""
module: ct_fleet_report
short_description: Write a report about a fleet to one HTML file
version_added: "0.2.0"
description:
  - Reads the fleet store on the controller, which the playbook C(inventory), M(changetracking.inventory.ct_inventory_fetch) and the relay
    fill, and writes one HTML file. It connects to no host.
  - The file opens in a browser without a network and makes no request. It shows what changed and by whom, searches the packages, services and
    files of all hosts, shows in what hosts differ from the others, compares hosts, and lists stale and failed hosts.
  - Whether Ansible made a change is decided when the report is written, from what the callback P(changetracking.inventory.run_log#callback)
    recorded.
  - The file has the names, versions and checksums of all items. Like the store, only its owner can read it. It has no contents of files.
  - The groups of the Ansible inventory are in the report, to compare a host with its group.
  - The size is limited. The report has up to 300,000 changes, and up to 64 MiB of items before compression. Hosts with too many lose what exceeds an
    equal share; the report and a warning say how much. Long texts are shortened.
options:
  store:
    description:
      - The fleet store, as the path of an SQLite file or a PostgreSQL URL (C(postgresql://...)). A relative path is relative to the
        current directory.
    type: str
    default: inventory/fleet.db
  dest:
    description:
      - The file to write on the controller. It is replaced if it exists. Its folder must exist.
      - A relative path starts at the current directory of Ansible.
    type: path
    default: report.html
  since:
    description:
      - The report has the changes that were found at this time or later, as a time (V(2026-01-09T08:00:00Z)), a date (V(2026-01-09)) or an age
        (V(3d), with V(s), V(m), V(h), V(d) or V(w)). Without an offset, a time is in UTC.
    type: raw
    default: 30d
  stale_after:
    description: A host that was last seen before this age is stale.
    type: raw
    default: 2d
  hosts:
    description:
      - Names of hosts, names of groups of the Ansible inventory, or patterns (V(web*)). A name after C(!) is excluded.
      - By default, all hosts of the store are in the report, also those that the Ansible inventory does not have.
    type: list
    elements: str
    default: []
  marks:
    description:
      - Marks of changes, as a list or as the path of a YAML file with a list, as M(changetracking.inventory.ct_fleet_info) describes them. The marks in the
        store count too.
      - The report has the marked changes. It hides them until its reader wants to see them.
    type: raw
  title:
    description: The title of the report. The default has the date.
    type: str
attributes:
  check_mode:
    description: Can run in C(check_mode). Reads the store, and writes no file.
  platform:
    platforms: all
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
seealso:
  - module: changetracking.inventory.ct_fleet_info
  - module: changetracking.inventory.ct_inventory_fetch
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Write a report with the changes of the last week
  changetracking.inventory.ct_fleet_report:
    store: inventory/fleet.db
    dest: report.html
    since: 7d
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
dest:
  description: Absolute path of the file.
  returned: success
  type: str
  sample: /home/alice/report.html
size:
  description: Size of the file in bytes.
  returned: success
  type: int
  sample: 103517
hosts:
  description: Number of hosts in the report.
  returned: success
  type: int
  sample: 40
changes:
  description: Number of changes in the report.
  returned: success
  type: int
  sample: 398
"""
