# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The package managers, and a collection of what is in the databases that a host has.

A package manager is a module with collect(known, root, gpg_keys), which returns the part of that name, and with
compare(version, other), which orders versions; and an entry here. The module of a database that a host does not have is not
loaded.
"""

import os
from typing import Any, Callable, NamedTuple, Tuple

from ...errors import SourceAbsent
from ...model import Collection, Known, Part
from ..sources import Sources
from .absence import DatabaseLocation, is_there, look


def _dpkg() -> Any:
    from . import dpkg

    return dpkg


def _rpm() -> Any:
    from . import rpm

    return rpm


class PackageManager(NamedTuple):
    """Where the database of a package manager may be, and what reads it."""

    name: str  # of the source, and of its part
    folders: Tuple[str, ...]  # below the root
    remains: Tuple[str, ...]  # as DatabaseLocation has it
    load: Callable[[], Any]  # its module
    files: Tuple[str, ...] = ()  # names, one of which is in the folder of a database; empty: not known


MANAGERS = (
    PackageManager("dpkg", ("var/lib/dpkg",), ("status",), _dpkg),
    PackageManager(
        "rpm",
        ("usr/lib/sysimage/rpm", "var/lib/rpm"),
        ("rpmdb.sqlite", "Packages", "Index.db", "__db.", "Name", "Basenames", "Providename", "Requirename"),
        _rpm,
        ("rpmdb.sqlite", "Packages.db", "Packages"),
    ),
)


def source_names() -> Tuple[str, ...]:
    """The names that the sources of packages can have."""
    return tuple(manager.name for manager in MANAGERS)


def compare(source: str, version: str, other: str) -> int:
    """Negative, zero or positive: how a package manager orders two versions of its packages."""
    return int(next(manager for manager in MANAGERS if manager.name == source).load().compare(version, other))


def collect(known: Known, gpg_keys: bool = False, root: str = "/") -> Collection:
    """`gpg_keys`: count the public keys that rpm keeps among its packages."""
    return Sources([(manager.name, _collector(manager, root, gpg_keys)) for manager in MANAGERS], known)


def _collector(manager: PackageManager, root: str, gpg_keys: bool) -> Callable[[Known], Part]:
    folders = [os.path.join(root, folder) for folder in manager.folders]
    paths = [os.path.join(folder, name) for folder in folders for name in manager.files] or folders

    def read(known: Known) -> Part:
        if not any(is_there(path) for path in paths):
            raise SourceAbsent("there is no %s database in %s" % (manager.name, " or ".join(folders)))
        part: Part = manager.load().collect(known, root, gpg_keys)
        return part

    return lambda known: look(read, known, DatabaseLocation(manager.name, folders, manager.remains))
