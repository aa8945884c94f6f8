# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What honest clients get while hostile ones do their worst, and what it costs.

While a flood is on, a client at the unix socket sends inventories and single records, over a connection that it keeps and
over new ones, and asks for its configuration: all of it is acknowledged and answered, all of it is in the tables
afterwards, and the relay never needs more than 128 MiB. How long the longest acknowledgement took is printed; run with
-rP to see it.
"""

import socket
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.ama import config
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import msgpack
from ansible_collections.changetracking.inventory.tests.helpers import floods
from ansible_collections.changetracking.inventory.tests.helpers.child import importing
from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE
from ansible_collections.changetracking.inventory.tests.helpers.relay_process import EXTENSION, certificate, read_value

DATA = "dcr-1:CTDataSource-Linux:CONFIG_DATA_BLOB_V2"
MOST_KIB = 128 << 10
ROUNDS = 4

AT = {
    "silent": ("local", "tcp", "tls", "config"),
    "reconnecting": ("local", "tls"),
    "handshakes": ("tls",),
    "hellos": ("tls",),
    "handshake_storm": ("tls",),
    "half_records": ("tls",),
    "halves": ("local", "tcp"),
    "small_halves": ("tcp",),
    "dripping": ("tcp",),
    "deaf": ("local",),
    "heartbeats": ("local",),
    "empty": ("tcp",),
    "garbage": ("tls",),
    "values": ("tcp",),
    "packed_values": ("local",),
    "members": ("tcp",),
    "texts": ("tcp",),
    "amplified": ("local", "tcp"),
    "amplified_processes": ("local",),
    "keys": ("local",),
    "many_keys": ("tcp",),
    "tags": ("tcp",),
    "requests": ("config",),
    "half_requests": ("config",),
}
# Of each sort one, which is on every Python.
ON_EVERY_PYTHON = ("silent", "halves", "garbage", "values", "amplified", "keys", "requests")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Flood:
    """A process of hostile clients; it is on when this is there."""

    def __init__(self, name, address):
        command = [sys.executable, "-m", floods.__name__, name, address]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=importing())
        assert self._process.stdout.readline() == b"on\n"

    def end(self):
        self._process.kill()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


class Honest:
    """The host's own agent: numbered records, of which it knows which were acknowledged."""

    def __init__(self, connect):
        self._connect = connect
        self._kept = connect()
        self.acknowledged = 0
        self.longest = 0.0

    def send(self, count):
        for sock in (self._kept, self._connect()):
            numbers = range(self.acknowledged, self.acknowledged + count)
            entries = [[1700000000, {"ConfigDataType": "Software", "RecordId": "honest-%d" % n}] for n in numbers]
            start = time.monotonic()
            sock.sendall(msgpack.pack([DATA, entries, {"chunk": "c%d" % self.acknowledged}]))
            assert read_value(sock) == {"ack": "c%d" % self.acknowledged}
            self.longest = max(self.longest, time.monotonic() - start)
            self.acknowledged += count
            if sock is not self._kept:
                sock.close()

    def close(self):
        self._kept.close()


def arrived(relay):
    return relay.rows("SELECT count(*) FROM ConfigurationData WHERE RecordId LIKE 'honest-%'")[0][0]


def wait_until_arrived(relay, count):
    """What follows the relay's own log is slower than the uploads, so the tables are asked."""
    end = time.monotonic() + 3 * PATIENCE
    while arrived(relay) != count and time.monotonic() < end:
        threading.Event().wait(0.1)
    assert arrived(relay) == count


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"), "relay")


@pytest.fixture
def besieged(relay, pem):
    """A relay that listens everywhere, and the addresses by name."""
    tcp, tls = free_port(), free_port()
    listen = ["--listen", "tcp://127.0.0.1:%d" % tcp, "--listen", "tls://127.0.0.1:%d" % tls, "--tls-cert", pem]
    relay.start(*listen)
    relay.at = {
        "local": relay.address().name,
        "config": relay.address("config").name,
        "tcp": "127.0.0.1:%d" % tcp,
        "tls": "127.0.0.1:%d" % tls,
    }
    return relay


def floods_by_address():
    for name in AT:
        for where in AT[name]:
            everywhere = name in ON_EVERY_PYTHON and where == AT[name][0]
            yield pytest.param(name, where, marks=[] if everywhere else [pytest.mark.no_python])


@pytest.mark.parametrize("name, where", list(floods_by_address()))
def test_the_hosts_own_agent_is_served_while_there_is_a_flood(besieged, name, where):
    flood = Flood(name, besieged.at[where])
    try:
        honest = Honest(besieged.connect)
        for number in range(ROUNDS):
            honest.send(1200 if number == ROUNDS // 2 else 1)
            with besieged.connect("config") as sock:
                assert config.request(sock, EXTENSION, PATIENCE) is not None
        honest.close()
        most = besieged.resident_kib()
    finally:
        flood.end()
    print("%-16s %-6s %6.1f MiB, longest wait for an ack %.2f s" % (name, where, most / 1024, honest.longest))
    assert besieged.status()["Pid"] == besieged.process.pid
    wait_until_arrived(besieged, honest.acknowledged)
    assert besieged.resident_kib() < MOST_KIB


def test_what_was_acknowledged_arrives_behind_a_second_relay_whatever_else_comes(place):
    first, second = place(), place()
    for relay in (first, second):
        relay.put_chunk("one.json", "1")
    second.start()
    port = free_port()
    first.start("--listen", "tcp://127.0.0.1:%d" % port, upload="forward:" + str(second.address()))
    started = []
    try:
        for name in ("keys", "texts", "tags"):
            started.append(Flood(name, "127.0.0.1:%d" % port))
        honest = Honest(first.connect)
        for _round in range(ROUNDS):
            honest.send(100)
        honest.close()
    finally:
        for flood in started:
            flood.end()
    wait_until_arrived(second, honest.acknowledged)
    for relay in (first, second):
        assert relay.resident_kib() < MOST_KIB
