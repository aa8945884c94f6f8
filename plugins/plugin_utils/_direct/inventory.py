# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that the action ct_inventory_fetch runs, besides their own actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...module_utils._cti.kinds.registry import all_kinds
from ...module_utils._cti.rule.settings import RECOMMENDED
from .action import Module
from .payload import FEATURES

STATE = {"inventory": dict, "packed": str, "changes": list, "history": dict}
COLLECTED = {
    **dict.fromkeys(("Computer", "SourceComputerId", "VMUUID"), (str, type(None))),
    **STATE,
    "forward": dict,
    "rule_problems": list,
}


def inventory_info(options: Mapping[str, Any]) -> Module:
    """`options`: of the module, as AnsibleModule takes them."""
    features, usual = frozenset(FEATURES), frozenset(FEATURES.keys() & all_kinds().keys())
    return Module("ct_inventory_info", options, COLLECTED, "", features, usual, frozenset(("rule",)), _needed)


def state_info(options: Mapping[str, Any]) -> Module:
    return Module("ct_state_info", options, {**STATE, "buckets": list})


def _needed(params: Mapping[str, Any]) -> Iterable[str]:
    """The features of a request. What collects a kind that is not one of FEATURES is always sent."""
    asked = set(params["kinds"] or all_kinds())
    if params["forward"] is not None:
        asked |= {"forward", "rule"}
    if params["dcr"] is not None:
        asked.add("rule")
    if params["dcr"] == RECOMMENDED:
        asked.add("recommended")
    if params["report"] == "full":
        asked.add("full")
    if params["since"] is not None:
        asked.add("since")
    return asked & FEATURES.keys()
