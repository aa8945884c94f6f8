# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Installed packages from dpkg's database, as dpkg-query(1) lists them."""

import os
from typing import Tuple

from ...model import Known, Part
from .unchanged import Installed, names, read_unchanged

NAME = "dpkg"

_DATABASE = "var/lib/dpkg"


def collect(known: Known, root: str = "/", gpg_keys: bool = False) -> Part:
    """The part "dpkg": every package that is installed, one item for each name and architecture. One that awaits or has
    pending triggers is configured, and works.

    installed_on is when dpkg last wrote the package's list of files, so an upgrade counts as an installation.
    gpg_keys: dpkg has none. SourceAbsent where there is no database, SourceFailed where it cannot be read in full.
    """
    base = os.path.join(root, _DATABASE)
    return read_unchanged(NAME, base, base, known, lambda: _stamp(base), lambda: _read_installed(base))


def compare(version: str, other: str) -> int:
    """Negative, zero or positive, in the order of deb-version(7)."""
    from .versions import compare_dpkg  # only where versions are compared

    return compare_dpkg(version, other)


def _read_installed(base: str) -> Installed:
    from .dpkg_database import read_installed

    return read_installed(base)


def _stamp(base: str) -> Tuple[str, float]:
    """The `stamp` for read_unchanged()."""
    paths = [os.path.join(base, name) for name in ("status", "info", "updates", "status.d")]
    for folder in paths[2:]:
        paths.extend(os.path.join(folder, name) for name in names(folder))
    marks = []
    newest = 0.0
    for path in paths:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            marks.append("-")
        else:
            marks.append("%x.%x.%x.%x.%x" % (
                found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns,
            ))  # fmt: skip
            newest = max(newest, found.st_mtime)
    return " ".join(marks), newest
