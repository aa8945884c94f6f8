# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_zipapp: builds a program on the controller, validates its options there, and copies it with ansible.builtin.copy."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from ansible import constants
from ansible.plugins.action import ActionBase

from ..plugin_utils._bounded import calm, taken
from ..plugin_utils._zipapp import build

CHECK_SECONDS = 60
ANSWER = {
    **dict.fromkeys(("dest", "checksum", "mode", "owner", "group", "state"), str),
    **dict.fromkeys(("uid", "gid", "size"), int),
    "diff": (dict, list),
}


class ActionModule(ActionBase):
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "program": {"type": "str", "required": True, "choices": ["agent", "relay"]},
                "dest": {"type": "str"},  # a path on the managed host: expanded there
                "check": {"type": "list", "elements": "str"},
                "stdin": {"type": "str", "default": ""},
                "validate": {"type": "str"},
            },
            required_one_of=[["dest", "check"]],
        )
        if arguments["dest"] is not None and not arguments["dest"].startswith(("/", "~")):
            return {
                "failed": True,
                "msg": f"The value of dest is {arguments['dest']!r}. Give an absolute path on the managed host.",
            }
        descriptor, path = tempfile.mkstemp(dir=constants.DEFAULT_LOCAL_TMP, suffix=".pyz")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(build(arguments["program"]))
            if arguments["check"] is not None:
                problem = self._problem([path, "check", *arguments["check"]], arguments["stdin"])
                if problem:
                    return {"failed": True, "msg": problem}
            if arguments["dest"] is None:
                return {"changed": False}
            answer = self._copy(path, arguments["dest"], arguments["validate"]).run(task_vars=task_vars)
            result = {"changed": False, **taken(answer, ANSWER)}
            if result.get("failed") and answer.get("exit_status") and isinstance(answer.get("stderr"), str):
                result["msg"] = calm(_last_line(answer["stderr"])) or result.get("msg", "")
            return dict(result, diff=_differences(result.pop("diff"))) if "diff" in result else result
        finally:
            os.unlink(path)

    def _problem(self, command, text):
        """Return the program's message about its options; empty if they are valid."""
        run = subprocess.run(
            [sys.executable, *command], input=text, capture_output=True, text=True, timeout=CHECK_SECONDS, check=False
        )
        if not run.returncode:
            return ""
        no_message = f"The program's command check ended with status {run.returncode} and no message."
        return _last_line(run.stderr) or no_message

    def _copy(self, path, dest, validate):
        task = self._task.copy()
        task.args = {"src": path, "dest": dest, "owner": "root", "group": "root", "mode": "0755"}
        if validate is not None:
            task.args["validate"] = validate
        return self._shared_loader_obj.action_loader.get(
            "ansible.builtin.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )


def _last_line(output):
    return (output.strip().splitlines() or [""])[-1]


def _differences(diff):
    """Return the differences whose values have a type that Ansible can show."""
    every = diff if isinstance(diff, list) else [diff]
    return [
        one
        for one in every
        if isinstance(one, dict) and all(isinstance(part, (str, dict, int)) for part in one.values())
    ]
