# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Watches the databases of packages, and tells whether a transaction is still running."""

import fcntl
import os
import struct
from typing import Dict, List, Tuple

from ..kinds.packages.databases import MANAGERS
from . import inotify
from .inotify import Inotify
from .news import News

_MASK = inotify.MODIFY | inotify.CLOSE_WRITE | inotify.NAMES | inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.ONLYDIR
_GONE = inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.UNMOUNT
# What a transaction changes, which nobody does who only reads. With a write-ahead log, rpm changes the database later.
_FILES = ("status", "rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Packages")
_JOURNAL = "updates"  # where dpkg writes what it has done, until it rewrites `status` at the end, or has died before
_LOCKS = ("lock", "lock-frontend", ".rpm.lock")  # apt holds the second one for several transactions of dpkg
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2)


class PackageWatches:
    """Raises inotify.Unavailable. `root`: of the file system."""

    def __init__(self, root: str = "/") -> None:
        self._folders = [os.path.join(root, folder) for manager in MANAGERS for folder in manager.folders]
        self._watched: Dict[int, str] = {}  # watch -> folder
        self._stamps: Dict[str, Tuple[int, ...]] = {}
        self._inotify = Inotify()

    @property
    def count(self) -> int:
        return sum(os.path.basename(folder) != _JOURNAL for folder in self._watched.values())

    def filenos(self) -> List[int]:
        return [self._inotify.fileno()]

    def close(self) -> None:
        self._inotify.close()

    def why(self) -> str:
        return "" if self._watched else "There is no directory of a package database to watch."

    def begin(self) -> None:
        """A run begins: watch the databases that are there now."""
        for folder in self._folders:
            try:
                self._watched[self._inotify.add(os.fsencode(folder), _MASK)] = folder
            except OSError:  # there is none
                continue
            try:
                journal = os.path.join(folder, _JOURNAL)
                self._watched[self._inotify.add(os.fsencode(journal), _MASK)] = journal
            except OSError:  # a database of rpm has none
                pass
            for name in _FILES:
                self._stamps[os.path.join(folder, name)] = _stamp(os.path.join(folder, name))

    def read(self, news: News) -> bool:
        """Add a run where a database has changed."""
        touched = set()
        for event in self._inotify.read():
            folder = self._watched.get(event.watch, "")
            if event.mask & (inotify.OVERFLOW | _GONE):
                news.add_everything(folder)
            if event.mask & inotify.IGNORED:
                self._watched.pop(event.watch, None)
            elif os.path.basename(folder) == _JOURNAL:
                if event.name.isdigit() and _stamp(os.path.join(folder, event.name)):
                    news.add_everything(folder)
            elif event.name in _FILES:
                touched.add(os.path.join(folder, event.name))
        for path in touched:  # whoever reads a database of SQLite may make and remove an empty log
            stamp = _stamp(path)
            if stamp != self._stamps.get(path):
                self._stamps[path] = stamp
                news.add_everything(path)
        return False

    def busy(self) -> bool:
        """Whether a transaction is running, whose end a run waits for."""
        return any(_is_locked(os.path.join(folder, name)) for folder in self._watched.values() for name in _LOCKS)


def _stamp(path: str) -> Tuple[int, ...]:
    """Changes whenever the file does; empty for none, and for an empty one."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) if status.st_size else ()


def _is_locked(path: str) -> bool:
    """Whether somebody holds a write lock on a file. fcntl(2) reports it without taking a lock."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        lock = fcntl.fcntl(file, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        return bool(_FLOCK.unpack(lock)[0] != fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(file)
