# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change tracking for all machines of a scope, by Azure's built-in policy initiatives.

An initiative installs AMA and the extension, and makes the association, with an identity of its own. Which rights that identity
needs, and which policies have to be applied to the machines that exist, is read from the initiative.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from .arm import ArmError
from .ids import Kind, group_of
from .plan import API, LATER, MADE_BY, Resource, absent, kinds_of, role_assignment, rule_of, workspace_of

AUTHORIZATION = "/providers/Microsoft.Authorization"
SCOPE = re.compile(
    r"(/subscriptions/[^/]+(/resourceGroups/[^/]+)?|/providers/Microsoft\.Management/managementGroups/[^/]+)",
    re.IGNORECASE,
)


def scope_of(options: Mapping[str, Any]) -> str:
    scope = str(options["azure_policy_scope"]).strip().rstrip("/")
    if not SCOPE.fullmatch(scope):
        raise ArmError(
            f"azure_policy_scope is '{scope}'. Give the id of a subscription, a resource group or a management group:"
            " /subscriptions/SUBSCRIPTION, /subscriptions/SUBSCRIPTION/resourceGroups/GROUP or"
            " /providers/Microsoft.Management/managementGroups/NAME."
        )
    return scope


def refuse_other_agent(options: Mapping[str, Any]) -> None:
    """Raises ArmError unless Microsoft's agent is wanted, which the initiatives install on every machine of the scope."""
    agent = options.get("azure_agent", "microsoft")
    if agent != "microsoft":
        raise ArmError(
            f"azure_policy_scope is set, and azure_agent is {agent}: the policy initiatives install Microsoft's agent on every machine of"
            " the scope, so every change would be reported twice. Set azure_agent to microsoft, or unset azure_policy_scope."
        )


def assignments(options: Mapping[str, Any], location: str) -> list[Resource]:
    """One assignment for each kind of machine. Raises ArmError."""
    return [_assignment(options, kind, location) for kind in kinds_of(options)]


def _assignment(options: Mapping[str, Any], kind: Kind, location: str) -> Resource:
    parameters = {"dcrResourceId": rule_of(options), **(options.get("azure_policy_parameters") or {})}
    return {
        "name": f"the policy assignment for {kind.noun}s",
        "id": f"{scope_of(options)}{AUTHORIZATION}/policyAssignments/ct-inventory-{kind.name}",
        "api_version": API["policy"],
        "body": {
            "location": location,
            "identity": {"type": "SystemAssigned"},
            "properties": {
                "displayName": f"Change tracking and inventory: {kind.noun}s",
                "policyDefinitionId": f"{AUTHORIZATION}/policySetDefinitions/{kind.initiative}",
                "parameters": {key: {"value": value} for key, value in parameters.items()},
            },
        },
        "mark": {"properties": {"metadata": {"madeBy": MADE_BY}}},
    }


def reads_of_initiatives(options: Mapping[str, Any]) -> list[Resource]:
    return [
        {
            "name": kind.name,
            "id": f"{AUTHORIZATION}/policySetDefinitions/{kind.initiative}",
            "api_version": API["policy"],
        }
        for kind in kinds_of(options)
    ]


def reads_of_definitions(initiatives: Mapping[str, Any]) -> list[Resource]:
    """The policies of the initiatives. Raises ArmError."""
    ids: dict[str, None] = {}
    for kind, initiative in initiatives.items():
        if not initiative:
            raise ArmError(
                f"The built-in policy initiative for {kind} does not exist in this cloud. Remove it from azure_policy_kinds."
            )
        ids.update(dict.fromkeys(one["policyDefinitionId"] for one in _members(initiative)))
    return [{"name": ident, "id": ident, "api_version": API["policy"]} for ident in ids]


def grants(
    options: Mapping[str, Any], made: Mapping[str, Any], initiatives: Mapping[str, Any], definitions: Mapping[str, Any]
) -> list[Resource]:
    """The rights that the identities of the assignments need, and the remediations. `made`: the assignments, by their ids."""
    scope, group = scope_of(options), group_of(workspace_of(options))
    scopes = [scope] if f"{group}/".lower().startswith(f"{scope}/".lower()) else [scope, group]
    plan: list[Resource] = []
    for kind in kinds_of(options):
        ident = _assignment(options, kind, "")["id"]
        principal = str(((made.get(ident) or {}).get("identity") or {}).get("principalId") or LATER)
        members = _members(initiatives[kind.name])
        roles = {
            role.rpartition("/")[2].lower(): None
            for one in members
            for role in _roles(definitions.get(one["policyDefinitionId"]))
        }
        plan += [
            role_assignment(where, principal, role, f"the role {role} for the policies of {kind.noun}s")
            for where in scopes
            for role in roles
        ]
        if options.get("azure_policy_remediate", True):
            plan += [
                _remediation(scope, ident, kind, one)
                for one in members
                if _roles(definitions.get(one["policyDefinitionId"]))
            ]
    return plan


def _members(initiative: Any) -> list[Mapping[str, Any]]:
    return list(initiative["properties"]["policyDefinitions"])


def _roles(definition: Any) -> list[str]:
    """The roles that a policy needs to deploy something; none if it only audits."""
    then = ((definition or {}).get("properties", {}).get("policyRule") or {}).get("then") or {}
    details = then.get("details")
    return list(details.get("roleDefinitionIds") or []) if isinstance(details, Mapping) else []


def _remediation(scope: str, assignment: str, kind: Kind, member: Mapping[str, Any]) -> Resource:
    reference = str(member["policyDefinitionReferenceId"])
    name = f"ct-inventory-{kind.name}-{uuid.uuid5(uuid.NAMESPACE_URL, reference)}"
    properties = {"policyAssignmentId": assignment, "policyDefinitionReferenceId": reference}
    if not scope.lower().startswith("/providers/"):  # where ARM does not find again what is not compliant
        properties["resourceDiscoveryMode"] = "ReEvaluateCompliance"
    return {
        "name": f"the remediation of {reference} for {kind.noun}s",
        "id": f"{scope}/providers/Microsoft.PolicyInsights/remediations/{name}",
        "api_version": API["remediation"],
        "body": {"properties": properties},
        "create_only": True,
        "wait": False,
    }


def removal(
    options: Mapping[str, Any], made: Mapping[str, Any], initiatives: Mapping[str, Any], definitions: Mapping[str, Any]
) -> list[Resource]:
    """The rights and the assignments, the last first. Remediations have no effect without their assignment."""
    steps = grants({**options, "azure_policy_remediate": False}, made, initiatives, definitions)
    steps = [step for step in steps if step["body"]["properties"]["principalId"] != LATER]
    steps += assignments(options, "-")
    return [absent(step) for step in steps]
