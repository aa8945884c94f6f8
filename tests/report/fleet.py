# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet in a store, small enough to know what the report has to say about it."""

import json

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.transaction import Inventory
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import change_record
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp

NOW = 1_767_268_800  # 2026-01-01T12:00:00Z
HOUR, DAY = 3600, 86400
UPDATED = NOW - 3 * DAY - 119  # while the task ran that installed openssl
KINDS = all_kinds()
VERSIONS = {
    "adduser": "3.134", "apt": "2.6.1", "bash": "5.2.15-2+b7", "ca-certificates": "20230311", "cron": "3.0pl1-162", "curl": "7.88.1-10+deb12u8",
    "libc6": "2.36-9+deb12u9", "libssl3": "3.0.15-1~deb12u1", "openssh-server": "1:9.2p1-2+deb12u3", "openssl": "3.0.15-1~deb12u1",
    "sudo": "1.9.13p3-1+deb12u1", "systemd": "252.31-1~deb12u1", "tzdata": "2025b-0+deb12u2", "vim-tiny": "2:9.0.1378-2",
}  # fmt: skip


def package(name, version, about=None, installed=NOW - 90 * DAY):
    return KINDS["packages"].item(name, "amd64", version, about or f"The package {name}", "Debian", 100, installed)


def service(name, running=True):
    state = ("active", "running") if running else ("inactive", "dead")
    path = f"/usr/lib/systemd/system/{name}.service"
    return KINDS["services"].item(
        name, f"The service {name}", "loaded", *state, "enabled", "multi-user.target", path, False
    )


def file(path, content="a", mode=0o644, modified=NOW - 90 * DAY):
    return KINDS["files"].item(
        path, (content * 64)[:64], 100, "root", "root", mode, modified, modified, "file", "", None
    )


def usual(**more):
    """The items of a usual host, by kind."""
    return {
        "packages": [
            package(name, more.get(name, version), installed=UPDATED if name == "openssl" else NOW - 90 * DAY)
            for name, version in VERSIONS.items()
        ],
        "services": [service(name) for name in ("cron", "ssh", "nginx")],
        "files": [file(f"/etc/{name}") for name in ("hosts", "fstab", "sudoers", "ssh/sshd_config", "cron.d/backup")],
    }


class Fleet:
    """Fills a store, in one transaction."""

    def __init__(self, where):
        self.where = where
        self._hosts = {}
        self._runs = {}

    def __enter__(self):
        self._store = open_store(self.where, write=True)
        self._writing = self._store.writing()
        self._transaction = self._writing.__enter__()
        return self

    def __exit__(self, *error):
        self._writing.__exit__(*error)
        self._store.close()

    def host(self, name, items, seen=NOW - HOUR, sources=None):
        record = {"Computer": name.partition(".")[0], "SourceComputerId": "id " + name}
        host = self._hosts[name] = self._transaction.host("playbook", name, "", record)
        for kind in KINDS.values():
            rows = [kind.row(item) for item in items.get(kind.name, ())]
            about = Inventory(kind.config_type, timestamp(seen), sources=json.dumps(sources or {}))
            self._transaction.replace_inventory(host, about, rows)
        self._transaction.execute("UPDATE hosts SET last_seen = ? WHERE host = ?", timestamp(seen), host.host)

    def failed(self, name, why):
        self._transaction.failed("playbook", name, "", why)
        self._transaction.execute("UPDATE hosts SET failed_at = ? WHERE name = ?", timestamp(NOW - HOUR), name)

    def change(self, name, kind, old, new, at, fields="", age=HOUR, **actor):
        category = "Added" if old is None else "Removed" if new is None else "Modified"
        record = change_record(KINDS[kind], category, old, new, fields.split(",") if fields else [])
        number = self._transaction.number()
        record.update(RecordId=f"{number:032x}-0", TimeGenerated=timestamp(at), LastSnapshotAge=age, **actor)
        self._transaction.add_changes(self._hosts[name].host, "", [record])

    def task(self, host, module, title, at, named, uuid="run-1", playbook="site.yml", user="alice"):
        if uuid not in self._runs:
            self._runs[uuid] = self._transaction.number()
            columns = ("run", "uuid", "playbook", "username", "controller", "check_mode", "started_at", "ended_at")
            row = (self._runs[uuid], uuid, playbook, user, "control", 0, timestamp(at), timestamp(at + 60))
            self._transaction.insert("runs", columns, [row])
        columns = (
            "task",
            "run",
            "number",
            "name",
            "play",
            "title",
            "module",
            "started_at",
            "ended_at",
            "named",
            "details",
        )
        number = self._transaction.number()
        row = (
            number,
            self._runs[uuid],
            number,
            host,
            "play",
            title,
            module,
            float(at),
            at + 2.0,
            json.dumps(named),
            "{}",
        )
        self._transaction.insert("run_tasks", columns, [row])


GROUPS = {
    "web": [f"web{number:02d}.example.org" for number in range(1, 25)],
    "db": [f"db{number:02d}.example.org" for number in range(1, 7)],
}


def example(where):
    """A fleet of 31 hosts. What is true of it is in the tests."""
    with Fleet(where) as fleet:
        fill(fleet)


def fill(fleet):
    web, db = GROUPS["web"], GROUPS["db"]
    for name in web:
        items = usual()
        if name == web[2]:
            items["files"] = [one for one in items["files"] if one.path != "/etc/ssh/sshd_config"] + [
                file("/etc/ssh/sshd_config", "b", 0o666)
            ]
        if name == web[4]:
            items["packages"].append(package("nmap", "7.93+dfsg1-1", "The network mapper"))
        fleet.host(name, items)
    for name in db:
        items = usual(openssl="3.0.14-1~deb12u2")
        items["services"] = [service("cron"), service("ssh"), service("postgresql")]
        fleet.host(name, items, seen=NOW - 5 * DAY if name == db[5] else NOW - HOUR,
                   sources={"dpkg": {"status": "failed", "count": 0, "message": "/var/lib/dpkg/status: locked"}} if name == db[1] else None)  # fmt: skip
    fleet.failed(web[7], "unreachable: Connection timed out")
    fleet.failed("old01.example.org", "unreachable: No route to host")
    at = NOW - 3 * DAY
    for name in web[:20]:
        named = {"installed": {"openssl": "3.0.15-1~deb12u1"}, "names": ["openssl"]}
        fleet.task(name, "ansible.builtin.apt", "Install security updates", at - 120, named)
        fleet.change(
            name,
            "packages",
            package("openssl", "3.0.14-1~deb12u2"),
            package("openssl", "3.0.15-1~deb12u1"),
            at,
            "CurrentVersion",
        )
    fleet.change(
        web[2],
        "files",
        file("/etc/ssh/sshd_config"),
        file("/etc/ssh/sshd_config", "b", 0o666, NOW - 2 * DAY - 60),
        NOW - 2 * DAY,
        "FileContentChecksum,Mode",
    )
    for name in db[:3]:
        fleet.task(
            name, "ansible.builtin.command", "Run the migration", NOW - DAY - 300, {}, "run-2", "migrate.yml", "bob"
        )
        fleet.change(name, "services", service("postgresql"), service("postgresql", False), NOW - DAY, "SvcState")
    fleet.change(web[4], "packages", None, package("nmap", "7.93+dfsg1-1", "The network mapper"), NOW - 5 * HOUR)
    fleet.change(db[0], "files", file("/etc/cron.d/report"), None, NOW - 6 * DAY)
    for day in range(8, 29, 3):
        old, new = (f"2025{letters[day // 3]}" for letters in ("abcdefghij", "bcdefghijk"))
        for name in web[: day // 3]:
            named = {"installed": {"tzdata": new}, "names": ["tzdata"]}
            fleet.task(
                name,
                "ansible.builtin.apt",
                "Update the time zones",
                NOW - day * DAY - 60,
                named,
                f"run-{day}",
                "tz.yml",
                "bob",
            )
            fleet.change(
                name, "packages", package("tzdata", old), package("tzdata", new), NOW - day * DAY, "CurrentVersion"
            )
