# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root keeps a state, or asks for one that another user owns and writes as he likes."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import folders, text, untrusted_sqlite
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import doctor, lock, status
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import StateError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import PACKAGES, Package
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Source
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Run, Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import last_known
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

USER = 65533
KINDS = ["packages", "services", "files"]


@pytest.fixture(autouse=True)
def _root():
    need_root("giving a file away")


@pytest.fixture
def home(tmp_path):
    """A folder of a user, in one of root's."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    os.chown(str(folder), USER, USER)
    return str(folder)


@pytest.fixture
def path(home):
    """A good state of the user's."""
    path = os.path.join(home, "state.db")
    with Store(path, owner=USER) as store:
        store.put(PACKAGES, "dpkg", "s", "d", [Package("p", "amd64", "1", "", "", 1, 1)])
        store.remember([{"ConfigChangeType": "Software", "RecordId": "0" * 32}])
        store.queue("stream", PACKAGES, 1, [{}])
        store.finish(PACKAGES, Run(1, [], []), {"dpkg": Source("ok", 1, "")})
    os.chown(path, USER, USER)
    return path


READER = """
import os, sys
from _cti.state.pages import History
with History(sys.argv[1], int(sys.argv[2]), leave_no_files=True) as history:
    history.end()
    print(os.geteuid(), *sorted({os.lstat(sys.argv[1] + suffix).st_uid for suffix in ("-wal", "-shm")}))
print(os.geteuid())
"""


@pytest.mark.usefixtures("path")
def test_root_makes_no_files_that_the_owner_cannot_use(home):
    """Root that may not give files away shows which ones it made for itself first. The owner writes meanwhile, and cannot read the program."""
    program = os.path.join(os.path.dirname(home), "program")
    shutil.copytree(os.path.dirname(folders.__file__), os.path.join(program, "_cti"))
    os.chmod(program, 0o700)
    shared = tempfile.mkdtemp()  # where the owner gets to
    try:
        os.chmod(shared, 0o755)
        for usable, folder in ((False, home), (True, shutil.copytree(home, os.path.join(shared, "home")))):
            path = os.path.join(folder, "state.db")
            for name in (folder, path):
                os.chown(name, USER, USER)
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA journal_mode = WAL")
            db.close()
            os.close(os.open(path + "-wal", os.O_CREAT | os.O_WRONLY, 0o600))  # as if a run had just begun
            os.chown(path + "-wal", USER, USER)
            command = ["setpriv", "--bounding-set=-chown", sys.executable, "-c", READER, path, str(USER)]
            found = subprocess.run(
                command, stdout=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=program), check=True
            )
            expected = ["0", str(USER), "0"] if usable else ["0", "0", str(USER), "0"]
            assert found.stdout.decode().split() == expected
    finally:
        shutil.rmtree(shared)


def ask(path, wanted="full"):
    return last_known.from_database(path, KINDS, wanted, USER, None, lambda text: None)


# --- where root keeps its own


def refused(path, owner=None):
    with pytest.raises(StateError, match="controlled by others than the current user"), Store(path, owner=owner):
        pass


@pytest.mark.parametrize("below", ["state.db", "own/state.db", "not/there/yet/state.db"])
def test_root_keeps_and_makes_nothing_below_a_folder_of_a_user(home, below):
    os.mkdir(os.path.join(home, "own"), 0o700)  # root's, but the user may rename it
    refused(os.path.join(home, below))
    assert os.listdir(home) == ["own"] and not os.listdir(os.path.join(home, "own"))


def test_root_follows_its_own_links_and_no_others(home, tmp_path):
    (tmp_path / "target").mkdir()
    link = str(tmp_path / "link")
    os.symlink("target", link)
    with Store(link + "/new/state.db"):
        pass
    assert os.path.exists(str(tmp_path / "target/new/state.db"))
    os.lchown(link, USER, USER)
    refused(link + "/new/state.db")
    os.unlink(link)
    os.symlink(home, link)  # root's link into the user's folder
    refused(link + "/state.db")
    os.symlink("loop", str(tmp_path / "loop"))
    with pytest.raises(StateError, match="Cannot open the state"), Store(str(tmp_path / "loop/state.db")):
        pass


def test_a_folder_on_the_way_that_everybody_may_write_to_is_refused_unless_sticky(tmp_path):
    shared = tmp_path / "shared"
    (shared / "own").mkdir(parents=True)
    shared.chmod(0o777)
    refused(str(shared / "own/state.db"))
    shared.chmod(0o1777)
    with Store(str(shared / "own/state.db")):
        pass


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_a_journal_that_somebody_else_put_there_is_not_played_back(tmp_path, suffix):
    path = str(tmp_path / "state.db")
    with Store(path):
        pass
    with open(path + suffix, "w"):
        os.chown(path + suffix, USER, USER)
    with pytest.raises(StateError, match="can be written by others"), Store(path):
        pass


def test_an_agent_locks_no_folder_below_one_of_somebody_else(home):
    with pytest.raises(StateError, match="can be replaced by other users"):
        lock.StateLock(home + "/agent")
    assert os.listdir(home) == []


# --- a state of somebody else


def test_a_good_state_of_a_user_is_read(path):
    assert ask(path)["inventory"]["packages"]["count"] == 1 and len(ask(path)["changes"]) == 1


ENDLESS = "AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT %s FROM c"
HOSTILE = {
    "a view": "DROP TABLE state; CREATE VIEW state(id, computer, vm, last, mark, clock, seen_at, dropped_at) "
    + ENDLESS % "x, NULL, NULL, 0, '', 0, 0, 0",
    "a view without rows": "DROP TABLE part; CREATE VIEW part(kind, name, signature, digest, count, items) "
    + ENDLESS % "1, x, NULL, '', 0, x"
    + " WHERE x < 0",
    "another table": "CREATE TABLE more (x)",
    "another column": "ALTER TABLE run ADD COLUMN more",
    "a virtual table": "DROP TABLE run; CREATE VIRTUAL TABLE run USING rtree(id, a, b)",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON run BEGIN SELECT 1; END",
    "a text for a number": "UPDATE outcome SET generation = 'x'",
    "a text for a time": "UPDATE run SET collected_at = 'x'",
    "a fraction": "UPDATE state SET last = 1.5",
    "a negative number": "UPDATE state SET last = -1",
    "a number beyond all times": "UPDATE run SET collected_at = %d" % (1 << 60),
    "a number for a text": "UPDATE part SET signature = x'ff', count = 'x'",
    "a text for a blob": "UPDATE history SET records = 'x'",
    "outbox": "UPDATE outbox SET count = 'x'",
    "sources": "UPDATE outcome SET sources = '[[1, 2, 3, 4, 5]]'",
    "sources without a name": "UPDATE outcome SET sources = '[[[], 2]]'",
    "a scope too large": "UPDATE run SET scope = '[' || hex(zeroblob(50)) || ']'",
    "a scope too large behind a nul": "UPDATE run SET scope = '[' || char(0) || hex(zeroblob(50)) || ']'",
    "items": "UPDATE part SET items = x'%s'" % __import__("zlib").compress(b'[["p",[],{},1,2,"x","y"]]').hex(),
    "a record": "UPDATE history SET records = x'%s'" % __import__("zlib").compress(b'[{"ConfigChangeType":[]}]').hex(),
}


@pytest.mark.parametrize("script", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_state_is_one_sentence(path, script, monkeypatch):
    db = sqlite3.connect(path)
    try:
        db.executescript(script)
    except sqlite3.OperationalError as error:
        assert "no such module" in str(error)  # an SQLite without that kind of virtual tables
    db.close()
    monkeypatch.setattr(untrusted_sqlite, "VALUE_BYTES", 80)
    with pytest.raises(StateError) as caught:
        ask(path)
    assert "\n" not in str(caught.value) and "state.db" in str(caught.value)


def test_a_query_that_takes_for_ever_is_interrupted():
    db = sqlite3.connect(":memory:")
    untrusted_sqlite.limit_time(db, 0.1)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        db.execute("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c").fetchall()


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm"])
def test_a_pipe_in_the_place_of_a_database_or_its_journal_holds_nobody_up(path, suffix):
    if not suffix:
        os.unlink(path)
    os.mkfifo(path + suffix, 0o600)
    os.chown(path + suffix, USER, USER)
    with pytest.raises(StateError, match="not a regular file"):
        ask(path)


def test_many_values_in_few_bytes_are_refused_before_they_are_made(monkeypatch):
    from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state import packing

    monkeypatch.setattr(text, "MAX_VALUES", 1000)
    with pytest.raises(ValueError, match="more than 1000 values"):
        packing.json_list("[" + "[]," * 1000 + "[]]")


# --- the agent's other files


@pytest.fixture
def options(path):
    os.rename(path, os.path.join(os.path.dirname(path), "changetracking.db"))
    return AgentOptions(state=os.path.dirname(path), config_address="", chunks="", dcr="", address="/nowhere")


@pytest.mark.parametrize("name", ["status.json", "lock", "dcr.json"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_whoever_asks_for_the_status_is_not_held_up_and_reads_no_other_file(options, name, kind, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('{"Rule": "secret words"}')
    where = options.path(name)
    os.mkfifo(where) if kind == "pipe" else os.mkdir(where) if kind == "folder" else os.symlink(str(secret), where)
    try:
        status.read(options, USER)
    except StateError as error:
        assert where in str(error)
    assert "secret" not in json.dumps(doctor.as_data(doctor.examine(options, USER))).replace(str(secret), "")


GOOD = {
    "Version": "1", "Pid": 1, "StartedAt": "x", "Rule": None, "Kinds": {}, "Delivery": {"At": None, "Records": 0, "Error": ""},
}  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        [],
        {"Kinds": []},
        {"Kinds": {"packages": 1}},
        {"Kinds": {"packages": {"CollectedAt": 1}}},
        {"Kinds": {"packages": {"CollectedAt": "x"}}},
        {"Kinds": {"packages": {"Failed": {"a": []}}}},
        {"Rule": {"Warnings": [1]}},
        {"Rule": 5},
        {"Delivery": {}},
        {"Delivery": {"At": 1, "Records": "x", "Error": None}},
        {"Pid": "x"},
    ],
)
def test_a_status_that_no_agent_wrote_is_one_sentence(options, odd):
    with open(options.path("status.json"), "w") as file:
        json.dump(dict(GOOD, **odd) if isinstance(odd, dict) else odd, file)
    with pytest.raises(StateError, match=r"status file .* is not valid"):
        status.read(options, USER)
    assert doctor.as_data(doctor.examine(options, USER))["Links"][0]["Status"] == "unknown"


def test_a_status_as_the_agent_writes_it_is_read(options):
    with open(options.path("status.json"), "w") as file:
        json.dump(GOOD, file)
    assert status.read(options, USER)["Pid"] == 1 and status.lines(status.read(options, USER))


def test_only_a_regular_file_within_the_limit_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert folders.read(str(tmp_path / "file"), 5)[0] == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        folders.read(str(tmp_path / "file"), 4)
    os.mkfifo(str(tmp_path / "pipe"))
    for odd in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(OSError, match="not a regular file"):
            folders.read(odd, 4)


def test_a_state_that_may_not_be_looked_for_is_not_called_absent(tmp_path):
    with pytest.raises(StateError, match=r"There is no state .* Either nothing was collected yet, or give another one"):
        last_known.require(str(tmp_path / "none.db"), "give another one")
    (tmp_path / "loop").symlink_to("loop")  # an error that root meets as well
    with pytest.raises(StateError, match=r"Cannot read the state .*Give another path\."):
        last_known.require(str(tmp_path / "loop"), "give another one")


@pytest.fixture
def as_nobody(tmp_path):
    """The current user is neither root nor the owner of what the test made."""
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        os.chmod(str(folder), 0o755)
    os.seteuid(USER - 1)
    yield
    os.seteuid(0)


def test_whoever_may_not_use_a_state_is_told_as_whom_to_run(tmp_path, home, path, as_nobody):
    os.seteuid(0)
    status_file = os.path.join(home, status.FILE)
    with open(status_file, "w") as file:
        json.dump(GOOD, file)
    os.chmod(home, 0o700)
    options = AgentOptions(state=home, config_address="", chunks="", dcr="/none")
    who = "the user with the uid %d." % USER
    with pytest.raises(StateError, match="belongs to another user. Run this as " + who):  # root, too
        lock.StateLock(home)
    os.seteuid(USER - 1)
    for ask_for in (
        lambda: last_known.require(path, ""),
        lambda: status.read(options),
        lambda: Store(path, read_only=True, owner=USER).__enter__(),
    ):
        with pytest.raises(StateError, match=r"Cannot .* \(Permission denied\)\. Run this as root or as " + who):
            ask_for()
    with pytest.raises(StateError, match=r"Run this as %s Or give a path that the current user can write" % who):
        Store(path, owner=USER).__enter__()
    with pytest.raises(StateError, match="belongs to another user. Run this as " + who):
        lock.StateLock(home)
    state = next(link for link in doctor.examine(options, USER) if link.name == "state")
    assert state.message.endswith("Run this as root or as " + who)
    os.seteuid(0)
    os.chown(home, 0, 0)
    os.seteuid(USER - 1)
    assert folders.run_as(path) == "Run this as root."
