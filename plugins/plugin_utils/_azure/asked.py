# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that the actions for Azure share, and ARM as an action asks it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleError

from .arm import COLLECTION, FIRST_DELAY, MODULE, Arm, ArmError

ARGUMENTS: dict[str, Any] = {
    "credentials": {"type": "dict", "default": {}, "no_log": True},
    "timeout": {"type": "float", "default": 1800},
    "delay": {"type": "float", "default": FIRST_DELAY},
}


def answer(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a task, or the sentence why it failed."""
    try:
        return work()
    except ArmError as error:
        return {"failed": True, "msg": str(error)}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        what = f"A value has another form than documented ({type(error).__name__} in {place})."
        return {"failed": True, "msg": f"{what} Check the options, and which server answers as Azure."}


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
