# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the relay's acknowledgement is worth. CT_RELAY_KILLS=200 CT_RELAY_RECORDS=100000 is the long version."""

import os
import random
import threading

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import ForwardError
from ansible_collections.changetracking.inventory.tests.helpers.program import wait_for

KILLS = int(os.environ.get("CT_RELAY_KILLS", "20"))
RECORDS = int(os.environ.get("CT_RELAY_RECORDS", "10000"))
STREAM = "dcr-1:CTDataSource-Linux:CONFIG_DATA_BLOB_V2"
BATCH = 50


class Traffic(threading.Thread):
    """Sends numbered records, each batch until it is acknowledged."""

    def __init__(self, relay):
        super().__init__(daemon=True)
        self.relay = relay
        self.up = threading.Event()
        self.acked = threading.Semaphore(0)
        self.resent = 0

    def run(self):
        with self.relay.sender() as sender:
            for first in range(0, RECORDS, BATCH):
                batch = [(1700000000, record(number)) for number in range(first, first + BATCH)]
                while not self.delivered(sender, batch):
                    self.resent += 1
                self.acked.release()

    def delivered(self, sender, batch):
        self.up.wait()
        try:
            return sender.send(STREAM, batch)
        except ForwardError:
            return False


def record(number):
    return {"ConfigDataType": "Software", "SoftwareName": "package%d" % number, "RecordId": "record-%d" % number}


def test_every_record_arrives_once_however_often_the_relay_is_killed(relay):
    seed = random.randrange(1 << 32)
    print("seed %d" % seed)
    dice = random.Random(seed)
    traffic = Traffic(relay)
    traffic.start()
    for _kill in range(KILLS):
        early = dice.random() < 0.2
        relay.start(wait=None if early else "The relay is ready")
        if not early:
            traffic.up.set()
            for _unused in range(dice.randrange(2 * RECORDS // BATCH // KILLS)):
                if traffic.is_alive():
                    traffic.acked.acquire(timeout=60)
        # No waiting for anything: the moment is to be any one, start and upload included.
        threading.Event().wait(dice.random() * 0.3)
        traffic.up.clear()
        relay.kill()
    relay.start()
    traffic.up.set()
    traffic.join()
    wait_for(lambda: not any(sink["Rows"] for sink in relay.status()["Sinks"]))
    assert relay.stop() == 0
    found = relay.rows("SELECT RecordId FROM ConfigurationData")
    assert len(found) == RECORDS
    assert {row[0] for row in found} == {"record-%d" % number for number in range(RECORDS)}
    assert list(relay.events.glob("[!.]*/*")) == []
    print("%d kills, %d attempts failed" % (KILLS, traffic.resent))
