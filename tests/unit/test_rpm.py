# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rpm's database; the fixture is one rpm made, and rpm.query is what `rpm -qa` said of it."""

import gzip
import os
import shutil
import sqlite3
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import SourceAbsent, SourceFailed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages import (
    rpm,
    rpm_query,
    rpm_sqlite,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.absence import signature
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import Package
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known, Part

FIXTURES = os.path.join(os.path.dirname(__file__), "fixtures", "rpm")
FORMAT = (
    "%{NAME}\\t%|ARCH?{%{ARCH}}|\\t%|EPOCH?{%{EPOCH}}:{0}|:%{VERSION}-%{RELEASE}\\t"
    "%{SUMMARY}\\t%|PACKAGER?{%{PACKAGER}}|\\t%{LONGSIZE}\\t%{INSTALLTIME}\\t%|SOURCERPM?{%{SOURCERPM}}|\\n"
)
LONG_AGO = 1000000000
CRASHING_WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("DELETE FROM Packages WHERE hnum = (SELECT max(hnum) FROM Packages)")
connection.commit()
os._exit(0)
"""
with gzip.open(os.path.join(FIXTURES, "rpmdb.sqlite.gz")) as packed:
    DATABASE = packed.read()


class Seen(Known):
    def __init__(self, part):
        self.part = part

    def signature(self, part):
        return self.part.signature

    def items(self, part):
        return list(self.part.items)


def need(tool):
    if shutil.which(tool) is None:
        if os.environ.get("CI"):
            pytest.fail("%s is needed for this test, and it is not installed" % tool)
        pytest.skip("%s is needed for this test: install it" % tool)


def said(output):
    """What `rpm -qa` printed for FORMAT."""
    rows = [line.split("\t") for line in output.decode("utf-8").split("\n")[:-1]]
    return sorted(Package(*(row[:5] + [int(row[5]), int(row[6]), row[7]])) for row in rows)


def expected():
    with open(os.path.join(FIXTURES, "rpm.query"), "rb") as file:
        return said(file.read())


@pytest.fixture
def root(tmp_path):
    """A root directory with the fixture as its database."""
    base = tmp_path / "var/lib/rpm"
    base.mkdir(parents=True)
    (base / "rpmdb.sqlite").write_bytes(DATABASE)
    os.utime(str(base / "rpmdb.sqlite"), (LONG_AGO, LONG_AGO))
    return tmp_path


def database(root):
    return root / "var/lib/rpm/rpmdb.sqlite"


def collect(root, known=None, gpg_keys=False):
    return rpm.collect(known or Known(), str(root), gpg_keys)


def failure(root):
    with pytest.raises(SourceFailed) as caught:
        collect(root)
    text = str(caught.value)
    assert "\n" not in text
    return text


def fake_rpm(tmp_path, monkeypatch, script):
    """An rpm that misbehaves in a way the real one cannot be brought to."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "rpm").write_text("#!/bin/sh\n" + script)
    (folder / "rpm").chmod(0o755)
    monkeypatch.setenv("PATH", "%s:%s" % (folder, os.environ["PATH"]))


def test_every_field_is_as_rpm_prints_it(root):
    assert collect(root, gpg_keys=True).items == expected()


def test_keys_are_no_software_unless_asked_for(root):
    assert [one.name for one in collect(root).items if one.name == "gpg-pubkey"] == []
    (key,) = [one for one in collect(root, gpg_keys=True).items if one.name == "gpg-pubkey"]
    assert key.architecture == ""


def test_two_versions_of_one_kernel_are_two_items(root):
    versions = [one.version for one in collect(root).items if one.name == "kernel-test"]
    assert versions == ["0:5.14.0-1.el9", "0:5.14.1-1.el9"]


def test_a_summary_that_says_none_is_kept_and_an_absent_packager_is_empty(root):
    items = {one.name: one for one in collect(root).items}
    assert items["none"].summary == "(none)"
    assert items["kernel-test"].publisher == ""


def test_the_older_place_of_the_database_is_found_too_and_the_newer_one_first(root):
    newer = root / "usr/lib/sysimage/rpm"
    newer.mkdir(parents=True)
    shutil.copy(str(database(root)), str(newer))
    database(root).write_bytes(b"")
    assert len(collect(root).items) == 5


def test_reading_leaves_the_database_as_it_was(root):
    collect(root)
    assert database(root).read_bytes() == DATABASE
    assert sum(path.stat().st_size for path in database(root).parent.glob("*-wal")) == 0


def test_what_is_in_the_write_ahead_log_counts(root):
    before = collect(root)
    subprocess.check_call([sys.executable, "-c", CRASHING_WRITER, str(database(root))])
    assert os.path.getsize(str(database(root)) + "-wal") > 0
    assert len(collect(root, Seen(before), gpg_keys=True).items) == len(expected()) - 1


def test_nothing_is_read_where_the_signature_is_known(root):
    known = Part(
        "rpm", signature(rpm._stamp(str(database(root)), False)[0], str(database(root).parent), settled=True), []
    )
    database(root).write_bytes(DATABASE)
    os.utime(str(database(root)), (LONG_AGO, LONG_AGO))
    assert collect(root, Seen(known)).items is not None
    known = Part(
        "rpm", signature(rpm._stamp(str(database(root)), False)[0], str(database(root).parent), settled=True), []
    )
    assert collect(root, Seen(known)) == Part("rpm", known.signature, None)
    assert collect(root, Seen(known), gpg_keys=True).items is not None


def test_a_database_changed_this_moment_is_read_again(root):
    os.utime(str(database(root)))
    assert collect(root, Seen(collect(root))).items is not None


WORKING_RPM = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_while_rpm_works_a_package_with_two_versions_is_not_sure(root):
    lock = str(root / "var/lib/rpm/.rpm.lock")
    quiet = rpm.collect(Known(), str(root))
    assert quiet.signature and not quiet.unsure
    worker = subprocess.Popen([sys.executable, "-c", WORKING_RPM, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout.readline() == b"locked\n"
    part = rpm.collect(Known(), str(root))
    worker.communicate()
    assert part.items == quiet.items and part.signature != quiet.signature
    assert part.unsure == {("kernel-test", "x86_64")} and "kernel-test" in part.message
    assert rpm.collect(Known(), str(root)) == quiet


def test_no_database_is_absent(tmp_path):
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    with pytest.raises(SourceAbsent):
        collect(tmp_path)


def test_a_database_without_packages_is_no_failure(root):
    connection = sqlite3.connect(str(database(root)))
    connection.execute("DELETE FROM Packages")
    connection.commit()
    connection.close()
    assert collect(root).items == []


@pytest.mark.parametrize("size", [0, 10, 4096, 16384, len(DATABASE) // 2])
def test_a_truncated_database_failed(root, size):
    database(root).write_bytes(DATABASE[:size])
    assert "rpmdb --verifydb" in failure(root)


def test_a_database_of_another_kind_failed(root):
    database(root).unlink()
    connection = sqlite3.connect(str(database(root)))
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()
    assert "no such table: Packages" in failure(root)


def test_a_locked_database_failed(root, monkeypatch):
    monkeypatch.setattr(rpm_sqlite, "_LOCK_WAIT", 0.05)
    connection = sqlite3.connect(str(database(root)), isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        assert "locked" in failure(root)
    finally:
        connection.close()


def test_a_dangling_database_failed(root):
    database(root).unlink()
    database(root).symlink_to("nowhere")
    assert "Cannot read the rpm database" in failure(root)


def rewrite(root, *statements):
    connection = sqlite3.connect(str(database(root)))
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


ENDLESS = "AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS hnum, zeroblob(8) AS blob, x AS key FROM c"


@pytest.mark.parametrize("table", ["Packages", "packages", "Name"])
@pytest.mark.parametrize("rows", ["", " WHERE x < 0"])
def test_a_view_in_the_place_of_a_table_failed_before_it_is_asked(root, table, rows):
    rewrite(root, "DROP TABLE " + table, "CREATE VIEW %s %s%s" % (table, ENDLESS, rows))
    assert "holds a view that rpm does not make" in failure(root)


def test_a_computed_column_failed(root):
    if sqlite3.sqlite_version_info >= (3, 31):
        rewrite(root, "DROP TABLE Packages", "CREATE TABLE Packages(hnum, blob AS (zeroblob(1000000000)))")
        assert "that rpm does not make" in failure(root)


def test_a_pipe_in_the_place_of_the_database_failed(root):
    database(root).unlink()
    os.mkfifo(str(database(root)))
    assert "not a regular file" in failure(root)


@pytest.mark.parametrize("limit, most", [("_MAX_HEADERS", 1000), ("_MAX_TEXT", 100), ("_MAX_PACKAGES", 2)])
def test_more_than_rpm_writes_failed(root, monkeypatch, limit, most):
    monkeypatch.setattr(rpm_sqlite, limit, most)
    assert "holds more than rpm writes" in failure(root)


def test_a_header_too_large_is_not_loaded_and_is_a_damaged_package(root, monkeypatch):
    before = collect(root)
    rewrite(root, "UPDATE Packages SET blob = zeroblob(1000000) WHERE hnum = (SELECT min(hnum) FROM Packages)")
    monkeypatch.setattr(rpm_sqlite, "_MAX_HEADER", 999999)
    part = collect(root, Seen(before))
    assert part.unsure == {("kernel-test",)} and len(part.items) == len(before.items) - 1


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    path = tmp_path_factory.mktemp("blobs") / "rpmdb.sqlite"
    path.write_bytes(DATABASE)
    connection = sqlite3.connect(str(path))
    found = [blob for (blob,) in connection.execute("SELECT blob FROM Packages")]
    connection.close()
    return found


def spoilt(blob, tag, field, value):
    """A header in whose entry for a tag one field (1 type, 2 offset, 3 count) has another value."""
    entries = struct.unpack_from(">I", blob)[0]
    for at in range(8, 8 + 16 * entries, 16):
        if struct.unpack_from(">I", blob, at)[0] == tag:
            return blob[: at + 4 * field] + struct.pack(">I", value) + blob[at + 4 * field + 4 :]
    raise AssertionError("no tag %d" % tag)


def replace_first(root, blob):
    connection = sqlite3.connect(str(database(root)))
    connection.execute("UPDATE Packages SET blob = ? WHERE hnum = (SELECT min(hnum) FROM Packages)", (blob,))
    connection.commit()
    connection.close()


SPOIL = [
    lambda blob: b"",
    lambda blob: "text",
    lambda blob: blob[:-1],
    lambda blob: b"\xff" * 8 + blob[8:],
    lambda blob: spoilt(blob, 1000, 2, 0x7FFFFFFF),
    lambda blob: spoilt(blob, 1008, 2, len(blob)),
    lambda blob: spoilt(blob, 1008, 2, 1),
    lambda blob: spoilt(blob, 1004, 1, 99),
    lambda blob: spoilt(blob, 1000, 3, 0),
    lambda blob: spoilt(blob, 1001, 0, 9001),
]


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_package_whose_header_is_damaged_is_unsure_and_named_and_the_rest_is_known(root, blobs, spoil):
    before = collect(root)
    replace_first(root, spoil(blobs[0]))
    part = collect(root, Seen(before))
    assert len(part.items) == len(before.items) - 1
    assert part.unsure == {("kernel-test",)}
    assert part.message.startswith("1 package is not counted") and "damaged: kernel-test; " in part.message
    assert "rpmdb --verifydb" in part.message
    assert collect(root, Seen(part)).items is not None, "the next run has to say so too"


def test_a_damaged_header_without_a_name_makes_unsure_whatever_is_missing(root, blobs):
    before = collect(root)
    replace_first(root, b"")
    connection = sqlite3.connect(str(database(root)))
    connection.execute("DELETE FROM Name WHERE hnum IN (SELECT min(hnum) FROM Packages)")
    connection.commit()
    connection.close()
    other = [one for one in before.items if one.name == "plain"]
    part = collect(root, Seen(before._replace(items=[*other, other[0]._replace(name="removed")])))
    assert part.unsure == {("removed", other[0].architecture)}
    assert "1 whose name is not readable either" in part.message


def test_a_database_in_which_no_header_can_be_read_failed(root):
    connection = sqlite3.connect(str(database(root)))
    connection.execute("UPDATE Packages SET blob = x'00'")
    connection.commit()
    connection.close()
    assert "no other header can be read" in failure(root)


CHAR, INT8, INT16, INT32, INT64, STRING, BIN, ARRAY, I18N = range(1, 10)
PLAIN = {
    1000: (STRING, 1, b"odd\0"), 1001: (STRING, 1, b"1\0"), 1002: (STRING, 1, b"2\0"), 1004: (I18N, 1, b"sum\0"),
    1008: (INT32, 1, struct.pack(">I", 1700000000)), 1009: (INT32, 1, struct.pack(">I", 77)), 1015: (STRING, 1, b"pack\0"),
    1022: (STRING, 1, b"noarch\0"),
}  # fmt: skip
ODD = Package("odd", "noarch", "0:1-2", "sum", "pack", 77, 1700000000)


def header(tags):
    """A header as rpm writes it, of {tag: (type, count, bytes)}."""
    index = data = b""
    for tag, (kind, count, value) in sorted(tags.items()):
        data += b"\0" * (-len(data) % {INT16: 2, INT32: 4, INT64: 8}.get(kind, 1))
        index += struct.pack(">IIII", tag, kind, len(data), count)
        data += value
    return struct.pack(">II", len(tags), len(data)) + index + data


# What rpm 4.18 says of each: the first of an array, any number, a number in the place of a text.
UNUSUAL = [
    ({1000: (ARRAY, 2, b"odd\0two\0")}, ODD),
    ({1000: (I18N, 1, b"odd\0")}, ODD),
    ({1000: (INT32, 1, struct.pack(">I", 5))}, ODD._replace(name="5")),
    ({1001: (ARRAY, 2, b"1\0009\0")}, ODD),
    ({1002: (INT32, 1, struct.pack(">I", 5))}, ODD._replace(version="0:1-5")),
    ({1003: (CHAR, 1, b"\3")}, ODD._replace(version="3:1-2")),
    ({1003: (INT8, 1, b"\3")}, ODD._replace(version="3:1-2")),
    ({1003: (INT16, 1, struct.pack(">H", 3))}, ODD._replace(version="3:1-2")),
    ({1003: (INT64, 1, struct.pack(">Q", 3))}, ODD._replace(version="3:1-2")),
    ({1003: (INT32, 2, struct.pack(">II", 3, 4))}, ODD._replace(version="3:1-2")),
    ({1003: (STRING, 1, b"7\0")}, ODD._replace(version="7:1-2")),
    ({1009: (INT64, 1, struct.pack(">Q", 1 << 33))}, ODD._replace(size=1 << 33)),
    ({1009: (INT16, 1, struct.pack(">H", 300))}, ODD._replace(size=300)),
    ({1009: (INT32, 3, struct.pack(">III", 1, 2, 3))}, ODD._replace(size=1)),
    ({1009: (STRING, 1, b"12\0")}, ODD._replace(size=12)),
    ({1009: (STRING, 1, b"many\0")}, ODD._replace(size=None)),
    ({5009: (INT32, 1, struct.pack(">I", 99))}, ODD._replace(size=99)),
    ({1008: (INT64, 1, struct.pack(">Q", 1700000000))}, ODD),
    ({1004: (STRING, 1, b"sum\0")}, ODD),
    ({1004: (ARRAY, 2, b"sum\0two\0")}, ODD),
    ({1004: (I18N, 2, b"sum\0summe\0")}, ODD),
    ({1004: (INT32, 1, struct.pack(">I", 5))}, ODD._replace(summary="5")),
    ({1004: (BIN, 2, b"\1\xff")}, ODD._replace(summary="")),
    ({1015: (ARRAY, 2, b"pack\0two\0")}, ODD),
    ({1022: (I18N, 1, b"noarch\0")}, ODD),
]


@pytest.mark.parametrize(("tags", "package"), UNUSUAL)
def test_a_value_of_an_unusual_type_is_read_as_rpm_reads_it(root, tags, package):
    replace_first(root, header({**PLAIN, **tags}))
    assert package in collect(root).items


BAD = [
    {1000: (STRING, 0, b"odd\0")}, {1003: (INT32, 0, b"")}, {1003: (0, 1, b"")}, {1004: (I18N, 0, b"")},
    {1004: (STRING, 2, b"sum\0two\0")}, {1015: (99, 1, b"p\0")}, {1022: (STRING, 1, b"noarch")},
]  # fmt: skip


@pytest.mark.parametrize("tags", BAD)
def test_what_rpm_skips_as_damaged_is_no_package(tags):
    with pytest.raises(ValueError):
        rpm_sqlite.parse_header(header({**PLAIN, **tags}), {})


def test_rpm_itself_reads_unusual_headers_alike(root):
    need("rpm")
    for tags in [tags for tags, _package in UNUSUAL] + BAD:
        database(root).write_bytes(DATABASE)
        replace_first(root, header({**PLAIN, **tags}))
        if tags.get(1009, (0,))[0] != BIN:
            direct, asked = (
                reader(str(database(root)))
                for reader in (rpm_sqlite.read, lambda path: rpm_query.read(path, str(root), ndb=False))
            )
            assert sorted(map(repr, direct.packages)) == sorted(map(repr, asked.packages))
            assert len(direct.damaged) == len(asked.damaged)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_damage_to_a_header_is_an_error_or_a_package(blobs, data):
    blob = bytearray(data.draw(st.sampled_from(blobs)))
    for _each in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, min(len(blob), 1500) - 1))] = data.draw(st.integers(0, 255))
    try:
        package = rpm_sqlite.parse_header(bytes(blob), {})
    except ValueError as error:
        assert str(error)
    else:
        assert package.name and package.version


def test_headers_of_one_shape_are_read_alike(blobs):
    layouts = {}
    once = [rpm_sqlite.parse_header(blob, layouts) for blob in blobs]
    assert len(layouts) < len(blobs)
    assert once == [rpm_sqlite.parse_header(blob, {}) for blob in blobs]


quoted = st.text(max_size=20).filter(lambda text: "\0" not in text)


sizes = st.one_of(st.none(), st.integers(0, 2**63))


@given(st.lists(st.tuples(quoted, st.one_of(st.none(), quoted), sizes), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_text_survives_the_quoting_of_rpm(rows):
    def quote(text):
        return "-" if text is None else "'" + text.replace("'", "'\\''") + "'"

    lines = [
        "%s - - '1' '2' %s %s %s - - %s\n"
        % (quote("n" + name), quote(summary), quote(name), "-" if size is None else size, quote(summary))
        for name, summary, size in rows
    ]
    assert rpm_query.parse_query("".join(lines).encode("utf-8", "surrogatepass"), "x").packages == [
        Package("n" + name, "", "0:1-2", summary or "", name, size, None, summary or "") for name, summary, size in rows
    ]


@pytest.mark.parametrize("output", [b"x", b"'a' 'b'\n", b"'a' - - '1' '2' - - - - - -"])
def test_output_of_rpm_that_cannot_be_read_failed(output):
    with pytest.raises(SourceFailed, match="rpmdb --verifydb"):
        rpm_query.parse_query(output, "/var/lib/rpm")


def test_output_of_rpm_with_unusual_values_is_read():
    rows = b"'a' - - '1' '2' - - - - - -\n'b' 'noarch' 3 '1' 5 (invalid type) 'p' 0102 - 7 8\n'c' - - - '2' - - - - - -\n- - - '1' '2' - - - - - -\n"
    found = rpm_query.parse_query(rows, "x")
    assert [(one.name, one.version, one.summary) for one in found.packages] == [("a", "0:1-2", ""), ("b", "3:1-5", "")]
    assert found.damaged == ["c", ""]


@pytest.mark.parametrize(
    "complaint",
    [
        "error: rpmdb: damaged header #7 retrieved -- skipping.",
        "error: rpmdbNextIterator: skipping h#       7 tag[3]: BAD, tag 1003 type 4 offset 8 count 0 len 2",
    ],
)
def test_a_header_that_rpm_leaves_out_is_one_unsure_package(tmp_path, monkeypatch, complaint):
    base = tmp_path / "var/lib/rpm"
    base.mkdir(parents=True)
    (base / "Packages").write_bytes(b"x")
    row = "'%s' - - '1' '2' - - - - - -"
    fake_rpm(tmp_path, monkeypatch, 'echo "%s"\necho "%s"\n' % (row % "a", row % "b"))
    before = collect(tmp_path)
    fake_rpm(tmp_path, monkeypatch, "echo \"%s\"\necho '%s' >&2\n" % (row % "a", complaint))
    part = collect(tmp_path, Seen(before))
    assert [one.name for one in part.items] == ["a"] and part.unsure == {("b", "")}
    assert "1 whose name is not readable either" in part.message


def test_the_database_read_directly_is_as_rpm_says(root):
    need("rpm")
    output = subprocess.check_output(
        ["rpm", "--dbpath", str(database(root).parent), "-qa", "--queryformat", FORMAT],
        env=dict(os.environ, LC_ALL="C.UTF-8"),
    )
    assert collect(root, gpg_keys=True).items == said(output) == expected()


def test_both_ways_of_reading_a_database_rpm_made_here_agree(tmp_path):
    need("rpm")
    base = tmp_path / "var/lib/rpm"
    base.mkdir(parents=True)
    for name in ("kernel-test-5.14.0-1.el9.x86_64.rpm", "plain.rpm"):
        subprocess.check_call(
            ["rpm", "--dbpath", str(base), "-i", "--justdb", "--nodeps", "--ignorearch", os.path.join(FIXTURES, name)],
            stderr=subprocess.DEVNULL,
        )
    direct = collect(tmp_path).items
    assert [one.name for one in direct] == ["kernel-test", "plain"]
    assert sorted(rpm_query.read(str(base / "rpmdb.sqlite"), str(tmp_path), ndb=False).packages) == direct


def test_the_fixture_through_rpm_is_the_same(root):
    need("rpm")
    assert sorted(rpm_query.read(str(database(root)), str(root), ndb=False).packages) == expected()


@pytest.mark.parametrize("name", ["Packages.db", "Packages"])
def test_a_damaged_database_only_rpm_can_read_failed(tmp_path, name):
    need("rpm")
    base = tmp_path / "var/lib/rpm"
    base.mkdir(parents=True)
    (base / name).write_bytes(b"\x55" * 8192)
    failure(tmp_path)
    assert not (base / "rpmdb.sqlite").exists(), "an empty database that the next run would take for the real one"


@pytest.mark.parametrize(
    "script, sentence",
    [
        (
            "echo \"'a' - - '1' '2' - - - - - -\"\necho 'error: db5 error(-30969) from dbcursor->c_get' >&2\n",
            "db5 error",
        ),
        ("exit 3\n", "exit code 3"),
        ("exit 0\n", "sees no package"),
        ("exec sleep 60\n", "took longer than 0 seconds"),
        ("exec >&- 2>&-\nsleep 60 &\nexec sleep 60\n", "took longer than 0 seconds"),
    ],
)
def test_an_rpm_that_misbehaves_is_a_failure(tmp_path, monkeypatch, script, sentence):
    base = tmp_path / "var/lib/rpm"
    base.mkdir(parents=True)
    (base / "Packages").write_bytes(b"x")
    fake_rpm(tmp_path, monkeypatch, script)
    if "0 seconds" in sentence:
        monkeypatch.setattr(rpm_query, "_QUERY_DEADLINE", 0)
    assert sentence in failure(tmp_path)


def test_without_rpm_a_database_only_rpm_can_read_failed(tmp_path, monkeypatch):
    base = tmp_path / "var/lib/rpm"
    base.mkdir(parents=True)
    (base / "Packages").write_bytes(b"x")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Install rpm" in failure(tmp_path)
