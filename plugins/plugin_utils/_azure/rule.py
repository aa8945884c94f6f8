# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the data collection rule that Azure gets: from a short list of what to track, or from a rule in any form.

Azure takes any extensionSettings, and ignores what it does not know. So the rule is read by the parser of this collection first, and
whatever that does not use is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...module_utils._cti.errors import DcrError
from ...module_utils._cti.rule import dcr, forms
from ...module_utils._cti.rule.settings import EXTENSION, Settings
from .arm import ArmError
from .ids import same

NAME = "CTDataSource-Linux"
DESTINATION = "Microsoft-CT-Dest"
STREAMS = ["Microsoft-ConfigurationChange", "Microsoft-ConfigurationChangeV2", "Microsoft-ConfigurationData"]
OLDER_STREAMS = ("Microsoft-ConfigurationChange",)  # Microsoft's agent sends V2
MOST_FILES = 500  # that Azure takes
# What Azure's template and its portal write into each file item.
ITEM: dict[str, Any] = {
    "enabled": True,
    "useSudo": True,
    "recurse": True,
    "maxContentsReturnable": 5000000,
    "pathType": "File",
    "type": "File",
    "links": "Follow",
    "maxOutputSize": 500000,
    "groupTag": "Custom",
}


def settings_of_track(track: Mapping[str, Any]) -> dict[str, Any]:
    """The extensionSettings for a short list in the form of agent_track."""

    def every(name: str, preset: int) -> tuple[bool, int]:
        seconds = int(track.get(name, preset))
        return seconds > 0, seconds or preset

    files = list(track.get("files") or [])
    packages, services, inventory = (
        every("packages_every", 300),
        every("services_every", 300),
        every("inventory_every", 36000),
    )
    return {
        "enableFiles": bool(files),
        "enableSoftware": packages[0],
        "enableRegistry": False,
        "enableServices": services[0],
        "enableInventory": inventory[0],
        "fileSettings": {
            "fileCollectionFrequency": int(track.get("files_every", 900)),
            "fileInfo": [{"name": item, "destinationPath": item} if isinstance(item, str) else item for item in files],
        },
        "softwareSettings": {"softwareCollectionFrequency": packages[1]},
        "servicesSettings": {"serviceCollectionFrequency": services[1]},
        "inventorySettings": {"inventoryCollectionFrequency": inventory[1]},
    }


def settings_of_document(document: Any) -> dict[str, Any]:
    """The extensionSettings of the one rule in a document. Raises ArmError."""
    try:
        elements = forms.find(document, "in azure_dcr")
    except DcrError as error:
        raise ArmError(str(error)) from error
    if len(elements) > 1:
        names = ", ".join(element.id for element in elements[:5])
        raise ArmError(
            f"azure_dcr has {len(elements)} rules ({names}), and Microsoft's agent takes one. Give one rule."
        )
    return dict(elements[0].settings or {})


def body(
    settings: Mapping[str, Any], workspace: str, location: str, document: Any, upload: Mapping[str, Any]
) -> dict[str, Any]:
    """The rule in ARM's form. `document`: where it was read from; its data source for Windows is kept. `upload`: uploadSetting, or {}."""
    completed = complete(settings, upload)
    extension = {"name": NAME, "extensionName": EXTENSION, "streams": STREAMS, "extensionSettings": completed}
    others = [other for other in _extensions(document) if other.get("extensionName") == "ChangeTracking-Windows"]
    return {
        "location": location,
        "properties": {
            "dataSources": {"extensions": [extension, *others]},
            "destinations": {"logAnalytics": [{"workspaceResourceId": workspace, "name": DESTINATION}]},
            "dataFlows": [{"streams": STREAMS, "destinations": [DESTINATION]}],
        },
    }


def complete(settings: Mapping[str, Any], upload: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with all keys that Azure's portal writes, since Microsoft's agent has no documented value for a missing one."""
    section = dict(settings.get("fileSettings") or {})
    items = section.get("fileInfo")
    if isinstance(items, list):
        section["fileInfo"] = [{**ITEM, **item} if isinstance(item, Mapping) else item for item in items]
    if upload:
        section["uploadSetting"] = dict(upload)
    result = {"enableRegistry": False, **settings, "fileSettings": section}
    if upload:
        result["enableUpload"] = True
    return result


def check(rule: Any, origin: str, allow_ignored: bool) -> Settings:
    """What the rule tracks. Raises ArmError if it cannot be read, or has something that is not used."""
    try:
        settings = dcr.given(rule, origin)
    except DcrError as error:
        raise ArmError(str(error)) from error
    problems = [*settings.warnings, *_foreign(rule)]
    if len(settings.file_rules) > MOST_FILES:
        problems.append(f"The rule has {len(settings.file_rules)} file items. Azure takes {MOST_FILES}.")
    if problems and not allow_ignored:
        more = f" ({len(problems) - 1} more like this.)" if len(problems) > 1 else ""
        raise ArmError(
            f"{problems[0]}{more} Azure would not say so. Correct the rule, or set azure_allow_ignored to true."
        )
    return settings


def uploads_to(document: Any, upload: Mapping[str, Any]) -> bool:
    """Whether the rule has contents of files uploaded to the account of `upload`, an uploadSetting."""
    for one in _extensions(document):
        settings = one.get("extensionSettings")
        if one.get("extensionName") != EXTENSION or not isinstance(settings, Mapping):
            continue
        section = settings.get("fileSettings")
        has = section.get("uploadSetting") if isinstance(section, Mapping) else None
        if settings.get("enableUpload") is True and isinstance(has, Mapping):
            return any(same(has.get(key), upload[key]) for key in ("storageAccountResourceId", "blobEndpoint"))
    return False


def _extensions(document: Any) -> Sequence[Mapping[str, Any]]:
    properties = document.get("properties", document) if isinstance(document, Mapping) else {}
    sources = properties.get("dataSources") if isinstance(properties, Mapping) else None
    listed = sources.get("extensions") if isinstance(sources, Mapping) else None
    return [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []


def _foreign(document: Any) -> list[str]:
    """A sentence for each other data source in the rule: Azure wants a rule for change tracking to have none."""
    properties = document.get("properties", document) if isinstance(document, Mapping) else {}
    sources = properties.get("dataSources") if isinstance(properties, Mapping) else None
    kinds = (
        [key for key, value in sources.items() if key != "extensions" and value] if isinstance(sources, Mapping) else []
    )
    names = [str(one.get("extensionName")) for one in _extensions(document)]
    kinds += [name for name in names if not name.startswith("ChangeTracking-")]
    return [f"The rule has the data source {kind}. Put it into a rule of its own." for kind in kinds]
