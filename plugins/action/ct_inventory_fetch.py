# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ct_inventory_info on the host and writes what it packed to files, in the worker process, not in the controller's main one."""

from __future__ import annotations

import json
import os
import tempfile
from urllib.parse import quote

from ansible.plugins.action import ActionBase

from ..plugin_utils._packed import unpack

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
        passed = {key: value for key, value in arguments.items() if key != "dest" and value is not None}
        result = self._execute_module(MODULE, module_args=dict(passed, report="full"), task_vars=task_vars)
        if result.get("failed") or result.get("unreachable"):
            return result
        changes = result.pop("changes", None)
        try:
            contents = _contents(unpack(result.pop("packed", "")), result["inventory"], changes)
            folder = os.path.join(os.path.abspath(arguments["dest"]), _folder_name(task_vars["inventory_hostname"]))
            result.update(self._write(folder, contents))
        except (ValueError, KeyError, TypeError) as error:
            return dict(result, failed=True, msg=f"The host returned something else than an inventory: {error}")
        except OSError as error:
            # The host will not tell these changes again.
            message = f"{error.filename} cannot be written on the controller ({error.strerror}); give another dest."
            return dict(result, failed=True, msg=message, changes=changes)
        return result

    def _write(self, folder, contents):
        """Write the files that differ, each at once; returns `files`, `changed` and, if asked for, `diff`."""
        paths, diffs = [], []
        for name, rows in contents.items():
            path = os.path.join(folder, name)
            paths.append(path)
            before, after = _read(path), _lines(rows)
            if before == after:
                continue
            diffs.append({"before_header": path, "after_header": path, "before": before, "after": after})
            if not self._task.check_mode:
                _replace(path, after)
        result = {"files": paths, "changed": bool(diffs)}
        if self._task.diff:
            result["diff"] = diffs
        return result


def _contents(items, inventory, changes):
    """What goes into each file. One of which nothing could be collected is left as it is."""
    contents = {}
    for kind, rows in items.items():
        failed = any(source["status"] == "failed" for source in inventory[kind]["sources"].values())
        if rows or not failed:
            contents[FILES[kind]] = rows
    if changes is not None and not all(kind["baseline"] for kind in inventory.values()):
        contents["Changes.json"] = changes
    return contents


def _folder_name(host):
    """The inventory name as one path segment, whatever it holds."""
    return quote(host, safe=" :@+,=~[]()") if host not in (".", "..") else host.replace(".", "%2E")


def _lines(rows):
    """A JSON array with one item a line."""
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n" if rows else "[]\n"


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _replace(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix="." + os.path.basename(path))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
