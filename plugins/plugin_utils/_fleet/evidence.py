# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a task has to do with a change."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .runs import Task

NO, POSSIBLE, PROVEN_BY_PLACE, PROVEN_BY_NAME = 0, 1, 2, 3
WRITTEN = "DateModified"  # the field that a task explains if it wrote the file

_GENERIC = frozenset(
    ("etc", "usr", "var", "lib", "conf", "config", "default", "init", "system", "systemd", "multi-user", "target")
)


class Verdict(NamedTuple):
    proof: int
    reason: str = ""
    explains: frozenset[str] | None = None  # the fields that the task explains; None: the whole change
    differs: frozenset[str] = (
        frozenset()
    )  # the fields that are not as the task left them, so another one must explain them


NOT_THIS = Verdict(NO)


def is_related(service: str, packages: Iterable[str]) -> bool:
    """Whether a service may belong to one of the packages, by its name: that of the package, its beginning or a word of it."""
    return any(
        service == package
        or (len(service) > 2 and service in package.split("-"))  # noqa: W503
        or (len(package) > 3 and service.startswith(package))  # noqa: W503
        for package in packages
    )


def path_is_of(path: str, packages: Iterable[str]) -> bool:
    """Whether a file belongs to one of the packages, as far as names tell: a part of its path is related to it as a service is."""
    known = list(packages)
    return any(is_related(part, known) for part in _parts(path))


def path_is_related(path: str, packages: Iterable[str]) -> bool:
    """Whether a file may belong to one of the packages, by a part of its path that is a part of the package's name, or has it."""
    parts = _parts(path)
    return any(part in package or package in part for part in parts for package in packages if len(package) > 2)


def _parts(path: str) -> list[str]:
    return [part for part in re.split(r"[/._]", path) if len(part) > 2 and part not in _GENERIC]


def names(task: Task, key: str) -> list[str]:
    """A list of names that the task named."""
    value = task.named.get(key)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def texts(task: Task, key: str) -> dict[str, str]:
    """A dictionary of texts that the task named, such as {package: version}."""
    value = task.named.get(key)
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}


def turned(task: Task, key: str) -> bool | None:
    """To what the task set `enabled` or `masked` of a service. None: it did not ask for it, or the service was so already."""
    value: Any = task.named.get(key)
    if isinstance(value, str):
        value = value.lower() in ("yes", "true", "on", "1")
    if not isinstance(value, bool):
        return None
    was = texts(task, "was").get("unit_file")
    if was is not None and (was == key if value else not was.startswith(key)):
        return None
    return value
