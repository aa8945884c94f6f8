# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox of a host and a relay in trouble: what leaves the one is in the other."""

import os

import pytest
from program import PATIENCE

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.ama.sender import Sender
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import ForwardError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.outbox import Outbox, deliver
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import KINDS
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.store import Store

STREAM = "CONFIG_CHANGE_BLOB_V2"
TAGS = {STREAM: ["dcr-1:CTDataSource-Linux:" + STREAM]}
# A disk that is slow, and then full, while there is a file of this name.
DISK = """
import errno, os, time
sync = os.fdatasync
def fdatasync(descriptor):
    if os.path.exists(os.environ["CT_TEST_FULL"]):
        time.sleep(1.5)
        raise OSError(errno.ENOSPC, "No space left on device")
    sync(descriptor)
os.fdatasync = fdatasync
"""


class Host:
    def __init__(self, folder, relay):
        self.state = str(folder / "state.db")
        self.relay = relay

    def queue(self, *names):
        with Store(self.state) as store:
            store.queue(STREAM, KINDS["files"], 1, [change(name) for name in names])

    def deliver(self, **options):
        options.setdefault("deadline", PATIENCE)
        sender = Sender(self.relay.address(), [str(os.geteuid())], **options)
        with Outbox(self.state) as outbox, sender:
            return deliver(outbox, sender.send, TAGS)

    def waiting(self):
        with Outbox(self.state) as outbox:
            return outbox.depth().records


def change(name):
    return {"RecordId": name, "ConfigChangeType": "Files", "TimeGenerated": "2026-01-01T00:00:00Z"}


@pytest.fixture
def host(tmp_path, relay):
    return Host(tmp_path, relay)


def test_nothing_leaves_the_outbox_for_a_relay_whose_disk_is_slow_and_then_full(host, relay, tmp_path):
    """With the default, `auto`: that the relay acknowledges is known, however long it is silent."""
    (tmp_path / "sitecustomize.py").write_text(DISK)
    full = tmp_path / "full"
    full.write_text("")
    relay.start(env=dict(os.environ, PYTHONPATH=str(tmp_path), CT_TEST_FULL=str(full)))
    host.queue("a", "b")
    with pytest.raises(ForwardError, match="0 records were delivered, 2 are kept"):
        host.deliver(silence=PATIENCE)
    assert host.waiting() == 2
    full.unlink()
    assert host.deliver() == (2, 0)
    relay.expect(r"\) 0 rows$")
    assert relay.rows("SELECT RecordId FROM ConfigurationChange ORDER BY 1") == [("a",), ("b",)]


def test_what_a_relay_had_read_when_it_was_killed_comes_again(host, relay, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(DISK)
    full = tmp_path / "full"
    full.write_text("")
    relay.start(env=dict(os.environ, PYTHONPATH=str(tmp_path), CT_TEST_FULL=str(full)))
    host.queue("a")
    with pytest.raises(ForwardError, match=r"within 0\.5 s"):
        host.deliver(silence=0.5)  # it has read it, and its disk takes three times as long
    relay.kill()
    assert host.waiting() == 1
    relay.start()
    assert host.deliver() == (1, 0)
    relay.expect(r"\) 0 rows$")
    assert relay.rows("SELECT RecordId FROM ConfigurationChange") == [("a",)]
