# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The contents of regular files: read in constant memory, and trusted only if the file kept still meanwhile."""

import errno
import hashlib
import os
import stat
import struct
from functools import lru_cache, partial
from typing import Any, Callable, NamedTuple, Optional, Tuple

from .birth import StatusOf

ATTEMPTS = 3  # at a file that changes while it is read
LENGTHS = {"sha256": 64, "md5": 32, "none": 0}  # of a checksum, hex digits

_SMALL = 64 * 1024  # bytes; read at one go
_CHUNK = 256 * 1024
# No waiting for a writer of a fifo that took the file's place, no controlling terminal, no link followed.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_REPLACED = frozenset((errno.ELOOP, errno.ENXIO, errno.ENODEV))  # a link, a socket, a device without a driver

FIELDS = ("mode", "inode", "device", "links", "uid", "gid", "size", "mtime_ns", "ctime_ns")  # of a packed status
_SIZE = FIELDS.index("size")
_pack = struct.Struct("=9q").pack
unpack = struct.Struct("=9q").unpack
_tuple = tuple.__new__  # what a NamedTuple's own constructor calls, at a third of the cost


def packed(status: os.stat_result) -> bytes:
    """What of a status is compared, in 72 bytes: quick to make, to keep and to compare. FIELDS names the numbers."""
    try:
        return _pack(*status[:7], status.st_mtime_ns, status.st_ctime_ns)
    except struct.error:  # an inode number above 2^63, as overlayfs makes them
        numbers = status[:7] + (status.st_mtime_ns, status.st_ctime_ns)
        return _pack(*[(number + 2**63) % 2**64 - 2**63 for number in numbers])


class Reading(NamedTuple):
    """What became of one file."""

    status: Optional[bytes]  # packed, of the very file that was read; None where it was not
    checksum: str
    created: Optional[int]  # unix seconds
    problem: str  # "", gone changing replaced, or the reason why it could not be read


@lru_cache(maxsize=None)
def constructor(algorithm: str) -> Callable[..., Any]:
    """hashlib's constructor for `sha256` or `md5`; ValueError where the host's policy forbids it."""
    if algorithm == "sha256":
        return hashlib.sha256
    try:
        hashlib.md5(usedforsecurity=False)
    except TypeError:  # before Python 3.9
        hashlib.md5()
        return hashlib.md5
    return partial(hashlib.md5, usedforsecurity=False)


def read_file(directory: int, name: str, algorithm: str, status: bytes, status_of: StatusOf) -> Reading:
    """Read a file with this name in an open directory, or with this absolute path; `status`: packed, as listed."""
    new = constructor(algorithm)
    try:
        return _read_small(directory, name, new, status, status_of) or _read(directory, name, new, status, status_of)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            problem = "gone"
        else:
            problem = "replaced" if error.errno in _REPLACED else str(error.strerror)
        return Reading(None, "", None, problem)


def _read_small(
    directory: int, name: str, new: Callable[..., Any], listed: bytes, status_of: StatusOf
) -> Optional[Reading]:
    """A small file of which nothing changes meanwhile, in the fewest calls; None where _read() has to look closer."""
    mode, inode, _device, _links, _uid, _gid, size, mtime_ns, ctime_ns = unpack(listed)
    if size > _SMALL:
        return None
    try:
        descriptor = _open(directory, name)
        try:
            content = os.read(descriptor, size)
            status, created = status_of(descriptor, b"")
        finally:
            os.close(descriptor)
    except OSError:
        return None
    if status != (mode, inode, size, mtime_ns, ctime_ns) or len(content) != size:
        return None
    return _tuple(Reading, (listed, new(content).hexdigest(), created, ""))


def _read(directory: int, name: str, new: Callable[..., Any], expected: bytes, status_of: StatusOf) -> Reading:
    for _attempt in range(ATTEMPTS):
        descriptor = _open(directory, name)
        try:
            # Before anything is read: a fifo or a device that took the file's place is to be left alone.
            (mode, *_rest), created = status_of(descriptor, b"")
            if not stat.S_ISREG(mode):
                return Reading(None, "", None, "replaced")
            checksum = _digest(descriptor, unpack(expected)[_SIZE], new)
            status = packed(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        if status == expected:
            return Reading(status, checksum, created, "")
        expected = status
    return Reading(status, "", created, "changing")


def read_whole(path: str, limit: int) -> Tuple[bytes, int]:
    """What is in the file with this real path, and its mode. Nothing where it is larger than `limit` bytes, is no regular
    file, or cannot be read: a checksum tells whether that is all."""
    try:
        descriptor = _open(None, path)
    except OSError:
        return b"", 0
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return b"", 0
        with open(descriptor, "rb", closefd=False) as file:
            raw = file.read(limit + 1)
        return (raw, mode) if len(raw) <= limit else (b"", 0)
    except OSError:
        return b"", 0
    finally:
        os.close(descriptor)


def _open(directory: Optional[int], name: str) -> int:
    try:
        return os.open(name, _FLAGS | os.O_NOATIME, dir_fd=directory)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
    return os.open(name, _FLAGS, dir_fd=directory)  # O_NOATIME is for the owner, see open(2)


def _digest(descriptor: int, size: int, new: Callable[..., Any]) -> str:
    """Of the first `size` bytes: a file that grows for ever is caught by its status, not followed to its end."""
    digest = new()
    view = memoryview(bytearray(_CHUNK))
    while size > 0:
        count = os.readv(descriptor, [view[:size]])
        if not count:
            break
        digest.update(view[:count])
        size -= count
    return str(digest.hexdigest())
