# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the relay is on one core, and what memory it takes: python tests/relay/bench.py [RECORDS]."""

import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import forward, msgpack
from ansible_collections.changetracking.inventory.plugins.plugin_utils import _zipapp
from ansible_collections.changetracking.inventory.tests.bench.senders import A_MESSAGE, NOW, TAG, record
from ansible_collections.changetracking.inventory.tests.helpers.relay_process import Relay

# What the senders are measured with has not these.
MORE = {"InstalledOn": "2026-01-01T00:00:00Z", "SourceComputerId": "6f1f6d5e-5b1c-4c86-9f5c-1d2f3a4b5c6d"}


def messages(records):
    for first in range(0, records, A_MESSAGE):
        numbers = range(first, first + A_MESSAGE)
        entries = [(NOW, dict(record(number), RecordId="record-%d" % number, **MORE)) for number in numbers]
        for packed, count in forward.pack_batches(entries):
            yield forward.message(TAG, packed, count, forward.new_chunk())


def throughput(relay, records):
    ready = list(messages(records))
    core = sorted(os.sched_getaffinity(0))[-1]
    relay.start(preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    before = relay.cpu_seconds()
    with relay.connect() as sock:
        sender = threading.Thread(target=lambda: [sock.sendall(message) for message in ready])
        unpacker = msgpack.Unpacker()
        start, acks = time.monotonic(), 0
        sender.start()
        while acks < len(ready):
            unpacker.feed(sock.recv(65536))
            acks += len(list(unpacker))
        acked = time.monotonic() - start
    while any(sink["Rows"] for sink in relay.status()["Sinks"]):
        pass
    uploaded = time.monotonic() - start
    print("%d records of %d bytes, %d a message, one core:" % (records, sum(map(len, ready)) // records, A_MESSAGE))
    print("  safe on disk and acknowledged   %7d records/s (sqlite upload going on beside it)" % (records / acked))
    print("  in the sqlite tables            %7d records/s" % (records / uploaded))
    print("  in the tables, a CPU second     %7d records" % (records / (relay.cpu_seconds() - before)))
    print("  most memory                     %7.1f MiB" % (relay.resident_kib() / 1024))
    assert relay.rows("SELECT count(*) FROM ConfigurationData") == [(records,)]
    relay.stop()


def crowd(relay, clients):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(clients + 100, limit), limit))
    relay.start()
    socks = [relay.connect() for _unused in range(clients)]
    relay.status()
    print("%d clients: %.1f MiB," % (clients, relay.resident_kib() / 1024), end=" ")
    for sock in socks:
        sock.setblocking(False)
        try:
            sock.send(b"\x92\xa1t\xc6\x00\x10\x00\x00" + bytes(1 << 19))
        except BlockingIOError:
            pass
    relay.status()
    print("with half a message each: %.1f MiB" % (relay.resident_kib() / 1024))
    relay.kill()


def main(records="100000"):
    folder = Path(tempfile.mkdtemp(prefix="relay"))
    try:
        _zipapp.write("relay", str(folder / "relay.pyz"))
        for name, measure, amount in (("a", throughput, int(records)), ("b", crowd, 1000)):
            (folder / name).mkdir()
            relay = Relay(folder / "relay.pyz", folder / name)
            relay.put_chunk("one.json", "1")
            measure(relay, amount)
    finally:
        shutil.rmtree(str(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
