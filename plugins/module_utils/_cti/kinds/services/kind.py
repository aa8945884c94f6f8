# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Services: an item is one systemd service unit."""

from typing import NamedTuple, Optional, Tuple

from ..kind import DcrKeys, Kind, Row


class Service(NamedTuple):
    """One systemd service unit, under its Id."""

    name: str  # without ".service"
    description: str
    load_state: str  # systemd's own words from here on; "unknown" where systemd is not running
    active_state: str
    sub_state: str
    unit_file_state: str
    wanted_by: str  # sorted, one blank between two
    path: str  # FragmentPath
    # Whether systemd starts it when it is needed, so that its state says nothing; None: stored by an earlier version
    on_demand: Optional[bool] = None

    @property
    def is_enabled(self) -> bool:
        """Whether something starts it without its being needed, such as a target."""
        return bool(self.wanted_by) or self.unit_file_state.startswith("enabled")


def _state(item: Service) -> str:
    if item.sub_state == "unknown":
        return "Unknown"
    is_up = "running" in item.sub_state or item.active_state in ("reloading", "refreshing")
    return "Running" if is_up else "Stopped"


def _row(item: Service) -> Row:
    return {
        "SvcName": item.name,
        "SvcDescription": item.description,
        "SvcState": _state(item),
        "SvcStartupType": "Enabled" if "enabled" in item.unit_file_state else "Disabled",
        "SvcRunlevels": item.wanted_by,
        "SvcController": "systemd",
        "SvcPath": item.path,
        "LoadState": item.load_state,
        "ActiveState": item.active_state,
        "SubState": item.sub_state,
        "UnitFileState": item.unit_file_state,
    }


def _incomparable(older: Service, newer: Service) -> Tuple[str, ...]:
    """The state of a service that systemd starts when it is needed changes by being used; once nothing starts it any more,
    and it is not enabled, its state is somebody's doing again. An older version's
    SvcRunlevels depended on what was loaded. Where systemd ran for one of the two runs only, the other one knows no
    states and no search path, and may lack what is in /run, drop-ins among it."""
    out = []
    if newer.on_demand or (older.on_demand and newer.is_enabled):
        out.append("SvcState")
    if older.on_demand is None:
        out.append("SvcRunlevels")
    if (older.sub_state == "unknown") != (newer.sub_state == "unknown"):
        out += ["SvcState", "SvcPath", "SvcDescription"]
        if "-runtime" in older.unit_file_state + newer.unit_file_state:
            out += ["SvcStartupType", "SvcRunlevels", "UnitFileState"]
    return tuple(out)


def _item_form(item: Service) -> Row:
    return {
        "CollectionName": item.name,
        "Name": item.name,
        "Description": item.description,
        "State": _state(item),
        "Path": item.path,
        "Runlevels": item.wanted_by,
        "Enabled": "enabled" in item.unit_file_state,
        "Controller": "systemd",
        "ItemType": "Daemon",
    }


SERVICES = Kind(
    name="services",
    config_type="Daemons",
    item=Service,
    identity=lambda item: (item.name,),
    compared=lambda item: (item[0], item[1], "" if item.on_demand else _state(item), *item[5:8]),
    make_row=_row,
    columns=tuple(_row(Service("", "", "", "", "", "", "", ""))),
    tracked={
        "SvcState": ("SvcState", "SvcPreviousState"),
        "SvcStartupType": ("SvcStartupType", "SvcPreviousStartupType"),
        "SvcRunlevels": ("SvcRunlevels", "SvcPreviousRunlevels"),
        "SvcController": ("SvcController", "SvcPreviousController"),
        "SvcPath": ("SvcPath", "SvcPreviousPath"),
        "UnitFileState": ("UnitFileState", "PreviousUnitFileState"),
    },
    uncompared=("LoadState", "ActiveState", "SubState"),
    dcr=DcrKeys("enableServices", "servicesSettings", "serviceCollectionFrequency", 300),
    fact_module="ct_service_facts",
    item_file="Services.json",
    item_form=_item_form,
    received="Service",
    shown=("SvcName", "SvcState", "SvcStartupType", "SvcPath"),
    sources=("systemd",),
    incomparable=_incomparable,
)
