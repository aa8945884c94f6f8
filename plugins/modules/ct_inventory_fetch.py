#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: ct_inventory_fetch
short_description: Inventory of a host as files on the controller
version_added: "0.1.0"
description:
  - Runs M(changetracking.inventory.ct_inventory_info) on the host and writes what it found to files on the controller,
    C(Packages.json), C(Services.json) and C(File.json) in a folder per host.
  - With O(state), C(Changes.json) holds the changes that followed in the host's history since the last run that wrote to the same
    folder. A run without changes, and the baseline, write an empty list. The first run into a folder fetches all changes that
    the host keeps.
  - Of a kind that is on the host just as the file on the controller has it, the items do not travel, so that a run costs what
    changed. A file that was edited is written anew.
  - On a run that takes long, it prints every ten seconds how many hosts are done.
  - The files hold one item a line, in a fixed order, so that two of them can be compared line by line or kept in version control.
  - The place in the history is kept next to the files, in C(.place.json), and moves on when they are on the disk. Whatever breaks
    before, the next run gets the same changes again, under the same C(RecordId).
  - A file is left as it is where nothing of its kind could be collected. None is written before everything that the host returned
    was read and found sound.
  - The items are written as each host's result arrives and are not kept in the memory of the controller. The managed host is not
    trusted; see the limits in P(changetracking.inventory.ct_unpack#filter). A long text in the result is cut to 4,096 characters.
  - With C(delegate_to), the files are those of the host that the task is delegated to.
options:
  dest:
    description:
      - Folder on the controller. The files of a host go into a folder below it that bears the host's inventory name.
      - A relative path starts at the folder in which Ansible was started.
    type: path
    required: true
  kinds:
    description: As in M(changetracking.inventory.ct_inventory_info).
    type: list
    elements: str
    choices: [packages, services, files]
  dcr:
    description: As in M(changetracking.inventory.ct_inventory_info).
    type: raw
  state:
    description:
      - As in M(changetracking.inventory.ct_inventory_info).
      - Each user has its own home, and so its own state where the path starts with C(~). A run that used another state than the run
        before, as with and without C(become), prints a warning.
    type: path
  history_days:
    description: As in M(changetracking.inventory.ct_inventory_info), whose default it has.
    type: float
  history_mib:
    description: As in M(changetracking.inventory.ct_inventory_info), whose default it has.
    type: float
attributes:
  check_mode:
    description: Can run in C(check_mode); writes nothing on the controller and keeps the state as it is.
  diff_mode:
    support: full
    description: Shows the lines of the files that differ.
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
seealso:
  - module: changetracking.inventory.ct_inventory_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Keep the inventory of each host in files
  changetracking.inventory.ct_inventory_fetch:
    dest: inventory
    state: /var/lib/changetracking/inventory.db
"""

RETURN = r"""
files:
  description: The files on the controller, whether or not they had to be written.
  returned: always
  type: list
  elements: str
  sample: [/home/admin/inventory/web01/Packages.json]
Computer:
  description: As M(changetracking.inventory.ct_inventory_info) returns it, as are the other keys that are not described here.
  returned: always
  type: str
  sample: web01
packed:
  description:
    - What changed since the run before, as C(changes), packed. The filter P(changetracking.inventory.ct_unpack#filter) opens it.
  returned: when anything changed
  type: str
inventory:
  description: Counts, digests, sources and numbers of changes, as M(changetracking.inventory.ct_inventory_info) returns them.
  returned: always
  type: dict
"""
