# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The limits of one scan of files, so that no user's files, folders or symlinks prevent the scan of the others.

docs/files.md lists the limits for operators. The message of the source names what exceeds one.
"""

import errno
import time
from typing import Any, Callable, Dict

from .owners import ROOT, Owners

# Contents. A checksum costs 0.6 ns a byte where the processor has SHA instructions, 2 to 3 ns elsewhere.
SMALL_BYTES = 64 << 10  # a file of up to this size is read at one go
SMALL_SECONDS = 300.0  # such files of all users but root
FILE_BYTES = 64 << 30
FILE_SECONDS = 300.0
OWNER_SECONDS = 300.0  # the larger files of one user who is not root
RUN_SECONDS = 1800.0  # all larger files
REHASH_SECONDS = 300.0  # files that are read again although their times are the same

MATCH_SECONDS = 60.0  # long names against regular expressions, which may take 20 ms each
SHORT_NAME = 16  # characters; such names take 5 us at most, which is not worth counting

# Entries.
MAX_DEPTH = 256  # folders in one path: each is a descriptor while what is in it is looked at
MAX_PATH = 4096  # bytes, PATH_MAX of linux/limits.h: no program can name what lies deeper
SLICED_ABOVE = 32768  # tracked entries of one folder that are one part; a larger folder is SLICES parts
SLICES = 128
FOLDER_ENTRIES = 1000000
FOLDER_NAMES = 64 << 20  # bytes of all names in one folder
HELD_NAMES = 8 << 20  # bytes of names of a sliced folder, which are in memory at once
PART_PATHS = 32 << 20  # bytes of all paths in one part, which are in memory at once
RUN_FOLDERS = 400000
RUN_CHANGES = 50000  # entries that are new or differ; what is beyond is looked at in the next run

# Links.
LINKED_FOLDERS = 10000  # entered by way of links, and as many again as were entered without
REPEATED_FOLDERS = 1000  # entered once more by way of another link; likewise
LINK_NAMES = 2000000  # looked up to find where links lead
HIDDEN_BYTES = 4 << 20  # of the names of folders that are remembered as not entered

DAY = 86400
REHASH_DAYS = 7.0  # within which every content is read again, see docs/files.md

_LEAST = 2.0**-16  # of an amount that is shared; a smaller rest counts as none


class Share:
    """An amount that no owner, see owners.py, can use up at the expense of the others.

    ROOT has the whole amount. All other owners have as much again together, and each may use as much of it as it leaves to
    the rest of them: the first one half, the next one half of what remains.
    """

    def __init__(self, amount: float) -> None:
        self._amount = amount
        self._used: Dict[str, float] = {}
        self._others = 0.0  # used by all owners but ROOT

    def left(self, owner: str, more: float = 0) -> float:
        """How much the owner may still use; 0 where nothing is left. `more`: by how much the amount has grown."""
        used = self._used.get(owner, 0.0)
        whole = self._amount + more
        left = whole - used if owner == ROOT else (whole - self._others - used) / 2
        return left if left > whole * _LEAST else 0.0

    def spend(self, owner: str, amount: float, more: float = 0) -> None:
        """Count what the owner has used. What exceeds its share is not taken from the others."""
        if owner != ROOT:
            amount = min(amount, self.left(owner, more))
            self._others += amount
        self._used[owner] = self._used.get(owner, 0.0) + amount

    def take(self, owner: str, amount: float = 1, more: float = 0) -> bool:
        """Use an amount; where the owner has less left, use nothing and return False."""
        # The same as left() and spend(), without the cost of two calls for each folder.
        used = self._used.get(owner, 0.0)
        whole = self._amount + more
        left = whole - used if owner == ROOT else (whole - self._others - used) / 2
        if left < amount or left <= whole * _LEAST:
            return False
        if owner != ROOT:
            self._others += amount
        self._used[owner] = used + amount
        return True


class Budget:
    """What the owners may still use in one scan. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.owners = Owners()
        self.owner = ROOT  # of the folder that is listed, for matches()
        self.changes = Share(RUN_CHANGES)
        self.folders = Share(RUN_FOLDERS)
        self.linked = Share(LINKED_FOLDERS)
        self.repeated = Share(REPEATED_FOLDERS)
        self.link_names = Share(LINK_NAMES)
        self.hidden = Share(HIDDEN_BYTES)
        self.rehash = Share(REHASH_SECONDS)
        self._match = Share(MATCH_SECONDS)
        self._read = Share(RUN_SECONDS)
        self._small = Share(SMALL_SECONDS)
        self._large: Dict[str, float] = {}  # owner -> seconds spent

    def seconds(self, owner: str, size: int = FILE_BYTES) -> float:
        """How long a file of this owner and size may be read; 0 where there is no time left."""
        if size <= SMALL_BYTES:
            return float("inf") if owner == ROOT else self._small.left(owner)
        limit = FILE_SECONDS if owner == ROOT else OWNER_SECONDS - self._large.get(owner, 0.0)
        return max(0.0, min(FILE_SECONDS, limit, self._read.left(owner)))

    def spend(self, owner: str, seconds: float, size: int = FILE_BYTES) -> None:
        if size <= SMALL_BYTES:
            if owner != ROOT:
                self._small.spend(owner, seconds)
            return
        self._read.spend(owner, seconds)
        self._large[owner] = self._large.get(owner, 0.0) + seconds

    def matches(self, match: Callable[[str], Any]) -> Callable[[str], Any]:
        """The same function, which raises OSError for a long name once the time to match names is used up."""

        def limited(name: str) -> Any:
            if len(name) <= SHORT_NAME:
                return match(name)
            if not self._match.left(self.owner):
                raise OSError(errno.ETIME, "the time to match names with regular expressions is used up")
            start = self.clock()
            try:
                return match(name)
            finally:
                self._match.spend(self.owner, self.clock() - start)

        return limited
