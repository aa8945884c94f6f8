# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that run directly, beside pings: what a run costs in all, what it costs its host, and what travels.

Fleets are this machine itself, over the local connection, and hosts booted on it, over ssh.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

from core import ROOT, SYSTEM_PYTHON, Cost, Row, payload
from hosts import PEERS, traffic

from ansible_collections.changetracking.inventory.plugins.action.ct_inventory_info import ActionModule as InventoryInfo
from ansible_collections.changetracking.inventory.plugins.action.ct_package_facts import ActionModule as PackageFacts
from ansible_collections.changetracking.inventory.plugins.plugin_utils._direct.call import BOOT, Call

DEBIAN_PACKAGES = ("systemd-container", "iproute2", "openssh-client")
HOSTS = 50
FORKS = "10"
RUNS = 3  # each takes all cores for a while
INVENTORY = "changetracking.inventory.ct_inventory_info"
PLAYBOOK = "changetracking.inventory.inventory"
LIMITS = {"default settings": 0.65, "pipelining": 0.75}
ALL = (
    "Everything is collected, with a state. CPU is that of the whole machine: the controller, ssh, and the hosts, which are "
    "all on it."
)
MOVED = (
    "On the hosts' network interfaces, with encryption and acknowledgements; the playbook `inventory`, nothing changed."
)
ON_HOST = "The process of the host's interpreter alone, without the shell and sshd."


class Fleet(NamedTuple):
    """Hosts to run a command on: their inventory file, the environment of ansible, and their network interfaces."""

    what: str
    inventory: Path
    environment: dict
    interfaces: tuple = ()


def rows(bench):
    lines = ["h%d ansible_connection=local ansible_python_interpreter=%s" % (n, SYSTEM_PYTHON) for n in range(HOSTS)]
    (bench.folder / "direct").write_text("\n".join(lines) + "\n")
    yield from _rounds(
        bench, Fleet("local hosts", bench.folder / "direct", dict(bench.environment, ANSIBLE_FORKS=FORKS))
    )
    yield from _booted(bench)
    for what, action, target in (("inventory with state", InventoryInfo, 0.6), ("packages", PackageFacts, None)):
        sent = call(action.module, str(bench.folder / "one.db"))
        yield bench.compare(
            "on the host: %s, %d bytes sent / ping module, CPU" % (what, len(sent.data)), target,
            lambda sent=sent: on_host(bench, sent), lambda: bench.measure(payload(bench, "ping")), by="cpu", note=ON_HOST,
        )  # fmt: skip


def _booted(bench):
    state = bench.folder / "booted"
    testhost = str(ROOT / "tests/hosts/testhost")
    environment = dict(
        bench.environment, TESTHOST_DIR=str(state), ANSIBLE_FORKS=FORKS,
        ANSIBLE_SSH_ARGS="-F %s -o ControlMaster=auto -o ControlPersist=300s" % (state / "ssh_config"),
        ANSIBLE_SSH_CONTROL_PATH_DIR=str(bench.folder / "cp"),
    )  # fmt: skip
    names = ["h%d" % number for number in range(1, HOSTS + 1)]
    (bench.folder / "names").write_text("\n".join(names) + "\n")
    image = Path(os.environ["CT_TEST_CACHE"], "bookworm")
    try:
        subprocess.run([testhost, "up", str(image), *names], env=environment, check=True)
        interfaces = tuple("cth" + (state / name / "network").read_text().strip() for name in names)
        fleet = Fleet("hosts over ssh", bench.folder / "names", environment, interfaces)
        yield from _rounds(bench, fleet)
        yield from _bytes(bench, fleet)
    finally:
        subprocess.run([testhost, "down", "--all"], env=environment, check=True)


def _rounds(bench, fleet):
    """A round that finds no state, and one in which nothing changed, beside pings and what people use now, all in turn."""
    play = bench.folder / "peers.yml"
    play.write_text(PEERS)
    kept = str(bench.folder) if not fleet.interfaces else "/var/tmp"
    for settings, limit in LIMITS.items():
        run = partial(_run, bench, fleet, settings)
        costs = {"first round": [], "nothing changed": [], "ping": []}
        for number in range(RUNS + 1):
            fresh = "%s/%s-%d-{{ inventory_hostname }}.db" % (kept, settings.split()[0], number)
            costs["first round"].append(run("adhoc", "all", "-m", INVENTORY, "-a", "state=" + fresh))
            costs["nothing changed"].append(run("adhoc", "all", "-m", INVENTORY, "-a", "state=" + fresh))
            costs["ping"].append(run("adhoc", "all", "-m", "ping"))
        for which in ("first round", "nothing changed"):
            yield from _pair(
                bench, "%d %s, inventory, %s / pings, %s" % (HOSTS, fleet.what, which, settings), limit,
                list(zip(costs[which], costs["ping"]))[1:],
            )  # fmt: skip
        if settings == "default settings":
            peers = run("playbook", str(play))
            yield from _pair(
                bench, "%d %s, inventory, nothing changed / package_facts, service_facts and find" % (HOSTS, fleet.what), None,
                [(ours, peers) for ours in costs["nothing changed"][1:]],
            )  # fmt: skip


def _run(bench, fleet, settings, program, *arguments):
    environment = dict(fleet.environment, ANSIBLE_PIPELINING=str(int(settings == "pipelining")))
    command = [sys.executable, "-m", "ansible", program, "-i", str(fleet.inventory), *arguments]
    return machine(lambda: bench.measure(command, env=environment))


def _pair(bench, what, limit, pairs):
    """A row of wall time, and one of CPU time."""
    for by, name in (("wall", "wall"), ("cpu", "CPU of all")):
        yield bench.of_pairs("%s, %s" % (what, name), limit, pairs, by, "s", ALL)


def machine(measured):
    """The wall time of what is measured, and the CPU time of all processes of the machine meanwhile."""
    before = _busy()
    cost = measured()
    return Cost(cost.wall, _busy() - before)


def _busy():
    """Seconds that the CPUs worked since the machine started."""
    spent = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle, iowait, guests = int(spent[3]), int(spent[4]), sum(map(int, spent[8:]))
    return (sum(map(int, spent)) - idle - iowait - guests) / os.sysconf("SC_CLK_TCK")


def _bytes(bench, fleet):
    """What travels when the playbook asks a host of which it has everything."""
    where = bench.folder / "fetched"
    where.mkdir()
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(fleet.inventory), PLAYBOOK]
    for _run in range(3):  # the first has no state, the second writes the first Changes.json
        before = traffic(fleet.interfaces)
        bench.measure(command, env=fleet.environment, cwd=where)
        moved = [now - then for now, then in zip(traffic(fleet.interfaces), before)]
    for way, value, limit in zip(("to a host", "from a host"), moved, (60, 4)):
        each = value / 1024 / HOSTS
        verdict = "met" if each <= limit else "NOT MET"
        yield Row(
            "bytes %s, a round of the playbook" % way,
            "%.1f KiB" % each,
            target="%d KiB" % limit,
            verdict=verdict,
            note=MOVED,
        )


def call(module, state):
    """What is sent for a module with its default options, and a state if it has one."""
    params = {name: option.get("default") for name, option in module.options["argument_spec"].items()}
    if "state" in params:
        params["state"] = state
    request = {
        "module": module.name, "action": "", "params": params, "check_mode": False, "log": "", "facility": "",
    }  # fmt: skip
    return Call(module.payload().join(module.needed(params)), request)


def on_host(bench, sent):
    data = bench.folder / "sent"
    data.write_bytes(sent.data)
    command = [SYSTEM_PYTHON, "-I", "-S", "-c", BOOT, *sent.command("", "").split(BOOT)[1].split()[1:3]]
    with open(data, "rb") as file:
        return bench.measure(command, stdin=file)
