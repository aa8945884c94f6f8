# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A partial scan, which looks only where something may have changed, stores and reports what a full scan would."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import (
    budget,
    cpus,
    listing,
    readers,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import parts as scan_parts
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import scan as scanner
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.partial import Named, Partial
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import (
    FileRule,
    in_scope,
    parse_path,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import settings as rule_settings
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import run
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.judge import Scope
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

pytestmark = pytest.mark.no_python  # it compares two scans
FILES = all_kinds()["files"]
TIME = 1500000000  # of all that is made before the first run
NAMES = ["a", "b", "l", "x.conf", "y"]


def later():
    """A clock at which no file is too young to be relied on."""
    return 2e9


class Host:
    """A tree `t` with a state, and an observer that names what changes as inotify would."""

    def __init__(self, folder, *rules):
        self.folder = Path(str(folder))
        self.tree = self.folder / "with" / "t"
        self.tree.mkdir(parents=True)
        self.rules = [
            rule if isinstance(rule, FileRule) else FileRule("r%d" % number, str(self.tree) + rule[0], *rule[1:])
            for number, rule in enumerate(rules)
        ]
        self.state = str(self.folder / "state.db")
        self.watches = {}  # (device, inode) -> paths
        self.watched = []
        self.forget()

    def forget(self):
        self.folders, self.trees = set(), set()

    # --- runs

    def run(self, named=None, state=None):
        self.watched = []

        def watch(descriptor, path, owner, claims):
            status = os.fstat(descriptor)
            self.watched.append(path)
            self.watches.setdefault((status.st_dev, status.st_ino), set()).add(path)

        def collect(known):
            rules = [FileRule(*rule) for rule in scope.rules]
            if named is None:
                return scanner.Scan(rules, known, clock=later, watch=watch)
            return Partial(rules, known, named, clock=later, watch=watch)

        scope = Scope([list(rule.tracking) for rule in self.rules], in_scope)
        with Store(state or self.state) as store:
            return run.compare_and_store(FILES, collect, store, scope, keep_items=True)

    def may_be_partial(self):
        scope = Scope([list(rule.tracking) for rule in self.rules], in_scope)
        with Store(self.state, read_only=True) as store:
            return run._may_be_partial(FILES, store, scope)

    def stored(self, state=None):
        with Store(state or self.state, read_only=True) as store:
            known, last = store.known(FILES), store.last_run(FILES)
            parts = {name: (part, known.items(name)) for name, part in known.parts.items()}
            statuses = {name: source.status for name, source in store.last_sources(FILES).items()}
            return parts, last.scope, sorted(map(str, last.unseen)), statuses

    def compare(self, partial=True, postponed=False):
        """A partial run, and a full one from a copy of the state: both report, store and count the same. Returns the changes, and the
        folders that the partial run entered. `postponed`: some changes are left for the next run."""
        copy = self.state + ".copy"
        shutil.copy(self.state, copy)
        named = Named(frozenset(self.folders), frozenset(self.trees))
        self.forget()
        seen = self.run(named)
        looked_at = list(self.watched)
        watches = {one: set(paths) for one, paths in self.watches.items()}
        full = self.run(state=copy)
        assert self.watches == watches
        assert seen.changes == full.changes
        assert seen.items == full.items and seen.owners == full.owners
        assert (seen.count, seen.digest, seen.kept) == (full.count, full.digest, full.kept)
        assert self.stored() == self.stored(copy)
        if partial is not None:
            assert seen.partial == partial
        assert not full.partial
        before = self.stored()
        assert postponed == bool(self.run().changes) and (postponed or self.stored()[:3] == before[:3])
        changes = sorted((one.category, self.relative((one.new or one.old).path)) for one in seen.changes)
        return changes, sorted(map(self.relative, looked_at))

    def relative(self, path):
        return os.path.relpath(path, str(self.tree))

    # --- changes

    def saw(self, path, is_directory=False, on_itself=False):
        """Name what inotify tells of a change of an entry, and what only shows there: the times of a directory, or the target of a
        link elsewhere, see look()."""
        above = path.parent
        status = os.stat(str(above))
        for watched in self.watches.get((status.st_dev, status.st_ino), ()):
            self.folders.add(watched)
            if is_directory:
                self.trees.add(os.path.join(watched, path.name))
        if on_itself:
            status = os.stat(str(path))
            self.folders.update(self.watches.get((status.st_dev, status.st_ino), ()))
        for rule in self.rules:  # what is above the root of a rule has a watch of its own
            root = parse_path(rule.path).directory
            if (root + "/").startswith(str(path) + "/") or rule.path == str(path):
                self.folders.add(str(above))
                self.trees.add(str(path))

    def look(self):
        """What a folder shows of others: the status of a directory that is not watched itself, and of what a symlink leads to."""
        seen = {}
        for paths in self.watches.values():
            for path in paths:
                entries = []
                for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
                    entry = os.path.join(path, name)
                    try:
                        status = os.stat(entry)
                    except OSError:
                        continue
                    is_watched = (status.st_dev, status.st_ino) in self.watches
                    if os.path.islink(entry) or (os.path.isdir(entry) and not is_watched):
                        entries.append((name, os.path.realpath(entry), status[:9], status.st_mtime_ns))
                seen[path] = entries
        return seen

    def change(self, *steps):
        before = self.look()
        for step in steps:
            self.do(*step)
        after = self.look()
        self.folders.update(path for path in before if before[path] != after[path])

    def do(self, what, path, other=""):
        path = self.tree / path
        if what == "rename":
            other = self.tree / other
            if not os.path.lexists(str(path)) or os.path.lexists(str(other)) or not os.path.isdir(str(other.parent)):
                return
            if (os.path.realpath(str(other)) + "/").startswith(os.path.realpath(str(path)) + "/"):
                return
            is_directory = os.path.isdir(str(path)) and not os.path.islink(str(path))
            self.saw(path, is_directory)
            path.rename(other)
            self.saw(other, is_directory)
            return
        if not os.path.isdir(str(path.parent)):
            return
        exists = os.path.lexists(str(path))
        if what == "remove" and exists:
            is_directory = os.path.isdir(str(path)) and not os.path.islink(str(path))
            self.saw(path, is_directory)
            if is_directory:
                shutil.rmtree(str(path))
            else:
                path.unlink()
        elif what == "chmod" and exists and not os.path.islink(str(path)):
            path.chmod(int(other or "700", 8))
            self.saw(path, on_itself=os.path.isdir(str(path)))
        elif what == "write" and not os.path.isdir(str(path)) and not os.path.islink(str(path)):
            path.write_text(other)
            self.saw(path)
        elif what == "mkdir" and not exists:
            path.mkdir()
            self.saw(path, True)
        elif what == "link" and not exists:
            path.symlink_to(other if other.startswith(".") else str(self.tree / other))
            self.saw(path)


@pytest.fixture(scope="module", autouse=True)
def same_accounts():
    """Users that others make meanwhile are no change here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_parts, "_account_state", lambda path: b"")
        yield


@pytest.fixture
def host(tmp_path):
    def make(*rules, made=()):
        host = Host(tmp_path, *rules)
        for step in made:
            host.do(*step)
        for folder, _folders, names in os.walk(str(host.tree)):
            for path in (folder, *[os.path.join(folder, name) for name in names]):
                os.utime(path, (TIME, TIME))
        assert host.run().changes == []
        host.forget()
        return host

    return make


# --- whatever changes

PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
STEPS = st.one_of(
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("write"), PATHS, st.sampled_from(["", "1", "22"])),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("chmod"), PATHS, st.sampled_from(["700", "755", "777"])),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("link"), PATHS, st.one_of(PATHS, st.sampled_from([".", "..", "./a", "./x.conf"]))),
)
MADE = [("mkdir", name) for name in ("a", "b", "a/a", "a/b", "a/b/a", "b/b")]
MADE += [("write", name, "1") for name in ("x.conf", "a/x.conf", "a/b/y", "a/b/x.conf", "a/a/y", "b/x.conf", "b/b/y")]
RULES = st.lists(
    st.tuples(
        st.sampled_from(
            ["/*", "/*", "/*.conf", "/a/*", "/a/b/*", "/l/*", "/a", "/l", "/x.conf", "/a/x.conf", "/a/l/y"]
        ),
        st.booleans(),
        st.sampled_from(["follow", "manage", "ignore"]),
        st.sampled_from(["file", "any", "directory"]),
        st.sampled_from(["sha256", "none"]),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=int(os.environ.get("PARTIAL_EXAMPLES", "100")))
@given(RULES, st.lists(STEPS, max_size=12), st.lists(st.lists(STEPS, min_size=1, max_size=8), min_size=1, max_size=3))
def test_a_partial_scan_is_equal_to_a_full_one(rules, before, runs):
    folder = tempfile.mkdtemp(prefix="partial")
    try:
        host = Host(folder, *rules)
        for step in MADE + before:
            host.do(*step)
        host.run()
        for steps in runs:
            if not host.may_be_partial():
                return
            host.forget()
            host.change(*steps)
            host.compare(partial=None)
    finally:
        shutil.rmtree(folder)


# --- only what is named


TREE = [("mkdir", name) for name in ("a", "a/b", "a/b/c", "d", "d/e")]
TREE += [("write", name, "1") for name in ("f", "a/f", "a/b/f", "a/b/c/f", "d/f", "d/e/f")]


def test_only_what_is_named_is_listed_and_read(host):
    here = host(("/*", True), made=TREE)
    here.change(("write", "a/b/f", "22"))
    (here.tree / "d" / "f").write_text("22")  # unnoticed
    named = Named(here.folders, here.trees)
    seen = here.run(named)
    assert [here.relative(one.new.path) for one in seen.changes] == ["a/b/f"] and seen.partial
    assert sorted(map(here.relative, here.watched)) == [".", "a", "a/b"]
    assert [here.relative(one.new.path) for one in here.run().changes] == ["d/f"]


def test_nothing_named_enters_nothing(host):
    here = host(("/*", True), made=TREE)
    assert here.compare() == ([], [])


def test_what_is_named_and_not_tracked_is_ignored(host):
    here = host(("/a/*", False), made=TREE)
    here.folders.update((str(here.tree / "d"), "/", str(here.tree / "a" / "b"), str(here.tree)))
    here.trees.update((str(here.tree / "d" / "nothing"),))
    assert here.compare()[0] == []


@pytest.mark.parametrize(
    "steps, changes",
    [
        ([("write", "a/new", "")], [("Added", "a/new")]),
        ([("remove", "a/b/c/f")], [("Removed", "a/b/c/f")]),
        ([("remove", "a/b")], [("Removed", "a/b/c/f"), ("Removed", "a/b/f")]),
        ([("mkdir", "n"), ("mkdir", "n/m"), ("write", "n/m/f", "1")], [("Added", "n/m/f")]),
        (
            [("rename", "d", "a/d")],
            [("Added", "a/d/e/f"), ("Added", "a/d/f"), ("Removed", "d/e/f"), ("Removed", "d/f")],
        ),
        ([("remove", "a/b/c"), ("mkdir", "a/b/c")], [("Removed", "a/b/c/f")]),
        ([("remove", "d/e"), ("write", "d/e", "1")], [("Added", "d/e"), ("Removed", "d/e/f")]),
        ([("link", "l", "d")], [("Added", "l/e/f"), ("Added", "l/f")]),
        ([("remove", "d"), ("link", "d", "a/b")], None),
        ([("chmod", "a/b", "777")], []),
    ],
)
def test_files_and_folders_that_come_and_go(host, steps, changes):
    here = host(("/*", True), made=TREE)
    here.change(*steps)
    seen, _looked_at = here.compare(partial=None if changes is None else True)
    assert changes is None or seen == changes


def test_a_literal_rule_for_one_file(host):
    here = host(("/a/b/f", False), ("/a/none", False), made=TREE)
    here.change(("write", "a/b/f", "333"))
    assert here.compare() == ([("Modified", "a/b/f")], ["a/b"])
    here.change(("remove", "a/b/f"))
    assert here.compare()[0] == [("Removed", "a/b/f")]
    here.change(("write", "a/none", "1"))
    assert here.compare()[0] == [("Added", "a/none")]
    here.change(("mkdir", "a/b/f"), ("write", "a/b/f/inside", "1"))
    assert here.compare()[0] == [("Added", "a/b/f/inside")]


def test_several_rules_on_one_tree(host):
    here = host(("/*.conf", True), ("/a/b/*", False, "follow", "any"), ("/a/b/c", True, "ignore"), made=TREE)
    here.change(("write", "a/b/c/x.conf", "1"), ("write", "a/b/c/g", "1"), ("remove", "a/b/f"))
    changes, looked_at = here.compare()
    assert changes == [("Added", "a/b/c/g"), ("Added", "a/b/c/x.conf"), ("Modified", "a/b/c"), ("Removed", "a/b/f")]
    assert looked_at == [".", "a", "a/b", "a/b/c"]


@pytest.mark.parametrize("type_", ["directory", "any"])
def test_a_folder_is_an_entry_of_the_one_above(host, type_):
    here = host(("/*", True, "follow", type_), made=TREE)
    here.change(("write", "a/b/new", "1"))  # which changes the time of a/b
    added = [("Added", "a/b/new")] if type_ == "any" else []
    assert here.compare() == ([*added, ("Modified", "a/b")], [".", "a", "a/b"])


def test_a_very_large_folder(host, monkeypatch):
    monkeypatch.setattr(listing, "SLICED_ABOVE", 50)
    many = [("write", "d/%d" % number, "1") for number in range(120)]
    here = host(("/*", True), made=TREE + many)
    here.change(("write", "a/f", "333"))
    assert here.compare() == ([("Modified", "a/f")], [".", "a"])
    here.change(("write", "d/77", "333"), ("remove", "d/5"), ("write", "d/e/f", "4444"))
    assert here.compare()[0] == [("Modified", "d/77"), ("Modified", "d/e/f"), ("Removed", "d/5")]
    here.change(*[("write", "a/%d" % number, "1") for number in range(60)])  # which was one part
    assert len(here.compare()[0]) == 60
    here.change(("remove", "d"))
    assert len(here.compare()[0]) == 121


# --- symlinks, mounts, and roots that come and go


def test_symlinks_in_a_named_folder_are_followed(host):
    here = host(("/a/*", True), made=[*TREE, ("link", "a/l", "d")])
    here.change(("write", "a/f", "22"))
    assert here.compare() == ([("Modified", "a/f")], ["a", "a/l", "a/l/e"])
    here.change(("remove", "a/l"), ("link", "a/l", "d/e"))
    assert here.compare()[0] == [("Removed", "a/l/e/f")]
    here.change(("remove", "a/l"))
    assert here.compare()[0] == [("Removed", "a/l/f")]


def test_what_is_behind_a_symlink_takes_a_full_scan(host):
    here = host(("/a/*", True), made=[*TREE, ("link", "a/l", "d")])
    here.change(("write", "d/e/f", "22"))
    assert here.folders == {str(here.tree / "a/l/e")}
    assert here.compare(partial=False)[0] == [("Modified", "a/l/e/f")]


def test_a_root_behind_a_symlink_that_leads_elsewhere(host):
    here = host(("/*", False), ("/l/*", True), ("/l", True), made=[*TREE, ("link", "l", "d")])
    here.change(("write", "d/e/f", "22"))
    assert here.compare() == ([("Modified", "l/e/f")], [".", "l", "l/e"])
    here.change(("remove", "l"), ("link", "l", "a/b"))
    assert here.compare()[0] == [("Added", "l/c/f"), ("Removed", "l/e/f")]


def test_roots_that_come_and_go(host):
    here = host(("/a/b/*", True), ("/n/*", True), ("/d/e/f", False), made=TREE)
    source = here.run().sources["r0"]
    here.change(("remove", "d"), ("mkdir", "n"), ("mkdir", "n/m"), ("write", "n/m/f", "1"))
    here.trees.clear()  # the state of the rules tells
    here.folders.clear()
    assert here.compare()[0] == [("Added", "n/m/f"), ("Removed", "d/e/f")]
    here.change(("remove", "a"))
    here.trees.clear()
    here.folders.clear()
    assert here.compare()[0] == [("Removed", "a/b/c/f"), ("Removed", "a/b/f")]
    assert source.count == 2 and here.run().sources["r0"].status == "absent"


@pytest.fixture
def mount():
    need_root()
    mounted = []

    def mount(point, *arguments):
        subprocess.check_call(["mount", *arguments, str(point)])
        mounted.append(str(point))

    yield mount
    for point in reversed(mounted):
        subprocess.call(["umount", "-l", point])


@pytest.mark.parametrize("kind", ["tmpfs", "proc"])
@pytest.mark.parametrize("inner", [False, True])
def test_a_mount_that_came(host, mount, kind, inner):
    here = host(("/*", True), made=TREE)
    mount(here.tree / "a/b", "-t", kind, kind)
    here.folders.add(str(here.tree / ("a/b" if inner else "a")))
    here.trees.add(str(here.tree / ("a/b/c" if inner else "a/b")))
    assert here.compare(partial=kind != "proc")[0] == []
    assert not here.may_be_partial()


def test_a_folder_that_cannot_be_listed(host, monkeypatch):
    here = host(("/*", True), made=TREE)
    real = scanner.Scan._listings

    def failing(self, place, *arguments):
        if place.path == str(here.tree / "a"):
            raise PermissionError(13, "Permission denied")
        return real(self, place, *arguments)

    monkeypatch.setattr(scanner.Scan, "_listings", failing)
    here.change(("write", "a/f", "22"), ("write", "d/f", "22"))
    assert here.compare()[0] == [("Modified", "d/f")]
    assert not here.may_be_partial()


def test_changes_beyond_the_limit_are_left_for_the_next_run(host, monkeypatch):
    monkeypatch.setattr(budget, "RUN_CHANGES", 5)
    here = host(("/*", True))
    here.change(*[("mkdir", name) for name in "abcd"])
    here.change(*[("write", "%s/%d" % (name, number), "1") for name in "abcd" for number in range(3)])
    assert len(here.compare(postponed=True)[0]) == 6
    here.forget()
    assert len(here.run().changes) == 0


# --- runs of the agent


class Runs:
    """Runs of run_kind()."""

    def __init__(self, folder, *rules):
        self.state = str(folder / "state.db")
        self.settings = rule_settings.default()._replace(file_rules=list(rules), kinds=("files",))

    def run(self, *folders):
        named = Named(frozenset(map(str, folders)), frozenset()) if folders else None
        with Store(self.state) as store:
            return run.run_kind(FILES, self.settings, store, named=named)


@pytest.fixture
def runs(tmp_path):
    for name in ("t/a", "t/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "f").write_text("1")
    return Runs(tmp_path, FileRule("rule", str(tmp_path / "t") + "/*"))


def test_a_run_is_partial_where_the_last_one_saw_everything_by_the_same_rules(runs, tmp_path):
    folder = tmp_path / "t" / "a"
    assert not runs.run(folder).partial  # the first one
    assert not runs.run().partial
    (folder / "g").write_text("1")
    seen = runs.run(folder)
    assert seen.partial and len(seen.changes) == 1 and seen.count == 3
    assert seen.sources["rule"].count == 2  # of the last full run
    other = FileRule("other", str(tmp_path / "t" / "b") + "/*")
    runs.settings = runs.settings._replace(file_rules=[*runs.settings.file_rules, other])
    assert not runs.run(folder).partial
    assert runs.run(folder).partial


@pytest.mark.parametrize("entry", ["/somewhere", ["//uid=1000"], run.SWITCHED_OFF])
def test_a_run_is_full_where_the_last_one_did_not_see_everything(runs, tmp_path, entry):
    runs.run()
    with Store(runs.state) as store:
        last = store.last_run(FILES)
        store.finish(FILES, last._replace(unseen=[entry]), store.last_sources(FILES))
    assert not runs.run(tmp_path / "t").partial
    assert runs.run(tmp_path / "t").partial


def test_a_run_is_full_where_a_source_of_the_last_one_failed(runs, tmp_path):
    runs.run()
    with Store(runs.state) as store:
        sources = {name: one._replace(status="failed") for name, one in store.last_sources(FILES).items()}
        store.finish(FILES, store.last_run(FILES), sources)
    assert not runs.run(tmp_path / "t").partial
    assert runs.run(tmp_path / "t").partial


# --- the watcher


def test_a_folder_is_watched_before_it_is_listed(host):
    here = host(("/*", True), made=TREE)
    made = []

    def watch(descriptor, path, owner, claims):
        file = Path("/proc/self/fd/%d" % descriptor) / ("made%d" % len(made))
        file.write_text("1")
        made.append((os.path.join(path, file.name), owner, len(claims.all)))

    scan = scanner.Scan(here.rules, Known(), watch=watch)
    items = [item.path for part in scan for item in part.items]
    assert [path for path, _owner, _claims in made if path not in items] == [] and len(made) == 6
    assert {(owner, claims) for _path, owner, claims in made} == {("", 1)}


def test_a_reader_does_not_watch(host, monkeypatch, tmp_path):
    monkeypatch.setattr(scanner, "READERS_ABOVE", 1)
    monkeypatch.setattr(cpus, "usable", lambda: 3)
    here = host(("/*", True), made=TREE)
    log = tmp_path / "log"
    starts = []
    real = readers.Readers.start
    monkeypatch.setattr(readers.Readers, "start", lambda *arguments: starts.append(1) or real(*arguments))

    def watch(descriptor, path, owner, claims):
        with log.open("a") as file:
            file.write("%d %s\n" % (os.getpid(), here.relative(path)))

    assert len([item for part in scanner.Scan(here.rules, Known(), watch=watch) for item in part.items]) == 6
    expected = ["%d %s" % (os.getpid(), name) for name in (".", "a", "a/b", "a/b/c", "d", "d/e")]
    assert starts and log.read_text().splitlines() == expected
