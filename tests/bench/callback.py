# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback ama_forward costs: a result of 350 KB, the memory of a controller of 200 hosts, a bad receiver.

All of it is measured in runs of ansible-playbook.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core import Row

from ansible_collections.changetracking.inventory.plugins.plugin_utils import _zipapp
from ansible_collections.changetracking.inventory.tests.helpers.runs import Place

DEBIAN_PACKAGES = ()
HOSTS = 200
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
import functools, json, re, resource, sys, time
from pathlib import Path
# Not getrusage's maxrss, which begins with the size of the process that started this one.
Path("/proc/self/clear_refs").write_text("5")
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
usage = resource.getrusage(resource.RUSAGE_SELF)
kib = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
print(json.dumps({"seconds": seconds, "kib": kib, "cpu": usage.ru_utime + usage.ru_stime}))
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


class Plays:
    def __init__(self, place, files, runs):
        self.place = place
        self.files = files
        self.runs = runs

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
            runs = [self.measured(task % self.files)["seconds"] for _run in range(self.runs)]
            taken = statistics.median(run.pop("v2_runner_on_ok") for run in runs)
            yield Row("a result of 350 KB as %s: taken and spooled by the callback" % title, "%.1f ms" % (taken * 1e3))
            sent = statistics.median(sum(run.values()) for run in runs)
            yield Row(
                "a result of 350 KB as %s: delivered to a relay and acknowledged" % title, "%.1f ms" % (sent * 1e3)
            )

    def memory(self):
        for title, task in (("nested facts", FACTS), ("packed items", INFO)):
            without = self.measured(task % self.files, HOSTS, ANSIBLE_CALLBACKS_ENABLED=None)
            with_it = self.measured(task % self.files, HOSTS)
            what = "controller of %d hosts, 350 KB each as %s, with the callback / without: " % (HOSTS, title)
            for figure, unit, value in (("memory", "MiB", "kib"), ("CPU time", "s", "cpu")):
                ours, peer = (run[value] / (1024 if unit == "MiB" else 1) for run in (with_it, without))
                yield Row(what + figure, "%.1f %s" % (ours, unit), "%.1f %s" % (peer, unit), "%.3f" % (ours / peer))

    def tempers(self):
        """The hooks' time is the callback's; the difference of two runs is also that of all else on this machine."""
        for temper, title in TEMPERS.items():
            hooks, differences = [], []
            for _run in range(self.runs):
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
            for what, seconds in (
                ("most time in the callback", max(hooks)),
                ("longer than without", statistics.median(differences)),
            ):
                verdict = "met" if seconds < 1 else "NOT MET"
                yield Row(
                    "a run, where the receiver %s: %s" % (title, what),
                    "%.2f s" % seconds,
                    target="1 s",
                    verdict=verdict,
                )


def rows(bench):
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
            plays = Plays(place, files, min(bench.runs, 3))
            for part in (plays.hot_path, plays.tempers, plays.memory):
                yield from part()
        finally:
            place.close()
    finally:
        shutil.rmtree(str(folder))
