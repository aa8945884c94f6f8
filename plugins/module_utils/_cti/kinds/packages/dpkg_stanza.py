# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A package as dpkg's database has it: its fields, the states it can be in, and the syntax of its name and version."""

from typing import NamedTuple, Optional

REMEDY = "`dpkg --audit` says more, and /var/backups may hold an earlier copy"

INSTALLED = "installed"
NOT_INSTALLED = "not-installed"
HALF_INSTALLED = "half-installed"
_GONE = (NOT_INSTALLED, "config-files")
PRESENT = (INSTALLED, "triggers-awaited", "triggers-pending")  # configured; in the latter two a trigger is still to run
IN_BETWEEN = (HALF_INSTALLED, "unpacked", "half-configured")
STATE_OF = {
    " ".join((want, flag, state)): state
    for want in ("unknown", "install", "hold", "deinstall", "purge")
    for flag in ("ok", "reinstreq")
    for state in PRESENT + _GONE + IN_BETWEEN
}

VERSION_SYNTAX = r"(?:[1-9][0-9]{0,8}:|)[0-9][-A-Za-z0-9.+~]*(?<!-)"
NAME_SYNTAX = r"[a-z0-9][-+._a-z0-9]*"


class Stanza(NamedTuple):
    """What the database says of a package, whatever its state."""

    name: str
    architecture: str
    version: str
    state: str  # the third word of Status
    same: bool  # Multi-Arch: same, so that it may be installed for several architectures
    summary: str
    publisher: str
    size: Optional[int]  # bytes
    source: str  # the Source field; empty where the package has the name and version of its source package
