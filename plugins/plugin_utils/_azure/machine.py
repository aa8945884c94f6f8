# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one machine needs in Azure: identity, extensions, association, and the right to store the contents of files. See plan.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .arm import ArmError
from .compare import seen
from .ids import ASSOCIATION, Kind, machine_kind, name_of, same
from .plan import (
    API,
    DESCRIPTION,
    LATER,
    MADE_BY,
    TAG,
    Resource,
    identity_of,
    is_without_ama,
    role_assignment,
    rule_of,
    upload_setting,
)

AMA, CT = "AzureMonitorLinuxAgent", "ChangeTracking-Linux"
PUBLISHERS = {AMA: ("Microsoft.Azure.Monitor", "1.21"), CT: ("Microsoft.Azure.ChangeTrackingAndInventory", "2.0")}
ASSOCIATION_NAME = "ct-inventory"
CONTAINER = "changetrackingblob"
BLOB_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"


def reads_of_machine(machine: str) -> list[Resource]:
    kind = machine_kind(machine)
    reads: list[Resource] = [
        {"name": "machine", "id": machine, "api_version": kind.api_version},
        {"name": "extensions", "id": f"{machine}/extensions", "api_version": kind.api_version, "list": True},
        {
            "name": "associations",
            "id": f"{machine}/providers/{ASSOCIATION}",
            "api_version": API["association"],
            "list": True,
        },
    ]
    if kind.name == "vm":
        reads[0]["id"] += "?$expand=instanceView"
    return reads


def reads_of_other_rules(options: Mapping[str, Any], reads: Mapping[str, Any]) -> list[Resource]:
    """The other rules of a machine, of which one may be for change tracking too."""
    if is_without_ama(options):
        return []
    ours = rule_of(options)
    ids = [one.get("properties", {}).get("dataCollectionRuleId") for one in reads.get("associations") or []]
    others = dict.fromkeys(one for one in ids if one and not same(one, ours))
    return [{"name": one, "id": one, "api_version": API["rule"]} for one in others]


def machine(options: Mapping[str, Any], ident: str, reads: Mapping[str, Any]) -> list[Resource]:
    """Identity, extensions and association of one machine. Raises ArmError."""
    kind, found = machine_kind(ident), reads.get("machine")
    if not found:
        raise ArmError(f"The {kind.noun} {ident} does not exist. Correct azure_machine.")
    if is_without_ama(options):
        return [step for step in [identity(options, kind, ident, found)] if step]
    refuse_other_rule(options, ident, reads)
    plan = [identity(options, kind, ident, found)]
    plan += [extension_step(options, kind, ident, reads, name) for name in extensions_of(options)]
    plan.append(association(options, ident, reads))
    return [step for step in plan if step]


def extensions_of(options: Mapping[str, Any]) -> list[str]:
    return [AMA, CT] if options.get("azure_agent", "microsoft") == "microsoft" else [AMA]


def refuse_other_rule(options: Mapping[str, Any], ident: str, reads: Mapping[str, Any]) -> None:
    """Raises ArmError if another rule for change tracking is associated: Microsoft's agent would take one of them at random."""
    others = other_rules(reads)
    if others:
        raise ArmError(
            f"{name_of(ident)} is associated with another rule for change tracking ({others[0]}), and Microsoft's agent takes one of"
            " them at random. Delete that association, or set azure_rule to that rule."
        )


def other_rules(reads: Mapping[str, Any]) -> list[str]:
    """The ids of the other rules of a machine that are for change tracking on Linux."""
    found = {ident: body for ident, body in (reads.get("others") or {}).items() if isinstance(body, Mapping)}
    return [
        ident
        for ident, body in found.items()
        if any(
            one.get("extensionName") == CT
            for one in (body["properties"].get("dataSources") or {}).get("extensions") or []
        )
    ]


def identity(options: Mapping[str, Any], kind: Kind, ident: str, found: Mapping[str, Any]) -> Resource:
    """The identity of a machine; {} if it has it."""
    wanted, has = identity_of(options), found.get("identity") or {}
    types = [text.strip() for text in str(has.get("type") or "None").split(",") if text.strip() != "None"]
    assigned = [one for one in has.get("userAssignedIdentities") or {} if same(one, wanted)]
    if kind.name == "arc":
        if wanted:
            raise ArmError(
                f"{name_of(ident)} is an Arc machine, which has no user-assigned identity. Set azure_identity to system."
            )
        return {}
    if ("UserAssigned" in types and assigned) if wanted else ("SystemAssigned" in types):
        return {}
    body: Resource = {"type": ", ".join(sorted({*types, "UserAssigned" if wanted else "SystemAssigned"}))}
    if wanted:
        body["userAssignedIdentities"] = {wanted: {}}
    return {
        "name": f"the identity of {name_of(ident)}",
        "id": ident,
        "api_version": kind.api_version,
        "method": "PATCH",
        "body": {"identity": body},
        "found": found,
    }


def extension_step(options: Mapping[str, Any], kind: Kind, ident: str, reads: Mapping[str, Any], name: str) -> Resource:
    publisher, version = PUBLISHERS[name]
    existing = extension(reads, name)
    if existing:  # automatic upgrades go on; an older version would be a step back
        version = ".".join(str(existing["properties"].get("typeHandlerVersion") or version).split(".")[:2])
    properties: Resource = {
        "publisher": publisher,
        "type": name,
        "typeHandlerVersion": version,
        "autoUpgradeMinorVersion": True,
        "enableAutomaticUpgrade": True,
    }
    identity = identity_of(options)
    if name == AMA and identity:
        properties["settings"] = {
            "authentication": {"managedIdentity": {"identifier-name": "mi_res_id", "identifier-value": identity}}
        }
    body: Resource = {"properties": properties}
    if kind.name == "arc":  # which takes the newest version, and reports the one that is there
        del properties["typeHandlerVersion"], properties["autoUpgradeMinorVersion"]
    if kind.name != "vmss":
        body["location"] = reads["machine"]["location"]
    # An extension of a scale set has no tags.
    mark = {"properties": {"forceUpdateTag": MADE_BY}} if kind.name == "vmss" else TAG
    if (
        existing and seen(mark, existing) != mark
    ):  # how others have it upgraded, and what it signs in with, is theirs to say
        for key in ("autoUpgradeMinorVersion", "enableAutomaticUpgrade"):
            properties.pop(key, None)
        theirs = existing["properties"]
        properties = body["properties"] = {
            **{
                key: theirs[key]
                for key in ("autoUpgradeMinorVersion", "enableAutomaticUpgrade", "settings")
                if key in theirs
            },
            **properties,
        }
    return {
        "name": f"the extension {name} of {name_of(ident)}",
        "id": f"{ident}/extensions/{existing['name'] if existing else name}",
        "api_version": kind.api_version,
        "body": body,
        "mark": mark,
        "found": existing or {},
    }


def extension(reads: Mapping[str, Any], name: str) -> Any:
    """The extension of this type, whatever its name: a machine has at most one; None if there is none."""
    publisher = PUBLISHERS[name][0]
    for one in reads.get("extensions") or []:
        properties = one.get("properties") or {}
        if same(properties.get("publisher"), publisher) and same(properties.get("type"), name):
            return one
    return None


def association(options: Mapping[str, Any], ident: str, reads: Mapping[str, Any]) -> Resource:
    ours, listed = rule_of(options), reads.get("associations") or []
    found = [one for one in listed if same(one.get("properties", {}).get("dataCollectionRuleId"), ours)]
    found += [one for one in listed if same(one.get("name"), ASSOCIATION_NAME)]
    return {
        "name": f"the association of {name_of(ident)}",
        "id": f"{ident}/providers/{ASSOCIATION}/{found[0]['name'] if found else ASSOCIATION_NAME}",
        "api_version": API["association"],
        "body": {"properties": {"dataCollectionRuleId": ours}},
        "mark": DESCRIPTION,
        "found": found[0] if found else {},
    }


def grants(options: Mapping[str, Any], found: Mapping[str, Any]) -> list[Resource]:
    """The container for the contents of files, and the machine's right to write to it. `found`: the machine with its identity."""
    upload = upload_setting(options)
    if not upload:
        return []
    scope = f"{upload['storageAccountResourceId']}/blobServices/default/containers/{CONTAINER}"
    container: Resource = {
        "name": f"the container {CONTAINER}",
        "id": scope,
        "api_version": API["container"],
        "body": {"properties": {"publicAccess": "None"}},
        "mark": {"properties": {"metadata": {"madeby": "changetracking"}}},
        "create_only": True,
    }
    principal = principal_of(options, found)
    return [container, role_assignment(scope, principal, BLOB_CONTRIBUTOR, "the role Storage Blob Data Contributor")]


def principal_of(options: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The principal id of the machine's identity."""
    identity, has = identity_of(options), found.get("identity") or {}
    if not identity:
        return str(has.get("principalId") or LATER)
    assigned = [value for key, value in (has.get("userAssignedIdentities") or {}).items() if same(key, identity)]
    return str((assigned[0] or {}).get("principalId") or LATER) if assigned else LATER


def machines_of(options: Mapping[str, Any]) -> list[str]:
    """The ids of the machines that an inventory host stands for. Raises ArmError."""
    given = options.get("azure_machines") or ([options["azure_machine"]] if options.get("azure_machine") else [])
    machines = [str(ident).strip().rstrip("/") for ident in given]
    for ident in machines:
        machine_kind(ident)
    return list({ident.lower(): ident for ident in machines}.values())
