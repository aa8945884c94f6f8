# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a task made a change of a file."""

from __future__ import annotations

import posixpath

from .changes import ADDED, Change
from .effects import (
    ANYTHING,
    FILE,
    NAMED,
    PACKAGES,
    SERVICES,
    TREE,
    edits_entries,
    effect,
    implied,
    removes_others,
    resolved,
)
from .evidence import (
    NOT_THIS,
    POSSIBLE,
    PROVEN_BY_NAME,
    PROVEN_BY_PLACE,
    Verdict,
    is_related,
    names,
    path_is_related,
    versions,
)
from .runs import Task
from .windows import Window

_CONTENT = frozenset(("FileContentChecksum", "Size", "DateModified", "FileType", "LinkTarget"))
_LEFT = {"size": "Size", "mode": "Mode", "owner": "Owner", "group": "Group"}
_ENABLEMENT = "/etc/systemd/"


def judge_file(change: Change, task: Task, when: Window) -> Verdict:
    kind = effect(task.module)
    if _is_named(change.name, task):
        return _named(change, task, when, kind)
    if _is_listing(change, task):
        return (
            Verdict(PROVEN_BY_NAME, "it wrote into this folder at that time")
            if when.contains(change.modified)
            else NOT_THIS
        )
    if any(_is_below(change.name, folder) for folder in names(task, "below")):
        return _below(change, task, when, kind)
    if kind == PACKAGES:
        return _packaged(change, task, when)
    if kind == SERVICES and change.name.startswith(_ENABLEMENT):
        return _enabled(change, task, when)
    if _is_named(_target(change), task) and not change.removed and "LinkTarget" not in change.fields:
        return _named(change, task, when, kind)
    if kind == ANYTHING or task.no_log or task.named.get("cut") or (kind == NAMED and not _names_anything(task)):
        return _maybe(change, when)
    return NOT_THIS


def _target(change: Change) -> str:
    """What a symlink points to; the times of a symlink that is followed are those of that."""
    target = str(change.values.get("LinkTarget") or "")
    return posixpath.normpath(posixpath.join(posixpath.dirname(change.name), target)) if target else ""


def leaves(change: Change, task: Task) -> bool | None:
    """Whether the file is as the task left it: None where that is not known."""
    left = task.named.get("left")
    if not isinstance(left, dict) or left.get("path") != change.name or change.removed:
        return None
    known = [
        (left[key], change.values[column]) for key, column in _LEFT.items() if key in left and change.values.get(column)
    ]
    return all(str(one) == str(other) for one, other in known) if known else None


def _names_anything(task: Task) -> bool:
    return bool(names(task, "paths") or implied(task.module))


def _is_named(path: str, task: Task) -> bool:
    if path in names(task, "paths"):
        return True
    if task.no_log:
        return False
    return any(path.startswith(one) if one.endswith("/") else path == one for one in implied(task.module))


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _is_listing(change: Change, task: Task) -> bool:
    """Whether the change is that of a folder in which the task wrote a file."""
    if change.values.get("FileType") != "directory" or change.removed or not change.fields <= {"DateModified", "Size"}:
        return False
    return any(posixpath.dirname(path) == change.name for path in names(task, "paths"))


def _has_own_time(change: Change) -> bool:
    """Whether the change shows in the times of the file. Those of a symlink that is followed are the target's."""
    if change.values.get("LinkTarget") and (change.category == ADDED or "LinkTarget" in change.fields):
        return False
    return not change.removed and (change.category == ADDED or not change.fields.isdisjoint(_CONTENT | {"DateCreated"}))


def _written(change: Change, when: Window) -> bool:
    """Whether it was last written within the window. A folder is written whenever something is added to it."""
    if change.category == ADDED and change.values.get("FileType") == "directory":
        return when.contains(change.created)
    return when.contains(change.modified)


def _unpacked(change: Change, when: Window) -> bool:
    """Whether it was created within the window with the time of an archive or another copy."""
    return when.contains(change.created) and when.is_after(change.modified)


def _named(change: Change, task: Task, when: Window, kind: str) -> Verdict:
    """The task named the path."""
    is_absent = task.named.get("state") == "absent"
    if change.removed:
        if is_absent and kind == NAMED and not edits_entries(task.module):
            return Verdict(PROVEN_BY_NAME, "it removed this path")
        return Verdict(POSSIBLE) if kind in (ANYTHING, TREE) else NOT_THIS
    if is_absent and resolved(task.module) == FILE:
        return NOT_THIS
    if not _has_own_time(change):
        return Verdict(PROVEN_BY_NAME, "it named this path") if kind != ANYTHING else Verdict(POSSIBLE)
    if resolved(task.module) == FILE and "FileContentChecksum" in change.fields:
        return NOT_THIS  # it sets the owner and mode, not the content
    if _written(change, when) or _unpacked(change, when):
        return Verdict(PROVEN_BY_NAME, "it named this path and wrote it at that time")
    return NOT_THIS


def _below(change: Change, task: Task, when: Window, kind: str) -> Verdict:
    """The task wrote to a folder above, or removed it."""
    if change.removed:
        if task.named.get("state") == "absent":
            return Verdict(PROVEN_BY_PLACE, "it removed the folder")
        return Verdict(POSSIBLE) if removes_others(task.module) else NOT_THIS
    if not _has_own_time(change):
        return Verdict(POSSIBLE)
    if _unpacked(change, when) or (kind == NAMED and when.contains(change.created) and _written(change, when)):
        return Verdict(PROVEN_BY_PLACE, "it wrote to the folder at that time")
    return _maybe(change, when)


def _packaged(change: Change, task: Task, when: Window) -> Verdict:
    """The task installed or removed packages."""
    installed, removed = versions(task, "installed"), versions(task, "removed")
    if change.removed:
        if path_is_related(change.name, removed):
            return Verdict(PROVEN_BY_PLACE, "it removed the package")
        return Verdict(POSSIBLE) if removed or not installed else NOT_THIS
    if _has_own_time(change) and _unpacked(change, when) and path_is_related(change.name, installed):
        return Verdict(PROVEN_BY_PLACE, "it unpacked the package at that time")
    if change.name.startswith(_ENABLEMENT) and not is_related(_unit(change), (*installed, *removed)):
        return NOT_THIS
    return _maybe(change, when)


def _unit(change: Change) -> str:
    """The name of the unit that a file below /etc/systemd is about."""
    return posixpath.basename(change.name).partition(".")[0].partition("@")[0]


def _enabled(change: Change, task: Task, when: Window) -> Verdict:
    """The task enabled, disabled or masked a service: that is a symlink."""
    base = posixpath.basename(change.name)
    if base not in names(task, "names") and base.rpartition(".")[0] not in names(task, "names"):
        return NOT_THIS
    if change.removed or not _has_own_time(change) or _written(change, when):
        return Verdict(PROVEN_BY_NAME, "it enabled, disabled or masked the service")
    return NOT_THIS


def _maybe(change: Change, when: Window) -> Verdict:
    """The task may have written any file: its own time, if it has one, must fit."""
    if not _has_own_time(change) or _written(change, when) or _unpacked(change, when):
        return Verdict(POSSIBLE)
    return NOT_THIS
