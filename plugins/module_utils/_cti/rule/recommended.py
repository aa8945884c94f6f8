# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The recommended rule of the collection: the files that decide who may log in, what runs as root, and where software comes from.

docs/dcr.md says why each item is there. Lines that changed are kept (uploadContent) only of files that have no secrets by their nature.
The last item is the one of Azure's template.
"""

from typing import Any, Dict, List

from .settings import CHANGE_STREAM, DATA_STREAM, EXTENSION, RECOMMENDED

_FILES: List[Dict[str, Any]] = [
    # The first item that matches a file decides how it is tracked.
    {"name": "sshd", "destinationPath": r"/etc/ssh/(sshd?_config|.*\.conf)", "uploadContent": True},
    {"name": "ssh keys", "destinationPath": "/etc/ssh"},
    {"name": "authorized_keys of root", "destinationPath": "/root/.ssh/authorized_keys*", "recurse": False},
    {"name": "authorized_keys", "destinationPath": "/home/authorized_keys*"},
    {"name": "sudoers", "destinationPath": r"/etc/(sudoers|sudo\.conf)", "recurse": False},
    {"name": "sudoers.d", "destinationPath": "/etc/sudoers.d"},
    {"name": "accounts", "destinationPath": "/etc/(passwd|group)", "recurse": False, "uploadContent": True},
    {"name": "passwords", "destinationPath": "/etc/(g?shadow|subuid|subgid)", "recurse": False},
    {"name": "pam", "destinationPath": "/etc/pam.d", "uploadContent": True},
    {"name": "pam modules", "destinationPath": "/etc/security"},
    {
        "name": "crontab",
        "destinationPath": r"/etc/(crontab|anacrontab|(at|cron)\.(allow|deny))",
        "recurse": False,
    },
    {"name": "cron.d", "destinationPath": "/etc/cron.d"},
    {"name": "cron.hourly", "destinationPath": "/etc/cron.hourly"},
    {"name": "cron.daily", "destinationPath": "/etc/cron.daily"},
    {"name": "cron.weekly", "destinationPath": "/etc/cron.weekly"},
    {"name": "cron.monthly", "destinationPath": "/etc/cron.monthly"},
    {"name": "crontabs of users", "destinationPath": "/var/spool/cron"},
    # A symlink in a .wants folder is what `systemctl enable` makes; its target belongs to a package.
    {"name": "units", "destinationPath": "/etc/systemd", "links": "Manage"},
    {"name": "local units", "destinationPath": "/usr/local/lib/systemd", "links": "Manage"},
    {"name": "apt", "destinationPath": "/etc/apt"},
    {"name": "yum", "destinationPath": r"/etc/yum\.conf", "recurse": False},
    {"name": "yum.repos.d", "destinationPath": "/etc/yum.repos.d"},
    {"name": "dnf", "destinationPath": "/etc/dnf"},
    {"name": "rpm keys", "destinationPath": "/etc/pki/rpm-gpg"},
    {"name": "sysctl", "destinationPath": r"/etc/sysctl\.conf", "recurse": False, "uploadContent": True},
    {"name": "sysctl.d", "destinationPath": "/etc/sysctl.d", "uploadContent": True},
    {"name": "ld.so", "destinationPath": r"/etc/ld\.so\.(conf|preload)", "recurse": False, "uploadContent": True},
    {"name": "ld.so.conf.d", "destinationPath": "/etc/ld.so.conf.d", "uploadContent": True},
    {"name": "ansible", "destinationPath": "/etc/ansible"},
    {"name": "ChangeTrackingLinuxPath_default", "destinationPath": "/etc/.*.conf"},
]
# As in Azure's template, but for the files.
_SETTINGS = {
    "enableFiles": True,
    "enableSoftware": True,
    "enableServices": True,
    "enableInventory": True,
    "fileSettings": {"fileCollectionFrequency": 900, "fileInfo": _FILES},
    "softwareSettings": {"softwareCollectionFrequency": 300},
    "servicesSettings": {"serviceCollectionFrequency": 300},
    "inventorySettings": {"inventoryCollectionFrequency": 36000},
}


def rule() -> Dict[str, Any]:
    """The rule, as a config chunk with tags of its own."""
    element = {
        "id": RECOMMENDED,
        "extensionSettings": _SETTINGS,
        "outputStreams": {stream: stream for stream in (CHANGE_STREAM, DATA_STREAM)},
    }
    return {"extensionConfigurations": {EXTENSION: [element]}}
