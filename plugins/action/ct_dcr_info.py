# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a data collection rule on the controller, as it will be read on a host."""

from __future__ import annotations

from ansible.plugins.action import ActionBase

from ..module_utils._cti import dcr, pathspec
from ..module_utils._cti.errors import CtiError


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec={"dcr": {"type": "raw", "required": True}})
        given = arguments["dcr"]
        try:
            settings = (dcr.loads if isinstance(given, str) else dcr.load)(given, "of the option dcr")
        except CtiError as error:
            return {"failed": True, "msg": str(error)}
        every = {kind: settings.every(kind) for kind in settings.kinds}
        if settings.inventory:
            every["inventory"] = settings.inventory_every
        files = [
            {"name": rule.name, "path": rule.path, "syntax": pathspec.parse(rule.path).syntax}
            for rule in settings.file_rules
        ]
        return {"ids": list(settings.rules), "every": every, "files": files, "warnings": settings.warnings}
