# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the wall seconds of one thing, second time lucky: timed.py COLLECTIONS packages|services|command|module ARGUMENT..."""

import os
import subprocess
import sys
import time


def timed(work):
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def collector(name):
    from importlib import import_module

    library = "ansible_collections.changetracking.inventory.plugins.module_utils._cti."
    known = import_module(library + "model").Known()
    collect = import_module(library + "collect." + {"packages": "dpkg", "services": "systemd"}[name]).collect
    return lambda: collect(known)


def command(arguments, **options):
    return lambda: subprocess.check_call(arguments, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **options)


def module(ansible, name):
    code = "import runpy, sys; sys.argv = ['module', '{\"ANSIBLE_MODULE_ARGS\": {}}']; "
    code += (
        "import ansible.module_utils.basic as b; b._ANSIBLE_PROFILE = 'legacy'; runpy.run_module(%r, run_name='__main__')"
        % name
    )
    return command([sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH="%s:%s" % (ansible, sys.argv[1])))


def main():
    sys.path.insert(0, sys.argv[1])
    what, arguments = sys.argv[2], sys.argv[3:]
    if what == "command":
        work = command(["sh", "-c", arguments[0]])
    elif what == "module":
        work = module(*arguments)
    else:
        work = collector(what)
    print(timed(work))


if __name__ == "__main__":
    main()
