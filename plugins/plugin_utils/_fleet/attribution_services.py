# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a task made a change of a service, and which part of it. Services have no times of their own."""

from __future__ import annotations

import posixpath

from .changes import ADDED, MODIFIED, REMOVED, Change
from .effects import ANYTHING, NAMED, PACKAGES, SERVICES, TREE, effect
from .evidence import NOT_THIS, POSSIBLE, PROVEN_BY_NAME, Verdict, is_related, names, versions
from .runs import CHANGED, Task

_ENABLEMENT = frozenset(("SvcStartupType", "SvcRunlevels", "UnitFileState", "SvcPath", "SvcDescription"))
_UNIT_FILE = frozenset(("SvcDescription", "SvcPath"))
_STATES = {"started": "Running", "restarted": "Running", "stopped": "Stopped"}
_VENDOR = ("/usr/lib/systemd/", "/lib/systemd/")


def judge_service(change: Change, task: Task) -> Verdict:
    kind = effect(task.module)
    if kind == ANYTHING or (task.no_log and kind in (SERVICES, NAMED, PACKAGES, TREE)):
        return Verdict(POSSIBLE)
    explains: frozenset[str] | None = frozenset()
    if kind == SERVICES:
        explains = _asked_for(change, task)
    elif kind == PACKAGES:
        return _packaged(change, task)
    elif any(_is_unit_file(path, change) for path in names(task, "paths")):
        explains = _by_unit_file(change, task)
    elif change.category == ADDED and any(_is_below(unit_path(change), folder) for folder in names(task, "below")):
        return Verdict(POSSIBLE)
    if explains is not None and not explains:
        return NOT_THIS
    if task.outcome != CHANGED:
        return Verdict(POSSIBLE)
    return Verdict(PROVEN_BY_NAME, "it named this service", explains)


def _asked_for(change: Change, task: Task) -> frozenset[str] | None:
    """The fields that are as a task of a service module asked for."""
    if not any(_base(name) == change.name for name in names(task, "names")):
        return frozenset()
    if change.category == REMOVED:
        return frozenset()
    explains: frozenset[str] = frozenset()
    if _STATES.get(str(task.named.get("state")), "") == change.values.get("SvcState"):
        explains |= {"SvcState"}
    if _is_enabled_as(change, task):
        explains |= _ENABLEMENT
    if change.category == ADDED:  # an instance of a template counts as a unit once it is enabled or runs
        return None if "@" in change.name and explains else frozenset()
    return explains & change.fields


def _is_enabled_as(change: Change, task: Task) -> bool:
    enabled, masked = task.named.get("enabled"), task.named.get("masked")
    state = str(change.values.get("UnitFileState") or "")
    if isinstance(masked, str):
        masked = masked.lower() in ("yes", "true", "on", "1")
    if isinstance(enabled, str):
        enabled = enabled.lower() in ("yes", "true", "on", "1")
    if masked is None and enabled is None:
        return False
    if masked is not None and state.startswith("masked") != masked:
        return False
    return enabled is None or (change.values.get("SvcStartupType") == "Enabled") == enabled


def _is_unit_file(path: str, change: Change) -> bool:
    """Whether a path is the unit file of the service, a drop-in of it, or a symlink that enables it."""
    unit = change.name + ".service"
    if "/systemd/" not in path:
        return path in (change.values.get("SvcPath"), change.values.get("SvcPreviousPath"))
    template = change.name.partition("@")[0] + "@.service" if "@" in change.name else unit
    return posixpath.basename(path) in (unit, template) or posixpath.basename(posixpath.dirname(path)) in (
        unit + ".d",
        template + ".d",
    )


def _by_unit_file(change: Change, task: Task) -> frozenset[str] | None:
    is_absent = task.named.get("state") == "absent"
    if change.category == MODIFIED:
        is_symlink = task.named.get("state") in ("link", "absent")  # as in a .wants folder
        return (_ENABLEMENT if is_symlink else _UNIT_FILE) & change.fields
    return None if is_absent == (change.category == REMOVED) else frozenset()


def _packaged(change: Change, task: Task) -> Verdict:
    if not unit_path(change).startswith(_VENDOR):
        return NOT_THIS
    is_removed = change.category == REMOVED
    packages = versions(task, "removed" if is_removed else "installed")
    if is_related(change.name.partition("@")[0], packages):
        return Verdict(PROVEN_BY_NAME, f"it {'removed' if is_removed else 'installed'} the package of this name")
    known = versions(task, "installed") or versions(task, "removed")
    return Verdict(POSSIBLE) if change.category != MODIFIED and (packages or not known) else NOT_THIS


def unit_path(change: Change) -> str:
    """The path of the unit file, before or after."""
    return str(change.values.get("SvcPath") or change.values.get("SvcPreviousPath") or "")


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _base(name: str) -> str:
    return name[: -len(".service")] if name.endswith(".service") else name
