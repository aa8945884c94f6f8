# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Decides whether a package database that an earlier run read was removed, or is only out of sight now.

If it was removed, all its packages are reported as removed. So that is assumed only if the file system that the database was
on is mounted, no file of the database remains, and the database stays missing for a while: `rpmdb --rebuilddb` moves the old
database away before it moves the new one in.
"""

import os
import time
from typing import Callable, NamedTuple, Optional, Sequence, Tuple

from ...errors import SourceAbsent, SourceFailed
from ...model import Known, Part

_LOOKS = 4
_PAUSE = 0.5  # seconds between two
_UNSETTLED = "? "
_FORM = (
    "2 "  # another one for each set of fields of an item, so that an unchanged database is read again after an upgrade
)
_REBUILDING = ("rpmrebuilddb.", "rpmold.")  # how the folders are named that rpm makes next to the database's


class DatabaseLocation(NamedTuple):
    """Where a database may be."""

    name: str  # of the part
    folders: Sequence[str]
    remains: Tuple[str, ...]  # how the names begin of the files that a database consists of


def is_there(path: str) -> bool:
    """Whether the path exists. Raises SourceFailed where that cannot be determined."""
    try:
        os.lstat(path)
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SourceFailed(f"Cannot determine whether '{path}' exists: {error.strerror}.") from error


def signature(stamp: str, folder: str, settled: bool) -> str:
    """A part's signature, with the device of the folder; unless settled, one that no later run relies on."""
    return "%s%x %s%s" % ("" if settled else _UNSETTLED, _device_at(folder), _FORM, stamp)


def look(collect: Callable[[Known], Part], known: Known, place: DatabaseLocation) -> Part:
    """The part that `collect` returns. Raises SourceAbsent where no earlier run read the database or it was removed, and
    SourceFailed where it is out of sight or `collect` failed."""
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
        f"The {place.name} database is missing, but {why}. Its packages are kept as they were at the last run that read it."
    )


def _device(mark: Optional[str]) -> Optional[int]:
    """The device in a signature; None where it has none."""
    text = (mark or "").replace(_UNSETTLED, "", 1)
    try:
        return int(text.split(" ", 1)[0], 16)
    except ValueError:
        return None


def _out_of_sight(place: DatabaseLocation, device: Optional[int]) -> str:
    """Why a missing database is only out of sight; empty where it was removed."""
    for folder in place.folders:
        parent = os.path.dirname(folder)
        for name in _names(parent):
            if name.startswith(_REBUILDING):
                return f"'{os.path.join(parent, name)}' shows that it is being rebuilt"
        for name in _names(folder):
            if name.startswith(place.remains):
                return f"its file '{os.path.join(folder, name)}' remains"
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
        raise SourceFailed(f"Cannot list '{folder}': {error.strerror}.") from error


def _device_at(path: str) -> int:
    """The device of a folder, or of the first one above that exists."""
    while True:
        try:
            return os.stat(path).st_dev
        except (FileNotFoundError, NotADirectoryError):
            path = os.path.dirname(path)
        except OSError as error:
            raise SourceFailed(f"Cannot read the status of '{path}': {error.strerror}.") from error
