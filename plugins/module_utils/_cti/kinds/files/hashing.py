# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The contents of regular files: read in constant memory, and trusted only if the file kept still meanwhile."""

import errno
import hashlib
import os
from functools import lru_cache, partial
from typing import Any, Callable, NamedTuple, Optional

from .budget import FILE_BYTES, Budget
from .opening import Replaced
from .statx import size, status_of

ATTEMPTS = 3  # at a file that changes while it is read
LENGTHS = {"sha256": 64, "md5": 32, "none": 0}  # of a checksum, hex digits

_CHUNK = 256 * 1024


class HashResult(NamedTuple):
    """What became of one file."""

    status: Optional[bytes]  # of the very file that was read; None where it was not
    checksum: str
    problem: str  # "", gone changing replaced large late, or the reason why it could not be read


class _TimeIsUp(Exception):
    """A file takes longer to read than it may."""


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


def read_file(
    open_file: Callable[[], int], new: Callable[..., Any], listed: bytes, budget: Budget, owner: str
) -> HashResult:
    """Read a regular file within the budget. `open_file` gives a descriptor of it, see opening.py; `listed`: its status as
    listed. `new`: see constructor(). `owner`: on whose account it is read, see owners.py. A small file that keeps still is read_at_once()'s, which is quicker.
    """
    length = size(listed)
    if length > FILE_BYTES:
        return HashResult(None, "", "large")
    allowed = budget.seconds(owner, length)
    if not allowed:
        return HashResult(None, "", "late")
    start = budget.clock()
    try:
        return _read(open_file, new, listed, lambda: budget.clock() - start > allowed)
    except _TimeIsUp:
        return HashResult(None, "", "late")
    except Replaced:
        return HashResult(None, "", "replaced")
    except OSError as error:
        return HashResult(None, "", "gone" if error.errno in (errno.ENOENT, errno.ENOTDIR) else str(error.strerror))
    finally:
        budget.spend(owner, budget.clock() - start, length)


def _read(
    open_file: Callable[[], int], new: Callable[..., Any], expected: bytes, is_late: Callable[[], bool]
) -> HashResult:
    for _attempt in range(ATTEMPTS):
        descriptor = open_file()
        try:
            checksum = _digest(descriptor, size(expected), new, is_late)
            status = status_of(descriptor, b"")
        finally:
            os.close(descriptor)
        if status == expected:
            return HashResult(status, checksum, "")
        expected = status
        if size(expected) > FILE_BYTES:
            return HashResult(None, "", "large")
    return HashResult(status, "", "changing")


def _digest(descriptor: int, length: int, new: Callable[..., Any], is_late: Callable[[], bool]) -> str:
    """Of the first `length` bytes: a file that grows for ever is caught by its status, not followed to its end."""
    digest = new()
    view = memoryview(bytearray(min(length, _CHUNK)))
    while length > 0:
        count = os.readv(descriptor, [view[:length]])
        if not count:
            break
        digest.update(view[:count])
        length -= count
        if is_late():
            raise _TimeIsUp()
    return str(digest.hexdigest())
