# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ct_inventory_info on the host and writes what it packed to files, in the worker process, not in the controller's main one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from urllib.parse import quote

from ansible.plugins.action import ActionBase

from ..module_utils._cti.report import text
from ..plugin_utils._packed import unpack
from ..plugin_utils._progress import Progress

MODULE = "changetracking.inventory.ct_inventory_info"
FILES = {"packages": "Packages.json", "services": "Services.json", "files": "File.json"}


class ActionModule(ActionBase):
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "dest": {"type": "path", "required": True},
                "kinds": {"type": "list", "elements": "str", "choices": list(FILES)},
                "dcr": {"type": "raw"},
                "state": {"type": "str"},  # a path on the managed host: expanded there
            }
        )
        in_loop = "ansible_loop_var" in task_vars  # a host then ends more than once
        progress = Progress(self._task._uuid, 0 if in_loop else len(task_vars.get("ansible_play_hosts_all", ())))
        outcome = "failed"
        try:
            result = self._fetch(arguments, task_vars)
            if not result.get("failed") and not result.get("unreachable"):
                outcome = "changed" if result["changed"] else "ok"
            return result
        finally:
            progress.ended(outcome)

    def _fetch(self, arguments, task_vars):
        folder = os.path.join(os.path.abspath(arguments["dest"]), _folder_name(task_vars["inventory_hostname"]))
        known = _known(folder)
        passed = {key: value for key, value in arguments.items() if key != "dest" and value is not None}
        result = self._execute_module(MODULE, module_args=dict(passed, report="full", known=known), task_vars=task_vars)
        if result.get("failed") or result.get("unreachable"):
            return result
        changes = result.pop("changes", None)
        try:
            contents = _contents(unpack(result.pop("packed", "")), result["inventory"], changes, known)
            result.update(self._write(folder, contents))
        except (ValueError, KeyError, TypeError) as error:
            return dict(result, failed=True, msg=f"The host returned something else than an inventory: {error}")
        except OSError as error:
            # The host will not tell these changes again.
            message = f"{error.filename} cannot be written on the controller ({error.strerror}); give another dest."
            return dict(result, failed=True, msg=message, changes=changes)
        return result

    def _write(self, folder, contents):
        """Write the files that differ, each at once; returns `files`, `changed` and, if asked for, `diff`.

        `contents`: the rows of each file; None where they are those in it already.
        """
        paths, diffs = [], []
        for name, rows in contents.items():
            path = os.path.join(folder, name)
            paths.append(path)
            if rows is None:
                continue
            before, after = _read(path), text(rows)
            if before == after.encode("utf-8"):
                continue
            shown = before.decode("utf-8", "replace")
            diffs.append({"before_header": path, "after_header": path, "before": shown, "after": after})
            if not self._task.check_mode:
                _replace(path, after)
        result = {"files": paths, "changed": bool(diffs)}
        if self._task.diff:
            result["diff"] = diffs
        return result


def _known(folder):
    """By kind, the SHA-256 of the file that is there."""
    known = {}
    for kind, name in FILES.items():
        try:
            with open(os.path.join(folder, name), "rb") as file:
                known[kind] = hashlib.sha256(file.read()).hexdigest()
        except OSError:
            pass
    return known


def _contents(items, inventory, changes, known):
    """What goes into each file; None: what it holds already. One of which nothing could be collected is left as it is."""
    contents = {}
    for kind, seen in inventory.items():
        rows = items[kind] if kind in items or kind not in known else None
        failed = any(source["status"] == "failed" for source in seen["sources"].values())
        if rows or (rows is None and seen["count"]) or not failed:
            contents[FILES[kind]] = rows
    if changes is not None and not all(kind["baseline"] for kind in inventory.values()):
        contents["Changes.json"] = changes
    return contents


def _folder_name(host):
    """The inventory name as one path segment, whatever it holds."""
    return quote(host, safe=" :@+,=~[]()") if host not in (".", "..") else host.replace(".", "%2E")


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _replace(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix="." + os.path.basename(path))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
