# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded of a task, and how records survive their way into the fleet store."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.callback.run_log import CallbackModule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.identities import read_names
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.run_store import read_tasks, store_spool
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.runs import (
    Run,
    Task,
    from_line,
    measured,
    narrowed,
    to_line,
)
from ansible_collections.changetracking.inventory.plugins.plugin_utils._run_log import named as naming
from ansible_collections.changetracking.inventory.plugins.plugin_utils._run_log.named import named
from ansible_collections.changetracking.inventory.plugins.plugin_utils._run_log.transactions import packages
from ansible_collections.changetracking.inventory.plugins.plugin_utils._spool import Spool

pytestmark = pytest.mark.no_core

BUILTIN = "ansible.builtin."
APT = """Reading package lists...
The following NEW packages will be installed:
  web weblib
Get:1 file:/srv ./ weblib 2.0 [828 B]
Preparing to unpack .../weblib_2.0_all.deb ...\r
Unpacking weblib:amd64 (1:2.0~rc1-1) over (1.0) ...\r
(Reading database ... \r(Reading database ... 100%\rRemoving old (1.0) ...\r
Purging configuration files for old (1.0) ...\r
Setting up weblib:amd64 (1:2.0~rc1-1) ...\r
Setting up web (1.0+b2) ...\r
"""
DNF = [
    "Installed: openssl-libs-1:3.0.7-28.el9_4.x86_64",
    "Removed: openssl-libs-1:3.0.7-27.el9.x86_64",
    "Installed: name+plus.dot-1.0^git-1.el9.noarch",
    "Removed: plain07-1.0-3.el9.x86_64",
]


def test_the_packages_that_apt_names():
    assert packages({"stdout": APT}) == ({"weblib": "1:2.0~rc1-1", "web": "1.0+b2"}, {"old": "1.0"}, [])
    assert packages({"stdout": "Removing old (1.0) ...\nPurging configuration files for gone (1.0) ..."}) == (
        {},
        {"old": "1.0"},
        ["old"],
    )


def test_the_packages_that_dnf_names():
    installed = {"openssl-libs": "1:3.0.7-28.el9_4", "name+plus.dot": "0:1.0^git-1.el9"}
    assert packages({"results": DNF}) == (installed, {"plain07": "0:1.0-3.el9"}, [])


@pytest.mark.parametrize(
    "result", [{}, {"stdout": "Nothing to do"}, {"stdout": 3, "results": {}}, {"results": [None, 1]}]
)
def test_a_result_that_names_no_packages(result):
    assert packages(result) is None


def test_nothing_is_recorded_but_what_is_listed():
    arguments = {
        "dest": "/etc/../etc/app.conf", "content": "secret", "validate": "secret %s", "mode": "0600", "src": "/home/me/secret",
        "owner": "root", "_raw_params": "secret", "cmd": "secret", "line": "secret", "password": "secret",
    }  # fmt: skip
    result = {
        "dest": "/etc/app.conf", "state": "file", "size": 6, "mode": "0600", "owner": "root", "group": "adm", "diff": "secret",
        "msg": "secret", "stdout": "secret", "checksum": "secret", "invocation": {"module_args": {"path": "/secret"}},
    }  # fmt: skip
    found = named(BUILTIN + "copy", arguments, result)
    left = {"path": "/etc/app.conf", "size": 6, "mode": "0600", "owner": "root", "group": "adm"}
    assert found == {"paths": ["/etc/app.conf"], "left": left, "asked": {"owner": "root", "mode": "0600"}}


def test_what_tasks_of_other_kinds_name():
    assert named(BUILTIN + "apt", {"name": "a, b", "state": "latest"}, {}) == {"names": ["a", "b"], "state": "latest"}
    status = {"Id": "sshd.service", "ActiveState": "active", "UnitFileState": "disabled", "Environment": "secret"}
    assert named(BUILTIN + "systemd", {"name": "ssh", "enabled": True}, {"status": status}) == {
        "names": ["ssh", "sshd.service"],
        "enabled": True,
        "was": {"active": "active", "unit_file": "disabled"},
    }
    assert named(BUILTIN + "unarchive", {"dest": "/srv"}, {"state": "directory"}) == {
        "paths": ["/srv"],
        "below": ["/srv"],
    }
    assert named(BUILTIN + "copy", {"dest": "/srv/a/"}, {"dest": "/srv/a/"})["below"] == ["/srv/a"]  # a folder
    assert named(BUILTIN + "file", {"path": "/srv/a", "state": "absent"}, {})["below"] == ["/srv/a"]
    assert named(BUILTIN + "file", {"path": "/srv/a", "recurse": True, "mode": 0o640}, {}) == {
        "paths": ["/srv/a"],
        "below": ["/srv/a"],
        "asked": {"mode": "0640"},
    }
    assert "below" not in named(BUILTIN + "file", {"path": "/srv/a"}, {})
    assert named(BUILTIN + "cron", {"cron_file": "job"}, {})["paths"] == ["/etc/cron.d/job"]
    assert named(BUILTIN + "user", {"name": "bob"}, {"home": "/home/bob"})["below"] == ["/home/bob"]
    assert named(BUILTIN + "command", {"creates": "/etc/x", "cmd": "secret"}, {"stdout": "/etc/y"}) == {
        "paths": ["/etc/x"]
    }


def test_an_address_is_not_recorded_because_it_may_have_a_password():
    for name in ("https://me:secret@example.org/a.rpm", "a, https://me:sec,ret@example.org/a.rpm?key=secret"):
        assert named(BUILTIN + "dnf", {"name": [name, "b"]}, {}) == {"names": ["b"]}
    assert named(BUILTIN + "apt", {"deb": "https://example.org/a.deb?key=secret"}, {}) == {}


def test_long_lists_are_cut_and_that_is_recorded(monkeypatch):
    monkeypatch.setattr(naming, "MAX_NAMES", 3)
    assert named(BUILTIN + "apt", {"name": list("abcde")}, {}) == {"names": list("abc"), "cut": 2}
    monkeypatch.setattr(naming, "MAX_CHARACTERS", 10)
    assert named(BUILTIN + "apt", {"name": ["abcde", "fghij", "k"]}, {}) == {"names": ["abcde", "fghij"], "cut": 1}


def test_one_host_leaves_room_for_the_records_of_the_others(tmp_path):
    """A host that returns as many long names as are recorded, in one task after the other."""
    said = []
    callback = CallbackModule()
    callback._spool = Spool(str(tmp_path / "spool"), 4 << 20, said.append)
    paths = ["/%04d" % number + "x" * 4000 for number in range(5000)]
    greedy = named(BUILTIN + "copy", {}, {"sources_added": paths})
    for number in range(100):
        callback._write(Task("r", number, "greedy", "", "", BUILTIN + "copy", 1.0, 2.0, named=greedy))
    assert set(said) == {said[0]} and said[0].startswith("greedy needs more than a quarter of the free space")
    callback._write(Run("r", "p", "u", "c", False, 1.0))
    callback._write(Task("r", 100, "web01", "", "", BUILTIN + "copy", 1.0, 2.0))
    (file,) = callback._spool.own()
    assert [from_line(line) for _offset, line in file.lines()][-1].host == "web01"
    assert len(said) + len(list(file.lines())) == 102
    assert named(BUILTIN + "copy", {"dest": "/" + "x" * 5000}, {}) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [
        "path",
        "dest",
        "name",
        "state",
        "enabled",
        "recurse",
        "stdout",
        "results",
        "status",
        "home",
        "size",
        "mode",
        "owner",
        "group",
        "sources_added",
    ]
)


@given(
    st.sampled_from(["copy", "apt", "systemd", "user", "unarchive", "x.y.z"]),
    st.dictionaries(KEYS, JSON),
    st.dictionaries(KEYS, JSON),
)
def test_whatever_a_host_returns_becomes_one_line(module, arguments, result):
    task = Task("u", 1, "h", "p", "t", module, 1.0, 2.0, named=named(module, arguments, result), clock=(-1.0, 1.0))
    line = to_line(task)
    assert line.count(b"\n") == 1
    assert from_line(line) == task


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"1", b'{"task": {}}', b'{"run": {"uuid": 1}}', b'{"task": 1, "run": 2}', b'{"x": {}}']
)
def test_a_line_that_is_no_record(line):
    with pytest.raises(ValueError):
        from_line(line)


def test_a_clock_is_as_exact_as_the_task_was_short():
    assert measured(100.0, 102.0, 161.0) == (59.0, 61.0)
    assert measured(100.0, 102.0, 161, resolution=1.0) == (59.0, 62.0)
    assert narrowed((59.0, 61.0), (60.5, 64.0)) == (60.5, 61.0)
    assert narrowed((59.0, 61.0), (0.0, 1.0)) == (0.0, 1.0)  # the clock was set


RUN = Run("uuid-1", "site.yml", "alice", "control", False, 1_700_000_000.5)
TASK = Task(
    "uuid-1",
    1,
    "web01",
    "Play",
    "Task",
    BUILTIN + "copy",
    1_700_000_001.25,
    1_700_000_002.5,
    "failed",
    {"paths": ["/a"]},
    (-2.0, 4.0),
    True,
)


def spooled(folder, *records):
    spool = Spool(str(folder), 1 << 20, pytest.fail)
    for record in records:
        spool.append(record if isinstance(record, bytes) else to_line(record), 1)
    return spool


def test_records_reach_the_store_once(tmp_path):
    end = RUN._replace(ended_at=1_700_000_009.0, hosts={"web01": {"clock": [-2.0, 4.0]}})
    with open_store(str(tmp_path / "fleet.db"), write=True) as store:
        for _attempt in range(2):  # killed before the spool was cleared
            store_spool(spooled(tmp_path / "spool", RUN, TASK, b"damaged\n", end), store)
        assert list(read_tasks(store)) == list(read_tasks(store, ["web01"])) == [TASK]
        assert list(read_tasks(store, ["web02"])) == list(read_tasks(store, since=1_700_000_004.0)) == []
        ((uuid, started, ended, details),) = store.query("SELECT uuid, started_at, ended_at, details FROM runs")
        assert (uuid, started, ended) == ("uuid-1", "2023-11-14T22:13:20Z", "2023-11-14T22:13:29Z")
        assert json.loads(details) == {"hosts": end.hosts}
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_a_run_learnt_of_hosts_is_stored_and_kept_as_long_as_the_run(tmp_path):
    def end(number, **identities):
        hosts = {name: {"identity": identity} if identity else {} for name, identity in identities.items()}
        return RUN._replace(uuid="uuid-%d" % number, ended_at=1.7e9 + number, hosts=hosts)

    with open_store(str(tmp_path / "fleet.db"), write=True) as store:
        store_spool(
            spooled(tmp_path / "spool", end(1, web01="a", web02="b"), end(2, web01="c", web02="", web03="d")), store
        )
        sql = "SELECT i.name, i.SourceComputerId, r.uuid FROM identities i JOIN runs r ON r.run = i.run ORDER BY 1"
        assert store.query(sql) == [("web01", "c", "uuid-2"), ("web02", "b", "uuid-1"), ("web03", "d", "uuid-2")]
        with store.writing() as transaction:
            host = transaction.host("relay", "own", "", {"SourceComputerId": "c"}).host
            change = {"RecordId": "r-1", "TimeGenerated": "2024-12-01T00:00:00Z", "ConfigChangeType": "Files"}
            transaction.add_changes(host, "", [change])
        assert read_names(store).inventory == {"own": "web01"}
        store_spool(spooled(tmp_path / "spool", RUN._replace(uuid="uuid-3", ended_at=time.time())), store)
        assert store.query(sql) == [("web02", "b", "uuid-1")]  # the first run is kept


def test_a_task_before_the_host_returned_its_time_gets_its_clock_and_its_accuracy(tmp_path):
    end = RUN._replace(ended_at=1_700_000_009.0, hosts={"web01": {"clock": [-2.0, 4.0]}})
    with open_store(str(tmp_path / "fleet.db"), write=True) as store:
        store_spool(spooled(tmp_path / "spool", RUN, TASK._replace(clock=None), end), store)
        assert list(read_tasks(store)) == [TASK]


def test_a_task_of_a_run_without_the_time_of_its_host_gets_the_clock_of_another_run_of_the_controller(tmp_path):
    def ran(number, clock=None, controller=RUN.controller, host=TASK.host):
        uuid, at = "uuid-%d" % number, 1.7e9 + 1000 * number
        task = TASK._replace(run=uuid, host=host, started_at=at + 1, ended_at=at + 2, clock=clock)
        return RUN._replace(uuid=uuid, controller=controller, started_at=at, ended_at=at + 3), task

    behind, correct = (-7201.0, -7199.0), (-1.0, 1.0)
    runs = [ran(1), ran(2, behind), ran(3, (7000.0, 7100.0), "elsewhere"), ran(4), ran(5, correct), ran(6)]
    runs += [ran(7, None, "elsewhere"), ran(8, None, "a third"), ran(9, None, RUN.controller, "web02")]
    with open_store(str(tmp_path / "fleet.db"), write=True) as store:
        store_spool(spooled(tmp_path / "spool", *[record for pair in runs for record in pair]), store)
        clocks = {task.run[-1]: task.clock for task in read_tasks(store)}
    assert [clocks[str(number)] for number in (1, 2, 4)] == [behind] * 3
    assert [clocks[str(number)] for number in (5, 6)] == [correct] * 2
    assert [clocks[str(number)] for number in (3, 7, 8, 9)] == [(7000.0, 7100.0), (7000.0, 7100.0), None, None]


def test_runs_that_can_explain_no_kept_change_are_deleted(tmp_path):
    with open_store(str(tmp_path / "fleet.db"), write=True) as store:
        with store.writing() as transaction:
            host = transaction.host("playbook", "web01", "", {}).host
            change = {"RecordId": "r-1", "TimeGenerated": "2023-12-01T00:00:00Z", "ConfigChangeType": "Files"}
            transaction.add_changes(host, "", [change])
        old = [RUN._replace(uuid="old", ended_at=1.7e9), TASK._replace(run="old", ended_at=1.69e9)]
        store_spool(spooled(tmp_path / "spool", RUN, TASK, *old), store)
        assert [task.run for task in read_tasks(store)] == ["uuid-1"]


def test_the_first_run_is_kept_because_it_says_since_when_runs_are_recorded(tmp_path):
    with open_store(str(tmp_path / "fleet.db"), write=True) as store:
        with store.writing() as transaction:
            host = transaction.host("playbook", "web01", "", {}).host
            change = {"RecordId": "r-1", "TimeGenerated": "2023-12-01T00:00:00Z", "ConfigChangeType": "Files"}
            transaction.add_changes(host, "", [change])
        old = [RUN._replace(uuid=name, started_at=1.6e9, ended_at=1.6e9) for name in ("first", "second")]
        store_spool(spooled(tmp_path / "spool", *old, RUN), store)
        assert store.query("SELECT uuid FROM runs ORDER BY run") == [("first",), ("uuid-1",)]


def test_runs_are_kept_for_the_changes_of_a_host_whose_clock_is_a_year_ahead(tmp_path):
    with open_store(str(tmp_path / "fleet.db"), write=True) as store:
        now = time.time()
        found = now + 365 * 86400
        with store.writing() as transaction:
            host = transaction.host("playbook", "web01", "", {}).host
            change = {"RecordId": "r-1", "TimeGenerated": timestamp(found), "ConfigChangeType": "Files"}
            transaction.add_changes(host, "", [change])
        clock = (found - now - 1, found - now + 1)
        ran = TASK._replace(started_at=now - 60, ended_at=now - 58, clock=clock)
        store_spool(spooled(tmp_path / "spool", RUN._replace(started_at=now - 61, ended_at=now - 57), ran), store)
        assert list(read_tasks(store, ["web01"], found - 3600)) == [ran]
