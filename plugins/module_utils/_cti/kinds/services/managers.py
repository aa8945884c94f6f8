# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Every service manager a host may have."""

from ...model import Collection, Known, Part
from ..sources import Sources
from . import systemd


def collect(known: Known, templates: bool = False, transient: bool = False) -> Collection:
    """The services of this host. `templates`: include unit files such as getty@.service, which are services only as instances.
    `transient`: include units that exist only while they run: of logins, of connections, of systemd-run.
    """

    def from_systemd(known: Known) -> Part:
        return systemd.collect(known, templates=templates, transient=transient)

    return Sources([("systemd", from_systemd)], known)
