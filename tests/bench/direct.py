# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that run directly, beside pings: what a run costs in all, and what it costs its host.

The hosts of the fleet are this machine, over the local connection.
"""

import sys

from core import SYSTEM_PYTHON, payload

from ansible_collections.changetracking.inventory.plugins.action.ct_inventory_info import ActionModule as InventoryInfo
from ansible_collections.changetracking.inventory.plugins.action.ct_package_facts import ActionModule as PackageFacts
from ansible_collections.changetracking.inventory.plugins.plugin_utils._direct.call import BOOT, Call

DEBIAN_PACKAGES = ()
HOSTS = 40
RUNS = 3  # each takes all cores for a while
INVENTORY = "changetracking.inventory.ct_inventory_info"
LOCAL = "Hosts are this machine over the local connection; everything is collected, with a state, and nothing changed."
ON_HOST = "The process of the host's interpreter alone, without the shell and sshd."


def rows(bench):
    lines = ["h%d ansible_connection=local ansible_python_interpreter=%s" % (n, SYSTEM_PYTHON) for n in range(HOSTS)]
    (bench.folder / "direct").write_text("\n".join(lines) + "\n")
    state = str(bench.folder / "{{ inventory_hostname }}.db")
    for settings, pipelining in (("default settings", "0"), ("pipelining", "1")):

        def fleet(*module, pipelining=pipelining):
            command = [
                sys.executable,
                "-m",
                "ansible",
                "adhoc",
                "all",
                "-i",
                str(bench.folder / "direct"),
                "-m",
                *module,
            ]
            return bench.measure(command, env=dict(bench.environment, ANSIBLE_PIPELINING=pipelining))

        yield bench.compare(
            "fleet of %d, inventory with state / fleet of pings, %s" % (HOSTS, settings), 0.65 if pipelining == "0" else 0.75,
            lambda fleet=fleet: fleet(INVENTORY, "-a", "state=" + state), lambda fleet=fleet: fleet("ping"),
            unit="s", runs=RUNS, note=LOCAL,
        )  # fmt: skip
    for what, action, target in (("inventory with state", InventoryInfo, 0.6), ("packages", PackageFacts, None)):
        sent = call(action.module, str(bench.folder / "one.db"))
        yield bench.compare(
            "on the host: %s, %d bytes sent / ping module, CPU" % (what, len(sent.data)), target,
            lambda sent=sent: on_host(bench, sent), lambda: bench.measure(payload(bench, "ping")), by="cpu", note=ON_HOST,
        )  # fmt: skip


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
