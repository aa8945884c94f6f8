# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills a fleet store with hosts, changes and runs, as the playbook `inventory` does."""

import itertools
import json
import sqlite3
from pathlib import Path

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet import schema
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.transaction import Inventory
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import ACTOR_COLUMNS, change_record
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp

NOON = 1_767_268_800  # 2026-01-01T12:00:00Z
HOUR, DAY = 3600, 86400
KINDS = all_kinds()
VERSION_1 = Path(__file__).parents[1] / "unit" / "fixtures" / "fleet" / "version-1.sql"
# What the kernel's audit says of a change.
VIM = {
    "ChangedAt": "2026-01-01T11:59:00.120Z", "ChangedBy": "bob", "ChangedByUid": 1001, "ChangedByProcess": "/usr/bin/vim",
    "ChangedByCommand": "vim", "ChangedBySession": 7,
}  # fmt: skip
# Texts and numbers that a host must not get to a terminal, a page or a database as they are.
HOSTILE = {
    "ChangedAt": "\x1b]0;owned\x07", "ChangedBy": "<img src=x onerror=alert(1)>\u202e{{ 7*7 }}", "ChangedByUid": 1 << 70,
    "ChangedByProcess": "/tmp/\x1b[2J<script>alert(2)</script>", "ChangedByCommand": "x" * 100_000, "ChangedBySession": {"a": [1]},
    "ChangedByModule": "copy\0\ud800\n--", "ChangedByCount": True,
}  # fmt: skip


def by_module(module, login="alice", **more):
    """A change by a module of Ansible, as the kernel's audit says it."""
    return {**VIM, "ChangedBy": login, "ChangedByProcess": "/usr/bin/python3.11", "ChangedByModule": module, **more}


def make_older(where):
    """Make a store of schema version 1, which does not have ACTOR_COLUMNS: three changes, and a task that made one of them."""
    if not where.startswith("postgresql"):
        with sqlite3.connect(where) as db:
            db.executescript(VERSION_1.read_text("utf-8"))
        db.close()
        return
    fleet = FleetStore(where)
    old, new = package("openssl", "3.0.14"), package("openssl", "3.0.15", NOON - 600)
    files = file("/etc/ssh/sshd_config"), file("/etc/ssh/sshd_config", "b", NOON - 60)
    for host in ("web01", "web02"):
        fleet.host(host, new, files[1], service("cron"))
        fleet.change(host, old, new)
    fleet.change("web01", *files)
    fleet.task("web01", "apt", NOON - 601, {"names": ["openssl"], "installed": {"openssl": "3.0.15"}}, "Upgrade")
    for view in schema.views():
        fleet.execute("DROP VIEW " + view)
    for name in ACTOR_COLUMNS:
        fleet.execute("ALTER TABLE %s DROP COLUMN %s" % ("moments" if name in schema.MOMENTS else "contents", name))
    for view, query in schema.views(ACTOR_COLUMNS).items():
        fleet.execute("CREATE VIEW %s AS %s" % (view, query))
    fleet.execute("UPDATE meta SET value = 1 WHERE name = 'version'")
    fleet.close()


def package(name, version="1.0", installed=NOON - 90 * DAY, architecture="amd64"):
    return "packages", KINDS["packages"].item(name, architecture, version, "About " + name, "P", 7, installed)


def service(name, running=True):
    state = ("active", "running") if running else ("inactive", "dead")
    path = "/usr/lib/systemd/system/%s.service" % name
    return "services", KINDS["services"].item(name, "", "loaded", *state, "enabled", "multi-user.target", path, False)


def file(path, content="a", modified=NOON - 90 * DAY, mode=0o644):
    digest = (content * 64)[:64]
    return "files", KINDS["files"].item(path, digest, 10, "root", "root", mode, modified, modified, "file", "", None)


class FleetStore:
    """A fleet store in the making."""

    def __init__(self, where):
        self.where = where
        self.via = "playbook"  # or "relay": how the next inventories and changes arrive
        self._store = open_store(where, write=True)
        self._batches = itertools.count()
        self._tasks = itertools.count(1)

    def close(self):
        self._store.close()

    def host(self, name, *items, sources=None):
        """Replace the inventory of a host."""
        with self._store.writing() as transaction:
            host = transaction.host(self.via, name, "", {"Computer": name, "SourceComputerId": "id of " + name})
            for kind in KINDS.values():
                rows = [kind.row(item) for of, item in items if of == kind.name]
                about = Inventory(kind.config_type, timestamp(NOON), sources=json.dumps(sources or {}))
                transaction.replace_inventory(host, about, rows)

    def change(self, name, old, new, at=NOON, age=HOUR, **actor):
        """Add a change that was found then, with what is known of its actor. Returns its RecordId."""
        kind = KINDS[(new or old)[0]]
        category = "Added" if old is None else "Removed" if new is None else "Modified"
        old, new = old and old[1], new and new[1]
        fields = []
        if old and new:
            rows = kind.row(old), kind.row(new)
            fields = [column for column in kind.columns if rows[0][column] != rows[1][column]]
        record = change_record(kind, category, old, new, [one for one in fields if one not in kind.uncompared])
        record.update(
            RecordId="%032x-0" % next(self._batches), TimeGenerated=timestamp(at), LastSnapshotAge=age, **actor
        )
        with self._store.writing() as transaction:
            host = transaction.host(self.via, name, "", {"Computer": name, "SourceComputerId": "id of " + name})
            transaction.add_changes(host.host, "", [record])
        return record["RecordId"]

    def task(
        self, host, module, at, named, title="a task", user="alice", playbook="/srv/site.yml", seconds=2, identity=None
    ):
        """Add a task that ran then, in a run of its own. identity: the SourceComputerId that the host returned in the run."""
        columns = ("run", "uuid", "playbook", "username", "controller", "check_mode", "started_at", "ended_at")
        of_task = ("task", "run", "number", "name", "play", "title", "module", "started_at", "ended_at", "named")
        number = next(self._tasks)
        with self._store.writing() as transaction:
            run = transaction.number()
            row = (run, "uuid-%d" % number, playbook, user, "control", 0, timestamp(at), timestamp(at + seconds))
            transaction.insert("runs", columns, [row])
            row = (transaction.number(), run, 1, host, "play", title, "ansible.builtin." + module, at, at + seconds)
            transaction.insert("run_tasks", of_task, [(*row, json.dumps(named))])
            if identity:
                sql = "DELETE FROM identities WHERE name = ?"
                transaction.execute(sql, host)
                transaction.insert("identities", ("name", "SourceComputerId", "run"), [(host, identity, run)])

    def failed(self, name, why):
        with self._store.writing() as transaction:
            transaction.failed("playbook", name, "", why)

    def execute(self, sql, *parameters):
        with self._store.writing() as transaction:
            transaction.execute(sql, *parameters)
