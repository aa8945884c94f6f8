# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ansible-playbook, and prints as its last line what it took, as a JSON list of fleet.Play's fields."""

import atexit
import json
import os
import re
import resource
import sys
from pathlib import Path

from ansible.cli.playbook import main


def report(process):
    if os.getpid() == process:  # not in a worker
        own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        main_process = own.ru_utime + own.ru_stime
        memory = int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024
        print(json.dumps([main_process, main_process + others.ru_utime + others.ru_stime, memory]), flush=True)


# Not getrusage's maxrss, which begins with the size of the process that started this one.
Path("/proc/self/clear_refs").write_text("5")
atexit.register(report, os.getpid())
sys.argv[0] = "ansible-playbook"
main()
