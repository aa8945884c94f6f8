# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One scan of every file below some folders, as the inventory does it: scan.py COLLECTIONS STATE|-|bare FOLDER...

STATE is a state database; `-` keeps nothing; `bare` is no scan, but the least that one has to do for each file.
"""

import gc
import hashlib
import os
import sys

sys.path.insert(0, sys.argv[1])

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scan import Scan
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.statx import status_of
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known


def bare(folders):
    for top in folders:
        for folder, names in _walk(top):
            for name, size in names:
                file = os.open(name, os.O_RDONLY | os.O_NOATIME, dir_fd=folder)
                hashlib.sha256(os.read(file, size)).hexdigest()
                status_of(file, b"")
                os.close(file)


def _walk(path):
    names, directories = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                names.append((entry.name, entry.stat(follow_symlinks=False).st_size))
    folder = os.open(path, os.O_RDONLY)
    yield folder, sorted(names)
    os.close(folder)
    for directory in directories:
        yield from _walk(directory)


def main(state, *folders):
    gc.disable()  # as the modules do
    rules = [FileRule(folder, folder, links="manage") for folder in folders]
    if state == "bare":
        bare(folders)
    elif state == "-":
        print(sum(len(part.items) for part in Scan(rules, Known())))
    else:
        from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
        from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
        from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import (
            compare_and_store,
        )

        with Store(state) as store:
            seen = compare_and_store(all_kinds()["files"], lambda known: Scan(rules, known), store)
        print(seen.count, len(seen.changes))


if __name__ == "__main__":
    main(*sys.argv[2:])
