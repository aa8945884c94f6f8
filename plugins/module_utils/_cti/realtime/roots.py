# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Watches where the paths of rules lead: the directories above their roots, also of those that do not exist, and the mounts there.

In each directory, only the next name of a path counts. A change of one is a reason for a full run. Paths are opened as a scan opens
them, so that no file system is asked that may never answer, also if it was mounted a moment ago.
"""

import os
from typing import Container, Dict, Iterable, Mapping, Set

from ..errors import DcrError, SourceFailed
from ..kinds.files.file_rules import to_name
from ..kinds.files.mounts import Barred, Mounts
from ..kinds.files.opening import Paths, Step, close
from ..kinds.files.scope import parse_path
from . import inotify
from .inotify import Inotify
from .news import News

_MASK = inotify.NAMES | inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.ONLYDIR
_SELF = inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.UNMOUNT
_HOME = "/"  # of the walks: they enter no network file system, and no automount
_MANY_MOUNTS = 100  # changed at once; they are not compared with the roots one by one
_Names = Dict[int, Dict[str, str]]  # watch -> name -> its path, where only a directory of this name counts; else empty


class Roots:
    """Raises inotify.Unavailable."""

    def __init__(self) -> None:
        self.paths: Set[str] = set()  # where walks start, as the rules name them
        self._kinds: Mapping[str, str] = {}  # the mounts, as the last run saw them
        self._steps: Set[str] = set()  # what is looked up on the way to them, without symlinks
        self._reals: Set[str] = set()  # what they lead to
        self._names: _Names = {}
        self._folders: Dict[int, str] = {}  # watch -> path
        self._inotify = Inotify()

    def fileno(self) -> int:
        return self._inotify.fileno()

    def close(self) -> None:
        self._inotify.close()

    def set(self, paths: Iterable[str], mounts: Mounts) -> None:
        """Watch what is above these paths of rules, and nothing else."""
        self._kinds = mounts.kinds
        self.paths, self._steps, self._reals = set(), set(), set()
        names: _Names = {}
        watched: Dict[str, int] = {}
        opened = Paths(mounts)
        try:
            for path in paths:
                try:
                    spec = parse_path(path)
                except DcrError:
                    continue
                directory = to_name(spec.directory)
                self.paths.add(directory)
                name = to_name(spec.name) if spec.syntax == "literal" else ""
                real = self._watch(directory, name, opened, names, watched)
                if real:
                    self._reals.add(real)
        finally:
            opened.close()
        for watch in self._names.keys() - names.keys():
            self._inotify.remove(watch)
        self._names, self._folders = names, {watch: folder for folder, watch in watched.items()}

    def _watch(self, path: str, name: str, paths: Paths, names: _Names, watched: Dict[str, int]) -> str:
        """Watch each directory in which the kernel looks up a name of the path, before the name is looked up, and the last one for
        `name`, if there is one. Returns the path without symlinks; empty where it does not exist, or leads to what another host serves,
        or to what was mounted since the table of mounts was read, which is a reason for a full run."""

        def look_up(folder: Step, name: str) -> None:
            self._look_up(folder, name, names, watched)

        try:
            steps = paths.walk(path, _HOME, before=look_up)
        except (Barred, OSError):
            return ""
        try:
            real = steps[-1].real
            if not name:
                return real
            literal = path.rstrip("/") + "/" + name
            self.paths.add(literal)
            before = names.get(watched.get(real, -1), {}).get(name, literal)
            look_up(steps[-1], name)
            # A scan claims no folder for a file that does not exist, so that it is made counts like a name on the way to a root.
            if real in watched and before and paths.has(steps[-1], name, _HOME):
                names[watched[real]][name] = before
            return real.rstrip("/") + "/" + name
        finally:
            close(steps)

    def _look_up(self, folder: Step, name: str, names: _Names, watched: Dict[str, int]) -> None:
        self._steps.add(folder.real.rstrip("/") + "/" + name)
        if folder.real not in watched:
            try:
                watched[folder.real] = self._inotify.add(b"/proc/self/fd/%d" % folder.descriptor, _MASK)
            except OSError:  # the schedule finds what changes there
                return
        names.setdefault(watched[folder.real], {})[name] = ""

    def read(self, news: News, folders: Container[str]) -> None:
        """Add the full run that the events are a reason for. `folders`: those that the last run has entered."""
        for event in self._inotify.read():
            names, folder = self._names.get(event.watch, {}), self._folders.get(event.watch, "")
            if event.mask & inotify.OVERFLOW:
                news.add_everything()
            elif event.mask & _SELF and event.watch in self._names:
                news.add_everything(folder)
            elif event.mask & inotify.IGNORED:
                self._names.pop(event.watch, None)
            elif event.name in names:
                literal = names[event.name]
                is_folder = event.mask & inotify.ISDIR or literal in folders
                if not literal or is_folder or (os.path.dirname(literal) or "/") not in folders:
                    news.add_everything(literal or folder.rstrip("/") + "/" + event.name)

    def mounts_changed(self, news: News) -> None:
        """Add a full run where a mount came or went that a path of a rule leads through, or that is below one."""
        try:
            kinds = Mounts.read().kinds
        except SourceFailed:
            return
        changed = {point for point, _kind in set(kinds.items()) ^ set(self._kinds.items())}
        self._kinds = kinds
        if len(changed) > _MANY_MOUNTS:
            news.add_everything("mounts")
            return
        for point in changed:
            if point in self._steps or any(point.startswith(real.rstrip("/") + "/") for real in self._reals):
                news.add_everything(point)
