# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints, as JSON, the wall and CPU seconds that a record takes: senders.py sender|fluent-logger|encoder|fallback"""

import json
import os
import sys
import time

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import (
    address,
    forward,
    msgpack,
    sockets,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.sender import Sender

RECORDS = 100000
A_MESSAGE = 1000
TAG = "dcr-1:CTDataSource-Linux:CONFIG_DATA_BLOB_V2"
NOW = 1700000000
CHUNK = b"\xa5chunk"  # the option's name as msgpack has it
ANSWER = len(CHUNK) + 25  # bytes up to the end of its value, 24 characters


def record(number):
    return {
        "ConfigDataType": "Software",
        "SoftwareName": "package%d" % number,
        "SoftwareType": "Package",
        "SoftwareDescription": "some words about what it is good for",
        "Publisher": "Debian Maintainers <maintainers@example.org>",
        "CurrentVersion": "1.2.3-4",
        "Architecture": "amd64",
        "Size": "123456",
        "Computer": "host.example.org",
        "TimeGenerated": "2026-01-01T00:00:00Z",
    }


def receive(listener):
    """Read all, and answer the chunks that a message ends with."""
    connection = listener.accept()[0]
    rest = b""
    for data in iter(lambda: connection.recv(1 << 20), b""):
        rest += data
        at = rest.find(CHUNK)
        while at >= 0 and len(rest) >= at + ANSWER:
            start = at + len(CHUNK)
            value = msgpack.Unpacker()
            value.feed(rest[start : start + 25])
            connection.sendall(forward.ack(next(iter(value))))
            rest = rest[start:]
            at = rest.find(CHUNK)
        rest = rest if at >= 0 else rest[-64:]


def ours(batch):
    return b"".join(msgpack._packed_entries(batch))  # pack_entries() would take msgpack's C extension


def with_receiver(work):
    listener = sockets.listen(address.Address("tcp", "127.0.0.1", 0))
    port = listener.getsockname()[1]
    process = os.fork()
    if not process:
        receive(listener)
        os._exit(0)
    listener.close()
    took = work(port)
    os.waitpid(process, 0)
    return took


def timed(work):
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def send(entries, port):
    with Sender(address.Address("tcp", "127.0.0.1", port), acks="require", deadline=60) as sender:
        return timed(lambda: sender.send(TAG, entries))


def log(entries, port):
    from fluent.sender import FluentSender

    sender = FluentSender(TAG, host="127.0.0.1", port=port)

    def work():
        for moment, one in entries:
            sender.emit_with_time(None, moment, one)

    took = timed(work)
    sender.close()
    return took


def main(what):
    entries = [(NOW, record(number)) for number in range(RECORDS)]
    batches = [entries[at : at + A_MESSAGE] for at in range(0, RECORDS, A_MESSAGE)]
    packed = []
    if what == "encoder":
        took = timed(lambda: packed.extend(map(ours, batches)))
    elif what == "fallback":
        from msgpack.fallback import Packer

        packer = Packer()
        took = timed(lambda: packed.extend(map(packer.pack, batches)))
        assert packed == [ours(batch) for batch in batches]
    else:
        took = with_receiver(lambda port: {"sender": send, "fluent-logger": log}[what](entries, port))
    print(json.dumps([seconds / RECORDS for seconds in took]))


if __name__ == "__main__":
    main(sys.argv[1])
