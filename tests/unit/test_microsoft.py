# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database of Microsoft's agent: what of it is recognized, and what counts as a change between that agent and ours."""

import gzip
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import bolt
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import baseline
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import SinceError, StateError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import listing
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import FILES
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed_reader import unpack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import settings as rule_settings
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import microsoft, run, takeover
from ansible_collections.changetracking.inventory.tests.helpers import bolt as maker

pytestmark = pytest.mark.no_python  # it is about what is in that database
FIXTURES = Path(__file__).parent / "fixtures/bolt"
AT = 1700000000  # when the files of the tests were changed last
BEFORE, AFTER = 1800000000, 1  # times of the database: after all that the tests do, and before


@pytest.fixture
def database(tmp_path):
    return str(tmp_path / "microsoft.db")


@pytest.fixture
def folder(tmp_path):
    """A tracked folder."""
    folder = tmp_path / "etc"
    folder.mkdir()
    for name in ("a.conf", "b.conf", "c.conf"):
        put(folder, name)
    return folder


def put(folder, name, text="text", at=AT):
    path = folder / name
    path.write_text(text)
    path.chmod(0o644)
    os.utime(str(path), (at, at))
    return path


def described(path, wanted="summary", kinds=("packages", "services", "files"), since=None):
    warnings = []
    result = microsoft.describe(path, kinds, wanted, None, since, warnings.append)
    return result, warnings


# --- recognized


def test_what_the_real_library_stored_is_described(database):
    with gzip.open(str(FIXTURES / "microsoft.db.gz")) as packed, open(database, "wb") as file:
        shutil.copyfileobj(packed, file)
    os.utime(database, (AT, AT))
    result, warnings = described(database, "full")
    assert warnings == []
    assert result["inventory"] == {"files": {"count": 40, "collected_at": "2023-11-14T22:13:20Z"}}
    assert result["buckets"] == [
        {"name": "FileInventory", "count": 40, "files": 40, "unknown": 0, "unknown_keys": []},
        {"name": "PackageInventory", "count": 2, "files": 0, "unknown": 2, "unknown_keys": ["openssl", "snapshot"]},
    ]
    items = unpack(result["packed"])["files"]
    assert [item["FileSystemPath"] for item in items] == sorted(
        "/etc/apport/crash%d.conf" % number for number in range(40)
    )
    assert items[0]["Mode"] == 420 and items[0]["DateModified"] == "2023-04-13 23:03:54"  # unchanged


def test_kinds_that_are_not_asked_for_are_left_out(database):
    maker.microsoft(database, [])
    result, _warnings = described(database, "full", ["packages"])
    assert result["inventory"] == {} and unpack(result["packed"]) == {}


def test_a_database_without_anything_known_says_what_it_has(database):
    maker.write(database, {b"Other\n": {b"key": b"value"}, b"More": {}})
    result, (warning,) = described(database)
    assert "has no items of files in the known format (its buckets: More, Other\\x0a)" in warning
    assert result["inventory"]["files"]["count"] == 0


def test_changes_are_not_to_be_had(database):
    maker.microsoft(database, [])
    with pytest.raises(SinceError, match="holds no changes"):
        described(database, since="1d")


PATH = "/etc/ssh/sshd_config"


@pytest.mark.parametrize(
    ("key", "value", "is_known"),
    [
        (maker.key(PATH), {"FileSystemPath": PATH}, True),
        (maker.key(PATH), {"CollectionName": PATH}, True),
        (maker.key(PATH).rstrip(b"="), {"FileSystemPath": PATH}, True),
        (maker.key("/a??>").replace(b"+", b"-").replace(b"/", b"_"), {"FileSystemPath": "/a??>"}, True),
        (maker.key(b"/a\xff\xfeb"), {"FileSystemPath": "/a\ufffd\ufffdb"}, True),
        (maker.key("/a\0b"), {"FileSystemPath": "/a\0b"}, False),
        (maker.key("relative"), {"FileSystemPath": "relative"}, False),
        (maker.key("/" + 5000 * "a"), {"FileSystemPath": "/" + 5000 * "a"}, False),
        (PATH.encode(), {"FileSystemPath": PATH}, False),
        (maker.key(PATH), {"FileSystemPath": "/etc/other"}, False),
        (maker.key(PATH), {"FileSystemPath": 7}, False),
        (maker.key(PATH), {}, False),
        (maker.key(PATH), [PATH], False),
        (maker.key(PATH), "\0", False),
    ],
)
def test_only_what_is_certain_is_taken_for_an_item(database, key, value, is_known):
    text = value if isinstance(value, str) else json.dumps(value)
    maker.write(database, {b"b": {key: text.encode()}})
    found = microsoft.load(database)
    assert len(found.items) == is_known and found.buckets[0]["unknown"] == (not is_known)


@pytest.mark.parametrize(
    "value", [b"[" * 100000, b"{" * 1000, b"1" * 5000, b"\xff\xfe", b'{"Size": ' + b"9" * 5000 + b"}", b"nul"]
)
def test_a_value_that_is_no_json_is_unknown(database, value):
    maker.write(database, {b"b": {maker.key(PATH): value}})
    assert microsoft.load(database).items == {}


def test_items_that_take_too_much_memory_are_refused(database):
    """Each byte of the value takes 64 bytes in memory."""
    value = b'{"FileSystemPath": "%s", "x": [%s]}' % (PATH.encode(), b",".join([b"{}"] * (3 << 20)))
    maker.write(database, {b"b": {maker.key(PATH): value}})
    with pytest.raises(StateError, match="has items with more than 4194304 values"):
        microsoft.load(database)


def test_a_key_of_any_bytes_is_shown_on_one_line_and_shortened(database):
    maker.write(database, {b"b": {b"\x1b[31m\n\xff" * 100: b"", maker.key("not a path"): b""}})
    (bucket,) = microsoft.load(database).buckets
    assert all(key.isprintable() and len(key) < 600 for key in bucket["unknown_keys"])
    assert "not a path" in bucket["unknown_keys"]


def test_a_path_with_items_that_differ_is_left_out(database):
    values = [
        {maker.key(path): json.dumps({"FileSystemPath": path, "Size": size}).encode() for path in ("/a", "/b")}
        for size in (1, 2)
    ]
    values[1][maker.key("/b")] = values[0][maker.key("/b")]
    maker.write(database, {b"one": values[0], b"two": values[1]})
    result, (warning,) = described(database)
    assert result["inventory"]["files"]["count"] == 1
    assert warning.endswith("has several items of /a, which are left out.")


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=30))
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=2), st.from_regex(takeover._TIME), st.from_regex(takeover._SHA256)
)
ITEMS = st.fixed_dictionaries({}, optional=dict.fromkeys(maker.item(__file__), VALUES))


@settings(max_examples=100, deadline=None)
@example(item={"Size": "\u00b2", "Uid": "\u00b2"})  # a digit, and no number
@given(item=ITEMS)
def test_an_item_of_any_form_can_be_compared(item):
    known = takeover.recorded("/etc/a", item)
    json.dumps(FILES.row(known.alone()))
    assert known.mode is None or 0 <= known.mode <= 0o777
    assert known.size is None or known.size >= 0


# --- as the baseline


class Host:
    """A state that is not there yet, a database of Microsoft's agent, and a rule."""

    def __init__(self, state, database, rules):
        self.state = str(state)
        self.database = database
        self.settings = rule_settings.default()._replace(file_rules=rules)

    def first(self):
        with Store(self.state) as store:
            return takeover.run_files(self.settings, store, microsoft.load(self.database), None, 7)

    def next(self):
        with Store(self.state) as store:
            return run.run_kind(FILES, self.settings, store)


@pytest.fixture
def host(tmp_path, database, folder):
    return Host(tmp_path / "state.db", database, [FileRule("r", str(folder) + "/*.conf")])


def items_of(folder, **fields):
    return [maker.item(path, **fields) for path in sorted(folder.iterdir())]


def reported(snapshot):
    return [
        (change.category, os.path.basename((change.new or change.old).path), ",".join(change.fields))
        for change in snapshot.changes
    ]


def test_a_host_on_which_nothing_changed_reports_nothing(host, folder, database):
    maker.microsoft(database, items_of(folder), at=AT)
    taken = host.first()
    assert reported(taken.snapshot) == [] and taken.snapshot.warnings() == []
    assert taken.sentence() == (
        "3 files were compared with it; 0 in it are outside of the rule, and 0 that are not in it are part of the baseline"
    )
    assert taken.snapshot.age == pytest.approx(time.time() - AT, abs=100) and taken.snapshot.count == 3
    assert reported(host.next()) == []


def test_what_changed_between_the_two_agents_is_reported_once(host, folder, database):
    items = items_of(folder)
    put(folder, "a.conf", "changed", AT + 5)
    (folder / "b.conf").chmod(0o600)
    (folder / "c.conf").unlink()
    put(folder, "new.conf")
    maker.microsoft(database, items, at=AFTER)
    snapshot = host.first().snapshot
    assert reported(snapshot) == [
        ("Modified", "a.conf", "FileContentChecksum,Size,DateModified"),
        ("Modified", "b.conf", "Mode"),
        ("Removed", "c.conf", ""),
        ("Added", "new.conf", ""),
    ]
    old = FILES.row(snapshot.changes[0].old)
    assert (old["Size"], old["DateModified"]) == (4, "2023-11-14T22:13:20Z")
    assert FILES.row(snapshot.changes[1].old)["Mode"] == "0644"
    assert reported(host.next()) == []


def test_the_contents_of_a_folder_that_is_gone_are_removed(host, folder, database):
    below = folder / "gone"
    below.mkdir()
    put(below, "d.conf")
    items = [*items_of(below), *(maker.item(folder / name) for name in ("a.conf", "b.conf", "c.conf"))]
    shutil.rmtree(str(below))
    maker.microsoft(database, items)
    assert reported(host.first().snapshot) == [("Removed", "d.conf", "")]
    assert reported(host.next()) == [] and reported(host.next()) == []


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({"Size": None}, ""),
        ({"Size": "4"}, ""),  # all values as text
        ({"Size": True}, ""),
        ({"FileContentChecksum": ""}, ""),
        ({"FileContentChecksum": "0" * 32}, ""),  # MD5
        ({"FileContentChecksum": "0" * 64}, "FileContentChecksum"),
        ({"FileContentChecksum": "0" * 64, "Size": 1250001}, "Size"),  # known to be wrong
        ({"FileContentChecksum": 7}, ""),
        ({"Owner": ""}, ""),
        ({"Owner": "4294967"}, ""),  # a number beside a name
        ({"Owner": "daemon"}, "Owner"),
        ({"Group": "daemon"}, "Group"),
        ({"Mode": None}, ""),
        ({"Mode": 0o4644}, ""),
        ({"Mode": (1 << 23) + 0o644}, ""),  # setuid, as Go has it
        ({"Mode": 0o600}, "Mode"),
        ({"DateModified": "2023-11-14T22:13:20Z"}, ""),
        ({"DateModified": "2023-11-14 22:13:21"}, "DateModified"),
        ({"DateModified": "0001-01-01 00:00:00"}, ""),
        ({"DateModified": "2023-13-14 22:13:20"}, ""),
        ({"DateModified": "14.11.2023"}, ""),
        ({"DateModified": ["2023"]}, ""),
        ({"DateCreated": "1999-12-31T23:59:59Z"}, ""),  # a change time
        ({"ItemType": "Directory", "Name": 5, "FileMetaDatacheckSum": None}, ""),
    ],
)
def test_only_what_both_agents_know_is_compared(host, folder, database, fields, changed):
    maker.microsoft(database, items_of(folder, **fields))
    assert reported(host.first().snapshot) == [
        ("Modified", name, changed) for name in ("a.conf", "b.conf", "c.conf") if changed
    ]
    assert reported(host.next()) == []


@pytest.fixture
def vienna(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_time_without_a_zone_may_be_local_or_utc(host, folder, database, vienna):
    items = items_of(folder)
    for item in items:
        item["DateModified"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(AT))
    maker.microsoft(database, items)
    os.utime(str(folder / "c.conf"), (AT + 60, AT + 60))
    snapshot = host.first().snapshot
    assert reported(snapshot) == [("Modified", "c.conf", "DateModified")]
    assert FILES.row(snapshot.changes[0].old)["DateModified"] == "2023-11-14T22:13:20Z"  # as of the other two


def test_setuid_is_no_change(host, folder, database):
    (folder / "a.conf").chmod(0o4644)
    maker.microsoft(database, items_of(folder))
    assert reported(host.first().snapshot) == []
    (folder / "a.conf").chmod(0o644)
    assert reported(host.next()) == [("Modified", "a.conf", "Mode")]


def test_files_that_the_rule_does_not_reach_are_left_out(host, folder, database, tmp_path):
    outside = tmp_path / "outside.conf"
    outside.write_text("")
    items = [*items_of(folder), maker.item(outside)]
    outside.unlink()
    put(folder, "x.txt")
    maker.microsoft(database, [*items, maker.item(folder / "x.txt", Size=99)])
    taken = host.first()
    assert reported(taken.snapshot) == [] and (taken.compared, taken.outside) == (3, 2)


def test_a_file_that_was_not_recorded_is_part_of_the_baseline_unless_it_is_certainly_new(
    host, folder, database, tmp_path
):
    items = items_of(folder)
    put(folder, "old.conf")
    other = tmp_path / "other"
    other.mkdir()
    put(other, "d.conf")
    host.settings.file_rules.append(FileRule("other", str(other) + "/*"))
    maker.microsoft(database, items, at=BEFORE)  # so old.conf is older than it
    taken = host.first()
    assert reported(taken.snapshot) == [] and taken.new == 2
    assert reported(host.next()) == []


def test_a_file_of_a_file_item_that_was_not_recorded_is_part_of_the_baseline(host, folder, database):
    maker.microsoft(database, [maker.item(folder / "a.conf")], at=AFTER)
    host.settings.file_rules[:] = [FileRule("a", str(folder / "a.conf")), FileRule("b", str(folder / "b.*"))]
    taken = host.first()
    assert reported(taken.snapshot) == [] and (taken.compared, taken.new) == (1, 1)


def test_a_full_database_may_lack_files(host, folder, database, monkeypatch):
    monkeypatch.setattr(takeover, "MAX_FILES", 3)
    items = items_of(folder)
    put(folder, "new.conf")
    maker.microsoft(database, items, at=AFTER)
    taken = host.first()
    assert reported(taken.snapshot) == [] and taken.new == 1


def test_what_is_still_there_in_another_form_is_not_removed(host, folder, database, tmp_path):
    items = items_of(folder)
    (folder / "a.conf").unlink()
    (folder / "a.conf").mkdir()
    (folder / "b.conf").unlink()
    (folder / "b.conf").symlink_to(tmp_path / "nowhere")
    maker.microsoft(database, items)
    assert reported(host.first().snapshot) == [] and reported(host.next()) == []


def test_of_a_symlink_only_the_contents_are_compared(host, folder, database, tmp_path):
    put(tmp_path, "target", "target")
    (folder / "l.conf").symlink_to(tmp_path / "target")
    items = [*items_of(folder)]
    items[-1].update(Mode=0o777, Size=6, Owner="daemon", DateModified="2001-01-01 00:00:00")
    maker.microsoft(database, items)
    assert reported(host.first().snapshot) == []
    os.unlink(host.state)
    put(tmp_path, "target", "other")
    assert reported(host.first().snapshot) == [("Modified", "l.conf", "FileContentChecksum")]


def test_a_folder_that_cannot_be_read_is_no_removal(host, folder, database, monkeypatch):
    items = items_of(folder)
    maker.microsoft(database, items)
    real = takeover.collectors.collect

    def failing(*arguments):
        collection = real(*arguments)
        collection.out_of_sight = lambda part: True
        return collection

    shutil.rmtree(str(folder))
    monkeypatch.setattr(takeover.collectors, "collect", failing)
    assert reported(host.first().snapshot) == []


def test_what_vanishes_while_the_scan_ends_leaves_the_rest_of_its_folder_known(host, folder, database, monkeypatch):
    """d.conf is there in a form that is not tracked, until the last moment."""
    maker.microsoft(database, [*items_of(folder), dict(items_of(folder)[0], FileSystemPath=str(folder / "d.conf"))])
    answers = iter([False])
    monkeypatch.setattr(takeover, "_is_gone", lambda path: next(answers, True))
    assert reported(host.first().snapshot) == []
    assert reported(host.next()) == [] and host.next().count == 3


def test_a_large_folder_is_compared_in_its_slices(host, folder, database, monkeypatch):
    monkeypatch.setattr(listing, "SLICED_ABOVE", 50)
    for number in range(300):
        put(folder, "%04d.conf" % number)
    items = items_of(folder)
    put(folder, "0007.conf", "changed")
    gone = [item["FileSystemPath"] for item in items[100:290]]  # so that in many slices, nothing is left
    for path in gone:
        os.unlink(path)
    maker.microsoft(database, items)
    taken = host.first()
    with Store(host.state) as store:
        assert sum("//" in name for name in store.known(FILES).names()) > 50
    assert sorted(reported(taken.snapshot)) == [
        ("Modified", "0007.conf", "FileContentChecksum,Size"),
        *(("Removed", os.path.basename(path), "") for path in gone),
    ]
    assert taken.compared == 303 and reported(host.next()) == [] and reported(host.next()) == []


# --- in the agent


@pytest.fixture
def options(tmp_path, database):
    (tmp_path / "state").mkdir(mode=0o700)
    return AgentOptions(state=str(tmp_path / "state"), baseline=database)


def take(options, host):
    with Store(options.database) as store:
        return baseline.take(options, host.settings, store, None)


def test_the_agent_says_where_its_baseline_comes_from_and_takes_it_once(options, host, folder, database):
    maker.microsoft(database, items_of(folder), at=AT)
    taken = take(options, host)
    assert taken.sentence == (
        "The baseline of files is what Microsoft's agent recorded in '%s' until 2023-11-14T22:13:20Z: 3 files were compared with it; 0 in"
        " it are outside of the rule, and 0 that are not in it are part of the baseline." % database
    )
    baseline.keep(options, taken.sentence)
    assert baseline.kept(options) == [taken.sentence]
    assert take(options, host) == (None, "")


def test_a_rule_without_paths_leaves_the_database_for_the_one_that_has_them(options, host, folder, database):
    maker.microsoft(database, items_of(folder))
    put(folder, "a.conf", "changed")
    with_paths, host.settings = host.settings, host.settings._replace(file_rules=[])
    host.state = options.database
    assert take(options, host) == (None, "")
    host.next()
    host.settings = with_paths
    assert reported(take(options, host).snapshot) == [("Modified", "a.conf", "FileContentChecksum,Size")]
    assert take(options, host) == (None, "") and reported(host.next()) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "There is no database"),
        (lambda path: Path(path).write_bytes(b"x" * 9000), "is damaged"),
        (
            lambda path: maker.write(path, {b"Other": {b"a": b"b"}}),
            "has no items of files in the known format (its buckets: Other)",
        ),
    ],
)
def test_without_a_usable_database_the_first_run_is_the_baseline(options, host, database, make, words, monkeypatch):
    monkeypatch.setattr(bolt, "PAUSE_SECONDS", 0)
    make(database)
    taken = take(options, host)
    assert taken.snapshot is None and words in taken.sentence
    assert taken.sentence.endswith(" The first run is the baseline of files.")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Files": 7}', "[" * 100000, "null"])
def test_a_note_of_the_baseline_that_makes_no_sense_is_none(options, text):
    Path(options.path(baseline.FILE)).write_text(text)
    assert baseline.kept(options) == []
