# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role azure without Ansible: the same steps in the same order, against the double of ARM in this process."""

import yaml

from ansible_collections.changetracking.inventory.plugins.action.ct_azure_plan import PARTS, ActionModule
from ansible_collections.changetracking.inventory.plugins.plugin_utils._azure.arm import Arm, ArmError
from ansible_collections.changetracking.inventory.plugins.plugin_utils._azure.resource import Wanted, ensure, remove
from ansible_collections.changetracking.inventory.tests.helpers import arm as double
from ansible_collections.changetracking.inventory.tests.helpers.reader import ROOT

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
GROUP = SUBSCRIPTION + "/resourceGroups/ops"
WORKSPACE = GROUP + "/providers/Microsoft.OperationalInsights/workspaces/logs"
RULE = GROUP + "/providers/Microsoft.Insights/dataCollectionRules/ct-dcr"
VM = GROUP + "/providers/Microsoft.Compute/virtualMachines/web01"
VMSS = GROUP + "/providers/Microsoft.Compute/virtualMachineScaleSets/front"
ARC = GROUP + "/providers/Microsoft.HybridCompute/machines/rack1"
IDENTITY = GROUP + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/monitoring"
ACCOUNT = GROUP + "/providers/Microsoft.Storage/storageAccounts/contents1"
ASSOCIATION = "/providers/Microsoft.Insights/dataCollectionRuleAssociations/"
AMA, CT = "/extensions/AzureMonitorLinuxAgent", "/extensions/ChangeTracking-Linux"
RUNNING = {"instanceView": {"statuses": [{"code": "ProvisioningState/succeeded"}, {"code": "PowerState/running"}]}}
STOPPED = {"instanceView": {"statuses": [{"code": "PowerState/deallocated"}]}}


def subscription(folder=None):
    """A double with a resource group and one machine of each kind."""
    azure = double.Arm(folder)
    azure.add(GROUP, location="westeurope")
    azure.add(VM, location="westeurope", properties=RUNNING)
    azure.add(VMSS, location="westeurope")
    azure.add(
        ARC,
        location="northeurope",
        identity={"type": "SystemAssigned", "principalId": "arc-1"},
        properties={"status": "Connected"},
    )
    return azure


class Role:
    def __init__(self, azure, *machines, document=None, timeout=100, **options):
        defaults = yaml.safe_load((ROOT / "roles/azure/defaults/main.yml").read_text())
        given = {"workspace": WORKSPACE, "location": "westeurope", "machines": list(machines), **options}
        self.options = {**defaults, **{"azure_" + name: value for name, value in given.items()}}
        self.document = document
        self.waited = []
        self.kept = []
        self.lost = []
        self.diffs = []
        self._now = 0.0
        self._arm = Arm(azure.ask, {}, timeout, sleep=self._sleep, clock=lambda: self._now)

    def _sleep(self, seconds):
        self._now += seconds
        self.waited.append(seconds)

    def plan(self, part, **given):
        action = object.__new__(ActionModule)
        action._arm = self._arm
        preset = {"machine": "", "document": self.document, "made": {}, "host": {}, "machines": [], "reads": None}
        return PARTS[part](action, self.options, {**preset, **given})

    def run(self, steps, check=False):
        """The names of the resources that change, and the resources."""
        changed, made = [], {}
        for step in steps:
            step = dict(step)
            found, state = step.pop("found", None), step.pop("state", "present")
            wanted = Wanted(what=step.pop("name"), body=step.pop("body", {}), **step)
            outcome = remove(self._arm, wanted, check) if state == "absent" else ensure(self._arm, wanted, check, found)
            made[wanted.id] = outcome.resource
            self.kept += [outcome.kept] if outcome.kept else []
            self.lost += outcome.lost
            if outcome.changed:
                changed.append(wanted.what)
                self.diffs.append((outcome.before, outcome.after))
        return changed, made

    def deploy(self, check=False):
        """The names of what changes."""
        machines = self.plan("preflight")["machines"]
        changed = self.run(self.plan("shared")["plan"], check)[0]
        for machine in machines:
            for part in ("machine", "grants"):
                changed += self.run(self.plan(part, machine=machine)["plan"], check)[0]
        if self.options["azure_policy_scope"]:
            assigned, made = self.run(self.plan("policy")["plan"], check)
            changed += assigned + self.run(self.plan("policy_grants", made=made)["plan"], check)[0]
        return changed

    def remove(self, check=False):
        machines = self.plan("preflight")["machines"]
        changed = []
        for machine in machines:
            changed += self.run(self.plan("remove_machine", machine=machine)["plan"], check)[0]
        if self.options["azure_policy_scope"]:
            changed += self.run(self.plan("remove_policy")["plan"], check)[0]
        return changed + self.run(self.plan("remove_shared", machines=machines)["plan"], check)[0]

    def summary(self, machine, host=None):
        return self.plan("checks", machine=machine, host=host or {})["summary"]

    def problem(self, function="deploy"):
        """The sentence that a run fails with; "" if it does not."""
        try:
            getattr(self, function)()
        except ArmError as error:
            return str(error)
        return ""
