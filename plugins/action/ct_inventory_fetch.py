# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_inventory_fetch: runs ct_inventory_info on the host and writes its items to files, in the worker process of the host."""

from __future__ import annotations

import multiprocessing
import os
from urllib.parse import quote

from ansible.plugins.action import ActionBase

from ..module_utils._cti.kinds.registry import all_kinds
from ..module_utils._cti.packed_reader import kinds
from ..module_utils._cti.state.pages import REST
from ..module_utils._cti.text import line, plural
from ..modules import ct_inventory_info, ct_state_info
from ..plugin_utils._bounded import calm_output, taken
from ..plugin_utils._direct.action import run
from ..plugin_utils._direct.inventory import inventory_info, state_info
from ..plugin_utils._inventory_fetch import places
from ..plugin_utils._inventory_fetch.changes import Changes, next_place
from ..plugin_utils._inventory_fetch.new_files import NewFiles, sha256
from ..plugin_utils._inventory_fetch.progress import Progress

INVENTORY_INFO = inventory_info(ct_inventory_info.OPTIONS)
STATE_INFO = state_info(ct_state_info.OPTIONS)  # collects nothing
INVENTORY_INFO.prepare()
FILES = {name: kind.item_file for name, kind in all_kinds().items()}
CHANGES_FILE = "Changes.json"
OPTIONAL_TEXT = (str, type(None))
ANSWER = {
    "Computer": OPTIONAL_TEXT,
    "SourceComputerId": OPTIONAL_TEXT,
    "VMUUID": OPTIONAL_TEXT,
    "inventory": dict,
    "history": dict,
    "rule_problems": list,
}


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
                "history_days": {"type": "float"},
                "history_mib": {"type": "float"},
            }
        )
        problem = _problem(arguments["dest"])
        if problem:
            return {"failed": True, "msg": problem}
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
        host = self._task.delegate_to or task_vars["inventory_hostname"]  # that the module runs on
        folder = os.path.join(os.path.abspath(arguments["dest"]), _folder_name(host))
        known, had = _known(folder), places.read(folder)
        passed = {key: value for key, value in arguments.items() if key != "dest" and value is not None}
        if "state" in passed:
            passed["since"] = [one.place for one in had] or 0
        answer = self._ask(INVENTORY_INFO, dict(passed, report="full", known=known), task_vars)
        packed, changes = answer.get("packed", ""), answer.get("changes")
        try:
            result = taken(answer, ANSWER)
            if result.get("failed") or result.get("unreachable"):
                return result
            seen = _seen(result.get("inventory"))
            if changes is not None:
                to = next_place(result.get("history")) if "state" in passed else None
                changes = Changes(changes, result.get("history", {}), to, self._asker(arguments["state"], task_vars))
            off = [] if arguments["kinds"] else [FILES[kind] for kind in known if kind not in seen]
            written = self._write(folder, packed, seen, changes, known, had, off)
        except _Orphaned:
            return {
                "failed": True,
                "msg": f"The playbook was killed, so nothing was written to {folder}. The next run fetches the same changes again.",
            }
        except (ValueError, RecursionError) as error:
            return {
                "failed": True,
                "msg": f"The host did not return an inventory: {str(error).rstrip('.')}. Run again with -vvv to see its answer.",
            }
        except OSError as error:
            message = (
                f"{error.filename or folder} cannot be written on the controller ({error.strerror or error}). Correct this, or give"
                " another dest (in the playbook: ct_dest). The next run fetches the same changes again."
            )
            shown = {"warnings": result["warnings"]} if result.get("warnings") else {}
            return {"failed": True, "msg": message, **shown}
        if changes is not None:
            self._report(host, changes, had)
            warnings = [text for text in result.get("warnings", []) if not text.endswith(REST)] + changes.warnings
            if "warnings" in result or warnings:
                written["warnings"] = warnings
            if "history" in result:
                written["history"] = changes.history
        return dict(result, **written)

    def _asker(self, state, task_vars):
        """Return what asks the host for the changes after a place; None in check mode, which writes nothing."""
        if self._task.check_mode:
            return None
        return lambda place: self._ask(STATE_INFO, {"path": state, "since": [place]}, task_vars)

    def _report(self, host, changes, had):
        """Warn about changes that are left for the next run, and about another state than that of the run before."""
        if changes.remaining:
            self._display.warning(
                f"{host}: {plural(changes.remaining, 'change', 'is')} left for the next run, because {changes.stopped}."
            )
        if changes.to is not None and had and changes.to.path != had[-1].path:
            self._display.warning(_another_state(host, changes.to, had[-1]))

    def _ask(self, module, arguments, task_vars):
        """Return the result of a module on the host, run directly if possible."""
        result = run(self, module, arguments, task_vars)
        if result is not None:
            return result
        return self._execute_module(
            "changetracking.inventory." + module.name, module_args=arguments, task_vars=task_vars
        )

    def _parse_returned_data(self, res, *more):
        return super()._parse_returned_data(dict(res, stdout=calm_output(res["stdout"])), *more)

    def _write(self, folder, packed, seen, changes, known, had, off):
        """Write the files that differ, after the whole result is read. Returns `files`, `changed`, `packed` with the changes, and `diff`.

        A file of whose kind nothing could be collected is left as it is. `had`: the places that the host was asked with. The place
        that its answers lead to is written last. `off`: files of kinds that the rule has switched off, to be removed. Raises
        ValueError and OSError.
        """
        names = []
        with NewFiles(folder, self._task.check_mode, self._task.diff) as new:
            rows = {kind: new.write(FILES[kind], rows) for kind, rows in kinds(packed) if kind in seen}
            for kind, (count, failed) in seen.items():
                if kind not in rows and kind not in known:
                    raise ValueError(f"it left out the {kind}")
                if rows.get(kind, count) or not failed:
                    names.append(FILES[kind])
            written = [FILES[kind] for kind in rows if FILES[kind] in names]
            if changes is not None:
                new.write(CHANGES_FILE, changes.rows())
                names.append(CHANGES_FILE)
                written.append(CHANGES_FILE)
            before = {FILES[kind]: digest for kind, digest in known.items()}
            before[CHANGES_FILE] = sha256(os.path.join(folder, CHANGES_FILE))
            if self._task.check_mode:
                diffs = [new.put(name, before.get(name)) for name in written] + [new.remove(name) for name in off]
            else:
                diffs = self._put(folder, new, written, before, had, None if changes is None else changes.to, off)
        different = [diff for diff in diffs if diff is not None]
        result = {"files": [os.path.join(folder, name) for name in names], "changed": bool(different)}
        if changes is not None and changes.count:
            result["packed"] = changes.packed()
        if self._task.diff:
            result["diff"] = different
        return result

    def _put(self, folder, new, names, before, had, to, off):
        """Replace the files that differ, remove those in `off`, then write the place. Returns the differences. Raises _Orphaned."""
        with places.lock(folder):
            if places.read(folder) != had:
                self._display.warning(
                    f"Another run wrote to {folder} at the same time, so this run wrote nothing there. The next run fetches its changes."
                )
                return []
            _check_playbook()
            diffs = [new.put(name, before.get(name)) for name in names] + [new.remove(name) for name in off]
            moved = had if to is None else places.moved(had, to)
            if moved != had:
                _check_playbook()
                places.write(folder, moved)
        return diffs


class _Orphaned(Exception):
    """The playbook that this worker belongs to was killed."""


def _check_playbook():
    """Raise _Orphaned if the process that started this worker is gone: nobody gets the result, so nothing may count as fetched.

    The system gives an orphan another parent. The number of the first one is known since before the worker was started.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        raise _Orphaned


def _problem(dest):
    """Return a sentence about an invalid value of the option, or None. Does not look at the disk."""
    if not dest.strip():
        return "The value of dest (in the playbook: ct_dest) is empty. Give the path of a folder on the controller."
    if dest.startswith("~"):  # Ansible has expanded it if there is such a user
        return f"The value of dest (in the playbook: ct_dest) is {dest!r}: there is no such user on the controller. Give another path."
    return None


def _known(folder):
    """Return the SHA-256 checksum of the existing file of each kind."""
    digests = {kind: sha256(os.path.join(folder, name)) for kind, name in FILES.items()}
    return {kind: digest for kind, digest in digests.items() if digest is not None}


def _seen(inventory):
    """Return, for each kind, the number of items and whether one of its sources failed.

    Raises ValueError where the host returned something else.
    """
    seen = {}
    for kind in FILES:
        try:
            if kind in inventory:
                one = inventory[kind]
                failed = any(source["status"] == "failed" for source in one["sources"].values())
                seen[kind] = (int(one["count"]), failed)
        except (KeyError, TypeError, AttributeError, OverflowError):
            raise ValueError("its summary is invalid") from None
    return seen


def _another_state(host, to, before):
    return (
        f"{host}: this run used the state {line(to.path, 300)}, the run before used {line(before.path, 300)}. Each state"
        " reports its own changes. Use the same become setting in every run, or set state (in the playbook: ct_state)."
    )


def _folder_name(host):
    """Return the inventory name as one path segment, with special characters quoted."""
    return quote(host, safe=" :@+,=~[]()") if host not in (".", "..") else host.replace(".", "%2E")
