# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that the actions for Azure share, and ARM as an action asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError

from .arm import COLLECTION, FIRST_DELAY, MODULE, Arm, ArmError

ARGUMENTS: dict[str, Any] = {
    "credentials": {"type": "dict", "default": {}, "no_log": True},
    "timeout": {"type": "float", "default": 1800},
    "delay": {"type": "float", "default": FIRST_DELAY},
}


def arm_of(action: Any, given: Mapping[str, Any], task_vars: Any) -> Arm:
    """ARM, asked by a module that runs where the task runs, with the arguments `given` to the task."""

    def run(arguments: dict[str, Any]) -> Mapping[str, Any]:
        task = action._task
        check = task.check_mode
        try:
            if arguments["method"] == "GET":  # which the module does not do in check mode
                task.check_mode = False
            result: Mapping[str, Any] = action._execute_module(
                module_name=MODULE, module_args=arguments, task_vars=task_vars
            )
        except AnsibleError as error:
            if "was not found" in str(error) or "couldn't resolve" in str(error):
                raise ArmError(f"The module {MODULE} is not installed. {COLLECTION}") from error
            raise
        finally:
            task.check_mode = check
        return result

    return Arm(run, given["credentials"], given["timeout"], given["delay"])
