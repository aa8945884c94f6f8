# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast records go to Log Analytics, beside Azure's own client, and whether all of them arrive while calls are throttled, answers are
lost and the relay is killed: python tests/azure/bench.py [RECORDS [SECONDS BETWEEN TWO KILLS]], as the user of the environment `azure`."""

import collections
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from azure.core.credentials import AccessToken
from azure.monitor.ingestion import LogsIngestionClient

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import https, ingestion, tables
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import ForwardError
from ansible_collections.changetracking.inventory.plugins.plugin_utils import _zipapp
from ansible_collections.changetracking.inventory.tests.helpers.log_analytics import (
    CALL_BYTES,
    RULE,
    TOKEN,
    Tokens,
    Workspace,
    error,
)
from ansible_collections.changetracking.inventory.tests.helpers.relay_process import Relay
from ansible_collections.changetracking.inventory.tests.helpers.web import Web, make_certificate

NOW = int(time.time())
TIME = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW))
A_MESSAGE = 1000
BUSY = error(429, "RateLimit", **{"retry-after": "1"})


def record(number):
    return {
        "ConfigDataType": "Software", "SoftwareName": "package-%d" % (number % 3000), "SoftwareType": "Package",
        "SoftwareDescription": "What this package is for, in a sentence", "Publisher": "Debian Maintainers <maintainers@debian.org>",
        "CurrentVersion": "1.%d-1" % (number % 100), "Architecture": "amd64", "Size": str(1000 + number), "InstalledOn": TIME,
        "Computer": "web%05d" % (number // 3000), "SourceComputerId": "6f1f6d5e-5b1c-4c86-9f5c-1d2f3a4b5c6d", "TimeGenerated": TIME,
        "RecordId": "3f2b8c1d4e5f60718293a4b5c6d7e8f9-%d" % number,
    }  # fmt: skip


def faults(number, _rows):
    return BUSY if number % 7 == 0 else Workspace.LOST if number % 11 == 0 else None


def serve(certificate, pipe, with_faults):
    # Azure's client counts neither brackets nor separators, so that its calls are larger than Azure takes: here they are taken.
    call_bytes = CALL_BYTES if with_faults else CALL_BYTES + (64 << 10)
    workspace = Workspace(faults if with_faults else None, call_bytes, keep=False)
    web = Web(workspace.respond, certificate)
    web.requests = collections.deque(maxlen=1)
    pipe.send(web.url)
    while pipe.recv() == "look":
        counts = {
            "ids": len(workspace.ids),
            "rows": workspace.stored,
            "calls": workspace.calls,
            "bytes": workspace.bytes,
        }
        pipe.send(dict(counts, uncompressed=workspace.uncompressed, statuses=dict(workspace.statuses)))


class Azure:
    """A workspace in a process of its own."""

    def __init__(self, certificate, with_faults=False):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=serve, args=(certificate, theirs, with_faults), daemon=True)
        self.process.start()
        self.url = self.pipe.recv()

    def look(self):
        self.pipe.send("look")
        return self.pipe.recv()

    def end(self):
        self.pipe.send("end")
        self.process.join()


class Credential:
    def get_token(self, *_scopes, **_options):
        return AccessToken(TOKEN, NOW + 36000)


def theirs(url, certificate, count):
    client = LogsIngestionClient(url, Credential(), connection_verify=certificate[0])
    rows = [json.loads(tables.encode_row(tables.DATA, "s", NOW, record(number), NOW)) for number in range(count)]
    start = time.monotonic(), time.process_time()
    client.upload(RULE, tables.DATA.stream, rows)
    return time.monotonic() - start[0], time.process_time() - start[1]


def ours(url, certificate, count):
    rule = ingestion.parse_rule("azure:%s/%s" % (url, RULE))
    records = [(NOW, record(number)) for number in range(count)]
    start = time.monotonic(), time.process_time()
    with ingestion.Ingestion(rule, https.Client(rule.endpoint, certificate[0]), Tokens()) as sender:
        sender.send("s", records)
    return time.monotonic() - start[0], time.process_time() - start[1]


def beside(certificate, count):
    for name, send in (("azure-monitor-ingestion", theirs), ("ours, with the shaping of rows", ours)) * 2:
        azure = Azure(certificate)
        seconds, cpu = send(azure.url, certificate, count)
        found = azure.look()
        azure.end()
        print(
            "%-32s %8d records/s  %8d records a CPU second  %4d calls  %9d bytes sent (%d uncompressed), answers %s"
            % (
                name,
                count / seconds,
                count / cpu,
                found["calls"],
                found["bytes"],
                found["uncompressed"],
                found["statuses"],
            )
        )


def through(certificate, folder, count, every):
    azure = Azure(certificate, with_faults=True)
    secret = folder / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    options = [
        "--azure-identity=secret",
        "--azure-client-id=a",
        "--azure-tenant-id=t",
        "--azure-credential-file=%s" % secret,
    ]
    options += ["--azure-authority=" + azure.url, "--azure-ca=" + certificate[0]]
    (folder / "relay").mkdir()
    _zipapp.write("relay", str(folder / "relay.pyz"))
    relay = Relay(folder / "relay.pyz", folder / "relay")
    relay.put_chunk("one.json", "1")
    where = "azure:%s/%s" % (azure.url, RULE)
    relay.start(*options, upload=where)
    sent = threading.Event()

    def send():
        with relay.sender() as sender:
            for first in range(0, count, A_MESSAGE):
                entries = [(NOW, record(number)) for number in range(first, min(first + A_MESSAGE, count))]
                while True:
                    try:
                        if sender.send("CONFIG_DATA_BLOB_V2", entries):
                            break
                    except ForwardError:
                        time.sleep(0.5)
        sent.set()

    start, kills, memory = time.monotonic(), 0, []
    threading.Thread(target=send, daemon=True).start()
    next_kill = start + every
    while True:
        time.sleep(2)
        if time.monotonic() >= next_kill and not sent.is_set():
            relay.kill()
            relay.start(*options, upload=where)
            kills += 1
            next_kill = time.monotonic() + every
        with open("/proc/%d/status" % relay.process.pid) as file:
            memory.append(int(re.search(r"VmRSS:\s*(\d+) kB", file.read()).group(1)) / 1024)
        if sent.is_set() and not any(sink["Rows"] for sink in relay.status()["Sinks"]):
            break
    seconds = time.monotonic() - start
    found = azure.look()
    relay.end()
    azure.end()
    part = max(1, len(memory) // 5)
    means = ["%.1f" % (sum(memory[at : at + part]) / len(memory[at : at + part])) for at in range(0, len(memory), part)]
    print(
        "%d records through the relay in %.0f s (%d records/s), which was killed %d times"
        % (count, seconds, count / seconds, kills)
    )
    print("  rows in the table %d, one a RecordId %d, missing %d" % (found["rows"], found["ids"], count - found["ids"]))
    print(
        "  calls %d, answers %s, bytes %d (%d uncompressed)"
        % (found["calls"], found["statuses"], found["bytes"], found["uncompressed"])
    )
    print("  memory of the relay in MiB, means of parts of the time: %s; most %.1f" % (", ".join(means), max(memory)))
    assert found["ids"] == count


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
    every = float(sys.argv[2]) if len(sys.argv) > 2 else 15.0
    folder = Path(tempfile.mkdtemp(prefix="azure"))
    try:
        certificate = make_certificate(folder)
        print("%d CPUs, load %.1f" % (os.cpu_count(), os.getloadavg()[0]))
        beside(certificate, count // 5)
        through(certificate, folder, count, every)
    finally:
        shutil.rmtree(str(folder))


if __name__ == "__main__":
    main()
