# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Watches the directories that a scan of files has entered, and says in which of them something may have changed.

The scan calls watch() before it lists a directory, so nothing that is made in between is missed. What inotify does not report (writes
through a memory mapping or another name of a file, changes that another host makes on a network file system) is left to the schedule.
"""

import errno
import os
import threading
from types import FunctionType
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from ..errors import SourceFailed
from ..kinds.files.budget import SHORT_NAME
from ..kinds.files.file_rules import Claim, Claims
from ..kinds.files.mounts import Barred, Mounts, is_remote
from ..kinds.files.opening import Paths, close
from ..kinds.files.owners import ROOT
from ..kinds.files.partial import Named
from ..text import plural, quoted
from . import inotify
from .inotify import Inotify
from .news import News
from .roots import Roots

MOST_WATCHES = 65536  # each costs 1 to 2 KiB of the kernel's memory
_CAME = inotify.CREATE | inotify.MOVED_TO
_SELF = inotify.DELETE_SELF | inotify.MOVE_SELF
_MASK = inotify.MODIFY | inotify.ATTRIB | inotify.CLOSE_WRITE | inotify.NAMES | _SELF | inotify.ONLYDIR | inotify.EXCL_UNLINK  # fmt: skip
MANY_EVENTS = 4096  # in one call of read(), after which there may be more
MOST_LOOKUPS = 256  # of names, in one call of read(): they take time
_NAMED_MOUNTS = 3  # in a message


class _Folder(NamedTuple):
    """A watched directory, at one of the paths that lead to it."""

    watch: int
    owner: str
    claims: Claims
    real: str  # without symlinks; the same object as its key where that is equal
    linked: bool  # behind a symlink that is not on the way to the root of a rule
    remote: bool


class FolderWatches:
    """The watches of one scan after the other. `own`: directories that the agent itself writes to, which are not watched. `limit`: of
    the number of watches. Raises inotify.Unavailable. Its methods may be called from any thread.

    Half of the limit is for directories that do not count to root. Where it is used up, the owner with the most watches gives some to those
    with fewer. Where the kernel has no more for the user of the agent, the limit becomes half of those there are, so that other programs of
    this user, such as the service manager, get some as well.
    """

    def __init__(self, own: Iterable[str] = (), limit: int = MOST_WATCHES) -> None:
        self.overflows = 0
        self.unwatched = 0  # directories, in the last full run, or in a partial one since that had more
        self._limit = limit
        self._own = tuple(folder.rstrip("/") + "/" for folder in own if folder)
        self._lock = threading.RLock()  # an event must not be read before its watch is in the tables
        self._folders: Dict[str, _Folder] = {}  # path as the rules name it ->
        self._paths: Dict[int, Tuple[str, ...]] = {}  # watch -> paths: an inode has one watch
        self._held: Dict[str, Set[str]] = {}  # owner but root -> its watched paths
        self._holders: Dict[int, Dict[str, None]] = {}  # number of watches -> owners but root who have so many
        self._others = 0  # how many watches these have
        self._touched: Set[str] = set()  # paths, in the current run
        self._left = 0  # directories that got no watch in the current run
        self._exhausted = False  # whether the kernel has refused a watch
        self._looked_up = 0  # names, in the current read()
        self._mounts = Mounts({}, {})
        self._remote: Dict[str, str] = {}  # mount point -> type
        self._inotify = Inotify()
        self._roots = Roots()

    @property
    def count(self) -> int:
        return len(self._paths)

    def filenos(self) -> List[int]:
        return [self._inotify.fileno(), self._roots.fileno()]

    def close(self) -> None:
        with self._lock:
            self._inotify.close()
            self._roots.close()
            self._folders, self._paths = {}, {}

    def why(self) -> str:
        """Why some directories are not watched; empty where all are."""
        reasons = []
        if self.unwatched:
            reasons.append(
                "%s not watched and found by the schedule: %s."
                % (
                    plural(self.unwatched, "directory", "is"),
                    "the kernel has no more watches; raise fs.inotify.max_user_watches and restart the agent"
                    if self._exhausted
                    else "the limit of %d watches is reached, half of it for owners other than root" % self._limit,
                )
            )
        if self._remote:
            shown = sorted(self._remote.items())[:_NAMED_MOUNTS]
            reasons.append(
                "What other hosts change on network file systems is found by the schedule: %s."
                % ", ".join("%s (%s)" % (quoted(point, 100), quoted(kind, 30)) for point, kind in shown)
            )
        return " ".join(reasons)

    # --- during a run

    def begin(self, paths: Optional[Iterable[str]]) -> None:
        """A run begins. `paths`: of the rules, for a full run; None: for a partial one."""
        with self._lock:
            self._touched = set()
            self._left = 0
            if paths is None:
                return
            try:
                self._mounts = Mounts.read()
            except SourceFailed:
                self._mounts = Mounts({}, {})
            self._remote = {}
            self._roots.set(paths, self._mounts)

    def watch(self, descriptor: int, path: str, owner: str, claims: Claims) -> None:
        """Watch an open directory, see Scan."""
        if (path + "/").startswith(self._own):
            return
        with self._lock:
            self._touched.add(path)
            known = self._folders.get(path)
            if known is not None and known.owner != owner:
                self._forget(path)
            if path not in self._folders and not self._has_room(owner):
                self._left += 1
                return
            here = b"/proc/self/fd/%d" % descriptor
            try:
                real = os.readlink(os.fsdecode(here))
                number = self._inotify.add(here, _MASK)
            except OSError as error:
                self._left += 1
                if path in self._folders:
                    self._forget(path)
                if error.errno == errno.ENOSPC:
                    self._exhausted = True
                    self._give_back()
                return
            if known is not None and known.watch != number and path in self._folders:
                self._forget(path)
            if path not in self._folders:
                self._paths[number] = self._paths.get(number, ()) + (path,)
                if owner != ROOT:
                    self._hold(owner, path)
            point = self._mounts.of(real)
            kind = self._mounts.kinds.get(point, "")
            remote = is_remote(kind)
            if remote:
                self._remote[point] = kind.partition(" ")[0]
            linked = self._is_linked(path, real)
            self._folders[path] = _Folder(number, owner, claims, path if real == path else real, linked, remote)

    def _has_room(self, owner: str) -> bool:
        """Whether the owner may have one more watch, maybe at the expense of an owner who has more than that."""
        if owner != ROOT and self._others >= self._limit // 2:
            if len(self._held.get(owner, ())) + 1 >= max(self._holders, default=0):
                return False
            self._take()
        return len(self._folders) < self._limit

    def _take(self) -> None:
        """Take a watch from the owner with the most, but for root."""
        owner = next(iter(self._holders[max(self._holders)]))
        self._evict(next(iter(self._held[owner])))

    def _hold(self, owner: str, path: str) -> None:
        held = self._held.setdefault(owner, set())
        held.add(path)
        self._others += 1
        self._count(owner, len(held) - 1, len(held))

    def _release(self, owner: str, path: str) -> None:
        held = self._held[owner]
        held.remove(path)
        self._others -= 1
        self._count(owner, len(held) + 1, len(held))
        if not held:
            del self._held[owner]

    def _count(self, owner: str, before: int, after: int) -> None:
        """An owner has another number of watches. There are few such numbers, however many owners there are."""
        if before:
            del self._holders[before][owner]
            if not self._holders[before]:
                del self._holders[before]
        if after:
            self._holders.setdefault(after, {})[owner] = None

    def _give_back(self) -> None:
        self._limit = len(self._folders) // 2
        while self._others > self._limit // 2:
            self._take()
        for path in list(self._folders)[self._limit :]:  # noqa: E203
            self._evict(path)

    def _evict(self, path: str) -> None:
        self._left += path in self._touched  # otherwise, this run may still come there, or has no part in it
        self._forget(path)

    def _is_linked(self, path: str, real: str) -> bool:
        folder, _slash, name = path.rpartition("/")
        above = self._folders.get(folder or "/")
        if above is None or path in self._roots.paths:
            return False
        return above.linked or real != above.real.rstrip("/") + "/" + name

    def end(self, named: Optional[Named]) -> None:
        """A run has ended: remove the watches that it did not touch, although it was to look there. `named`: None for a full run."""
        with self._lock:
            stale = [path for path in self._folders if path not in self._touched]
            if named is not None:
                stale = [path for path in stale if _is_below(path, named)]
            for path in stale:
                self._forget(path)
            self._touched = set()
            self.unwatched = self._left if named is None else max(self.unwatched, self._left)

    def _pop(self, path: str) -> _Folder:
        folder = self._folders.pop(path)
        if folder.owner != ROOT:
            self._release(folder.owner, path)
        return folder

    def _forget(self, path: str) -> None:
        folder = self._pop(path)
        left = tuple(other for other in self._paths.get(folder.watch, ()) if other != path)
        if left:
            self._paths[folder.watch] = left
        elif self._paths.pop(folder.watch, None) is not None:
            self._inotify.remove(folder.watch)

    # --- events

    def mounts_changed(self, news: News) -> None:
        with self._lock:
            self._roots.mounts_changed(news)

    def read(self, news: News) -> bool:
        """Add what the events that wait announce. Returns whether there are more than one call reads."""
        with self._lock:
            self._roots.read(news, self._folders)
            seen: Set[inotify.Event] = set()
            self._looked_up = 0
            number = 0
            for event in self._inotify.read():
                number += 1
                if event in seen:
                    continue
                seen.add(event)
                if event.mask & inotify.OVERFLOW:
                    self.overflows += 1
                    news.add_everything()
                elif event.mask & inotify.IGNORED:
                    self._lost(event.watch, news)
                else:
                    for path in self._paths.get(event.watch, ()):
                        self._happened(path, event, news)
            return number >= MANY_EVENTS

    def _lost(self, watch: int, news: News) -> None:
        """The kernel has removed a watch with its directory, or with its file system."""
        for path in self._paths.pop(watch, ()):
            self._pop(path)
            if os.path.dirname(path) not in self._folders:
                news.add_everything(path)

    def _happened(self, path: str, event: inotify.Event, news: News) -> None:
        folder = self._folders[path]
        mask, name = event.mask, event.name
        if name and mask & inotify.NAMES:
            self._has_another_time(path, news)
        if mask & inotify.UNMOUNT:
            news.add_everything(path)
        elif mask & _SELF:  # the one above reports its name, if that is watched
            if folder.linked or os.path.dirname(path) not in self._folders:
                news.add_everything(path)
        elif not name:
            self._announce(folder, path, path, news)
        elif mask & inotify.ISDIR and mask & inotify.NAMES:
            child = _join(path, name)
            if folder.claims.below or child in self._folders:
                self._announce(folder, path, child, news, tree=True)
            elif _is_wanted(folder.claims.directories, name):
                self._announce(folder, path, child, news)
        else:
            child = _join(path, name)
            if child in self._folders and mask & inotify.NAMES:  # no directory, so what was one, or a symlink to one
                news.add_everything(child)
            elif _is_wanted(folder.claims.all, name) or (
                folder.claims.behind and mask & _CAME and self._may_be_link(folder, name)
            ):
                self._announce(folder, path, child, news)

    def _has_another_time(self, path: str, news: News) -> None:
        """A name came or went in this directory. That changes its own times, which are those of an item where directories are tracked."""
        above = os.path.dirname(path)
        folder = self._folders.get(above)
        if folder is not None and above != path and _is_wanted(folder.claims.directories, os.path.basename(path)):
            self._announce(folder, above, path, news)

    def _announce(self, folder: _Folder, path: str, item: str, news: News, tree: bool = False) -> None:
        if folder.linked:
            news.add_everything(item)
        else:
            news.add(path, item, tree)

    def _may_be_link(self, folder: _Folder, name: str) -> bool:
        """Whether there may be a symlink of this name, which can lead to a directory. Follows none, and asks no file system that may never
        answer, whatever is at that path now."""
        if folder.remote:
            return False
        self._looked_up += 1
        if self._looked_up > MOST_LOOKUPS:
            return True
        paths = Paths(self._mounts)
        try:
            close(paths.walk(_join(folder.real, name), self._mounts.of(folder.real), follow=False))
        except OSError as error:
            return error.errno == errno.ELOOP
        except Barred:
            pass
        finally:
            paths.close()
        return False


def _is_wanted(claimants: Tuple[Claim, ...], name: str) -> bool:
    """Whether a rule claims the name. What a regular expression would take long to match counts as claimed: a scan has a budget for it."""
    for claim in claimants:
        if (claim.match.__class__ is FunctionType and len(name) > SHORT_NAME) or claim.wants(name):
            return True
    return False


def _is_below(path: str, named: Named) -> bool:
    while path not in named.trees:
        if path == "/":
            return False
        path = path.rpartition("/")[0] or "/"
    return True


def _join(folder: str, name: str) -> str:
    return folder.rstrip("/") + "/" + name
