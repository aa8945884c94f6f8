# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a run starts because something may have changed, and what it is told."""

import os
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import SourceFailed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import scan
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.partial import Named
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.realtime import (
    inotify,
    news,
    packages,
    services,
    signals,
    waker,
)
from ansible_collections.changetracking.inventory.tests.helpers import buses

PATIENCE = 60


class Driven:
    """A waker without a thread, whose clock goes only when the test says so."""

    def __init__(self, folder, kinds=("files",), **options):
        self.now = 1000.0
        self.folder = folder
        self.woken, self.logged, self.warned, self.published = [], [], [], []
        (folder / "root").mkdir()
        (folder / "tracked").mkdir()
        self.rules = [FileRule("r", str(folder / "tracked") + "/")]
        self.waker = waker.Waker(
            self.woken.append, self.logged.append, self.warned.append, self.published.append,
            root=str(folder / "root"), clock=lambda: self.now, **options
        )  # fmt: skip
        self.waker.enable(kinds)

    def run(self, kind="files", woken=False, changed=(), seconds=0.0, meanwhile=lambda: None):
        """A run; returns where it looked."""
        named = self.waker.begin(kind, [rule.path for rule in self.rules], woken)
        if kind == "files":
            for _part in scan.Scan(self.rules, Known(), watch=self.waker.watch):
                pass
        meanwhile()
        self.now += seconds
        self.waker.end(kind, [str(path) for path in changed], named)
        return named

    def path(self, *names):
        return str(self.folder.joinpath("tracked", *names))

    def write(self, *names):
        with open(self.path(*names), "w") as file:
            file.write("text")
        return self.path(*names)

    def read(self):
        """Read the events, as the thread does."""
        for kind in ("files", "packages", "services"):
            while self.waker._read(kind):
                pass

    def change(self, *names):
        """Write a file, and read the events of that."""
        self.write(*names)
        self.read()

    def after(self, seconds):
        """Which runs were started since the last call, up to so many seconds from now."""
        del self.woken[:]
        end = self.now + seconds
        while True:
            wait = self.waker._start_due()
            if self.now + wait > end or self.woken:
                break
            self.now += wait
        if not self.woken:
            self.now = end
        return list(self.woken)

    def report(self, kind="files"):
        return self.waker.report()[kind]


@pytest.fixture
def driven(tmp_path):
    made = []

    def make(*arguments, **options):
        made.append(Driven(tmp_path, *arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.waker._services.close()


def test_a_change_starts_a_run_after_a_moment_of_quiet_which_looks_there(driven):
    host = driven()
    assert host.run() is None
    host.change("file")
    assert host.after(waker.QUIET_SECONDS / 2) == []
    host.change("file")
    host.now += waker.RUN_SECONDS
    assert host.after(waker.QUIET_SECONDS) == ["files"]
    assert host.after(100) == []  # once
    assert host.run(woken=True, changed=[host.path("file")]) == Named(frozenset([host.path()]), frozenset())
    assert (host.report()["Changes"], host.report()["Missed"]) == (1, 0)
    assert host.after(1000) == []


def test_a_burst_without_an_end_becomes_a_run_all_the_same(driven):
    host = driven()
    host.run()
    host.now += 100
    start = host.now
    while not host.after(waker.QUIET_SECONDS / 2):
        host.change("file")
    assert host.now - start <= waker.BURST_SECONDS + waker.QUIET_SECONDS


def test_no_event_before_the_first_run_starts_one(driven):
    host = driven()
    assert host.run() is None
    host.write("file")
    other = waker.Waker(
        host.woken.append, host.logged.append, host.warned.append, host.published.append, clock=lambda: 0.0
    )
    other.enable(["files"])
    assert other._start_due() > 0 and not host.woken


def test_a_change_during_a_run_is_in_the_next_one(driven):
    host = driven()
    host.run(meanwhile=lambda: host.write("late"))
    assert host.after(10) == ["files"]
    named = host.run(woken=True, changed=[host.path("late")], meanwhile=lambda: host.write("later"))
    assert named == Named(frozenset([host.path()]), frozenset())
    assert host.after(10) == ["files"]
    assert host.run(woken=True).folders == {host.path()}


def test_a_run_that_failed_leaves_what_it_was_told_to_the_next_one(driven):
    host = driven()
    os.mkdir(host.path("a"))
    os.mkdir(host.path("b"))
    host.run()
    host.change("a", "file")
    assert host.waker.begin("files", [rule.path for rule in host.rules], True).folders == {host.path("a")}
    host.change("b", "file")
    assert host.after(1000) == []  # it has not ended
    assert host.run(woken=True).folders == {host.path("a"), host.path("b")}


def test_a_run_that_failed_is_tried_again_without_another_event_and_ever_less_often(driven):
    host = driven()
    host.run()
    host.change("file")
    assert host.after(5) == ["files"]
    paths = [rule.path for rule in host.rules]
    pauses = []
    for number in range(8):
        if number % 2:  # it may fail before it begins
            assert host.waker.begin("files", paths, True).folders == {host.path()}
        host.waker.fail("files")
        began = host.now
        assert host.after(1000) == ["files"]
        pauses.append(host.now - began)
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]
    assert host.run(woken=True).folders == {host.path()}
    assert host.after(1000) == []
    host.change("file")
    assert host.after(5) == ["files"]


def test_the_first_run_is_tried_again_if_it_fails(driven):
    host = driven()
    pauses = []
    for number in range(3):
        host.waker.begin("files", [rule.path for rule in host.rules], bool(number))
        host.write("file")
        host.waker.fail("files")
        began = host.now
        assert host.after(1000) == ["files"]
        pauses.append(host.now - began)
    assert pauses == [10, 20, 40]
    assert host.run(woken=True, changed=[host.path("file")]) is None
    assert host.report()["Missed"] == 0
    assert host.after(1000) == []
    host.change("file")
    assert host.after(5) == ["files"]


def test_a_failed_run_that_nothing_had_announced_is_left_to_the_schedule(driven):
    host = driven()
    host.run()
    host.waker.begin("files", [rule.path for rule in host.rules], False)
    host.waker.fail("files")
    host.waker.fail("delivery")
    assert host.after(1000) == []
    host.change("file")
    assert host.after(1000) == ["files"]


def test_a_run_that_is_asked_for_looks_everywhere(driven):
    host = driven()
    host.waker.ask("packages", "not enabled")
    host.run()
    host.waker.ask("files", "the rule")
    assert host.after(5) == ["files"]
    assert host.run(woken=True) is None
    assert host.after(1000) == []


def test_a_scheduled_run_and_one_by_another_rule_look_everywhere(driven):
    host = driven()
    host.run()
    host.change("file")
    assert host.run(woken=False) is None
    host.write("file")
    host.rules = [*host.rules, FileRule("other", str(host.folder / "other"))]
    assert host.run(woken=True) is None
    host.change("file")
    assert host.run(woken=True).folders == {host.path()}


def test_woken_runs_take_a_tenth_of_the_time_at_most(driven):
    host = driven()
    host.run()
    host.change("file")
    assert host.after(10) == ["files"]
    host.run(woken=True, seconds=waker.SAVED_SECONDS + 1)
    for wait in (10, 45, 45):  # a second more than what was saved; then each run of five seconds
        ended = host.now
        host.change("file")
        assert host.after(wait - 1) == []
        assert host.after(2) == ["files"] and host.now == pytest.approx(ended + wait)
        host.run(woken=True, seconds=5)


def test_runs_of_a_host_that_seldom_changes_follow_each_other_at_once(driven):
    host = driven()
    host.run()
    for _unused in range(2):
        for _run in range(3):
            started = host.now
            host.change("file")
            assert host.after(10) == ["files"] and host.now <= started + waker.RUN_SECONDS
            host.run(woken=True, seconds=waker.SAVED_SECONDS / 4)
        host.now += 10 * waker.SAVED_SECONDS


def test_an_item_that_changes_all_the_time_is_left_to_the_schedule(driven):
    host = driven()
    os.mkdir(host.path("calm"))
    host.run()
    for _unused in range(news.FLAPPING_WAKES + 1):
        host.change("busy\nfile")
        assert host.after(10) == ["files"]
        host.run(woken=True, changed=[host.path("busy\nfile")])
    assert host.report()["Flapping"] == [host.path("busy\\x0afile")]
    assert len(host.logged) == 1 and "left to the schedule" in host.logged[0] and "\n" not in host.logged[0]
    host.change("busy\nfile")
    assert host.after(1000) == []
    host.change("calm", "file")
    assert host.after(1000) == ["files"]
    assert host.run(woken=True).folders == {host.path("calm")}
    host.write("busy\nfile")
    assert host.run(changed=[host.path("busy\nfile")]) is None
    assert host.report()["Flapping"] == [] and host.report()["Missed"] == 0
    host.change("busy\nfile")
    assert host.after(1000) == ["files"]


def test_a_flood_does_not_mute_what_it_hides(driven, monkeypatch):
    host = driven()
    host.run()
    lost = inotify.Event(-1, inotify.OVERFLOW, "")
    real = inotify.Inotify.read
    for _unused in range(2 * news.FLAPPING_WAKES):
        with monkeypatch.context() as patch:
            patch.setattr(inotify.Inotify, "read", lambda *unused: iter([lost]))
            host.waker._read("files")
        assert host.after(10) == ["files"]
        assert host.run(woken=True) is None
    assert host.report()["Flapping"] == [] and inotify.Inotify.read is real


def test_items_that_flap_are_bounded_and_few_are_logged(driven, monkeypatch):
    monkeypatch.setattr(news, "MOST_FLAPPING", 30)
    host = driven()
    os.mkdir(host.path("calm"))
    host.run()
    for number in range(2):
        for _unused in range(news.FLAPPING_WAKES + 1):
            for name in range(25):
                host.change("%d-%d" % (number, name))
            assert host.after(10) == ["files"]
            host.run(woken=True)
    assert len(host.waker._kinds["files"].flapping.items) == 30
    assert len(host.logged) == 20 + 1 + 5 and host.logged[20].startswith("files: 5 more")


def test_an_item_that_changes_now_and_then_does_not_flap(driven):
    host = driven()
    host.run()
    for _unused in range(5 * news.FLAPPING_WAKES):
        host.change("file")
        assert host.after(10) == ["files"]
        host.run(woken=True)
        host.now += news.FLAPPING_SECONDS / news.FLAPPING_WAKES
    assert host.report()["Flapping"] == []


def test_what_only_the_schedule_finds_is_counted_and_logged_but_not_in_the_first_run(driven):
    host = driven()
    host.run(changed=["/a", "/b"])
    assert (host.report()["Changes"], host.report()["Missed"]) == (0, 0)
    host.write("announced")
    host.run(changed=["/a", "/b", host.path("announced")])
    assert (host.report()["Changes"], host.report()["Missed"]) == (1, 2)
    assert host.logged == ["files: the scheduled run found 2 changes that no event had announced."]


def test_a_tree_that_was_announced_announces_all_below(driven):
    host = driven()
    host.run()
    os.makedirs(host.path("a", "b"))
    host.run(changed=[host.write("a", "b", "file"), host.path("a")])
    assert (host.report()["Changes"], host.report()["Missed"]) == (2, 0)


def test_a_kind_that_is_switched_off_is_no_longer_watched_nor_reported(driven):
    host = driven()
    host.run()
    assert host.report()["Watches"] == 1 and host.report()["By"] == "inotify"
    host.waker.enable([])
    assert host.waker.report() == {} and host.waker._files.count == 0
    assert host.waker.begin("files", [], False) is None
    host.waker.enable(["files", "a kind of somebody else's"])
    host.run()
    assert list(host.waker.report()) == ["files"]
    host.waker.begin("a kind of somebody else's", [], False)
    host.waker.end("a kind of somebody else's", [], None)


@pytest.mark.parametrize("where", ["watch", "read", "begin", "end"])
def test_a_defect_ends_the_waking_with_a_sentence_and_nothing_else(driven, monkeypatch, where):
    host = driven()
    host.run()

    def fail(*_arguments):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(host.waker._files, where, fail)
    host.write("file")
    if where == "read":
        host.waker.start()
        host.waker._thread.join(PATIENCE)
        assert not host.waker._thread.is_alive()
    else:
        host.run(woken=True)
    report = host.report()
    assert report["By"] == "" and "Changes are found by the schedule alone" in report["Why"]
    assert host.published[-1]["files"] == report and len(host.warned) == 1
    assert host.run(woken=True) is None and host.waker.watch is None


def test_without_inotify_it_is_said_and_the_schedule_goes_on(driven, monkeypatch):
    def refuse(_self):
        raise inotify.Unavailable("This Python cannot load ctypes (no module).")

    monkeypatch.setattr(inotify.Inotify, "__init__", refuse)
    host = driven(["files", "packages", "services"])
    for kind in ("files", "packages", "services"):
        assert host.run(kind) is None
        assert host.report(kind)["By"] == "" and "ctypes" in host.report(kind)["Why"]
    assert host.waker.watch is None


def test_the_thread_wakes_by_itself_and_ends(driven):
    host = driven()
    woken = threading.Event()
    host.waker._wake = lambda _kind: woken.set()
    host.waker._clock = time.monotonic
    host.run()
    host.waker.start()
    host.write("file")
    assert woken.wait(PATIENCE)
    host.waker.stop()
    host.waker._thread.join(PATIENCE)
    assert not host.waker._thread.is_alive()
    assert host.published[0]["files"]["By"] == "inotify"


# --- packages


@pytest.fixture
def dpkg(tmp_path):
    folder = tmp_path / "root/var/lib/dpkg"

    class Dpkg:
        def make(self):
            folder.mkdir(parents=True)
            for name in ("status", "lock", "lock-frontend"):
                (folder / name).write_text("")

        def change(self, text="new"):
            (folder / "status-new").write_text(text)
            os.rename(str(folder / "status-new"), str(folder / "status"))

        def lock(self, name="lock-frontend"):
            """In a process of its own: locks of this one do not count for it."""
            code = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"
            process = subprocess.Popen(
                [sys.executable, "-c", code, str(folder / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert process.stdout.readline()
            return process

    return Dpkg()


def unlock(process):
    process.communicate()


def test_packages_are_looked_at_when_the_transaction_has_ended(driven, dpkg):
    host = driven(["packages"])
    dpkg.make()
    host.run("packages")
    assert host.report("packages")["By"] == "inotify"
    process = dpkg.lock()
    try:
        dpkg.change()
        host.read()
        assert host.after(10) == []
    finally:
        unlock(process)
    assert host.after(1) == ["packages"]
    assert host.run("packages", woken=True, changed=["vim"]) is None
    assert host.report("packages")["Changes"] == 1


def test_what_dpkg_has_done_before_it_died_starts_a_run(driven, dpkg, tmp_path):
    host = driven(["packages"])
    dpkg.make()
    journal = tmp_path / "root/var/lib/dpkg/updates"
    journal.mkdir()
    (journal / "0001").write_text("left by one before")
    host.run("packages")
    assert host.report("packages")["Watches"] == 1  # of databases
    (journal / "tmp.i").write_text("Package: vim")
    host.read()
    assert host.after(100) == []
    process = dpkg.lock("lock")
    try:
        os.rename(str(journal / "tmp.i"), str(journal / "0002"))
        host.read()
        assert host.after(10) == []
    finally:
        unlock(process)
    assert host.after(1) == ["packages"]
    host.run("packages", woken=True)
    os.unlink(str(journal / "0002"))  # as the next dpkg does, which rewrites `status` as well
    host.read()
    assert host.after(100) == []


def test_packages_do_not_wait_for_ever_for_a_transaction(driven, dpkg):
    host = driven(["packages"])
    dpkg.make()
    host.run("packages")
    process = dpkg.lock("lock")
    try:
        dpkg.change()
        host.read()
        start = host.now
        assert host.after(1000) == ["packages"]
        assert waker.TRANSACTION_SECONDS <= host.now - start <= waker.TRANSACTION_SECONDS + 1
    finally:
        unlock(process)


def test_other_files_and_readers_of_a_database_start_no_run(driven, dpkg, tmp_path):
    host = driven(["packages"])
    dpkg.make()
    rpm = tmp_path / "root/var/lib/rpm"
    rpm.mkdir()
    (rpm / "rpmdb.sqlite").write_text("database")
    host.run("packages")
    (tmp_path / "root/var/lib/dpkg/available").write_text("x")
    (rpm / "rpmdb.sqlite-wal").write_text("")  # as SQLite does for a reader
    os.unlink(str(rpm / "rpmdb.sqlite-wal"))
    host.read()
    assert host.after(100) == []
    (rpm / "rpmdb.sqlite-wal").write_text("a transaction")
    host.read()
    assert host.after(100) == ["packages"]


@pytest.mark.parametrize("kind", ["files", "packages", "services"])
def test_a_kind_is_reported_from_the_end_of_its_first_run_on(driven, dpkg, kind):
    host = driven([kind])
    assert host.waker.report() == {}
    host.waker.begin(kind, [], False)
    assert host.waker.report() == {}
    host.waker.end(kind, [], None)
    assert list(host.waker.report()) == [kind]


def test_a_host_without_packages_says_so_until_there_are_some(driven, dpkg):
    host = driven(["packages"])
    host.run("packages")
    assert host.report("packages")["By"] == "" and "no directory" in host.report("packages")["Why"]
    dpkg.make()
    host.run("packages")
    assert host.report("packages")["By"] == "inotify"
    assert packages.PackageWatches(str(host.folder / "nowhere")).count == 0


# --- services


def signal_message(path, interface, member, signature, *values):
    fields = b""
    for code, kind, text in ((1, "o", path), (2, "s", interface), (3, "s", member), (8, "g", signature)):
        fields += b"\0" * (-len(fields) % 8) + struct.pack("<BBBB", code, 1, ord(kind), 0)
        fields += (
            (struct.pack("<B", len(text)) if kind == "g" else struct.pack("<I", len(text))) + text.encode() + b"\0"
        )
    body = bytearray()
    for kind, value in zip(buses.split(signature), values):
        buses.put(body, "<", kind, value)
    head = struct.pack("<cBBBIII", b"l", 4, 1, 1, len(body), 1, len(fields)) + fields
    return head + b"\0" * (-len(head) % 8) + bytes(body)


MANAGER = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


def properties(path, active, sub):
    held = [("ActiveState", ("s", active)), ("SubState", ("s", sub))]
    return signal_message(
        "/org/freedesktop/systemd1/unit/" + path, "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as",
        "org.freedesktop.systemd1.Unit", held, [],
    )  # fmt: skip


class Connected(signals.Signals):
    """A connection to the test, without the greeting."""

    def __init__(self, end):
        self._socket, self._path, self._received, self._states = end, "test", bytearray(), {}
        end.setblocking(False)


@pytest.fixture
def connection():
    mine, others = socket.socketpair()
    yield Connected(mine), others
    mine.close()
    others.close()


def test_signals_name_the_units_that_may_have_changed(connection):
    mine, systemd = connection
    sent = [
        signal_message(*MANAGER, "UnitNew", "so", "cron.service", "/u"),
        signal_message(*MANAGER, "UnitRemoved", "so", "cron.service", "/u"),
        signal_message(*MANAGER, "JobRemoved", "uoss", 1, "/j", "session-1.scope", "done"),
        signal_message(*MANAGER, "JobRemoved", "uoss", 1, "/j", "user@0.service", "done"),
        signal_message(*MANAGER, "JobRemoved", "uoss", 1, "/j", "x.timer", "done"),
        signal_message(*MANAGER, "Reloading", "b", False),
        signal_message(*MANAGER, "StartupFinished", "t", 1),
        properties("a_2db_2eservice", "active", "running"),
        properties("a_2db_2eservice", "active", "running"),
        properties("a_2db_2eservice", "inactive", "dead"),
        properties("dev_2dsda_2edevice", "active", "plugged"),
    ]
    systemd.sendall(b"".join(sent)[:-5])
    assert list(mine.units()) == ["x.timer", "systemd", "a-b.service", "a-b.service"]
    systemd.sendall(sent[-1][-5:])
    assert list(mine.units()) == [] == list(mine.units())


@pytest.mark.parametrize(
    "data",
    [b"x" * 64, signal_message(*MANAGER, "JobRemoved", "s", "alone"), properties("_zz_2eservice", "a", "b"), b""],
)
def test_a_peer_that_sends_nonsense_or_ends_is_an_error_of_the_source(connection, data):
    mine, systemd = connection
    systemd.sendall(data)
    if not data:
        systemd.close()
    with pytest.raises(SourceFailed):
        list(mine.units())


def test_a_signal_starts_a_run_and_a_lost_connection_one_when_it_is_back(driven, monkeypatch):
    ends = []

    def connect(_root):
        mine, systemd = socket.socketpair()
        ends.append(systemd)
        return Connected(mine)

    monkeypatch.setattr(services, "Signals", connect)
    host = driven(["services"])
    host.after(0)
    host.run("services")
    host.after(10)
    host.run("services", woken=True)
    assert host.report("services")["By"] == "inotify, D-Bus" and host.report("services")["Why"] == ""
    assert host.after(1000) == []
    ends[0].sendall(properties("cron_2eservice", "active", "running"))
    host.read()
    assert host.after(100) == ["services"]
    host.run("services", woken=True, changed=["cron"])
    assert host.report("services")["Changes"] == 1
    ends[0].close()
    host.read()
    assert host.report("services")["By"] == "inotify"
    assert host.after(100) == ["services"] and len(ends) == 2


def test_without_systemd_unit_files_are_watched_and_why_not_more_is_said(driven):
    host = driven(["services"])
    folder = host.folder / "root/etc/systemd/system"
    (folder / "x.service.d").mkdir(parents=True)
    host.run("services")
    host.after(0)
    assert host.report("services")["By"] == "inotify" and host.report("services")["Watches"] == 2
    assert "no signals of systemd" in host.report("services")["Why"]
    for name in ("x.service", "x.service.d/more.conf"):
        (folder / name).write_text("[Service]\n")
        host.read()
        assert host.after(100) == ["services"]
        host.run("services", woken=True)
    (folder / "session-1.scope").write_text("")
    host.read()
    assert host.after(1000) == []
