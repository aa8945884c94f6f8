#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin ct_fleet_info."""

DOCUMENTATION = r"""
module: ct_fleet_info
short_description: Ask the fleet store what changed, which versions there are, and which hosts differ
version_added: "0.2.0"
description:
  - Reads the fleet store on the controller, which the playbook C(inventory), M(changetracking.inventory.ct_inventory_fetch) and the relay
    fill. It connects to no host and changes nothing.
  - Whether Ansible made a change is decided when it is asked for, from what the callback P(changetracking.inventory.run_log#callback)
    recorded. A warning says if changes of a host that sends to a relay are drift and the name of the host in the Ansible inventory may be another one.
options:
  ask:
    description:
      - V(changes) returns what changed. The same change on many hosts is one entry. Drift comes first.
      - V(actors) returns who made changes, with how many, on which hosts, and of which items.
      - V(versions) returns each selected item with the variants that there are, and how many hosts have which.
      - V(outliers) returns the items that nearly all hosts have alike, with the hosts that differ. Packages are compared on hosts of the same
        architecture.
      - V(compare) returns the items in which hosts differ from O(reference), or from themselves at the time O(reference_at).
      - V(hosts) returns when each host was last seen, and why it could not be collected.
      - V(marks) returns the marks in the store, which M(changetracking.inventory.ct_fleet_mark) makes.
    type: str
    choices: [changes, actors, versions, outliers, compare, hosts, marks]
    default: changes
  store:
    description:
      - The fleet store, as the path of an SQLite file or a PostgreSQL URL (C(postgresql://...)). A relative path is relative to the
        current directory.
      - V(none) is allowed with O(results). Then no change is attributed.
    type: str
    default: inventory/fleet.db
  since:
    description:
      - Return changes that were found at this time or later, as a time (V(2026-01-09T08:00:00Z)), a date (V(2026-01-09)) or an age (V(3d),
        with V(s), V(m), V(h), V(d) or V(w)). Without an offset, a time is in UTC.
      - By default, all changes that the store keeps are returned, up to 100,000.
    type: raw
  until:
    description: Return changes that were found before this time. A date includes that day.
    type: raw
  hosts:
    description:
      - Names of hosts, names of groups of the Ansible inventory, or patterns (V(web*)). A name after C(!) is excluded.
      - By default, all hosts of the store are selected, also those that the Ansible inventory does not have.
    type: list
    elements: str
    default: []
  kinds:
    description: The kinds of items. By default, all; with O(version), V(packages).
    type: list
    elements: str
    choices: [packages, services, files]
  items:
    description:
      - Names of packages and services, and paths of files, or patterns. In a pattern, C(*) matches a slash too.
      - With names only, O(ask=versions) also returns how many hosts do not have the item.
    type: list
    elements: str
    default: []
  version:
    description:
      - A condition on the version of packages, such as V(< 3.0.2), for O(ask=versions). Others are left out. The order is that of the package manager.
      - The relation is one of C(<), C(<=), C(==), C(!=), C(>=) and C(>). For a package with an epoch give the epoch (V(< 1:3.0.8)).
    type: str
  categories:
    description: The categories of changes. By default, all.
    type: list
    elements: str
    choices: [Added, Removed, Modified]
  levels:
    description:
      - Who made the change. By default, all levels are returned.
      - V(task) is a task of Ansible, V(run) possibly a run of Ansible, and V(drift) neither. All changes are V(unknown) while the store
        has no run of Ansible.
    type: list
    elements: str
    choices: [drift, unknown, run, task]
  actors:
    description:
      - Return changes that were made by runs of these users of the controller, or by these logins on the hosts. Names or patterns.
      - A host knows the login only if its agent reads the kernel's audit.
    type: list
    elements: str
    default: []
  marks:
    description:
      - Marks of changes, as a list or as the path of a YAML file with a list. The marks in the store, which M(changetracking.inventory.ct_fleet_mark)
        makes, count too.
      - A mark has exactly one of the keys C(ignore), C(window) (of maintenance) and C(acknowledge), with what it applies to. C(kind), C(item), C(category)
        and C(hosts) select as the options of this module do. C(login) selects by the login that the host names. C(fields) selects changes of
        nothing but these fields. C(record) selects a change by its C(RecordId).
      - C(from) and C(until) say when it is valid. C(reason) and C(by) are for the reader.
      - A window needs C(from) and C(until), and applies to changes that can have happened in between. An acknowledgement needs C(until) or C(record).
      - A marked change is not deleted. RV(totals) counts it.
    type: raw
  marked:
    description: Whether to return marked changes. V(only) returns no others.
    type: str
    choices: [hide, show, only]
    default: hide
  group:
    description: Whether the same change on many hosts is one entry. Otherwise each change is an entry, the latest first.
    type: bool
    default: true
  at:
    description:
      - Use the inventories as they were at this time, for O(ask=versions), O(ask=outliers) and O(ask=compare). By default, as they are now. A date is the end
        of that day.
      - An earlier inventory is the current one without the changes since. The result has a warning if the store has nothing of a host from before that time.
    type: raw
  reference:
    description: The host to compare with, or a group of which the variants count that more than half of its hosts have. Like O(hosts).
    type: list
    elements: str
    default: []
  reference_at:
    description:
      - The time of the inventories of O(reference). By default, now. A date is the end of that day.
      - Without O(reference), each host is compared with itself at this time.
    type: raw
  majority:
    description: Percentage of the hosts that must agree on an item for the others to be outliers.
    type: int
    default: 90
  stale_after:
    description: A host that was last seen before this age is stale.
    type: raw
    default: 2d
  limit:
    description: Maximum number of entries to return.
    type: int
    default: 1000
  results:
    description:
      - Name of the variable in which each host of the play keeps its result of M(changetracking.inventory.ct_inventory_fetch). Then
        the changes in these results are returned, instead of those in the store.
    type: str
  format:
    description:
      - V(lines) returns RV(lines), RV(totals) and RV(left_out) without the data, to be read.
      - For a spreadsheet, use the filter P(changetracking.inventory.ct_csv#filter).
    type: str
    choices: [all, lines]
    default: all
attributes:
  platform:
    platforms: all
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
seealso:
  - module: changetracking.inventory.ct_fleet_mark
  - module: changetracking.inventory.ct_fleet_report
  - module: changetracking.inventory.ct_inventory_fetch
  - plugin: changetracking.inventory.run_log
    plugin_type: callback
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Get what changed in the last three days and was not made by Ansible
  changetracking.inventory.ct_fleet_info:
    since: 3d
    levels: [drift]
    marks: marks.yml
  delegate_to: localhost
  run_once: true
  register: drift

- name: Show it
  ansible.builtin.debug:
    msg: "{{ drift.lines }}"
  run_once: true

- name: Get who changed files below /etc today
  changetracking.inventory.ct_fleet_info:
    ask: actors
    since: 1d
    items: [/etc/*]
  delegate_to: localhost
  run_once: true

- name: Count the versions of OpenSSL
  changetracking.inventory.ct_fleet_info:
    ask: versions
    kinds: [packages]
    items: [openssl, libssl*]
  delegate_to: localhost
  run_once: true

- name: Find hosts with an OpenSSL that is too old
  changetracking.inventory.ct_fleet_info:
    ask: versions
    items: [openssl]
    version: "< 3.0.17-1~deb12u2"
  delegate_to: localhost
  run_once: true

- name: Get what web01 had on a day
  changetracking.inventory.ct_fleet_info:
    ask: versions
    hosts: [web01]
    at: "2026-01-06"
  delegate_to: localhost
  run_once: true

- name: Find web servers whose files differ from those of web01
  changetracking.inventory.ct_fleet_info:
    ask: compare
    kinds: [files]
    hosts: [web]
    reference: [web01]
  delegate_to: localhost
  run_once: true

- name: Get the hosts that were not seen for a week
  changetracking.inventory.ct_fleet_info:
    ask: hosts
    stale_after: 7d
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
changes:
  description: The changes, grouped over hosts. Drift comes first, and then what most hosts have.
  returned: O(ask=changes)
  type: list
  elements: dict
  contains:
    level:
      description: V(drift), V(unknown), V(run) or V(task).
      type: str
      returned: success
    kind:
      description: V(packages), V(services) or V(files).
      type: str
      returned: success
    category:
      description: V(Added), V(Removed) or V(Modified).
      type: str
      returned: success
    item:
      description: Name of the package or service, or path of the file.
      type: str
      returned: success
    architecture:
      description: Architecture of the package.
      type: str
      returned: success
    fields:
      description: The fields that changed. If the content of a file changed, its size and times are left out.
      type: list
      elements: str
      returned: success
    before:
      description: Values before the change, of the version or of the changed fields.
      type: dict
      returned: success
    after:
      description: Values after the change.
      type: dict
      returned: success
    reason:
      description: Why the change has this level.
      type: str
      returned: success
    task:
      description:
        - The task that made the change; with level V(run), the last one that may have made it. Null if there is none.
        - It has C(playbook), C(user), C(play), C(name), C(module), C(run) and C(started_at).
      type: dict
      returned: success
    actor:
      description:
        - Who made the change, as the host says. Null if it does not say. A host can say what it wants.
        - It has those of C(login), C(process) and C(module) that are known. With O(group=false), also C(uid), C(command), C(session), C(at), and C(count), the
          number of actors if there were several, of which this is the last one.
      type: dict
      returned: success
    witness:
      description:
        - V(confirmed) if RV(changes[].actor) is a module that the task runs, V(differs) if it contradicts the task, and V(named) if it does neither.
          Null if the host names no actor. RV(changes[].reason) says it in words.
      type: str
      returned: success
    mark:
      description: The mark that covers the change, with C(word), C(reason) and C(by). Null if there is none.
      type: dict
      returned: success
    count:
      description: Number of hosts.
      type: int
      returned: if O(group=true)
    changes:
      description: Number of changes.
      type: int
      returned: if O(group=true)
    hosts:
      description: Names of the hosts, up to 100.
      type: list
      elements: str
      returned: if O(group=true)
    contents:
      description: Number of different contents of the file.
      type: int
      returned: if O(group=true)
    first:
      description: When the first of the changes was found.
      type: str
      returned: if O(group=true)
    last:
      description: When the last of the changes was found.
      type: str
      returned: if O(group=true)
    host:
      description: Name of the host.
      type: str
      returned: if O(group=false)
    time:
      description: When the change was found.
      type: str
      returned: if O(group=false)
    record:
      description: The C(RecordId) of the change.
      type: str
      returned: if O(group=false)
actors:
  description: Who made changes. Who changed most is first. Changes whose actor is not known are the last entry.
  returned: O(ask=actors)
  type: list
  elements: dict
  contains:
    user:
      description: The user of the controller whose run made the changes, or may have made them. Null if there is none.
      type: str
      returned: success
    playbook:
      description: The playbook of that run.
      type: str
      returned: success
    login:
      description: The login on the host, as the host says. Null if it does not say.
      type: str
      returned: success
    process:
      description: The program, likewise.
      type: str
      returned: success
    module:
      description: The module of Ansible, likewise.
      type: str
      returned: success
    changes:
      description: Number of changes.
      type: int
      returned: success
    count:
      description: Number of hosts.
      type: int
      returned: success
    hosts:
      description: Names of the hosts, up to 100.
      type: list
      elements: str
      returned: success
    names:
      description: Names of the items, up to 100. What was changed most often is first.
      type: list
      elements: str
      returned: success
    more:
      description: Number of items that are left out.
      type: int
      returned: success
    first:
      description: When the first of the changes was found.
      type: str
      returned: success
    last:
      description: When the last of the changes was found.
      type: str
      returned: success
found:
  description: The items, with their variants.
  returned: O(ask=versions), O(ask=outliers) and O(ask=compare)
  type: list
  elements: dict
  contains:
    kind:
      description: V(packages), V(services) or V(files).
      type: str
      returned: success
    item:
      description: Name of the package or service, or path of the file.
      type: str
      returned: success
    architecture:
      description: Architecture of the package.
      type: str
      returned: success
    expected:
      description: The usual variants, or those of O(reference). Empty if the item should not be there.
      type: list
      elements: dict
      returned: O(ask=outliers), and O(ask=compare) with O(reference)
    variants:
      description:
        - The variants, up to 100, with C(values) (null for hosts without the item), C(count) and up to 100 C(hosts).
        - With O(ask=outliers) and O(ask=compare), those that differ. C(before) has the values at O(reference_at), if there is no O(reference).
      type: list
      elements: dict
      returned: success
    more:
      description: Number of variants that are left out.
      type: int
      returned: success
hosts:
  description: The hosts, failed ones first, then stale ones, and then those with problems.
  returned: O(ask=hosts)
  type: list
  elements: dict
  contains:
    host:
      description: Name of the host.
      type: str
      returned: success
    status:
      description:
        - V(failed) if the last attempt to collect it failed, V(stale) if it was not seen for O(stale_after), V(partial) if something could not be read, or
          else V(ok).
      type: str
      returned: success
    last_seen:
      description: When it was last collected.
      type: str
      returned: success
    failure:
      description: Why the last attempt failed.
      type: str
      returned: success
    problems:
      description: What could not be read.
      type: list
      elements: str
      returned: success
  sample:
    - host: web02
      via: playbook
      status: failed
      Computer: web02
      SourceComputerId: 0d8f6e5c-0b6e-4b0e-8a52-6a3c1a0b9d11
      first_seen: "2026-01-02T08:00:00Z"
      last_seen: "2026-01-08T08:00:00Z"
      failed_at: "2026-01-09T08:00:00Z"
      failure: "unreachable: Connection refused"
      problems: []
      items: {Software: 162, Daemons: 78, Files: 38}
missing:
  description: Hosts of the Ansible inventory that the store does not have.
  returned: O(ask=hosts)
  type: list
  elements: str
marks:
  description: The marks in the store, the oldest first, as M(changetracking.inventory.ct_fleet_mark) returns them.
  returned: O(ask=marks)
  type: list
  elements: dict
totals:
  description:
    - With O(ask=changes) and O(ask=actors), the number of returned C(changes) and their C(hosts), and the numbers for each level. C(ignore), C(window) and
      C(acknowledge) are the numbers of marked changes, whether or not they are returned.
    - With O(ask=hosts), the number of hosts of each status.
  returned: O(ask=changes), O(ask=actors) and O(ask=hosts)
  type: dict
left_out:
  description: Number of entries beyond O(limit).
  returned: success
  type: int
lines:
  description: The answer as a table, up to 1,000 entries, or a sentence if there is nothing to show.
  returned: success
  type: list
  elements: str
"""
