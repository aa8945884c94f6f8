# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_azure_resource: creates, updates or deletes one resource in Azure."""

from __future__ import annotations

from ansible.plugins.action import ActionBase

from ..plugin_utils._azure.arm import short
from ..plugin_utils._azure.asked import ARGUMENTS, answer, arm_of
from ..plugin_utils._azure.resource import Wanted, ensure, remove

LISTED = {
    "url": {"type": "str", "required": True},
    "api_version": {"type": "str", "required": True},
    "ignoring": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ActionBase):
    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, given = self.validate_argument_spec(
            argument_spec={
                **ARGUMENTS,
                "id": {"type": "str", "required": True},
                "api_version": {"type": "str", "required": True},
                "name": {"type": "str", "default": ""},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "body": {"type": "dict", "default": {}},
                "mark": {"type": "dict", "default": {}},
                "method": {"type": "str", "choices": ["PUT", "PATCH"], "default": "PUT"},
                "create_only": {"type": "bool", "default": False},
                "wait": {"type": "bool", "default": True},
                "found": {"type": "dict"},
                "used_by": {"type": "list", "elements": "dict", "options": LISTED, "default": []},
            }
        )
        wanted = Wanted(
            given["id"], given["api_version"], given["body"], given["name"] or short(given["id"]), given["method"],
            given["create_only"], given["mark"], given["wait"], given["used_by"],
        )  # fmt: skip
        return answer(lambda: self._outcome(arm_of(self, given, task_vars), wanted, given))

    def _outcome(self, arm, wanted, given):
        check = self._task.check_mode
        outcome = (
            remove(arm, wanted, check) if given["state"] == "absent" else ensure(arm, wanted, check, given["found"])
        )
        result = {"changed": outcome.changed, "resource": outcome.resource, "kept": outcome.kept}
        if outcome.lost:
            lost = ", ".join(outcome.lost)
            result["warnings"] = [
                f"{wanted.what}: Azure did not keep {lost}. Check the spelling, and the version of the API."
            ]
        if outcome.changed and self._task.diff:
            result["diff"] = {
                "before": outcome.before, "after": outcome.after, "before_header": wanted.id, "after_header": wanted.id,
            }  # fmt: skip
        return result
