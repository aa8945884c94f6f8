# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state database."""

import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import database
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import StateError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import File, Package, Source
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import KINDS
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.store import Run, Store

PACKAGES, FILES = KINDS["packages"], KINDS["files"]
PACKAGE = Package("openssl", "amd64", "1", "", "", None, 5)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sub" / "state.db")


def keep(path, items, signature="s"):
    with Store(path) as store:
        store.put(PACKAGES, "dpkg", signature, "d", items)
        store.finish(
            PACKAGES, Run(1, [["scope"]], ["rpm"]), {"dpkg": Source("ok", 1), "rpm": Source("failed", 0, "why")}
        )


def test_what_was_put_comes_back(path):
    keep(path, [PACKAGE])
    with Store(path) as store:
        known = store.known(PACKAGES)
        assert (known.signature("dpkg"), known.count("dpkg"), known.items("dpkg")) == ("s", 1, [PACKAGE])
        assert store.last_run(PACKAGES) == Run(1, [["scope"]], ["rpm"])
        assert store.last_run(FILES) is None
        assert store.last_sources(PACKAGES) == {"dpkg": Source("ok", 1), "rpm": Source("failed", 0, "why")}
        assert store.last_sources(FILES) == {}


@pytest.mark.parametrize("name", ["a?mode=ro", "a#b", "a%41b", "ü b"])
def test_a_path_is_taken_as_it_is_written(tmp_path, name):
    path = "/%s/%s.db" % (tmp_path, name)  # with two slashes in front
    with Store(path):
        pass
    assert os.listdir(str(tmp_path)) == [name + ".db"]


def test_a_directory_name_that_is_not_utf8_comes_back(path):
    item = File("/\udcff/a", "", 1, "", "", 0o644, 1, None, "file", "", (1, 2, 3, 4, 5))
    with Store(path) as store:
        store.put(FILES, "/\udcff", None, "d", [item])
    with Store(path) as store:
        assert list(store.known(FILES).parts) == ["/\udcff"]
        assert store.items(FILES, "/\udcff")[0].path == "/\udcff/a"


def test_a_run_that_fails_leaves_the_state_as_it_was(path):
    keep(path, [PACKAGE])
    with pytest.raises(RuntimeError), Store(path) as store:
        store.put(PACKAGES, "dpkg", "t", "d", [])
        raise RuntimeError
    with Store(path) as store:
        assert store.items(PACKAGES, "dpkg") == [PACKAGE]


def test_reading_only_creates_and_changes_nothing(path):
    with Store(path, read_only=True) as store:
        assert store.last_run(PACKAGES) is None
        store.put(PACKAGES, "dpkg", "s", "d", [PACKAGE])
    assert not os.path.exists(path)
    keep(path, [PACKAGE])
    with Store(path, read_only=True) as store:
        store.drop(PACKAGES, "dpkg")
        store.finish(PACKAGES, Run(2, [], []), {})
        assert store.items(PACKAGES, "dpkg") == [PACKAGE]
        assert store.last_run(PACKAGES).collected_at == 1


def test_only_its_owner_can_read_it(path):
    keep(path, [])
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def refused(path, words):
    for read_only in (False, True):
        with pytest.raises(StateError) as caught, Store(path, read_only) as store:
            store.known(PACKAGES).items("dpkg")
            store.put(PACKAGES, "dpkg", "t", "d", [PACKAGE] * 5000)
        assert words in str(caught.value)
        assert path in str(caught.value)


def test_a_database_that_others_can_write_is_refused(path):
    keep(path, [])
    os.chmod(path, 0o666)
    refused(path, "can be written by others")


def test_a_link_is_refused(path, tmp_path):
    keep(path, [])
    link = str(tmp_path / "link.db")
    os.symlink(path, link)
    with pytest.raises(StateError), Store(link):
        pass


def test_a_newer_format_is_refused_and_left_alone(path):
    keep(path, [PACKAGE])
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    refused(path, "upgrade the collection")


def test_a_database_of_something_else_is_refused_and_left_alone(path):
    os.makedirs(os.path.dirname(path))
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE precious (a)")
    db.close()
    os.chmod(path, 0o600)
    refused(path, "something else")


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_damaged(path, damage):
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(damage)
    os.chmod(path, 0o600)
    refused(path, "is damaged")


@pytest.mark.parametrize("offset", [100, 4096, 8192, 12288, 20000])
def test_a_damaged_page_is_told_or_harmless_never_different_data(path, offset):
    items = [PACKAGE._replace(name="p%d" % number) for number in range(3000)]
    keep(path, items)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\xaa" * 300)
    try:
        with Store(path) as store:
            assert store.items(PACKAGES, "dpkg") == items
            assert store.last_run(PACKAGES) == Run(1, [["scope"]], ["rpm"])
    except StateError as error:
        assert "is damaged" in str(error)


def test_a_row_of_the_wrong_shape_is_damage(path):
    with Store(path) as store:
        store.put(PACKAGES, "dpkg", "s", "d", [["too", "short"]])
    refused(path, "is damaged")


def test_a_bomb_in_a_row_is_refused_before_it_is_unpacked(path, monkeypatch):
    keep(path, [PACKAGE] * 100)
    monkeypatch.setattr(database, "MAX_BYTES", 50)
    refused(path, "longer than 50 bytes")


def test_of_two_runs_at_once_the_second_to_end_keeps_nothing(path):
    keep(path, [PACKAGE])
    with pytest.raises(StateError) as caught, Store(path) as slow:
        slow.known(PACKAGES)
        with Store(path) as quick:
            quick.known(PACKAGES)
            quick.put(PACKAGES, "dpkg", "quick", "d", [])
            quick.finish(PACKAGES, Run(2, [], []), {})
        slow.put(PACKAGES, "dpkg", "slow", "d", [])
        slow.finish(PACKAGES, Run(3, [], []), {})
    assert "another run" in str(caught.value)
    with Store(path) as store:
        assert store.last_run(PACKAGES).collected_at == 2
        assert store.known(PACKAGES).signature("dpkg") == "quick"


def test_a_run_of_one_kind_holds_up_none_of_another(path, monkeypatch):
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.01)
    with Store(path) as slow:
        slow.known(FILES)
        slow.put(FILES, "/etc", "s", "d", [])
        keep(path, [PACKAGE])
        slow.finish(FILES, Run(5, [], []), {})
    with Store(path) as store:
        assert store.last_run(PACKAGES).collected_at == 1
        assert store.last_run(FILES).collected_at == 5


def test_a_database_that_is_locked_for_too_long_is_told(path, monkeypatch):
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    keep(path, [PACKAGE])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError) as caught:
        keep(path, [])
    assert "in use by another run" in str(caught.value)
    other.close()


def test_what_is_known_after_a_run_is_what_was_put_or_stood_before(path):
    with Store(path) as store:
        for part in ("a", "b", "c"):
            store.put(PACKAGES, part, "s", "d", [PACKAGE._replace(name=part)])
    with Store(path) as store:
        store.drop(PACKAGES, "a")
        store.put(PACKAGES, "c", "s", "d", [PACKAGE._replace(name="new")])
        seen = [item.name for item in store.all_items(PACKAGES)]
    with Store(path) as store:
        assert seen == ["b", "new"] == [item.name for item in store.all_items(PACKAGES)]


def test_a_database_of_the_first_version_is_brought_up_to_date_and_keeps_what_it_holds(path):
    os.makedirs(os.path.dirname(path))
    db = sqlite3.connect(path)
    db.executescript(database.SCHEMA[0])
    packed = database.pack([PACKAGE])
    db.execute("INSERT INTO part VALUES ('packages', ?, 's', 'd', 1, ?)", (b"dpkg", packed))
    db.execute("INSERT INTO run VALUES ('packages', 7, '[]', '[]')")
    db.commit()
    db.close()
    os.chmod(path, 0o600)
    for read_only in (True, False, False):
        with Store(path, read_only) as store:
            assert store.last_run(PACKAGES).collected_at == 7
            assert store.known(PACKAGES).items("dpkg") == [PACKAGE]
            assert store.last_sources(PACKAGES) == {}
            assert store.inventory_queued_at(PACKAGES) is None
    keep(path, [PACKAGE])


def test_opening_it_again_does_not_end_the_locks_of_who_has_it_open(path, monkeypatch):
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.01)
    keep(path, [PACKAGE])
    with Store(path) as store:
        store._db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateError), Store(path):
            pass
        probe = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM run').fetchall()"
        run = subprocess.run([sys.executable, "-c", probe, path], stderr=subprocess.PIPE, check=False)
        assert b"database is locked" in run.stderr
        store._db.execute("ROLLBACK")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB. Needs root."""
    folder = str(tmp_path / "small")
    os.mkdir(folder)
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), "mounting a small file system needs root"
        pytest.skip("mounting a small file system needs root")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", folder])
    yield folder
    subprocess.check_call(["umount", folder])


def test_a_full_disk_is_told_and_the_state_before_is_kept(small_disk):
    path = os.path.join(small_disk, "state.db")
    keep(path, [PACKAGE])
    noise = [PACKAGE._replace(name=os.urandom(40).hex()) for _number in range(20000)]
    with pytest.raises(StateError) as caught, Store(path) as store:
        store.put(PACKAGES, "dpkg", "t", "d", noise)
    assert "free some space" in str(caught.value)
    with Store(path) as store:
        assert store.items(PACKAGES, "dpkg") == [PACKAGE]
