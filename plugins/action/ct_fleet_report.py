# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_fleet_report: writes what the fleet store holds to one HTML file on the controller."""

from __future__ import annotations

import os
import time

from ansible.plugins.action import ActionBase

from ..module_utils._cti.errors import CtiError
from ..module_utils._cti.fleet.store import open_store
from ..module_utils._cti.text import plural
from ..plugin_utils._bounded import calm
from ..plugin_utils._fleet import report
from ..plugin_utils._fleet.selection import location, past

ARGUMENTS = {
    "store": {"type": "str", "default": "inventory/fleet.db"},
    "dest": {"type": "path", "default": "report.html"},
    "since": {"type": "raw", "default": "30d"},
    "stale_after": {"type": "raw", "default": "2d"},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "marks": {"type": "raw"},
    "title": {"type": "str"},
}


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            dest, store = _dest(arguments["dest"]), location(arguments["store"])
            scope = _scope(arguments, (task_vars or {}).get("groups") or {})
            with open_store(store) as opened:
                made = report.make(opened, scope)
        except (CtiError, ValueError) as error:
            return {"failed": True, "msg": calm(str(error))}
        if not self._task.check_mode:
            try:
                report.save(made.text, dest)
            except OSError as error:
                return {
                    "failed": True,
                    "msg": f"Cannot write the report {dest!r} ({error.strerror}). Correct this, or give another dest (in the playbook: ct_report).",
                }
        result = {"changed": True, "dest": dest, "size": len(made.text), "hosts": made.hosts, "changes": made.changes}
        warnings = made.warnings
        if made.left_out:
            warnings.append(
                f"The report leaves out {plural(made.left_out, 'item')} or changes, because there are too many. The page of each host says"
                " how many items are left out."
            )
        if warnings:
            result["warnings"] = list(map(calm, warnings))
        return result


def _dest(dest):
    """The absolute path of the report. Raises ValueError."""
    path = os.path.abspath(os.path.expanduser(dest))
    if not dest.strip() or os.path.isdir(path):
        raise ValueError(
            f"The value of dest (in the playbook: ct_report) is {dest!r}. Give the path of a file, such as report.html."
        )
    return path


def _scope(arguments, groups):
    """What the options select. Raises ValueError."""
    now = time.time()
    times = {option: past(arguments[option], option) for option in ("since", "stale_after")}
    return report.Scope(
        title=arguments["title"] or report.default_title(now),
        made=now,
        since=times["since"],
        stale_after=now - times["stale_after"],
        groups=groups,
        hosts=arguments["hosts"],
        marks=arguments["marks"],
    )
