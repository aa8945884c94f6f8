# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Watches services: the signals of systemd, and the folders of unit files, which say what is enabled."""

import os
import time
from typing import Callable, List, Optional, Set

from ..errors import SourceFailed
from ..kinds.services.unit_files import DEFAULT_PATH
from . import inotify
from .inotify import Inotify, Unavailable
from .news import News
from .signals import Signals

_MASK = inotify.CLOSE_WRITE | inotify.ATTRIB | inotify.NAMES | inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.ONLYDIR
_GONE = inotify.OVERFLOW | inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.UNMOUNT
_SUBFOLDERS = (".d", ".wants", ".requires", ".upholds")
_OF_LOGINS = (".scope", ".scope.d", ".slice", ".slice.d")  # each login makes such files
_MOST_FOLDERS = 4096
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two attempts to connect


class ServiceWatches:
    """`root`: of the file system. `clock`: monotonic seconds."""

    def __init__(self, root: str = "/", clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._signals: Optional[Signals] = None
        self._no_signals = ""  # why there are none
        self._pause = _FIRST_PAUSE
        self._next_attempt = 0.0
        self._watched: Set[int] = set()
        self._inotify: Optional[Inotify] = None
        self._no_inotify = ""
        try:
            self._inotify = Inotify()
        except Unavailable as error:
            self._no_inotify = str(error)

    @property
    def count(self) -> int:
        return len(self._watched)

    @property
    def by(self) -> str:
        return ", ".join((["inotify"] if self._inotify else []) + (["D-Bus"] if self._signals else []))

    def why(self) -> str:
        if self._signals is None:
            no_signals = self._no_signals or "not connected yet"
            return "States of services are found by the schedule, because there are no signals of systemd (%s).%s" % (
                no_signals.rstrip("."),
                " " + self._no_inotify if self._no_inotify else "",
            )
        return self._no_inotify

    def filenos(self) -> List[int]:
        return [source.fileno() for source in (self._inotify, self._signals) if source is not None]

    def close(self) -> None:
        for source in (self._inotify, self._signals):
            if source is not None:
                source.close()

    def begin(self) -> None:
        """A run begins: watch the folders that are there now."""
        if self._inotify is None:
            return
        watched: Set[int] = set()
        for folder in DEFAULT_PATH:
            path = os.path.join(self._root, folder.lstrip("/"))
            _add(self._inotify, path, watched)
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        if entry.name.endswith(_SUBFOLDERS) and len(watched) < _MOST_FOLDERS:
                            _add(self._inotify, entry.path, watched)
            except OSError:
                continue
        for watch in self._watched - watched:
            self._inotify.remove(watch)
        self._watched = watched

    def connect(self, news: News) -> float:
        """Connect to systemd if it is time to. What happened before is a reason for a run. Returns when to call this again."""
        if self._signals is not None:
            return float("inf")
        if self._clock() >= self._next_attempt:
            try:
                self._signals = Signals(self._root)
            except SourceFailed as error:
                self._no_signals = str(error)
                self._next_attempt = self._clock() + self._pause
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            else:
                self._no_signals, self._pause = "", _FIRST_PAUSE
                news.add_everything("connection to systemd")
                return float("inf")
        return self._next_attempt

    def read(self, news: News) -> bool:
        """Add a run where a service may have changed."""
        if self._inotify is not None:
            for event in self._inotify.read():
                if event.mask & inotify.IGNORED:
                    self._watched.discard(event.watch)
                elif event.mask & _GONE or (event.name and not event.name.endswith(_OF_LOGINS)):
                    news.add_everything(event.name or "a folder of unit files")
        if self._signals is not None:
            try:
                for unit in self._signals.units():
                    news.add_everything(unit)
            except SourceFailed as error:
                self._no_signals = str(error)
                self._signals.close()
                self._signals = None
                self._next_attempt = self._clock() + self._pause
        return False


def _add(source: Inotify, path: str, watched: Set[int]) -> None:
    try:
        watched.add(source.add(os.fsencode(path), _MASK))
    except OSError:  # it does not exist
        pass
