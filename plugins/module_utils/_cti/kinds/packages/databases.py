# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Every package database a host may have. The code for one it does not have is not loaded."""

import os

from ...errors import SourceAbsent
from ...model import Collection, Known, Part
from ..sources import Sources
from . import rpm
from .absence import DatabaseLocation, is_there, look

NAMES = ("dpkg", rpm.NAME)
_DPKG = "var/lib/dpkg"


def collect(known: Known, gpg_keys: bool = False, root: str = "/") -> Collection:
    """`gpg_keys`: count the public keys that rpm keeps among its packages."""

    def from_dpkg(known: Known) -> Part:
        folder = os.path.join(root, _DPKG)
        if not is_there(folder):
            raise SourceAbsent("there is no dpkg database in %s" % folder)
        from . import dpkg

        return dpkg.collect(known, root)

    def from_rpm(known: Known) -> Part:
        return rpm.collect(known, root, gpg_keys)

    dpkg_place = DatabaseLocation("dpkg", [os.path.join(root, _DPKG)], ("status",))
    rpm_place = DatabaseLocation(rpm.NAME, [os.path.join(root, folder) for folder in rpm.FOLDERS], rpm.REMAINS)
    return Sources(
        [
            ("dpkg", lambda known: look(from_dpkg, known, dpkg_place)),
            ("rpm", lambda known: look(from_rpm, known, rpm_place)),
        ],
        known,
    )
