# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks azure_deploy and azure_remove, with the real modules of azure.azcollection, against a double of ARM over https.

One story: the tests run in this order, on one double. tests/unit/controller/test_azure.py has the cases that need no Ansible.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import recommended
from ansible_collections.changetracking.inventory.tests.helpers import pages, reader
from ansible_collections.changetracking.inventory.tests.helpers.arm import CLIENT, SECRET, TENANT, TOKEN, Fault
from ansible_collections.changetracking.inventory.tests.helpers.azure_role import (
    AMA,
    ARC,
    ASSOCIATION,
    CT,
    GROUP,
    RULE,
    VM,
    VMSS,
    WORKSPACE,
    Role,
    subscription,
)  # fmt: skip

STUBS = Path(__file__).parent / "stubs"
MACHINES = {"web01": VM, "front": VMSS, "rack1": ARC}
DEPLOYED = "web01,rack1"  # each request takes a second of CPU time
SOLUTION = GROUP + "/providers/Microsoft.OperationsManagement/solutions/ChangeTracking(logs)"
OPTIONS = {
    "azure_check_wait": 0, "azure_timeout": 300, "ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": "/usr/bin/python3",
}  # fmt: skip
OURS = "ct-inventory"
# What a hostile host answers to every module: also facts by which another server would get the secret.
HOSTILE = {
    "rc": 0, "stdout": "ama=inactive\n", "stderr": "", "changed": False,
    "ansible_facts": {name: {"cloud_environment": "https://localhost:1"} for name in ("azure_credentials", "azure_login", "azure_checked", "azure_look")},
}  # fmt: skip
BLOCKS = list(pages.blocks((reader.ROOT / "docs/azure.md").read_text(encoding="utf-8")))
COMMAND = "ansible-playbook changetracking.inventory."


class World:
    """A folder with the files of docs/azure.md, and a double of Azure."""

    def __init__(self, folder):
        self.folder = folder
        self.azure = subscription(folder)
        self.commands = set()
        self.environment = self.azure.environment(folder)
        secret = {
            "tenant": TENANT,
            "client_id": CLIENT,
            "secret": self.environment.pop("AZURE_SECRET"),
            "disable_instance_discovery": True,
        }
        self.options = folder / "group_vars/ungrouped.yml"
        self.options.parent.mkdir(parents=True)
        self.options.write_text(
            json.dumps({**OPTIONS, "azure_credentials": {**secret, "cloud_environment": self.azure.url}})
        )
        for block in BLOCKS:
            if block.file:
                (folder / block.file).write_text(block.text)
        (folder / "python").write_text("#!/bin/sh\ncat <<'END'\n%s\nEND\n" % json.dumps(HOSTILE))
        (folder / "python").chmod(0o755)
        (folder / "host_vars").mkdir()
        (folder / "host_vars/web01.yml").write_text("ansible_python_interpreter: %s/python\n" % folder)

    def play(self, command, *arguments, **environment):
        """Runs a command of docs/azure.md. Returns its exit status, its output, and the requests that ARM got."""
        before = len(self.azure.requests)
        self.commands.add(COMMAND + command)
        given = {
            **os.environ, **self.environment, "HOME": str(self.folder), "PYTHONPATH": str(STUBS),
            "ANSIBLE_COLLECTIONS_PATH": os.environ["CT_AZCOLLECTION"], "ANSIBLE_LOCALHOST_WARNING": "false", **environment,
        }  # fmt: skip
        program, *more = (COMMAND + command).split()
        done = subprocess.run(
            [str(Path(sys.executable).parent / program), *more, *arguments],
            cwd=str(self.folder), env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, [(method, ident) for method, ident, _body in self.azure.requests[before:]]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("azure"))
    yield world
    world.azure.close()


def changed(output):
    """The number of changed tasks of each host."""
    return dict(re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", output, re.MULTILINE))


def writes(requests):
    return [one for one in requests if one[0] != "GET"]


def test_check_mode_shows_what_would_be_made_and_writes_nothing_and_nothing_secret_is_shown(world):
    status, output, requests = world.play("azure_deploy -i hosts --check --diff", "--limit", "web01", "-vvvv")
    assert status == 0, output
    assert writes(requests) == [] and changed(output) == {"web01": "2"}  # a loop is one task
    for ident in (WORKSPACE, SOLUTION, RULE, VM, VM + AMA, VM + CT, VM + ASSOCIATION + OURS):
        assert "+++ after: " + ident in output
    assert '+                                    "destinationPath": "/etc/ssh",' in output
    assert SECRET not in output and TOKEN not in output


def test_hosts_that_differ_in_what_is_made_once_are_refused(world):
    other = world.folder / "host_vars/rack1.yml"
    other.write_text("azure_agent: without_ama\n")
    status, output, requests = world.play("azure_deploy -i hosts --check --diff", "--limit", DEPLOYED)
    other.unlink()
    assert status == 2 and requests == []
    assert "azure_agent of rack1 is not that of web01" in re.sub(r"\s+", " ", output)


def test_everything_is_made_in_order_while_azure_is_busy(world):
    world.azure.faults = [
        Fault(
            "GET",
            "workspaces/logs$",
            429,
            "TooManyRequests",
            "Please try again after '2' seconds.",
            headers={"Retry-After": "2"},
        ),
        Fault("PUT", "web01/extensions/AzureMonitorLinuxAgent$", 409, "Conflict", "Another operation is in progress."),
    ]
    status, output, requests = world.play(
        "azure_deploy -i hosts", "--limit", DEPLOYED, "-e", '{"azure_check_host": false}'
    )
    assert status == 0, output
    assert changed(output) == {"web01": "2", "rack1": "1"}
    written = [ident for _method, ident in writes(requests)]
    assert written[:3] == [WORKSPACE, SOLUTION, RULE]
    assert [one for one in written if one.startswith(VM)] == [VM, VM + AMA, VM + AMA, VM + CT, VM + ASSOCIATION + OURS]
    assert [one for one in written if one.startswith(ARC)] == [ARC + AMA, ARC + CT, ARC + ASSOCIATION + OURS]
    assert "web01: All checks passed." in output and "rack1: All checks passed." in output


def test_a_second_run_changes_nothing(world):
    status, output, requests = world.play(
        "azure_deploy -i hosts", "--limit", "web01", "-e", '{"azure_check_host": false}'
    )
    assert status == 0, output
    assert set(changed(output).values()) == {"0"} and writes(requests) == []


def test_the_first_check_that_fails_is_named_for_each_machine(world):
    failed = {
        "provisioningState": "Failed",
        "instanceView": {"status": {"code": "100", "message": "No space left on device"}},
    }
    world.azure.get(ARC + AMA)["properties"].update(failed)
    status, output, requests = world.play("azure_deploy -i hosts -e azure_state=checked")
    assert status == 2 and writes(requests) == []
    output = re.sub(r"\s+", " ", output)
    for sentence in (
        "First failed check: AMA. The service azuremonitoragent is inactive. See its log: journalctl -u azuremonitoragent",
        "First failed check: AzureMonitorLinuxAgent. The provisioning of the extension AzureMonitorLinuxAgent on rack1 is Failed."
        " No space left on device. Remove the cause. Run the playbook azure_deploy again.",
        "First failed check: identity. front has no system-assigned identity, so AMA cannot sign in. Run the playbook azure_deploy again.",
    ):
        assert sentence in output


def test_what_was_made_is_removed_and_nothing_else(world):
    status, output, requests = world.play("azure_remove -i hosts", "--limit", DEPLOYED)
    assert status == 0, output
    assert {method for method, _ident in writes(requests)} == {"DELETE"}
    assert set(world.azure.resources) == {one.lower() for one in (GROUP, VM, VMSS, ARC, WORKSPACE, SOLUTION)}


def test_what_is_missing_on_the_controller_is_named(world):
    alone = world.folder / "alone/ansible_collections/changetracking"
    alone.mkdir(parents=True)
    (alone / "inventory").symlink_to(
        Path(os.environ["CT_AZCOLLECTION"], "ansible_collections/changetracking/inventory").resolve()
    )
    for environment, sentence in (
        (
            {"ANSIBLE_COLLECTIONS_PATH": str(alone.parents[1])},
            "ansible-galaxy collection install azure.azcollection && pip install -r",
        ),
        ({"PYTHONPATH": ""}, "Failed to import the required Python library (azure.mgmt."),
    ):
        status, output, requests = world.play("azure_deploy -i hosts", "--limit", "web01", **environment)
        assert status == 2 and sentence in output and requests == []


def test_a_wrong_secret_is_named(world):
    world.options.write_text(world.options.read_text().replace(SECRET, "wrong-one"))
    status, output, requests = world.play("azure_deploy -i hosts", "--limit", "web01")
    assert status == 2 and requests == [] and "wrong-one" not in output
    assert (
        "Cannot sign in to Azure to read workspaces/logs (" in output
        and "AADSTS7000215: Invalid client secret provided" in output
    )


def test_the_bodies_are_what_the_models_of_azure_know():
    from azure.mgmt.compute.models import VirtualMachineExtension, VirtualMachineScaleSetExtension, VirtualMachineUpdate
    from azure.mgmt.hybridcompute.models import MachineExtension
    from azure.mgmt.loganalytics.models import SavedSearch, Table, Workspace
    from azure.mgmt.monitor.models import DataCollectionRuleAssociationProxyOnlyResource, DataCollectionRuleResource

    models = {
        "/virtualMachines/[^/]+/extensions/": VirtualMachineExtension,
        "/virtualMachineScaleSets/[^/]+/extensions/": VirtualMachineScaleSetExtension,
        "/virtualMachine[^/]+/[^/]+$": VirtualMachineUpdate,
        "HybridCompute/machines/[^/]+/extensions/": MachineExtension,
        "/workspaces/[^/]+$": Workspace,
        "/dataCollectionRules/[^/]+$": DataCollectionRuleResource,
        "/dataCollectionRuleAssociations/": DataCollectionRuleAssociationProxyOnlyResource,
        "/tables/": Table,
        "/savedSearches/": SavedSearch,
    }
    compared = 0
    for agent in ("microsoft", "without_ama"):
        azure = subscription()
        Role(azure, *MACHINES.values(), document=recommended.rule(), agent=agent).deploy()
        for pattern, model in models.items():
            for body in azure.bodies(pattern):
                assert model.deserialize(body).serialize(keep_readonly=True) == body
                compared += 1
    assert compared == 22


def test_the_commands_of_the_page_are_those_that_were_run(world):
    text = "\n".join(block.text for block in BLOCKS if block.reason.startswith("needs a subscription. "))
    assert set(re.findall("^[$] (.*)$", text, re.MULTILINE)) == world.commands
