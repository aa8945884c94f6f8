# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a task made a change of a file, and which part of it: what it wrote, and the owner, group and mode that it asked for."""

from __future__ import annotations

import posixpath

from .changes import ADDED, Change
from .effects import (
    ANYTHING,
    COMMANDS,
    FILE,
    LINKS,
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
    path_is_of,
    path_is_related,
    texts,
    turned,
)
from .runs import Task
from .windows import Window

_CONTENT = frozenset(("FileContentChecksum", "Size", "DateModified", "DateCreated", "FileType", "LinkTarget"))
_ATTRIBUTES = {"owner": "Owner", "group": "Group", "mode": "Mode"}
_MAKES = (
    "directory",
    "hard",
    "link",
    "touch",
)  # states with which FILE does more than to set attributes; it never writes a content
_ENABLEMENT = "/etc/systemd/"
_CONFIGURATION = "/etc/"


def judge_file(change: Change, task: Task, when: Window) -> Verdict:
    kind = effect(task.module)
    if _is_named(change.name, task):
        return _named(change, task, when, kind)
    if _is_listing(change, task):
        if _written(change, when):
            return Verdict(PROVEN_BY_NAME, "it wrote into this folder at that time")
        return NOT_THIS
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


# --- times


def _is_of_symlink(change: Change) -> bool:
    """Whether a symlink was made or points elsewhere. Its times are those of what it points to."""
    return bool(change.values.get("LinkTarget")) and (change.category == ADDED or "LinkTarget" in change.fields)


def has_own_time(change: Change) -> bool:
    """Whether the change shows in the times of the file."""
    if change.removed or _is_of_symlink(change):
        return False
    return change.category == ADDED or not change.fields.isdisjoint(_CONTENT)


def _written(change: Change, when: Window) -> bool:
    """Whether it was last written within the window. A folder is written whenever something is added to it."""
    if change.category == ADDED and change.values.get("FileType") == "directory":
        return when.contains(change.created)
    return when.contains(change.modified)


def _unpacked(change: Change, when: Window) -> bool:
    """Whether it was created within the window with the time of an archive or another copy."""
    return when.contains(change.created) and when.is_after(change.modified)


def _maybe(change: Change, when: Window) -> Verdict:
    """The task may have written any file: its own time, if it has one, must fit."""
    if not has_own_time(change) or _written(change, when) or _unpacked(change, when):
        return Verdict(POSSIBLE)
    return NOT_THIS


# --- a task that named the path


def _named(change: Change, task: Task, when: Window, kind: str) -> Verdict:
    module, state = resolved(task.module), task.named.get("state")
    if module in COMMANDS and change.category != ADDED:
        return _maybe(change, when)  # it named what it creates
    if change.removed:
        if state == "absent" and kind == NAMED and not edits_entries(module):
            return Verdict(PROVEN_BY_NAME, "it removed this path")
        return Verdict(POSSIBLE) if kind in (ANYTHING, TREE) else NOT_THIS
    if state == "absent" and module == FILE:
        return NOT_THIS
    if _is_of_symlink(change):
        makes_links = state == "link" or module in LINKS
        return Verdict(PROVEN_BY_NAME, "it named this symlink") if makes_links else Verdict(POSSIBLE)
    if has_own_time(change) and (_written(change, when) or _unpacked(change, when)):
        if module != FILE or (state in _MAKES and "FileContentChecksum" not in change.fields):
            return _wrote(change, task)
    elif kind == ANYTHING and not has_own_time(change):
        return Verdict(POSSIBLE)
    return _attributes(change, task, PROVEN_BY_NAME)


def _wrote(change: Change, task: Task) -> Verdict:
    """The task wrote the file at that time. That explains all but an owner, group or mode that it did not ask for."""
    differs = _differs(change, task)
    explains = _asked(change, task) - differs
    if "Size" not in differs:
        explains |= _CONTENT
    reason = (
        "it edited this path at that time"
        if edits_entries(task.module)
        else "it named this path and wrote it at that time"
    )
    return Verdict(PROVEN_BY_NAME, reason, explains, differs)


def _attributes(change: Change, task: Task, proof: int) -> Verdict:
    """The task did not write the file, but may have set its owner, group or mode."""
    asked = _asked(change, task)
    return Verdict(proof, "it set the owner, group or mode", asked) if asked else NOT_THIS


def _left(change: Change, task: Task) -> dict[str, str]:
    """{column: value} of the file at the end of the task, where its result has them."""
    left = texts(task, "left")
    if left.get("path") != change.name:
        return {}
    return {column: left[key] for key, column in {**_ATTRIBUTES, "size": "Size"}.items() if key in left}


def _differs(change: Change, task: Task) -> frozenset[str]:
    """The columns that are not as the task left them."""
    left = _left(change, task).items()
    return frozenset(column for column, value in left if not _is_same(column, change.values.get(column), value))


def _asked(change: Change, task: Task) -> frozenset[str]:
    """The columns that the task asked for, by its arguments, and that the file has so."""
    asked, left = texts(task, "asked"), _left(change, task)
    return frozenset(
        column
        for key, column in _ATTRIBUTES.items()
        if key in asked
        and change.values.get(column)  # noqa: W503
        and _is_same(column, change.values[column], left.get(column, asked[key]))  # noqa: W503
    )


def _is_same(column: str, ours: object, theirs: str) -> bool:
    """Whether two values are the same. An unknown one is the same as any."""
    if ours in (None, ""):
        return True
    if column == "Mode":
        try:
            return int(str(ours), 8) == int(theirs, 8)
        except ValueError:  # symbolic, such as u=rw
            return False
    return str(ours) == theirs


# --- a task that named something else


def _below(change: Change, task: Task, when: Window, kind: str) -> Verdict:
    """The task wrote to a folder above, set the attributes of all that is in it, or removed it."""
    if change.removed:
        if task.named.get("state") == "absent":
            return Verdict(PROVEN_BY_PLACE, "it removed the folder")
        return Verdict(POSSIBLE) if removes_others(task.module) else NOT_THIS
    if resolved(task.module) == FILE:
        return _attributes(change, task, PROVEN_BY_PLACE)
    if not has_own_time(change):
        return Verdict(POSSIBLE)
    if _unpacked(change, when) or (kind == NAMED and when.contains(change.created) and _written(change, when)):
        return Verdict(PROVEN_BY_PLACE, "it wrote to the folder at that time")
    return _maybe(change, when)


def _packaged(change: Change, task: Task, when: Window) -> Verdict:
    """The task installed or removed packages."""
    installed, removed = texts(task, "installed"), texts(task, "removed")
    if change.removed:
        kept = names(task, "kept") if change.name.startswith(_CONFIGURATION) else ()
        if path_is_of(change.name, [name for name in removed if name not in kept]):
            return Verdict(PROVEN_BY_PLACE, "it removed the package")
        return Verdict(POSSIBLE) if removed or not installed else NOT_THIS
    if has_own_time(change) and _unpacked(change, when) and path_is_related(change.name, installed):
        return Verdict(PROVEN_BY_PLACE, "it unpacked the package at that time")
    if change.name.startswith(_ENABLEMENT) and not is_related(_unit(change), (*installed, *removed)):
        return NOT_THIS
    return _maybe(change, when)


def _unit(change: Change) -> str:
    """The name of the unit that a file below /etc/systemd is about."""
    return posixpath.basename(change.name).partition(".")[0].partition("@")[0]


def _enabled(change: Change, task: Task, when: Window) -> Verdict:
    """The task enabled, disabled, masked or unmasked a service: that makes or removes a symlink."""
    base = posixpath.basename(change.name)
    if base not in names(task, "names") and base.rpartition(".")[0] not in names(task, "names"):
        return NOT_THIS
    if (not change.removed) not in (turned(task, "enabled"), turned(task, "masked")):
        return NOT_THIS
    if not has_own_time(change) or _written(change, when):
        return Verdict(PROVEN_BY_NAME, "it enabled, disabled or masked the service")
    return NOT_THIS
