# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a task made a change of a service, and which part of it. Services have no times of their own."""

from __future__ import annotations

import posixpath

from .changes import ADDED, MODIFIED, REMOVED, Change
from .effects import ANYTHING, FILE, NAMED, PACKAGES, SERVICES, TREE, edits_entries, effect, resolved
from .evidence import NOT_THIS, POSSIBLE, PROVEN_BY_NAME, Verdict, is_related, names, texts, turned
from .runs import CHANGED, Task

UNIT_FILE = frozenset(("SvcDescription", "SvcPath"))  # the fields that come from the unit file alone
_ENABLEMENT = UNIT_FILE | {"SvcStartupType", "SvcRunlevels", "UnitFileState"}
_RUNNING, _STOPPED = "Running", "Stopped"
_STATES = {"started": _RUNNING, "restarted": _RUNNING, "stopped": _STOPPED}
_UP, _DOWN = ("active",), ("inactive", "failed")  # systemd's words
_VENDOR = ("/usr/lib/systemd/", "/lib/systemd/")


def judge_service(change: Change, task: Task) -> Verdict:
    kind = effect(task.module)
    if kind == ANYTHING or (task.no_log and kind in (SERVICES, NAMED, PACKAGES, TREE)):
        return Verdict(POSSIBLE)
    if kind == PACKAGES:
        return _packaged(change, task)
    explains: frozenset[str] | None = frozenset()
    paths = [path for path in names(task, "paths") if _is_unit_file(path, change)]
    if kind == SERVICES:
        explains = _asked_for(change, task)
    elif paths:
        explains = _by_unit_file(change, task, paths)
    elif change.category == ADDED and any(_is_below(unit_path(change), folder) for folder in names(task, "below")):
        return Verdict(POSSIBLE)
    if explains is not None and not explains:
        return NOT_THIS
    if task.outcome != CHANGED:
        return Verdict(POSSIBLE)
    return Verdict(PROVEN_BY_NAME, "it named this service", explains)


def _asked_for(change: Change, task: Task) -> frozenset[str] | None:
    """The fields that are as a task of a service module asked for, and that it did not find so."""
    if change.category == REMOVED or not any(_base(name) == change.name for name in names(task, "names")):
        return frozenset()
    explains: frozenset[str] = frozenset()
    if _reached(task) == change.values.get("SvcState"):
        explains |= {"SvcState"}
    if _is_turned(change, task):
        explains |= _ENABLEMENT
    if change.category == ADDED:  # an instance of a template counts as a unit once it is enabled or runs
        return None if "@" in change.name and explains else frozenset()
    return explains & change.fields


def _reached(task: Task) -> str:
    """The state to which the task brought the service; empty: it did not ask for one, or the service had it already."""
    state = str(task.named.get("state"))
    wanted, was = _STATES.get(state, ""), texts(task, "was").get("active")
    if wanted == _RUNNING and (was in _UP or (was == "activating" and state == "started")):
        return ""
    return "" if wanted == _STOPPED and was in _DOWN else wanted


def _is_turned(change: Change, task: Task) -> bool:
    """Whether the task enabled, disabled, masked or unmasked the service, and it is still so."""
    enabled, masked = turned(task, "enabled"), turned(task, "masked")
    if enabled is None and masked is None:
        return False
    if masked is not None and str(change.values.get("UnitFileState") or "").startswith("masked") != masked:
        return False
    return enabled is None or (change.values.get("SvcStartupType") == "Enabled") == enabled


def _is_unit_file(path: str, change: Change) -> bool:
    """Whether a path is the unit file of the service, a drop-in of it, or a symlink that enables it."""
    if "/systemd/" not in path:
        return path in (change.values.get("SvcPath"), change.values.get("SvcPreviousPath"))
    return posixpath.basename(path) in _units(change) or _is_drop_in(path, change)


def _is_drop_in(path: str, change: Change) -> bool:
    return posixpath.basename(posixpath.dirname(path)) in [unit + ".d" for unit in _units(change)]


def _units(change: Change) -> tuple[str, ...]:
    """The names of the unit files of the service."""
    unit = change.name + ".service"
    return (unit, change.name.partition("@")[0] + "@.service") if "@" in change.name else (unit,)


def _by_unit_file(change: Change, task: Task, paths: list[str]) -> frozenset[str] | None:
    state = None if edits_entries(task.module) else task.named.get("state")
    if change.category != MODIFIED:
        return None if (state == "absent") == (change.category == REMOVED) else frozenset()
    if state in ("link", "absent") and not all(_is_drop_in(path, change) for path in paths):  # as in a .wants folder
        return _ENABLEMENT & change.fields
    only_attributes = resolved(task.module) == FILE and state not in ("link", "absent")
    return frozenset() if only_attributes else UNIT_FILE & change.fields


def _packaged(change: Change, task: Task) -> Verdict:
    """The task installed or removed packages. An upgrade explains what comes from the unit file, not that the service was stopped."""
    if not unit_path(change).startswith(_VENDOR):
        return NOT_THIS
    is_removed = change.category == REMOVED
    packages = texts(task, "removed" if is_removed else "installed")
    if is_related(change.name.partition("@")[0], packages):
        if change.category == MODIFIED and not change.fields <= UNIT_FILE:
            return Verdict(POSSIBLE)
        return Verdict(PROVEN_BY_NAME, f"it {'removed' if is_removed else 'installed'} the package of this name")
    known = texts(task, "installed") or texts(task, "removed")
    return Verdict(POSSIBLE) if change.category != MODIFIED and (packages or not known) else NOT_THIS


def unit_path(change: Change) -> str:
    """The path of the unit file, before or after."""
    return str(change.values.get("SvcPath") or change.values.get("SvcPreviousPath") or "")


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _base(name: str) -> str:
    return name[: -len(".service")] if name.endswith(".service") else name
