# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Small configuration files and symlinks below a root folder, read with bounds. See symlink(7), path_resolution(7)."""

import os
import stat
from typing import Dict, List, Optional

from ..errors import SourceFailed

_MOST_ENTRIES = 200000  # in all folders together; a large host has some thousands of unit files
_LARGEST_FILE = 1 << 20  # bytes
_MOST_LINKS = 40  # in one path, as the kernel has it


class Unreadable(Exception):
    """A unit file is there, and this user may not read it."""


class RootFs:
    """The file system below `root`, in which an absolute symlink starts at `root` again."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._parents: Dict[str, str] = {}
        self._left = _MOST_ENTRIES

    def entries(self, path: str) -> "List[os.DirEntry[str]]":
        """OSError: there is no such folder. SourceFailed: there are too many entries for a host's unit files."""
        out = []
        with os.scandir(self._root + self.real(path)) as found:
            for entry in found:
                self._left -= 1
                if self._left < 0:
                    raise SourceFailed(
                        "{0}: more than {1} entries in the folders of unit files".format(path, _MOST_ENTRIES)
                    )
                out.append(entry)
        return out

    def link(self, path: str) -> Optional[str]:
        """Where a symlink points, absolute and through no other symlink but the last; None: it is none."""
        folder, _unused, name = path.rpartition("/")
        try:
            target = os.readlink(self._root + self.real(folder) + "/" + name)
        except OSError:
            return None
        folder, _unused, name = os.path.join(folder, target).rpartition("/")
        if name in ("", ".", ".."):
            return self.real(folder + "/" + name)
        return self.real(folder).rstrip("/") + "/" + name

    def real(self, path: str) -> str:
        """The path without symlinks, as far as it exists; the path itself where they form a loop."""
        known = self._parents.get(path)
        if known is None:
            known = self._parents[path] = self._chase(path)
        return known

    def _chase(self, path: str) -> str:
        done = ""
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            try:
                target = os.readlink(self._root + done + "/" + part)
            except OSError:
                done += "/" + part
                continue
            links += 1
            if links > _MOST_LINKS or len(todo) > 4096:
                return path
            done = "" if target.startswith("/") else done
            todo.extend(target.split("/")[::-1])
        return done or "/"

    def is_mask(self, path: str) -> bool:
        """Whether this is an empty file or a device, which is how systemd knows a unit that must not be used."""
        try:
            status = os.stat(self._resolved(path))
        except OSError:
            return False
        return stat.S_ISCHR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_size == 0)

    def _resolved(self, path: str) -> str:
        if not self._root:  # the kernel resolves a path as this class would, and faster
            return path
        real = self.real(path)
        return real if real == os.devnull else self._root + real  # an image has an empty /dev

    def read(self, path: str) -> Optional[bytes]:
        """The content of a unit file; empty for a mask; None where there is nothing systemd would read.

        Unreadable: it may be read by others only. ValueError: it is too large.
        """
        try:
            fd = os.open(self._resolved(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except PermissionError:
            raise Unreadable(path) from None
        except OSError:
            return None
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISCHR(mode):
                return b""
            return _whole(fd, path) if stat.S_ISREG(mode) else None
        except OSError:
            return None
        finally:
            os.close(fd)


def _whole(fd: int, path: str) -> bytes:
    raw = piece = os.read(fd, 65536)
    while piece:
        if len(raw) > _LARGEST_FILE:
            raise ValueError(path)
        piece = os.read(fd, 65536)
        raw += piece
    return raw
