# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dpkg's database; the fixtures are Debian's own files, and the .query beside each is what dpkg-query said of it."""

import os
import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import SourceAbsent, SourceFailed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages import dpkg, dpkg_status
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.absence import signature
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import Package
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known, Part

FIXTURES = os.path.join(os.path.dirname(__file__), "fixtures", "dpkg")
QUERY = (
    "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Status}\\t"
    "${binary:Summary}\\t${Maintainer}\\t${Installed-Size}\\t${Source}\\n"
)
LONG_AGO = 1000000000
ONE = (
    b"Package: one\nStatus: install ok installed\nPriority: optional\nInstalled-Size: 12\n"
    b"Maintainer: M <m@example.org>\n"
    b"Architecture: amd64\nVersion: 1.0-1\nDescription: The one\n and only\n\n"
)


class Seen(Known):
    def __init__(self, part):
        self.part = part

    def signature(self, part):
        return self.part.signature


def fixture(name):
    with open(os.path.join(FIXTURES, name), "rb") as file:
        return file.read()


def said(output):
    """What dpkg-query printed, as rows of name, architecture, version, state, summary, publisher, bytes or None, source."""
    rows = [line.split("\t") for line in output.decode("utf-8", "surrogateescape").split("\n")[:-1]]
    return sorted(row[:6] + [int(row[6]) * 1024 if row[6] else None, row[7]] for row in rows)


def rows(stanzas):
    return sorted(
        [one.name, one.architecture, one.version, one.state, one.summary, one.publisher, one.size, one.source]
        for one in stanzas
    )


@pytest.fixture
def root(tmp_path):
    """An empty database under a root directory."""
    for name in ("info", "updates"):
        (tmp_path / "var/lib/dpkg" / name).mkdir(parents=True, exist_ok=True)
    return tmp_path


def install(root, data, settled=True):
    base = root / "var/lib/dpkg"
    (base / "status").write_bytes(data)
    if settled:
        age(base)
    return base


def age(base):
    for folder, folders, files in os.walk(str(base), topdown=False):
        for path in [os.path.join(folder, name) for name in folders + files] + [folder]:
            os.utime(path, (LONG_AGO, LONG_AGO))


def collect(root, known=None):
    return dpkg.collect(known or Known(), str(root))


def failure(root):
    with pytest.raises(SourceFailed) as caught:
        collect(root)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("release", ["bullseye", "bookworm", "trixie"])
def test_every_field_is_as_dpkg_query_prints_it(release):
    assert rows(dpkg_status.parse(fixture(release + ".status"), "status")) == said(fixture(release + ".query"))


@pytest.mark.parametrize("release", ["bullseye", "bookworm", "trixie"])
def test_the_quick_way_and_the_careful_way_agree(release):
    data = fixture(release + ".status")
    careful = data.replace(b"\nStatus:", b"\nSTATUS :").replace(b"\nVersion:", b"\nversion:\t")
    assert dpkg_status.parse(careful, "status") == dpkg_status.parse(data, "status")


def test_a_journal_dpkg_left_behind_counts(root):
    base = install(root, fixture("bookworm.status"))
    for name in os.listdir(os.path.join(FIXTURES, "journal")):
        shutil.copy(os.path.join(FIXTURES, "journal", name), str(base / "updates"))
    (base / "updates" / "tmp.i").write_bytes(b"#padded\n")
    part = collect(root)
    expected = [row for row in said(fixture("journal.query")) if row[3] == "installed"]
    assert [[one.name, one.architecture, one.version] for one in part.items] == [row[:3] for row in expected]
    assert part.unsure == {("journal-b", "all")}


def test_an_architecture_changed_in_the_journal_replaces_the_old_one(root):
    base = install(root, ONE)
    (base / "updates" / "0000").write_bytes(ONE.replace(b"amd64", b"i386"))
    assert [one.architecture for one in collect(root).items] == ["i386"]


def test_a_config_files_package_is_not_counted(root):
    data = fixture("bookworm.status")
    assert b"deinstall ok config-files" in data
    install(root, data)
    part = collect(root)
    assert "logrotate" not in [one.name for one in part.items]
    assert part.unsure == frozenset() and part.message == ""


def test_one_package_of_two_architectures_is_two_items(root):
    install(root, fixture("bookworm.status"))
    assert [one.architecture for one in collect(root).items if one.name == "zlib1g"] == ["amd64", "i386"]


@pytest.mark.parametrize("state", ["triggers-awaited", "triggers-pending"])
def test_a_package_whose_triggers_are_still_to_run_is_installed(root, state):
    install(root, ONE.replace(b"ok installed", b"ok " + state.encode()))
    part = collect(root)
    assert ([one.name for one in part.items], part.unsure, part.message) == (["one"], frozenset(), "")


@pytest.mark.parametrize("state", ["half-installed", "unpacked", "half-configured"])
def test_a_package_in_between_is_unsure_and_named(root, state):
    install(root, ONE + ONE.replace(b"one", b"two").replace(b"ok installed", b"ok " + state.encode()))
    part = collect(root)
    assert [one.name for one in part.items] == ["one"]
    assert part.unsure == {("two", "amd64")}
    assert part.message == "1 package is not fully installed and not counted: two (%s)" % state
    assert collect(root, Seen(part)).items is not None, "the next run has to say so too"


def test_a_long_list_of_packages_in_between_is_bounded(root):
    broken = ONE.replace(b"ok installed", b"ok unpacked")
    install(root, ONE + b"".join(broken.replace(b"one", b"p%03d" % number) for number in range(300)))
    part = collect(root)
    assert len(part.unsure) == 300
    assert part.message.endswith("p004 (unpacked) and 295 more") and len(part.message) < 200


def test_the_install_time_is_that_of_the_file_list(root):
    same = ONE.replace(b"one", b"lib").replace(b"amd64\n", b"amd64\nMulti-Arch: same\n")
    base = install(root, ONE.replace(b"one", b"unlisted") + ONE + same)
    for name, time in (("one.list", 1234567890), ("lib:amd64.list", 1300000000), ("lib.list", 1)):
        (base / "info" / name).write_bytes(b"/.\n")
        os.utime(str(base / "info" / name), (time, time))
    assert [(one.name, one.installed_on) for one in collect(root).items] == [
        ("lib", 1300000000), ("one", 1234567890), ("unlisted", None),
    ]  # fmt: skip


def test_an_image_without_dpkg_is_read_from_status_d(root):
    folder = root / "var/lib/dpkg/status.d"
    folder.mkdir()
    (folder / "one").write_bytes(ONE.replace(b"Status: install ok installed\n", b"")[:-1])
    (folder / "one.md5sums").write_bytes(b"d41d8cd98f00b204e9800998ecf8427e  etc/one\n")
    assert collect(root).items == [Package("one", "amd64", "1.0-1", "The one", "M <m@example.org>", 12288, None)]


def test_nothing_is_read_where_the_signature_is_known(root):
    base = install(root, b"no status file at all")
    known = Part("dpkg", signature(dpkg._stamp(str(base))[0], str(base), settled=True), [])
    assert collect(root, Seen(known)) == Part("dpkg", known.signature, None)


@pytest.mark.parametrize("what", ["status", "updates/0001", "status.d/two", "info/one.list"])
def test_any_change_of_the_database_changes_the_signature(root, what):
    (root / "var/lib/dpkg/status.d").mkdir()
    base = install(root, ONE)
    before = collect(root)
    path = base / what
    path.write_bytes(ONE + b"\n")
    age(base)
    after = collect(root, Seen(before))
    assert after.items is not None and after.signature not in (None, before.signature)


def test_a_database_changed_this_moment_is_read_again(root):
    install(root, ONE, settled=False)
    assert collect(root, Seen(collect(root))).items is not None


def test_no_database_is_absent(tmp_path):
    with pytest.raises(SourceAbsent):
        collect(tmp_path)


def test_an_empty_status_file_is_absent_where_nothing_was_ever_installed(root):
    install(root, b"")
    with pytest.raises(SourceAbsent):
        collect(root)


@pytest.mark.parametrize("data", [b"", b"\n\n", None])
def test_an_empty_or_missing_status_file_of_installed_packages_failed(root, data):
    base = install(root, b"")
    (base / "info" / "one.list").write_bytes(b"/.\n")
    if data is None:
        (base / "status").unlink()
    else:
        (base / "status").write_bytes(data)
    assert "names no package although packages are installed" in failure(root)


# What each does to a good stanza, and what is said of it. dpkg-query refuses all of these, but for the second.
BAD = [
    (lambda one: one[:-4], "is cut short: its last line does not end"),
    (lambda one: one[: one.index(b"Description")], "is cut short in the middle of package one"),
    (lambda one: one.replace(b"Version: 1.0-1\n", b""), "the Version of package one is missing or empty"),
    (lambda one: one.replace(b"1.0-1", b""), "the Version of package one is missing or empty"),
    (lambda one: one.replace(b"1.0-1", b"1 0"), "the Version of package one '1 0' has blanks in it"),
    (lambda one: one.replace(b"1.0-1", b"x:1"), "the Version of package one 'x:1' has an epoch that is no number"),
    (lambda one: one.replace(b"1.0-1", b"1.0-"), "the Version of package one '1.0-' is incomplete"),
    (lambda one: one.replace(b"ok installed", b"ok instaled"), "the Status of package one is none dpkg knows"),
    (lambda one: one.replace(b"Package: one", b"Package: ../one"), "the Package field is missing or invalid: '../one'"),
    (lambda one: one.replace(b"Package: one\n", b""), "the Package field is missing or invalid"),
    (lambda one: one.replace(b"Priority:", b"Priority"), "line 3, is not a field and its value"),
    (lambda one: one.replace(b"Priority", b"-Priority"), "line 3, is not a field and its value"),
    (lambda one: one.replace(b"Priority", b"P"), "line 3, is not a field and its value"),
    (lambda one: b" " + one, "line 1, is not a field and its value"),
    (lambda one: one + one.lstrip(b"\n"), "holds package one more than once"),
    (lambda one: one[:-1] + one, "line 10, repeats the field 'package'"),
    (lambda one: one.replace(b"amd64\n", b"all\nMulti-Arch: same\n"), "cannot be Multi-Arch: 'same'"),
    (lambda one: one.replace(b"amd64\n", b"amd64\nMulti-Arch: odd\n"), "cannot be Multi-Arch: 'odd'"),
    (lambda one: one + b"\0" * 4096, "is cut short: its last line does not end"),
]


@pytest.mark.parametrize("spoil, sentence", BAD, ids=[sentence for _spoil, sentence in BAD])
def test_a_malformed_status_file_failed_and_says_where(root, spoil, sentence):
    base = install(root, spoil(ONE))
    text = failure(root)
    assert sentence in text and str(base / "status") in text


@pytest.mark.parametrize("spoil, sentence", BAD[:1] + BAD[2:], ids=[sentence for _spoil, sentence in BAD[:1] + BAD[2:]])
def test_dpkg_query_refuses_what_is_refused_here(root, spoil, sentence):
    need("dpkg-query")
    base = install(root, spoil(ONE))
    assert subprocess.call(["dpkg-query", "--admindir", str(base), "-W"], stderr=subprocess.DEVNULL) != 0


def test_what_dpkg_only_warns_of_is_taken(root):
    odd = ONE.replace(b"1.0-1", b"v1_0").replace(b"Size: 12\n", b"Size: many\n").replace(b"Maintainer", b"XY")
    base = install(root, b"\n\n" + odd.replace(b"\n only", b"\n \n only") + b"\n\n")
    assert collect(root).items == [Package("one", "amd64", "v1_0", "The one", "", None, None)]
    if shutil.which("dpkg-query"):
        assert subprocess.call(["dpkg-query", "--admindir", str(base), "-W"], stderr=subprocess.DEVNULL) == 0


def test_a_fifo_for_a_status_file_does_not_block(root):
    os.mkfifo(str(root / "var/lib/dpkg/status"))
    assert "is not a regular file" in failure(root)


def test_a_folder_for_a_status_file_failed(root):
    (root / "var/lib/dpkg/status").mkdir()
    assert "status" in failure(root)


def test_an_unreadable_status_file_failed(root):
    base = install(root, ONE)
    (base / "status").unlink()
    (base / "status").symlink_to("status")
    assert "Cannot read the dpkg database" in failure(root) and "status" in failure(root)


def test_fifty_thousand_packages_are_fifty_thousand_items(root):
    install(root, b"".join(ONE.replace(b"one", b"p%05d" % number) for number in range(50000)))
    assert len(collect(root).items) == 50000


@given(st.binary(max_size=60), st.binary(max_size=60))
@example(b"x\0\x1a\r", b"\xff\xc3")
@settings(max_examples=150, deadline=None)
def test_a_description_of_any_bytes_leaves_the_next_package_alone(summary, more):
    line, rest = summary.replace(b"\n", b""), more.replace(b"\n", b"\n ")
    data = ONE.replace(b"The one\n and only", b"A" + line + b"Z\n " + rest + b"Z") + ONE.replace(b"one", b"two")
    first, second = dpkg_status.parse(data, "status")
    assert first.summary == (b"A" + line + b"Z").decode("utf-8", "surrogateescape")
    assert second.name == "two"


@given(st.binary(max_size=200), st.integers(0, len(ONE)))
@settings(max_examples=150, deadline=None)
def test_any_damage_is_one_sentence_or_packages(junk, at):
    try:
        stanzas = dpkg_status.parse(ONE + ONE[:at] + junk + ONE[at:], "status")
    except SourceFailed as error:
        assert "\n" not in str(error)
    else:
        assert stanzas[0].name == "one"


def need(tool):
    if shutil.which(tool) is None:
        if os.environ.get("CI"):
            pytest.fail("%s is needed for this test, and it is not installed" % tool)
        pytest.skip("%s is needed for this test: run it on Debian" % tool)


def test_this_host_is_as_dpkg_query_says():
    need("dpkg-query")
    part = dpkg.collect(Known())
    output = subprocess.check_output(["dpkg-query", "-W", "-f", QUERY])
    expected = [row for row in said(output) if row[3] == "installed"]
    assert sorted([*one[:3], "installed", *one[3:6], one.source] for one in part.items) == expected
    assert len(expected) > 50
    for one in part.items[::25]:
        lists = ["/var/lib/dpkg/info/%s.list" % name for name in (one.name, one.name + ":" + one.architecture)]
        assert one.installed_on in [int(os.stat(path).st_mtime) for path in lists if os.path.exists(path)]
