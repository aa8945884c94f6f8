# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The status of a file with its birth time, which Python does not give: statx(2) by the C library's wrapper.

A status is 96 bytes, quick to make, to keep and to compare: all of struct statx but what reading a file changes.
"""

import os
import struct
from array import array
from typing import Callable, Tuple

# linux/fcntl.h: AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, and with AT_EMPTY_PATH
_FLAGS = 0x800 | 0x100
_OPEN = 0x1000
_DONT_SYNC = 0x4000  # AT_STATX_DONT_SYNC
_WANTED = 0xFFF  # linux/stat.h: STATX_BASIC_STATS | STATX_BTIME
_STRUCT_STATX = 256  # bytes
# Its nlink, uid, gid, mode, ino, size (without blocks); btime, ctime, mtime, rdev, dev (without atime).
_kept = struct.Struct("=16x32s32x64s").unpack_from
_pack = struct.Struct("=IIIH2xQQqI4xqI4xqI4xIIII").pack

Numbers = Tuple[int, int, int, int, int, int, int, int, int, int, int, int]
# (links, uid, gid, mode, inode, size, born, ctime, its ns, mtime, its ns, device); born and the times in unix seconds
unpack: Callable[[bytes], Numbers] = struct.Struct("=IIIH2xQQq8xqI4xqI12xQ").unpack
LINKS, UID, MODE, SIZE, CTIME, MTIME = 0, 1, 3, 5, 7, 9  # the numbers that are asked for one by one
_mode = struct.Struct("=12xH").unpack_from
_owner = struct.Struct("=4xI").unpack_from
_size = struct.Struct("=24xQ").unpack_from
# (mode, size) of a status
mode_and_size: Callable[[bytes], Tuple[int, int]] = struct.Struct("=12xH10xQ").unpack_from
DEVICE = slice(88, 96)  # of a status: on which file system the entry is
_WORDS, _CTIME, _MTIME = 12, 6, 8  # of eight bytes

StatusOf = Callable[[int, bytes], bytes]


def device_of(device: int) -> bytes:
    """A device number as a status has it, see DEVICE."""
    return struct.pack("=II", os.major(device), os.minor(device))


def mode(status: bytes) -> int:
    return int(_mode(status)[0])


def owner(status: bytes) -> int:
    return int(_owner(status)[0])


def size(status: bytes) -> int:
    return int(_size(status)[0])


def seconds(statuses: bytes) -> "array[int]":
    """When the entries and their contents changed last: ctime and mtime of all the statuses, in unix seconds."""
    words = array("q", statuses)
    return words[_CTIME::_WORDS] + words[_MTIME::_WORDS]


def _statx(more: int = 0) -> StatusOf:
    try:
        import ctypes

        call = ctypes.CDLL(None).statx  # glibc 2.28, musl 1.2.3
    except (ImportError, OSError, AttributeError, MemoryError):
        # MemoryError: before Python 3.8 ctypes wants memory to execute, which SELinux may forbid.
        return _without_birth
    buffer = ctypes.create_string_buffer(_STRUCT_STATX)
    flags = _FLAGS | more
    flags_open = flags | _OPEN

    def ask(directory: int, name: bytes) -> bytes:
        # Without argtypes, which cost a third of the call: an int is passed as C's int, bytes and a buffer as pointers.
        if call(directory, name, flags if name else flags_open, _WANTED, buffer):
            # For its OSError; or the kernel is older than 4.11, or a sandbox forbids the call.
            return _without_birth(directory, name)
        first, second = _kept(buffer)
        return first + second  # type: ignore[no-any-return]

    return ask


def _without_birth(directory: int, name: bytes) -> bytes:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False) if name else os.fstat(directory)
    times = [part for ns in (found.st_ctime_ns, found.st_mtime_ns) for part in divmod(ns, 10**9)]
    devices = [half for device in (found.st_rdev, found.st_dev) for half in (os.major(device), os.minor(device))]
    return _pack(
        found.st_nlink, found.st_uid, found.st_gid, found.st_mode, found.st_ino, found.st_size, 0, 0, *times, *devices
    )  # fmt: skip


# The status of the entry `name` of an open directory, or of the open file itself where the name is b"". A link is not
# followed; the birth is 0 where file system, kernel or C library cannot tell. Raises OSError.
status_of = _statx()

# The same, which does not ask the process that serves a FUSE file system and may never answer; since Linux 4.20. On a local file system, both
# are equal.
local_status_of = _statx(_DONT_SYNC)
