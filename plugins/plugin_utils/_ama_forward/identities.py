# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers the identity of each inventory host, so that no host sends records under the identity of another one.

The inventory name is what the operator connected to. Everything else that a host reports about itself (name, SourceComputerId,
VMUUID) is a claim. It is accepted unless another inventory host reported it first, in this run or in an earlier one with the same
spool, or it is the inventory name of another host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from ...module_utils._cti.text import load_json
from .._spool import Spool

NAME = "ReportedComputer"
CLAIMS = (NAME, "SourceComputerId", "VMUUID")
FILE = "identities.json"
MAX_BYTES = 64 << 20
SHOWN = 5  # hosts named in one warning
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

Row = dict[str, Any]
Claims = dict[str, str]


class Identities:
    """Remembers the claims of each inventory host in a file of the spool's folder."""

    def __init__(self, spool: Spool, warn: Callable[[str], None]) -> None:
        self._spool = spool
        self._warn = warn
        self._hosts: dict[str, Claims] | None = None  # None: not read yet
        self._owners: dict[tuple[str, str], str] = {}
        self._names: dict[str, str] = {}  # of the inventory, in lower case -> as they are
        self._learnt: dict[str, Claims] = {}  # in this run
        self._disputed: dict[tuple[str, str, str], set[str]] = {}  # (column, value, its owner) -> the others
        self._changed: set[tuple[str, str]] = set()  # (host, column) that were warned of

    def expect(self, names: Iterable[str]) -> None:
        """Add the names of all hosts in the inventory: no host may report the name of another one."""
        self._names.update((name.lower(), name) for name in names)

    def believed(self, host: str, columns: Row) -> Row:
        """The columns without the claims that are not accepted from this inventory host."""
        good = dict(columns)
        for column in CLAIMS:
            value = columns.get(column)
            if value is not None and not self._is_believed(host, column, value):
                del good[column]
        return good

    def close(self) -> None:
        """Warn once of each claim that several hosts made, and store the new claims."""
        for (column, value, owner), hosts in self._disputed.items():
            names = sorted(hosts)[:SHOWN]
            more = f" and {len(hosts) - SHOWN} more" if len(hosts) > SHOWN else ""
            named = column == NAME and value in self._names
            whose = f"is the inventory name of {owner}" if named else f"{owner} reported first"
            own = "hostname" if column == NAME else "machine-id"
            self._warn(
                f"{', '.join(names)}{more} reported the {column} {value!r}, which {whose}. The records of"
                f" {', '.join(names)}{more} are sent without it. If the host is a clone, give it its own {own}"
            )
        self._disputed = {}
        if self._learnt:
            self._spool.update(FILE, MAX_BYTES, self._merged)
            self._learnt = {}

    def _is_believed(self, host: str, column: str, value: Any) -> bool:
        if not isinstance(value, str) or not _is_plausible(column, value):
            return False
        value = value.lower()
        known = self._known().setdefault(host, {})
        owner = self._names.get(value, "") if column == NAME else ""
        owner = owner or self._owners.setdefault((column, value), host)
        if owner != host:
            self._disputed.setdefault((column, value, owner), set()).add(host)
            return False
        before = known.get(column)
        if before == value:
            return True
        if before is not None:
            self._owners.pop((column, before), None)
            if (host, column) not in self._changed:
                self._changed.add((host, column))
                self._warn(
                    f"{host} reported the {column} {value!r}, before that {before!r}. Check whether it is the same machine"
                )
        known[column] = value
        self._learnt.setdefault(host, {})[column] = value
        return True

    def _known(self) -> dict[str, Claims]:
        if self._hosts is None:
            self._hosts = _parse(self._spool.read(FILE, MAX_BYTES))
            for host, claims in self._hosts.items():
                for column, value in claims.items():
                    self._owners.setdefault((column, value), host)
        return self._hosts

    def _merged(self, stored: bytes) -> bytes:
        """The stored claims, perhaps changed by another run meanwhile, with those of this run."""
        hosts = _parse(stored)
        for host, claims in self._learnt.items():
            hosts.setdefault(host, {}).update(claims)
        return json.dumps(hosts, separators=(",", ":")).encode("ascii")


def _is_plausible(column: str, value: str) -> bool:
    if column == NAME:
        return len(value) <= 255 and value.isprintable()
    return _UUID.fullmatch(value) is not None


def _parse(raw: bytes) -> dict[str, Claims]:
    """The claims by host. A damaged file counts as an empty one, and is replaced."""
    try:
        stored = load_json(raw)
    except (ValueError, RecursionError):
        return {}
    hosts = stored.items() if isinstance(stored, dict) else ()
    return {
        host: {column: value for column, value in claims.items() if column in CLAIMS and isinstance(value, str)}
        for host, claims in hosts
        if isinstance(claims, dict)
    }
