# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller of a fleet: results of 1 MB of inventory a host, packed as ours are, beside the same as native facts.

The hosts are this machine, over the local connection; the inventory is made up, and its module does nothing but return it.
"""

import json
import statistics
import sys
from typing import NamedTuple

from core import HERE, SYSTEM_PYTHON

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed import pack

DEBIAN_PACKAGES = ()
HOSTS = 50
RUNS = 3  # each takes all cores for a while
MODULE = """#!/usr/bin/python
import json
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={"file": {"type": "str"}})
with open(module.params["file"]) as file:
    module.exit_json(**json.load(file))
"""
PLAY = """- hosts: all
  gather_facts: false
  tasks:
    - %s
      register: result
"""
INVENTED = (
    "The main process's own CPU time and memory, less those of the same fleet of pings; the hosts are this machine over the "
    "local connection, and the inventory is made up."
)


class Play(NamedTuple):
    """What one run of ansible-playbook took."""

    main: float  # CPU seconds of the main process
    total: float  # CPU seconds of all
    memory: int  # bytes, the most that the main process had


def rows(bench):
    _prepare(bench.folder)
    for hosts in (10, HOSTS, 500):
        lines = [
            "h%d ansible_connection=local ansible_python_interpreter=%s" % (n, SYSTEM_PYTHON) for n in range(hosts)
        ]
        (bench.folder / ("hosts%d" % hosts)).write_text("\n".join(lines) + "\n")
    plays = {name: [] for name in ("ping", "packed", "nested")}
    for _run in range(RUNS):
        for name, done in plays.items():
            done.append(_play(bench, name, HOSTS))
    main, total, memory = (
        {name: statistics.median(getattr(play, field) for play in done) for name, done in plays.items()}
        for field in Play._fields
    )
    for what, target, used, unit in (
        ("controller's main process, CPU a host with 1 MB, packed / as native facts", 1 / 40, main, "ms"),
        ("controller's main process, memory a host with 1 MB, packed / as native facts", 0.1, memory, "MiB"),
    ):
        ours, theirs = (max(0, used[name] - used["ping"]) / HOSTS for name in ("packed", "nested"))
        yield bench.row(what, target, ours, theirs, ours / theirs, unit, INVENTED)
    yield bench.row(
        "fleet of %d with 1 MB each, packed / fleet of pings, CPU of all" % HOSTS, 1.1, total["packed"], total["ping"],
        total["packed"] / total["ping"], "s",
    )  # fmt: skip
    yield bench.row(
        "fleet of %d with 1 MB each as native facts / fleet of pings, CPU of all" % HOSTS, None, total["nested"],
        total["ping"], total["nested"] / total["ping"], "s",
    )  # fmt: skip
    yield bench.growth(
        "fleet with 1 MB each, packed, CPU a host", (10, HOSTS, 500),
        lambda hosts: (_play(bench, "packed", hosts).total, hosts), "ms",
    )  # fmt: skip


def _prepare(folder):
    item = {
        "SoftwareName": "package", "SoftwareType": "Package", "SoftwareDescription": "some words about what it is good for",
        "Publisher": "Debian Maintainers <maintainers@example.org>", "Architecture": "amd64",
        "InstalledOn": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    items = []
    while len(items) % 100 or len(json.dumps(items)) < 1 << 20:
        number = len(items)
        items.append(
            dict(item, SoftwareName="package%d" % number, CurrentVersion="1.%d-%d" % (number, number * 7919 % 100))
        )
    (folder / "library").mkdir()
    (folder / "library/made_up.py").write_text(MODULE)
    tasks = {"ping": "ping:"}
    for name, result in (
        ("packed", {"packed": pack({"packages": items})}),
        ("nested", {"ansible_facts": {"made_up": items}}),
    ):
        (folder / (name + ".json")).write_text(json.dumps(result))
        tasks[name] = "made_up: {file: %s}" % (folder / (name + ".json"))
    for name, task in tasks.items():
        (folder / (name + ".yml")).write_text(PLAY % task)


def _play(bench, name, hosts):
    command = [sys.executable, str(HERE / "main_process.py"), "-i", str(bench.folder / ("hosts%d" % hosts))]
    environment = dict(bench.environment, ANSIBLE_FORKS="5")
    report = bench.output([*command, str(bench.folder / (name + ".yml"))], env=environment).rsplit("\n", 2)[-2]
    return Play(*json.loads(report))
