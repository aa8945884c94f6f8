# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services, on a booted host: beside the pipeline of systemctl that Microsoft's agent runs, and service_facts."""

import os
import subprocess
from contextlib import contextmanager

from core import COLLECTIONS, ROOT, payload, python

DEBIAN_PACKAGES = ("systemd-container",)
PIPELINE = (
    "systemctl -a list-unit-files '*.service' | grep .service | grep -v @ | awk '{print $1}' | "
    "xargs systemctl -a --no-pager --no-legend -p Names,WantedBy,Description,SubState,FragmentPath,UnitFileState show"
)
MORE_UNITS = """
for number in $(seq %d); do
  printf '[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/extra$number.service
done
systemctl daemon-reload
"""
COUNT = "systemctl list-unit-files --no-legend '*.service' | wc -l"
WALL = "Wall time, since most of systemctl's work is done in the service manager, whose CPU time is nobody's child's."
COLLECTOR = (
    WALL
    + " Units are read from the disk, so that neither a login nor a daemon-reload is a change; that is a third of ours with few units."
)
FLOOR = (
    WALL
    + " Four fifths of what the module takes, the ping module takes too; with few units, that is more than a tenth of service_facts."
)


@contextmanager
def host(bench):
    """A booted host; gives a function (command) -> the same command run on it."""
    testhost = os.environ["CT_TESTHOST"]
    folders = " ".join("--bind-ro=%s" % folder for folder in (ROOT, COLLECTIONS, bench.folder))
    bench.environment.update(TESTHOST_DIR=str(bench.folder / "hosts"), NSPAWN_ARGS=folders)
    subprocess.run(
        [testhost, "up", os.environ["CT_TEST_CACHE"] + "/bookworm", "bench"], check=True, env=bench.environment
    )
    try:
        yield lambda command: [testhost, "exec", "bench", *command]
    finally:
        subprocess.run([testhost, "down", "bench"], check=True, env=bench.environment)


def rows(bench):
    modules = [payload(bench, name) for name in ("changetracking.inventory.ct_service_facts", "service_facts")]
    with host(bench) as on_host:
        collector = on_host(python("timed.py", "services"))
        pipeline = on_host(python("timed.py", "command", PIPELINE))
        took = {}
        for extra in (0, 300, 900, 1900):
            bench.output(on_host(["sh", "-c", MORE_UNITS % extra]))
            units = int(bench.output(on_host(["sh", "-c", COUNT])))
            if extra <= 300:
                yield bench.compare(
                    "service collector, inside a process / systemctl pipeline, %d unit files" % units,
                    1 / 20,
                    lambda: bench.seconds(collector),
                    lambda: bench.seconds(pipeline),
                    note=COLLECTOR,
                )
                yield _modules(bench, on_host, units, *modules)
            took[units] = bench.seconds(collector).wall
        few, many = min(took), max(took)
        further = (took[many] - took[few]) / (many - few)
        row = bench.row("service collector, a further unit", 0.08e-3, further, 0, further, "ms", WALL)
        yield row._replace(ours="%.3f ms" % (further * 1e3), peer="", ratio="", target="0.08 ms")
        yield bench.growth("service collector, a unit", sorted(took), lambda units: (took[units], units))


def _modules(bench, on_host, units, ours, theirs):
    def timed(command):
        return lambda: bench.seconds(
            on_host(python("timed.py", "command", "PYTHONPYCACHEPREFIX= " + " ".join(command)))
        )

    return bench.compare(
        "service module / service_facts, %d unit files" % units, 1 / 10, timed(ours), timed(theirs), note=FLOOR
    )
