# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures the fleet store with a synthetic fleet: python tests/bench/fleet_store.py [sqlite|postgresql|WHERE ...] [--hosts N] [--changes N].

Fills it through its own interface, as the playbook does: hosts of four images with 1,200 items each, of which
1 % are different on every host, and the history of 400 days. Prints the time of the first fill and of a round in which 1 % of the items
changed, the size, and the time of each query of docs/store.md; at the end, a table for that page. `sqlite` and `postgresql`, the
defaults, are a new file and a new server, which are removed afterwards. PYTHONPATH=.build/collections, as for the tests.
"""

import argparse
import os
import random
import re
import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet import retention
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.transaction import Inventory
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import change_record
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp
from ansible_collections.changetracking.inventory.tests.helpers import postgres

KINDS = all_kinds()
ITEMS = {"packages": 820, "services": 130, "files": 250}
IMAGES, DAYS = 4, 400
NOW = 1790000000
PAGE = Path(__file__).resolve().parents[2] / "docs/store.md"
TABLES = ("items", "moments", "set_items", "host_items", "contents", "batches", "changes")
SERVER = "-c listen_addresses='' -c max_connections=50"  # all else as PostgreSQL has it


def item(kind, image, number, version=0, when=NOW - 500 * 86400):
    name = "%s-%d-%d" % (kind, number, image if number % 3 == 0 else 0)
    name = "openssl" if kind == "packages" and number == 7 else "ssh" if kind == "services" and number == 7 else name
    if kind == "packages":
        values = (name, "amd64", "%d.%d.%d-1+deb12u1" % (number % 9, image, version))
        values += (
            "description of %s, as long as usual" % name,
            "Debian Maintainers <maint@lists.debian.org>",
            number * 1000,
            when,
        )
    elif kind == "services":
        state = ("active", "running") if version % 2 == 0 else ("inactive", "dead")
        values = (name, "The service %s" % name, "loaded", *state, "enabled", "multi-user.target")
        values += ("/usr/lib/systemd/system/%s.service" % name, False)
    else:
        path = "/etc/ssh/sshd_config" if number == 7 else "/etc/%s/%s.conf" % (name, name)
        digest = "%064x" % random.Random("%s %d %d" % (path, image, version)).getrandbits(256)
        values = (path, digest, 100 + number, "root", "root", 0o644, when, when, "file", "", None)
    return KINDS[kind].item(*values)


IMAGE_ROWS = {
    (kind, image): [KINDS[kind].row(item(kind, image, number)) for number in range(count)]
    for kind, count in ITEMS.items()
    for image in range(IMAGES)
}


def inventory(host, round_):
    """The rows of a host: those of its image, 1 % of them its own. In each round another 1 % have changed on it."""
    for kind, count in ITEMS.items():
        rows = list(IMAGE_ROWS[kind, host % IMAGES])
        own = set(random.Random(host).sample(range(8, count), count // 100))
        changed = {
            one
            for number in range(1, round_ + 1)
            for one in random.Random(host * 1000 + number).sample(range(8, count), count // 100)
        }
        for number in own | changed:
            version = (1000 + host if number in own else 0) + (2 * round_ if number in changed else 0)
            when = NOW - 500 * 86400 + (host if number in own else 0) + (round_ * 86400 if number in changed else 0)
            rows[number] = KINDS[kind].row(item(kind, host % IMAGES, number, version, when))
        yield KINDS[kind], rows


def changes(host, total, dice):
    """Changes of a host in the course of 400 days, a few in each run that found any: half of them are the same on many hosts."""
    done = 0
    while done < total:
        kind = dice.choice(("packages", "packages", "services", "files"))
        at = NOW - dice.randrange(DAYS) * 86400 - dice.randrange(86400)
        batch, count = "%032x" % dice.getrandbits(128), min(dice.choice((1, 2, 5, 12)), total - done)
        for number in range(count):
            one, version = dice.randrange(ITEMS[kind]), dice.randrange(4)
            if kind == "files" and dice.random() < 0.2:
                version = 1000 + host * 40 + dice.randrange(40)
            # Nearly every change of a file has times of its own.
            before, after = at - dice.randrange(1, DAYS) * 86400 - dice.randrange(86400), at - dice.randrange(3600)
            old, new = (
                item(kind, host % IMAGES, one, version, before),
                item(kind, host % IMAGES, one, version + 1, after),
            )
            record = change_record(
                KINDS[kind], "Modified", old, new, ("CurrentVersion",) if kind == "packages" else ("Other",)
            )
            record.update(RecordId="%s-%d" % (batch, number), TimeGenerated=timestamp(at), LastSnapshotAge=86400)
            record.update(Computer="web%05d" % host, SourceComputerId="00000000-0000-0000-0000-%012d" % host)
            yield record
        done += count


def write(transaction, host, round_, kinds, records):
    identity = {"Computer": "web%05d" % host, "SourceComputerId": "00000000-0000-0000-0000-%012d" % host}
    there = transaction.host("playbook", "web%05d.example.org" % host, "", identity)
    for kind, rows in kinds:
        about = Inventory(kind.config_type, timestamp(NOW + round_ * 86400), digest="x" * 64, sources="{}")
        transaction.replace_inventory(there, about, rows)
    transaction.add_changes(there.host, "", records)
    place = "%s:%d:0123abcd" % ("a" * 32, round_)
    transaction.move(there.host, "a" * 32, place, "/var/lib/changetracking/inventory.db")


def fill(store, hosts, round_, per_host, seed, at_once):
    """Returns the time for each host, without that to make up what it has."""
    dice = random.Random(seed)
    prepared = ((host, list(inventory(host, round_)), list(changes(host, per_host, dice))) for host in range(hosts))
    took = used = 0.0
    for group in iter(lambda: list(islice(prepared, at_once)), []):
        begun, before = time.perf_counter(), cpu_seconds(store)
        with store.writing() as transaction:
            for host, kinds, records in group:
                write(transaction, host, round_, kinds, records)
        took += time.perf_counter() - begun
        used += cpu_seconds(store) - before
    return "%.0f ms, CPU %.0f ms" % (took * 1000 / hosts, used * 1000 / hosts)


def cpu_seconds(store):
    """Of this process, and of its session on a server here. Other load on the machine does not matter."""
    seconds = time.process_time()
    if not store.is_file:
        ((pid,),) = store.query("SELECT pg_backend_pid()")
        fields = Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def megabytes(where, store):
    if not store.is_file:
        return store.query("SELECT pg_database_size(current_database())")[0][0] / 1e6
    store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    return os.path.getsize(where) / 1e6


def measure(where, options, tell):
    """Call tell(what, figure) for each figure of a new store."""
    begun = time.perf_counter()
    with open_store(where, write=True) as store:
        tell("create", "%.0f ms" % ((time.perf_counter() - begun) * 1000))
        per_host = options.changes // options.hosts
        tell("first fill, a host", fill(store, options.hosts, 0, per_host, 1, options.at_once))
        tell("size", "%.0f MB" % megabytes(where, store))
        took = fill(store, options.hosts, 1, 12, 2, options.at_once)
        tell("a round, 1 % of the items and 12 changes, a host", took)
        tell("size then", "%.0f MB" % megabytes(where, store))
        begun = time.perf_counter()
        with store.writing() as transaction:
            transaction.execute("UPDATE meta SET value = 0 WHERE name = 'cleaned'")
            retention.clean(transaction)
        tell("delete what is unused, once a day", "%.1f s" % (time.perf_counter() - begun))
        for table in TABLES:
            tell("rows of " + table, "%d" % store.query("SELECT count(*) FROM " + table)[0][0])
    begun = time.perf_counter()
    open_store(where, write=True).close()
    tell("open", "%.0f ms" % ((time.perf_counter() - begun) * 1000))
    for title, sql in re.findall(r"^-- (.*)\n(SELECT [^;]*);$", PAGE.read_text("utf-8"), re.MULTILINE):
        with open_store(where) as store:
            begun = time.perf_counter()
            rows = store.query(sql)
            tell("%s (%d rows)" % (title, len(rows)), "%.3f s" % (time.perf_counter() - begun))


def measured(where, options):
    """{what: figure}, printed as they come."""
    print(where, flush=True)
    figures = {}

    def tell(what, figure):
        print("  %-60s %20s" % (what, figure), flush=True)
        figures[what] = figure

    measure(where, options, tell)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="*", metavar="WHERE", default=["sqlite", "postgresql"])
    parser.add_argument("--hosts", type=int, default=5000)
    parser.add_argument("--changes", type=int, default=1000000)
    parser.add_argument("--at-once", type=int, default=1, help="hosts in one transaction; the playbook has one")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="fleet")
    columns = []
    try:
        for where in options.stores:
            if where == "sqlite":
                columns.append(measured(os.path.join(folder, "fleet.db"), options))
            elif where == "postgresql":
                server = postgres.Server(SERVER)
                try:
                    columns.append(measured(server.database(), options))
                finally:
                    server.close()
            else:
                columns.append(measured(where, options))
    finally:
        shutil.rmtree(folder)
    print("\n| | %s |\n|---|%s" % (" | ".join(options.stores), "--:|" * len(columns)))
    for what in columns[0]:
        print("| %s | %s |" % (what, " | ".join(column.get(what, "") for column in columns)))


if __name__ == "__main__":
    sys.exit(main())
