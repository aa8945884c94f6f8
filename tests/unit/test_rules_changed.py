# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rule changes while files change: random rules, random changes of a tree, and a scan by both rules as the referee."""

import os
import random
import shutil

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import budget
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import FILES
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scan import Scan
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import default
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import run_kind
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

pytestmark = pytest.mark.no_python  # it compares two scans
FOLDERS = ("t", "t/a", "t/a/b", "t/c", "far")
NAMES = ("x.conf", "y.conf", "z", "link", "a.conf")


class World:
    """A tree, and the state of what was tracked in it."""

    def __init__(self, folder, seed):
        self.dice = random.Random(seed)
        self.folder = str(folder)
        self.state = self.folder + ".db"
        os.mkdir(self.folder)
        for _change in range(40):
            self.change()

    def path(self):
        return os.path.join(self.folder, self.dice.choice(FOLDERS), self.dice.choice(NAMES))

    def change(self):
        """One random change; what cannot be done is none."""
        path = self.path()
        name = self.dice.choice(["write"] * 5 + ["unlink", "chmod", "link", "make", "rename", "remove"])
        try:
            getattr(self, "_" + name)(path)
        except OSError:
            pass

    def _write(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("x" * self.dice.randrange(1000))

    def _unlink(self, path):
        os.unlink(path)

    def _chmod(self, path):
        os.chmod(path, self.dice.choice([0o600, 0o640, 0o644]))

    def _link(self, path):
        os.symlink(self.dice.choice([self.path(), self.folder + "/far", "nowhere"]), path)

    def _make(self, path):
        os.mkdir(path)

    def _rename(self, path):
        os.rename(path, self.path())

    def _remove(self, path):
        shutil.rmtree(os.path.dirname(path))

    def rules(self):
        """One to three random file items."""
        dice = self.dice
        return [
            FileRule(
                "r%d" % dice.randrange(3),
                os.path.join(self.folder, dice.choice(FOLDERS), dice.choice(["*", "*.conf", "[ax]*", "x.conf", "a"])),
                dice.random() < 0.7,
                dice.choice(["follow", "follow", "manage", "ignore"]),
                dice.choice(["file", "directory", "any", "any"]),
                dice.choice(["sha256", "sha256", "md5", "none"]),
            )
            for _rule in range(dice.randint(1, 3))
        ]

    def other_rules(self, rules):
        """Rules in which one file item was added, removed, replaced, changed or moved."""
        dice, rules = self.dice, list(rules)
        place, other = dice.randrange(max(1, len(rules))), self.rules()[0]
        how = dice.choice(["add", "append", "remove", "replace", "change", "move", "rename"])
        if how == "append" or not rules:
            rules.append(other)
        elif how == "add":
            rules.insert(place, other)
        elif how == "remove":
            del rules[place]
        elif how == "replace":
            rules[place] = other
        elif how == "move":
            rules.append(rules.pop(place))
        else:
            field = "name" if how == "rename" else dice.choice(["path", "recurse", "links", "type", "checksum"])
            rules[place] = rules[place]._replace(**{field: getattr(other, field)})
        return rules

    def run(self, rules):
        with Store(self.state) as store:
            return run_kind(FILES, default()._replace(file_rules=rules), store, keep_items=True)

    def look(self, rules):
        """path -> what is compared of an item, by the rules alone."""
        return by_path(item for part in Scan(rules, Known()) for item in part.items)


def by_path(items):
    return {item.path: FILES.compared(item) for item in items}


def differences(before, after):
    """path -> Added, Removed, Modified, as far as it can be compared."""
    out = {}
    for path in before.keys() | after.keys():
        if path not in after:
            out[path] = "Removed"
        elif path not in before:
            out[path] = "Added"
        elif columns(before[path], after[path]):
            out[path] = "Modified"
    return out


def columns(was, now):
    was, now = list(was), list(now)
    if len(was[1]) != len(now[1]):
        was[1] = now[1] = ""
    return was != now


@pytest.mark.parametrize("seed", range(40))
def test_what_changes_as_a_rule_changes_is_what_changes_by_the_old_rule(tmp_path, seed):
    world = World(tmp_path / "w", seed)
    rules = world.rules()
    world.run(rules)
    before = world.look(rules)
    for _run in range(4):
        for _change in range(world.dice.choice([0, 1, 10, 30])):
            world.change()
        others = world.other_rules(rules)
        expected = differences(before, world.look(rules))
        seen = world.run(others)
        after = world.look(others)
        assert by_path(seen.items) == after
        found = {(change.new or change.old).path: change.category for change in seen.changes}
        for path, category in found.items():
            # What the old rule lost and the new one has in another form follows from what is stored.
            assert expected.get(path) in (category, "Removed") and (category == expected[path] or path in after), path
        missing = {path: category for path, category in expected.items() if path not in found}
        for path, category in missing.items():
            assert path in before and after.get(path) == before[path], (path, category)
        rules, before = others, after
        assert world.run(rules).changes == []


@pytest.mark.parametrize("seed", range(40))
def test_changes_amid_the_run_that_changes_the_rule_are_reported_once_and_follow_from_each_other(
    tmp_path, monkeypatch, seed
):
    """What both rules track in the same way has one history, whenever it changes."""
    world = World(tmp_path / "w", seed)
    whole = FileRule("whole", world.folder + "/t/*", True, "manage", "any")
    rules = [whole]
    history = by_path(world.run(rules).items)
    visit = Scan._visit

    def amid(self, place, frame, claims, listings):
        for _change in range(world.dice.choice([0, 0, 1, 3])):
            world.change()
        for part in visit(self, place, frame, claims, listings):
            yield part
            world.change()

    monkeypatch.setattr(Scan, "_visit", amid)
    for _run in range(4):
        for _change in range(10):
            world.change()
        more = world.rules()[0]._replace(links="manage")  # or it would track more below the tree, for a time
        rules = world.dice.choice([[whole], [whole, more], [whole._replace(name="n")]])
        apply(history, world.run(rules).changes, world.folder + "/t/")
    monkeypatch.undo()
    apply(history, world.run([whole]).changes, world.folder + "/t/")
    assert history == world.look([whole])


def apply(history, changes, below):
    """Apply changes to path -> what is compared; each follows from what was there."""
    for change in changes:
        path = (change.new or change.old).path
        if path.startswith(below):
            assert history.get(path) == (None if change.old is None else FILES.compared(change.old)), path
            history.pop(path, None)
            if change.new is not None:
                history[path] = FILES.compared(change.new)


@pytest.mark.parametrize("after", [["/b/*"], ["/a/*", "/b/*"]], ids=["another rule", "one rule more"])
def test_what_is_newly_tracked_and_was_postponed_is_not_new(tmp_path, monkeypatch, after):
    need_root("a folder of another user")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    os.chown(str(tmp_path / "b"), 12345, 12345)

    def run(*globs):
        rules = [FileRule(glob, str(tmp_path) + glob) for glob in globs]
        with Store(str(tmp_path / "state.db")) as store:
            found = run_kind(FILES, default()._replace(kinds=["files"], file_rules=rules), store)
        return [(change.category, change.new.path) for change in found.changes if change.new is not None]

    assert run("/a/*") == []
    with monkeypatch.context() as patched:
        patched.setattr(budget, "SMALL_SECONDS", 0)
        assert run(*after) == []
    assert run(*after) == []
    (tmp_path / "b" / "other").write_text("x")
    assert run(*after) == [("Added", str(tmp_path / "b" / "other"))]
