# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long after a change its record is there: latency.py IMAGE [COUNT]

Boots the image (as root; see tests/hosts) with agent and relay as the roles install them. The schedule is an hour, so only events
start runs. Makes COUNT (100) changes of each kind, one after the other, and prints the seconds from the end of each change to its
record in the JSON lines that the relay writes every 0.1 s: median, 99th percentile, maximum, and how many were not there within a
minute.
"""

import math
import statistics
import sys

from booted import Host, rule

BEFORE = "mkdir -p /srv/measured/quiet /srv/measured/busy"
# More packages or reloads in ten minutes than this are left to the schedule: the agent is restarted after each so many.
AT_ONCE = 16


def main(image, count):
    name = image.rpartition("/")[2]
    print("%-10s %-34s %7s %7s %7s %7s %5s" % ("image", "change", "changes", "median", "99 %", "max", "late"))
    with Host(image, rule(3600, "/srv/measured"), before=BEFORE) as host:
        host.run("on_host.py", "packages", count)

        def show(what, seconds):
            known = sorted(second for second in seconds if second is not None)
            figures = (
                (statistics.median(known), known[math.ceil(0.99 * len(known)) - 1], known[-1]) if known else (0, 0, 0)
            )
            late = len(seconds) - len(known)
            print("%-10s %-34s %7d %6.2fs %6.2fs %6.2fs %5d" % (name, what, len(seconds), *figures, late), flush=True)

        show("file", host.run("on_host.py", "latency", "file", 0, count))
        for what in ("package", "service"):
            seconds = []
            for first in range(0, count, AT_ONCE):
                host.restart_agent()
                seconds += host.run("on_host.py", "latency", what, first, min(AT_ONCE, count - first))
            show(what, seconds)
        host.restart_agent()
        with host.load("on_host.py", "writes", 1000, "/srv/measured/busy"):
            show("file, with 1,000 writes a second", host.run("on_host.py", "latency", "file", 1000, count))
        host.restart_agent()
        with host.load("on_host.py", "transactions"):
            show("file, while packages are installed", host.run("on_host.py", "latency", "file", 2000, count))
        realtime = host.status()["Realtime"]
        for kind, state in sorted(realtime.items()):
            print("%s: %s" % (kind, ", ".join("%s %s" % (key, value) for key, value in state.items() if value)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)
