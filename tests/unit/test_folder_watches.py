# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the events of the kernel announce about the tracked folders."""

import os
import select
import shutil
import subprocess

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import scan
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.mounts import Mounts
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.partial import Named
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.realtime.news import MOST_NAMED, News
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.realtime.roots import Roots
from ansible_collections.changetracking.inventory.tests.helpers.fuse import Silent, in_child, need_fuse
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root
from ansible_collections.changetracking.inventory.tests.helpers.watched import everything_below, watched

PATIENCE = 60


@pytest.fixture
def tracked(tmp_path):
    with watched(tmp_path) as make:
        yield make


def test_each_change_of_a_file_names_its_folder(tracked, tmp_path):
    os.mkdir(str(tmp_path / "a"))
    host = tracked(everything_below())
    path = host.make("a", "file")
    assert host.named() == ({"a"}, set())
    for change in (
        lambda: os.chmod(path, 0o600),
        lambda: os.utime(path, (1, 1)),
        lambda: os.truncate(path, 1),
        lambda: os.rename(path, path + "2"),
        lambda: os.symlink("x", path),
        lambda: os.unlink(path),
    ):
        change()
        assert host.named() == ({"a"}, set())
    with open(path + "2", "a") as held:
        held.write("a file that stays open for writing")
        held.flush()
        assert host.named() == ({"a"}, set())


@pytest.mark.parametrize(("kind", "named"), [("file", {"a/b"}), ("any", {"a", "a/b"}), ("directory", {"a", "a/b"})])
def test_a_name_that_comes_or_goes_changes_the_times_of_its_folder(tracked, tmp_path, kind, named):
    """So the folder above is named too, where folders are tracked."""
    os.makedirs(str(tmp_path / "a/b"))
    host = tracked(everything_below())
    host.rules = [rule._replace(type=kind) for rule in host.rules]
    host.scan()
    path = host.make("a", "b", "file")
    assert host.named() == (named, set())
    with open(path, "a") as file:
        file.write("text")
    assert host.named() == ({"a/b"}, set())


def test_reading_names_nothing(tracked):
    host = tracked(everything_below())
    path = host.make("file")
    host.scan()
    host.news()
    with open(path) as file:
        file.read()
    os.listdir(host.folder)
    host.scan()
    assert host.named() == (set(), set())


def test_a_folder_that_is_made_and_filled_at_once_is_named_with_all_below(tracked):
    host = tracked(everything_below())
    host.make("a", "b", "c", "file")
    assert host.named() == ({""}, {"a"})
    host.scan()
    host.news()
    host.make("a", "b", "c", "file2")
    assert host.named() == ({"a/b/c"}, set())


def test_a_folder_that_is_renamed_is_followed(tracked):
    host = tracked(everything_below())
    host.make("a", "b", "file")
    host.scan()
    host.news()
    os.rename(host.path("a"), host.path("z"))
    named = host.news().named()
    assert named == Named(frozenset([host.folder]), frozenset([host.path("a"), host.path("z")]))
    host.watches.begin(None)
    for _part in scan.Scan([FileRule("z", host.path("z") + "/")], Known(), watch=host.watches.watch):
        pass
    host.watches.end(named)
    host.make("z", "b", "file2")
    assert host.named() == ({"z/b"}, set())
    assert host.watches.count == 3


def test_a_folder_that_leaves_is_no_longer_watched_after_the_next_run(tracked, tmp_path_factory):
    host = tracked(everything_below("/t"))
    host.make("t", "a", "file")
    host.scan()
    host.news()
    away = str(tmp_path_factory.mktemp("away"))
    os.rename(host.path("t", "a"), os.path.join(away, "a"))
    named = host.news().named()
    host.watches.begin(None)
    host.watches.end(named)
    open(os.path.join(away, "a", "file2"), "w").close()
    assert host.news().items == set()
    shutil.rmtree(away)


def test_a_literal_rule_in_a_busy_folder_names_it_for_its_name_only(tracked):
    host = tracked(("/wanted.conf",), ("/*.pattern",))
    for number in range(100):
        host.make("noise-%d-%s" % (number, "x" * 100))
    assert host.named() == (set(), set())
    host.make("wanted.conf")
    assert host.news().everything
    host.scan()
    host.make("wanted.conf")
    assert host.named() == ({""}, set())
    host.make("a.pattern")
    assert host.named() == ({""}, set())


def test_a_long_name_is_not_matched_by_a_regular_expression_but_counts(tracked):
    host = tracked(("/.*a.*b.*c",))
    host.make("short")
    assert host.named() == (set(), set())
    host.make("x" * 200)
    assert host.named() == ({""}, set())


def test_folders_that_no_rule_recurses_into_are_not_named(tracked):
    host = tracked(("/*", False))
    host.make("a", "file")
    assert host.named() == (set(), set())


@pytest.mark.parametrize("name", ["new\nline", "\udcff\udcfe", "-rf *", "a\\b", "\u202e"])
def test_hostile_names_are_named_as_the_scan_names_them(tracked, name):
    host = tracked(everything_below())
    host.make(name, name)
    assert host.named()[1] == {name}
    host.scan()
    host.news()
    host.make(name, name + "2")
    assert host.named() == ({name}, set())


def test_a_root_that_does_not_exist_is_noticed_at_each_name_of_its_path(tracked):
    host = tracked(("/a/b/c/*.conf",))
    host.make("other")
    assert not host.news()
    for name in ("a", "a/b", "a/b/c"):
        os.mkdir(host.path(name))
        assert host.news().everything
        host.scan()
        assert not host.news()
    host.make("a", "b", "c", "x.conf")
    assert host.named() == ({"a/b/c"}, set())


def test_an_ancestor_that_is_renamed_is_a_full_run(tracked):
    host = tracked(("/a/b/*",))
    host.make("a", "b", "file")
    host.scan()
    host.news()
    os.rename(host.path("a"), host.path("z"))
    assert host.news().everything
    host.scan()
    host.make("z", "b", "file2")
    assert not host.news()


def test_a_symlink_on_the_way_to_a_root_is_watched_where_it_is(tracked):
    host = tracked(("/link/x/*",))
    host.make("one", "x", "file")
    host.make("two", "x", "file")
    os.symlink("one", host.path("link"))
    assert host.news().everything
    host.scan()
    host.news()
    host.make("one", "x", "file2")
    assert host.named() == ({"link/x"}, set())
    os.symlink("two", host.path("new"))
    os.rename(host.path("new"), host.path("link"))
    assert host.news().everything


def test_what_is_behind_a_symlink_to_a_folder_is_a_full_run(tracked):
    host = tracked(everything_below("/t"))
    host.make("outside", "file")
    os.makedirs(host.path("t"))
    host.scan()
    host.news()
    os.symlink("../outside", host.path("t", "link"))
    assert host.named() == ({"t"}, set())
    host.scan()
    host.news()
    host.make("outside", "file2")
    assert host.news().everything
    os.unlink(host.path("t", "link"))
    assert host.news().everything


def test_a_symlink_that_no_rule_names_is_announced_for_what_may_be_behind_it(tracked):
    host = tracked(("/t/*.conf", True))
    os.makedirs(host.path("t"))
    host.scan()
    host.news()
    os.symlink("../outside", host.path("t", "link"))
    assert host.named() == ({"t"}, set())
    os.unlink(host.path("t", "link"))
    assert host.named() == (set(), set())


@pytest.mark.parametrize("way", ("link", "swapped", "literal"))
def test_no_file_system_is_asked_what_an_event_is_about(tracked, tmp_path_factory, way):
    need_root()
    silent = tmp_path_factory.mktemp("silent")
    need_fuse(silent)
    host = tracked(everything_below("/t"), ("/literal",))
    host.make("t", "sub", "file")
    host.make("literal")
    host.scan()
    host.news()
    mounted = Silent(silent)
    try:
        if way == "link":
            os.symlink(str(silent), host.path("t", "sub", "link"))
        elif way == "swapped":  # the watch stays on the folder that had this path
            host.make("t", "sub", "file2")
            os.symlink("x", host.path("t", "sub", "link"))
            os.rename(host.path("t", "sub"), host.path("t", "old"))
            os.symlink(str(silent), host.path("t", "sub"))
        else:
            os.symlink(str(silent), host.path("link"))
            os.rename(host.path("link"), host.path("literal"))
        news = in_child(host.news)
        assert news.everything or news.folders
    finally:
        mounted.end()


@pytest.mark.parametrize("rule", ("/silent/sub/*", "/silent/file", "/link/sub/*", "/sub/link2", "/silent"))
def test_no_file_system_is_asked_that_was_mounted_after_the_table_of_mounts_was_read(tmp_path, rule):
    need_root()
    silent = tmp_path / "silent"
    for folder in (silent, tmp_path / "sub"):
        folder.mkdir()
    os.symlink("silent", str(tmp_path / "link"))
    os.symlink("../silent/file", str(tmp_path / "sub/link2"))
    need_fuse(silent)
    before = Mounts.read()
    mounted = Silent(silent)
    roots = Roots()

    def announced():
        roots.set([str(tmp_path) + rule], before)
        news = News()
        roots.mounts_changed(news)
        return news.everything

    try:
        assert in_child(announced) == (rule != "/sub/link2")  # which a scan looks behind
    finally:
        mounted.end()
        roots.close()


def test_a_name_above_one_root_is_not_taken_for_that_of_another_one(tracked):
    host = tracked(("/of_user/conf/*",), ("/of_root/conf/*",))
    for owner in ("of_user", "of_root"):
        host.make(owner, "conf", "file")
    host.scan()
    host.news()
    reasons = set()
    for owner in ("of_user", "of_root"):
        os.rename(host.path(owner, "conf"), host.path(owner, "conf2"))
        reasons.add(frozenset(host.news().items))
    assert len(reasons) == 2 and not frozenset.intersection(*reasons)


def test_a_folder_at_two_paths_is_named_at_both(tracked):
    host = tracked(("/t/*",), ("/link/*",))
    os.mkdir(host.path("t"))
    os.symlink("t", host.path("link"))
    host.scan()
    host.news()
    host.make("t", "file")
    assert host.named() == ({"t", "link"}, set())


def test_the_same_literal_path_may_become_a_folder(tracked):
    host = tracked(("/name",))
    host.make("name")
    assert host.news().everything
    host.scan()
    host.make("new")
    os.rename(host.path("new"), host.path("name"))
    assert host.named() == ({""}, set())
    os.unlink(host.path("name"))
    os.mkdir(host.path("name"))
    assert host.news().everything
    host.scan()
    host.news()
    host.make("name", "file")
    assert host.named() == ({"name"}, set())


def test_an_overflow_is_a_full_run_and_counted(tracked):
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        most = int(file.read())
    host = tracked(everything_below())
    for number in range(most):
        os.close(os.open(host.path(str(number % 7)), os.O_CREAT))
        os.unlink(host.path(str(number % 7)))
    assert host.news().everything
    assert host.watches.overflows == 1
    host.make("later")
    assert host.named() == ({""}, set())


def test_many_names_at_once_are_a_full_run(tracked):
    host = tracked(everything_below())
    for number in range(MOST_NAMED + 1):
        os.mkdir(host.path(str(number)))
    news = host.news()
    assert news.everything and not news.folders and not news.trees and len(news.items) <= MOST_NAMED


def test_the_agents_own_folders_are_not_watched(tracked, tmp_path):
    os.mkdir(str(tmp_path / "state"))
    host = tracked(everything_below(), own=[str(tmp_path / "state"), ""])
    host.make("state", "file")
    assert host.named() == (set(), set())
    assert host.watches.unwatched == 0


def test_another_rule_ends_the_watches_of_the_one_before(tracked):
    host = tracked(everything_below("/a"))
    host.make("a", "b", "file")
    host.scan()
    host.rules = [FileRule("r", host.path("c") + "/")]
    host.scan()
    host.news()
    assert host.watches.count == 0
    host.make("a", "b", "file")
    assert not host.news()
    host.make("c", "file")
    assert host.news().everything


def test_a_mount_and_its_end_are_a_full_run(tracked, tmp_path):
    need_root("mounting")
    host = tracked(everything_below("/t"))
    host.make("t", "a", "file")
    os.mkdir(str(tmp_path / "elsewhere"))
    host.scan()
    host.news()
    table = os.open("/proc/self/mountinfo", os.O_RDONLY)
    poll = select.poll()
    poll.register(table, select.POLLPRI)

    def changed():
        assert poll.poll(PATIENCE * 1000)
        news = News()
        host.watches.mounts_changed(news)
        return news

    try:
        subprocess.check_call(["mount", "-t", "tmpfs", "none", host.path("elsewhere")])
        try:
            assert not changed()
        finally:
            subprocess.check_call(["umount", host.path("elsewhere")])
        assert not changed()
        subprocess.check_call(["mount", "-t", "tmpfs", "none", host.path("t", "a")])
        try:
            assert changed().everything
            host.scan()
            host.news()
            host.make("t", "a", "on the mount")
            assert host.named() == ({"t/a"}, set())
        finally:
            subprocess.check_call(["umount", host.path("t", "a")])
        # No event where a host that booted meanwhile still has the mount: the table of mounts tells it.
        assert changed().everything
    finally:
        os.close(table)
