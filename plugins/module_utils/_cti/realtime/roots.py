# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Watches where the paths of rules lead: the directories above their roots, also of those that do not exist, and the mounts there.

In each directory, only the next name of a path counts. A change of one is a reason for a full run.
"""

import errno
import os
from typing import Container, Dict, Iterable, List, Mapping, Set

from ..errors import DcrError, SourceFailed
from ..kinds.files.file_rules import to_name
from ..kinds.files.mounts import Mounts, is_remote
from ..kinds.files.scope import parse_path
from . import inotify
from .inotify import Inotify
from .news import News

_MASK = inotify.NAMES | inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.ONLYDIR
_SELF = inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.UNMOUNT
_MAX_LINKS = 40  # in one path, as path_resolution(7) has it
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
        for path in paths:
            try:
                spec = parse_path(path)
            except DcrError:
                continue
            directory = to_name(spec.directory)
            self.paths.add(directory)
            real = self._follow(directory, mounts, names, watched)
            if real and spec.syntax == "literal" and spec.name:
                name = to_name(spec.name)
                literal = directory.rstrip("/") + "/" + name
                self.paths.add(literal)
                self._look_up(real, name, literal, names, watched)
                real = real.rstrip("/") + "/" + name
            if real:
                self._reals.add(real)
        for watch in self._names.keys() - names.keys():
            self._inotify.remove(watch)
        self._names, self._folders = names, {watch: folder for folder, watch in watched.items()}

    def _follow(self, path: str, mounts: Mounts, names: _Names, watched: Dict[str, int]) -> str:
        """Watch each directory in which the kernel looks up a name of the path, before the name is looked up. Returns the path without
        symlinks; empty where it does not exist, or leads to what another host serves."""
        at, links = "/", 0
        pending: List[str] = path.split("/")[::-1]
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                at = os.path.dirname(at)
                continue
            self._look_up(at, name, "", names, watched)
            step = at.rstrip("/") + "/" + name
            kind = mounts.kinds.get(step, "")
            if kind == "autofs" or is_remote(kind):
                return ""
            try:
                target = os.readlink(step)
            except OSError as error:
                if error.errno != errno.EINVAL:  # it does not exist
                    return ""
                at = step
                continue
            links += 1
            if links > _MAX_LINKS:
                return ""
            if target.startswith("/"):
                at = "/"
            pending.extend(target.split("/")[::-1])
        return at

    def _look_up(self, folder: str, name: str, literal: str, names: _Names, watched: Dict[str, int]) -> None:
        self._steps.add(folder.rstrip("/") + "/" + name)
        if folder not in watched:
            try:
                watched[folder] = self._inotify.add(os.fsencode(folder), _MASK)
            except OSError:  # the schedule finds what changes there
                return
        here = names.setdefault(watched[folder], {})
        # A scan claims no folder for a file that does not exist, so that it is made counts like a name on the way to a root.
        here[name] = (literal and os.path.lexists(literal) and here.get(name, literal)) or ""

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
                if (
                    not literal
                    or event.mask & inotify.ISDIR
                    or literal in folders
                    or (os.path.dirname(literal) or "/") not in folders
                ):
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
