# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ansible-playbook, and prints as its last line what it took, as a JSON list of fleet.Play's fields."""

import atexit
import json
import os
import resource
import sys

from ansible.cli.playbook import main


def report(process):
    if os.getpid() == process:  # not in a worker
        own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        main_process = own.ru_utime + own.ru_stime
        print(
            json.dumps([main_process, main_process + others.ru_utime + others.ru_stime, own.ru_maxrss * 1024]),
            flush=True,
        )


atexit.register(report, os.getpid())
sys.argv[0] = "ansible-playbook"
main()
