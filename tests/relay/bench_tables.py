# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the relay's tables do as they grow: python tests/relay/bench_tables.py [CHANGES ...].

Fills them by the uploader itself with changes of 1,000 hosts in the course of 400 days, three to a run of a host, and prints at each
size: rows a second (of the last 100,000), bytes a row, seconds of each query that the role's README documents, and, at
the end, how fast old rows are deleted. PYTHONPATH=.build/collections, as for the tests.
"""

import os
import random
import re
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from pathlib import Path

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet import retention
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.fleet_store import FleetUploader
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp

ROOT = Path(__file__).resolve().parents[2]
DAYS = 400
SEGMENT = 10000  # records; what an upload takes at a time
MEASURED = 100000
QUERIES = re.findall("^SELECT .*;$", (ROOT / "roles/relay/README.md").read_text(encoding="utf-8"), re.MULTILINE)


def change(dice, seconds):
    """Three changes of one run on one host, one of each kind."""
    host = dice.randrange(1000)
    common = {"Computer": "web%02d" % host, "SourceComputerId": str(uuid.UUID(int=host)), "LastSnapshotAge": "300"}
    common["TimeGenerated"] = timestamp(seconds)
    batch = "%032x" % dice.getrandbits(128)
    category = dice.choice(("Added", "Removed", "Modified", "Modified", "Modified"))
    package = {
        "ConfigChangeType": "Software",
        "SoftwareName": "package-%d" % dice.randrange(700),
        "Architecture": "amd64",
    }
    package.update(SoftwareType="Package", Publisher="Maintainers <maintainers@example.org>", Current="1.2.3-4+deb12u1")
    package.update(
        SoftwareDescription="a description of a package of some length", ChangeCategory=category, Previous="1.2.3-3"
    )
    name = "ssh" if not dice.randrange(200) else "service-%d" % dice.randrange(200)
    service = {"ConfigChangeType": "Daemons", "SvcName": name, "SvcState": dice.choice(("Running", "Stopped"))}
    service.update(
        SvcDescription="a description", SvcPath="/usr/lib/systemd/system/%s.service" % name, SvcStartupType="Enabled"
    )
    service.update(
        SvcPreviousState="Running", ChangeCategory="Modified", FieldsChanged="SvcState", SvcController="systemd"
    )
    path = "/etc/hosts" if not dice.randrange(1000) else "/etc/folder-%d/file.conf" % dice.randrange(500)
    file = {"ConfigChangeType": "Files", "FileSystemPath": path, "FileContentChecksum": "%064x" % dice.getrandbits(256)}
    file.update(
        PreviousFileContentChecksum="%064x" % dice.getrandbits(256), Size="1234", PreviousSize="1233", Owner="root"
    )
    file.update(ChangeCategory="Modified", FieldsChanged="FileContentChecksum,Size,DateModified", Mode="0644")
    for number, record in enumerate((package, service, file)):
        record.update(common, RecordId="%s-%d" % (batch, number))
        yield int(seconds), record


def segments(dice, first, last, total, now):
    """Changes with these numbers, out of so many in the course of all days that end now."""
    batch = []
    for number in range(first, last, 3):
        batch.extend(change(dice, now - DAYS * 86400 * (1 - number / total)))
        if len(batch) >= SEGMENT:
            yield batch
            batch = []
    yield batch


def main(*sizes):
    folder = tempfile.mkdtemp(prefix="tables")
    path = os.path.join(folder, "relay.db")
    dice, now = random.Random(1), time.time()
    uploader = FleetUploader(path)
    done = 0
    try:
        for size in sizes or (100000, 1000000, 10000000):
            fill(uploader, dice, done, size - MEASURED, sizes[-1], now)
            started = time.process_time(), time.monotonic()
            fill(uploader, dice, size - MEASURED, size, sizes[-1], now)
            done = size
            cpu, wall = time.process_time() - started[0], time.monotonic() - started[1]
            uploader.close()
            print(
                "%d changes: %d rows/s, %d rows a CPU second, %d bytes a row"
                % (size, MEASURED / wall, MEASURED / cpu, os.path.getsize(path) / size),
                flush=True,
            )
            ask(path)
        forget(path, done)
    finally:
        shutil.rmtree(folder)


def fill(uploader, dice, first, last, total, now):
    """What is made takes its time as well, so all of it is made before the clock starts only where that is short."""
    for batch in segments(dice, first, last, total, now):
        uploader.take("stream", [batch])


def ask(path):
    with sqlite3.connect(path) as db:
        for query in QUERIES:
            times = []
            for _run in range(3):
                start = time.monotonic()
                found = len(db.execute(query).fetchall())
                times.append(time.monotonic() - start)
            print("  %.4f s, %6d rows: %s" % (sorted(times)[1], found, query), flush=True)


def forget(path, rows):
    """A tenth of all is too old at once."""
    start, slices = time.monotonic(), []
    with open_store(path, write=True) as store:
        first = store.query("SELECT batch FROM changes ORDER BY seq LIMIT 1 OFFSET ?", rows // 10)[0][0]
        with store.writing() as transaction:
            transaction.execute("UPDATE days SET day = ? WHERE content = 'changes'", first)
        deleted = 1
        while deleted:
            begin = time.monotonic()
            with store.writing() as transaction:
                deleted = retention.delete_old(transaction, 0)
            slices.append(time.monotonic() - begin)
    print(
        "  deleting a tenth: %d rows/s, a slice %.3f s"
        % (rows // 10 / (time.monotonic() - start), sorted(slices)[len(slices) // 2])
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
