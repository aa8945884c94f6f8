# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad days: nothing is lost, told twice or invented, and the log says what is wrong."""

import os
import random
import shutil
import sqlite3
import subprocess
import threading

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import (
    address,
    forward,
    msgpack,
    sockets,
)
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

KILLS = int(os.environ.get("CT_AGENT_KILLS", "15"))


def test_every_change_arrives_once_however_often_the_agent_and_the_relay_are_killed(host):
    """Each file is made once and never touched again, so each is exactly one record."""
    seed = random.randrange(1 << 32)
    print("seed %d" % seed)
    dice = random.Random(seed)
    host.relay.start()
    assert host.run("once")[0] == 0
    made = 0
    for _kill in range(KILLS):
        host.start(wait=None)
        if host.relay.process.poll() is not None:
            host.relay.start(wait=None)
        for _file in range(dice.randrange(4)):
            host.write("f%d" % made)
            made += 1
            threading.Event().wait(dice.random() * 0.3)  # the moment is to be any one
        if dice.random() < 0.4:
            host.relay.kill()
        threading.Event().wait(dice.random() * 0.6)
        host.kill()
    if host.relay.process.poll() is not None:
        host.relay.start()
    code, log = host.run("once")
    assert code == 0, log
    changes = host.arrived().changes()
    assert sorted(changes) == sorted(("Added", "f%d" % number) for number in range(made))


def test_a_database_that_is_damaged_is_set_aside_and_the_next_state_is_a_baseline(host):
    host.relay.start()
    host.write("a")
    assert host.run("once")[0] == 0
    database = host.state / "changetracking.db"
    database.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    code, log = host.run("once")
    assert code == 0
    assert "is corrupt" in log and "changetracking.db.damaged" in log and "baseline of 1 item in" in log
    assert (host.state / "changetracking.db.damaged").exists()
    host.write("b")
    assert host.run("once")[0] == 0
    assert host.arrived().changes() == [("Added", "b")]


def test_a_damaged_row_is_set_aside_and_what_happens_from_then_on_is_reported(host):
    host.relay.start()
    host.write("a")
    host.run("once")
    with sqlite3.connect(str(host.state / "changetracking.db")) as db:
        db.execute("UPDATE part SET items = x'00', signature = NULL")
    db.close()
    code, log = host.run("once")
    assert code == 0 and log.count("damaged and set aside") == 1
    host.write("b")
    code, log = host.run("once")
    assert code == 0 and "set aside" not in log
    assert host.arrived().changes() == [("Added", "b")]


def test_damage_that_shows_only_when_it_is_read_ends_the_agent_so_that_it_starts_anew(host):
    host.relay.start()
    host.write("a")
    host.start()
    host.expect("baseline of 1 item in")
    database = host.state / "changetracking.db"
    with open(str(database), "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.stat().st_size - 4096))
    host.expect("is corrupt")
    assert host.process.wait(60) == 1
    host.start()
    host.expect("baseline of 1 item in")


def test_a_database_of_a_newer_version_is_left_alone(host):
    host.relay.start()
    host.run("once")
    with sqlite3.connect(str(host.state / "changetracking.db")) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    code, log = host.run("once")
    assert code == 1 and "Upgrade the collection" in log
    assert not (host.state / "changetracking.db.damaged").exists()


@pytest.fixture
def small_disk(host):
    """The state on a file system of 512 KiB. Needs root."""
    need_root("mounting a small file system")
    host.state.mkdir()
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs", str(host.state)])
    yield host
    host.end()
    subprocess.check_call(["umount", str(host.state)])


def test_on_a_full_disk_nothing_is_lost_and_it_goes_on_when_there_is_room(small_disk):
    host = small_disk
    host.relay.start()
    assert host.run("once")[0] == 0
    host.start()
    host.expect("Number of File received in this run: 0")
    filler = host.state / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while file.write(os.urandom(4096)):
            pass
    for number in range(300):
        host.write("f%d" % number)
    host.expect("Free some disk space")
    filler.unlink()
    host.expect("records were delivered")
    assert host.stop() == 0
    host.run("once")
    changes = host.arrived().changes()
    assert sorted(changes) == sorted(("Added", "f%d" % number) for number in range(300))


def test_on_a_read_only_disk_it_says_so(small_disk):
    host = small_disk
    host.relay.start()
    assert host.run("once")[0] == 0
    subprocess.check_call(["mount", "-o", "remount,ro", str(host.state)])
    code, log = host.run("once")
    subprocess.check_call(["mount", "-o", "remount,rw", str(host.state)])
    assert code == 1 and "cannot be used" in log and len(log.splitlines()) == 1


class Silent:
    """Accepts, reads or not, and never answers; at the address of the relay's data socket."""

    def __init__(self, host, reads):
        host.relay.sockets.mkdir(exist_ok=True)
        self.socket = sockets.listen(host.relay.address())
        self.reads = reads
        self.accepted = []
        self.came = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        try:
            while True:
                sock, _peer = self.socket.accept()
                self.accepted.append(sock)
                if self.reads and sock.recv(1 << 20):
                    sock.close()  # in the middle of a message, maybe
                self.came.set()
        except OSError:
            pass

    def close(self):
        self.socket.close()
        for sock in self.accepted:
            sock.close()


@pytest.mark.parametrize("reads", [True, False], ids=["closing", "never reading"])
def test_a_receiver_that_takes_nothing_delays_no_collection_and_loses_nothing(host, reads):
    host.relay.start()
    assert host.run("once")[0] == 0
    (host.folder / "dcr.json").write_bytes((host.state / "dcr.json").read_bytes())
    host.relay.stop()
    silent = Silent(host, reads)
    host.start()
    host.write("a")
    host.expect("files: 1 added")
    assert silent.came.wait(60)
    host.write("b")
    host.expect("files: 1 added")
    host.kill()
    silent.close()
    os.unlink(str(host.relay.sockets / "ChangeTracking-Linux.socket"))
    host.relay.start()
    assert host.run("once")[0] == 0
    assert sorted(host.arrived().changes()) == [("Added", "a"), ("Added", "b")]


def test_a_receiver_of_the_wrong_user_is_sent_nothing(host):
    host.relay.start()
    host.write("a")
    host.users = ["65533"]
    code, log = host.run("once")
    assert code == 1 and "Nothing was sent" in log
    assert host.relay.status()["Sinks"] == []


def test_a_folder_that_cannot_be_seen_for_a_while_is_no_removal(host):
    """A file in the place of the folder's parent: as when a mount is not there."""
    host.track(paths=[str(host.tracked / "deep") + "/*"])
    (host.tracked / "deep").mkdir()
    (host.tracked / "deep" / "a").write_text("a")
    loop = host.tracked / "deep2"
    host.relay.start()
    assert host.run("once")[0] == 0
    os.rename(str(host.tracked / "deep"), str(loop))
    os.symlink(str(host.tracked / "deep"), str(host.tracked / "deep"))  # a loop: ELOOP, not ENOENT
    _code, log = host.run("once")
    assert "could not be read; its last known items are kept" in log
    os.unlink(str(host.tracked / "deep"))
    os.rename(str(loop), str(host.tracked / "deep"))
    assert host.run("once")[0] == 0
    assert host.arrived().changes() == []


def test_a_state_of_another_machine_copied_here_starts_no_flood(host):
    """A host cloned from an image: what is the same is no change."""
    host.relay.start()
    host.write("a")
    assert host.run("once")[0] == 0
    copy = host.folder / "copy"
    shutil.copytree(str(host.state), str(copy))
    code, _log = host.run("once", "--state", str(copy))
    assert code == 0
    assert host.arrived().changes() == []


def test_a_full_outbox_pauses_collection_and_what_happens_meanwhile_is_told_afterwards(host):
    host.relay.start()
    assert host.run("once")[0] == 0
    noise = os.urandom(1 << 20)
    with sqlite3.connect(str(host.state / "changetracking.db")) as db:
        for _megabyte in range(65):
            db.execute("INSERT INTO outbox VALUES (NULL, 'unknown stream', 'files', 0, 1, ?)", (noise,))
    db.close()
    host.write("a")
    code, log = host.run("once")
    assert code == 1 and "65 records wait and fill the outbox" in log
    with sqlite3.connect(str(host.state / "changetracking.db")) as db:
        db.execute("DELETE FROM outbox")
    db.close()
    assert host.run("once")[0] == 0
    assert host.arrived().changes() == [("Added", "a")]


def test_what_waited_under_the_agents_rule_is_sent_as_one_forward_message_with_its_ids(host):
    """What a receiver other than ours sees on the wire."""
    host.relay.start()
    host.write("a")
    assert host.run("once")[0] == 0
    host.write("b")
    with sqlite3.connect(str(host.state / "changetracking.db")) as db:
        before = db.execute("SELECT count(*) FROM history").fetchone()
    db.close()
    listener = sockets.listen(address.parse(str(host.folder / "d.socket")))
    seen = []

    def serve():
        sock, _peer = listener.accept()
        unpacker = msgpack.Unpacker()
        while not seen:
            unpacker.feed(sock.recv(65536))
            seen.extend(forward.decode(message) for message in unpacker)
        sock.sendall(forward.ack(seen[0].chunk))
        sock.recv(1)

    server = threading.Thread(target=serve)
    server.start()
    code, log = host.run("once", "--address", str(host.folder / "d.socket"))
    server.join()
    listener.close()
    assert code == 0, log
    assert before == (0,) and len(seen) == 1 and seen[0].tag == "dcr-1:CTDataSource-Linux:CONFIG_CHANGE_BLOB_V2"
    record = seen[0].entries[0][1]
    assert record["RecordId"] and record["ChangeCategory"] == "Added"
    assert {text.__class__ for text in record.values()} == {str}
