# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Every package database a host may have."""

from ..model import Collection, Known, Part
from . import dpkg, rpm
from .sources import Sources


def collect(known: Known, gpg_keys: bool = False) -> Collection:
    """`gpg_keys`: count the public keys that rpm keeps among its packages."""

    def from_rpm(known: Known) -> Part:
        return rpm.collect(known, gpg_keys=gpg_keys)

    return Sources([("dpkg", dpkg.collect), ("rpm", from_rpm)], known)
