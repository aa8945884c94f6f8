# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_inventory_fetch: runs ct_inventory_info on the host and writes its items to files, in the worker process of the host."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ..module_utils._cti.fleet.store import FleetError, shown
from ..module_utils._cti.kinds.registry import all_kinds
from ..module_utils._cti.packed_reader import kinds
from ..module_utils._cti.state.pages import REST
from ..module_utils._cti.text import line, plural
from ..modules import ct_inventory_info, ct_state_info
from ..plugin_utils._bounded import calm, calm_output, taken
from ..plugin_utils._direct.action import run
from ..plugin_utils._direct.inventory import inventory_info, state_info
from ..plugin_utils._inventory_fetch import places
from ..plugin_utils._inventory_fetch.changes import Changes, next_place
from ..plugin_utils._inventory_fetch.fleet import KEEP_DAYS, Answer, Fleet, location
from ..plugin_utils._inventory_fetch.new_files import NewFiles, sha256
from ..plugin_utils._inventory_fetch.progress import Progress

INVENTORY_INFO = inventory_info(ct_inventory_info.OPTIONS)
STATE_INFO = state_info(ct_state_info.OPTIONS)  # collects nothing
INVENTORY_INFO.prepare()
FILES = {name: kind.item_file for name, kind in all_kinds().items()}
CHANGES_FILE = "Changes.json"
AGAIN = "The next run fetches the same changes again."
OURS = ("dest", "store", "keep_days")  # options that are not the module's
MOST_DAYS = 100_000
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
                "store": {"type": "str"},
                "keep_days": {"type": "int", "default": KEEP_DAYS},
            }
        )
        problem = _problem(arguments["dest"], arguments["keep_days"])
        if problem:
            return {"failed": True, "msg": problem}
        in_loop = "ansible_loop_var" in task_vars  # a host then ends more than once
        progress = Progress(self._task._uuid, 0 if in_loop else len(task_vars.get("ansible_play_hosts_all", ())))
        outcome = "failed"
        try:
            result = self._fetch_and_note(arguments, task_vars)
            if not result.get("failed") and not result.get("unreachable"):
                outcome = "changed" if result["changed"] else "ok"
            return result
        finally:
            progress.ended(outcome)

    def _fetch_and_note(self, arguments, task_vars):
        """As _fetch(), and note in the fleet store why a host has no inventory."""
        fleet = self._fleet(arguments, task_vars)
        try:
            if fleet is not None:
                fleet.store_runs()
            result = self._fetch(arguments, task_vars, fleet)
        except FleetError as error:
            return {"failed": True, "msg": f"{error} {AGAIN}"}
        except AnsibleConnectionFailure as error:
            self._note(fleet, f"unreachable: {error}")
            raise
        if result.get("failed") or result.get("unreachable"):
            self._note(fleet, str(result.get("msg", "failed")))
        return result

    def _fleet(self, arguments, task_vars):
        """The fleet store; None where there is none, and in check mode, which writes nothing."""
        where = location(arguments.get("store"), arguments["dest"])
        if not where or self._task.check_mode:
            return None
        return Fleet(where, self._host(task_vars), arguments.get("keep_days", KEEP_DAYS))

    def _host(self, task_vars):
        """The inventory name of the host that the module runs on."""
        return self._task.delegate_to or task_vars["inventory_hostname"]

    def _note(self, fleet, why):
        if fleet is not None:
            with contextlib.suppress(FleetError):  # the host has failed already, for a reason of its own
                fleet.failed(calm(why))

    def _fetch(self, arguments, task_vars, fleet=None):
        host = self._host(task_vars)
        folder = os.path.join(os.path.abspath(arguments["dest"]), _folder_name(host))
        digests, had = _known(folder), places.read(folder)
        known, asked = (digests, had) if fleet is None else fleet.known(digests, had)
        before = _Before(digests, known, had)
        passed = {key: value for key, value in arguments.items() if key not in OURS and value is not None}
        if "state" in passed:
            passed["since"] = [one.place for one in asked] or 0
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
            off = [] if arguments["kinds"] else [kind for kind in FILES if kind not in seen]
            written = self._write(folder, result, packed, seen, changes, before, off, fleet)
        except _Orphaned:
            return {
                "failed": True,
                "msg": f"The playbook was killed, so nothing was written to {folder}. The next run fetches the same changes again.",
            }
        except FleetError as error:
            return _failed(result, f"{error} {AGAIN}")
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
            return _failed(result, message)
        if fleet is not None:
            written["store"] = shown(fleet.where)
            for text in fleet.warnings:
                self._display.warning(f"{host}: {text}")
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

    def _write(self, folder, result, packed, seen, changes, before, off, fleet):
        """Write the files that differ, after the whole result is read. Returns `files`, `changed`, `packed` with the changes, and `diff`.

        A file of whose kind nothing could be collected is left as it is. The place that the answers of the host lead to is written
        last. `off`: kinds that the rule has switched off, whose files are removed. Raises ValueError, OSError and FleetError.
        """
        names = []
        with NewFiles(folder, self._task.check_mode, self._task.diff) as new:
            rows = {kind: new.write(FILES[kind], rows) for kind, rows in kinds(packed) if kind in seen}
            for kind, (count, failed) in seen.items():
                if kind not in rows and kind not in before.known:
                    raise ValueError(f"it left out the {kind}")
                if rows.get(kind, count) or not failed:
                    names.append(FILES[kind])
            written = [FILES[kind] for kind in rows if FILES[kind] in names]
            if changes is not None:
                new.write(CHANGES_FILE, changes.rows())
                names.append(CHANGES_FILE)
                written.append(CHANGES_FILE)
            found = changes.packed() if changes is not None and changes.count else ""
            had = {FILES[kind]: digest for kind, digest in before.files.items()}
            had[CHANGES_FILE] = sha256(os.path.join(folder, CHANGES_FILE))
            gone = [FILES[kind] for kind in off if kind in before.files]
            if self._task.check_mode:
                diffs = [new.put(name, had.get(name)) for name in written] + [new.remove(name) for name in gone]
            else:
                to = None if changes is None else changes.to
                store = None
                if fleet is not None:
                    digests = {
                        kind: digest for kind, digest in before.known.items() if kind in seen and kind not in rows
                    }
                    digests.update({kind: new.digest(FILES[kind]) for kind in rows if FILES[kind] in names})
                    store = partial(fleet.write, Answer(result, packed, digests, off, found, to))
                diffs = self._put(folder, new, written, had, before.places, to, gone, store)
        different = [diff for diff in diffs if diff is not None]
        outcome = {"files": [os.path.join(folder, name) for name in names], "changed": bool(different)}
        if found:
            outcome["packed"] = found
        if self._task.diff:
            outcome["diff"] = different
        return outcome

    def _put(self, folder, new, names, before, had, to, off, store):
        """Call `store`, replace the files that differ, remove those in `off`, then write the place. Returns the differences.

        If it is killed in between, the place of the files is the older one: the next run asks from there, and the store knows
        the changes that it has. Raises _Orphaned.
        """
        with places.lock(folder):
            if places.read(folder) != had:
                self._display.warning(
                    f"Another run wrote to {folder} at the same time, so this run wrote nothing there. The next run fetches its changes."
                )
                return []
            _check_playbook()
            if store is not None:
                store()
            diffs = [new.put(name, before.get(name)) for name in names] + [new.remove(name) for name in off]
            moved = had if to is None else places.moved(had, to)
            if moved != had:
                _check_playbook()
                places.write(folder, moved)
        return diffs


class _Before(NamedTuple):
    """What is there before the run."""

    files: dict[str, str]  # kind -> SHA-256 of its file
    known: dict[str, str]  # those of them that the fleet store has too: the host may leave these kinds out
    places: list[places.Kept]  # of the files


class _Orphaned(Exception):
    """The playbook that this worker belongs to was killed."""


def _check_playbook():
    """Raise _Orphaned if the process that started this worker is gone: nobody gets the result, so nothing may count as fetched.

    The system gives an orphan another parent. The number of the first one is known since before the worker was started.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        raise _Orphaned


def _failed(result, message):
    """Return a failure that keeps the warnings of the host's result."""
    warnings = {"warnings": result["warnings"]} if result.get("warnings") else {}
    return {"failed": True, "msg": message, **warnings}


def _problem(dest, keep_days):
    """Return a sentence about an invalid value of an option, or None. Does not look at the disk."""
    if not 0 < keep_days < MOST_DAYS:
        return f"The value of keep_days (in the playbook: ct_keep) is {keep_days}. Give a number of days from 1 to {MOST_DAYS - 1}."
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
