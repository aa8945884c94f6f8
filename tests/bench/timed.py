# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the wall seconds that one thing takes, the least of a few times after the first.

timed.py COLLECTIONS packages|rpm|services [ROOT]     a collector, inside this process
timed.py COLLECTIONS once packages|rpm|services ROOT  the same, once and not timed: the process is what is measured
timed.py COLLECTIONS command SHELL-COMMAND
"""

import gc
import sys
import time
from importlib import import_module

LIBRARY = "ansible_collections.changetracking.inventory.plugins.module_utils._cti."
COLLECTORS = {"packages": "kinds.packages.dpkg", "rpm": "kinds.packages.rpm", "services": "kinds.services.systemd"}


def timed(work, times):
    work()
    took = []
    for _time in range(times):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return min(took)


def collector(name, root="/"):
    known = import_module(LIBRARY + "model").Known()
    collect = import_module(LIBRARY + COLLECTORS[name]).collect
    return lambda: collect(known, root)


def main(collections, what, *arguments):
    sys.path.insert(0, collections)
    gc.disable()  # as the modules do
    if what == "once":
        collector(*arguments)()
    elif what == "command":
        import subprocess

        print(timed(lambda: subprocess.check_call(["sh", "-c", arguments[0]], stdout=subprocess.DEVNULL), 1))
    else:
        print(timed(collector(what, *arguments), 5))


if __name__ == "__main__":
    main(*sys.argv[1:])
