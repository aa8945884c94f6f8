# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_dcr_info: reads a data collection rule on the controller in the way a host reads it."""

from __future__ import annotations

import os

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ..module_utils._cti.errors import CtiError, DcrError
from ..module_utils._cti.kinds.files import pathspec
from ..module_utils._cti.rule import dcr, forms, recommended
from ..module_utils._cti.rule.settings import CHANGE_STREAM, DATA_STREAM, RECOMMENDED

STREAMS = (CHANGE_STREAM, DATA_STREAM)


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={"dcr": {"type": "raw", "required": True}, "name": {"type": "str", "default": ""}}
        )
        try:
            document, origin = self._document(arguments["dcr"])
            settings = dcr.given(document, origin)
            chunk = forms.as_chunk(document, origin, arguments["name"], STREAMS)
        except CtiError as error:
            return {"failed": True, "msg": str(error)}
        every = {kind: settings.every(kind) for kind in settings.kinds}
        if settings.inventory:
            every["inventory"] = settings.inventory_every
        files = [
            {"name": rule.name, "path": rule.path, "syntax": pathspec.parse(rule.path).syntax}
            for rule in settings.file_rules
        ]
        found = {"ids": list(settings.rules), "every": every, "files": files, "chunk": chunk}
        return {**found, "rule": document, "warnings": settings.warnings}

    def _document(self, given):
        """Return the rule as data, and the name that messages use for it. Raises DcrError."""
        if given == RECOMMENDED:
            return recommended.rule(), given
        if not isinstance(given, str):
            return given, "of the option dcr"
        if given.lstrip().startswith(("{", "[")):
            return dcr.parse(given, "of the option dcr"), "of the option dcr"
        if not given.strip():
            raise DcrError(
                "The rule (dcr; in the playbook: ct_dcr) is empty. Give the path of a file on the controller, the rule itself, or recommended."
            )
        path = self._path(given)
        try:
            with open(path, "rb") as file:
                return dcr.parse(file.read(dcr.MAX_BYTES + 1), path), path
        except OSError as error:
            raise DcrError(
                f"Cannot read the rule {given!r} on the controller ({error.strerror}). Give the path of a file on the controller, absolute or"
                f" relative to the playbook or to {os.getcwd()}, or recommended."
            ) from error

    def _path(self, given):
        """Return the path of a file next to the role or the playbook; if there is none, relative to the current directory."""
        try:
            return self._find_needle("files", given)
        except AnsibleError:
            return os.path.abspath(os.path.expanduser(given))
