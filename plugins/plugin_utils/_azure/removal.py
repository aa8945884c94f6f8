# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resources that the role made in Azure, the last first, as arguments of ct_azure_resource. See plan.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .ids import ASSOCIATION, machine_kind, name_of
from .machine import AMA, ASSOCIATION_NAME, CT, association, extension_step, grants
from .plan import API, TAG, Resource, absent, resource_group, rule_of, shared, solution_of, upload_setting, workspace_of


def removal_of_machine(options: Mapping[str, Any], ident: str, reads: Mapping[str, Any]) -> list[Resource]:
    """What deploy made for one machine, the last first. The identity stays: other services may use it since."""
    kind = machine_kind(ident)
    ours = association(options, ident, reads)
    listed = {"url": f"{ident}/providers/{ASSOCIATION}", "api_version": API["association"]}
    plan: list[Resource] = [absent(ours)]
    found = reads.get("machine") or {"location": ""}
    for name in (CT, AMA):
        step = absent(extension_step(options, kind, ident, {**reads, "machine": found}, name))
        if name == AMA:  # other rules need it too
            step["used_by"] = [{**listed, "ignoring": [ours["id"]]}]
        plan.append(step)
    return [*plan, *(absent(step) for step in grants(options, found)[1:])]


def removal_of_shared(options: Mapping[str, Any], machines: Sequence[str]) -> list[Resource]:
    """What deploy made for all machines, the last first. `machines`: those whose associations this run deletes."""
    workspace = workspace_of(options)
    nothing = {"workspace": {"location": "-"}, "rule": None}
    ours = rule_of(options)
    going = [f"{ident}/providers/{ASSOCIATION}/{ASSOCIATION_NAME}" for ident in machines]
    rule_step: Resource = {
        "name": f"the rule {name_of(ours)}",
        "id": ours,
        "api_version": API["rule"],
        "mark": TAG,
        "state": "absent",
        "used_by": [{"url": f"{ours}/associations", "api_version": API["rule"], "ignoring": going}],
    }
    if not options.get("azure_remove_data"):
        return [rule_step]
    upload = upload_setting(options)
    steps = shared({**options, "azure_track": {"files": []}, "azure_dcr": ""}, nothing)[:2]
    container = grants(options, {})[:1] if upload else []
    group = absent(resource_group(workspace, "-"))
    group["used_by"] = [
        {
            "url": f"{group['id']}/resources",
            "api_version": API["group"],
            "ignoring": [workspace, solution_of(workspace), ours],
        }
    ]
    return [rule_step, *map(absent, [*container, *reversed(steps)]), group]
