# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scans with further processes that read small files: the result is that of a scan without them, whatever happens to them."""

import hashlib
import os
import signal
import threading
import time

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import (
    budget,
    cpus,
    listing,
    readers,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import scan as scanner
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import FILES, File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import compare_and_store

pytestmark = pytest.mark.no_python  # it is about processes that end
FOLDERS = 60
FILES_EACH = 8


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Counted(Known):
    """An empty state, whose owner counts every item as a change."""


def scan(folder, count_changes=False, **options):
    """Everything that a scan returns, in a form to compare."""
    known = Counted()
    options.setdefault("clock", lambda: 2e9)
    run = scanner.Scan(
        [FileRule("rule", str(folder)), FileRule("other", str(folder / "d*"), type="any")], known, **options
    )
    parts = []
    for part in run:
        parts.append(part)
        if count_changes:
            known.changes += len(part.items)
    return parts, run.sources, run.unseen, run.postponed


def without(monkeypatch, folder, **options):
    with monkeypatch.context() as patch:
        patch.setattr(scanner, "READERS_ABOVE", 10**9)
        return scan(folder, **options)


@pytest.fixture
def tree(tmp_path):
    """Folders with files, symlinks, large files and files that nobody may read; one very large folder, and one of a user."""
    top = tmp_path / "tree"
    for number in range(FOLDERS):
        folder = top / "d{0:02}".format(number) / "below"
        folder.mkdir(parents=True)
        for file in range(FILES_EACH):
            (folder / "f{0}".format(file)).write_text("{0} {1}".format(number, file))
            (folder.parent / "g{0}".format(file)).write_text("{0} {1}".format(number, -file))
    (top / "d07" / "large").write_bytes(b"x" * (budget.SMALL_BYTES + 1))
    (top / "d08" / "empty").write_bytes(b"")
    (top / "d09" / "link").symlink_to("../d10/g1")
    (top / "d09" / "loop").symlink_to("..")
    (top / "d11" / "folder").symlink_to("../d12/below")
    os.mkfifo(str(top / "d13" / "pipe"))
    (top / "d14" / os.fsdecode(b"\xff")).write_bytes(b"not UTF-8")
    for file in range(300):
        (top / "d40" / "h{0}".format(file)).write_text(str(file))
    if os.geteuid() == 0:
        os.chown(str(top / "d15"), 1001, 1001)
        os.chown(str(top / "d16" / "g1"), 1001, 1001)
        (top / "d17").chmod(0o1777)
    return top


@pytest.fixture
def used(monkeypatch):
    """Has readers, of which the scan lets itself be overtaken; the numbers of files that they read for it."""
    monkeypatch.setattr(cpus, "usable", lambda: 2)
    monkeypatch.setattr(scanner, "READERS_ABOVE", 20)
    monkeypatch.setattr(listing, "SLICED_ABOVE", 200)
    files = []
    take = readers.Readers.take

    def slowly(self, number, identity):
        time.sleep(0.002)
        read = take(self, number, identity)
        files.append(len(read.files))
        return read

    monkeypatch.setattr(readers.Readers, "take", slowly)
    yield files
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("processes", (0, 1, 2, 3, 4, 64))
def test_the_result_is_the_same_with_any_number_of_readers(monkeypatch, tree, used, processes):
    expected = without(monkeypatch, tree)
    assert sum(len(part.items) for part in expected[0]) > 2 * FOLDERS * FILES_EACH
    monkeypatch.setattr(cpus, "usable", lambda: processes)
    before = descriptors()
    assert scan(tree) == expected
    assert descriptors() == before
    assert (sum(used) > 0) == (processes > 1)


def test_the_limits_are_those_of_the_scan(monkeypatch, tree, used):
    expected = without(monkeypatch, tree, max_files=333)
    assert scan(tree, max_files=333) == expected and sum(used) > 0
    monkeypatch.setattr(budget, "RUN_CHANGES", 200)
    expected = without(monkeypatch, tree, count_changes=True)
    assert expected[3]
    assert scan(tree, count_changes=True) == expected


@pytest.mark.parametrize("how", ("killed", "stopped", "cut", "garbage", "failed", "never started"))
def test_what_a_reader_fails_to_read_is_read_by_the_scan(monkeypatch, tree, used, how):
    expected = without(monkeypatch, tree)
    monkeypatch.setattr(cpus, "usable", lambda: 3)
    send, sent = readers.Reader._send, []

    def fail(self, message):
        sent.append(message)
        if len(sent) < 3:
            return send(self, message)
        if how in ("killed", "stopped"):
            os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        if how == "failed":
            raise MemoryError
        send(self, message) if how == "garbage" else os.write(self._pipe, b"\xff\0\0\0" + message[:9])
        if how == "garbage":
            os.write(self._pipe, b"\4\0\0\0zzzz" * 1000)
        os._exit(1)

    monkeypatch.setattr(readers.Reader, "_send", fail)
    if how == "stopped":
        monkeypatch.setattr(readers, "_PATIENCE", 1)
    if how == "never started":

        def no_fork():
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(os, "fork", no_fork)
    assert scan(tree) == expected
    assert how == "stopped" or (sum(used) > 0) == (how != "never started")


def test_a_change_after_a_reader_has_read_is_found_by_the_next_scan(monkeypatch, tree, used):
    changed = []
    take = readers.Readers.take

    def change(self, number, identity):
        read = take(self, number, identity)
        if "f0" in read.files and not changed:
            (folder,) = [path for path in tree.glob("*/*") if (path.stat().st_dev, path.stat().st_ino) == identity]
            changed.append(folder)
            (folder / "f0").write_text("changed")
            (folder / "f1").unlink()
            (folder / "f2").unlink()
            os.mkfifo(str(folder / "f2"))
            (folder / "new").write_text("new")
        return read

    monkeypatch.setattr(readers.Readers, "take", change)
    parts = scan(tree)[0]
    found = {item.path: item for part in parts for item in part.items}
    folder = str(changed[0])
    assert folder + "/f1" not in found and found[folder + "/f3"].checksum
    assert found[folder + "/new"].checksum == hashlib.sha256(b"new").hexdigest()
    assert folder + "/f2" not in found or found[folder + "/f2"].type == "fifo"
    (again,) = [part for part in scan(tree)[0] if part.name == folder]
    now = {item.path: item for item in again.items}
    assert now[folder + "/f0"].checksum == hashlib.sha256(b"changed").hexdigest()
    assert now[folder + "/f0"].stamp != found[folder + "/f0"].stamp


def test_a_file_that_may_change_with_the_same_times_is_not_relied_on(tree, used):
    oldest = (tree / "d00" / "below" / "f0").stat().st_ctime
    parts = scan(tree, clock=lambda: oldest)[0]
    assert sum(used) > 0
    assert all(len(item.stamp) == 6 for part in parts for item in part.items)


def test_what_was_read_of_another_directory_is_not_used(monkeypatch, tree, used):
    expected = without(monkeypatch, tree)
    take = readers._Link.take
    monkeypatch.setattr(readers._Link, "take", lambda link, number, identity: take(link, number, (identity[0], 0)))
    assert scan(tree) == expected
    assert sum(used) == 0


def test_a_scan_that_is_given_up_leaves_no_process_and_no_descriptor(tree, used):
    before = descriptors()
    run = iter(scanner.Scan([FileRule("rule", str(tree))], Known()))
    for _number in range(20):
        next(run)
    run.close()
    assert descriptors() == before


def test_a_reader_ends_with_the_scan(tree, used):
    pipe, end = os.pipe()
    child = os.fork()
    if not child:
        try:
            run = iter(scanner.Scan([FileRule("rule", str(tree))], Known()))
            for _number in range(20):
                next(run)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.close(end)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert os.read(pipe, 1) == b""  # once no process has the other end
    os.close(pipe)


def test_a_state_holds_what_was_read_by_readers(tmp_path, tree, used):
    def run():
        with Store(str(tmp_path / "state.db")) as store:
            rules = [FileRule("rule", str(tree))]
            seen = compare_and_store(FILES, lambda known: scanner.Scan(rules, known, clock=lambda: 2e9), store)
            return seen.count, seen.changes

    count, _changes = run()
    assert count > 1000 and sum(used) > 0
    with Store(str(tmp_path / "state.db"), read_only=True) as store:
        store.check()
        for item in store.all_items(FILES):
            item = File(*item)
            if item.type == "file":
                with open(item.path, "rb") as file:
                    assert item.checksum == hashlib.sha256(file.read()).hexdigest()
    assert run() == (count, [])


def cgroups(monkeypatch, folder, own, files=()):
    """`files`: pairs of a path below the mount of the cgroups, and its content."""
    for path, content in files:
        write(folder / path, content + "\n")
    (folder / "own").write_text(own)
    monkeypatch.setattr(cpus, "_CGROUPS", str(folder))
    monkeypatch.setattr(cpus, "_OWN_CGROUPS", str(folder / "own"))


def test_no_more_cpus_are_used_than_affinity_and_quotas_allow(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    cgroups(monkeypatch, tmp_path, "0::/a/b\n", [("a/b/cpu.max", "max 100000")])
    assert cpus.usable() == 8
    cgroups(monkeypatch, tmp_path, "0::/a/b\n", [("a/cpu.max", "350000 100000")])
    assert cpus.usable() == 3
    cgroups(monkeypatch, tmp_path, "0::/a/b\n", [("a/b/cpu.max", "50000 100000")])
    assert cpus.usable() == 0
    cgroups(monkeypatch, tmp_path, "0::/c\n", [("cpu.max", "200000 100000")])
    assert cpus.usable() == 2


def test_quotas_of_the_first_version_of_cgroups_count_too(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    own = "5:memory:/m\n4:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/\n"
    cgroups(monkeypatch, tmp_path, own, [("cpu/a/cpu.cfs_quota_us", "-1")])
    assert cpus.usable() == 8
    cgroups(monkeypatch, tmp_path, own, [("cpu/a/cpu.cfs_quota_us", "150000"), ("cpu/a/cpu.cfs_period_us", "50000")])
    assert cpus.usable() == 3


def test_a_process_with_threads_or_an_unknown_quota_has_one_cpu(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    cgroups(monkeypatch, tmp_path, "0::/\n")
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        assert cpus.usable() == 1
    finally:
        event.set()
        thread.join()
    assert cpus.usable() == 8
    cgroups(monkeypatch, tmp_path, "0::/\n", [("cpu.max", "nonsense")])
    assert cpus.usable() == 1
    monkeypatch.setattr(cpus, "_OWN_CGROUPS", str(tmp_path / "missing"))
    assert cpus.usable() == 1
