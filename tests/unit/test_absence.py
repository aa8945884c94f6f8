# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package database that was there: gone for good, or out of sight."""

import gzip
import os
import shutil
import threading

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages import absence, databases
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import compare_and_store

ONE = b"Package: one\nStatus: install ok installed\nMaintainer: M <m@x>\nArchitecture: amd64\nVersion: 1\nDescription: d\n\n"
with gzip.open(os.path.join(os.path.dirname(__file__), "fixtures", "rpm", "rpmdb.sqlite.gz")) as packed:
    DATABASE = packed.read()


class Host:
    """A host below a folder, with one package of dpkg and the rpm database of the fixtures."""

    def __init__(self, folder):
        self.root = str(folder / "root")
        self.state = str(folder / "state.db")
        self.lib = folder / "root/var/lib"
        (self.lib / "dpkg/info").mkdir(parents=True)
        (self.lib / "dpkg/status").write_bytes(ONE)
        self.add_rpm()

    def add_rpm(self):
        (self.lib / "rpm").mkdir()
        (self.lib / "rpm/rpmdb.sqlite").write_bytes(DATABASE)

    def remove_rpm_files(self):
        for path in (self.lib / "rpm").iterdir():
            path.unlink()

    def run(self):
        with Store(self.state) as store:
            return compare_and_store(
                all_kinds()["packages"], lambda known: databases.collect(known, root=self.root), store
            )


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(absence, "_PAUSE", 0)
    return Host(tmp_path)


def told(snapshot):
    return {(change.category, (change.new or change.old).name) for change in snapshot.changes}


def stati(snapshot):
    return {name: source.status for name, source in snapshot.sources.items()}


def test_a_database_that_is_removed_is_told_once_and_the_other_one_stays(host):
    rpms = {item.name for item in observed(host, "rpm")}
    shutil.rmtree(str(host.lib / "rpm"))
    seen = host.run()
    assert told(seen) == {("Removed", name) for name in rpms} and rpms
    assert stati(seen) == {"dpkg": "ok", "rpm": "absent"}
    assert told(host.run()) == set()
    host.add_rpm()
    assert told(host.run()) == {("Added", name) for name in rpms}


def test_a_folder_without_its_database_is_gone_as_rpm_says_too(host):
    host.run()
    host.remove_rpm_files()
    (host.lib / "rpm/.rpm.lock").write_bytes(b"")
    assert stati(host.run())["rpm"] == "absent"


@pytest.mark.parametrize("left", ["rpm/rpmdb.sqlite-wal", "rpm/__db.001", "rpmrebuilddb.77", "rpmold.77"])
def test_a_database_of_which_something_is_left_is_not_gone(host, left):
    host.run()
    host.remove_rpm_files()
    (host.lib / left).write_bytes(b"")
    seen = host.run()
    assert (told(seen), stati(seen)["rpm"]) == (set(), "failed")
    assert left in seen.sources["rpm"].message


def test_a_status_file_that_is_lost_is_not_dpkg_gone(host):
    host.run()
    os.rename(str(host.lib / "dpkg/status"), str(host.lib / "dpkg/status-old"))
    seen = host.run()
    assert (told(seen), stati(seen)["dpkg"]) == (set(), "failed")


def test_what_was_on_a_file_system_that_is_not_mounted_is_out_of_sight(host, monkeypatch):
    device = absence._device_at
    monkeypatch.setattr(absence, "_device_at", lambda path: device(path) + 1)  # as long as /var is mounted
    host.run()
    monkeypatch.setattr(absence, "_device_at", device)
    shutil.rmtree(str(host.lib))
    for _again in range(2):
        seen = host.run()
        assert (told(seen), stati(seen)) == (set(), {"dpkg": "failed", "rpm": "failed"})
        assert "is not mounted" in seen.sources["dpkg"].message
    with Store(host.state) as store:
        assert len(list(store.all_items(all_kinds()["packages"]))) > 1


def test_a_folder_that_may_not_be_looked_into_is_not_gone(host, monkeypatch):
    host.run()
    shutil.rmtree(str(host.lib / "rpm"))
    lstat = os.lstat

    def forbidden(path, *arguments, **options):
        if "rpm" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return lstat(path, *arguments, **options)

    monkeypatch.setattr(os, "lstat", forbidden)
    seen = host.run()
    assert (told(seen), stati(seen)["rpm"]) == (set(), "failed")


def test_a_database_that_is_away_for_a_moment_only_is_read_when_it_is_back(host, monkeypatch):
    rpms = observed(host, "rpm")
    os.rename(str(host.lib / "rpm"), str(host.lib / "aside"))
    waiting, back = threading.Event(), threading.Event()

    def sleep(_seconds):
        waiting.set()
        assert back.wait(60)

    def bring_back():
        assert waiting.wait(60)
        os.rename(str(host.lib / "aside"), str(host.lib / "rpm"))
        back.set()

    monkeypatch.setattr(absence.time, "sleep", sleep)
    helper = threading.Thread(target=bring_back)
    helper.start()
    seen = host.run()
    helper.join()
    assert (told(seen), seen.sources["rpm"].count) == (set(), len(rpms))


def test_a_host_that_never_had_a_database_is_looked_at_once(host, monkeypatch):
    shutil.rmtree(str(host.lib / "rpm"))

    def sleep(_seconds):
        raise AssertionError("there is nothing to wait for")

    monkeypatch.setattr(absence.time, "sleep", sleep)
    for _again in range(2):
        assert stati(host.run()) == {"dpkg": "ok", "rpm": "absent"}


def observed(host, source):
    host.run()
    with Store(host.state) as store:
        return store.items(all_kinds()["packages"], source)
