# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Installed packages from rpm's database, with the same values that `rpm -qa` prints.

An SQLite database is read directly, Berkeley DB and ndb through one `rpm -qa`.
"""

import os
from typing import Dict, List, Sequence, Set, Tuple

from ...errors import SourceAbsent
from ...model import Known, Part
from ...text import quoted
from .absence import is_there
from .kind import Package
from .rpm_tags import REMEDY, Found
from .unchanged import Installed, read_unchanged

NAME = "rpm"
Identity = Tuple[str, ...]

FOLDERS = ("usr/lib/sysimage/rpm", "var/lib/rpm")
_SQLITE = "rpmdb.sqlite"
_NDB = "Packages.db"
FILES = (_SQLITE, _NDB, "Packages")  # the last is Berkeley DB's
_NAMED = 10  # packages named in a message
_GPG_KEY = "gpg-pubkey"  # rpm keeps the keys it trusts as packages of this name


def collect(known: Known, root: str = "/", gpg_keys: bool = False) -> Part:
    """The part "rpm": every installed package, one item for each version of each name and architecture.

    gpg_keys: count the imported keys (gpg-pubkey) too. SourceAbsent where there is no database, SourceFailed where
    it cannot be read in full.
    """
    path = _find(root)
    folder = os.path.dirname(path)
    return read_unchanged(
        NAME, path, folder, known, lambda: _stamp(path, gpg_keys), lambda: _read_installed(path, root, gpg_keys, known)
    )


def compare(version: str, other: str) -> int:
    """Negative, zero or positive, in the order of rpm-version(7)."""
    from .versions import compare_rpm  # only where versions are compared

    return compare_rpm(version, other)


def _read_installed(path: str, root: str, gpg_keys: bool, known: Known) -> Installed:
    found = _read(path, root)
    items = [package for package in found.packages if gpg_keys or package.name != _GPG_KEY]
    items.sort(key=lambda package: package[:5])  # the rest may be None, which has no order
    unsure, messages = _damaged(items, found.damaged, known)
    running = _transaction_running(path)
    if running:
        _add_upgrading(items, unsure, messages)
    return Installed(items, unsure, "; ".join(messages), final=not (running or found.damaged))


def _damaged(items: List[Package], damaged: Sequence[str], known: Known) -> Tuple[Set[Identity], List[str]]:
    """The identities of the packages with these names, and a message about them."""
    if not damaged:
        return set(), []
    unsure: Set[Identity] = {(name,) for name in damaged if name}
    if "" in damaged:  # any of those that are missing now may be one of these
        seen = {package[:2] for package in items}
        unsure.update((item[0], item[1]) for item in known.items(NAME) if isinstance(item, Package))
        unsure -= seen
    names = sorted(quoted(name) for name in damaged if name)
    nameless = len(damaged) - len(names)
    shown = names[:_NAMED] + (["%d more" % (len(names) - _NAMED)] if len(names) > _NAMED else [])
    shown += ["%d whose name is not readable either" % nameless] if nameless else []
    counted = "1 package is" if len(damaged) == 1 else "%d packages are" % len(damaged)
    return unsure, [
        "%s not counted, as the header in the rpm database is damaged: %s; %s" % (counted, ", ".join(shown), REMEDY)
    ]


def _add_upgrading(items: List[Package], unsure: Set[Identity], messages: List[str]) -> None:
    """Make packages with several versions unsure: while rpm upgrades a package, its old version is still in the database."""
    versions: Dict[Identity, int] = {}
    for package in items:
        versions[package[:2]] = versions.get(package[:2], 0) + 1
    several = {identity for identity, count in versions.items() if count > 1}
    if several:
        unsure |= several
        names = ", ".join(sorted(name for name, _architecture in several)[:_NAMED])
        message = "an rpm transaction is running, so packages with several versions may be in the middle of an upgrade"
        messages.append("%s: %s" % (message, names))


def _transaction_running(path: str) -> bool:
    """Whether an rpm transaction is running: rpm then holds a write lock on .rpm.lock next to the database at `path`
    (rpm's lib/rpmlock.c). fcntl(2) reports it without taking a lock."""
    import fcntl
    import struct

    try:
        file = os.open(os.path.join(os.path.dirname(path), ".rpm.lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        lock = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        return bool(struct.unpack("hhqqi4x", lock)[0] != fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(file)


def _find(root: str) -> str:
    for folder in FOLDERS:
        for name in FILES:
            path = os.path.join(root, folder, name)
            if is_there(path):
                return path
    raise SourceAbsent("there is no rpm database in %s" % " or ".join(os.path.join(root, name) for name in FOLDERS))


def _stamp(path: str, gpg_keys: bool) -> Tuple[str, float]:
    """The `stamp` for read_unchanged()."""
    marks = ["keys" if gpg_keys else "nokeys"]
    newest = 0.0
    for name in (path, path + "-wal"):
        try:
            found = os.stat(name)
        except FileNotFoundError:
            if name == path:
                raise
            continue
        # SQLite leaves either an empty write-ahead log or none, and when root reads the log its ctime changes.
        if name == path:
            marks.append("%x.%x.%x" % (found.st_dev, found.st_ino, found.st_ctime_ns))
        elif not found.st_size:
            continue
        marks.append("%x.%x" % (found.st_size, found.st_mtime_ns))
        newest = max(newest, found.st_mtime)
    return " ".join(marks), newest


def _read(path: str, root: str) -> Found:
    # Only the reader that is needed is imported: the code of a module is compiled anew on every run.
    if os.path.basename(path) == _SQLITE:
        try:
            from . import rpm_sqlite
        except ImportError:
            pass  # a Python built without sqlite3
        else:
            return rpm_sqlite.read(path)
    from . import rpm_query

    return rpm_query.read(path, root, os.path.basename(path) == _NDB)
