#!/usr/bin/env python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback ama_forward costs: a result of 350 KB, the memory of a controller of 200 hosts, a bad receiver.

All of it is measured in runs of ansible-playbook, with ansible-core importable and ANSIBLE_COLLECTIONS_PATH set.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, os.environ["ANSIBLE_COLLECTIONS_PATH"])
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "relay"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from runs import Place

from ansible_collections.changetracking.inventory.plugins.plugin_utils import _zipapp

RUNS = int(os.environ.get("CT_BENCH_RUNS", "7"))
HOSTS = int(os.environ.get("CT_BENCH_HOSTS", "200"))
FILES = 950  # which make a result of 350 KB
TEMPERS = {
    "good": "is good",
    "stalls": "stalls",
    "closes": "closes in mid-message",
    "silent": "never acknowledges",
    "dies": "dies",
}

# Runs ansible-playbook in this process, and prints the seconds in the callback's hooks, and its own peak memory in KiB.
MEASURED = """
import functools, json, resource, sys, time
import ansible.cli
from ansible.plugins.callback import CallbackBase
seconds = {}  # by hook
def timed(name, hook):
    @functools.wraps(hook)
    def run(*arguments, **options):
        start = time.perf_counter()
        try:
            return hook(*arguments, **options)
        finally:
            seconds[name] = seconds.get(name, 0) + time.perf_counter() - start
    return run
def wrap(cls):
    if getattr(cls, "CALLBACK_NAME", "").endswith(".ama_forward"):
        for name in ("v2_runner_on_ok", "v2_playbook_on_play_start", "v2_playbook_on_task_start", "v2_playbook_on_stats"):
            setattr(cls, name, timed(name, getattr(cls, name)))
CallbackBase.__init_subclass__ = classmethod(wrap)
from ansible.cli.playbook import main
try:
    main(["ansible-playbook", *sys.argv[1:]])
except SystemExit as end:
    assert not end.code, end.code
memory = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": seconds, "kib": memory.ru_maxrss, "cpu": memory.ru_utime + memory.ru_stime}))
"""
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - {task}
    - ansible.builtin.assert: {{that: true, quiet: true}}
"""
FACTS = "changetracking.inventory.ct_file_facts: {paths: %s}"
INFO = """changetracking.inventory.ct_inventory_info:
        {report: full, kinds: [files], dcr: {extensionConfigurations: {ChangeTracking-Linux: [
          {extensionSettings: {fileSettings: {fileInfo: [{name: a, destinationPath: %s}]}}}]}}}"""


def row(title, figure, target="", met=None):
    verdict = "" if met is None else ("met" if met else "NOT MET")
    print("| %-74s | %12s | %10s | %-7s |" % (title, figure, target, verdict), flush=True)


class Bench:
    def __init__(self, place, files):
        self.place = place
        self.files = files

    def measured(self, task, hosts=1, **options):
        self.place.inventory.write_text(
            "[all]\n%s[all:vars]\nansible_connection=local\nansible_python_interpreter=%s\n"
            % ("".join("h%d\n" % number for number in range(hosts)), sys.executable)
        )
        play = self.place.folder / "play.yml"
        play.write_text(PLAY.format(task=task))
        run = subprocess.run(
            [sys.executable, "-c", MEASURED, "-i", str(self.place.inventory), str(play)],
            cwd=str(self.place.folder), env=self.place.environment(**options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True,
        )  # fmt: skip
        return json.loads(run.stdout.splitlines()[-1].decode())

    def hot_path(self):
        for title, task in (("nested facts", FACTS), ("packed items", INFO)):
            runs = [self.measured(task % self.files)["seconds"] for _run in range(RUNS)]
            taken = statistics.median(run.pop("v2_runner_on_ok") for run in runs)
            row("a result of 350 KB as %s: taken and spooled" % title, "%.1f ms" % (taken * 1e3))
            delivered = statistics.median(sum(run.values()) for run in runs)
            row(
                "a result of 350 KB as %s: delivered to a relay and acknowledged" % title, "%.1f ms" % (delivered * 1e3)
            )

    def memory(self):
        for title, task in (("nested facts", FACTS), ("packed items", INFO)):
            without = self.measured(task % self.files, HOSTS, ANSIBLE_CALLBACKS_ENABLED=None)
            with_it = self.measured(task % self.files, HOSTS)
            row(
                "controller's memory, %d hosts, %s, without the callback" % (HOSTS, title),
                "%.1f MiB" % (without["kib"] / 1024),
            )
            row("controller's memory, %d hosts, %s, with it" % (HOSTS, title), "%.1f MiB" % (with_it["kib"] / 1024))
            row("controller's CPU time, the same, without the callback", "%.2f s" % without["cpu"])
            row("controller's CPU time, the same, with it", "%.2f s" % with_it["cpu"])

    def tempers(self):
        """The hooks' time is the callback's; the difference of two runs is also that of all else on this machine."""
        for temper, title in TEMPERS.items():
            hooks, differences = [], []
            for _run in range(RUNS):
                shutil.rmtree(str(self.place.spool), ignore_errors=True)
                start = time.monotonic()
                self.measured(FACTS % self.files, ANSIBLE_CALLBACKS_ENABLED=None)
                without = time.monotonic() - start
                receiver = self.place.receiver(temper)
                options = {"acks": "require", "data_tag": "data", "change_tag": "changes", "address": receiver.address}
                start = time.monotonic()
                hooks.append(sum(self.measured(FACTS % self.files, **options)["seconds"].values()))
                differences.append(time.monotonic() - start - without)
                receiver.close()
            longest, median = max(hooks), statistics.median(differences)
            row(
                "a run, where the receiver %s: most time in the callback" % title,
                "%.2f s" % longest,
                "< 1 s",
                longest < 1,
            )
            row("a run, where the receiver %s: longer than without it" % title, "%.2f s" % median, "< 1 s", median < 1)


def main():
    folder = Path(tempfile.mkdtemp(prefix="ct-bench-"))
    try:
        _zipapp.write("relay", str(folder / "relay.pyz"))
        files = folder / "files"
        files.mkdir()
        for number in range(FILES):
            (files / ("%d.conf" % number)).write_text(str(number))
        place = Place(folder / "relay.pyz", folder)
        try:
            place.relay.start()
            bench = Bench(place, files)
            for part in (bench.hot_path, bench.tempers, bench.memory):
                part()
        finally:
            place.close()
    finally:
        shutil.rmtree(str(folder))


if __name__ == "__main__":
    main()
