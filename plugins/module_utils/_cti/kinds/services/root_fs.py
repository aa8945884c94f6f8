# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Small configuration files and symlinks below a root folder, read with bounds. See symlink(7), path_resolution(7)."""

import os
import stat
from typing import Dict, List, Optional, Tuple

from ...errors import SourceFailed

_MOST_ENTRIES = 200000  # in all folders together; a large host has some thousands of unit files
_LARGEST_FILE = 1 << 20  # bytes
_LARGEST_SUM = 64 << 20  # bytes of all files, each as often as it counts; 50,000 unit files fill it
_MOST_LINKS = 40  # in one path, as the kernel has it


DENIED = "the current user may not read their files; run as root to read them"
TOO_LARGE = f"they have more than {_LARGEST_FILE >> 10} KiB of text"
TOO_MUCH = f"all unit files together have more than {_LARGEST_SUM >> 20} MiB of text"
NO_PROC = "/proc is not mounted here"


class Unreadable(Exception):
    """A unit file exists and was not read; `reason` is one of the four texts above."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RootFs:
    """The file system below `root`, in which an absolute symlink starts at `root` again."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._real: Dict[str, Tuple[str, int]] = {}  # path -> as _chase() returns it
        self._remaining_entries = _MOST_ENTRIES
        self._remaining_bytes = _LARGEST_SUM

    def entries(self, path: str) -> "List[os.DirEntry[str]]":
        """The entries of a folder. Raises OSError where there is no such folder, and SourceFailed where there are too many entries."""
        out = []
        with os.scandir(self._root + self.real(path)) as found:
            for entry in found:
                self._remaining_entries -= 1
                if self._remaining_entries < 0:
                    raise SourceFailed(f"{path}: more than {_MOST_ENTRIES} entries in the folders of unit files")
                out.append(entry)
        return out

    def link(self, path: str) -> Optional[str]:
        """The target of a symlink as an absolute path, in which only the last name may be a symlink; None: it is no symlink."""
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
        known = self._real.get(path)
        if known is None:
            folder, _unused, name = path.rpartition("/")
            before = self._real.get(folder)
            # Most paths are in a folder whose links are known, so that only the last part is looked at.
            known = self._chase(*before, [name]) if before else self._chase("", 0, path.split("/")[::-1])
            self._real[path] = known
        return (known[0] or "/") if known[1] <= _MOST_LINKS else path

    def _chase(self, done: str, links: int, todo: List[str]) -> Tuple[str, int]:
        """Follow the names in `todo`, the next one last, from the path `done` (empty: the root). Returns the path reached and the
        number of symlinks; where that exceeds _MOST_LINKS they form a loop, and the path is meaningless.
        """
        while todo and links <= _MOST_LINKS:
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
            links = links + 1 if len(todo) <= 4096 else _MOST_LINKS + 1
            done = "" if target.startswith("/") else done
            todo.extend(target.split("/")[::-1])
        return done, links

    def is_mask(self, path: str) -> bool:
        """Whether this is an empty file or a device, by which systemd recognizes a masked unit."""
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
        """The content of a unit file; empty for a mask; None where there is no file that systemd would read.

        Raises Unreadable where the current user may not read it, or it is too large.
        """
        try:
            handle = os.open(self._resolved(path), os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            status = os.fstat(handle)
            if stat.S_ISCHR(status.st_mode):
                return b""
            return _content(handle, status.st_size) if stat.S_ISREG(status.st_mode) else None
        except PermissionError:
            raise Unreadable(DENIED) from None
        except OSError:
            return None
        finally:
            os.close(handle)

    def spend(self, size: int) -> None:
        """Count the text of a unit file, each time it is used. Raises Unreadable where all texts together are too large."""
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            raise Unreadable(TOO_MUCH)


def _content(handle: int, size: int) -> bytes:
    """What is in the file behind an O_PATH descriptor. Only a regular file is ever opened: to open a device can act.

    `size`: bytes, as fstat has it; whoever has read that many need not look for the end.
    """
    try:
        fd = os.open("/proc/self/fd/{0}".format(handle), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unreadable(NO_PROC) from None
    try:
        if size > _LARGEST_FILE:
            raise Unreadable(TOO_LARGE)
        raw = piece = os.read(fd, 65536)
        while piece and len(raw) != size:
            if len(raw) > _LARGEST_FILE:
                raise Unreadable(TOO_LARGE)
            piece = os.read(fd, 65536)
            raw += piece
        return raw
    finally:
        os.close(fd)
