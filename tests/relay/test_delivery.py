# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox of a host and a relay in trouble: what leaves the one is in the other."""

import os

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import delivery
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import ForwardError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay import known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.outbox import Outbox, deliver
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import msgpack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.sender import Sender
from ansible_collections.changetracking.inventory.tests.helpers import herd
from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE
from ansible_collections.changetracking.inventory.tests.helpers.relay_process import is_closed_by_peer, read_value

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
            store.queue(STREAM, all_kinds()["files"], 1, [change(name) for name in names])

    def deliver(self, **options):
        options.setdefault("deadline", PATIENCE)
        sender = Sender(self.relay.address(), [str(os.geteuid())], **options)
        with sender, Outbox(self.state) as outbox:
            return deliver(outbox, sender.send, TAGS)

    def waiting(self):
        with Outbox(self.state) as outbox:
            return outbox.depth().records


def change(name):
    return {"RecordId": name, "ConfigChangeType": "Files", "TimeGenerated": "2026-01-01T00:00:00Z"}


SLOW = """
def fdatasync(descriptor):
    time.sleep(0.1)
    sync(descriptor)
os.fdatasync = fdatasync
"""


def a_slow_and_full_disk(relay, folder):
    """Start the relay with one; it is neither any more once the file returned is gone."""
    (folder / "sitecustomize.py").write_text(DISK)
    full = folder / "full"
    full.write_text("")
    relay.start(env=dict(os.environ, PYTHONPATH=str(folder), CT_TEST_FULL=str(full)))
    return full


@pytest.fixture
def host(tmp_path, relay):
    return Host(tmp_path, relay)


def test_nothing_leaves_the_outbox_for_a_relay_whose_disk_is_slow_and_then_full(host, relay, tmp_path):
    """With the default, `auto`: that the relay acknowledges is known, however long it is silent."""
    full = a_slow_and_full_disk(relay, tmp_path)
    host.queue("a", "b")
    with pytest.raises(ForwardError, match="0 records were delivered, 2 kept"):
        host.deliver(silence=PATIENCE)
    assert host.waiting() == 2
    assert "Records are not acknowledged until that works." in relay.status()["StorageError"]
    full.unlink()
    assert host.deliver() == (2, 0)
    assert relay.status()["StorageError"] == ""
    relay.expect(r"\) 0 rows$")
    assert relay.rows("SELECT RecordId FROM ConfigurationChange ORDER BY 1") == [("a",), ("b",)]


def test_what_a_relay_had_read_when_it_was_killed_comes_again(host, relay, tmp_path):
    a_slow_and_full_disk(relay, tmp_path)
    host.queue("a")
    with pytest.raises(ForwardError, match=r"within 0\.5 s"):
        host.deliver(silence=0.5)  # it has read it, and its disk takes three times as long
    relay.kill()
    assert host.waiting() == 1
    relay.start()
    assert host.deliver() == (1, 0)
    relay.expect(r"\) 0 rows$")
    assert relay.rows("SELECT RecordId FROM ConfigurationChange") == [("a",)]


def test_what_comes_again_is_known_and_acknowledged_and_not_stored_again(relay):
    """Whatever its chunk is, and at whatever time it was sent: by its records."""
    relay.start(upload="jsonl:%s" % (relay.folder / "out"))
    tag = TAGS[STREAM][0]
    first, again = [[1700000000, change("a")], [1700000000, change("b")]], [[9, change("a")], [9, change("b")]]
    others = [
        [[9, change("a")]],  # cut another way
        [[9, change("a")], [9, dict(change("b"), Size="1")]],  # one record says something else
        [[9, {"ConfigChangeType": "Files"}], [9, {"ConfigChangeType": "Files"}]],  # without an id
        [[9, {"ConfigChangeType": "Files"}], [9, {"ConfigChangeType": "Files"}]],  # and once more: these are others
    ]
    with relay.connect() as sock:
        for entries in (first, again, *others):
            sock.sendall(msgpack.pack([tag, entries, {"chunk": "1"}]))
            assert read_value(sock) == {"ack": "1"}
        sock.sendall(msgpack.pack(["another tag", again, {"chunk": "1"}]))
        assert read_value(sock) == {"ack": "1"}
    sinks = {sink["Stream"]: (sink["Received"], sink["Known"]) for sink in relay.status()["Sinks"]}
    assert sinks == {tag: (9, 2), "another tag": (2, 0)}


def test_a_message_is_not_known_before_it_is_safe(relay, tmp_path):
    full = a_slow_and_full_disk(relay, tmp_path)
    message = msgpack.pack([TAGS[STREAM][0], [[9, change("a")]], {"chunk": "1"}])
    for _attempt in range(2):
        with relay.connect() as sock:
            sock.sendall(message)
            assert is_closed_by_peer(sock)
    full.unlink()
    with relay.connect() as sock:
        sock.sendall(message)
        assert read_value(sock) == {"ack": "1"}
    relay.expect(r"\) 0 rows$")
    assert relay.rows("SELECT RecordId FROM ConfigurationChange") == [("a",)]


def test_what_is_known_of_messages_is_bounded(monkeypatch):
    monkeypatch.setattr(known, "REMEMBERED", 10)
    memory = known.KnownMessages()
    for number in range(100):
        memory.add(b"%d" % number)
    assert [number for number in range(100) if b"%d" % number in memory] == list(range(90, 100))


def test_a_herd_gets_done_and_sends_little_twice(relay, tmp_path):
    """Sixty hosts at once, and a relay that has a fraction of a CPU and a disk that takes its time."""
    (tmp_path / "sitecustomize.py").write_text("import os, time\nsync = os.fdatasync\n" + SLOW)
    hosts, records = 60, 200
    go, results = herd.start(str(tmp_path), hosts, records, relay.address(), 2)
    relay.start(env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    go.set()
    failures = [results.get(timeout=4 * PATIENCE)[1] for _host in range(hosts)]
    received, again, rows = herd.sent(relay)
    while rows:
        received, again, rows = herd.sent(relay)
    stored = relay.rows("SELECT count(*), count(DISTINCT RecordId), count(DISTINCT Computer) FROM ConfigurationData")
    assert stored == [(hosts * records, hosts * records, hosts)]
    assert received + again <= 1.1 * hosts * records
    assert sum(failures) <= hosts // 10


def test_hosts_that_failed_together_do_not_come_again_together():
    backoff = 0.0
    for _failure in range(20):
        chosen = [delivery.next_backoff(backoff) for _host in range(50)]
        assert len(set(chosen)) > 1 and min(chosen) >= 1 and max(chosen) <= 300
        assert min(chosen) >= backoff or backoff > 90
        backoff = max(chosen)
    assert backoff > 150
