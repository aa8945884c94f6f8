# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What records need in Azure that come without AMA: custom tables, a rule of the kind Direct, saved functions, and a role for each sender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import direct
from .arm import ArmError
from .ids import RULE, checked, group_of, name_of, same
from .machine import principal_of
from .plan import MADE_BY, TAG, Resource, absent, location_of, role_assignment, workspace_of, workspace_steps

PUBLISHER = "3913510d-42f4-4e42-8a64-420c390055eb"
ROLE = "the role Monitoring Metrics Publisher"


def direct_rule_of(options: Mapping[str, Any]) -> str:
    """The id of the rule that records are sent to. Raises ArmError."""
    if options.get("azure_rule"):
        return checked(options["azure_rule"], RULE, "azure_rule")
    return f"{group_of(workspace_of(options))}/providers/{RULE}/ct-direct"


def reads(options: Mapping[str, Any]) -> Resource:
    return {"name": "direct_rule", "id": direct_rule_of(options), "api_version": direct.RULE_API}


def shared(options: Mapping[str, Any], found: Mapping[str, Any]) -> list[Resource]:
    """Workspace, tables, rule, functions, and the role of azure_senders. `found`: what was read. Raises ArmError."""
    rule_id, location = direct_rule_of(options), location_of(options, found)
    rule: Resource = {
        "name": f"the rule {name_of(rule_id)}",
        "id": rule_id,
        "api_version": direct.RULE_API,
        "body": direct.rule_body(workspace_of(options), location),
        "mark": TAG,
        "found": found.get("direct_rule") or {},
    }
    return [*workspace_steps(options, found), *_tables(options), rule, *_functions(options), *_senders(options)]


def _tables(options: Mapping[str, Any]) -> list[Resource]:
    return [
        {
            "name": f"the table {name}",
            "id": f"{workspace_of(options)}/tables/{name}",
            "api_version": direct.TABLE_API,
            "body": body,
            "mark": {"properties": {"schema": {"description": f"Made by {MADE_BY}"}}},
        }
        for name, body in direct.table_bodies().items()
    ]


def _functions(options: Mapping[str, Any]) -> list[Resource]:
    return [
        {
            "name": f"the function {name}",
            "id": f"{workspace_of(options)}/savedSearches/{name}",
            "api_version": direct.FUNCTION_API,
            "body": body,
            "mark": {"properties": {"tags": [{"name": "made-by", "value": MADE_BY}]}},
        }
        for name, body in direct.function_bodies().items()
    ]


def _senders(options: Mapping[str, Any]) -> list[Resource]:
    return [
        role_assignment(direct_rule_of(options), str(one), PUBLISHER, ROLE)
        for one in options.get("azure_senders") or []
    ]


def grants(options: Mapping[str, Any], found: Mapping[str, Any]) -> list[Resource]:
    """The right of a machine to send. `found`: the machine with its identity."""
    return [role_assignment(direct_rule_of(options), principal_of(options, found), PUBLISHER, ROLE)]


def destination(options: Mapping[str, Any], found: Any) -> str:
    """A sentence with the address to send records to. `found`: the rule. Raises ArmError."""
    where = direct.destination(found or {})
    if not where:
        raise ArmError(
            f"The rule {name_of(direct_rule_of(options))} has no endpoint yet. Run this again in some minutes."
        )
    return f"Send records to {where}: set agent_address or relay_upload to it."


def removal_of_machine(options: Mapping[str, Any], found: Mapping[str, Any]) -> list[Resource]:
    return [absent(step) for step in grants(options, found)]


def removal(options: Mapping[str, Any]) -> list[Resource]:
    """What shared() made, the last first. The tables have data."""
    rule_id = direct_rule_of(options)
    rule: Resource = {
        "name": f"the rule {name_of(rule_id)}",
        "id": rule_id,
        "api_version": direct.RULE_API,
        "mark": TAG,
    }
    tables = _tables(options) if options.get("azure_remove_data") else []
    return [absent(step) for step in [*_senders(options), *_functions(options), rule, *tables]]


def is_sender(options: Mapping[str, Any], principal: str, assignments: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an identity has the role. `assignments`: those of the rule."""
    found = [one.get("properties", {}) for one in assignments]
    senders = [has.get("principalId") for has in found if str(has.get("roleDefinitionId")).lower().endswith(PUBLISHER)]
    return any(same(one, principal) for one in senders)
