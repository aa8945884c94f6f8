# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Checks that nobody else controls a folder, and opens files safely in folders that somebody else controls.

Whoever can change one folder of a path decides where the path leads. So check() walks the path name by name from the root, and
checks each folder and each symlink before it looks up the next name.
"""

import errno
import os
import stat
from typing import Callable, Collection, List, Optional, Tuple

from .text import printable

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL_BYTES = 64 << 10  # with less free space than that, not even a small file may fit
_MAX_LINKS = 40  # in one path, as path_resolution(7) has it

_FULL_OR_READ_ONLY = {
    errno.ENOSPC: "Free some space on its file system",
    errno.EROFS: "Remount its file system for writing",
}


class Controlled(OSError):
    """Somebody else controls `filename`, a folder or a symlink on the path."""


def run_as(path: str, root: bool = True) -> str:
    """As whom to run, so that a file or a folder can be used: a sentence with its owner, or with the owner of the innermost
    folder on its path that the current user can see. `root`: whether root may use what is another user's."""
    while True:
        try:
            uid = os.stat(path).st_uid
            break
        except OSError:
            if path in ("/", ""):
                uid = 0
                break
            path = os.path.dirname(path)
    if uid == os.geteuid():
        return "Check its permissions, and what SELinux or AppArmor denies."
    if uid == 0:
        return "Run this as root."
    return "Run this as %sthe user %s." % ("root or as " if root else "", _user_name(uid))


def remedy(error: OSError, path: str, otherwise: str, root: bool = True) -> str:
    """What to do about an error at a path: `otherwise`, a sentence, after what the error itself suggests."""
    if isinstance(error, PermissionError):
        first = run_as(path, root) + " Or "
    elif error.errno in _FULL_OR_READ_ONLY:
        first = _FULL_OR_READ_ONLY[error.errno] + ", or "
    else:
        return otherwise
    return first + otherwise[0].lower() + otherwise[1:]


def takes_no_files(folder: str) -> Tuple[str, str]:
    """Why the file system of a folder takes no new files, such as "is full", and the remedy; both empty if it does, or is not known."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return "", ""
    if found.f_flag & os.ST_RDONLY:
        return "is read-only", "See the kernel log (dmesg) for the reason, and remount it for writing."
    if found.f_files and not found.f_favail:  # some file systems, such as btrfs, do not count inodes: 0 of 0
        return "has no free inodes", "Delete some files on it."
    if found.f_blocks and found.f_bavail * found.f_frsize < _FULL_BYTES:
        return "is full", "Free some space on it."
    return "", ""


def _user_name(uid: int) -> str:
    import pwd  # for a message only

    try:
        return printable(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return "with the uid %d" % uid


def check(folder: str, owners: Collection[Optional[int]], make: bool = False) -> None:
    """Check that `owners` (uids) alone control the path of a folder. `make`: create the folders that are missing, mode 0700.

    Raises Controlled, and OSError where there is no such folder.
    """
    opened = [os.open("/", _PATH)]  # O_PATH descriptors of the folders from the root to the present one
    names: List[str] = []  # theirs, without the root
    pending = os.path.abspath(folder).split("/")[::-1]  # names to look up, the next one last
    links = 0
    try:
        _check_folder(opened[0], "/", owners)
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if names:
                    names.pop()
                    os.close(opened.pop())
                continue
            path = "/" + "/".join([*names, name])
            entry = _open(name, opened[-1], make)
            if not stat.S_ISLNK(os.fstat(entry).st_mode):
                opened.append(entry)
                names.append(name)
                _check_folder(entry, path, owners)
                continue
            target = _read_link(entry, path, owners)
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                names = []
                while len(opened) > 1:
                    os.close(opened.pop())
            pending.extend(target.split("/")[::-1])
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _read_link(descriptor: int, path: str, owners: Collection[Optional[int]]) -> str:
    """The target of an open symlink, which is closed. Raises Controlled where it is not one of the owners'."""
    try:
        if os.fstat(descriptor).st_uid not in owners:
            raise Controlled(errno.EPERM, os.strerror(errno.EPERM), path)
        return os.readlink("", dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _open(name: str, parent: int, make: bool) -> int:
    try:
        return os.open(name, _PATH, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass  # another process was faster; its owner is checked
    return os.open(name, _PATH, dir_fd=parent)


def _check_folder(descriptor: int, path: str, owners: Collection[Optional[int]]) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    if status.st_uid not in owners or (status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX):
        raise Controlled(errno.EPERM, os.strerror(errno.EPERM), path)


def opener(follow: bool = True) -> Callable[[str, int], int]:
    """An opener for open() that does not wait where a file of somebody else turns out to be a pipe or a terminal.

    `follow`: whether the file may be a symlink.
    """
    flags = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    return lambda path, mode: os.open(path, mode | flags)


def read(path: str, limit: int, follow: bool = True) -> Tuple[bytes, os.stat_result]:
    """The content and the status of a regular file of up to `limit` bytes. `follow`: see opener().

    Raises OSError, also where the file is larger or is not a regular one.
    """
    with open(path, "rb", opener=opener(follow)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise OSError(errno.EFBIG, "larger than %d bytes" % limit, path)
    return raw, status
