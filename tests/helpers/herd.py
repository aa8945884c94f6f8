# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that all send their first inventory to one relay at once: python tests/helpers/herd.py HOSTS [tcp] [RECORDS].

Each host is a thread with a state database of its own, from which the agent's own code delivers: outbox, sender, and the
pause after a failure. The threads are in as many processes as there are CPUs, which they share with the relay.
"""

import multiprocessing
import os
import resource
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import delivery
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import ForwardError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import identified, sealed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.outbox import Outbox, deliver
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import address
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.sender import Sender
from ansible_collections.changetracking.inventory.plugins.plugin_utils import _zipapp
from ansible_collections.changetracking.inventory.tests.helpers.relay_process import Relay

STREAM = "CONFIG_DATA_BLOB_V2"
TAGS = {STREAM: ["dcr-1:CTDataSource-Linux:" + STREAM]}
BATCH = 1000  # records of a row of the outbox


def inventory(host, records):
    for number in range(records):
        yield {
            "Computer": "host%d" % host, "SourceComputerId": "6f1f6d5e-5b1c-4c86-9f5c-%012d" % host, "VMUUID": None,
            "TimeGenerated": "2026-01-01T00:00:00Z", "ConfigDataType": "Software", "SoftwareName": "package-%d" % number,
            "SoftwareType": "Package", "SoftwareDescription": "a description of some length", "Architecture": "amd64",
            "Publisher": "Maintainers <maintainers@example.org>", "CurrentVersion": "1.2.3-4+deb12u1", "Size": 123456,
            "InstalledOn": "2026-01-01T00:00:00Z",
        }  # fmt: skip


class Host(threading.Thread):
    def __init__(self, folder, number, records, where, results):
        super().__init__(daemon=True)
        self.state = os.path.join(folder, "%d.db" % number)
        self._where = where
        self._results = results
        batch = list(identified(sealed(inventory(number, records))))
        with Store(self.state) as store:
            for first in range(0, len(batch), BATCH):
                store.queue(STREAM, all_kinds()["packages"], 1, batch[first : first + BATCH])

    def run(self):
        """As the agent does, for ever; puts (seconds, attempts that failed)."""
        backoff, failures, reason, start = 0.0, 0, "", time.monotonic()
        while True:
            try:
                self.deliver()
            except ForwardError as error:
                failures += 1
                reason = str(error)
            else:
                break
            if failures % 20 == 1:
                print(reason, file=sys.stderr, flush=True)
            backoff = delivery.next_backoff(backoff)
            time.sleep(backoff)
        self._results.put((time.monotonic() - start, failures))

    def deliver(self):
        times = {"deadline": delivery.DELIVERY_SECONDS, "silence": delivery.TURN_SECONDS}
        sender = Sender(self._where, [str(os.geteuid())], **times)
        with sender, Outbox(self.state) as outbox:
            deliver(outbox, sender.send, TAGS)


def some_hosts(folder, numbers, records, where, ready, go, results):
    """One process's."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    threading.stack_size(256 << 10)
    hosts = [Host(folder, number, records, where, results) for number in numbers]
    ready.put(1)
    go.wait()
    for host in hosts:
        host.start()
    for host in hosts:
        host.join()


def start(folder, hosts, records, where, processes):
    """Start the processes; (the event that lets them all go, the queue of what each host took)."""
    context = multiprocessing.get_context("fork")
    ready, go, results = context.Queue(), context.Event(), context.Queue()
    for first in range(processes):
        arguments = (folder, range(first, hosts, processes), records, where, ready, go, results)
        context.Process(target=some_hosts, args=arguments, daemon=True).start()
    for _process in range(processes):
        ready.get()
    return go, results


def sent(relay):
    """(rows that came, those that were stored, those that wait for their upload)"""
    sinks = relay.status()["Sinks"]
    return tuple(sum(sink[name] for sink in sinks) for name in ("Received", "Known", "Rows"))


def main(hosts="300", scheme="unix", records="1200"):
    hosts, records = int(hosts), int(records)
    folder = Path(tempfile.mkdtemp(prefix="herd"))
    try:
        _zipapp.write("relay", str(folder / "relay.pyz"))
        relay = Relay(folder / "relay.pyz", folder)
        relay.put_chunk("one.json", "1")
        options, where = [], relay.address()
        if scheme == "tcp":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                where = address.Address("tcp", "127.0.0.1", free.getsockname()[1])
            options = ["--listen", str(where)]
        go, results = start(str(folder), hosts, records, where, len(os.sched_getaffinity(0)))
        relay.start(*options)
        print("%d hosts, %d records each, %s: ready" % (hosts, records, scheme), flush=True)
        begin = time.monotonic()
        go.set()
        took = [results.get() for _host in range(hosts)]
        acknowledged = time.monotonic() - begin
        received, known, rows = sent(relay)
        while rows:
            time.sleep(0.5)
            received, known, rows = sent(relay)
        stored = relay.rows("SELECT count(*), count(DISTINCT Computer) FROM ConfigurationData")[0]
        print(
            "  the first was done after %.1f s, the last after %.1f s, all was in the tables after %.1f s"
            % (min(took)[0], acknowledged, time.monotonic() - begin)
        )
        print(
            "  rows sent for each row stored: %.3f (%d known again); attempts that failed: %d"
            % ((received + known) / stored[0], known, sum(failures for _seconds, failures in took))
        )
        print(
            "  in the tables: %d rows of %d hosts, missing: %d; the relay's memory: %.0f MiB, its CPU time: %.0f s"
            % (*stored, hosts * records - stored[0], relay.resident_kib() / 1024, relay.cpu_seconds())
        )
        assert stored == (hosts * records, hosts)
        relay.stop()
    finally:
        shutil.rmtree(str(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
