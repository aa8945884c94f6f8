# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ct_inventory_fetch writes to the fleet store, apart from the run on a host."""

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.template import Templar

from ansible_collections.changetracking.inventory.plugins.action import ct_inventory_fetch as fetch
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed import pack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.report import text
from ansible_collections.changetracking.inventory.plugins.plugin_utils._inventory_fetch import fleet as fleet_module
from ansible_collections.changetracking.inventory.plugins.plugin_utils._inventory_fetch import places
from ansible_collections.changetracking.inventory.tests.helpers.child import importing

OK = {"dpkg": {"status": "ok", "count": 1}}
FAILED = {"dpkg": {"status": "failed", "count": 0, "message": "locked"}}
KILLS = int(os.environ.get("CT_STORE_KILLS", "25"))


class Machine:
    """A managed host with a history. `answer` stands in for the module."""

    def __init__(self, name="web01", state="a"):
        self.name = name
        self.state = state * 32
        self.rows = [{"SoftwareName": "a", "CurrentVersion": "1"}]
        self.sources = OK
        self.history = []
        self.restarted = False
        self.asked = None
        self.identity = {"Computer": name, "SourceComputerId": "id of " + name, "VMUUID": None}

    def change(self, *names):
        for name in names:
            record = {"ConfigChangeType": "Software", "SoftwareName": name, "TimeGenerated": "2026-01-01T00:00:00Z"}
            self.history.append(dict(record, RecordId="%s-%d" % (self.state, len(self.history)), Computer=self.name))

    def answer(self, arguments):
        self.asked = arguments
        known = [place for place in arguments["since"] or () if place.startswith(self.state)]
        start = int(known[-1].split(":")[1]) if known else 0
        count = len(self.rows)
        sent = {} if arguments["known"].get("packages") == sha256(self.rows) else {"packages": self.rows}
        if self.sources is FAILED and not self.rows:
            sent = {"packages": []}
        return {
            "packed": pack(sent),
            "inventory": {
                "packages": {"count": count, "sources": self.sources, "collected_at": "2026-01-01T00:00:00Z"}
            },
            "changes": self.history[start:],
            "history": {
                "place": "%s:%d:6f2f0c3c" % (self.state, len(self.history)),
                "path": "/root/s.db",
                "restarted": self.restarted,
            },
            **self.identity,
        }


def sha256(rows):
    return hashlib.sha256(text(rows).encode()).hexdigest()


class Controller:
    def __init__(self, folder, store=None):
        self.folder = folder
        self.store = store
        self.check_mode = False
        self.warned = []

    @property
    def where(self):
        return fleet_module.location(self.store, str(self.folder))

    def fetch(self, machine, raises=None, name=None):
        task = SimpleNamespace(delegate_to=None, check_mode=self.check_mode, diff=False)
        action = fetch.ActionModule(task, None, None, None, Templar(loader=None), None)

        def execute(_name, module_args, task_vars):
            if raises:
                raise raises
            return machine.answer(module_args)

        action._execute_module = execute
        action._display = SimpleNamespace(warning=self.warned.append)
        arguments = {"dest": str(self.folder), "state": "/root/s.db", "kinds": None, "store": self.store}
        variables = {"inventory_hostname": name or machine.name, "ct_direct": "never"}
        return action._fetch_and_note(arguments, variables)

    def ask(self, sql):
        with open_store(self.where) as store:
            return store.query(sql)

    def changes(self):
        return [name for (name,) in self.ask("SELECT SoftwareName FROM ConfigurationChange ORDER BY Seq")]

    def packages(self):
        return self.ask("SELECT Host, SoftwareName, CurrentVersion FROM ConfigurationData ORDER BY 1, 2")

    def file(self, name="Changes.json"):
        return [row["SoftwareName"] for row in json.loads((self.folder / "web01" / name).read_text())]


@pytest.fixture(params=["sqlite", "postgresql"])
def controller(request, tmp_path):
    store = request.getfixturevalue("server").database() if request.param == "postgresql" else None
    return Controller(tmp_path, store)


@pytest.fixture
def machine():
    return Machine()


def test_the_store_has_what_the_host_has_and_every_change_once(controller, machine):
    controller.fetch(machine)
    assert controller.packages() == [("web01", "a", "1")] and controller.changes() == []
    machine.rows = [{"SoftwareName": "a", "CurrentVersion": "2"}, {"SoftwareName": "b", "CurrentVersion": "1"}]
    machine.change("a", "b")
    result = controller.fetch(machine)
    assert controller.packages() == [("web01", "a", "2"), ("web01", "b", "1")]
    assert controller.changes() == controller.file() == ["a", "b"]
    assert "tester" in result["store"] or result["store"] == controller.where
    machine.change("c")
    controller.fetch(machine)
    assert controller.changes() == ["a", "b", "c"] and controller.file() == ["c"]
    assert controller.warned == []


def test_a_kind_that_is_the_same_does_not_travel_and_counts_as_collected(controller, machine):
    for _run in range(2):
        controller.fetch(machine)
    assert machine.asked["known"] == {"packages": sha256(machine.rows)}
    assert controller.packages() == [("web01", "a", "1")]


def test_a_store_that_is_new_gets_everything_that_the_host_keeps(controller, machine):
    machine.change("a", "b")
    controller.fetch(machine)
    machine.change("c")
    other = Controller(controller.folder, str(controller.folder / "other.db"))
    other.fetch(machine)
    assert machine.asked["known"] == {} and machine.asked["since"] == 0
    assert other.changes() == ["a", "b", "c"] and other.packages() == [("web01", "a", "1")]


def test_files_that_are_new_get_everything_and_the_store_has_it_once(controller, machine):
    machine.change("a", "b")
    controller.fetch(machine)
    for name in (places.FILE, "Packages.json"):
        (controller.folder / "web01" / name).unlink()
    controller.fetch(machine)
    assert controller.file() == ["a", "b"] == controller.changes()


def test_a_playbook_that_is_killed_between_store_and_files_loses_nothing(controller, machine, monkeypatch):
    machine.change("a")
    controller.fetch(machine)
    machine.change("b")

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fetch.NewFiles, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            controller.fetch(machine)
    assert controller.changes() == ["a", "b"] and controller.file() == ["a"]
    controller.fetch(machine)
    assert controller.changes() == ["a", "b"] and controller.file() == ["b"]


def test_what_a_killed_playbook_left_is_removed_once_it_is_old(controller, machine):
    controller.fetch(machine)
    folder = controller.folder / "web01"
    names = [
        ".Packages.json." + "0a" * 16,
        ".Changes.json." + "f" * 32,
        ".Files.json." + "1" * 32,
        ".notes.json." + "x" * 32,
    ]
    for name in names:
        (folder / name).write_text("[")
    (folder / names[2]).unlink()
    (folder / names[2]).symlink_to("Packages.json")
    for name in names[0], names[3]:
        os.utime(str(folder / name), (0, 0))
    os.utime(str(folder / names[2]), (0, 0), follow_symlinks=False)
    controller.fetch(machine)
    assert sorted(path.name for path in folder.glob(".*.json.*")) == sorted(names[1:])
    if os.geteuid() == 0:
        os.utime(str(folder / names[1]), (0, 0))
        os.chown(str(folder / names[1]), 54321, 54321)
        controller.fetch(machine)
        assert (folder / names[1]).exists()


def test_check_mode_writes_no_store(controller, machine):
    controller.check_mode = True
    controller.fetch(machine)
    assert os.listdir(str(controller.folder)) == []


def test_no_store_is_written_where_none_is_wanted(tmp_path, machine):
    controller = Controller(tmp_path, "none")
    assert "store" not in controller.fetch(machine)
    assert os.listdir(str(tmp_path)) == ["web01"]


def test_a_host_that_fails_is_noted_and_keeps_what_it_had(controller, machine):
    controller.fetch(machine)
    with pytest.raises(AnsibleConnectionFailure):
        controller.fetch(machine, raises=AnsibleConnectionFailure("no route"))
    assert controller.ask("SELECT name, failure FROM hosts") == [("web01", "unreachable: no route")]
    assert controller.packages() == [("web01", "a", "1")]
    controller.fetch(machine)
    assert controller.ask("SELECT name, failure FROM hosts") == [("web01", None)]


def test_a_source_that_cannot_be_read_takes_nothing_away(controller, machine):
    controller.fetch(machine)
    machine.rows, machine.sources = [], FAILED
    controller.fetch(machine)
    assert controller.packages() == [("web01", "a", "1")]
    ((sources, items),) = controller.ask("SELECT sources, items FROM inventories")
    assert json.loads(sources) == FAILED and items == 1


def test_a_source_that_could_never_be_read_is_there_with_its_reason(controller, machine):
    machine.rows, machine.sources = [], FAILED
    controller.fetch(machine)
    ((sources, items, digest),) = controller.ask("SELECT sources, items, digest FROM inventories")
    assert json.loads(sources) == FAILED and items == 0 and digest is None


def test_a_host_that_was_reinstalled_keeps_its_history(controller, machine):
    machine.change("a")
    controller.fetch(machine)
    again = Machine(state="b")
    again.identity["SourceComputerId"] = "another"
    again.rows = [{"SoftwareName": "z", "CurrentVersion": "1"}]
    again.change("z")
    controller.fetch(again)
    assert controller.packages() == [("web01", "z", "1")] and controller.changes() == ["a", "z"]
    assert any("another machine" in text for text in controller.warned)


def test_a_clone_and_a_host_with_two_names_are_hosts_of_their_own(controller, machine):
    machine.change("a")
    controller.fetch(machine)
    controller.fetch(machine, name="web02")
    assert controller.packages() == [("web01", "a", "1"), ("web02", "a", "1")]
    assert controller.changes() == ["a", "a"]


def test_a_controller_that_is_behind_does_not_undo_what_another_one_stored(controller, machine, tmp_path):
    controller.fetch(machine)
    other = Controller(tmp_path / "other", controller.where)

    def overtaken(arguments):
        before = Machine.answer(machine, arguments)
        machine.rows = [{"SoftwareName": "a", "CurrentVersion": "2"}]
        machine.change("a")
        other.fetch(machine)
        return before

    slow = Machine()
    slow.answer = overtaken
    controller.fetch(slow)
    assert controller.packages() == [("web01", "a", "2")] and controller.changes() == ["a"]


def test_a_state_that_was_restored_from_a_backup_is_followed_again(controller, machine):
    machine.change(*("n%d" % number for number in range(9)))
    controller.fetch(machine)
    machine.history = machine.history[:4]
    machine.rows = [{"SoftwareName": "a", "CurrentVersion": "restored"}]
    machine.restarted = True
    controller.fetch(machine)
    assert controller.packages() == [("web01", "a", "restored")]
    machine.restarted = False
    machine.rows = [{"SoftwareName": "a", "CurrentVersion": "after"}]
    controller.fetch(machine)
    assert controller.packages() == [("web01", "a", "after")]
    assert len(controller.changes()) == 9


def test_a_change_is_stored_once_whenever_the_process_is_killed(controller, machine):
    seed = random.randrange(1 << 32)
    print("seed %d" % seed)
    dice = random.Random(seed)
    started = time.monotonic()
    controller.fetch(machine)
    usual = time.monotonic() - started
    killed = 0
    for number in range(KILLS):
        machine.change("n%d" % number)
        machine.rows = [{"SoftwareName": "a", "CurrentVersion": str(number)}]
        child = os.fork()
        if child == 0:
            try:
                controller.fetch(machine)
            finally:
                os._exit(0)
        time.sleep(dice.random() * usual * 1.5)
        os.kill(child, signal.SIGKILL)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL
    assert controller.fetch(machine).get("failed") is None
    assert controller.changes() == ["n%d" % number for number in range(KILLS)]
    assert controller.packages() == [("web01", "a", str(KILLS - 1))]
    print("%d of %d killed" % (killed, KILLS))


def test_a_host_that_was_restored_from_a_backup_has_the_inventory_that_it_returns(controller, machine, tmp_path):
    controller.fetch(machine)
    backup = Machine()
    for name in "ab":
        machine.rows = [*machine.rows, {"SoftwareName": name * 2, "CurrentVersion": "1"}]
        machine.change(name)
    Controller(tmp_path / "other", controller.where).fetch(machine)
    assert len(controller.packages()) == 3
    for _run in range(2):
        controller.fetch(backup)
        assert controller.packages() == [("web01", "a", "1")] and controller.changes() == ["a", "b"]


def test_a_damaged_store_is_one_sentence_and_writes_nothing(tmp_path, machine):
    controller = Controller(tmp_path)
    machine.change("a")
    controller.fetch(machine)
    files = {path.name: path.read_bytes() for path in (tmp_path / "web01").iterdir()}
    with open(controller.where, "r+b") as file:
        file.write(b"\0" * 8192)
    machine.change("b")
    result = controller.fetch(machine)
    assert result["failed"] and "is corrupt" in result["msg"] and "Move it aside" in result["msg"]
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "web01").iterdir()}
    os.unlink(controller.where)
    controller.fetch(machine)
    assert controller.changes() == ["a", "b"] and controller.packages() == [("web01", "a", "1")]


def test_a_store_in_use_is_one_sentence(tmp_path, machine, monkeypatch):
    controller = Controller(tmp_path)
    controller.fetch(machine)
    monkeypatch.setattr("%s.sqlite.LOCK_SECONDS" % open_store.__module__.rpartition(".")[0], 0.1)
    db = sqlite3.connect(controller.where, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    result = controller.fetch(machine)
    db.close()
    assert result["failed"] and "is in use by another process" in result["msg"]


def test_a_server_that_is_away_is_one_sentence_without_its_password(tmp_path, machine):
    pytest.importorskip("psycopg")
    controller = Controller(tmp_path, "postgresql://me:secret@127.0.0.1:1/fleet")
    result = controller.fetch(machine)
    assert result["failed"] and "Cannot connect to the fleet store 'postgresql://me@127.0.0.1:1/fleet'" in result["msg"]
    assert "secret" not in str(result)


def test_postgresql_without_its_package_says_what_to_install(tmp_path, machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    result = Controller(tmp_path, "postgresql://h/fleet").fetch(machine)
    assert result["failed"] and "pip install 'psycopg[binary]'" in result["msg"]


def test_the_package_for_postgresql_is_loaded_before_the_workers_are_forked():
    """ansible-core loads the action plugin in its main process. For each worker, psycopg would take longer than all else."""
    pytest.importorskip("psycopg")
    code = "import sys, %s; sys.exit('psycopg' not in sys.modules)" % fetch.__name__
    subprocess.run([sys.executable, "-c", code], env=importing(), check=True)


@pytest.mark.parametrize("days", [0, -1, 10**9])
def test_a_time_to_keep_that_is_none_is_refused(days):
    assert "keep_days" in fetch._problem("inventory", days)
