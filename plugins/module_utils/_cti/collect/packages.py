# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Every package database a host may have. The code for one it does not have is not loaded."""

import os

from ..errors import SourceAbsent
from ..model import Collection, Known, Part
from . import rpm
from .sources import Sources

_DPKG = "/var/lib/dpkg"


def collect(known: Known, gpg_keys: bool = False) -> Collection:
    """`gpg_keys`: count the public keys that rpm keeps among its packages."""

    def from_rpm(known: Known) -> Part:
        return rpm.collect(known, gpg_keys=gpg_keys)

    return Sources([("dpkg", _from_dpkg), ("rpm", from_rpm)], known)


def _from_dpkg(known: Known) -> Part:
    if not os.path.lexists(_DPKG):
        raise SourceAbsent("there is no dpkg database in %s" % _DPKG)
    from . import dpkg

    return dpkg.collect(known)
