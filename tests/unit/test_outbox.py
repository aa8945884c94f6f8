# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records wait until they were handed over, and are committed with the state they follow from."""

import sqlite3

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils import _forward
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import ForwardError, TurnOver
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import settings
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state import aside
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.outbox import Outbox, deliver
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.packing import pack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import enqueue, host_run, run
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import sender

FILES = all_kinds()["files"]
MACHINE = {"Computer": "host", "SourceComputerId": "id", "VMUUID": None}
TAGS = {settings.CHANGE_STREAM: ["change"], settings.DATA_STREAM: ["data"]}


class Receiver:
    def __init__(self):
        self.taken = []
        self.broken_after = None

    def send(self, tag, entries):
        if self.broken_after is not None and len(self.taken) >= self.broken_after:
            raise ForwardError("it broke")
        self.taken += [(tag, record) for _time, record in entries]
        return True

    def paths(self, tag):
        return [record["FileSystemPath"].rpartition("/")[2] for name, record in self.taken if name == tag]


class Host:
    """A folder that is tracked."""

    def __init__(self, folder):
        self.tracked = folder / "tracked"
        self.tracked.mkdir()
        self.state = str(folder / "state.db")
        rules = [FileRule("r", str(self.tracked) + "/*")]
        self.settings = settings.default()._replace(file_rules=rules, kinds=("files",), inventory_every=3600)
        self.receiver = Receiver()

    def write(self, name, text="text"):
        (self.tracked / name).write_text(text)

    def run(self):
        with Store(self.state) as store:
            return self.look(store)

    def look(self, store):
        snapshot = run.run_kind(FILES, self.settings, store)
        enqueue.queue(snapshot, enqueue.remember(snapshot, store, MACHINE), self.settings, store, MACHINE)
        return snapshot

    def depth(self):
        with Outbox(self.state) as outbox:
            return outbox.depth()

    def deliver(self, tags=None):
        with Outbox(self.state) as outbox:
            return deliver(outbox, self.receiver.send, TAGS if tags is None else tags)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_a_clone_sends_its_own_inventory_and_nothing_that_its_image_had_to_send(host, monkeypatch):
    for name in ("image", "image", "clone", "clone"):
        machine = {"Computer": name, "SourceComputerId": name, "VMUUID": None}
        monkeypatch.setattr(host_run.host, "identity", lambda machine=machine: machine)
        host.write("a", name + str(host.tracked.stat().st_mtime_ns))
        warnings = []
        with Store(host.state) as store:
            result = host_run.run_host(["files"], host.settings, "changes", store, warnings.append, forward=True)
        if name == "clone":
            host.write("b", "new")
    assert [change["FileSystemPath"][-1] for change in result["changes"]] == ["a", "b"] and warnings == []
    host.deliver()
    assert {record["Computer"] for _tag, record in host.receiver.taken} == {"clone"}
    assert host.receiver.paths("data") == ["a"] and host.receiver.paths("change") == ["a", "b"]


def test_the_first_run_is_an_inventory_and_the_next_ones_are_changes(host):
    host.write("a")
    host.run()
    host.write("b")
    host.run()
    host.run()
    assert host.deliver() == (2, 0)
    assert host.receiver.paths("data") == ["a"]
    assert host.receiver.paths("change") == ["b"]
    record = host.receiver.taken[1][1]
    assert record["ChangeCategory"] == "Added" and record["Computer"] == "host" and int(record["LastSnapshotAge"]) >= 0
    assert {value.__class__ for _tag, record in host.receiver.taken for value in record.values()} == {str}


def test_the_last_record_of_an_inventory_says_how_many_there_are(host, monkeypatch):
    monkeypatch.setattr(enqueue, "BATCH", 2)
    for name in "abc":
        host.write(name)
    host.run()
    host.deliver()
    told = [record.get("InventoryRecords") for _tag, record in host.receiver.taken]
    assert told == [None, None, "3"]
    host.write("d")
    host.run()
    host.deliver()
    assert "InventoryRecords" not in host.receiver.taken[-1][1]


def test_an_inventory_is_due_again_after_its_time_and_after_the_clock_was_set_back(host):
    host.write("a")
    for queued_ago, due in ((0, False), (3000, False), (3601, True), (-86400, True)):
        host.run()
        host.deliver()
        host.receiver.taken.clear()
        with Store(host.state) as store:
            store.renew_inventory(settings.DATA_STREAM, FILES, store.last_run(FILES).collected_at - queued_ago)
        host.run()
        host.deliver()
        assert host.receiver.paths("data") == (["a"] if due else [])


def test_an_inventory_that_nobody_took_is_superseded_and_a_change_is_not(host):
    host.settings = host.settings._replace(inventory_every=1)
    host.write("a")
    host.run()
    host.write("b")
    with Store(host.state) as store:
        store.renew_inventory("other", FILES, 0)
    host.run()
    host.write("c")
    with Store(host.state) as store:
        store.renew_inventory("other", FILES, 0)
    host.run()
    host.deliver()
    assert host.receiver.paths("data") == ["a", "b", "c"]
    assert host.receiver.paths("change") == ["b", "c"]


def test_what_breaks_off_comes_again_under_the_same_ids(host):
    host.write("a")
    host.run()
    host.write("b")
    host.run()
    host.receiver.broken_after = 1
    tags = {settings.CHANGE_STREAM: ["one", "two"], settings.DATA_STREAM: ["data"]}
    with pytest.raises(ForwardError, match="1 record was delivered, 1 kept"):
        host.deliver(tags)
    host.receiver.broken_after = 2
    with pytest.raises(ForwardError, match="0 records were delivered, 1 kept"):
        host.deliver(tags)
    host.receiver.broken_after = None
    assert host.deliver(tags) == (1, 0)
    assert [tag for tag, _record in host.receiver.taken] == ["data", "one", "one", "two"]
    assert len({record["RecordId"] for _tag, record in host.receiver.taken}) == 2


def takes(host, number, error):
    """A send() that takes so many records and fails then."""

    def send(tag, entries):
        host.receiver.send(tag, entries[:number])
        failure = error("it is slow")
        failure.taken = min(number, len(entries))
        raise failure

    return send


def test_what_a_slow_receiver_took_is_not_sent_again_and_the_rest_waits(host):
    for name in "abcd":
        host.write(name)
    host.run()
    with Outbox(host.state) as outbox:
        assert deliver(outbox, takes(host, 2, TurnOver), TAGS) == (2, 2)
    with Outbox(host.state) as outbox, pytest.raises(ForwardError, match="1 record was delivered, 1 kept"):
        deliver(outbox, takes(host, 1, ForwardError), TAGS)
    assert host.deliver() == (1, 0)
    assert host.receiver.paths("data") == ["a", "b", "c", "d"]


def test_a_turn_in_which_nothing_was_taken_is_a_failure(host):
    host.write("a")
    host.run()
    with Outbox(host.state) as outbox, pytest.raises(ForwardError, match="0 records were delivered, 1 kept"):
        deliver(outbox, takes(host, 0, TurnOver), TAGS)


def test_what_was_taken_under_one_of_several_tags_waits(host):
    host.write("a")
    host.write("b")
    host.run()
    with Outbox(host.state) as outbox, pytest.raises(ForwardError, match="0 records were delivered, 2 kept"):
        deliver(outbox, takes(host, 1, TurnOver), {settings.DATA_STREAM: ["one", "two"]})


def test_a_task_says_what_is_kept_for_the_next_run(host, monkeypatch):
    host.write("a")
    host.write("b")
    host.run()
    monkeypatch.setattr(sender.Sender, "send", lambda self, tag, entries: takes(host, 1, TurnOver)(tag, entries))
    given = dict.fromkeys(("tls_ca", "tls_cert", "tls_key"), "")
    given.update(address="tcp://127.0.0.1:9", config_address="@none", allow_users=[], acks="auto")
    forward = _forward.Forward(dict(given, change_tag="c", data_tag="d"))
    assert forward.deliver(host.state, host.settings) == {"delivered": 1, "waiting": 1}
    (note,) = forward.notes
    assert note.startswith("1 record is kept for the next run, of 2: tcp://127.0.0.1:9 takes them so slowly that 60 s")


def test_a_stream_without_a_tag_is_kept_and_told_and_the_other_is_delivered(host):
    host.write("a")
    host.run()
    host.write("b")
    host.run()
    with pytest.raises(ForwardError, match="CONFIG_CHANGE_BLOB_V2, so 1 record is kept"):
        host.deliver({settings.DATA_STREAM: ["data"]})
    assert host.receiver.paths("data") == ["a"]
    assert host.depth().records == 1


def test_a_run_that_is_not_committed_leaves_no_records(host):
    host.write("a")
    with pytest.raises(RuntimeError), Store(host.state) as store:
        host.look(store)
        raise RuntimeError
    assert host.depth() == (0, 0, None)
    host.run()
    assert host.depth().records == 1


def test_a_first_run_that_could_see_nothing_is_no_empty_inventory(host):
    host.settings = host.settings._replace(file_rules=[FileRule("r", "/proc/*")])
    snapshot = host.run()
    assert snapshot.failed() == ["r"]
    with Store(host.state) as store:
        assert store.inventory_queued_at(FILES) is None


def test_an_outbox_that_was_never_filled_is_empty(tmp_path):
    with Outbox(str(tmp_path / "nothing.db"), read_only=True) as outbox:
        assert outbox.depth() == (0, 0, None)
        assert list(outbox.batches()) == []


DAMAGES = {
    "empty": b"",
    "noise": b"x" * 100,
    "no list": b"x\x9c\xab\x02\x00\x00y\x00y",
    "text": "records",
    "numbers": pack([1]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_batch_that_is_damaged_is_set_aside_and_told_once_and_the_others_are_delivered(host, damage):
    host.run()
    for name in "abc":
        host.write(name)
        host.run()
    with sqlite3.connect(host.state) as db:
        db.execute("UPDATE outbox SET records = ? WHERE id = 2", (damage,))
    db.close()
    with Outbox(host.state) as outbox:
        assert deliver(outbox, host.receiver.send, TAGS) == (2, 0)
        assert len(outbox.notes) == 1 and outbox.notes[0].startswith(
            "1 undelivered records in the state '%s' are damaged" % host.state
        )
    assert host.receiver.paths("change") == ["a", "c"]
    with Outbox(host.state) as outbox:
        assert (deliver(outbox, host.receiver.send, TAGS), outbox.notes) == ((0, 0), [])
    with sqlite3.connect(host.state) as db:
        assert db.execute("SELECT source, content FROM set_aside").fetchall() == [("outbox", damage)]
    db.close()


def test_what_is_set_aside_is_bounded(host, monkeypatch):
    monkeypatch.setattr(aside, "ASIDE_BYTES", 100)
    host.run()
    for name in "abcd":
        host.write(name)
        host.run()
    with sqlite3.connect(host.state) as db:
        db.execute("UPDATE outbox SET records = zeroblob(40)")
    db.close()
    with Outbox(host.state) as outbox:
        assert list(outbox.batches()) == [] and len(outbox.notes) == 4
    with sqlite3.connect(host.state) as db:
        assert db.execute("SELECT count(*) FROM set_aside").fetchone() == (2,)
    db.close()


def test_changes_are_remembered_whether_or_not_they_were_delivered(host):
    host.run()
    for name in ("a", "b", "c"):
        host.write(name)
        host.run()
        host.deliver()
    with Store(host.state, read_only=True) as store:
        records = list(store.history())
    assert [record["FileSystemPath"][-1] for record in records] == ["a", "b", "c"]
    assert [record["RecordId"] for record in records] == [record["RecordId"] for _tag, record in host.receiver.taken]
