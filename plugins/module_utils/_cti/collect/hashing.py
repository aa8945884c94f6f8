# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The contents of regular files: read in constant memory, and trusted only if the file kept still meanwhile."""

import errno
import hashlib
import os
import stat
from functools import lru_cache, partial
from typing import Any, Callable, NamedTuple, Optional, Tuple

from .status import mode, size, status_of

ATTEMPTS = 3  # at a file that changes while it is read
LENGTHS = {"sha256": 64, "md5": 32, "none": 0}  # of a checksum, hex digits

_SMALL = 64 * 1024  # bytes; read at one go
_CHUNK = 256 * 1024
# No waiting for a writer of a fifo that took the file's place, no controlling terminal, no link followed.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNSEEN = _FLAGS | os.O_NOATIME  # reading leaves no trace; for the owner only, see open(2)
_REPLACED = frozenset((errno.ELOOP, errno.ENXIO, errno.ENODEV))  # a link, a socket, a device without a driver


class Reading(NamedTuple):
    """What became of one file."""

    status: Optional[bytes]  # of the very file that was read; None where it was not
    checksum: str
    problem: str  # "", gone changing replaced, or the reason why it could not be read


@lru_cache(maxsize=None)
def constructor(algorithm: str) -> Callable[..., Any]:
    """hashlib's constructor for `sha256` or `md5`; ValueError where the host's policy forbids it."""
    if algorithm == "sha256":
        return hashlib.sha256
    md5 = getattr(hashlib, "md5", None)
    if md5 is None:
        raise ValueError("this Python has no md5")
    try:
        md5(usedforsecurity=False)
    except TypeError:  # before Python 3.9
        md5()
        return md5  # type: ignore[no-any-return]
    return partial(md5, usedforsecurity=False)


def is_allowed(algorithm: str) -> bool:
    """Whether this host makes such checksums; md5 is forbidden in FIPS mode."""
    try:
        return algorithm == "none" or bool(constructor(algorithm))
    except ValueError:
        return False


def read_file(directory: int, name: str, new: Callable[..., Any], status: bytes) -> Reading:
    """Read a file with this name in an open directory, or with this absolute path; `status`: as listed.

    `new`: see constructor(). A small file that keeps still is read_small()'s, which is quicker.
    """
    try:
        return _read(directory, name, new, status)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            problem = "gone"
        else:
            problem = "replaced" if error.errno in _REPLACED else str(error.strerror)
        return Reading(None, "", problem)


def read_small(directory: int, name: str, new: Callable[..., Any], status: bytes, length: int) -> Optional[str]:
    """The checksum of a small file of which nothing has changed since it was listed, in the fewest calls.

    None: it is another file, a large one or one that changes; read_file() looks closer.
    """
    if length > _SMALL:
        return None
    try:
        descriptor = _open(directory, name)
        try:
            content = os.read(descriptor, length)
            still = status_of(descriptor, b"") == status
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return new(content).hexdigest() if still and len(content) == length else None


def _read(directory: int, name: str, new: Callable[..., Any], expected: bytes) -> Reading:
    for _attempt in range(ATTEMPTS):
        descriptor = _open(directory, name)
        try:
            # Before anything is read: a fifo or a device that took the file's place is to be left alone.
            if not stat.S_ISREG(mode(status_of(descriptor, b""))):
                return Reading(None, "", "replaced")
            checksum = _digest(descriptor, size(expected), new)
            status = status_of(descriptor, b"")
        finally:
            os.close(descriptor)
        if status == expected:
            return Reading(status, checksum, "")
        expected = status
    return Reading(status, "", "changing")


def read_whole(path: str, limit: int) -> Tuple[bytes, int]:
    """What is in the file with this real path, and its mode. Nothing where it is larger than `limit` bytes, is no regular
    file, or cannot be read: a checksum tells whether that is all."""
    try:
        descriptor = _open(None, path)
    except OSError:
        return b"", 0
    try:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            return b"", 0
        with open(descriptor, "rb", closefd=False) as file:
            raw = file.read(limit + 1)
        return (raw, kind) if len(raw) <= limit else (b"", 0)
    except OSError:
        return b"", 0
    finally:
        os.close(descriptor)


def _open(directory: Optional[int], name: str) -> int:
    try:
        return os.open(name, _UNSEEN, dir_fd=directory)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
    return os.open(name, _FLAGS, dir_fd=directory)


def _digest(descriptor: int, length: int, new: Callable[..., Any]) -> str:
    """Of the first `length` bytes: a file that grows for ever is caught by its status, not followed to its end."""
    digest = new()
    view = memoryview(bytearray(_CHUNK))
    while length > 0:
        count = os.readv(descriptor, [view[:length]])
        if not count:
            break
        digest.update(view[:count])
        length -= count
    return str(digest.hexdigest())
