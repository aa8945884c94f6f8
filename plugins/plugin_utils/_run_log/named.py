# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task named: paths, packages, services and how it left them. Values are selected by name, and nothing else is read: no
content, no command, no output but the names of packages.

The keys, each of which may be missing:

    paths       files and folders
    below       folders below which it wrote
    left        path, mode, owner and group at the end of the task; of a file also its size
    asked       the owner, group and mode that the arguments ask for
    names       the names of packages, services or whatever the module is about, but no URLs
    installed   {package: version}, dependencies included
    removed     likewise
    kept        the names of removed packages whose configuration files stay
    was         active and unit_file of a service before the task, in the words of systemd
    state, enabled, masked   the arguments
    cut         how many names are left out
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ...module_utils._cti.text import printable
from .._fleet.effects import COPY, FILE, PACKAGES, SERVICES, TREE, effect, resolved
from .transactions import packages

MAX_NAMES = 5_000  # of one kind
MAX_NAME = 4_096  # characters
MAX_CHARACTERS = 1 << 18  # of all names of one kind
MAX_STATE = 32

_PATHS = (
    "path", "dest", "destfile", "creates", "cron_file", "sysctl_file", "fstab", "filename", "link", "keyfile",
    "backup_file", "key_filename",
)  # fmt: skip
_PATH_LISTS = ("sources_added", "sources_removed")
_NAMES = ("name", "pkg", "package", "service", "unit", "deb")
_LEFT = {"size": int, "mode": str, "owner": str, "group": str}
_ASKED = ("owner", "group", "mode")
_WAS = {"active": "ActiveState", "unit_file": "UnitFileState"}
_CRON = "/etc/cron.d"


def named(module: str, arguments: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The dictionary described above, of a task's arguments and its result."""
    kind = effect(module)
    paths = _unique(_paths(arguments, result))
    found: dict[str, Any] = {"paths": paths, "names": _unique(_names(kind, arguments, result))}
    home = _path(result.get("home"))
    if _writes_below(module, kind, arguments, result):
        found["below"] = paths
    elif home and home.count("/") > 1:
        found["below"] = [home]
    found["left"] = _left(result)
    found["asked"] = _asked(arguments)
    for key in ("state", "enabled", "masked"):
        value = arguments.get(key)
        if isinstance(value, bool):
            found[key] = bool(value)
        elif isinstance(value, str) and len(value) <= MAX_STATE:
            found[key] = _text(value)
    if kind == PACKAGES:
        done = packages(result)
        if done is not None:
            found.update(done._asdict())
    status = result.get("status")
    if kind == SERVICES and isinstance(status, dict):
        found["was"] = {key: _text(status[name]) for key, name in _WAS.items() if _is(status.get(name), str)}
    return _bounded(found)


def _asked(arguments: dict[str, Any]) -> dict[str, str]:
    asked = {key: _text(arguments.get(key)) for key in _ASKED}
    if isinstance(arguments.get("mode"), int):  # YAML reads 0644 as an octal number
        asked["mode"] = f"{arguments['mode'] & 0o7777:04o}"
    return {key: text for key, text in asked.items() if text}


def _writes_below(module: str, kind: str, arguments: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether the task changes what is below the paths that it names."""
    if resolved(module) == FILE:
        return arguments.get("state") == "absent" or bool(arguments.get("recurse"))
    return kind == TREE or (resolved(module) == COPY and result.get("state") != "file")


def _left(result: dict[str, Any]) -> dict[str, Any]:
    path = _path(result.get("dest") or result.get("path"))
    left = {key: result[key] for key, wanted in _LEFT.items() if _is(result.get(key), wanted)}
    if not path or len(left) != len(_LEFT) or result.get("state") not in ("file", "directory"):
        return {}
    if result["state"] == "directory":
        del left["size"]
    return {
        "path": path,
        **{key: _text(value) if isinstance(value, str) else int(value) for key, value in left.items()},
    }


def _paths(arguments: dict[str, Any], result: dict[str, Any]) -> Iterator[str]:
    for source in (result, arguments):
        for key in _PATHS:
            yield _path(source.get(key), _CRON if key == "cron_file" else "")
        for key in _PATH_LISTS:
            for value in _list(source.get(key)):
                yield _path(value)


def _names(kind: str, arguments: dict[str, Any], result: dict[str, Any]) -> Iterator[str]:
    for key in _NAMES:
        for value in _list(arguments.get(key)):
            if isinstance(value, str) and len(value) <= MAX_NAME and "://" not in value:  # a URL may hold a password
                for name in value.split(",") if kind == PACKAGES else [value]:
                    yield _text(name.strip())
    if kind == SERVICES:
        status = result.get("status")
        yield _text(status.get("Id")) if isinstance(status, dict) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is(value: Any, wanted: type) -> bool:
    return isinstance(value, wanted) and not (isinstance(value, str) and len(value) > MAX_NAME)


def _text(value: Any) -> str:
    """As plain text; from ansible-core 2.19 on, a text may be of a class of its own."""
    return printable(str.__str__(value)) if isinstance(value, str) and len(value) <= MAX_NAME else ""


def _path(value: Any, folder: str = "") -> str:
    """A normal absolute path, or nothing."""
    path = posixpath.join(folder, _text(value)) if value else ""
    return posixpath.normpath(path) if path.startswith("/") else ""


def _unique(texts: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))


def _bounded(found: dict[str, Any]) -> dict[str, Any]:
    """Without the empty values, and with at most MAX_NAMES and MAX_CHARACTERS of each kind."""
    out: dict[str, Any] = {}
    cut = 0
    for key, value in found.items():
        if isinstance(value, (list, dict)):
            value, before = _first(value), len(value)
            cut += before - len(value)
        if value not in ("", [], {}, None):
            out[key] = value
    if cut:
        out["cut"] = cut
    return out


def _first(names: Any) -> Any:
    """Of a list of names, or a mapping of names to values, as many as are recorded."""
    characters = 0
    count = 0
    for name in islice(names, MAX_NAMES):
        characters += len(name) + (len(str(names[name])) if isinstance(names, dict) else 0)
        if characters > MAX_CHARACTERS:
            break
        count += 1
    return names[:count] if isinstance(names, list) else dict(islice(names.items(), count))
