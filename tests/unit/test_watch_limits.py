# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which directories are watched where there are not enough watches for all, and how many are not."""

import errno
import os
import shutil

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.partial import Named
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.realtime import inotify
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root
from ansible_collections.changetracking.inventory.tests.helpers.watched import everything_below, watched


@pytest.fixture
def tracked(tmp_path):
    with watched(tmp_path) as make:
        yield make


def test_watches_that_are_used_up_are_counted_and_the_others_go_on(tracked):
    host = tracked(everything_below(), limit=3)
    for name in "abcde":
        host.make(name, "file")
    host.scan()
    host.news()
    assert host.watches.count == 3 and host.watches.unwatched == 3
    assert "3 directories are not watched" in host.watches.why()
    host.make("a", "file2")
    assert host.named() == ({"a"}, set())
    host.make("e", "file2")
    assert host.named() == (set(), set())
    shutil.rmtree(host.path("a"))
    host.news()
    host.scan()
    assert host.watches.count == 3 and host.watches.unwatched == 2


def test_the_kernel_that_has_no_more_watches_is_named(tracked, monkeypatch):
    host = tracked(everything_below())
    os.mkdir(host.path("a"))

    def refuse(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inotify.Inotify, "add", refuse)
    host.scan()
    assert host.watches.unwatched == 2 and "fs.inotify.max_user_watches" in host.watches.why()


def test_a_kernel_without_more_watches_gets_half_of_them_back(tracked, monkeypatch):
    host = tracked(everything_below())
    for number in range(20):
        os.mkdir(host.path("%02d" % number))
    add = inotify.Inotify.add

    def most(self, path, mask):
        if host.watches.count >= 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return add(self, path, mask)

    monkeypatch.setattr(inotify.Inotify, "add", most)
    for _unused in range(2):
        host.scan()
        host.news()
        assert (host.watches.count, host.watches.unwatched) == (5, 16)
        assert "fs.inotify.max_user_watches" in host.watches.why()
    host.make("02", "file")
    host.make("04", "file")
    assert host.named() == ({"02"}, set())


def test_what_is_not_watched_is_counted_once(tracked):
    host = tracked(everything_below(), limit=2)
    for name in "abc":
        host.make(name, "file")
    host.scan()
    for named in (Named(frozenset([host.path("b")]), frozenset()), None):
        host.scan(partial=True, named=named)
        assert host.watches.unwatched == 2
    host.make("d", "file")
    host.scan(partial=True, named=Named(frozenset(), frozenset([host.path("d")])))
    assert host.watches.unwatched == 3
    shutil.rmtree(host.path("b"))
    host.scan(partial=True)  # in the end, it looked everywhere
    assert host.watches.unwatched == 2


def test_others_than_root_use_half_of_the_watches_at_most(tracked):
    need_root("folders of another user")
    host = tracked(everything_below(), limit=8)
    for number in range(20):
        os.mkdir(host.path("u%d" % number))
        os.chown(host.path("u%d" % number), 12345, 12345)
    for number in range(3):
        os.mkdir(host.path("z%d" % number))
    host.scan()
    host.news()
    assert host.watches.count == 4 + 1 + 3
    host.make("z2", "file")
    assert host.named() == ({"z2"}, set())


def test_a_user_with_few_folders_is_watched_whatever_another_one_has(tracked):
    need_root("folders of other users")
    host = tracked(everything_below(), limit=20)

    def watched():
        host.scan()
        host.news()
        return {owner: len(paths) for owner, paths in host.watches._held.items()}, host.watches.unwatched

    for number in range(20):
        os.mkdir(host.path("u%02d" % number))
        os.chown(host.path("u%02d" % number), 12345, 12345)
    assert watched() == ({"uid=12345": 10}, 10)
    for number in range(3):
        os.mkdir(host.path("v%d" % number))
        os.chown(host.path("v%d" % number), 12346, 12346)
    for number in range(8):
        os.mkdir(host.path("w%d" % number))
        os.chown(host.path("w%d" % number), 12347, 12347)
    shared = ({"uid=12345": 4, "uid=12346": 3, "uid=12347": 3}, 21)
    assert watched() == shared == watched()
    os.chown(host.path("v0"), 0, 0)
    assert watched() == ({"uid=12345": 4, "uid=12346": 2, "uid=12347": 4}, 20)
    for name in os.listdir(host.folder):
        os.rmdir(host.path(name))
    assert watched() == ({}, 0) and host.watches._others == 0 and host.watches._holders == {}


def test_the_owner_with_the_most_watches_is_found_whatever_the_number_of_owners(tracked):
    watches = tracked(everything_below()).watches
    for number in range(1000):
        watches._hold("uid=%d" % number, "/a")
    watches._hold("uid=7", "/b")
    assert {number: len(owners) for number, owners in watches._holders.items()} == {1: 999, 2: 1}
    watches._release("uid=7", "/a")
    watches._release("uid=8", "/a")
    assert {number: len(owners) for number, owners in watches._holders.items()} == {1: 999}
    assert watches._others == 999
