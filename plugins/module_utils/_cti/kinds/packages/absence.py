# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Whether a package database that an earlier run read is gone for good, or only out of sight for now.

Gone for good means that all its packages are reported as removed. So it is believed only if the file system that the
database was on is there, nothing of the database is left, and it stays away for more than a moment: `rpmdb --rebuilddb`
moves the old database away before it moves the new one in.
"""

import os
import time
from typing import Callable, NamedTuple, Optional, Sequence, Tuple

from ...errors import SourceAbsent, SourceFailed
from ...model import Known, Part

_LOOKS = 4
_PAUSE = 0.5  # seconds between two
_UNSETTLED = "? "
_IN_WORK = ("rpmrebuilddb.", "rpmold.")  # folders beside the database's


class DatabaseLocation(NamedTuple):
    """Where a database may be."""

    name: str  # of the part
    folders: Sequence[str]
    remains: Tuple[str, ...]  # how the names begin of the files that a database consists of


def is_there(path: str) -> bool:
    """Whether there is such an entry. SourceFailed: that cannot be told."""
    try:
        os.lstat(path)
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SourceFailed("Cannot tell whether %s exists: %s." % (path, error.strerror)) from error


def signature(stamp: str, folder: str, settled: bool) -> str:
    """A part's signature, with the device of the folder; if not settled, one that no later run relies on."""
    return "%s%x %s" % ("" if settled else _UNSETTLED, _device_at(folder), stamp)


def look(collect: Callable[[Known], Part], known: Known, place: DatabaseLocation) -> Part:
    """What `collect` returns. SourceAbsent: no earlier run read the database, or it is gone for good. SourceFailed: it is
    out of sight, or `collect` failed."""
    for _attempt in range(_LOOKS):
        try:
            return collect(known)
        except SourceAbsent as error:
            absent = error
            if not known.count(place.name):
                raise
        time.sleep(_PAUSE)
    why = _out_of_sight(place, _device(known.signature(place.name)))
    if not why:
        raise absent
    raise SourceFailed(
        "The %s database is missing, but %s. Its packages are kept as they were at the last run that read it."
        % (place.name, why)
    )


def _device(mark: Optional[str]) -> Optional[int]:
    """The device that a signature names; None for one that names none."""
    text = (mark or "").replace(_UNSETTLED, "", 1)
    try:
        return int(text.split(" ", 1)[0], 16)
    except ValueError:
        return None


def _out_of_sight(place: DatabaseLocation, device: Optional[int]) -> str:
    """Why a missing database is not gone for good; empty where it is."""
    for folder in place.folders:
        beside = os.path.dirname(folder)
        for name in _names(beside):
            if name.startswith(_IN_WORK):
                return "%s shows that it is being rebuilt" % os.path.join(beside, name)
        for name in _names(folder):
            if name.startswith(place.remains):
                return "%s is left of it" % os.path.join(folder, name)
    if device is None:
        mounted = any(_names(os.path.dirname(folder)) for folder in place.folders)
    else:
        mounted = device in [_device_at(folder) for folder in place.folders]
    return "" if mounted else "the file system that it was on is not mounted"


def _names(folder: str) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise SourceFailed("Cannot list %s: %s." % (folder, error.strerror)) from error


def _device_at(path: str) -> int:
    """The device of a folder, or of the first one above that exists."""
    while True:
        try:
            return os.stat(path).st_dev
        except (FileNotFoundError, NotADirectoryError):
            path = os.path.dirname(path)
        except OSError as error:
            raise SourceFailed("Cannot look at %s: %s." % (path, error.strerror)) from error
