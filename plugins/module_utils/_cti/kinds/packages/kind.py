# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Packages: an item is one installed version of one package."""

from typing import NamedTuple, Optional

from ...text import timestamp
from ..kind import DcrKeys, Kind, Row


class Package(NamedTuple):
    """One installed version of one package."""

    name: str
    architecture: str
    version: str  # as the package manager compares it: dpkg's Version, rpm's EPOCH:VERSION-RELEASE
    summary: str
    publisher: str
    size: Optional[int]  # bytes
    installed_on: Optional[int]  # unix seconds
    source: str = ""  # what it was built from: dpkg's Source, empty where that is the name and version; rpm's SOURCERPM


def _row(item: Package) -> Row:
    return {
        "SoftwareName": item.name,
        "SoftwareType": "Package",
        "SoftwareDescription": item.summary,
        "Publisher": item.publisher,
        "CurrentVersion": item.version,
        "Architecture": item.architecture,
        "Size": item.size,
        "InstalledOn": timestamp(item.installed_on),
    }


def _item_form(item: Package) -> Row:
    return {
        "CollectionName": item.name,
        "Name": item.name,
        "Architecture": item.architecture,
        "CurrentVersion": item.version,
        "Description": item.summary,
        "Publisher": item.publisher,
        "Size": item.size,
        "ItemType": "Package",
        "Timestamp": timestamp(item.installed_on),
    }


PACKAGES = Kind(
    name="packages",
    config_type="Software",
    item=Package,
    identity=lambda item: (item.name, item.architecture),
    compared=lambda item: item[:6],
    make_row=_row,
    columns=tuple(_row(Package("", "", "", "", "", None, None))),
    tracked={"CurrentVersion": ("Current", "Previous")},
    uncompared=("InstalledOn",),
    dcr=DcrKeys("enableSoftware", "softwareSettings", "softwareCollectionFrequency", 300),
    fact_module="ct_package_facts",
    item_file="Packages.json",
    item_form=_item_form,
    received="Package",
    shown=("SoftwareName", "CurrentVersion", "Architecture"),
    version="CurrentVersion",
    on_request={"Source": lambda item: item.source},
)
