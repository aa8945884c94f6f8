# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module of Ansible can change on a host."""

from __future__ import annotations

NOTHING = "nothing"  # of what is tracked
NAMED = "named"  # the files that its arguments or its result name, and services through their unit files
SERVICES = "services"  # the services that it names, and the symlinks that enable them
TREE = "tree"  # files below a path that it names; an archive may set their times
PACKAGES = "packages"  # packages, and what these contain or their scripts do
ANYTHING = "anything"  # also the effect of every module that is not in the table

_BUILTIN = "ansible.builtin."
_BY_EFFECT = {
    NOTHING: (
        "add_host assert async_status debug deprecate fail fetch gather_facts getent group_by import_playbook import_role"
        " import_tasks include_role include_tasks include_vars meta mount_facts package_facts pause ping service_facts set_fact"
        " set_stats setup slurp stat tempfile validate_argument_spec wait_for wait_for_connection",
        "changetracking.inventory.ct_agent_info changetracking.inventory.ct_azure_plan changetracking.inventory.ct_azure_resource"
        " changetracking.inventory.ct_dcr_info changetracking.inventory.ct_file_facts"
        " changetracking.inventory.ct_fleet_info changetracking.inventory.ct_fleet_mark changetracking.inventory.ct_fleet_report"
        " changetracking.inventory.ct_inventory_fetch changetracking.inventory.ct_inventory_info changetracking.inventory.ct_package_facts"
        " changetracking.inventory.ct_service_facts changetracking.inventory.ct_state_info changetracking.inventory.ct_zipapp",
    ),
    NAMED: (
        "apt_repository assemble blockinfile copy cron deb822_repository file get_url group hostname known_hosts lineinfile replace"
        " template user yum_repository",
        "ansible.posix.authorized_key ansible.posix.mount ansible.posix.sysctl community.general.alternatives"
        " community.general.ini_file community.general.locale_gen community.general.pam_limits community.general.sudoers"
        " community.general.timezone community.general.xml",
    ),
    SERVICES: ("service systemd systemd_service sysvinit", ""),
    TREE: ("git subversion unarchive", "ansible.posix.synchronize"),
    PACKAGES: (
        "apt dnf dnf5 package yum",
        "community.general.zypper community.general.apk community.general.pacman",
    ),
}
_EFFECTS = {
    (_BUILTIN + name if names is builtin else name): effect
    for effect, (builtin, others) in _BY_EFFECT.items()
    for names in (builtin, others)
    for name in names.split()
}

# The files that a module writes without naming them; a path with a slash at its end stands for what is below it.
_ACCOUNTS = tuple(f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid"))
COPIES = {f"{path}-": path for path in _ACCOUNTS}  # as each was before it was last written, with the time of that
_IMPLIED = {
    "ansible.builtin.user": _ACCOUNTS,
    "ansible.builtin.group": _ACCOUNTS,
    "ansible.builtin.hostname": ("/etc/hostname", "/etc/machine-info"),
    "ansible.builtin.cron": ("/var/spool/cron/",),
    "ansible.builtin.apt_repository": ("/etc/apt/sources.list", "/etc/apt/sources.list.d/"),
    "ansible.builtin.deb822_repository": ("/etc/apt/sources.list.d/", "/etc/apt/keyrings/"),
    "ansible.builtin.yum_repository": ("/etc/yum.repos.d/",),
    "ansible.posix.mount": ("/etc/fstab",),
    "ansible.posix.sysctl": ("/etc/sysctl.conf",),
    "community.general.locale_gen": ("/etc/locale.gen",),
    "community.general.pam_limits": ("/etc/security/limits.conf",),
    "community.general.sudoers": ("/etc/sudoers.d/",),
    "community.general.timezone": ("/etc/timezone", "/etc/localtime", "/etc/adjtime", "/etc/sysconfig/clock"),
}
# Those that edit entries of a file, so that `state: absent` removes an entry, not the file.
_EDITORS = frozenset(
    _BUILTIN + name for name in ("blockinfile", "group", "known_hosts", "lineinfile", "replace", "user")
) | frozenset(
    (
        "ansible.posix.mount",
        "ansible.posix.sysctl",
        "community.general.ini_file",
        "community.general.pam_limits",
        "community.general.xml",
    )
)
COMMANDS = frozenset(_BUILTIN + name for name in ("command", "expect", "raw", "script", "shell"))
LINKS = frozenset(("community.general.alternatives", "community.general.timezone"))  # also make symlinks
FILE = _BUILTIN + "file"
COPY = _BUILTIN + "copy"


def resolved(module: str) -> str:
    """The name under which the tables have a module."""
    if module.startswith("ansible.legacy."):
        return _BUILTIN + module[len("ansible.legacy.") :]  # noqa: E203
    return module if "." in module else _BUILTIN + module


def effect(module: str) -> str:
    """One of the words above."""
    return _EFFECTS.get(resolved(module), ANYTHING)


def implied(module: str) -> tuple[str, ...]:
    return _IMPLIED.get(resolved(module), ())


def edits_entries(module: str) -> bool:
    return resolved(module) in _EDITORS


def removes_others(module: str) -> bool:
    """Whether a module that writes below a path may remove what else is there."""
    return resolved(module) in (_BUILTIN + "git", _BUILTIN + "subversion", "ansible.posix.synchronize")
