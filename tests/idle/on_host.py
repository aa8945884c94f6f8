# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of all kinds on this host. Prints JSON: what it reports as changed, which sources it could not read, and which
services are running.

on_host.py FOLDER RULE STATE: FOLDER holds ansible_collections, RULE is a rule in JSON, STATE the state database.
"""

import json
import os
import sys

sys.path.insert(0, sys.argv[1])

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import dcr
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import run


def main():
    with open(sys.argv[2]) as file:
        settings = dcr.loads(file.read(), sys.argv[2])
    os.makedirs(os.path.dirname(sys.argv[3]), exist_ok=True)
    changes, failed, running = [], [], []
    with Store(sys.argv[3]) as store:
        for kind in all_kinds().values():
            snapshot = run.run_kind(kind, settings, store, keep_items=True)
            running += [item.name for item in snapshot.items if getattr(item, "sub_state", "") == "running"]
            failed += ["{0}: {1}".format(name, snapshot.sources[name].message) for name in snapshot.failed()]
            for change in snapshot.changes:
                old, new = (None if item is None else kind.row(item) for item in (change.old, change.new))
                fields = {column: [old[column], new[column]] for column in change.fields}
                changes.append([change.category, kind.label(change.new or change.old), fields])
    print(json.dumps({"changes": changes, "failed": failed, "running": running}))


main()
