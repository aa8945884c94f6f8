# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Opens tracked files and the directories of their paths. Nothing else opens them.

Whoever may write to a directory of a path can replace its entries at any moment. So a path is walked name by name, each opened
with O_PATH relative to the descriptor of the directory before, which opens neither the file nor its device and triggers no
automount. What was opened is checked by its descriptor, symlinks are followed here and not by the kernel, and a file is opened for
reading through that descriptor, and only when it is known to be a regular file.
"""

import errno
import os
import stat
import struct
import sys
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple, TypeVar

from .budget import MAX_DEPTH, SMALL_BYTES
from .mounts import Barred, Mounts, mount_id
from .statx import DEVICE, StatusOf, mode_and_size

_MAX_LINKS = 40  # in one path, as path_resolution(7) has it
_MAX_FOLDERS = 32  # descriptors that are kept of directories which links lead to

_ENCODING = sys.getfilesystemencoding()
_FORMAT, _REGULAR = 0o170000, stat.S_IFREG  # see inode(7)
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPENAT2 = 437  # the number of the system call; alpha and mips have others
_NO_XDEV = 1  # RESOLVE_NO_XDEV of linux/openat2.h
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNSEEN = _READ | os.O_NOATIME  # reading leaves no trace; for the owner only, see open(2)

_Opened = TypeVar("_Opened")


class Replaced(OSError):
    """There is no longer a regular file where one was listed."""


def _within(flags: int) -> Callable[[str, int], int]:
    """A function that opens the entry `name` of an open directory. It raises OSError EXDEV where something is mounted on the entry."""

    plain = _within_by_mount(flags)
    try:
        import ctypes

        call = ctypes.CDLL(None).syscall
        call_again = ctypes.CDLL(None, use_errno=True).syscall  # for its error, which each call would pay for
    except (ImportError, OSError, AttributeError, MemoryError):  # see statx.py
        return plain
    number, how = ctypes.c_long(_OPENAT2), struct.pack("=QQQ", flags, 0, _NO_XDEV)
    size = ctypes.c_size_t(len(how))

    def within(name: str, directory: int) -> int:
        entry = name.encode(_ENCODING, "surrogateescape")
        found: int = call(number, directory, entry, how, size)
        if found < 0:
            found = call_again(number, directory, entry, how, size)
            if found < 0:
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), name)
        return found

    if os.uname().machine.startswith(("alpha", "mips")):
        return plain
    try:
        os.close(within("/", -1))
    except OSError as error:
        return plain if error.errno != errno.EXDEV else within
    return within


def _within_by_mount(flags: int) -> Callable[[str, int], int]:
    """The same, where the kernel is older than 5.6 or a sandbox forbids the call."""

    def plain(name: str, directory: int) -> int:
        path = os.open(name, _PATH, dir_fd=directory)
        try:
            if mount_id(path) != mount_id(directory):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
            if flags == _PATH:
                return os.dup(path)
            return os.open("/proc/self/fd/%d" % path, flags & ~os.O_NOFOLLOW)
        finally:
            os.close(path)

    return plain


# A file system that a user mounts during the scan may never answer, so nothing enters a mount that the table does not have.
open_directory_within = _within(DIRECTORY)
_open_path_within = _within(_PATH)


def reopen(path: int) -> int:
    """A descriptor to read the regular file of an O_PATH descriptor. Raises Replaced and OSError."""
    if not stat.S_ISREG(os.fstat(path).st_mode):
        raise Replaced(errno.ESTALE, "not a regular file")
    return _reopen(path)


def _reopen(path: int) -> int:
    name = "/proc/self/fd/%d" % path
    try:
        return os.open(name, _UNSEEN)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
    return os.open(name, _READ)


def read_at_once(
    descriptors: int, directory: int, device: bytes, name: str, status_of: StatusOf, listed: Optional[bytes] = None
) -> Tuple[bytes, Optional[bytes]]:
    """The status of an entry, and its content if it is a regular file of up to SMALL_BYTES that did not change meanwhile.

    `descriptors`: Paths.descriptors. `device`: see statx.DEVICE; on another one, no content is read. `status_of`: see Mounts.
    `listed`: the status that the entry must still have. Raises OSError where the status cannot be read, but not where the content
    cannot. A first scan spends most of its time here, so this is one function.
    """
    path = os.open(name, _PATH, dir_fd=directory)
    try:
        found = status_of(path, b"")
        kind, length = mode_and_size(found)
        if kind & _FORMAT != _REGULAR or length > SMALL_BYTES:
            return found, None
        if found[DEVICE] != device or listed not in (None, found):
            return found, None
        try:
            try:
                file = os.open(str(path), _UNSEEN, dir_fd=descriptors)
            except PermissionError:
                file = _reopen(path)
        except OSError:
            return found, None
        try:
            content = os.read(file, length)
            return found, content if len(content) == length and status_of(file, b"") == found else None
        except OSError:
            return found, None
        finally:
            os.close(file)
    finally:
        os.close(path)


def entries_of(directory: int) -> Any:
    """os.scandir() of an open directory."""
    return os.scandir(directory if sys.version_info >= (3, 7) else "/proc/self/fd/%d" % directory)


class Step(NamedTuple):
    """One entry of a path."""

    descriptor: int  # O_PATH
    real: str  # its absolute path without links


class Paths:
    """Opens what paths lead to. To be closed."""

    def __init__(self, mounts: Mounts) -> None:
        self.mounts = mounts
        self.descriptors = os.open("/proc/self/fd", _PATH)  # for this process alone, see reopen()
        self.names = 0  # looked up so far
        self._folders: Dict[Tuple[Optional[str], str], Step] = {}  # (home, directory as written), the oldest first

    def close(self) -> None:
        os.close(self.descriptors)
        self._close_folders()

    def _close_folders(self) -> None:
        close(self._folders.values())
        self._folders.clear()

    def read_mounts(self) -> None:
        """Read the table of mounts again: something was mounted or unmounted since. Raises SourceFailed."""
        self.mounts = Mounts.read()
        self._close_folders()

    def reopen(self) -> None:
        """To be called in a fork of the process."""
        os.close(self.descriptors)
        self.descriptors = os.open("/proc/self/fd", _PATH)

    def find(self, path: str, base: str = "/", home: Optional[str] = None) -> Step:
        """Open what a path leads to, following symlinks; the caller closes the descriptor.

        `base`: the real directory from which a relative path starts. `home`: the mount point that the scan is on; without it,
        network file systems and automounts are allowed, see Mounts.check(). Raises Barred and OSError.
        """
        for _link in range(_MAX_LINKS + 1):
            if not path.startswith("/"):
                path = base.rstrip("/") + "/" + path
            directory, _slash, name = path.rpartition("/")
            if name in ("", ".", ".."):
                directory, name = path, "."
            folder = self._folder(directory, home)
            if name == ".":
                return Step(os.open(".", _PATH, dir_fd=folder.descriptor), folder.real)
            step = self._step(folder, name, home)
            if not _is_link(step):
                return step
            path, base = _read_link(step), folder.real
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def find_now(self, path: str, base: str = "/", home: Optional[str] = None) -> Step:
        """The same, also where something was mounted on the way since the table was read. Raises SourceFailed as well."""
        return self._retry_once(lambda: self.find(path, base, home))

    def walk(
        self,
        path: str,
        home: Optional[str] = None,
        follow: bool = True,
        before: Callable[[Step, str], None] = lambda folder, name: None,
    ) -> List[Step]:
        """Open every directory of an absolute path, from `/` to the entry itself, following symlinks, which are not included.

        `follow`: whether the last name may be a symlink; if not, one raises OSError. `before`: called before a name is looked up in
        a directory. The caller closes the descriptors. Raises as find() does.
        """
        steps = [Step(os.open("/", _PATH), "/")]
        try:
            pending = path.split("/")[::-1]
            links = 0
            while pending:
                name = pending.pop()
                if name == "..":
                    if len(steps) > 1:
                        os.close(steps.pop().descriptor)
                elif name not in ("", "."):
                    before(steps[-1], name)
                    steps.append(self._step(steps[-1], name, home))
                    if _is_link(steps[-1]):
                        links += 1
                        if links > _MAX_LINKS or not (pending or follow):
                            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                        target = _read_link(steps.pop())
                        if target.startswith("/"):
                            close(steps[1:])
                            del steps[1:]
                        pending.extend(target.split("/")[::-1])
                    elif len(steps) > MAX_DEPTH:
                        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            return steps
        except BaseException:
            close(steps)
            raise

    def has(self, folder: Step, name: str, home: str) -> bool:
        """Whether an open directory has an entry of this name, or something hides that there is one."""
        try:
            os.close(self._step(folder, name, home).descriptor)
        except Barred:
            pass
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR)
        return True

    def may_have_folder(self, path: str) -> bool:
        """Whether there is a directory with this path, or something hides that there is one. Enters no network file system."""
        try:
            step = self.find(path, home="/")
        except Barred:
            return True
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR)
        try:
            return stat.S_ISDIR(os.fstat(step.descriptor).st_mode)
        finally:
            os.close(step.descriptor)

    def open_mounted(self, name: str, directory: int, real: str, home: Optional[str]) -> int:
        """Open with O_PATH an entry that may be on another mount than its directory, if the table has that mount. `home`: see find().
        Raises Barred and OSError."""
        self.mounts.check(real, home)
        path = os.open(name, _PATH, dir_fd=directory)
        if not self.mounts.has(path, real):
            os.close(path)
            raise OSError(errno.EXDEV, "something was mounted there during the scan", name)
        return path

    def open_regular(self, name: str, directory: int, real: str, home: str) -> int:
        """A descriptor to read the regular file `name` of an open directory on the mount `home`, or what was mounted on the file since the
        table was read. Raises Replaced for anything else, Barred, OSError and SourceFailed."""
        path = self._retry_once(lambda: self.open_mounted(name, directory, real, home))
        try:
            return reopen(path)
        finally:
            os.close(path)

    def _retry_once(self, open_: Callable[[], _Opened]) -> _Opened:
        """What `open_` returns; it is called again where something was mounted on the way since the table was read."""
        try:
            return open_()
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        self.read_mounts()
        return open_()

    def _folder(self, directory: str, home: Optional[str]) -> Step:
        """The directory of a symlink's target, from a cache: symlinks next to each other often lead to one directory."""
        folder = self._folders.get((home, directory))
        if folder is None:
            steps = self.walk(directory, home)
            folder = steps.pop()
            close(steps)
            if len(self._folders) >= _MAX_FOLDERS:
                os.close(self._folders.pop(next(iter(self._folders))).descriptor)
            self._folders[home, directory] = folder
        return folder

    def _step(self, folder: Step, name: str, home: Optional[str]) -> Step:
        self.names += 1
        real = folder.real.rstrip("/") + "/" + name
        self.mounts.check(real, home)
        # With O_DIRECTORY the kernel mounts what an automount is for, see open(2).
        trigger = os.O_DIRECTORY if self.mounts.is_automount(folder.real, real) else 0
        if trigger:
            return Step(os.open(name, _PATH | trigger, dir_fd=folder.descriptor), real)
        if real in self.mounts.kinds:
            return Step(self.open_mounted(name, folder.descriptor, real, home), real)
        return Step(_open_path_within(name, folder.descriptor), real)


def close(steps: Iterable[Step]) -> None:
    for step in steps:
        os.close(step.descriptor)


def _is_link(step: Step) -> bool:
    return stat.S_ISLNK(os.fstat(step.descriptor).st_mode)


def _read_link(step: Step) -> str:
    """The target of a symlink, whose descriptor is closed."""
    try:
        return os.readlink("", dir_fd=step.descriptor)
    finally:
        os.close(step.descriptor)
