# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The status of an open file with its birth time, which Python does not give: statx(2) by the C library's wrapper."""

import os
import struct
from functools import lru_cache
from typing import Callable, Optional, Tuple

# linux/fcntl.h: AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW
_FLAGS = 0x1000 | 0x800 | 0x100
# linux/stat.h: STATX_BASIC_STATS | STATX_BTIME
_BTIME = 0x800
_WANTED = 0x7FF | _BTIME
# Of struct statx: stx_mask, stx_mode, stx_ino, stx_size, stx_btime.tv_sec, stx_ctime, stx_mtime. The inode number is
# taken as signed, which is what hashing.packed() makes of a large one.
_fields = struct.Struct("=I24xH2xqq32xq8xqI4xqI").unpack_from
_SIZE = 256  # of struct statx

# (mode, inode, size, mtime_ns, ctime_ns), unix seconds of birth; the latter None where the file system, the kernel or
# the C library cannot tell. A mode of 0 says that there is nothing of that name.
Status = Tuple[Tuple[int, int, int, int, int], Optional[int]]
StatusOf = Callable[[int, bytes], Status]


@lru_cache(maxsize=1)
def statx() -> StatusOf:
    """A function (directory, name) -> Status; of the open file itself where the name is b"". A link is not followed."""
    try:
        import ctypes

        call = ctypes.CDLL(None).statx  # glibc 2.28, musl 1.2.3
    except (ImportError, OSError, AttributeError):
        return _without_birth
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
    buffer = ctypes.create_string_buffer(_SIZE)
    address = ctypes.addressof(buffer)

    def status_of(directory: int, name: bytes) -> Status:
        if call(directory, name, _FLAGS, _WANTED, address):
            return _without_birth(directory, name)  # a kernel before 4.11, or a sandbox that forbids the call
        mask, mode, inode, size, birth, ctime, ctime_ns, mtime, mtime_ns = _fields(buffer)
        return (
            (mode, inode, size, mtime * 1000000000 + mtime_ns, ctime * 1000000000 + ctime_ns),
            birth if mask & _BTIME else None,
        )

    return status_of


def _without_birth(directory: int, name: bytes) -> Status:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False) if name else os.fstat(directory)
    except OSError:
        return (0, 0, 0, 0, 0), None
    inode = (status.st_ino + 2**63) % 2**64 - 2**63
    return (status.st_mode, inode, status.st_size, status.st_mtime_ns, status.st_ctime_ns), None
