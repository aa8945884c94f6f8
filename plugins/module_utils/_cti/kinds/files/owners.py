# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The owner to whose share of a scan's budget a folder or a file counts, see budget.Share."""

import grp
import os
import pwd
import stat
from bisect import bisect_right
from typing import Dict, List, Optional, Tuple

ROOT = ""  # and the user who runs the scan
EVERYONE = "everyone"

_SUBUID = "/etc/subuid"
_MAX_SUBUID = 1 << 20  # bytes
_Range = Tuple[int, int, str]  # first and last subordinate uid, and the name or uid of their user


class Owners:
    """Names owners: ROOT, `uid=1000`, or for a folder that others may write to, `gid=50` and EVERYONE. No name has a blank.

    `subuid`: the file that assigns further ids to users, see subuid(5). A file with such an id counts as the user's, so that no user
    counts as several owners. Where its ranges overlap, the narrowest one counts.
    """

    def __init__(self, subuid: str = _SUBUID) -> None:
        self._trusted = frozenset((0, os.geteuid()))
        self._users: Dict[int, str] = {}
        self._uids: Dict[str, Optional[int]] = {}  # name -> uid
        self._groups: Dict[Tuple[int, int], str] = {}  # (uid, gid) of a folder that its group may write to -> owner
        self._subuid = subuid
        self._ranges: Optional[List[_Range]] = None
        self._starts: List[int] = []  # of the ranges, and of the uids behind each; sorted
        self._narrowest: Dict[int, Optional[_Range]] = {}  # number of starts up to a uid -> its range

    def of_folder(self, status: os.stat_result) -> str:
        """The owner that the content of a folder counts to."""
        uid, mode = status.st_uid, status.st_mode
        if not mode & 0o022:
            return ROOT if uid in self._trusted else self._users.get(uid) or self.of_user(uid)
        return EVERYONE if mode & 0o002 else self._of_group(uid, status.st_gid)

    def of_entry(self, uid: int, mode: int, links: int, folder: str) -> str:
        """The owner of an entry of a folder that counts to `folder`.

        A file with several names counts to `folder`, and so does a file of root's that others may write to: whoever may write to a
        file may give it more names.
        """
        if not folder or stat.S_ISDIR(mode):
            return self.of_user(uid)
        owner = self.of_user(uid)
        is_lent = not owner and mode & 0o022 and not stat.S_ISLNK(mode)
        return folder if links > 1 or is_lent else owner

    def of_name(self, user: str) -> Optional[str]:
        """The owner that a user counts to, by the name or the number in an item; None for an unknown name."""
        if user not in self._uids:
            try:
                self._uids[user] = _uid(user)
            except (KeyError, OSError):
                self._uids[user] = None
        uid = self._uids[user]
        return None if uid is None else self.of_user(uid)

    def _of_group(self, uid: int, gid: int) -> str:
        """The owner of a folder that its group may write to: the user, where the group is the user's private group."""
        owner = self._groups.get((uid, gid))
        if owner is None:
            private = uid not in self._trusted and _is_private(uid, gid)
            owner = self._groups[uid, gid] = self.of_user(uid) if private else "gid=%d" % gid
        return owner

    def of_user(self, uid: int) -> str:
        if uid in self._trusted:
            return ROOT
        if uid not in self._users:
            self._users[uid] = "uid=%d" % self._holder(uid)
        return self._users[uid]

    def _holder(self, uid: int) -> int:
        """The user to whom a subordinate uid is assigned; for one that root gives to a container, the first uid of its range."""
        narrowest = self._range_of(uid)
        if narrowest is None:
            return uid
        first, _last, user = narrowest
        try:
            holder = _uid(user)
        except (KeyError, OSError):
            return first
        return first if holder in self._trusted else holder

    def _range_of(self, uid: int) -> Optional[_Range]:
        if self._ranges is None:
            self._ranges = _read(self._subuid)
            self._starts = sorted({start for one in self._ranges for start in (one[0], one[1] + 1)})
        at = bisect_right(self._starts, uid)
        if at not in self._narrowest:
            ranges = [one for one in self._ranges if one[0] <= uid <= one[1]]
            self._narrowest[at] = min(ranges, key=lambda one: one[1] - one[0], default=None)
        return self._narrowest[at]


def _uid(user: str) -> int:
    """The uid of a user, by the name or the number. Raises KeyError and OSError."""
    return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid


def _is_private(uid: int, gid: int) -> bool:
    """Whether this is the primary group of a user, with the user's name and no other member, as useradd(8) makes it."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except (KeyError, OSError):
        return False
    return user.pw_gid == gid and user.pw_name == group.gr_name and not set(group.gr_mem).difference((user.pw_name,))


def _read(path: str) -> List[_Range]:
    """The ranges in the file; none where it cannot be read. Invalid lines are ignored."""
    try:
        with open(path, "rb") as file:
            lines = file.read(_MAX_SUBUID).decode("ascii", "replace").split("\n")
    except OSError:
        return []
    ranges = []
    for line in lines:
        user, *numbers = line.split(":")
        if len(numbers) == 2 and user and all(number.isdecimal() and len(number) <= 10 for number in numbers):
            first, length = map(int, numbers)
            ranges.append((first, first + length - 1, user))
    return ranges
