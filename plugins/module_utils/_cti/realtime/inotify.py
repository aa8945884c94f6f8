# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's inotify, called by ctypes. Source: inotify(7), linux/inotify.h."""

import errno
import os
import struct
from typing import Any, Iterator, NamedTuple

from ..errors import CtiError

MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
UNMOUNT, OVERFLOW, IGNORED = 0x2000, 0x4000, 0x8000
ONLYDIR, EXCL_UNLINK, ISDIR = 0x01000000, 0x04000000, 0x40000000
NAMES = MOVED_FROM | MOVED_TO | CREATE | DELETE  # events of a name, whatever is behind it

READ_BYTES = 1 << 16  # at once
_HEAD = struct.Struct("iIII")  # watch descriptor, mask, cookie, length of the name


class Unavailable(CtiError):
    """The kernel or this Python does not offer inotify. The message says why."""


class Event(NamedTuple):
    watch: int  # the number that add() returned; -1 with OVERFLOW
    mask: int
    name: str  # in the folder, as os.fsdecode gives it; empty for the folder itself


class Inotify:
    """One inotify instance, whose descriptor does not block. Raises Unavailable."""

    def __init__(self) -> None:
        try:
            import ctypes
        except (ImportError, MemoryError, OSError) as error:
            # ctypes of some versions allocates memory that is writable and executable, which the unit of the agent forbids.
            raise Unavailable("This Python cannot load ctypes (%s)." % error) from error
        self._get_errno = ctypes.get_errno
        try:
            libc: Any = ctypes.CDLL(None, use_errno=True)
            self._add, self._remove, init = libc.inotify_add_watch, libc.inotify_rm_watch, libc.inotify_init1
        except (AttributeError, OSError) as error:
            raise Unavailable("This C library has no inotify (%s)." % error) from error
        self._descriptor = init(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            number = ctypes.get_errno()
            remedy = " Raise fs.inotify.max_user_instances." if number == errno.EMFILE else ""
            raise Unavailable("The kernel gives no inotify instance (%s).%s" % (os.strerror(number), remedy))

    def fileno(self) -> int:
        return int(self._descriptor)

    def add(self, path: bytes, mask: int) -> int:
        """Watch a path, or the entry behind a symlink there. Returns the number of the watch, which is the same one for the same inode.
        Raises OSError."""
        watch = self._add(self._descriptor, path, mask)
        if watch < 0:
            number = self._get_errno()
            raise OSError(number, os.strerror(number))
        return int(watch)

    def remove(self, watch: int) -> None:
        """Remove a watch. One that is gone is no error."""
        self._remove(self._descriptor, watch)

    def read(self, limit: int = 8 * READ_BYTES) -> Iterator[Event]:
        """The events that wait, of up to `limit` bytes. None where none wait."""
        while limit > 0:
            try:
                data = os.read(self._descriptor, READ_BYTES)
            except BlockingIOError:
                return
            limit -= len(data)
            at = 0
            while at < len(data):
                watch, mask, _cookie, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                yield Event(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0")))  # noqa: E203
                at += length

    def close(self) -> None:
        os.close(self._descriptor)
