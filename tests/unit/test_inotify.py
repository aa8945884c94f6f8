# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel reports about a folder."""

import errno
import os
import sys

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.realtime import inotify


@pytest.fixture
def watcher():
    watcher = inotify.Inotify()
    yield watcher
    watcher.close()


def add(watcher, path, mask=inotify.NAMES | inotify.MODIFY):
    return watcher.add(os.fsencode(str(path)), mask)


def test_events_have_the_names_that_the_kernel_gives(watcher, tmp_path):
    watch = add(watcher, tmp_path)
    names = ["plain", "with\nnewline", "not utf-8 \udcff", "x" * 255, "ü"]
    for name in names:
        os.close(os.open(os.path.join(str(tmp_path), name), os.O_CREAT))
    os.mkdir(str(tmp_path / "folder"))
    events = list(watcher.read())
    assert [event.name for event in events] == [*names, "folder"]
    assert {event.watch for event in events} == {watch}
    assert all(event.mask & inotify.CREATE for event in events)
    assert [event.name for event in events if event.mask & inotify.ISDIR] == ["folder"]
    assert list(watcher.read()) == []


def test_an_inode_has_one_watch_however_it_is_reached(watcher, tmp_path):
    os.mkdir(str(tmp_path / "a"))
    os.symlink("a", str(tmp_path / "b"))
    assert add(watcher, tmp_path / "a") == add(watcher, tmp_path / "b")


def test_a_removed_watch_reports_nothing_and_may_be_removed_again(watcher, tmp_path):
    watch = add(watcher, tmp_path)
    watcher.remove(watch)
    watcher.remove(watch)
    (tmp_path / "a").write_text("")
    assert [event.mask for event in watcher.read()] == [inotify.IGNORED]


def test_a_read_is_bounded_and_the_rest_comes_later(watcher, tmp_path):
    add(watcher, tmp_path)
    for number in range(3000):
        os.close(os.open(str(tmp_path / ("%04d" % number)), os.O_CREAT))
    first = list(watcher.read(limit=1))
    assert 0 < len(first) < 3000
    assert len(first) + len(list(watcher.read())) == 3000


def test_a_queue_that_is_full_says_so(watcher, tmp_path):
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        most = int(file.read())
    add(watcher, tmp_path)
    for number in range(most // 2 + 10):
        path = str(tmp_path / str(number % 7))
        os.close(os.open(path, os.O_CREAT))
        os.unlink(path)
    masks = [event.mask for event in watcher.read(1 << 30)]
    assert masks[-1] & inotify.OVERFLOW and not any(mask & inotify.OVERFLOW for mask in masks[:-1])


@pytest.mark.parametrize(("name", "number"), [("none", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_what_cannot_be_watched_is_an_error_of_the_system(watcher, tmp_path, name, number):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        add(watcher, tmp_path / name, inotify.NAMES | inotify.ONLYDIR)
    assert caught.value.errno == number


def test_a_python_without_ctypes_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ctypes", None)
    with pytest.raises(inotify.Unavailable, match="cannot load ctypes"):
        inotify.Inotify()
