# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the name in the Ansible inventory of a host that the store has under another name.

A host that sends to a relay has the name that it gives itself there. The run log has the inventory name, and the SourceComputerId where a
task returned it. Both are what a host says of itself, so they are joined only where nobody else says the same: a host under somebody
else's control must not get the tasks of another one, or lend its own.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from ...module_utils._cti.fleet.content import as_key
from ...module_utils._cti.fleet.parameters import placeholders, slices
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.fleet.transaction import RELAY, Transaction
from ...module_utils._cti.text import plural
from .changes import seconds
from .selection import DAY

TABLE = "identities"
RECENT = 30 * DAY  # a name that did not say the SourceComputerId for so long before another one did has lost it
_CONTROLLER = frozenset(("localhost", "127.0.0.1", "::1"))
_COLUMNS = ("name", "SourceComputerId", "run")


class _Host(NamedTuple):
    """A row of the table hosts."""

    name: str
    via: str
    source: str
    is_current: Any  # whether it has an inventory; a relay's host that was renamed has not
    has_tasks: Any  # whether the run log has tasks under its name


class Names(NamedTuple):
    hosts: list[_Host]
    inventory: dict[str, str]  # name in the store -> the other name in the Ansible inventory
    elsewhere: set[str]  # inventory names of machines that the store does not have


def store_identities(transaction: Transaction, run: int, hosts: dict[str, Any]) -> None:
    """Store what a run has learnt. `hosts`: as in Run."""
    rows = [
        (as_key(name), known["identity"], run)
        for name, known in hosts.items()
        if isinstance(known, dict) and isinstance(known.get("identity"), str) and known["identity"]
    ]
    for some in slices(rows):
        names = [row[0] for row in some]
        transaction.execute(f"DELETE FROM {TABLE} WHERE name IN ({placeholders(names)})", *names)
        transaction.insert(TABLE, _COLUMNS, some)


def read_names(store: Store) -> Names:
    """Both names of each host that has two, and what else is known of them."""
    sql = (
        "SELECT h.name, h.via, m.SourceComputerId, EXISTS (SELECT 1 FROM inventories v WHERE v.host = h.host),"
        " EXISTS (SELECT 1 FROM run_tasks t WHERE t.name = h.name) FROM hosts h JOIN machines m ON m.machine = h.machine"
    )
    hosts = [_Host(name, via, source or "", *known) for name, via, source, *known in store.query(sql)]
    claims: dict[str, list[tuple[float, str]]] = defaultdict(list)
    if store.present(TABLE, _COLUMNS):
        sql = f"SELECT i.name, i.SourceComputerId, r.started_at FROM {TABLE} i JOIN runs r ON r.run = i.run"
        for name, source, at in store.query(sql):
            claims[source].append((seconds(at) or 0.0, name))
    named = {name for some in claims.values() for _at, name in some}
    holders: dict[tuple[str, str], set[str]] = defaultdict(set)
    of_name: dict[str, list[_Host]] = defaultdict(list)
    for host in hosts:
        of_name[host.name].append(host)
        if host.is_current:
            holders[host.source, host.via].add(host.name)
    inventory = {}
    for name, some in of_name.items():
        current = [host for host in some if host.is_current] or some
        source = current[0].source
        if not source or name in named or any(host.has_tasks for host in some):
            continue
        is_alone = all(host.source == source and holders[source, host.via] <= {name} for host in current)
        claimants = _recent(claims.get(source, []))
        if is_alone and len(claimants) == 1:
            inventory[name] = claimants[0]
    sources = {host.source for host in hosts}
    elsewhere = {name for source, some in claims.items() if source not in sources for _at, name in some}
    return Names(hosts, inventory, elsewhere)


def _recent(claims: list[tuple[float, str]]) -> list[str]:
    """The inventory names that say a SourceComputerId. After a host was renamed in the inventory, the old name is one for some time."""
    latest = max((at for at, _name in claims), default=0.0)
    return [name for at, name in claims if at >= latest - RECENT]


def warnings(store: Store, drifted: set[str]) -> list[str]:
    """A warning if changes of some of these hosts may be called drift because the inventory name of the host is not known.

    drifted: names of hosts with changes that are drift.
    """
    names = read_names(store)
    unexplained = sorted(
        {
            host.name
            for host in names.hosts
            if host.via == RELAY and host.name in drifted and not host.has_tasks and host.name not in names.inventory
        }
    )
    if not unexplained:
        return []
    sql = "SELECT DISTINCT name FROM run_tasks WHERE name NOT IN (SELECT name FROM hosts)"
    known = {*names.inventory.values(), *names.elsewhere, *_CONTROLLER}
    unknown = sorted(name for (name,) in store.query(sql) if name not in known)
    if not unknown:
        return []
    return [
        f"run_log recorded no task of {_first(unexplained, 'host')}, but tasks of {_first(unknown, 'name')} that the store has no host of."
        " If these are the same hosts, what Ansible did there is called drift. Run a playbook with run_log that gathers their facts, or give"
        " them in the Ansible inventory the names that they give themselves."
    ]


def _first(names: list[str], noun: str) -> str:
    return names[0] + (f" and {plural(len(names) - 1, f'other {noun}')}" if len(names) > 1 else "")
