# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The services that the message bus starts when a client calls them, read from disk.

Source: dbus-daemon(1), "servicedir" and "standard_system_servicedirs"; the D-Bus specification, "Message Bus Starting
Services". polkit, packagekit, systemd-hostnamed and others are started this way, and end when they are idle.
"""

from typing import Set

from . import unit_syntax as syntax
from .root_fs import Unreadable
from .unit_files import UnitFiles

_FOLDERS = (
    "/etc/dbus-1/system-services",
    "/run/dbus-1/system-services",
    "/usr/local/share/dbus-1/system-services",
    "/usr/share/dbus-1/system-services",
    "/lib/dbus-1/system-services",
)


def bus_activated(files: UnitFiles) -> Set[str]:
    """The Ids of the services that an activation file names and systemd can find."""
    out = set()
    for folder in _FOLDERS:
        try:
            entries = files.disk.entries(folder)
        except OSError:
            continue
        for entry in entries:
            if not entry.name.endswith(syntax.SUFFIX):
                continue
            settings: syntax.Settings = {}
            try:
                syntax.parse(files.disk.read(folder + "/" + entry.name) or b"", settings)
            except Unreadable:
                continue
            found = files.identify(syntax.last(settings, "D-BUS Service", "SystemdService"))
            if found:
                out.add(found[0])
    return out
