# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what a host says of the actor of a change with the task that the run log names.

The host is not trusted: what it says can confirm or contradict a task, and never makes a change Ansible's. The absence of a module
contradicts a task only where that module writes the file in its own process: with pipelining, no host sees the name of a module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...module_utils._cti.fleet.content import integer
from ...module_utils._cti.records import actor
from .changes import Change
from .effects import ANYTHING, COMMANDS, effect, resolved
from .report_columns import shown

MAX_TEXT = 300  # characters; an agent sends at most 256 bytes of a command
_KEYS = {
    "login": "ChangedBy", "uid": "ChangedByUid", "process": "ChangedByProcess", "command": "ChangedByCommand",
    "session": "ChangedBySession", "module": "ChangedByModule", "at": "ChangedAt", "count": "ChangedByCount",
}  # fmt: skip
_NUMBERS = ("uid", "session", "count")
_PACKAGES = ("apk", "apt", "dnf", "dnf5", "pacman", "yum", "zypper")
_SERVICES = ("service", "systemd", "systemd_service", "sysvinit")
# The modules that run on the host for a task of another name.
_RUNS = {
    "assemble": ("copy", "file"), "copy": ("file",), "dnf": ("dnf5",), "package": _PACKAGES, "service": _SERVICES, "shell": ("command",),
    "systemd": _SERVICES, "systemd_service": _SERVICES, "template": ("copy", "file"), "unarchive": ("copy",), "yum": _PACKAGES,
}  # fmt: skip
_WRITE_THEMSELVES = frozenset(
    ("assemble", "blockinfile", "copy", "file", "get_url", "ini_file", "lineinfile", "replace", "template")
)


def actor_of(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The actor of a change record, with the keys that are known; None where nothing is."""
    found: dict[str, Any] = {}
    for key, column in _KEYS.items():
        value = values.get(column)
        if key in _NUMBERS:
            value = integer(value)
        else:
            value = shown(value, MAX_TEXT) if isinstance(value, str) and value else None
        if value is not None:
            found[key] = value
    return found or None


def in_short(values: Mapping[str, Any]) -> str:
    """Who made the change of a record, such as `alice (vim)`; empty where it is not known."""
    return shown(actor({column: values[column] for column in _KEYS.values() if column in values}))


def contradicts(change: Change, module: str) -> bool:
    """Whether the host saw another program write a file than the module of the task, which writes it in its own process."""
    process = str(change.values.get("ChangedByProcess") or "")
    if not process or change.values.get("ChangedByModule") or change.kind != "files":
        return False
    return _short(module) in _WRITE_THEMSELVES and "python" not in process and "pypy" not in process


def agrees(module: str, seen: str) -> bool | None:
    """Whether a task with this module runs the module that the host saw. None: it may."""
    own = _short(module)
    if seen == own or seen in _RUNS.get(own, ()):
        return True
    if seen == "async_wrapper" or (effect(module) == ANYTHING and resolved(module) not in COMMANDS):
        return None  # an action plugin may run any module
    return False


def _short(module: str) -> str:
    return module.rpartition(".")[2]
