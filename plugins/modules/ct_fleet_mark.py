#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin ct_fleet_mark."""

DOCUMENTATION = r"""
module: ct_fleet_mark
short_description: Acknowledge, ignore or announce changes in the fleet store
version_added: "0.2.0"
description:
  - Adds a mark to the fleet store on the controller, or removes one. A mark says why some changes need no attention. It connects to no host.
  - M(changetracking.inventory.ct_fleet_info), the playbook C(inventory) and the report hide marked changes and count them, the inventory plugin
    C(fleet) does not count them as drift, and an event has its mark. No change is deleted.
  - Marks can be kept in a file instead, under version control. See the option O(changetracking.inventory.ct_fleet_info#module:marks) of
    M(changetracking.inventory.ct_fleet_info).
options:
  mark:
    description:
      - V(acknowledge) covers changes that have been found already, because somebody has looked at them.
      - V(ignore) also covers changes that will be found.
      - V(window) covers changes that can have happened in a maintenance window, between O(from) and O(until).
    type: str
    choices: [acknowledge, ignore, window]
    default: acknowledge
  state:
    description:
      - V(present) adds the mark. An V(ignore) with the same selection is replaced, and so is another mark with the same selection and times.
      - V(absent) removes the marks with the same O(mark) and selection, and the same O(from) and O(until) if they are given, or the mark with
        this O(number).
    type: str
    choices: [present, absent]
    default: present
  store:
    description:
      - The fleet store, as the path of an SQLite file or a PostgreSQL URL (C(postgresql://...)). A relative path is relative to the
        current directory.
    type: str
    default: inventory/fleet.db
  kinds:
    description: Select changes of these kinds of items.
    type: list
    elements: str
    choices: [packages, services, files]
  items:
    description: Select changes of items with these names of packages and services, or paths of files, or patterns. In a pattern, C(*) matches a slash too.
    type: list
    elements: str
  categories:
    description: Select changes of these categories.
    type: list
    elements: str
    choices: [Added, Removed, Modified]
  fields:
    description: Select changes of nothing but these fields, as C(FieldsChanged) has them.
    type: list
    elements: str
  hosts:
    description: Select changes of hosts with these names, of these groups of the Ansible inventory, or patterns (V(web*)). A name after C(!) is excluded.
    type: list
    elements: str
  records:
    description: Select changes by their C(RecordId). M(changetracking.inventory.ct_fleet_info) returns it as C(record) with C(group=false).
    type: list
    elements: str
  logins:
    description:
      - Select changes that these logins made, as the host says. Names or patterns.
      - A host can say what it wants. Give O(hosts) as well if not all of them are trusted.
    type: list
    elements: str
  from:
    description: The mark covers changes that were found at this time or later, as a time, a date or an age such as V(3d).
    type: raw
  until:
    description:
      - The mark covers changes that were found before this time. A date includes that day.
      - The default of an acknowledgement is the time at which the last of the selected changes was found. So it covers what is in the store, and
        nothing that is found later. Changes that were found later than now, by the clock of their host, are not covered, and a warning says so.
    type: raw
  reason:
    description: Why the changes need no attention. Required with O(state=present).
    type: str
  by:
    description: Who says so. By default, the user who runs Ansible.
    type: str
  number:
    description: The number of the mark to remove. M(changetracking.inventory.ct_fleet_info) returns it with C(ask=marks).
    type: int
notes:
  - Select with at least one of O(kinds), O(items), O(categories), O(fields), O(hosts), O(records) and O(logins). A V(window) can do without.
  - Groups in O(hosts) are those of the inventory of whoever asks. The event source knows no groups.
attributes:
  diff_mode:
    support: full
  platform:
    platforms: all
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
seealso:
  - module: changetracking.inventory.ct_fleet_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Acknowledge the drift of a file on the web servers
  changetracking.inventory.ct_fleet_mark:
    items: [/etc/app.conf]
    hosts: [web]
    reason: CHG0042, debugging
  delegate_to: localhost
  run_once: true

- name: Ignore what hwclock writes
  changetracking.inventory.ct_fleet_mark:
    mark: ignore
    kinds: [files]
    items: [/etc/adjtime]
    reason: hwclock writes it
  delegate_to: localhost
  run_once: true

- name: Announce a maintenance window of all hosts
  changetracking.inventory.ct_fleet_mark:
    mark: window
    from: "2026-11-28T22:00:00Z"
    until: "2026-11-29T02:00:00Z"
    reason: monthly updates
  delegate_to: localhost
  run_once: true

- name: Take the acknowledgement back
  changetracking.inventory.ct_fleet_mark:
    state: absent
    items: [/etc/app.conf]
    hosts: [web]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
marks:
  description: The mark, or the marks that were removed.
  returned: success
  type: list
  elements: dict
  contains:
    number:
      description: Number of the mark in the store. 0 in check mode, if the mark is a new one.
      type: int
      returned: success
    mark:
      description: V(acknowledge), V(ignore) or V(window).
      type: str
      returned: success
    selects:
      description: What the mark selects, as in a file of marks.
      type: dict
      returned: success
    from:
      description: Time from which on it is valid. Null if there is none.
      type: str
      returned: success
    until:
      description: Time until which it is valid. Null if there is none.
      type: str
      returned: success
    reason:
      description: Why the changes need no attention.
      type: str
      returned: success
    by:
      description: Who says so.
      type: str
      returned: success
    made_at:
      description: When the mark was made, or replaced.
      type: str
      returned: success
  sample:
    - number: 5123
      mark: acknowledge
      selects: {item: [/etc/app.conf], hosts: [web]}
      from: null
      until: "2026-01-09T08:00:02Z"
      reason: CHG0042, debugging
      by: alice
      made_at: "2026-01-09T09:12:45Z"
covered:
  description: Numbers of C(changes) in the store, of the latest 100,000, and of their C(hosts), which the mark covers.
  returned: O(state=present)
  type: dict
  sample: {changes: 12, hosts: 12}
"""
