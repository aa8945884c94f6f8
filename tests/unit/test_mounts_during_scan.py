# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file system that is mounted or unmounted during a scan: this run and the next report what they do where that happens between two."""

import hashlib
import os
import subprocess

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import items, roots, scan
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.mounts import Mounts
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import settings as rule_settings
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import run
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

pytestmark = pytest.mark.no_python  # it is about mounts
FILES = all_kinds()["files"]
TIME = 1500000000  # of all files

# Right before or after the first call of which function something is mounted or unmounted.
MOMENTS = [(Mounts, "read", "after"), (roots.Roots, "place", "after"), (scan.Scan, "_judge_gone", "before")]
# What the file system `disk` has, and what it is mounted on.
POINTS = {
    "the folder of a rule": ("disk/root", "root"),
    "a folder above that of a rule": ("disk/above", "above"),
    "a folder below that of a rule": ("disk/sub", "tree/sub"),
    "a folder behind a link": ("disk/behind", "behind"),
    "an empty folder behind a link": ("disk/behind", "empty"),
    "a file": ("disk/file", "tree/file"),
    "the file of a rule": ("disk/file", "single/file"),
}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(str(path), (TIME, TIME))


class Place:
    def __init__(self, folder):
        self.folder = folder
        self.mounted = []
        for name in ("root", "empty"):
            (folder / name).mkdir(parents=True)
        for name in ("above/of/a", "tree/sub/a", "tree/sub/deep/c", "tree/file", "behind/a", "single/file"):
            write(folder / name, "1")
        for name in ("root/b.conf", "above/of/a", "above/of/b", "sub/a", "sub/b", "behind/a", "behind/b", "file"):
            write(folder / "disk" / name, "2")
        for name in ("behind", "empty"):
            (folder / "tree" / ("to_" + name)).symlink_to(folder / name)
        (folder / "tree" / "to_file").symlink_to(folder / "behind" / "a")
        self.rules = [
            FileRule("root", "%s/root/*.conf" % folder),
            FileRule("above", "%s/above/of/*" % folder),
            FileRule("tree", "%s/tree/*" % folder, True, links="follow"),
            FileRule("single", "%s/single/file" % folder),
        ]

    def mount(self, source, point):
        subprocess.check_call(["mount", "--bind", str(self.folder / source), str(self.folder / point)])
        self.mounted.append(str(self.folder / point))

    def umount(self):
        # Lazily, since the scan may have it open.
        subprocess.check_call(["umount", "-l", self.mounted.pop()])

    def run(self):
        """One run; gives the category, the path and the fields of each change."""
        settings = rule_settings.default()._replace(file_rules=self.rules, kinds=("files",))
        with Store(str(self.folder / "state.db")) as store:
            snapshot = run.run_kind(FILES, settings, store)
        # The folders of two trees are made at different times, and links lead to them.
        changes = [
            (
                one.category,
                (one.new or one.old).path[len(str(self.folder)) :],
                set(one.fields) - {"DateModified", "DateCreated"},
            )
            for one in snapshot.changes
        ]
        return {
            (category, path, *sorted(fields)) for category, path, fields in changes if fields or category != "Modified"
        }


def call_once(monkeypatch, owner, name, when, event):
    """Call `event` before or after the next call of a function."""
    real = getattr(owner, name)
    events = [event]

    def wrapper(*arguments):
        if when == "before" and events:
            events.pop()()
        result = real(*arguments)
        if events:
            events.pop()()
        return result

    monkeypatch.setattr(owner, name, wrapper)


@pytest.fixture
def places(tmp_path):
    need_root()
    made = []

    def make():
        made.append(Place(tmp_path / str(len(made))))
        return made[-1]

    yield make
    for place in made:
        while place.mounted:
            place.umount()


def prepare(place, change, source, point):
    """The event of a change, for which the file systems are mounted that are there before."""
    if change == "mount":
        return lambda: place.mount(source, point)
    place.mount(point if change == "replace" else source, point)

    def replace():
        place.umount()
        place.mount(source, point)

    return replace if change == "replace" else place.umount


@pytest.mark.parametrize("change", ["mount", "unmount", "replace"])
@pytest.mark.parametrize("point", sorted(POINTS))
def test_the_changes_are_those_of_a_mount_between_two_runs(places, monkeypatch, point, change):
    ordinary = places()
    event = prepare(ordinary, change, *POINTS[point])
    assert ordinary.run() == set()
    event()
    expected = ordinary.run()
    assert ordinary.run() == set()
    for owner, name, when in MOMENTS:
        place = places()
        event = prepare(place, change, *POINTS[point])
        assert place.run() == set()
        with monkeypatch.context() as patch:
            call_once(patch, owner, name, when, event)
            found = place.run()
        assert found | place.run() == expected, name
        assert place.run() == set()


@pytest.mark.parametrize("change", ["mount", "replace"])
def test_a_file_that_is_mounted_over_before_it_is_read_is_read(places, monkeypatch, change):
    place = places()
    event = prepare(place, change, "disk/file", "tree/file")
    assert place.run() == set()
    (place.folder / "tree" / "file").write_text("3")
    real = items.Maker._read

    def mount_and_read(maker, folder, name, *arguments):
        if name == "file" and folder.path.endswith("/tree"):
            patch.undo()
            event()
        return real(maker, folder, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(items.Maker, "_read", mount_and_read)
        assert place.run() == {("Modified", "/tree/file", "FileContentChecksum")}
    with Store(str(place.folder / "state.db"), read_only=True) as store:
        checksums = {item.path: item.checksum for item in store.all_items(FILES)}
    assert checksums[str(place.folder / "tree" / "file")] == hashlib.sha256(b"2").hexdigest()
