# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what a host returned to the fleet store, in one transaction: its items, its changes, and the place in its history."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...module_utils._cti.fleet import retention
from ...module_utils._cti.fleet.errors import FleetMissing
from ...module_utils._cti.fleet.store import located, open_store
from ...module_utils._cti.fleet.transaction import PLAYBOOK, Host, Inventory, Transaction
from ...module_utils._cti.kinds.registry import all_kinds
from ...module_utils._cti.packed_reader import kinds as unpacked_kinds
from ...module_utils._cti.text import plural
from .._fleet.run_store import default_folder, store_spool
from .._spool import Spool
from . import places
from .places import Kept

# In the process that the workers of all hosts are forked from: it takes longer than all else that one of them does.
with contextlib.suppress(ImportError):
    importlib.import_module("psycopg")

KEEP_DAYS = retention.KEEP_DAYS
FILE = "fleet.db"
NONE = "none"
IDENTITY = ("Computer", "SourceComputerId", "VMUUID")
TYPES = {name: kind.config_type for name, kind in all_kinds().items()}


class Answer(NamedTuple):
    """What a host returned, checked."""

    result: Mapping[str, Any]  # with its identity, `inventory` and `rule_problems`
    packed: str  # items of the kinds that it sent
    digests: Mapping[str, str]  # kind -> SHA-256 of the item file, of each kind whose items are current
    off: list[str]  # kinds that the rule has switched off
    changes: str  # packed; empty where there are none
    to: Kept | None  # the place after the changes


class Fleet:
    """The store, for one host. The methods raise FleetError."""

    def __init__(self, where: str, host: str, keep_days: int) -> None:
        self.where = where
        self.warnings: list[str] = []
        self._host = host
        self._keep_days = keep_days
        self._reached: list[Kept] = []  # the places in the store before the host was asked

    def known(self, digests: Mapping[str, str], had: list[Kept]) -> tuple[dict[str, str], list[Kept]]:
        """What both the files and the store have: the digests of kinds, and for each state the place that both have reached."""
        try:
            with open_store(self.where) as store, store.reading():
                sql = "SELECT v.type, v.digest FROM inventories v JOIN hosts h ON h.host = v.host WHERE h.via = ? AND h.name = ?"
                stored = dict(store.query(sql, PLAYBOOK, self._host))
                sql = "SELECT p.place, p.path FROM places p JOIN hosts h ON h.host = p.host WHERE h.via = ? AND h.name = ? ORDER BY p.seen"
                self._reached = [Kept(*row) for row in store.query(sql, PLAYBOOK, self._host)]
        except FleetMissing:
            return {}, []
        both = {kind: digest for kind, digest in digests.items() if stored.get(TYPES[kind]) == digest}
        files = {places.state(one): one for one in had}
        pairs = [(one, files[places.state(one)]) for one in self._reached if places.state(one) in files]
        return both, [min(pair, key=places.number) for pair in pairs]

    def write(self, answer: Answer) -> None:
        with open_store(self.where, write=True) as store, store.writing() as transaction:
            identity = {name: answer.result.get(name) for name in IDENTITY}
            host = transaction.host(PLAYBOOK, self._host, "", identity)
            replaced = self._is_another_machine(transaction, host)
            if not self._is_behind(transaction, host, answer.to):
                self._replace(transaction, host, answer)
            if answer.changes:
                for _kind, rows in unpacked_kinds(answer.changes):
                    transaction.add_changes(host.host, "", rows)
            dropped = retention.delete_old(transaction, self._keep_days)
            retention.clean(transaction)
        if replaced:
            self.warnings.append(
                "it is another machine than in the run before (its SourceComputerId differs): it was reinstalled, or the name now leads to"
                " another machine. The fleet store continues its history."
            )
        if dropped:
            self.warnings.append(
                f"{plural(dropped, 'change')} older than {plural(self._keep_days, 'day')} deleted from the fleet store (in the playbook: ct_keep)."
            )

    def failed(self, why: str) -> None:
        """Note why the host has no new inventory."""
        with open_store(self.where, write=True) as store, store.writing() as transaction:
            transaction.failed(PLAYBOOK, self._host, "", why)

    def store_runs(self) -> None:
        """Store what the callback run_log recorded on this controller. Only one worker does: it locks each file of the spool."""
        spool = Spool(default_folder(), 0, self.warnings.append)
        if spool.waiting():
            with open_store(self.where, write=True) as store:
                store_spool(spool, store)

    @staticmethod
    def _is_another_machine(transaction: Transaction, host: Host) -> bool:
        if host.before in (None, host.machine):
            return False
        sql = "SELECT count(DISTINCT SourceComputerId) FROM machines WHERE machine IN (?, ?)"
        return bool(transaction.query(sql, host.before, host.machine)[0][0] > 1)

    def _is_behind(self, transaction: Transaction, host: Host, to: Kept | None) -> bool:
        """Whether another controller has stored a later inventory of the same state since the host was asked.

        A later place that was in the store before is that of a state that was restored from a backup since.
        """
        if to is None:
            return False
        sql = "SELECT place, path FROM places WHERE host = ? AND state = ?"
        stored = [Kept(*row) for row in transaction.query(sql, host.host, places.state(to))]
        return any(places.number(one) > places.number(to) for one in stored if one not in self._reached)

    def _replace(self, transaction: Transaction, host: Host, answer: Answer) -> None:
        sent = dict.fromkeys(answer.digests)
        for kind, rows in unpacked_kinds(answer.packed):
            if kind in answer.digests:
                transaction.replace_inventory(host, self._about(kind, answer), rows)
                sent.pop(kind)
        for kind in answer.result["inventory"].keys() & TYPES.keys():
            about = self._about(kind, answer)
            if kind in sent:
                transaction.touch_inventory(host, about)
            elif kind not in answer.digests and not transaction.touch_inventory(
                host, about._replace(collected_at=None)
            ):
                transaction.replace_inventory(host, about, ())  # nothing could be read of it so far; `sources` says why
        for kind in answer.off:
            transaction.remove_inventory(host.host, TYPES[kind])
        problems = answer.result.get("rule_problems")
        transaction.problems(host.host, json.dumps(problems) if problems else None)
        if answer.to is not None:
            transaction.move(host.host, places.state(answer.to), answer.to.place, answer.to.path)

    @staticmethod
    def _about(kind: str, answer: Answer) -> Inventory:
        summary = answer.result["inventory"][kind]
        at = summary.get("collected_at")
        return Inventory(
            TYPES[kind],
            collected_at=at if isinstance(at, str) else None,
            sources=json.dumps(summary["sources"]),
            digest=answer.digests.get(kind),
        )


def location(store: str | None, dest: str) -> str:
    """Where the store is, by the value of the option; empty: there is none."""
    if store is None:
        return os.path.join(os.path.abspath(dest), FILE)
    if store.strip() in ("", NONE):
        return ""
    return located(store)
