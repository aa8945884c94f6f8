# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local user mounts FUSE file systems that never answer, right after a scan has read the table of mounts, or before it.

Whatever the file system is mounted on: the run ends, and the files of others are reported.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import listing, opening, slices
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.mounts import Mounts, parse
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import settings as rule_settings
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import contents, run
from ansible_collections.changetracking.inventory.tests.helpers.fuse import USER, Silent, in_child, need_fuse
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

pytestmark = pytest.mark.no_python  # it is about mounts
FILES = all_kinds()["files"]


@pytest.mark.parametrize("source", (b"x,user_id=0", b"fuse\\040user_id=0", b"user_id=0,", b"-", b""))
def test_the_source_that_a_user_chooses_does_not_say_who_serves_a_file_system(source):
    line = b"36 25 0:32 / /home/u/m rw,nosuid - fuse.x %s rw,user_id=1000,group_id=1000\n" % source
    assert parse(line) == {b"36": ("/home/u/m", "fuse.x of uid 1000")}


class Place:
    """`home` is the user's, with a folder `m` and a file `f`; `other` is root's, and is scanned after it."""

    def __init__(self, folder):
        self.folder = folder
        self.home, self.other = folder / "t" / "home", folder / "t" / "other"
        (self.home / "m").mkdir(parents=True)
        self.other.mkdir()
        self.victim = self.other / "victim"
        self.victim.write_bytes(b"1")
        (self.home / "f").write_bytes(b"1")
        (self.home / "m" / "inner").write_bytes(b"1")
        for path in (self.home, self.home / "m", self.home / "f", self.home / "m" / "inner"):
            os.chown(str(path), USER, USER)
        self.mounted = []
        self.rules = [self.rule()]

    def rule(self, path="", **options):
        return FileRule("rule", path or str(self.folder / "t") + "/*", options.pop("recurse", True), **options)

    def mount(self, path):
        self.mounted.append(Silent(path))

    def run(self):
        """One run; gives the paths of the changes and the messages of the sources."""
        settings = rule_settings.default()._replace(file_rules=self.rules, kinds=("files",))
        with Store(str(self.folder / "state.db")) as store:
            snapshot = run.run_kind(FILES, settings, store, keep_items=True)
            contents.keep(snapshot, self.rules, [], store)
        changed = sorted((change.new or change.old).path for change in snapshot.changes)
        return changed, " ".join(source.message for source in snapshot.sources.values())

    def end(self):
        for silent in self.mounted:
            silent.end()
        for mount in sorted(Path("/proc/self/mounts").read_text().splitlines(), reverse=True):
            if mount.split()[1].startswith(str(self.folder)):
                subprocess.call(["umount", "-l", mount.split()[1]])
        shutil.rmtree(str(self.folder))


@pytest.fixture
def place(tmp_path):
    need_root()
    need_fuse(tmp_path)
    folder = Path(tempfile.mkdtemp(prefix="mounts"))
    folder.chmod(0o755)
    place = Place(folder)
    yield place
    place.end()


@pytest.fixture(params=["openat2", "old kernel"])
def kernel(request, monkeypatch):
    if request.param == "old kernel":
        flags = {"open_directory_within": opening.DIRECTORY, "_open_path_within": opening._PATH}
        for name, value in flags.items():
            monkeypatch.setattr(opening, name, opening._within_by_mount(value))


def mount_during_scan(monkeypatch, place, path):
    """Mount as soon as a scan has read the table of mounts."""
    real = Mounts.read

    def read():
        table = real()
        if not place.mounted:
            place.mount(path)
        return table

    monkeypatch.setattr(Mounts, "read", read)


def check(place):
    """The run ends, and reports what changed elsewhere."""
    place.victim.write_bytes(b"22")
    changed, message = in_child(place.run)
    assert str(place.victim) in changed
    return changed, message


@pytest.mark.parametrize("kind", ["any", "directory", "file"])
@pytest.mark.parametrize("links", ["manage", "follow"])
@pytest.mark.parametrize("name", ["m", "f"])
def test_a_mount_that_comes_during_a_scan_does_not_hold_it_up(place, monkeypatch, kernel, kind, links, name):
    place.rules = [place.rule(type=kind, links=links), FileRule("other", str(place.other) + "/*")]
    (place.home / "l").symlink_to("m/inner")
    in_child(place.run)
    mount_during_scan(monkeypatch, place, place.home / name)
    check(place)


@pytest.mark.parametrize("name", ["m", "f"])
def test_no_mount_is_opened_after_another_one_had_the_table_read_again(place, monkeypatch, kernel, name):
    place.rules = [place.rule(links="follow")]
    another = place.home / "a"
    another.mkdir()
    (place.home / "l").symlink_to("a/inner")
    in_child(place.run)
    (place.home / "f").write_bytes(b"changed")
    mount_during_scan(monkeypatch, place, place.home / name)
    real = place.mount

    def mount_both(path):
        real(path)
        real(another)

    monkeypatch.setattr(place, "mount", mount_both)
    check(place)


def test_a_mount_on_a_file_that_was_never_read_does_not_hold_up_a_scan(place, monkeypatch, kernel):
    in_child(place.run)
    (place.home / "f").write_bytes(b"changed")
    (place.home / "big").write_bytes(b"x" * 100000)
    mount_during_scan(monkeypatch, place, place.home / "f")
    assert str(place.home / "big") in check(place)[0]


def test_a_mount_on_a_file_does_not_hold_up_the_first_scan(place, monkeypatch, kernel):
    os.chown(str(place.home), 0, 0)  # files of root are read while they are listed
    mount_during_scan(monkeypatch, place, place.home / "f")
    in_child(place.run)
    with Store(str(place.folder / "state.db"), read_only=True) as store:
        assert str(place.victim) in [item.path for item in store.all_items(FILES)]


@pytest.mark.parametrize("where", ["", "m/*", "m/inner"])
def test_a_mount_over_the_root_of_a_mount_does_not_hold_up_a_scan(place, monkeypatch, kernel, where):
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", str(place.home / "m")])
    (place.home / "m" / "inner").write_bytes(b"1")
    if where:
        place.rules.append(place.rule(str(place.home / where)))
    in_child(place.run)
    mount_during_scan(monkeypatch, place, place.home / "m")
    assert check(place)[0] == [str(place.victim)]


@pytest.mark.parametrize("path", ["m", "f", "m/*", "m/inner"])
@pytest.mark.parametrize("kind", ["any", "file"])
def test_a_mount_where_a_rule_points_does_not_hold_up_a_scan(place, monkeypatch, kernel, path, kind):
    place.rules.append(place.rule(str(place.home / path), type=kind))
    in_child(place.run)
    mount_during_scan(monkeypatch, place, place.home / path.partition("/")[0])
    check(place)


@pytest.mark.parametrize("path", ["m", "f", "m/*", "m/inner"])
def test_what_a_user_has_mounted_where_a_rule_points_is_not_entered(place, path):
    place.rules = [
        place.rule(str(place.home / path), contents=True, recurse=False),
        FileRule("other", str(place.victim)),
    ]
    in_child(place.run)
    place.mount(place.home / path.partition("/")[0])
    changed, message = check(place)
    assert changed == [str(place.victim)] and "of uid %d" % USER in message


def test_a_mount_in_a_crowded_folder_does_not_hold_up_a_scan(place, monkeypatch):
    os.chmod(str(place.home), 0o1777)
    for number in range(50):
        path = place.home / str(number)
        path.write_bytes(b"1")
        os.chown(str(path), USER + 1, USER)
    in_child(place.run)
    monkeypatch.setattr(slices, "FOLDER_ENTRIES", 40)
    monkeypatch.setattr(listing, "SLICED_ABOVE", 20)
    mount_during_scan(monkeypatch, place, place.home / "m")
    check(place)


def test_the_text_of_a_file_is_not_read_through_a_mount_that_came_after_the_scan(place, monkeypatch):
    place.rules = [place.rule(contents=True)]
    in_child(place.run)
    (place.home / "m" / "inner").write_bytes(b"other")
    keep = contents.keep

    def mounting(*arguments):
        place.mount(place.home / "m")
        return keep(*arguments)

    monkeypatch.setattr(contents, "keep", mounting)
    check(place)
