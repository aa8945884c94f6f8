# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads from the results of package modules which packages were installed and removed, dependencies included."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

MAX_OUTPUT = 8 << 20
MAX_LINES = 100_000

# dpkg's own lines; ansible.builtin.apt runs it in the C locale.
_DPKG = re.compile(
    r"^(Setting up|Unpacking|Removing|Purging configuration files for) ([a-z0-9][a-z0-9+.-]{0,255})(?::[a-z0-9-]{1,32})?"
    r" \(([^\s()]{1,256})\)",
    re.ASCII,
)
_REMOVING, _PURGING = "Removing", "Purging configuration files for"
_DNF = re.compile(
    r"^(Installed|Removed): (\S{1,256})-(\d{1,9}:)?([^\s:-]{1,128}-[^\s:-]{1,128})\.[a-z0-9_]{1,32}$", re.ASCII
)


class Packages(NamedTuple):
    installed: dict[str, str]  # name -> version, as in the item of a package
    removed: dict[str, str]
    kept: list[str]  # those of the removed whose configuration files dpkg keeps


def packages(result: dict[str, Any]) -> Packages | None:
    """The packages that were installed and removed; None where the result does not say."""
    installed: dict[str, str] = {}
    removed: dict[str, str] = {}
    kept: dict[str, str] = {}
    for line in _lines(result):
        match = _DPKG.match(line)
        if match:
            word, name, version = match.groups()
            if word == _PURGING:
                kept.pop(name, None)
            elif word == _REMOVING:
                removed[name] = kept[name] = version
            else:
                installed[name] = version
            continue
        match = _DNF.match(line)
        if match:
            (removed if match[1] == "Removed" else installed)[match[2]] = (match[3] or "0:") + match[4]
    for name in installed:
        removed.pop(name, None)  # an upgrade removes the old version
    return Packages(installed, removed, [name for name in kept if name in removed]) if installed or removed else None


def _lines(result: dict[str, Any]) -> list[str]:
    output = result.get("stdout")
    lines = re.split(r"[\r\n]+", output[:MAX_OUTPUT]) if isinstance(output, str) else []
    results = result.get("results")
    if isinstance(results, list):
        lines += [line for line in results[:MAX_LINES] if isinstance(line, str)]
    return lines[:MAX_LINES]
