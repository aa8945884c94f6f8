# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A file that is there as a whole or as it was before, whatever happens."""

import os
from typing import Iterable


def replace(path: str, pieces: Iterable[bytes], mode: int = 0o600) -> None:
    """Write a file's new content next to it, then put it in its place. Raises OSError; one writer at a time."""
    temporary = path + ".new"
    write(temporary, pieces, mode)
    put(temporary, path)


def write(temporary: str, pieces: Iterable[bytes], mode: int = 0o600) -> None:
    """Write a new file, onto the disk; there is none if that fails. Raises OSError, and what `pieces` raises."""
    try:
        os.unlink(temporary)  # of a run that was killed; or somebody else's pipe or hard link, in a folder of others
    except FileNotFoundError:
        pass
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(file, "wb") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        os.unlink(temporary)
        raise


def put(temporary: str, path: str) -> None:
    """Put what write() wrote in the place of the file at `path`, in the same folder. Raises OSError."""
    try:
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
