#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: arguments, one call, exit_json."""

DOCUMENTATION = r"""
module: ct_state_info
short_description: What was last seen on a host, without collecting again
version_added: "0.1.0"
description:
  - Returns the last state and the latest changes that an agent, or M(changetracking.inventory.ct_inventory_info), keeps on the host.
  - Nothing is collected and nothing is changed. A running agent is not disturbed.
options:
  path:
    description:
      - The state database, as an absolute path or one that starts with C(~/). The default is that of the role P(changetracking.inventory.agent#role).
      - A folder stands for the item files that Microsoft's agent or ours keeps there, C(Packages.json), C(Services.json) and
        C(File.json). Their items are returned as they are. Of Microsoft's files, the form of C(File.json) alone is known.
    type: path
    default: /var/lib/ctagent/changetracking.db
  kinds:
    description: What to return.
    type: list
    elements: str
    choices: [packages, services, files]
    default: [packages, services, files]
  report:
    description:
      - With V(summary), counts, digests and when they were collected.
      - With V(changes), in addition the latest changes.
      - With V(full), in addition all items.
    type: str
    choices: [summary, changes, full]
    default: summary
  since:
    description:
      - Return the changes that follow in the history of the host, oldest first, with any O(report). The values are those of
        O(changetracking.inventory.ct_inventory_info#module:since).
      - The place in RV(history) covers all kinds, whatever O(kinds) says.
    type: raw
extends_documentation_fragment:
  - changetracking.inventory.attributes
notes:
  - The state belongs to the agent's user, so this needs that user or root.
seealso:
  - module: changetracking.inventory.ct_inventory_info
  - module: changetracking.inventory.ct_agent_info
  - plugin: changetracking.inventory.ct_unpack
    plugin_type: filter
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Ask the fleet what changed lately
  changetracking.inventory.ct_state_info:
    report: changes
  become: true
  register: state

- name: Ask what changed in the last two days
  changetracking.inventory.ct_state_info:
    since: 2d
  become: true

- name: Read what Microsoft's agent saw
  changetracking.inventory.ct_state_info:
    path: /var/log/azure/Microsoft.Azure.ChangeTrackingAndInventory.ChangeTracking-Linux
    kinds: [files]
    report: full
  become: true
"""

RETURN = r"""
inventory:
  description:
    - What was seen of each kind, by its name, as M(changetracking.inventory.ct_inventory_info) returns it.
    - A kind that was never collected is left out. Of item files, C(count) is known, and C(collected_at) is when the file was written.
  returned: success
  type: dict
  sample:
    packages:
      count: 776
      digest: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      collected_at: "2026-01-09T08:00:01Z"
      sources: {dpkg: {status: ok, count: 776}}
changes:
  description:
    - Change records, oldest first, as M(changetracking.inventory.ct_inventory_info) returns them.
    - Without O(since), the latest ones, about 10,000 at the most; with it, those that follow.
  returned: with O(since), or when O(report) is V(changes) or V(full), and O(path) is a state database
  type: list
  elements: dict
history:
  description: The history of the host and the place in it after RV(changes), as M(changetracking.inventory.ct_inventory_info) returns it.
  returned: when O(path) is a state database
  type: dict
packed:
  description: All items by kind, as one string that the filter P(changetracking.inventory.ct_unpack#filter) opens.
  returned: when O(report) is V(full)
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cti.errors import SinceError
from ..module_utils._cti.state.since import parse
from ..module_utils._cti.tracking.recall import from_database, from_item_files
from ..module_utils._module import check_path, run


def main():
    kinds = ["packages", "services", "files"]
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/ctagent/changetracking.db"},
            "kinds": {"type": "list", "elements": "str", "choices": kinds, "default": kinds},
            "report": {"type": "str", "choices": ["summary", "changes", "full"], "default": "summary"},
            "since": {"type": "raw"},
        },
        supports_check_mode=True,
    )
    path, wanted, given = module.params["path"], module.params["report"], module.params["since"]

    def work():
        check_path("path", path)
        since = None if given is None else parse(given)
        if not os.path.isdir(path):
            return from_database(path, module.params["kinds"], wanted, owner_of_folder(path), since, module.warn)
        if since is not None:
            raise SinceError(
                "'%s' is a folder of item files, which hold no changes. Leave out since, or give the path of a state database."
                % path
            )
        return from_item_files(path, module.params["kinds"], wanted)

    run(module, work)


def owner_of_folder(path):
    """Whoever owns the folder of a state may own the state: root asks for that of the agent's user."""
    try:
        return os.stat(os.path.dirname(path)).st_uid
    except OSError:
        return None


if __name__ == "__main__":
    main()
