# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One scan of every file below a folder, as the inventory does it: scan.py COLLECTIONS FOLDER [STATE]"""

import sys

sys.path.insert(0, sys.argv[1])

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.collect.files import Scan
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import FileRule, Known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.observe import observe
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import KINDS
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.store import Store

rules = [FileRule("bench", sys.argv[2], links="manage")]
if len(sys.argv) > 3:
    with Store(sys.argv[3]) as store:
        seen = observe(KINDS["files"], lambda known: Scan(rules, known), store)
    print(seen.count, len(seen.changes))
else:
    print(sum(len(part.items) for part in Scan(rules, Known())))
