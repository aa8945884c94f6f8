# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resources that change tracking needs in Azure, in the order in which they are made, as arguments of ct_azure_resource.

Pure functions of the role's options (`options`, by name) and of what was read (`reads`, by name; None for what does not exist).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from . import rule
from .arm import ArmError
from .ids import (
    IDENTITY,
    KINDS,
    RULE,
    STORAGE,
    WORKSPACE,
    Kind,
    checked,
    group_of,
    name_of,
    same,
)

MADE_BY = "changetracking.inventory"
TAG = {"tags": {"made-by": MADE_BY}}
DESCRIPTION = {"properties": {"description": f"Made by {MADE_BY}"}}
# Options from which the same is made for all hosts of a run. The identity is in the rule if there are contents to upload.
SHARED = (
    "azure_state", "azure_workspace", "azure_location", "azure_retention_days", "azure_rule", "azure_track", "azure_dcr", "azure_allow_ignored",
    "azure_agent", "azure_senders", "azure_contents_account", "azure_blob_endpoint", "azure_policy_scope", "azure_policy_kinds",
    "azure_policy_parameters", "azure_policy_remediate", "azure_remove_data",
)  # fmt: skip
LATER = "known after the identity is made"  # in check mode
API = {
    "group": "2021-04-01",
    "workspace": "2022-10-01",
    "solution": "2015-11-01-preview",
    "rule": "2022-06-01",
    "association": "2022-06-01",
    "container": "2023-05-01",
    "role": "2022-04-01",
    "policy": "2023-04-01",
    "remediation": "2021-10-01",
    "table": "2022-10-01",
    "function": "2020-08-01",
}
Resource = dict[str, Any]


def workspace_of(options: Mapping[str, Any]) -> str:
    return checked(options["azure_workspace"], WORKSPACE, "azure_workspace")


def rule_of(options: Mapping[str, Any]) -> str:
    """The id of the rule. Raises ArmError if it is not in the resource group of the workspace."""
    group = group_of(workspace_of(options))
    if not options.get("azure_rule"):
        return f"{group}/providers/{RULE}/ct-dcr"
    given = checked(options["azure_rule"], RULE, "azure_rule")
    if not same(group_of(given), group):
        raise ArmError(
            f"azure_rule is '{given}', which is not in the resource group of the workspace ({group}). Move one of them."
        )
    return given


def solution_of(workspace: str) -> str:
    return (
        f"{group_of(workspace)}/providers/Microsoft.OperationsManagement/solutions/ChangeTracking({name_of(workspace)})"
    )


def reads_of_shared(options: Mapping[str, Any]) -> list[Resource]:
    workspace = workspace_of(options)
    first = {"name": "workspace", "id": workspace, "api_version": API["workspace"]}
    if is_without_ama(options):
        return [first]
    return [
        first,
        {"name": "solution", "id": solution_of(workspace), "api_version": API["solution"]},
        {"name": "rule", "id": rule_of(options), "api_version": API["rule"]},
    ]


def is_without_ama(options: Mapping[str, Any]) -> bool:
    return bool(options.get("azure_agent") == "without_ama")


def shared(options: Mapping[str, Any], reads: Mapping[str, Any], document: Any = None) -> list[Resource]:
    """Workspace, solution and rule. `document`: the rule in azure_dcr, as data. Raises ArmError."""
    solution_and_rule = [_solution_step(options, reads), *_rule_step(options, reads, document)]
    return [*workspace_steps(options, reads), *solution_and_rule]


def workspace_steps(options: Mapping[str, Any], reads: Mapping[str, Any]) -> list[Resource]:
    """The workspace, and its resource group if there is no workspace yet. Raises ArmError."""
    workspace, location = workspace_of(options), location_of(options, reads)
    retention = {"sku": {"name": "PerGB2018"}, "retentionInDays": int(options["azure_retention_days"])}
    step: Resource = {
        "name": f"the workspace {name_of(workspace)}",
        "id": workspace,
        "api_version": API["workspace"],
        "body": {"location": location, "properties": retention},
        "mark": TAG,
        "create_only": True,
        "found": reads.get("workspace") or {},
    }
    return [step] if reads.get("workspace") else [resource_group(workspace, location), step]


def _solution_step(options: Mapping[str, Any], reads: Mapping[str, Any]) -> Resource:
    workspace = workspace_of(options)
    name = f"ChangeTracking({name_of(workspace)})"
    return {
        "name": "the solution ChangeTracking",
        "id": solution_of(workspace),
        "api_version": API["solution"],
        "body": {
            "location": location_of(options, reads),
            "properties": {"workspaceResourceId": workspace},
            "plan": {
                "name": name,
                "product": "OMSGallery/ChangeTracking",
                "promotionCode": "",
                "publisher": "Microsoft",
            },
        },
        "mark": TAG,
        "create_only": True,
        "found": reads.get("solution") or {},
    }


def _rule_step(options: Mapping[str, Any], reads: Mapping[str, Any], document: Any) -> list[Resource]:
    wanted = rule_body(options, reads, location_of(options, reads), document)
    if wanted is None:
        return []
    step: Resource = {
        "name": f"the rule {name_of(rule_of(options))}",
        "id": rule_of(options),
        "api_version": API["rule"],
        "body": wanted,
        "mark": TAG,
        "found": reads.get("rule") or {},
    }
    return [step]


def location_of(options: Mapping[str, Any], reads: Mapping[str, Any]) -> str:
    """Where things are made: where the workspace is. Raises ArmError."""
    location = (reads.get("workspace") or {}).get("location") or options.get("azure_location")
    if not location:
        raise ArmError(
            f"The workspace {workspace_of(options)} does not exist. Correct azure_workspace, or set azure_location to the region to make it in."
        )
    return str(location)


def rule_body(options: Mapping[str, Any], reads: Mapping[str, Any], location: str, document: Any = None) -> Any:
    """The rule to send; None to leave the rule that exists as it is. Raises ArmError."""
    allowed = bool(options.get("azure_allow_ignored"))
    track, found = options.get("azure_track"), reads.get("rule")
    if track and document is not None:
        raise ArmError("Both azure_dcr and azure_track are set. Set only one of them.")
    if not track and document is None:
        if not found:
            raise ArmError("There is no rule yet. Set azure_dcr to recommended, or azure_track to what to track.")
        name = f"'{name_of(rule_of(options))}' in Azure"
        rule.check(found, name, allowed)
        upload = upload_setting(options)
        if upload and not rule.uploads_to(found, upload):
            raise ArmError(
                f"azure_contents_account is set, but the rule {name} does not upload to {name_of(upload['storageAccountResourceId'])}, and"
                " without azure_dcr and azure_track it is left as it is. Set one of them, or set enableUpload and uploadSetting in the rule."
            )
        return None
    settings = rule.settings_of_track(track) if track else rule.settings_of_document(document)
    if document is not None:
        rule.check(document, "in azure_dcr", allowed)
    made = rule.body(settings, workspace_of(options), location, document, upload_setting(options))
    rule.check(made, "made of azure_track" if track else "made of azure_dcr", allowed)
    return made


def without_effect(options: Mapping[str, Any]) -> list[str]:
    """A sentence for each option that is set, and that the other options make of no effect."""
    found = []
    if is_without_ama(options):
        found += [
            f"{name} has no effect with azure_agent=without_ama: the agents track what agent_dcr or agent_track says."
            for name in ("azure_dcr", "azure_track")
            if options.get(name)
        ]
    elif options.get("azure_senders"):
        found.append("azure_senders has no effect without azure_agent=without_ama.")
    if options.get("azure_blob_endpoint") and not options.get("azure_contents_account"):
        found.append("azure_blob_endpoint has no effect without azure_contents_account.")
    if options.get("azure_policy_parameters") and not options.get("azure_policy_scope"):
        found.append("azure_policy_parameters has no effect without azure_policy_scope.")
    return found


def refuse_different(hosts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ArmError if hosts differ in an option from which the same is made for all of them. `hosts`: the options of each."""
    known: dict[str, tuple[str, str]] = {}
    for host, options in hosts.items():
        for name, value in _shared(options).items():
            first, other = known.setdefault(name, (host, str(value)))
            if str(value) != other:
                raise ArmError(
                    f"{name} of {host} is not that of {first}, and what is made from it is shared by all hosts of a run. Run the playbook"
                    " once for each value, with ct_hosts."
                )


def _shared(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options from which something is made for all hosts, by what they come to: without AMA or with one of its agents, and an
    identity only where the contents of files are uploaded with it."""
    shared = {name: options.get(name) for name in SHARED}
    shared["azure_agent"] = is_without_ama(options)
    if options.get("azure_contents_account"):
        shared["azure_identity"] = options.get("azure_identity")
    return shared


def upload_setting(options: Mapping[str, Any]) -> Resource:
    """Where Microsoft's agent uploads the contents of files; {} for nowhere. Raises ArmError."""
    if not options.get("azure_contents_account"):
        return {}
    account = checked(options["azure_contents_account"], STORAGE, "azure_contents_account")
    identity = identity_of(options)
    return {
        "storageAccountResourceId": account,
        "blobEndpoint": options.get("azure_blob_endpoint") or f"https://{name_of(account)}.blob.core.windows.net/",
        "managedIdentity": identity,
    }


def identity_of(options: Mapping[str, Any]) -> str:
    """The id of the user-assigned identity; "" for the system-assigned one. Raises ArmError."""
    given = options.get("azure_identity", "system")
    return "" if given == "system" else checked(given, IDENTITY, "azure_identity")


def role_assignment(scope: str, principal: str, role: str, what: str) -> Resource:
    """The name of an assignment is a UUID: one that follows from scope, identity and role, so that a second run finds it."""
    subscription = "/".join(scope.split("/")[:3]) if scope.lower().startswith("/subscriptions/") else ""
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{scope.lower()}|{principal}|{role}")
    return {
        "name": f"{what} on {name_of(scope)}",
        "id": f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}",
        "api_version": API["role"],
        "body": {
            "properties": {
                "roleDefinitionId": f"{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}",
                "principalId": principal,
                "principalType": "ServicePrincipal",
            }
        },
        "mark": DESCRIPTION,
    }


def resource_group(workspace: str, location: str) -> Resource:
    group = group_of(workspace)
    return {
        "name": f"the resource group {name_of(group)}",
        "id": group,
        "api_version": API["group"],
        "body": {"location": location},
        "mark": TAG,
        "create_only": True,
    }


def kinds_of(options: Mapping[str, Any]) -> list[Kind]:
    return [KINDS[name] for name in options.get("azure_policy_kinds") or KINDS]


def absent(step: Mapping[str, Any]) -> Resource:
    """The same resource, to be deleted."""
    return {**{key: step[key] for key in ("name", "id", "api_version", "mark")}, "state": "absent"}
