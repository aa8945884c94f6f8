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

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import (
    RowDamaged,
    StateError,
    StateOvertaken,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import Package
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Collection, Part, Source
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state import database, packing
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state import store as store_module
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.outbox import Outbox
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.packing import pack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.pages import History
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.repair import repair
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.since import Since
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import (
    ATTEMPTS,
    Run,
    Store,
    run_until_stored,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import compare_and_store
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

PACKAGES, FILES = all_kinds()["packages"], all_kinds()["files"]
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
    refused(path, "Upgrade the collection")


def test_a_database_of_something_else_is_refused_and_left_alone(path):
    os.makedirs(os.path.dirname(path))
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE precious (a)")
    db.close()
    os.chmod(path, 0o600)
    refused(path, "not a state database")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (b"garbage" * 1000, "is not a state database (file is not a database). Give another path"),
        (b"SQLite format 3\0" + b"\xff" * 4096, "is corrupt"),
    ],
)
def test_a_file_that_is_no_database_is_damaged(path, damage, words):
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(damage)
    os.chmod(path, 0o600)
    refused(path, words)


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
        assert "is corrupt" in str(error) or "is damaged in one row" in str(error)


def test_a_row_of_the_wrong_shape_is_damage(path):
    with Store(path) as store:
        store.put(PACKAGES, "dpkg", "s", "d", [["too", "short"]])
    refused(path, "is damaged in one row")


def test_a_bomb_in_a_row_is_refused_before_it_is_unpacked(path, monkeypatch):
    keep(path, [PACKAGE] * 100)
    monkeypatch.setattr(packing, "MAX_BYTES", 50)
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
    assert "Another run" in str(caught.value)
    with Store(path) as store:
        assert store.last_run(PACKAGES).collected_at == 2
        assert store.known(PACKAGES).signature("dpkg") == "quick"


def test_of_two_first_runs_at_once_the_second_to_end_keeps_nothing(path):
    """Wherever the first one ends while the second is under way, it is no baseline of the second."""
    for moment in ("before known", "after known"):
        with pytest.raises(StateError) as caught, Store(path) as slow:
            assert slow.last_run(PACKAGES) is None
            if moment == "before known":
                keep(path, [PACKAGE])
            known = slow.known(PACKAGES)
            if moment == "after known":
                keep(path, [PACKAGE])
            slow.put(PACKAGES, "dpkg", "slow", "d", [PACKAGE] + known.items("dpkg"))
            slow.finish(PACKAGES, Run(3, [], []), {})
        assert "Another run" in str(caught.value)
        with Store(path) as store:
            assert store.last_run(PACKAGES).collected_at == 1
        os.unlink(path)


def test_a_run_that_another_one_overtook_is_repeated_a_limited_number_of_times(path):
    keep(path, [PACKAGE])
    others = [2, 3]
    seen = []

    def run():
        with Store(path) as slow:
            seen.append(slow.last_run(PACKAGES).collected_at)
            if others:
                with Store(path) as quick:
                    quick.last_run(PACKAGES)
                    quick.finish(PACKAGES, Run(others.pop(0), [], []), {})
            slow.finish(PACKAGES, Run(9, [], []), {})
        return "stored"

    assert run_until_stored(run) == "stored" and seen == [1, 2, 3]
    with Store(path) as store:
        assert store.last_run(PACKAGES).collected_at == 9
    others = list(range(10, 100))
    with pytest.raises(StateOvertaken, match="Run again"):
        run_until_stored(run)
    assert len(seen) == 3 + ATTEMPTS


def test_a_run_that_fails_otherwise_is_not_repeated():
    calls = []

    def run():
        calls.append(1)
        raise StateError("no")

    with pytest.raises(StateError, match="no"):
        run_until_stored(run)
    assert calls == [1]


def test_a_state_that_was_replaced_during_a_run_is_not_written_to(path):
    keep(path, [PACKAGE])
    for replacement in (True, False):
        with pytest.raises(StateError, match="replaced or removed"), Store(path) as slow:
            slow.known(PACKAGES)
            os.rename(path, path + ".aside")
            if replacement:
                keep(path, [])
            slow.put(PACKAGES, "dpkg", "slow", "d", [])
            slow.finish(PACKAGES, Run(3, [], []), {})
    assert not os.path.exists(path)


def test_a_state_that_another_process_emptied_during_a_run_is_not_written_to(path):
    keep(path, [PACKAGE])
    with Store(path) as store:
        assert store.claim(machine("one")) == []
    with pytest.raises(StateError, match="Another run"), Store(path) as slow:
        assert slow.last_run(PACKAGES) is not None
        with Store(path) as other:
            assert other.claim(machine("two"))
        keep(path, [PACKAGE])  # the same number of runs as before
        slow.put(PACKAGES, "dpkg", "slow", "d", [])
        slow.finish(PACKAGES, Run(3, [], []), {})


def machine(computer, vm=None):
    return {"Computer": "whatever its name", "SourceComputerId": computer, "VMUUID": vm}


def test_a_clone_begins_anew_and_sets_aside_what_waits(path):
    with Store(path) as store:
        assert store.claim(machine("image")) == []
        store.put(PACKAGES, "dpkg", "s", "d", [PACKAGE])
        store.queue("stream", PACKAGES, 1, [{}, {}])
        store.remember([{}])
        store.keep_text("/etc/secret", "c", "text")
        store.renew_inventory("other", PACKAGES, 1)
        store.finish(PACKAGES, Run(1, [], []), {})
    image = store.after
    with Store(path) as store:
        (note,) = store.claim(machine("clone"))
        assert "Of that machine, 2 undelivered records are not sent, and 1 change is not kept" in note
        assert store.last_run(PACKAGES) is None and not store.known(PACKAGES).parts and not store.texts()
        assert store.inventory_queued_at(PACKAGES) is None and list(store.history()) == []
        store.finish(PACKAGES, Run(2, [], []), {})
    assert store.after.state != image.state and store.after.number == 0
    with Outbox(path) as outbox:
        assert outbox.depth().records == 0
    with Store(path) as store:
        assert store.claim(machine("clone")) == []
        assert store.last_run(PACKAGES).collected_at == 2
        assert store._query("SELECT source, reason FROM set_aside") == [("outbox", "of another machine")]


def test_a_clone_that_may_not_write_sees_nothing_and_leaves_it(path):
    keep(path, [PACKAGE])
    with Store(path) as store:
        store.claim(machine("image"))
    with Store(path, read_only=True) as store:
        assert len(store.claim(machine("clone"))) == 1 and store.ignored
        assert store.last_run(PACKAGES) is None and list(store.all_items(PACKAGES)) == []
    with Store(path, read_only=True) as store:
        assert store.claim(machine("image")) == [] and store.last_run(PACKAGES) is not None


@pytest.mark.parametrize(
    "made_by, used_by, other",
    [
        (machine("a", "v"), machine("a", "v"), False),
        (machine("a", None), machine("a", "v"), False),  # by a user, then by root
        (machine("a", "v"), machine("a", None), False),
        (machine("a", "v"), machine("a", "w"), True),  # a clone that kept its machine-id
        (machine("a", "v"), machine("b", "v"), True),
        (machine("a"), machine("b"), True),
        (machine(None), machine("b"), True),  # an image before its first boot
        (machine(None), machine(None), False),
        (machine(None, "v"), machine(None, "w"), True),
        (machine("a"), machine(None), False),  # it cannot be read now
    ],
)
def test_a_machine_is_told_by_what_both_sides_know(path, monkeypatch, made_by, used_by, other):
    monkeypatch.setattr(store_module.host, "in_container", lambda: False)
    with Store(path) as store:
        assert store.claim(made_by) == []
        store.finish(PACKAGES, Run(1, [], []), {})
    for _time in (1, 2):  # the second time, it is the user's own
        with Store(path) as store:
            assert bool(store.claim(used_by)) == other
            assert (store.last_run(PACKAGES) is None) == other or _time == 2
            store.finish(PACKAGES, Run(2, [], []), {})
        other = False


def test_a_uuid_of_firmware_says_nothing_in_a_container(path, monkeypatch):
    monkeypatch.setattr(store_module.host, "in_container", lambda: True)
    with Store(path) as store:
        store.claim(machine("a", "v"))
        assert store.claim(machine("a", "w")) == []


@pytest.mark.parametrize("mode, words", [(0o777, "controlled by others"), (0o1777, None), (0o775, None)])
def test_a_folder_in_which_others_can_replace_the_state_is_refused(path, mode, words):
    os.mkdir(os.path.dirname(path))
    os.chmod(os.path.dirname(path), mode)
    if words:
        refused(path, words)
    else:
        keep(path, [PACKAGE])


@pytest.mark.parametrize("mode", [0o700, 0o1777])
def test_root_keeps_no_state_in_the_folder_of_a_user(path, mode):
    need_root("giving a folder away")
    keep(path, [PACKAGE])
    os.chown(os.path.dirname(path), 65533, 65533)
    os.chmod(os.path.dirname(path), mode)
    refused(path, "controlled by others")
    with Store(path, read_only=True, owner=65533) as store:
        assert store.last_run(PACKAGES).collected_at == 1
    os.unlink(path)
    with pytest.raises(StateError, match="controlled by others"):
        keep(path, [PACKAGE])


DAMAGES = {"empty": b"", "noise": b"x" * 100, "text": "items", "shape": pack([["too", "short"]]), "number": pack([1])}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_part_is_set_aside_and_told_and_the_others_are_compared(path, damage):
    packages = [PACKAGE, PACKAGE._replace(name="bash")]

    def run(*names):
        parts = [(name, packages[: 1 + (name in names)]) for name in ("dpkg", "rpm")]
        with Store(path) as store:
            snapshot = compare_and_store(PACKAGES, lambda known: Parts(parts), store)
        return [(change.category, change.new.name) for change in snapshot.changes]

    assert run() == run() == []
    change(path, "UPDATE part SET items = ? WHERE name = ?", damage, b"dpkg")
    with pytest.raises(RowDamaged, match="is damaged in one row"):
        run("dpkg", "rpm")
    (note,) = repair(path)
    assert "1 of 2 sources or folders of the packages is damaged and set aside (dpkg first)" in note
    assert run("dpkg", "rpm") == [("Added", "bash")]  # of rpm: what dpkg had is not known
    assert run("dpkg", "rpm") == [] == repair(path)
    with Store(path, read_only=True) as store:
        assert store._query("SELECT source, content FROM set_aside") == [("part", damage)]


@pytest.mark.parametrize("column", ["scope", "unseen"])
def test_a_damaged_run_is_set_aside_and_the_next_one_is_the_baseline(path, column):
    keep(path, [PACKAGE])
    change(path, "UPDATE run SET %s = ?" % column, "[")
    with pytest.raises(RowDamaged):
        keep_after_looking(path)
    (note,) = repair(path)
    assert "this run is their baseline" in note
    with Store(path) as store:
        assert store.last_run(PACKAGES) is None and not store.known(PACKAGES).parts


def test_damaged_sources_are_set_aside(path):
    keep(path, [PACKAGE])
    for damage in ("[", "[1]", '[["dpkg"]]', "{}"):
        change(path, "UPDATE outcome SET sources = ?", damage)
        assert repair(path) == []
        with Store(path) as store:
            assert store.last_sources(PACKAGES) == {} and store.last_run(PACKAGES) is not None


def keep_after_looking(path):
    with Store(path) as store:
        store.last_run(PACKAGES)


def change(path, statement, *values):
    with sqlite3.connect(path) as db:
        db.execute(statement, values)
    db.close()


class Parts(Collection):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def __iter__(self):
        for name, items in self.parts:
            yield Part(name, None, items)

    def out_of_sight(self, part):
        return False


@pytest.fixture
def version_2(path):
    """A state that the first release wrote."""
    os.makedirs(os.path.dirname(path), mode=0o700)
    with open(os.path.join(os.path.dirname(__file__), "fixtures", "state_v2.sql"), encoding="ascii") as file:
        script = file.read()
    with sqlite3.connect(path) as db:
        db.executescript(script)
    db.close()
    os.chmod(path, 0o600)
    return path


OURS = "5e3a2b7c-6f0d-4c1a-9b1e-1f2a3b4c5d6e"


def test_a_state_of_the_first_release_keeps_its_changes_and_gets_numbers(version_2):
    files = ["/tmp/state_tracked/" + name for name in "bcb"]
    with History(version_2) as old:
        page = old.follow(Since(number=1))
    assert [record["FileSystemPath"] for record in page.records] == files and page.place is None
    with Store(version_2, read_only=True) as store:
        assert [record["FileSystemPath"] for record in store.history()] == files
        assert not store.is_foreign(machine("other"))
    with Store(version_2) as store:
        assert store.claim(machine(OURS)) == []
        assert store.last_run(FILES).collected_at == 1795668129 and len(list(store.all_items(FILES))) == 3
        store.remember([{"FileSystemPath": "new"}])
    with History(version_2) as new:
        page = new.follow(Since(number=1))
        assert [record["FileSystemPath"] for record in page.records] == [*files[1:], "new"]
        assert (page.first, page.last, page.missed) == (1, 4, 0)
    with Outbox(version_2) as outbox:
        assert outbox.depth().records == 4 and len(list(outbox.batches())) == 3


def test_a_state_of_the_first_release_that_came_with_an_image_is_known_as_that(version_2):
    with Store(version_2) as store:
        (note,) = store.claim(machine("a clone"))
        assert "4 undelivered records" in note and store.last_run(FILES) is None


def test_a_damaged_row_of_the_first_release_holds_up_no_other(version_2):
    change(version_2, "UPDATE history SET records = ? WHERE id = 1", b"x")
    with Store(version_2) as store:
        assert [record["FileSystemPath"][-1] for record in store.history()] == ["b"]
        assert store._query("SELECT source, content FROM set_aside") == [("history", b"x")]


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
    assert "Another run has used the state" in str(caught.value)
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
    packed = packing.pack([PACKAGE])
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


def test_the_history_of_a_state_without_owners_is_read_as_it_is_and_kept_when_it_is_brought_up_to_date(path):
    os.makedirs(os.path.dirname(path))
    db = sqlite3.connect(path)
    for script in database.SCHEMA[:3]:
        db.executescript(script)
    db.execute("DROP TABLE history_2")
    for last in (1, 2):
        record = packing.pack([{"Name": last, "RecordId": "%08x" % last}])
        db.execute(
            "INSERT INTO history VALUES (?, 1, ?, 7, 0, ?, ?)", (last, "%08x" % last, last * len(record), record)
        )
    db.execute("UPDATE state SET last = 2, mark = '00000002'")
    db.commit()
    db.close()
    os.chmod(path, 0o600)
    for foreign in (True, False):
        with History(path, leave_no_files=foreign) as old:
            page = old.follow(Since(number=0))
            assert [record["Name"] for record in page.records] == [1, 2] and not page.restarted
    with Store(path) as store:
        store.remember([{"Name": 3, "RecordId": "00000003"}], "uid=1")
        store.finish(PACKAGES, Run(7, [], []), {})
    for foreign in (True, False):
        with History(path, leave_no_files=foreign) as new:
            page = new.follow(Since(places=[page.place]))
            assert ([record["Name"] for record in page.records], page.missed) == ([3] if foreign else [], 0)


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


def test_a_full_disk_is_told_and_the_state_before_is_kept(small_disk):
    path = os.path.join(small_disk, "state.db")
    keep(path, [PACKAGE])
    noise = [PACKAGE._replace(name=os.urandom(40).hex()) for _number in range(20000)]
    with pytest.raises(StateError) as caught, Store(path) as store:
        store.put(PACKAGES, "dpkg", "t", "d", noise)
    assert "Free some disk space" in str(caught.value)
    with Store(path) as store:
        assert store.items(PACKAGES, "dpkg") == [PACKAGE]


def test_a_file_system_without_free_inodes_is_named(small_disk):
    path = os.path.join(small_disk, "state.db")
    keep(path, [PACKAGE])
    subprocess.check_call(["mount", "-o", "remount,nr_inodes=2", small_disk])  # its folder and the state
    with pytest.raises(StateError) as caught, Store(path) as store:
        store.put(PACKAGES, "dpkg", "t", "d", [])
    assert str(caught.value).endswith("because its file system has no free inodes. Delete some files on it.")
