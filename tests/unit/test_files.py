# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file scan on real trees. Referees: sha256sum, stat, find."""

import errno
import grp
import hashlib
import json
import os
import pwd
import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import DcrError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import (
    budget,
    hashing,
    items,
    listing,
    opening,
    slices,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import scan as scanner
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.hashing import is_allowed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.marks import parse_mark
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.mounts import Barred, Mounts
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule, in_scope
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import judge
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.diff import compare
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.judge import Scope
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import compare_and_store
from ansible_collections.changetracking.inventory.tests.helpers.opens import Opens
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

NOBODY = pwd.getpwnam("nobody")


def later():
    """A clock at which files made just now are no longer too young to be relied on."""
    return time.time() + 60


class Remembered(Known):
    """What a scan saw, after a round trip through JSON as a store makes it."""

    def __init__(self, parts=()):
        self.signatures = {part.name: part.signature for part in parts}
        self.parts = {part.name: json.loads(json.dumps(part.items)) for part in parts if part.items is not None}

    def names(self):
        return self.signatures

    def signature(self, part):
        return self.signatures.get(part)

    def count(self, part):
        return len(self.parts.get(part, []))

    def items(self, part):
        return [File(*fields) for fields in self.parts.get(part, [])]


def scan(*rules, **options):
    known = options.pop("known", Known())
    options.setdefault("clock", later)
    run = scanner.Scan(rules, known, **options)
    return list(run), run


def digest_of(part):
    """Empty where the next run must look again."""
    return parse_mark(part.signature).digest


def items_of(parts):
    return {item.path: item for part in parts for item in part.items}


def look(*rules, **options):
    parts, run = scan(*rules, **options)
    return items_of(parts), run


def rule(path, **options):
    return FileRule(options.pop("name", "rule"), str(path), **options)


def write(path, content=b"content"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def as_nobody(function):
    """Run in a child that is an ordinary user; its JSON answer."""
    need_root()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            os.write(writer, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        content = answer.read()
    os.waitpid(child, 0)
    return json.loads(content.decode())


@pytest.fixture
def open_path(tmp_path):
    """tmp_path, with every directory above it open to ordinary users."""
    for directory in [tmp_path] + list(tmp_path.parents)[:-2]:
        directory.chmod(directory.stat().st_mode | 0o755)
    return tmp_path


@pytest.fixture
def opens():
    made = []

    def watch(*paths):
        made.append(Opens(*paths))
        return made[-1]

    yield watch
    for watcher in made:
        watcher.close()


@pytest.fixture
def mounted():
    need_root()
    points = []

    def mount(point, *arguments):
        point.mkdir(exist_ok=True)
        subprocess.run(["mount"] + list(arguments) + [str(point)], check=True)
        points.append(str(point))
        return point

    yield mount
    for point in reversed(points):
        if point in Mounts.read().kinds:  # the test may have done so
            subprocess.run(["umount", point], check=True)


# --- what is reported


def test_every_field_is_what_stat_and_sha256sum_say(tmp_path):
    path = write(tmp_path / "sub" / "a b\n\\c.conf", b"x" * 5000)
    path.chmod(0o4751)
    os.utime(str(path), (1, -5))
    item = look(rule(str(tmp_path) + "/.*.conf"))[0][str(path)]
    said = subprocess.check_output(["stat", "-c", "%s %U %G %a %Y %W", str(path)], universal_newlines=True).split()
    assert [str(item.size), item.owner, item.group, "%o" % item.mode, str(item.modified)] == said[:5]
    assert str(item.created or 0) == said[5]
    assert item.checksum == subprocess.check_output(["sha256sum", "-z", str(path)]).split()[0].decode().lstrip("\\")
    assert (item.type, item.link_target, item.modified) == ("file", "", -5)


def test_the_files_of_usr_share_are_those_of_find(tmp_path):
    root = "/usr/share/python3" if os.path.isdir("/usr/share/python3") else "/usr/share/misc"
    found, run = look(rule(root, links="manage"))
    listed = subprocess.check_output(["find", root, "(", "-type", "f", "-o", "-type", "l", ")", "-print0"])
    assert sorted(found) == sorted(os.fsdecode(name) for name in listed.split(b"\0")[:-1])
    assert run.sources["rule"][:2] == ("ok", len(found))
    for path, item in found.items():
        if item.type == "file":
            with open(path, "rb") as file:
                assert item.checksum == hashlib.sha256(file.read()).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 262144, 262145, 3 * 262144 + 7])
def test_a_checksum_is_right_at_every_size(tmp_path, size):
    path = write(tmp_path / "f", os.urandom(size))
    for algorithm in ("sha256", "md5"):
        item = look(rule(tmp_path, checksum=algorithm))[0][str(path)]
        said = subprocess.check_output([algorithm + "sum", str(path)]).split()[0].decode()
        assert item.checksum == (said if is_allowed(algorithm) else "")


def test_a_large_sparse_file_is_read_in_constant_memory(tmp_path):
    import resource

    with open(str(tmp_path / "sparse"), "wb") as sparse:
        sparse.truncate(10**8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    item = look(rule(tmp_path))[0][str(tmp_path / "sparse")]
    zeros = hashlib.sha256()
    for _unused in range(100):
        zeros.update(bytes(10**6))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024
    assert (item.checksum, item.size) == (zeros.hexdigest(), 10**8)


def test_checksum_none_opens_nothing(tmp_path):
    path = write(tmp_path / "f")
    os.utime(str(path), (1, 1))
    assert look(rule(tmp_path, checksum="none"))[0][str(path)].checksum == ""
    assert path.stat().st_atime == 1


def test_reading_leaves_the_access_time_alone(tmp_path):
    path = write(tmp_path / "f")
    os.utime(str(path), (1, 1))
    assert look(rule(tmp_path))[0][str(path)].checksum
    assert path.stat().st_atime == 1


def test_owners_without_a_name_are_numbers(tmp_path):
    need_root()
    path = write(tmp_path / "f")
    os.chown(str(path), 3999999999, 3999999998)
    item = look(rule(tmp_path))[0][str(path)]
    assert (item.owner, item.group) == ("3999999999", "3999999998")
    os.chown(str(path), 0, NOBODY.pw_gid)
    item = look(rule(tmp_path))[0][str(path)]
    assert (item.owner, item.group) == ("root", grp.getgrgid(NOBODY.pw_gid).gr_name)


def special(tmp_path):
    os.mkfifo(str(tmp_path / "fifo"))
    with socket.socket(socket.AF_UNIX) as listener:
        cwd = os.getcwd()
        os.chdir(str(tmp_path))
        listener.bind("socket")
        os.chdir(cwd)
    write(tmp_path / "file")
    (tmp_path / "directory").mkdir()


@pytest.mark.parametrize(
    "kind, names",
    [("file", {"file"}), ("directory", {"directory"}), ("any", {"file", "directory", "fifo", "socket", "null"})],
)
def test_each_type_takes_its_own_and_special_files_are_never_opened(tmp_path, kind, names):
    need_root()
    special(tmp_path)
    os.mknod(str(tmp_path / "null"), 0o020600, os.makedev(1, 3))
    found, run = look(rule(str(tmp_path) + "/*", type=kind))
    assert {os.path.basename(path) for path in found} == names
    for path, item in found.items():
        assert bool(item.checksum) == (item.type == "file")
        assert item.type == os.path.basename(path).replace("null", "char")
    assert run.sources["rule"] == ("ok", len(names), "")


def test_a_literal_directory_means_everything_in_it(tmp_path):
    write(tmp_path / "d" / "a")
    write(tmp_path / "d" / "e" / "b")
    write(tmp_path / "dd")
    assert set(look(rule(tmp_path / "d"))[0]) == {str(tmp_path / "d/a"), str(tmp_path / "d/e/b")}
    assert set(look(rule(tmp_path / "d", recurse=False))[0]) == {str(tmp_path / "d/a")}
    assert set(look(rule(tmp_path / "d", type="directory"))[0]) == {str(tmp_path / "d"), str(tmp_path / "d/e")}
    assert set(look(rule(tmp_path / "dd"))[0]) == {str(tmp_path / "dd")}


def test_names_that_are_not_utf_8_stay_apart(tmp_path):
    names = [b"\xff", b"\xfe", "é".encode(), "é".encode("latin-1"), b"a\nb", b"\x01"]
    for name in names:
        with open(os.path.join(os.fsencode(str(tmp_path)), name), "wb") as file:
            file.write(name)
    found = look(rule(tmp_path))[0]
    prefix = str(tmp_path) + "/"
    assert set(found) == {prefix + name.decode("utf-8", "surrogateescape") for name in names}
    for path, item in found.items():
        assert item.checksum == hashlib.sha256(path[len(prefix) :].encode("utf-8", "surrogateescape")).hexdigest()


def test_identity_does_not_depend_on_the_locale(tmp_path):
    for name in (b"\xff.conf", "é.conf".encode()):
        open(os.path.join(os.fsencode(str(tmp_path)), name), "wb").close()
    program = (
        "import sys; sys.path[:0] = sys.argv[2:];"
        "from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scan import Scan;"
        "from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known;"
        "from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule;"
        "print([ascii(i.path) for p in Scan([FileRule('r', sys.argv[1] + '/?.conf')], Known()) for i in p.items])"
    )
    said = set()
    for variables in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}):
        environment = dict(os.environ, **variables)
        command = [sys.executable, "-c", program, str(tmp_path)]
        said.add(subprocess.check_output(command + [path for path in sys.path if path], env=environment))
    assert len(said) == 1 and b"\\xe9.conf" in said.pop()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(names=st.sets(st.binary(min_size=1, max_size=20).filter(lambda n: not set(n) & {0, 47}), max_size=6))
def test_whatever_the_names_each_file_is_reported_once(names, tmp_path_factory):
    root = os.fsencode(str(tmp_path_factory.mktemp("names")))
    names -= {b".", b".."}
    for name in names:
        open(os.path.join(root, name), "wb").close()
    for pattern in ("", "/*", "/.*"):
        parts, _run = scan(rule(os.fsdecode(root) + pattern))
        assert [[item.path for item in part.items] for part in parts] == (
            [sorted(os.fsdecode(os.path.join(root, name)) for name in names)] if names else []
        )


# --- several rules


def test_rules_are_one_walk_and_a_file_is_reported_once_as_the_first_rule_says(tmp_path):
    write(tmp_path / "a.conf")
    write(tmp_path / "sub" / "b.conf")
    write(tmp_path / "sub" / "c.ini")
    link = tmp_path / "sub" / "l.conf"
    link.symlink_to("b.conf")
    rules = [
        rule(str(tmp_path) + "/*.conf", name="one", checksum="md5", links="ignore"),
        rule(str(tmp_path) + "/sub/*", name="two", links="manage"),
        rule(str(tmp_path) + "/nosuch/*", name="three"),
        rule(str(tmp_path) + "/*.ini", name="four", recurse=False),
    ]
    parts, run = scan(*rules)
    assert [part.name for part in parts] == [str(tmp_path), str(tmp_path / "sub")]
    found = items_of(parts)
    assert {os.path.basename(path): len(item.checksum) for path, item in found.items()} == {
        "a.conf": 32 if is_allowed("md5") else 0,
        "b.conf": 32 if is_allowed("md5") else 0,
        "c.ini": 64,
        "l.conf": 0,
    }
    assert {name: source[:2] for name, source in run.sources.items()} == {
        "one": ("ok", 2),
        "two": ("ok", 3),
        "three": ("absent", 0),
        "four": ("ok", 0),
    }


def test_rules_of_the_same_name_keep_their_own_source(tmp_path):
    _parts, run = scan(rule(tmp_path / "a", name="x"), rule(tmp_path / "b", name="x"), rule(tmp_path / "b", name="x"))
    assert len(run.sources) == 3


def test_two_runs_are_equal_and_sorted(tmp_path):
    for number in range(300):
        write(tmp_path / "d{0}".format(number % 7) / "f{0}".format(number))
    first, _run = scan(rule(tmp_path))
    second, _run = scan(rule(tmp_path))
    assert first == second and all(part.signature for part in first)
    assert [part.name for part in first] == sorted(part.name for part in first)
    for part in first:
        assert list(part.items) == sorted(part.items)


def test_an_option_that_means_nothing_is_refused(tmp_path):
    for options in ({"links": "Follow"}, {"type": "folder"}, {"checksum": "crc"}):
        with pytest.raises(DcrError):
            scanner.Scan([rule(tmp_path, **options)], Known())


# --- scanning again


def test_an_unchanged_directory_has_no_items_and_nothing_is_opened(tmp_path, opens):
    write(tmp_path / "a")
    write(tmp_path / "sub" / "b")
    first, _run = scan(rule(tmp_path))
    opened = opens(tmp_path, tmp_path / "sub")
    again, run = scan(rule(tmp_path), known=Remembered(first))
    assert opened.names() == []
    assert [(part.name, part.signature, part.items) for part in again] == [
        (part.name, part.signature, None) for part in first
    ]
    assert run.sources["rule"] == ("ok", 2, "")


def test_in_a_changed_directory_only_the_changed_file_is_read(tmp_path, opens):
    write(tmp_path / "a")
    write(tmp_path / "b")
    first, _run = scan(rule(tmp_path))
    write(tmp_path / "b", b"other")
    opened = opens(tmp_path)
    second, _run = scan(rule(tmp_path), known=Remembered(first))
    assert opened.names() == ["b"]
    assert items_of(second) == items_of(scan(rule(tmp_path))[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"contenT"),
        lambda path: path.chmod(0o600),
        lambda path: os.chown(str(path), 1, -1),
        lambda path: os.utime(str(path), (5, 5)),
        lambda path: path.rename(str(path) + "x"),
        lambda path: path.unlink(),
        lambda path: os.replace(str(write(path.parent.parent / "new")), str(path)),
    ],
)
def test_every_change_is_seen(tmp_path, change):
    need_root()
    path = write(tmp_path / "d" / "f")
    write(tmp_path / "d" / "other")
    first, _run = scan(rule(tmp_path / "d"))
    change(path)
    second, _run = scan(rule(tmp_path / "d"), known=Remembered(first))
    assert second[0].items is not None and second[0].signature != first[0].signature
    assert items_of(second) != items_of(first)


def test_other_options_void_what_is_known(tmp_path):
    path = write(tmp_path / "f")
    first, _run = scan(rule(tmp_path))
    second, _run = scan(rule(tmp_path, checksum="md5"), known=Remembered(first))
    said = subprocess.check_output(["md5sum", str(path)]).split()[0].decode()
    assert second[0].items[0].checksum == (said if is_allowed("md5") else "")


def test_a_young_file_is_never_relied_on(tmp_path):
    write(tmp_path / "f")
    parts, _run = scan(rule(tmp_path), clock=time.time)
    assert not digest_of(parts[0]) and parts[0].items[0].stamp[5:] == (0,)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_young_file_is_not_relied_on_where_the_clock_is_set_during_the_scan(tmp_path, hours):
    write(tmp_path / "f")
    started = time.time()
    times = iter([started, started])  # as the scan starts, and as it begins to list the directory

    parts, _run = scan(rule(tmp_path), clock=lambda: next(times, started + hours * 3600))
    assert not digest_of(parts[0]) and parts[0].items[0].stamp[5:] == (0,)


def test_a_file_from_the_future_is_relied_on_by_its_change_time(tmp_path):
    path = write(tmp_path / "f")
    os.utime(str(path), (4000000000, 4000000000))
    parts, _run = scan(rule(tmp_path))
    assert digest_of(parts[0]) and len(parts[0].items[0].stamp) == 5


# --- links


def linked(tmp_path):
    write(tmp_path / "target" / "f", b"12345")
    for name, target in (("file", "../target/f"), ("dir", "../target"), ("broken", "nowhere"), ("self", "self")):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / name).symlink_to(target)
    return tmp_path / "d"


def test_links_followed_are_what_they_lead_to(tmp_path):
    root = linked(tmp_path)
    found, run = look(rule(root))
    short = {path[len(str(root)) + 1 :]: item for path, item in found.items()}
    assert {name: (item.type, item.link_target) for name, item in short.items()} == {
        "file": ("file", "../target/f"),
        "dir/f": ("file", ""),
        "broken": ("link", "nowhere"),
        "self": ("link", "self"),
    }
    assert short["file"].checksum == hashlib.sha256(b"12345").hexdigest() and short["file"].size == 5
    assert run.sources["rule"].status == "ok"
    find = subprocess.run(
        ["find", "-L", str(root), "(", "-type", "f", "-o", "-type", "l", ")"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        universal_newlines=True,
    ).stdout.split()
    assert set(find) - {str(root / "self")} == set(found) - {str(root / "self")}


def test_links_managed_are_links(tmp_path):
    found, _run = look(rule(linked(tmp_path), links="manage"))
    assert {
        os.path.basename(path): (item.type, item.checksum, item.link_target, item.size) for path, item in found.items()
    } == {
        "file": ("link", "", "../target/f", 11),
        "dir": ("link", "", "../target", 9),
        "broken": ("link", "", "nowhere", 7),
        "self": ("link", "", "self", 4),
    }


def test_links_ignored_are_not_there(tmp_path):
    assert look(rule(linked(tmp_path), links="ignore"))[0] == {}


def test_a_changed_target_is_seen_through_the_link(tmp_path):
    root = linked(tmp_path)
    first, _run = scan(rule(str(root) + "/file"))
    write(tmp_path / "target" / "f", b"54321")
    second, _run = scan(rule(str(root) + "/file"), known=Remembered(first))
    assert items_of(second)[str(root / "file")].checksum == hashlib.sha256(b"54321").hexdigest()


def test_a_loop_of_links_ends_and_is_reported(tmp_path):
    write(tmp_path / "a" / "f")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "here").symlink_to(".")
    found, run = look(rule(tmp_path))
    assert set(found) == {str(tmp_path / "a/f")}
    assert run.sources["rule"].status == "ok" and "loop of symlinks" in run.sources["rule"].message


def test_many_links_to_each_other_end(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "REPEATED_FOLDERS", 100)
    for number in range(12):
        write(tmp_path / "d{0}".format(number) / "f")
        for other in range(12):
            (tmp_path / "d{0}".format(number) / "l{0}".format(other)).symlink_to("../d{0}".format(other))
    found, run = look(rule(tmp_path, checksum="none"))
    assert 100 < len(found) <= 12 + 12 + 100 + 13
    message = run.sources["rule"].message
    assert "loop" in message and "too many" in message and len(message) < 2000


def test_at_most_eight_links_deep(tmp_path):
    for number in range(12):
        write(tmp_path / "t{0}".format(number) / "f")
        (tmp_path / "t{0}".format(number) / "n").symlink_to("../t{0}".format(number + 1))
    found, run = look(rule(tmp_path / "t0"))
    assert len(found) == 1 + scanner.MAX_LINKS + 0
    assert "too many symlinks in one path" in run.sources["rule"].message


# --- what cannot be seen


def test_an_unreadable_directory_is_out_of_sight_and_the_rest_is_reported(open_path):
    write(open_path / "open" / "f")
    write(open_path / "shut" / "sub" / "g")
    (open_path / "shut").chmod(0o700)

    def child():
        parts, run = scan(rule(open_path))
        return [
            [part.name for part in parts],
            run.sources["rule"],
            [run.out_of_sight(str(open_path / name)) for name in ("shut", "shut/sub", "gone", "shutter")],
        ]

    names, source, hidden = as_nobody(child)
    assert names == [str(open_path / "open")]
    assert source[:2] == ["failed", 1]
    assert str(open_path / "shut") + " (Permission denied)" in source[2]
    assert hidden == [True, True, False, False]


def test_an_unreadable_root_hides_everything_below(open_path):
    write(open_path / "shut" / "sub" / "g")
    (open_path / "shut").chmod(0o700)

    def child():
        answers = []
        for path in ("shut/*", "shut/sub/*", "shut/sub/g"):
            parts, run = scan(rule(str(open_path / path)))
            answers.append([len(parts), run.sources["rule"].status, run.out_of_sight(str(open_path / "shut/sub"))])
        return answers

    assert as_nobody(child)[:2] == [[0, "failed", True]] * 2


def test_an_unreadable_file_is_reported_without_checksum(open_path):
    write(open_path / "shut").chmod(0o600)
    write(open_path / "open")

    def child():
        parts, run = scan(rule(open_path))
        items = [[item.path, item.checksum != "", len(item.stamp) == 6] for item in parts[0].items]
        return [run.sources["rule"], digest_of(parts[0]), items]

    source, mark, found = as_nobody(child)
    assert source[:2] == ["ok", 2] and "unreadable, no checksum" in source[2] and "Permission denied" in source[2]
    assert not mark
    assert found == [[str(open_path / "open"), True, False], [str(open_path / "shut"), False, True]]


def test_a_directory_whose_entries_have_no_status_leaves_them_unsure(open_path):
    write(open_path / "d" / "f")
    (open_path / "d").chmod(0o744)

    def child():
        parts, run = scan(rule(open_path / "d"))
        seen = [[list(part.items), sorted(part.unsure), digest_of(part)] for part in parts]
        return [*seen, run.sources["rule"].status]

    assert as_nobody(child) == [[[], [[str(open_path / "d" / "f")]], ""], "failed"]


def test_a_directory_that_does_not_exist_is_absent(tmp_path):
    write(tmp_path / "file")
    for path in (
        tmp_path / "no" / "such" / "*",
        tmp_path / "no" / "such" / "file",
        tmp_path / "nofile",
        tmp_path / "file" / "*",
    ):
        parts, run = scan(rule(path))
        assert parts == [] and run.sources["rule"].status == "absent"
        assert str(tmp_path) in run.sources["rule"].message
        assert not run.out_of_sight(str(tmp_path / "no" / "such"))


def test_messages_name_three_paths_and_the_count(open_path):
    for number in range(50):
        write(open_path / "f{0:02}".format(number)).chmod(0o600)

    def child():
        return scan(rule(open_path))[1].sources["rule"]

    message = as_nobody(child)[2]
    assert (
        message.startswith("50 of 50 files") and message.count("Permission denied") == 3 and message.endswith(", ...")
    )


def test_entries_that_vanish_and_appear_meanwhile_do_no_harm(tmp_path):
    stop = threading.Event()
    write(tmp_path / "keep" / "f")

    def churn():
        number = 0
        while not stop.is_set():
            number += 1
            path = write(tmp_path / "d{0}".format(number % 5) / "f{0}".format(number % 40))
            os.replace(str(path), str(path) + "r")
            subprocess.run(["rm", "-rf", str(tmp_path / "d{0}".format((number + 2) % 5))], check=True)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _unused in range(30):
            parts, run = scan(rule(tmp_path, type="any"))
            assert run.sources["rule"].status == "ok"
            assert str(tmp_path / "keep" / "f") in items_of(parts)
            for item in items_of(parts).values():
                assert item.type != "file" or len(item.checksum) in (0, 64)
    finally:
        stop.set()
        thread.join()


def test_a_file_replaced_while_hashed_is_never_half_of_each(tmp_path):
    path = write(tmp_path / "f", b"a" * 200000)
    stop = threading.Event()
    contents = {hashlib.sha256(letter * 200000).hexdigest(): letter for letter in (b"a", b"b")}

    def churn():
        while not stop.is_set():
            for letter in (b"b", b"a"):
                write(tmp_path.parent / (tmp_path.name + "new"), letter * 200000)
                os.replace(str(tmp_path.parent / (tmp_path.name + "new")), str(path))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _unused in range(40):
            for item in look(rule(tmp_path))[0].values():
                assert item.checksum == "" or item.checksum in contents
    finally:
        stop.set()
        thread.join()


def test_a_file_that_never_keeps_still_has_no_checksum_and_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "f", b"x" * 100000)
    real = hashing._digest

    def grow(*arguments):
        with open(str(path), "ab") as log:
            log.write(b"more")
        return real(*arguments)

    monkeypatch.setattr(hashing, "_digest", grow)
    parts, run = scan(rule(tmp_path))
    assert not digest_of(parts[0])
    assert parts[0].items[0][:3] == (str(path), "", 100000 + 4 * hashing.ATTEMPTS)
    assert run.sources["rule"][:2] == ("ok", 1) and "kept changing" in run.sources["rule"].message


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_something_else_in_the_place_of_a_file_is_not_read_and_not_taken_for_removed(tmp_path, monkeypatch, make):
    path = str(write(tmp_path / "f"))
    real = listing.read_at_once

    def replace(*arguments):
        if os.path.isfile(path) and not os.path.islink(path):
            os.unlink(path)
            make(path)
        return real(*arguments)

    for module in (listing, items):
        monkeypatch.setattr(module, "read_at_once", replace)
    parts, _run = scan(rule(tmp_path))
    assert [(list(part.items), part.unsure, digest_of(part)) for part in parts] == [([], {(path,)}, "")]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_something_else_in_the_place_of_a_known_file_is_not_read(tmp_path, monkeypatch, make):
    path = str(write(tmp_path / "f"))
    known = Remembered(scan(rule(tmp_path))[0])
    write(tmp_path / "f", b"new")
    real = items.read_at_once

    def replace(*arguments):
        os.unlink(path)
        make(path)
        return real(*arguments)

    monkeypatch.setattr(items, "read_at_once", replace)
    parts, _run = scan(rule(tmp_path), known=known)
    assert [(list(part.items), part.unsure, digest_of(part)) for part in parts] == [([], {(path,)}, "")]


# --- mounts


def test_pseudo_file_systems_are_not_entered_and_named(tmp_path, mounted):
    write(tmp_path / "f")
    proc = mounted(tmp_path / "with space", "-t", "proc", "proc")
    (tmp_path / "version").symlink_to(proc / "version")
    found, run = look(rule(tmp_path))
    assert {os.path.basename(path): item.type for path, item in found.items()} == {"f": "file", "version": "link"}
    assert "1 mount not entered" in run.sources["rule"].message and str(proc) in run.sources["rule"].message
    assert "1 symlink not followed" in run.sources["rule"].message
    parts, run = scan(rule(str(proc) + "/*"))
    assert parts == [] and run.sources["rule"].status == "failed" and "of type proc" in run.sources["rule"].message
    assert run.out_of_sight(str(proc)) and not run.out_of_sight(str(tmp_path))


def test_local_mounts_are_entered(tmp_path, mounted):
    write(tmp_path / "source" / "f")
    inner = mounted(tmp_path / "tmpfs", "-t", "tmpfs", "tmpfs")
    write(inner / "g")
    bound = mounted(tmp_path / "bound", "--bind", str(tmp_path / "source"))
    mounted(inner / "again", "--bind", str(tmp_path))
    found, run = look(rule(tmp_path))
    assert {str(inner / "g"), str(bound / "f"), str(inner / "again" / "source" / "f")} <= set(found)
    assert run.sources["rule"].status == "ok"


def a_table(tmp_path, kind):
    """The real table with one mount more: network file systems cannot be had on a test host."""
    (tmp_path / "far" / "d").mkdir(parents=True)
    present = Mounts.read()
    return Mounts(dict(present.kinds, **{str(tmp_path / "far"): kind}), present.points)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "fuse", "9p", "autofs"])
def test_network_mounts_and_automounts_are_not_even_asked_for_their_status(tmp_path, monkeypatch, kind):
    table = a_table(tmp_path, kind)
    write(tmp_path / "far" / "d" / "f")
    write(tmp_path / "near" / "f")
    (tmp_path / "near" / "link").symlink_to("../far/d/f")
    (tmp_path / "near" / "twice").symlink_to("link")
    monkeypatch.setattr(Mounts, "read", lambda: table)
    found, run = look(rule(tmp_path, type="any"))
    assert {path[len(str(tmp_path)) + 1 :]: item.type for path, item in found.items()} == {
        "": "directory",
        "near": "directory",
        "near/f": "file",
        "near/link": "link",
        "near/twice": "link",
    }
    assert "far ({0})".format(kind) in run.sources["rule"].message
    found, run = look(rule(str(tmp_path) + "/far/d/*"))
    assert set(found) == {str(tmp_path / "far" / "d" / "f")}
    assert run.sources["rule"] == ("ok", 1, "")


def test_links_inside_the_network_mount_a_rule_is_on_are_followed(tmp_path):
    table = a_table(tmp_path, "nfs")
    home = str(tmp_path / "far")
    write(tmp_path / "far" / "d" / "x")
    assert table.of(home + "/d") == home
    paths = opening.Paths(table)
    try:
        step = paths.find("../d/x", home + "/d", home)
        os.close(step.descriptor)
        assert step.real == home + "/d/x"
        with pytest.raises(Barred):
            paths.find("../d/x", home + "/d", "/")
    finally:
        paths.close()


def test_the_topmost_of_two_mounts_on_one_point_counts(tmp_path, mounted):
    mounted(tmp_path / "m", "-t", "proc", "proc")
    write(mounted(tmp_path / "m", "-t", "tmpfs", "tmpfs") / "f")
    assert set(look(rule(tmp_path))[0]) == {str(tmp_path / "m" / "f")}


def test_a_mount_that_came_after_the_table_was_read_is_noticed(tmp_path, mounted, monkeypatch):
    write(tmp_path / "a" / "f")
    real = listing.Lister.list_whole

    def mount_meanwhile(lister, place, *arguments):
        listed = real(lister, place, *arguments)
        if place.path == str(tmp_path):
            mounted(tmp_path / "a", "-t", "proc", "proc")
        return listed

    monkeypatch.setattr(listing.Lister, "list_whole", mount_meanwhile)
    found, run = look(rule(tmp_path))
    assert found == {} and "mount not entered" in run.sources["rule"].message


# --- limits and sizes


def need_openat2():
    if opening.open_directory_within.__name__ == "plain":
        pytest.skip("needs Linux 5.6, and a sandbox that allows openat2")


def test_a_mount_of_a_user_that_came_after_the_table_was_read_is_not_opened(host, tmp_path, mounted, monkeypatch):
    need_openat2()
    folder = tmp_path / "t" / "a" / "m"
    write(folder / "f")
    write(tmp_path / "t" / "z")
    assert host.run() == []
    before = Mounts.read()
    mounted(folder, "-t", "tmpfs", "tmpfs")
    write(tmp_path / "t" / "z", b"other")
    present = Mounts.read()
    present = Mounts(dict(present.kinds, **{str(folder): "fuse"}), present.points)
    tables = [before]
    monkeypatch.setattr(Mounts, "read", lambda: tables.pop() if tables else present)
    monkeypatch.setattr(opening.Paths, "open_mounted", None)  # which would open it
    assert host.run() == [("Modified", str(tmp_path / "t" / "z"))]
    assert "1 mount not entered" in host.sources["rule"].message


def test_no_symlink_leads_into_a_mount_that_came_after_the_table_was_read(tmp_path, mounted):
    need_openat2()
    write(tmp_path / "m" / "f")
    paths = opening.Paths(Mounts.read())
    try:
        mounted(tmp_path / "m", "-t", "tmpfs", "tmpfs")
        write(tmp_path / "m" / "f")
        for path in (tmp_path / "m", tmp_path / "m" / "f"):
            with pytest.raises(OSError) as raised:
                paths.find(str(path))
            assert raised.value.errno == errno.EXDEV
    finally:
        paths.close()


def test_a_limit_counts_what_it_leaves_out_and_removes_nothing(tmp_path):
    for number in range(30):
        write(tmp_path / "d{0}".format(number // 10) / "f{0:02}".format(number))
    parts, run = scan(rule(tmp_path), max_files=15)
    assert sum(len(part.items) for part in parts) == 15
    assert [len(part.unsure) for part in parts] == [0, 5] and not digest_of(parts[1])
    assert run.sources["rule"][:2] == ("ok", 15) and run.sources["rule"].message.startswith("15 of 30 files; ")
    assert run.out_of_sight(str(tmp_path / "d2")) and not run.out_of_sight(str(tmp_path / "d3"))


# --- limits of one run


class Clock:
    """Seconds that pass only when something is read."""

    def __init__(self, step=0.0):
        self.now = 0.0
        self.step = step

    def __call__(self):
        self.now += self.step
        return self.now


def sparse(path, size):
    with open(str(path), "wb") as file:
        file.truncate(size)
    return path


def test_a_file_that_is_too_large_is_not_opened_and_is_named(tmp_path, opens):
    write(tmp_path / "good")
    huge = sparse(tmp_path / "huge", budget.FILE_BYTES + 1)
    opened = opens(tmp_path)
    parts, run = scan(rule(tmp_path))
    assert opened.names() == ["good"]
    found = items_of(parts)
    assert found[str(tmp_path / "good")].checksum and not found[str(huge)].checksum
    assert found[str(huge)].size == budget.FILE_BYTES + 1
    assert run.sources["rule"] == (
        "ok", 2, "1 of 2 files larger than 64 GiB, no checksum: " + str(huge),
    )  # fmt: skip


def test_the_time_for_large_files_is_limited_for_one_file_for_one_user_and_in_all(tmp_path):
    need_root()
    size = 4 * hashing._CHUNK
    for name, uid in (("a1", 1001), ("a2", 1001), ("b1", 1002), ("r1", 0), ("r2", 0), ("r3", 0)):
        os.chown(str(sparse(tmp_path / name, size)), uid, 0)
    write(tmp_path / "small")

    def read(step):
        """The names of the files with a checksum, where each reading of the clock is so many seconds after the last."""
        found, run = look(rule(tmp_path), budget=budget.Budget(Clock(step)))
        named = [path.rpartition("/")[2] for path, item in sorted(found.items()) if item.checksum]
        return named, run.sources["rule"]

    assert read(1)[0] == ["a1", "a2", "b1", "r1", "r2", "r3", "small"]
    names, source = read(budget.OWNER_SECONDS / 6)  # the clock is read six times for a file
    assert names == ["a1", "b1", "r1", "r2", "r3", "small"]
    assert source[:2] == ("ok", 7) and source.message.startswith("1 of 7 files without checksum, time limit")
    assert read(budget.FILE_SECONDS)[0] == ["small"]


def test_no_file_is_read_once_the_time_of_the_run_is_used_up(tmp_path):
    for number in range(12):
        sparse(tmp_path / "f{0:02}".format(number), 4 * hashing._CHUNK)
    write(tmp_path / "z")
    found, run = look(rule(tmp_path), budget=budget.Budget(Clock(budget.FILE_SECONDS / 6)))
    read = sum(bool(item.checksum) for item in found.values())
    step = 5 * budget.FILE_SECONDS / 6  # the clock is read six times for a file
    assert read == budget.RUN_SECONDS // step + 1 and found[str(tmp_path / "z")].checksum
    assert "of 13 files without checksum" in run.sources["rule"].message


def test_a_file_without_checksum_for_want_of_time_is_no_change_and_has_one_when_there_is_time(tmp_path):
    path = str(sparse(tmp_path / "f", 4 * hashing._CHUNK))
    first, _run = scan(rule(tmp_path), budget=budget.Budget(Clock(budget.FILE_SECONDS)))
    assert not digest_of(first[0])
    second, _run = scan(rule(tmp_path), known=Remembered(first))
    old, new = items_of(first)[path], items_of(second)[path]
    assert new.checksum and not old.checksum
    assert list(compare(all_kinds()["files"], [old], [new])) == []


def test_a_large_file_with_many_names_is_read_once(tmp_path, opens):
    path = sparse(tmp_path / "f", 100000)
    for number in range(20):
        os.link(str(path), str(tmp_path / "hard{0}".format(number)))
        (tmp_path / "soft{0}".format(number)).symlink_to("f")
    opened = opens(tmp_path)
    found = look(rule(tmp_path))[0]
    assert len(opened.names()) == 1
    assert len(found) == 41 and len({item.checksum for item in found.values()}) == 1


def test_names_that_take_long_to_match_do_not_stop_the_scan(host, tmp_path):
    """A regular expression may take 20 ms for a name that was made for it."""
    host.rules = [
        rule(str(tmp_path / "t") + "/.+a.+a.+", name="regex"),
        rule(str(tmp_path / "t") + "/*b", name="glob"),
    ]
    for number in range(20):
        write(tmp_path / "t" / ("a" * 200 + str(number)))
    write(tmp_path / "t" / "ab")
    write(tmp_path / "t" / "aaaaaaaaa")
    host.run()
    assert host.count == 22
    os.unlink(str(tmp_path / "t" / ("a" * 200 + "3")))
    write(tmp_path / "t" / "ab", b"other")
    slow = budget.Budget(Clock(budget.MATCH_SECONDS / 4))
    assert host.run(budget=slow) == [
        ("Modified", str(tmp_path / "t" / "ab")),
        ("Removed", str(tmp_path / "t" / ("a" * 200 + "3"))),
    ]
    status, _count, message = host.sources["regex"]
    assert status == "failed" and "regular expressions is used up" in message
    assert host.run() == [] and host.sources["regex"].status == "ok"


def farm(tmp_path, folders, links):
    for number in range(folders):
        write(tmp_path / "a" / str(number) / "f")
    (tmp_path / "home").mkdir()
    for number in range(links):
        (tmp_path / "home" / "l{0}".format(number)).symlink_to("../a")


def test_links_to_one_tree_do_not_multiply_it_and_what_is_not_entered_is_out_of_sight(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "REPEATED_FOLDERS", 20)
    farm(tmp_path, 10, 50)
    parts, run = scan(rule(tmp_path / "home"))
    assert 10 <= sum(len(part.items) for part in parts) <= 10 + 20 + 1
    assert run.sources["rule"].status == "ok" and "too many symlinks" in run.sources["rule"].message
    assert run.out_of_sight(str(tmp_path / "home" / "l9" / "5"))
    assert len(run.unseen) == 48


def test_what_links_lead_to_is_limited_by_what_is_there_without_them(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "LINKED_FOLDERS", 5)
    farm(tmp_path, 30, 1)
    found, run = look(rule(tmp_path / "home"))
    assert len(found) == 5 and "too many symlinks" in run.sources["rule"].message  # the tree itself, and its own folder
    found, run = look(rule(tmp_path))
    assert len(found) == 60 and run.sources["rule"].message == ""


def test_names_behind_links_are_looked_up_a_limited_number_of_times(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "LINK_NAMES", 2000)
    write(tmp_path / "target")
    write(tmp_path / "honest")
    for number in range(100):
        (tmp_path / "l{0}".format(number)).symlink_to(
            "./" * number + "../" + tmp_path.name + "/" + "x/../" * 50 + "target"
        )
    (tmp_path / "x").mkdir()
    parts, run = scan(rule(tmp_path))
    assert str(tmp_path / "honest") in items_of(parts)
    assert "symlinks not followed, limit of names" in run.sources["rule"].message
    assert 50 < len(parts[0].unsure) < 100 and not digest_of(parts[0])


def test_a_tree_that_is_too_deep_is_named_briefly_and_the_rest_is_reported(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "z")
    here = os.open(str(tmp_path), os.O_RDONLY)
    for _level in range(60):  # by descriptors: the whole is 12,000 bytes long
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    try:
        found, run = look(rule(tmp_path))
        assert {str(tmp_path / "a"), str(tmp_path / "z")} <= set(found) and len(found) > 15
        status, _count, message = run.sources["rule"]
        assert status == "failed" and "1 directory not read, path too long" in message
        assert len(message) < 1000
        assert max(map(len, found)) <= budget.MAX_PATH
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / ("d" * 200))], check=True)


def test_a_tree_of_very_many_levels_holds_few_descriptors(tmp_path):
    deep = tmp_path / "/".join(["d"] * (budget.MAX_DEPTH + 50))
    write(deep / "f")
    write(tmp_path / "z")
    before = len(os.listdir("/proc/self/fd"))
    found, run = look(rule(tmp_path))
    assert set(found) == {str(tmp_path / "z")} and "path too long" in run.sources["rule"].message
    assert len(os.listdir("/proc/self/fd")) == before


def many(folder, numbers):
    for number in numbers:
        os.close(os.open("{0}/f{1}".format(folder, number), os.O_CREAT | os.O_WRONLY))


@pytest.fixture
def small_slices(monkeypatch):
    monkeypatch.setattr(listing, "SLICED_ABOVE", 50)


def test_a_very_large_folder_is_many_parts_of_which_only_the_changed_is_listed_again(tmp_path, small_slices):
    many(tmp_path, range(200))
    (tmp_path / "l").symlink_to("f1")
    write(tmp_path / "sub" / "g")
    parts, run = scan(rule(tmp_path))
    assert len(items_of(parts)) == sum(len(part.items) for part in parts) == 202
    assert run.sources["rule"] == ("ok", 202, "") and 30 < len(parts) <= listing.SLICES + 1
    assert max(len(part.items) for part in parts) < 20
    write(tmp_path / "f77", b"x")
    again, _run = scan(rule(tmp_path), known=Remembered(parts))
    assert sum(part.items is not None for part in again) == 1


def test_names_that_all_fall_into_one_slice_are_not_all_read_at_once(tmp_path, small_slices):
    names = (name for name in map("f{0}".format, range(10**6)) if listing.slice_of(name) == 7)
    for _number in range(51):
        write(tmp_path / next(names))
    parts, run = scan(rule(tmp_path))
    assert not items_of(parts) and "(0 of 51 entries)" in run.sources["rule"].message
    need_root()
    for path in sorted(tmp_path.iterdir())[3:]:
        os.chown(str(path), 1001, 1001)
    parts, run = scan(rule(tmp_path))
    assert len(items_of(parts)) == 51 and run.sources["rule"].message == ""
    for _number in range(3):
        write(tmp_path / next(names)).parent.chmod(0o1777)
        path = tmp_path / next(names)
        write(path)
        os.chown(str(path), 1001, 1001)
    parts, run = scan(rule(tmp_path))
    assert len(items_of(parts)) == 6 and "(uid=1001, 0 of 51 entries)" in run.sources["rule"].message


def test_the_names_of_a_very_large_folder_are_not_all_held_at_once(tmp_path, monkeypatch, small_slices):
    monkeypatch.setattr(slices, "HELD_NAMES", 300)
    most = []
    halve, take = slices._Held.halve, slices._Held.take
    monkeypatch.setattr(slices._Held, "halve", lambda held: (most.append(held.size), halve(held))[1])
    monkeypatch.setattr(slices._Held, "take", lambda held: (most.append(held.size), take(held))[1])
    many(tmp_path, range(400))
    (tmp_path / "l").symlink_to("f1")
    write(tmp_path / "sub" / "g")
    parts, run = scan(rule(tmp_path))
    assert len(items_of(parts)) == 402 and run.sources["rule"] == ("ok", 402, "")
    assert len(most) > 4 and max(most) < 310
    monkeypatch.setattr(slices, "FOLDER_ENTRIES", 400)
    again, run = scan(rule(tmp_path), known=Remembered(parts))
    assert not items_of(again) and "(0 of 402 entries)" in run.sources["rule"].message


def test_a_folder_that_grows_without_end_while_it_is_listed_is_out_of_sight(tmp_path, monkeypatch, small_slices):
    monkeypatch.setattr(slices, "HELD_NAMES", 300)
    many(tmp_path, range(200))
    parts, run = scan(rule(tmp_path))
    assert len(items_of(parts)) == 200
    monkeypatch.setattr(slices, "HELD_NAMES", 100)
    take = slices._Held.take
    grown = []

    def grow(held):
        if not grown:
            grown.append(held)
            many(tmp_path, range(200, 10000))
        return take(held)

    monkeypatch.setattr(slices._Held, "take", grow)
    _parts, run = scan(rule(tmp_path), known=Remembered(parts))
    assert run.sources["rule"].status == "failed" and "too many new entries" in run.sources["rule"].message
    assert run.out_of_sight(parts[-1].name)


def test_a_folder_of_a_long_path_is_sliced_sooner(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "PART_PATHS", 30 * (len(str(tmp_path)) + 256))
    many(tmp_path, range(30))
    assert len(scan(rule(tmp_path))[0]) == 1
    many(tmp_path, range(31))
    parts, _run = scan(rule(tmp_path))
    assert len(parts) > 1 and len(items_of(parts)) == 31


class Host:
    """A state that one run after the other compares with."""

    def __init__(self, state, *rules):
        self.state = str(state)
        self.rules = rules

    def run(self, **options):
        options.setdefault("clock", later)

        def collect(rules, known):
            return scanner.Scan([FileRule(*rule) for rule in rules], known, **options)

        scope = Scope([list(rule.tracking) for rule in self.rules], in_scope)
        with Store(self.state) as store:
            seen = compare_and_store(all_kinds()["files"], lambda known: collect(scope.rules, known), store, scope)
        with Store(self.state, read_only=True) as store:
            self.unseen = store.last_run(all_kinds()["files"]).unseen
        self.sources = seen.sources
        self.changes = seen.changes
        self.count = seen.count
        return sorted((change.category, (change.new or change.old).path) for change in seen.changes)


@pytest.fixture
def host(tmp_path):
    (tmp_path / "t").mkdir()
    return Host(tmp_path / "state.db", rule(tmp_path / "t"))


def test_a_folder_that_grows_and_shrinks_again_reports_what_came_and_went_and_nothing_else(
    host, tmp_path, small_slices
):
    folder = tmp_path / "t"
    many(folder, range(40))
    assert host.run() == []
    many(folder, range(40, 70))  # from here on in slices
    os.unlink(str(folder / "f7"))
    assert host.run() == sorted(
        [("Added", "{0}/f{1}".format(folder, number)) for number in range(40, 70)] + [("Removed", str(folder / "f7"))]
    )
    assert host.run() == [] and host.count == 69
    for number in range(30, 70):
        os.unlink("{0}/f{1}".format(folder, number))
    assert len(host.run()) == 40
    assert host.run() == [] and host.count == 29
    write(folder / "f3", b"other")
    assert host.run() == [("Modified", str(folder / "f3"))]
    subprocess.run(["rm", "-r", str(folder)], check=True)
    assert len(host.run()) == 29
    many(write(folder / "new").parent, range(3))
    assert len(host.run()) == 4
    assert host.run() == []


def test_a_folder_of_too_many_entries_is_named_with_their_number_and_is_out_of_sight(host, tmp_path, monkeypatch):
    folder = tmp_path / "t"
    many(folder, range(40))
    write(folder / "sub" / "f")
    write(tmp_path / "t" / "sub" / "g")
    host.run()
    monkeypatch.setattr(listing, "SLICED_ABOVE", 50)
    monkeypatch.setattr(slices, "FOLDER_ENTRIES", 100)
    many(folder, range(200))
    assert host.run() == []
    status, _count, message = host.sources["rule"]
    assert status == "failed" and "too many entries; its last known items are kept" in message
    assert "(0 of 201 entries)" in message
    for number in range(40, 200):
        os.unlink("{0}/f{1}".format(folder, number))
    os.unlink(str(folder / "f3"))
    assert host.run() == [("Removed", str(folder / "f3"))]


def test_more_changes_than_one_run_reports_are_left_for_the_next_and_none_is_lost(host, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "RUN_CHANGES", 25)
    folder = tmp_path / "t"
    for number in range(10):
        (folder / str(number)).mkdir()
        many(folder / str(number), range(10))
    assert host.run() == []
    for number in range(10):
        write(folder / str(number) / "f1", b"x")
        many(folder / str(number), range(10, 20))
        many(write(folder / "n{0}".format(number) / "new").parent, range(10))
    told = host.run()
    assert 25 <= len(told) <= 36
    assert "changes left for the next run" in host.sources["rule"].message
    for _run in range(20):
        told += host.run()
    assert len(told) == len(set(told)) == 10 + 100 + 110
    subprocess.run(["rm", "-r"] + [str(folder / str(number)) for number in range(10)], check=True)
    told = host.run()
    assert len(told) <= 45 and "changes left for the next run" in host.sources["rule"].message
    for _run in range(20):
        told += host.run()
    assert len(told) == len(set(told)) == 200 and host.run() == [] and host.sources["rule"].message == ""


# --- one user's files against the others'


def give(path, uid):
    """Make a user the owner of a path and of all below it."""
    need_root()
    subprocess.run(["chown", "-R", str(uid), str(path)], check=True)


def flood(folder, folders, files):
    """Change so many files in each of so many folders."""
    for number in range(folders):
        (folder / "{0:03}".format(number)).mkdir(parents=True, exist_ok=True)
        for name in range(files):
            write(folder / "{0:03}".format(number) / str(name), os.urandom(4))


@pytest.mark.parametrize("honest", [0, 1002], ids=["root", "another user"])
@pytest.mark.parametrize("size", [10, 100], ids=["many folders", "large folders"])
def test_changes_of_one_user_do_not_keep_the_others_from_being_reported(host, tmp_path, monkeypatch, honest, size):
    monkeypatch.setattr(budget, "RUN_CHANGES", 100)
    hostile, own = tmp_path / "t" / "a", write(tmp_path / "t" / "z" / "f")
    flood(hostile, 200 // size, size)
    give(hostile, 1001)
    give(own.parent, honest)
    assert host.run() == []
    for _run in range(3):
        flood(hostile, 200 // size, size)
        write(own, os.urandom(4))
        told = host.run()
        assert ("Modified", str(own)) in told and len(told) <= 50 + size
        message = host.sources["rule"].message
        assert "changes left for the next run" in message and "(uid=1001)" in message
    for _run in range(9):
        told += host.run()
    assert {path for _category, path in told} == set(map(str, [own, *hostile.glob("*/*")]))
    assert host.run() == [] and host.sources["rule"].message == ""


def test_what_one_user_removes_does_not_keep_what_others_remove_from_being_reported(host, tmp_path, monkeypatch):
    hostile, own = tmp_path / "t" / "a", write(tmp_path / "t" / "z" / "f")
    flood(hostile, 20, 10)
    give(hostile, 1001)
    give(own.parent, 1002)
    assert host.run() == []
    monkeypatch.setattr(budget, "RUN_CHANGES", 100)
    subprocess.run(["rm", "-r", str(hostile), str(own.parent)], check=True)
    told = host.run()
    assert ("Removed", str(own)) in told and len(told) == 51
    assert "(uid=1001)" in host.sources["rule"].message
    for _run in range(3):
        told += host.run()
    assert len(told) == len(set(told)) == 201 and host.run() == []


def test_changes_of_very_many_users_leave_root_its_own(host, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "RUN_CHANGES", 100)
    own = write(tmp_path / "t" / "z" / "f")
    for number in range(40):
        flood(tmp_path / "t" / "a" / str(number), 1, 10)
        give(tmp_path / "t" / "a" / str(number), 3000 + number)
    host.run()
    for number in range(40):
        flood(tmp_path / "t" / "a" / str(number), 1, 10)
    write(own, b"other")
    told = host.run()
    assert ("Modified", str(own)) in told and len(told) < 300


def test_a_folder_that_everyone_may_write_to_is_not_on_the_account_of_root(host, tmp_path, monkeypatch):
    need_root()
    monkeypatch.setattr(budget, "RUN_CHANGES", 100)
    own = write(tmp_path / "t" / "z" / "f")
    flood(tmp_path / "t" / "a", 20, 10)
    subprocess.run(["chmod", "-R", "o+w", str(tmp_path / "t" / "a")], check=True)
    host.run()
    flood(tmp_path / "t" / "a", 20, 10)
    write(own, b"other")
    told = host.run()
    assert ("Modified", str(own)) in told and len(told) <= 60 and "(everyone)" in host.sources["rule"].message


def test_folders_of_one_user_do_not_keep_those_of_others_from_being_read(host, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "RUN_FOLDERS", 20)
    hostile, own = tmp_path / "t" / "a", write(tmp_path / "t" / "z" / "f")
    flood(hostile, 5, 1)
    give(hostile, 1001)
    give(own.parent, 1002)
    host.run()
    flood(hostile, 40, 1)
    give(hostile, 1001)
    write(own, b"other")
    told = host.run()
    assert ("Modified", str(own)) in told and {category for category, _path in told} == {"Modified", "Added"}
    assert len(told) == 1 + 9  # the folder itself is the tenth
    status, _count, message = host.sources["rule"]
    assert status == "failed" and "31 directories not read" in message and "(uid=1001)" in message
    subprocess.run(["rm", "-r", *("{0}/{1:03}".format(hostile, number) for number in range(5))], check=True)
    assert not [path for category, path in host.run() if category == "Removed" and "/z/" in path]
    subprocess.run(["rm", "-r", str(hostile)], check=True)
    told = host.run()
    assert {category for category, _path in told} == {"Removed"} and host.sources["rule"].status == "ok"


def test_folders_with_long_paths_count_as_several_unless_they_are_roots(host, tmp_path, monkeypatch):
    need_root()
    monkeypatch.setattr(budget, "RUN_FOLDERS", 80)
    write(tmp_path / "t" / "f")
    host.run()
    for owner in (0, 1001):
        flood(tmp_path / "t" / str(owner) / ("p" * 250) / ("p" * 250), 20, 1)
        give(tmp_path / "t" / str(owner), owner)
    told = [path for _category, path in host.run()]
    root, user = (sum("/t/%d/" % owner in path for path in told) for owner in (0, 1001))
    assert root == 20 and 0 < user < 20 and "(uid=1001)" in host.sources["rule"].message


@pytest.mark.parametrize("limit", ["LINK_NAMES", "LINKED_FOLDERS", "REPEATED_FOLDERS"])
def test_links_of_one_user_do_not_keep_those_of_others_from_being_followed(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(budget, limit, 60)
    home, target = tmp_path / "t" / "home", tmp_path / "there"
    for number in range(100):
        write(target / str(number) / "f")
    home.mkdir(parents=True)
    for number in range(100):
        (home / "l{0:03}".format(number)).symlink_to("../../there/{0}".format(number))
        (home / "m{0:03}".format(number)).symlink_to("../../there/{0}".format(number % 10))
    own = tmp_path / "t" / "z" / "link"
    own.parent.mkdir()
    own.symlink_to("../../there/99")
    give(home, 1001)
    found, run = look(rule(tmp_path / "t"))
    assert str(own / "f") in found and len(found) < 150
    assert "(uid=1001)" in run.sources["rule"].message


def test_what_links_of_root_lead_to_is_on_the_account_of_its_owner(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "LINKED_FOLDERS", 60)
    home, own = tmp_path / "home", tmp_path / "t" / "z"
    for number in range(100):
        write(home / str(number) / "f")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").symlink_to(str(home))
    give(home, 1001)
    write(tmp_path / "there" / "f")
    own.symlink_to(str(tmp_path / "there"))
    found, run = look(rule(tmp_path / "t"))
    assert str(own / "f") in found and len(found) < 100
    assert "(uid=1001)" in run.sources["rule"].message


def test_what_is_postponed_is_not_read(host, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "RUN_CHANGES", 100)
    write(tmp_path / "t" / "z" / "f")
    host.run()
    hostile = tmp_path / "t" / "a"
    flood(hostile, 10, 20)
    give(hostile, 1001)
    reads = []
    monkeypatch.setattr(
        listing, "read_at_once", lambda *given, read=opening.read_at_once: reads.append(given) or read(*given)
    )
    assert len(host.run()) < 200 and len(reads) < 200


def test_small_files_of_one_user_take_a_limited_time_and_the_others_go_on(host, tmp_path):
    hostile, own, other = tmp_path / "t" / "a", write(tmp_path / "t" / "y" / "f"), write(tmp_path / "t" / "z" / "f")
    flood(hostile, 40, 10)
    give(hostile, 1001)
    give(own.parent, 1002)
    assert host.run() == []
    flood(hostile, 40, 10)
    write(own, b"other")
    write(other, b"other")
    told = host.run(budget=budget.Budget(Clock(budget.SMALL_SECONDS / 100)))
    assert ("Modified", str(own)) in told and ("Modified", str(other)) in told and len(told) == 2 + 50
    status, _count, message = host.sources["rule"]
    assert status == "ok" and "35 directories with changes left for the next run, time limit" in message
    assert "(uid=1001)" in message
    told += host.run()
    assert len(told) == len(set(told)) == 402 and host.run() == [] and host.sources["rule"].message == ""


def test_files_that_are_read_again_and_do_not_differ_take_a_limited_time(host, shared, monkeypatch):
    """Also in a folder of root's that everyone may write to."""
    names = [shared / "a{0:03}".format(number) for number in range(100)]
    for path in names:
        write(path)
    own_as(1001, *names)
    write(shared / "z")
    assert host.run() == []
    reads = []
    monkeypatch.setattr(
        items, "read_at_once", lambda *given, read=opening.read_at_once: reads.append(given[2]) or read(*given)
    )
    for path in names:
        path.chmod(0o600)
        path.chmod(0o644)
    write(shared / "z", b"other")
    told = host.run(budget=budget.Budget(Clock(budget.SMALL_SECONDS / 40)))
    assert told == [("Modified", str(shared / "z"))] and len(reads) == 20 + 1
    assert "80 of 103 files without checksum" in host.sources["rule"].message
    assert host.run() == [] and host.sources["rule"].message == ""


def test_what_one_user_has_is_listed_without_checksum_where_nothing_is_known_and_time_is_up(tmp_path):
    flood(tmp_path / "a", 4, 10)
    give(tmp_path / "a", 1001)
    own = write(tmp_path / "z" / "f")
    give(own.parent, 1002)
    found, _run = look(rule(tmp_path), budget=budget.Budget(Clock(budget.SMALL_SECONDS / 20)))
    assert len(found) == 41 and sum(bool(item.checksum) for item in found.values()) == 11 and found[str(own)].checksum


def test_changes_below_a_long_path_count_more(host, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "RUN_CHANGES", 100)
    hostile = tmp_path / "t" / "a" / ("p" * 250) / ("p" * 250) / ("p" * 250)
    flood(hostile, 10, 5)
    give(tmp_path / "t" / "a", 1001)
    assert host.run() == []
    flood(hostile, 10, 5)
    told = host.run()
    assert len(told) == 15 and "7 directories with changes left" in host.sources["rule"].message


def test_what_links_of_one_user_lead_to_is_on_the_account_of_that_user(host, tmp_path, monkeypatch):
    """Also where it is root's, and where another link of root leads to the user's."""
    monkeypatch.setattr(budget, "RUN_CHANGES", 100)
    own, home = write(tmp_path / "t" / "z" / "f"), tmp_path / "home"
    flood(tmp_path / "there", 20, 10)
    flood(tmp_path / "here", 20, 10)
    home.mkdir()
    (tmp_path / "t" / "a").symlink_to(str(home))
    (home / "l").symlink_to(str(tmp_path / "there"))
    give(home, 1001)
    host.run()
    (home / "l").unlink()
    (home / "m").symlink_to(str(tmp_path / "here"))
    write(own, b"other")
    told = host.run()
    assert ("Modified", str(own)) in told and len(told) == 51 and "(uid=1001)" in host.sources["rule"].message
    for _run in range(10):
        told += host.run()
    assert len(told) == len(set(told)) == 401


def test_folders_that_two_links_of_root_lead_to_are_on_the_account_of_their_owner(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "REPEATED_FOLDERS", 60)
    home = tmp_path / "home"
    for number in range(100):
        (home / str(number)).mkdir(parents=True)
    give(home, 1001)
    write(tmp_path / "there" / "f")
    (tmp_path / "t").mkdir()
    for name, target in (("a", "home"), ("b", "home"), ("y", "there"), ("z", "there")):
        (tmp_path / "t" / name).symlink_to(str(tmp_path / target))
    found, run = look(rule(tmp_path / "t"))
    assert set(found) == {str(tmp_path / "t" / "y" / "f"), str(tmp_path / "t" / "z" / "f")}
    assert "(uid=1001)" in run.sources["rule"].message


def test_links_of_one_user_to_folders_of_root_leave_root_its_own_links_to_them(tmp_path, monkeypatch):
    """Without them, what the links of root lead to would be entered for the first time."""
    monkeypatch.setattr(budget, "REPEATED_FOLDERS", 10)
    monkeypatch.setattr(budget, "LINKED_FOLDERS", 200)
    home, own = tmp_path / "t" / "home", tmp_path / "t" / "z"
    home.mkdir(parents=True)
    own.mkdir()
    for number in range(50):
        write(tmp_path / "there" / str(number) / "f")
        (home / str(number)).symlink_to(str(tmp_path / "there" / str(number)))
        (own / str(number)).symlink_to(str(tmp_path / "there" / str(number)))
    give(home, 1001)
    found, run = look(rule(tmp_path / "t"))
    assert len(found) == 100 and run.sources["rule"].message == ""


# --- a folder in which everyone may write


def own_as(uid, *paths):
    for path in paths:
        os.lchown(str(path), uid, uid)


def many_links(folder, uid):
    links = [folder / "a{0:03}".format(number) for number in range(300)]
    for link in links:
        link.symlink_to("../../there")
    own_as(uid, *links)
    return links


@pytest.fixture
def shared(host, tmp_path):
    """A sticky folder, and in it one of root and one of another user."""
    need_root()
    folder = tmp_path / "t" / "tmp"
    write(folder / "own" / "f")
    write(folder / "w" / "f")
    folder.chmod(0o1777)
    give(folder / "w", 1002)
    return folder


def test_links_that_are_not_followed_hide_nothing_of_others(host, shared, tmp_path, monkeypatch):
    write(tmp_path / "there" / "f")
    (shared / "z").symlink_to("../../there")
    own_as(1001, shared / "z")
    assert host.run() == []
    monkeypatch.setattr(budget, "LINK_NAMES", 60)
    monkeypatch.setattr(budget, "HIDDEN_BYTES", 2000)
    links = many_links(shared, 1001)
    (shared / "y").symlink_to("../../there")
    subprocess.run(["rm", "-r", str(shared / "own"), str(shared / "w")], check=True)
    told = host.run()
    gone = [("Removed", str(shared / name / "f")) for name in ("own", "w")]
    assert [one for one in told if one[0] == "Removed"] == gone and ("Added", str(shared / "y" / "f")) in told
    message = host.sources["rule"].message
    assert "not followed" in message and "(uid=1001)" in message
    subprocess.run(["rm", *map(str, links[:-1])], check=True)
    write(shared / "x" / "f")
    told = host.run()
    assert [one for one in told if one[0] == "Added"] == [("Added", str(shared / "x" / "f"))]
    (shared / "z").unlink()
    assert host.run() == [("Removed", str(shared / "z" / "f"))]


def test_links_in_a_shared_folder_are_on_the_account_of_their_owner(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "LINKED_FOLDERS", 10)
    write(tmp_path / "there" / "f")
    for number in range(100):
        write(tmp_path / "many" / str(number) / "f")
    for name, uid, target in (("a", 1001, "many"), ("y", 1002, "there"), ("z", 0, "there")):
        (shared / name).symlink_to("../../" + target)
        own_as(uid, shared / name)
    found, run = look(rule(tmp_path / "t"))
    assert str(shared / "y" / "f") in found and str(shared / "z" / "f") in found and len(found) < 20
    assert "(uid=1001)" in run.sources["rule"].message and "everyone" not in run.sources["rule"].message


@pytest.fixture
def crowd(monkeypatch, shared):
    """Fills the folder beyond its limit with files of one user; again, to empty it."""
    monkeypatch.setattr(listing, "SLICED_ABOVE", 50)
    monkeypatch.setattr(slices, "FOLDER_ENTRIES", 100)
    made = [shared / "c{0:03}".format(number) for number in range(200)]

    def fill(keep=0):
        if made[-1].exists():
            for path in made[keep:]:
                path.unlink()
            return
        for path in made:
            write(path)
        own_as(1001, *made)

    return fill


def test_entries_of_one_user_do_not_keep_those_of_others_from_being_seen(host, shared, crowd):
    write(shared / "f")
    write(shared / "known")
    write(shared / "a" / "f")
    write(shared / "a" / "w" / "f")
    give(shared / "a", 1001)
    give(shared / "a" / "w", 1002)
    own_as(1001, shared / "known")
    assert host.run() == []
    crowd()
    write(shared / "own" / "f", b"other")
    write(shared / "f", b"other")
    write(shared / "g")
    subprocess.run(["rm", "-r", str(shared / "w")], check=True)
    write(shared / "n" / "f")
    give(shared / "n", 1003)
    told = host.run()
    assert told == [
        ("Added", str(shared / "g")),
        ("Added", str(shared / "n" / "f")),
        ("Modified", str(shared / "f")),
        ("Modified", str(shared / "own" / "f")),
        ("Removed", str(shared / "w" / "f")),
    ]
    status, _count, message = host.sources["rule"]
    assert status == "failed" and "(uid=1001, 0 of 202 entries)" in message
    assert host.run() == []
    (shared / "known").unlink()
    subprocess.run(["rm", "-r", str(shared / "a" / "w")], check=True)
    assert host.run() == [("Removed", str(shared / "a" / "w" / "f")), ("Removed", str(shared / "known"))]
    crowd(keep=20)
    assert host.run() == [] and host.sources["rule"].status == "ok" and host.count == 5 + 20
    write(shared / "c001", b"other")
    write(shared / "new")
    own_as(1001, shared / "new")
    assert host.run() == [("Added", str(shared / "new")), ("Modified", str(shared / "c001"))]


def test_what_was_left_out_of_the_baseline_is_not_added_when_there_is_room(host, shared, crowd):
    crowd()
    write(shared / "a" / "f")
    give(shared / "a", 1001)
    assert host.run() == [] and host.count == 2
    write(shared / "new")
    assert host.run() == [("Added", str(shared / "new"))]
    crowd(keep=30)
    assert host.run() == [] and host.count == 3 + 30 + 1


def test_of_the_users_who_fill_a_folder_the_one_with_the_most_is_left_out(shared, crowd):
    crowd()
    for number in range(90):
        write(shared / "b{0}".format(number))
        own_as(1002, shared / "b{0}".format(number))
    for number in range(90):
        write(shared / "r{0}".format(number))
    found, run = look(rule(shared))
    assert len(found) == 90 + 90 + 2 and "(uid=1001, 0 of 200 entries)" in run.sources["rule"].message


def fill_as(uid, folder, names):
    """Write files of a user, or other contents into them."""
    for name in names:
        write(folder / name, os.urandom(4))
        own_as(uid, folder / name)


def test_changes_of_one_user_in_a_shared_folder_do_not_keep_those_of_others_from_being_reported(
    host, shared, monkeypatch
):
    monkeypatch.setattr(budget, "RUN_CHANGES", 40)
    monkeypatch.setattr(listing, "SLICED_ABOVE", 60)
    crowded = [name for name in map("c{0}".format, range(9999)) if listing.slice_of(name) == 0][:50]
    others = ["o{0}".format(number) for number in range(60)]
    fill_as(1001, shared, crowded + others)
    fill_as(1002, shared, ["victim"])
    fill_as(0, shared, ["root"])
    assert host.run() == [] and listing.slice_of("victim") and listing.slice_of("root")
    for _run in range(3):
        fill_as(1001, shared, crowded + others)
        fill_as(1002, shared, ["victim"])
        fill_as(0, shared, ["root"])
        told = host.run()
        assert ("Modified", str(shared / "victim")) in told and ("Modified", str(shared / "root")) in told
        assert len(told) <= 2 + 50 and "(uid=1001)" in host.sources["rule"].message
    for _run in range(9):
        told += host.run()
    assert {path for _category, path in told} == {str(shared / name) for name in [*crowded, *others, "victim", "root"]}
    for name in crowded + others:
        (shared / name).unlink()
    (shared / "victim").unlink()
    told = host.run()
    assert ("Removed", str(shared / "victim")) in told and len(told) <= 1 + 50
    for _run in range(9):
        told += host.run()
    assert len(told) == len(set(told)) == 111 and host.run() == [] and host.sources["rule"].message == ""


def test_what_others_change_in_a_users_shared_folder_does_not_keep_that_users_changes_from_being_reported(
    host, shared, monkeypatch
):
    monkeypatch.setattr(budget, "RUN_CHANGES", 40)
    public, secret = shared / "w" / "public", shared / "w" / "secret"
    write(public / "own")
    write(secret / "f")
    give(shared / "w", 1002)
    public.chmod(0o1777)
    fill_as(1001, public, map(str, range(60)))
    assert host.run() == []
    for _run in range(3):
        fill_as(1001, public, map(str, range(60)))
        fill_as(1002, public, ["own"])
        fill_as(1002, secret, ["f"])
        told = host.run()
        assert ("Modified", str(public / "own")) in told and ("Modified", str(secret / "f")) in told
        owned = {(change.new or change.old).path: change.owner for change in host.changes}
        assert owned[str(public / "own")] == owned[str(secret / "f")] == "uid=1002"
        assert owned.get(str(public / "1"), "everyone") == "everyone"


def test_entries_that_others_can_rename_are_not_on_the_account_of_their_owner(host, shared, monkeypatch):
    monkeypatch.setattr(budget, "RUN_CHANGES", 40)
    shared.chmod(0o0777)
    fill_as(1002, shared, map(str, range(60)))
    assert host.run() == []
    fill_as(1002, shared, map(str, range(60)))
    fill_as(1002, shared / "w", ["f"])
    assert ("Modified", str(shared / "w" / "f")) in host.run()
    assert {change.owner for change in host.changes} == {"everyone", "uid=1002"}


def test_links_of_one_user_to_anothers_file_leave_out_nothing_of_the_other(host, shared, crowd):
    fill_as(1002, shared, ["notes", "private"])
    assert host.run() == []
    for number in range(200):
        os.link(str(shared / "notes"), str(shared / "l{0}".format(number)))
    fill_as(1002, shared, ["private", "new"])
    fill_as(1002, shared / "w", ["f"])
    assert host.run() == [
        ("Added", str(shared / "new")),
        ("Modified", str(shared / "private")),
        ("Modified", str(shared / "w" / "f")),
    ]
    assert "(everyone, 0 of 201 entries)" in host.sources["rule"].message


def test_what_links_hide_from_the_first_run_on_is_remembered_in_a_bounded_size(host, shared, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "LINK_NAMES", 60)
    monkeypatch.setattr(judge, "HIDDEN_BYTES", 8000)
    many_links(shared, 1001)
    assert host.run() == []
    never_known = [entry for entry in host.unseen if not isinstance(entry, str)]
    assert len(never_known) < 20 and ["//uid=1001"] in never_known
    fill_as(1002, shared, ["victim"])
    fill_as(0, shared, ["root"])
    assert host.run() == [("Added", str(shared / "root")), ("Added", str(shared / "victim"))]
    monkeypatch.setattr(budget, "LINK_NAMES", 2000000)
    assert host.run() == [] and host.count == 304
    fill_as(1001, shared, ["new"])
    assert host.run() == [("Added", str(shared / "new"))]


def test_large_files_behind_links_of_one_user_are_read_on_the_account_of_that_user(tmp_path):
    for number in range(12):
        sparse(tmp_path / "r{0:02}".format(number), 4 * hashing._CHUNK)
    for number in range(12):
        write(tmp_path / "t" / "a" / "small").parent.joinpath("l{0:02}".format(number)).symlink_to(
            "../../r{0:02}".format(number)
        )
    own = sparse(tmp_path / "t" / "z", 4 * hashing._CHUNK)
    give(tmp_path / "t" / "a", 1001)
    found, _run = look(rule(tmp_path / "t"), budget=budget.Budget(Clock(budget.FILE_SECONDS / 6)))
    assert found[str(own)].checksum and sum(bool(item.checksum) for item in found.values()) == 3


def test_long_names_of_one_user_do_not_keep_those_of_others_from_being_matched(tmp_path):
    for folder, count in (("a", 40), ("z", 20)):
        for number in range(count):
            write(tmp_path / folder / ("a" * 200 + str(number)))
    give(tmp_path / "a", 1001)
    slow = budget.Budget(Clock(budget.MATCH_SECONDS / 40))
    found, _run = look(rule(str(tmp_path) + "/.+a.+a.+", name="regex"), budget=slow)
    assert sum(path.startswith(str(tmp_path / "z")) for path in found) == 20
    assert sum(path.startswith(str(tmp_path / "a")) for path in found) == 20


# --- reading again what has not changed by its times


def days(number):
    return lambda: time.time() + 60 + number * 86400


def test_a_content_that_changed_under_the_same_times_is_seen_within_the_days(host, tmp_path):
    paths = [write(tmp_path / "t" / str(number) / "f") for number in range(40)]
    host.run()
    with Store(host.state) as store:  # as if the contents had been others at the last look
        for part in list(store.known(all_kinds()["files"]).parts):
            known = store.known(all_kinds()["files"])
            changed = [item._replace(checksum="0" * 64) for item in known.items(part)]
            store.put(all_kinds()["files"], part, known.signature(part), "", changed)
        store.finish(all_kinds()["files"], store.last_run(all_kinds()["files"]), {})
    assert host.run() == []
    told = [host.run(clock=days(number)) for number in range(8)]
    assert sorted(path for run in told for _category, path in run) == sorted(map(str, paths))
    assert max(map(len, told)) < 20  # not all at once
    assert host.run(clock=days(8)) == []


def test_no_file_is_read_again_before_it_is_due_and_each_is_once_it_is(tmp_path, opens):
    folders = [tmp_path / str(number) for number in range(30)]
    for folder in folders:
        write(folder / "f")
    parts, _run = scan(rule(tmp_path))
    opened = opens(*folders)
    read = []
    for number in range(15):
        parts_now, _run = scan(rule(tmp_path), known=Remembered(parts), clock=days(number), rehash_days=7)
        read.append(len(opened.names()))
        again = {part.name: part for part in parts_now if part.items is not None}
        parts = [again.get(part.name, part) for part in parts]
    assert read[0] == 0 and sum(read) == 60
    assert scan(rule(tmp_path), known=Remembered(parts), clock=days(400), rehash_days=0) and len(opened.names()) == 30


def test_reading_again_has_a_time_of_its_own_and_goes_on_in_the_next_run(tmp_path, opens):
    folders = [tmp_path / "{0:02}".format(number) for number in range(20)]
    for folder in folders:
        write(folder / "f")
    parts, _run = scan(rule(tmp_path))
    opened = opens(*folders)
    read = []
    for _number in range(6):  # all of them are long overdue, after a host was off for a year
        limited = budget.Budget(Clock(budget.REHASH_SECONDS / 5))
        parts_now, _run = scan(rule(tmp_path), known=Remembered(parts), clock=days(365), budget=limited)
        read.append(len(opened.names()))
        again = {part.name: part for part in parts_now if part.items is not None}
        parts = [again.get(part.name, part) for part in parts]
    assert sum(read) == 20 and max(read) <= 5 and read[-1] == 0


def test_files_of_one_user_that_are_read_again_leave_time_for_those_of_others(tmp_path, opens):
    for number in range(20):
        write(tmp_path / "a" / str(number) / "f")
    honest = write(tmp_path / "z" / "f")
    give(tmp_path / "a", 1001)
    parts, _run = scan(rule(tmp_path))
    opened = opens(honest.parent)
    limited = budget.Budget(Clock(budget.REHASH_SECONDS / 5))
    scan(rule(tmp_path), known=Remembered(parts), clock=days(365), budget=limited)
    assert opened.names() == ["f"]


# --- what a mount hides


def test_a_network_or_pseudo_mount_over_a_tracked_folder_hides_and_removes_nothing(host, tmp_path, mounted):
    folder = tmp_path / "t"
    write(folder / "a")
    write(folder / "sub" / "b")
    write(folder / "sub" / "deep" / "c")
    host.run()
    mounted(folder / "sub", "-t", "mqueue", "none")
    for _run in range(2):
        assert host.run() == []
        status, count, message = host.sources["rule"]
        assert (status, count) == ("failed", 1) and "mounted or unmounted" in message and str(folder / "sub") in message
    write(folder / "new")
    assert host.run() == [("Added", str(folder / "new"))]
    subprocess.run(["umount", str(folder / "sub")], check=True)
    write(folder / "sub" / "b", b"other")
    os.unlink(str(folder / "sub" / "deep" / "c"))
    assert host.run() == [("Modified", str(folder / "sub" / "b")), ("Removed", str(folder / "sub" / "deep" / "c"))]
    assert host.sources["rule"] == ("ok", 3, "")


def test_a_mount_that_was_there_at_the_baseline_hides_what_is_not_added_later(host, tmp_path, mounted):
    folder = tmp_path / "t"
    write(folder / "sub" / "b")
    mounted(folder / "sub", "-t", "mqueue", "none")
    host.run()
    assert host.sources["rule"].status == "ok" and "1 mount not entered" in host.sources["rule"].message
    subprocess.run(["umount", str(folder / "sub")], check=True)
    assert host.run() == []


@pytest.mark.parametrize("where", ["t", "t/sub"])
def test_a_file_system_mounted_over_a_folder_shows_what_is_there_and_removes_nothing(host, tmp_path, mounted, where):
    folder = tmp_path / "t" / "sub"
    for name in ("a", "b", "deep/c"):
        write(folder / name)
    host.run()
    over = mounted(tmp_path / where, "-t", "tmpfs", "tmpfs")
    seen = over / os.path.relpath(str(folder / "a"), str(over))
    write(seen, b"other")
    assert host.run() == [("Modified", str(folder / "a"))]
    assert host.sources["rule"].status == "failed" and "mounted or unmounted" in host.sources["rule"].message
    assert host.run() == [] and host.sources["rule"].status == "failed"
    subprocess.run(["umount", str(over)], check=True)
    os.unlink(str(folder / "b"))
    assert host.run() == [("Modified", str(folder / "a")), ("Removed", str(folder / "b"))]
    assert host.sources["rule"] == ("ok", 2, "")


@pytest.mark.parametrize("runs", [1, 2])
def test_an_empty_mount_that_everyone_may_write_to_leaves_nothing_out_of_sight(host, tmp_path, mounted, runs):
    write(tmp_path / "t" / "other")
    folder = mounted(tmp_path / "t" / "sub", "-t", "tmpfs", "-o", "mode=1777", "tmpfs")
    os.chown(str(write(folder / "a")), 1001, 1001)
    host.run()
    os.unlink(str(folder / "a"))
    assert host.run() == [("Removed", str(folder / "a"))]
    for _run in range(1, runs):
        assert host.run() == []
    subprocess.run(["umount", str(folder)], check=True)
    assert host.run() == [] and host.sources["rule"] == ("ok", 1, "")


def test_what_was_on_a_mount_that_is_gone_is_out_of_sight_until_it_is_back(host, tmp_path, mounted):
    folder = tmp_path / "t" / "sub"
    write(tmp_path / "disk" / "a")
    write(tmp_path / "disk" / "deep" / "b")
    folder.mkdir()
    mounted(folder, "--bind", str(tmp_path / "disk"))
    host.run()
    assert host.count == 2
    subprocess.run(["umount", str(folder)], check=True)
    for _run in range(2):
        assert host.run() == []
        assert host.sources["rule"].status == "failed"
    subprocess.run(["mount", "--bind", str(tmp_path / "disk"), str(folder)], check=True)
    os.unlink(str(tmp_path / "disk" / "deep" / "b"))
    assert host.run() == [("Removed", str(folder / "deep" / "b"))]
    assert host.sources["rule"] == ("ok", 1, "")


def test_a_folder_of_a_rule_that_was_on_a_mount_that_is_gone_is_not_absent(tmp_path, mounted):
    write(tmp_path / "disk" / "app" / "a")
    mounted(tmp_path / "srv", "--bind", str(tmp_path / "disk"))
    host = Host(tmp_path / "state.db", rule(tmp_path / "srv" / "app"))
    host.run()
    subprocess.run(["umount", str(tmp_path / "srv")], check=True)
    assert host.run() == [] and host.sources["rule"].status == "failed"
    subprocess.run(["mount", "--bind", str(tmp_path / "disk"), str(tmp_path / "srv")], check=True)
    assert host.run() == [] and host.sources["rule"].status == "ok"


def test_what_is_removed_behind_a_link_to_another_mount_is_removed(host, tmp_path, mounted):
    disk = mounted(tmp_path / "disk", "-t", "tmpfs", "tmpfs")
    write(disk / "sub" / "a")
    (tmp_path / "t" / "l").symlink_to(str(disk))
    host.run()
    subprocess.run(["rm", "-r", str(disk / "sub")], check=True)
    assert host.run() == [("Removed", str(tmp_path / "t" / "l" / "sub" / "a"))]


def test_what_is_removed_below_a_rule_whose_path_leads_through_a_link_is_removed(tmp_path, mounted):
    disk = mounted(tmp_path / "disk", "-t", "tmpfs", "tmpfs")
    write(disk / "sub" / "a")
    (tmp_path / "l").symlink_to(str(disk))
    host = Host(tmp_path / "state.db", rule(tmp_path / "l"), rule(str(tmp_path) + "/l/sub/*", name="glob"))
    host.run()
    subprocess.run(["rm", "-r", str(disk / "sub")], check=True)
    assert host.run() == [("Removed", str(tmp_path / "l" / "sub" / "a"))]
    assert host.sources["rule"] == ("ok", 0, "") and host.sources["glob"].status == "absent"
