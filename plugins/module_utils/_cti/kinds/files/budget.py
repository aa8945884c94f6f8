# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What one scan of files may cost, so that nobody's files, folders or links keep the others from being looked at.

docs/files.md lists the limits for operators. What is beyond one of them is named in the source's message.
"""

import errno
import time
from typing import Any, Callable, Dict

# Contents. A checksum costs 0.6 ns a byte where the processor has SHA instructions, 2 to 3 ns elsewhere.
SMALL_BYTES = 64 << 10  # a file of up to this size is read at one go, and costs no more than its entry does
FILE_BYTES = 64 << 30
FILE_SECONDS = 300.0
OWNER_SECONDS = 300.0  # the larger files of one user who is not root
RUN_SECONDS = 1800.0  # all larger files
REHASH_SECONDS = 300.0  # files that are read again although their times are the same

MATCH_SECONDS = 60.0  # long names against regular expressions, which may take 20 ms each
SHORT_NAME = 40  # characters; such names take no time worth counting

# Entries.
MAX_DEPTH = 256  # folders in one path: each is a descriptor while what is in it is looked at
MAX_PATH = 4096  # bytes, PATH_MAX of linux/limits.h: no program can name what lies deeper
SLICED_ABOVE = 32768  # tracked entries of one folder that are one part; a larger folder is SLICES parts
SLICES = 128
FOLDER_ENTRIES = 1000000
FOLDER_NAMES = 64 << 20  # bytes of all names in one folder
RUN_FOLDERS = 400000
RUN_CHANGES = 50000  # entries that are new or differ; what is beyond is looked at in the next run

# Links.
LINKED_FOLDERS = 10000  # entered by way of links, and as many again as were entered without
REPEATED_FOLDERS = 1000  # entered once more by way of another link; likewise
LINK_NAMES = 2000000  # looked up to find where links lead
MAX_HIDDEN = 100  # folders remembered as not entered, of one folder; where there are more, all in it count as such

DAY = 86400
REHASH_DAYS = 7.0  # within which every content is read again, see docs/files.md


class Budget:
    """What is left of the time to read contents. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._left = RUN_SECONDS
        self._owners: Dict[int, float] = {}  # uid -> seconds left
        self._rehash = REHASH_SECONDS
        self._match = MATCH_SECONDS

    def seconds(self, uid: int) -> float:
        """How long a file of this owner may be read; 0 where there is no time left."""
        owner = FILE_SECONDS if uid == 0 else self._owners.get(uid, OWNER_SECONDS)
        return max(0.0, min(FILE_SECONDS, owner, self._left))

    def spend(self, uid: int, seconds: float) -> None:
        self._left -= seconds
        if uid:
            self._owners[uid] = self._owners.get(uid, OWNER_SECONDS) - seconds

    def matches(self, match: Callable[[str], Any]) -> Callable[[str], Any]:
        """The same function, which raises OSError for a long name once the time to match names is used up."""

        def limited(name: str) -> Any:
            if len(name) <= SHORT_NAME:
                return match(name)
            if self._match <= 0:
                raise OSError(errno.ETIME, "the time to match names with regular expressions is used up")
            start = self.clock()
            try:
                return match(name)
            finally:
                self._match -= self.clock() - start

        return limited

    def may_rehash(self) -> bool:
        return self._rehash > 0

    def spend_rehash(self, seconds: float) -> None:
        self._rehash -= seconds
