# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resource ids, and what differs between the three kinds of machines."""

from __future__ import annotations

import re
from typing import NamedTuple

from .arm import ArmError

GROUP = r"/subscriptions/[^/]+/resourceGroups/[^/]+"
WORKSPACE = "Microsoft.OperationalInsights/workspaces"
RULE = "Microsoft.Insights/dataCollectionRules"
ASSOCIATION = "Microsoft.Insights/dataCollectionRuleAssociations"
STORAGE = "Microsoft.Storage/storageAccounts"
IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"


class Kind(NamedTuple):
    """A kind of machine."""

    name: str
    type: str
    api_version: str  # of the machine and its extensions
    initiative: str  # built-in policy initiative
    noun: str


KINDS = {
    "vm": Kind(
        "vm",
        "Microsoft.Compute/virtualMachines",
        "2024-07-01",
        "92a36f05-ebc9-4bba-9128-b47ad2ea3354",
        "virtual machine",
    ),
    "vmss": Kind(
        "vmss",
        "Microsoft.Compute/virtualMachineScaleSets",
        "2024-07-01",
        "c4a70814-96be-461c-889f-2b27429120dc",
        "scale set",
    ),
    "arc": Kind(
        "arc", "Microsoft.HybridCompute/machines", "2024-07-10", "53448c70-089b-4f52-8f38-89196d7f2de1", "Arc machine"
    ),
}


def checked(ident: str, kind: str, option: str) -> str:
    """The id of a resource of this type, without a slash at its end. Raises ArmError."""
    text = str(ident).strip().rstrip("/")
    if not re.fullmatch(rf"{GROUP}/providers/{re.escape(kind)}/[^/?#\s]+", text, re.IGNORECASE):
        raise ArmError(
            f"{option} is '{ident}', which is not the id of a {kind.rpartition('/')[2]}. Give it in the form"
            f" /subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/{kind}/NAME."
        )
    return text


def machine_kind(ident: str) -> Kind:
    """Raises ArmError."""
    for kind in KINDS.values():
        if re.fullmatch(rf"{GROUP}/providers/{kind.type}/[^/?#\s]+", str(ident), re.IGNORECASE):
            return kind
    raise ArmError(
        f"azure_machine is '{ident}', which is not the id of a machine. Give that of a virtual machine, a scale set or an Arc machine:"
        f" /subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/{KINDS['vm'].type}/NAME."
    )


def group_of(ident: str) -> str:
    """The id of the resource group that a resource is in."""
    return "/".join(ident.split("/")[:5])


def name_of(ident: str) -> str:
    return ident.rstrip("/").rpartition("/")[2]


def same(one: object, other: object) -> bool:
    """Whether two ids are those of one resource: ARM does not care for upper and lower case."""
    return str(one).rstrip("/").lower() == str(other).rstrip("/").lower()
