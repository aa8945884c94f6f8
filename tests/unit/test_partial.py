# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A partial scan, which looks only where something may have changed, stores and reports what a full scan would."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import scan as scanner
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.partial import Named, Partial
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import (
    FileRule,
    in_scope,
    parse_path,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import run
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.judge import Scope

FILES = all_kinds()["files"]
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

        scope = Scope([list(rule.tracking) for rule in self.rules], in_scope, None)
        with Store(state or self.state) as store:
            return run.compare_and_store(FILES, collect, store, scope, keep_items=True)

    def may_be_partial(self):
        scope = Scope([list(rule.tracking) for rule in self.rules], in_scope, None)
        with Store(self.state, read_only=True) as store:
            return run._may_be_partial(FILES, store, scope)

    def stored(self, state=None):
        with Store(state or self.state, read_only=True) as store:
            known, last = store.known(FILES), store.last_run(FILES)
            parts = {name: (part, known.items(name)) for name, part in known.parts.items()}
            statuses = {name: source.status for name, source in store.last_sources(FILES).items()}
            return parts, last.scope, sorted(map(str, last.unseen)), statuses

    def compare(self, partial=True):
        """A partial run, and a full one from a copy of the state: both report, store and count the same."""
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
        assert self.run().changes == [] and self.stored()[:3] == before[:3]
        return sorted((one.category, Path((one.new or one.old).path).name) for one in seen.changes), looked_at

    # --- changes

    def saw(self, path, is_directory=False, on_itself=False):
        """Name what inotify tells of a change of an entry, and what only shows there: the times of a directory, or the target of a
        link elsewhere, see look()."""
        above = path.parent
        status = os.lstat(str(above))
        for watched in self.watches.get((status.st_dev, status.st_ino), ()):
            self.folders.add(watched)
            if is_directory:
                self.trees.add(os.path.join(watched, path.name))
        if on_itself:
            status = os.lstat(str(path))
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
            if str(other).startswith(str(path) + "/"):
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


@pytest.fixture
def host(tmp_path):
    def make(*rules, made=()):
        host = Host(tmp_path, *rules)
        for step in made:
            host.do(*step)
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


@settings(max_examples=int(os.environ.get("PARTIAL_EXAMPLES", "150")))
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
