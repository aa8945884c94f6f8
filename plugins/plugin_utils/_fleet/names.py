# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names of the fleet store can be names of hosts for Ansible.

A host that sends to a relay names itself. Ansible reads some names as patterns that match other hosts, and evaluates templates in a
name.
"""

from __future__ import annotations

import ipaddress
import re

from ...module_utils._cti.fleet.transaction import PLAYBOOK, RELAY

VIA = (PLAYBOOK, RELAY)
MAX_LENGTH = 255
_PLAIN = re.compile(r"\w[\w.-]*\Z").match
_RESERVED = frozenset(("all", "ungrouped", "localhost", "127.0.0.1"))  # of Ansible; no host may take them for itself


def usable(name: str, via: str) -> bool:
    """Whether Ansible takes the name for that of one host, and no host has chosen it to stand for others."""
    if len(name) > MAX_LENGTH or (via != PLAYBOOK and name.lower() in _RESERVED):
        return False
    return _PLAIN(name) is not None or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_of(via: str, wanted: list[str]) -> bool:
    """Whether the store is filled in one of these ways with a host. Raises TypeError if a program has stored something else than a text."""
    if not isinstance(via, str):
        raise TypeError("via is no text")
    return via in wanted


def check_via(via: object) -> list[str]:
    """The values of an option that selects how the store is filled. Raises ValueError."""
    values = list(map(str, via if isinstance(via, list) else [via]))
    if not values or not set(values) <= set(VIA):
        raise ValueError(f"The value of via is {str(via)[:80]!r}. Give {' or '.join(VIA)}, or a list of both.")
    return values
