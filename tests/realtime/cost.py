# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What real-time collection costs: cost.py IMAGE [MINUTES]

Boots the image (as root; see tests/hosts) with agent and relay as the roles install them, and the schedules of Azure's template; /etc
and /usr are tracked. For `agent_realtime` off and auto, prints the CPU time and the memory of the agent while nothing happens for
MINUTES (2), and while a process makes 500 changes a second in a tracked folder; and the watches, with the kernel's memory for each.
"""

import os
import sys
import time
from pathlib import Path

from booted import Host, rule

FOLDER = "/srv/measured"
TRACKED = ("/etc", "/usr", FOLDER)
LOAD = 500  # changes a second
WATCH, INODE = ("inotify_inode_mark", "fsnotify_mark_connector"), ("ext4_inode_cache",)


def kernel_bytes(*slabs):
    """The size of these objects of the kernel; it merges slabs, so it does not say how many there are."""
    return sum(int(Path("/sys/kernel/slab", name, "object_size").read_text()) for name in slabs)


def agent(host):
    """CPU seconds, and KiB of memory."""
    text = host.sh("pid=$(systemctl show --value -p MainPID ctagent); cat /proc/$pid/stat /proc/$pid/status")
    stat, *lines = text.splitlines()
    fields = stat.rpartition(")")[2].split()
    memory = dict(line.split(":", 1) for line in lines if ":" in line)
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds, int(memory["VmRSS"].split()[0]), int(memory["VmHWM"].split()[0])


def measure(host, what, mode, minutes):
    before, start = agent(host)[0], time.monotonic()
    time.sleep(minutes * 60)
    seconds, resident, most = agent(host)
    share = 100 * (seconds - before) / (time.monotonic() - start)
    print(
        "%-5s %-25s CPU %5.2f %%, memory %5.1f MiB, at most %5.1f MiB"
        % (mode, what, share, resident / 1024, most / 1024),
        flush=True,
    )


def main(image, minutes):
    print("each watch: %d bytes, and the inode stays in memory, %d bytes for ext4" % (kernel_bytes(*WATCH), kernel_bytes(*INODE)))  # fmt: skip
    for mode in ("off", "auto"):
        with Host(image, rule(900, *TRACKED), before="mkdir -p " + FOLDER, agent_realtime=mode) as host:
            time.sleep(30)  # past the baseline and its delivery
            for kind, state in sorted(host.status().get("Realtime", {}).items()):
                print("%-5s %s: %d watches, %d not watched" % (mode, kind, state["Watches"], state["Unwatched"]))
            measure(host, "idle", mode, minutes)
            with host.load("on_host.py", "writes", LOAD, FOLDER):
                measure(host, "%d changes a second" % LOAD, mode, minutes)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 2.0)
