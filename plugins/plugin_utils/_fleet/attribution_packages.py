# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a task made a change of a package."""

from __future__ import annotations

from .changes import Change
from .effects import ANYTHING, PACKAGES, effect
from .evidence import NOT_THIS, POSSIBLE, PROVEN_BY_NAME, Verdict, names, texts
from .runs import CHANGED, Task
from .windows import Window


def judge_package(change: Change, task: Task, when: Window) -> Verdict:
    kind = effect(task.module)
    if kind not in (PACKAGES, ANYTHING):
        return NOT_THIS
    if change.installed is not None and not change.removed and not when.contains(change.installed):
        return NOT_THIS
    installed, removed = texts(task, "installed"), texts(task, "removed")
    if change.removed and change.name in removed:
        return Verdict(PROVEN_BY_NAME, "it removed this package")
    if not change.removed and installed.get(change.name) == change.values.get("Current"):
        return Verdict(PROVEN_BY_NAME, "it installed this version")
    if (installed or removed) and not task.named.get("cut"):
        return NOT_THIS  # these are all that it installed and removed
    if kind == PACKAGES and _asked_for(change, task):
        return Verdict(PROVEN_BY_NAME, "it named this package")
    if kind == ANYTHING and change.name in names(task, "names") and change.installed is not None and not change.removed:
        return Verdict(PROVEN_BY_NAME, "it named this package, which was installed at that time")
    return Verdict(POSSIBLE)


def _asked_for(change: Change, task: Task) -> bool:
    """Whether a task named the package, and asked for what happened to it."""
    if task.outcome != CHANGED or (task.named.get("state") in ("absent", "removed")) != change.removed:
        return False
    current = str(change.values.get("Current") or "")
    for text in names(task, "names"):
        name, _sign, version = text.partition("=")
        if name.partition(":")[0] == change.name and (not version or current.startswith(version.rstrip("*"))):
            return True
    return False
