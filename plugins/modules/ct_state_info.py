#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ct_state_info: options, one call of the library, and the result."""

DOCUMENTATION = r"""
module: ct_state_info
short_description: Return the last recorded inventory and changes of a host
version_added: "0.1.0"
description:
  - Returns the last inventory and the latest changes from the state database that an agent, or
    M(changetracking.inventory.ct_inventory_info), keeps on the host.
  - Collects nothing and changes nothing. A running agent is not disturbed.
options:
  path:
    description:
      - Path of the state database, absolute or starting with C(~/). The default is the database of the role
        P(changetracking.inventory.agent#role).
      - If the path is a folder, the module reads the item files of Microsoft's agent or of this collection's agent in it,
        C(Packages.json), C(Services.json) and C(File.json), and returns their items unchanged. Of Microsoft's files, only the format
        of C(File.json) is known.
      - If the file is the database of Microsoft's agent (C(/opt/microsoft/changetrackingdata/db/changetracking.db), a BoltDB file), the
        module returns the items of files in it unchanged, and RV(buckets). The database is only read, also while that agent writes it. The
        formats of its packages and services are not known.
    type: path
    default: /var/lib/ctagent/changetracking.db
  kinds:
    description: Kinds of items to return.
    type: list
    elements: str
    choices: [packages, services, files]
    default: [packages, services, files]
  report:
    description:
      - What to return.
      - With V(summary), counts, digests and collection times. With V(changes), also the latest changes. With V(full), also all items.
    type: str
    choices: [summary, changes, full]
    default: summary
  since:
    description:
      - Return the changes that follow in the history of the host as RV(changes), oldest first, whatever O(report) is.
      - A place (the key C(place) of RV(history) in the previous result) or a list of places, the number of a change, a time such as
        V(2026-01-09T08:00:00Z), or an age such as V(12h). O(changetracking.inventory.ct_inventory_info#module:since) describes them in detail.
      - The place in RV(history) covers all kinds, whatever O(kinds) is.
    type: raw
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.direct
notes:
  - Only the user of the agent and root can read the agent's state, so the module needs C(become) or that user.
seealso:
  - module: changetracking.inventory.ct_inventory_info
  - module: changetracking.inventory.ct_agent_info
  - plugin: changetracking.inventory.ct_unpack
    plugin_type: filter
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Get the latest changes of each host
  changetracking.inventory.ct_state_info:
    report: changes
  become: true
  register: state

- name: Get the changes of the last two days
  changetracking.inventory.ct_state_info:
    since: 2d
  become: true

- name: Get the files that Microsoft's agent recorded
  changetracking.inventory.ct_state_info:
    path: /var/log/azure/Microsoft.Azure.ChangeTrackingAndInventory.ChangeTracking-Linux
    kinds: [files]
    report: full
  become: true

- name: Get what the database of Microsoft's agent holds
  changetracking.inventory.ct_state_info:
    path: /opt/microsoft/changetrackingdata/db/changetracking.db
    report: full
  become: true
"""

RETURN = r"""
inventory:
  description:
    - Summary of each kind, by its name, with the keys that M(changetracking.inventory.ct_inventory_info) returns.
    - A kind that was never collected is left out. For item files and the database of Microsoft's agent, C(count) is the number of items
      and C(collected_at) the time at which the file was written.
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
    - Change records, oldest first, with the keys that M(changetracking.inventory.ct_inventory_info) returns.
    - Without O(since), the latest changes, at most about 10,000. With O(since), the changes that follow.
  returned: when O(path) is a state database, with O(since) or when O(report) is V(changes) or V(full)
  type: list
  elements: dict
history:
  description:
    - The history of the host, and the place in it after RV(changes), with the keys that M(changetracking.inventory.ct_inventory_info)
      returns.
  returned: when O(path) is a state database
  type: dict
buckets:
  description: The buckets of the database, each of which holds values. Buckets in other buckets have the names of all of them.
  returned: when O(path) is the database of Microsoft's agent
  type: list
  elements: dict
  contains:
    name:
      description: Name of the bucket.
      type: str
    count:
      description: Number of values.
      type: int
    files:
      description: Number of values that are items of files.
      type: int
    unknown:
      description: Number of values in another format.
      type: int
    unknown_keys:
      description: The first few keys of these, shortened. The values are not returned.
      type: list
      elements: str
packed:
  description: All items by kind, packed in one string. The filter P(changetracking.inventory.ct_unpack#filter) unpacks it.
  returned: when O(report) is V(full)
  type: str
"""

import os
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _compile_once  # noqa: F401  # pylint: disable=unused-import
from ..module_utils._cti.bolt import is_bolt
from ..module_utils._cti.errors import SinceError
from ..module_utils._cti.kinds.registry import all_kinds
from ..module_utils._cti.state.since import parse
from ..module_utils._cti.tracking.last_known import from_database, from_item_files
from ..module_utils._module import check_path, run

OPTIONS: Dict[str, Any] = dict(
    argument_spec={
        "path": {"type": "path", "default": "/var/lib/ctagent/changetracking.db"},
        "kinds": {"type": "list", "elements": "str", "choices": list(all_kinds()), "default": list(all_kinds())},
        "report": {"type": "str", "choices": ["summary", "changes", "full"], "default": "summary"},
        "since": {"type": "raw"},
    },
    supports_check_mode=True,
)


def main() -> None:
    module = AnsibleModule(**OPTIONS)
    path, wanted, given = module.params["path"], module.params["report"], module.params["since"]

    def work() -> Dict[str, Any]:
        check_path("path", path)
        since = None if given is None else parse(given)
        if is_bolt(path):
            from ..module_utils._cti.tracking.microsoft import describe  # few tasks need it

            return describe(path, module.params["kinds"], wanted, owner_of_folder(path), given, module.warn)
        if not os.path.isdir(path):
            return from_database(path, module.params["kinds"], wanted, owner_of_folder(path), since, module.warn)
        if since is not None:
            raise SinceError(
                "'%s' is a folder of item files, which hold no changes. Leave out since, or give the path of a state database."
                % path
            )
        return from_item_files(path, module.params["kinds"], wanted, module.warn)

    run(module, work)


def owner_of_folder(path: str) -> Optional[int]:
    """Return the uid of the folder's owner, who may own the state too: root reads the state of the agent's user."""
    try:
        return os.stat(os.path.dirname(path)).st_uid
    except OSError:
        return None


if __name__ == "__main__":
    main()
