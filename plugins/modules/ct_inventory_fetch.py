#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin ct_inventory_fetch."""

DOCUMENTATION = r"""
module: ct_inventory_fetch
short_description: Store the inventory of a host, and its changes, in files and a database on the controller
version_added: "0.1.0"
description:
  - Runs M(changetracking.inventory.ct_inventory_info) on the host and writes its result to C(Packages.json), C(Services.json) and
    C(File.json) in a folder per host on the controller.
  - With O(state), also writes C(Changes.json), with the changes in the host's history that follow those of the last run with the same
    O(dest). If there are none, and on the baseline run, the list is empty. The first run with a new O(dest) fetches all changes that the
    host keeps.
  - Fetches all changes that the host keeps, a page at a time with M(changetracking.inventory.ct_state_info), up to about 80,000 changes,
    224 MiB of JSON or 10 minutes. The next run fetches the rest; a warning says how many changes that are.
  - Only what differs is transferred. If the file of a kind already has what the host has, the host does not send its items. A file
    that was edited is written again.
  - Writes the same to the fleet store, a database that keeps the last inventory of every host, and all changes for O(keep_days). See
    C(docs/store.md). Stores items, changes and the place in the host's history in one transaction.
  - A host that fails or is unreachable is noted in the fleet store, with the reason. What it had stays.
  - On a long run with more than ten hosts, prints every ten seconds how many hosts are done.
  - The files hold one item per line, in a fixed order, so that you can compare them line by line or keep them in version control.
  - Stores the place in the host's history next to the files, in C(.place.json), after they are on disk. If anything fails before, the
    next run fetches the same changes again, with the same C(RecordId).
  - Does not touch the file of a kind if nothing of that kind could be collected. With O(state), the last known items of a source that
    cannot be read stay in the file. Writes no file before the whole result is received and
    checked.
  - Writes the items as each result arrives, and does not keep them in memory. The managed host is not trusted; see the limits in
    P(changetracking.inventory.ct_unpack#filter). A text of the result is cut to 4,096 characters.
  - Makes one call to the host where that is possible. The variable C(ct_direct) decides, see
    M(changetracking.inventory.ct_inventory_info).
  - Removes the file of a kind that the rule has switched off. A kind that is only left out of O(kinds) keeps its file.
  - With C(delegate_to), the files are those of the host that the task is delegated to.
options:
  dest:
    description:
      - Folder on the controller. The files of each host are in a folder below it that has the inventory name of the host.
      - A relative path starts at the current directory of Ansible.
    type: path
    required: true
  kinds:
    description: Kinds of items to collect. The default are the kinds that the data collection rule enables.
    type: list
    elements: str
    choices: [packages, services, files]
  dcr:
    description:
      - The data collection rule (DCR) that says what to track. The default is Azure's template, which tracks packages, services and
        C(/etc/.*.conf).
      - A path on the managed host, the rule's JSON text, the rule as data, or V(recommended). All accepted forms are listed at
        O(changetracking.inventory.ct_inventory_info#module:dcr).
    type: raw
  state:
    description:
      - Path of the state database on the managed host, absolute or starting with C(~/). It keeps the last inventory, with which the
        next run compares, and the changes. See O(changetracking.inventory.ct_inventory_info#module:state).
      - A path that starts with C(~/) is another one for each user. If a run uses another state than the run before, for example with and
        without C(become), there is a warning.
    type: path
  history_days:
    description: Number of days for which O(state) keeps changes. The default is 30.
    type: float
  history_mib:
    description:
      - Maximum size of the changes that O(state) keeps, compressed, in MiB. The default is 64.
      - O(changetracking.inventory.ct_inventory_info#module:history_mib) says which are dropped first.
    type: float
  store:
    description:
      - The fleet store, either the path of an SQLite file on the controller, or the URL of a PostgreSQL database, such as
        V(postgresql://user@host/database). V(none) writes the files alone.
      - The default is C(fleet.db) in O(dest).
      - PostgreSQL requires the Python package C(psycopg), version 3, on the controller. Give the password in C(~/.pgpass) or
        C(PGPASSWORD), not in the URL.
      - With a store that is new, the host sends all items and all changes that it keeps, once.
      - If the store cannot be written, the task fails and writes no files; the next run fetches the same changes again.
    type: str
  keep_days:
    description:
      - Number of days for which O(store) keeps changes. Only days on which it got changes count. A warning says how many were deleted.
    type: int
    default: 400
attributes:
  check_mode:
    description: Can run in C(check_mode); writes nothing on the controller and does not change the state.
  diff_mode:
    support: full
    description: Shows the lines of the files that differ.
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
seealso:
  - module: changetracking.inventory.ct_inventory_info
  - plugin: changetracking.inventory.ct_table
    plugin_type: filter
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Store the inventory of each host in files
  changetracking.inventory.ct_inventory_fetch:
    dest: inventory
    state: /var/lib/changetracking/inventory.db
"""

RETURN = r"""
files:
  description: Paths of the files on the controller, written by this run or not.
  returned: always
  type: list
  elements: str
  sample: [/home/admin/inventory/web01/Packages.json]
Computer:
  description:
    - Host name of the managed host. This and all keys that are not described here are those of
      M(changetracking.inventory.ct_inventory_info).
  returned: always
  type: str
  sample: web01
store:
  description: The fleet store, without a password.
  returned: unless O(store=none), outside of check mode
  type: str
  sample: /home/admin/inventory/fleet.db
packed:
  description: The fetched changes, as C(changes), packed in one string. The filter P(changetracking.inventory.ct_unpack#filter) unpacks it.
  returned: when there are changes
  type: str
inventory:
  description: Counts, digests, sources and numbers of changes, with the keys that M(changetracking.inventory.ct_inventory_info) returns.
  returned: always
  type: dict
rule_problems:
  description: Why less is tracked than the rule says. One sentence for each.
  returned: if there are any
  type: list
  elements: str
  sample:
    - "CTDataSource-Linux: fileSettings.fileInfo[1] (\"ssh\") is left out: destinationPath 'etc/ssh' is not an absolute path; start it with /."
"""
