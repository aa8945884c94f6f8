# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_azure_plan: reads what is in Azure, and returns what has to be made there, or the first check that fails."""

from __future__ import annotations

from ansible.plugins.action import ActionBase

from ..plugin_utils._azure import chain, machine, plan, policy, removal, without_ama
from ..plugin_utils._azure.arm import ArmError
from ..plugin_utils._azure.asked import ARGUMENTS, answer, arm_of


class ActionModule(ActionBase):
    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, given = self.validate_argument_spec(
            argument_spec={
                **ARGUMENTS,
                "part": {"type": "str", "choices": list(PARTS), "required": True},
                "options": {"type": "dict", "required": True},
                "machine": {"type": "str", "default": ""},
                "document": {"type": "raw"},
                "made": {"type": "dict", "default": {}},
                "host": {"type": "dict", "default": {}},
                "reads": {"type": "dict"},
                "machines": {"type": "list", "elements": "str", "default": []},
            }
        )
        self._arm = arm_of(self, given, task_vars)
        return answer(lambda: {"changed": False, **PARTS[given["part"]](self, given["options"], given)})

    def _read(self, resources):
        reads = {}
        for wanted in resources:
            read = self._arm.list if wanted.get("list") else self._arm.get
            reads[wanted["name"]] = read(wanted["id"], wanted["api_version"])
        return reads

    def _read_machine(self, options, ident):
        reads = self._read(machine.reads_of_machine(ident))
        return {**reads, "others": self._read(machine.reads_of_other_rules(options, reads))}

    def _preflight(self, options, _given):
        """Read nothing but the options."""
        plan.upload_setting(options)
        plan.identity_of(options)
        if options.get("azure_policy_scope"):
            policy.scope_of(options)
            if options.get("azure_state") != "absent":
                policy.refuse_other_agent(options)
        rule = without_ama.direct_rule_of(options) if plan.is_without_ama(options) else plan.rule_of(options)
        checked = {"machines": machine.machines_of(options), "rule": rule, "options": options}
        warnings = plan.without_effect(options)
        return {**checked, "warnings": warnings} if warnings else checked

    def _agreement(self, options, _given):
        plan.refuse_different(options)
        return {}

    def _read_shared(self, options):
        reads = plan.reads_of_shared(options)
        if plan.is_without_ama(options):
            reads.append(without_ama.reads(options))
        return self._read(reads)

    def _shared(self, options, given):
        reads = self._read_shared(options)
        if plan.is_without_ama(options):
            return {"plan": without_ama.shared(options, reads)}
        return {"plan": plan.shared(options, reads, given["document"])}

    def _machine(self, options, given):
        reads = self._read_machine(options, given["machine"])
        steps = machine.machine(options, given["machine"], reads)
        stopped = chain.stopped(given["machine"], reads["machine"])
        if stopped and not plan.is_without_ama(options):
            raise ArmError(
                f"{stopped} Extensions can be installed on a machine that runs only. Start it, and run this again."
            )
        return {"plan": steps}

    def _grants(self, options, given):
        found = self._read(machine.reads_of_machine(given["machine"])[:1])["machine"] or {}
        steps = machine.grants(options, found)
        if plan.is_without_ama(options):
            steps += without_ama.grants(options, found)
        return {"plan": steps}

    def _look(self, options, _given):
        reads = self._read_shared(options)
        if plan.is_without_ama(options) and reads["direct_rule"]:
            return {"reads": reads, "send_to": without_ama.destination(options, reads["direct_rule"])}
        return {"reads": reads}

    def _checks(self, options, given):
        shared = self._read_shared(options) if given["reads"] is None else given["reads"]
        reads = {**shared, **self._read_machine(options, given["machine"])}
        if plan.is_without_ama(options):
            listed = f"{without_ama.direct_rule_of(options)}/providers/Microsoft.Authorization/roleAssignments"
            reads["senders"] = self._arm.list(listed, plan.API["role"])
        checks = chain.checks(options, given["machine"], reads, given["host"])
        broken = [check["Name"] for check in checks if check["Status"] == chain.BROKEN]
        return {"checks": checks, "ok": not broken, "broken": (broken or [""])[0], "summary": chain.summary(checks)}

    def _policy(self, options, _given):
        reads = self._read(plan.reads_of_shared(options)[:1])
        return {"plan": policy.assignments(options, plan.location_of(options, reads))}

    def _read_policies(self, options):
        initiatives = self._read(policy.reads_of_initiatives(options))
        return initiatives, self._read(policy.reads_of_definitions(initiatives))

    def _policy_grants(self, options, given):
        return {"plan": policy.grants(options, given["made"], *self._read_policies(options))}

    def _remove_policy(self, options, _given):
        steps = policy.assignments(options, "-")
        made = self._read(
            [{"name": step["id"], "id": step["id"], "api_version": step["api_version"]} for step in steps]
        )
        return {"plan": policy.removal(options, made, *self._read_policies(options))}

    def _remove_machine(self, options, given):
        reads = self._read(machine.reads_of_machine(given["machine"]))
        if plan.is_without_ama(options):
            return {"plan": without_ama.removal_of_machine(options, reads["machine"] or {})}
        return {"plan": removal.removal_of_machine(options, given["machine"], reads)}

    def _remove_shared(self, options, given):
        if plan.is_without_ama(options):
            return {"plan": without_ama.removal(options)}
        return {"plan": removal.removal_of_shared(options, given["machines"])}


PARTS = {
    "preflight": ActionModule._preflight,
    "agreement": ActionModule._agreement,
    "shared": ActionModule._shared,
    "machine": ActionModule._machine,
    "grants": ActionModule._grants,
    "policy": ActionModule._policy,
    "policy_grants": ActionModule._policy_grants,
    "look": ActionModule._look,
    "checks": ActionModule._checks,
    "remove_machine": ActionModule._remove_machine,
    "remove_policy": ActionModule._remove_policy,
    "remove_shared": ActionModule._remove_shared,
}
