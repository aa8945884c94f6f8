# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What the state keeps of a directory as its part's signature: beside the digest, when contents were last read and where."""

from binascii import crc32
from hashlib import sha256
from os import fsencode
from typing import NamedTuple, Optional

from .budget import DAY
from .owners import ROOT


class Mark(NamedTuple):
    """Its text is equal to the known one: nothing has changed, and nothing is due."""

    digest: str  # see listing.signature(); empty: never rely on it
    period: int  # number of the period in which all contents were read; -1: not known
    home: str  # home_id() of the mount point the directory is on; empty: not known
    linked: bool  # whether it was reached through a link
    owner: str  # of the directory, see owners.py

    def __str__(self) -> str:
        text = "%s %d %s%s" % (self.digest, self.period, self.home, "@" if self.linked else "")
        return text + " " + self.owner if self.owner else text


def parse_mark(text: Optional[str]) -> Mark:
    """The reverse of str(mark); of None, or the text of an earlier version, a mark of which nothing is known."""
    fields = (text or "").split(" ")
    if len(fields) not in (3, 4):
        return Mark("", -1, "", False, ROOT)
    owner = fields[3] if len(fields) == 4 else ROOT
    return Mark(fields[0], int(fields[1]), fields[2].rstrip("@"), fields[2].endswith("@"), owner)


def period(name: str, now: float, days: float) -> int:
    """The number of the period of so many days in which a part is at this time, in unix seconds; 0 where days is 0.

    The periods of all parts begin at different times, so that what is due is spread evenly over the runs.
    """
    if days <= 0:
        return 0
    length = days * DAY
    return int((now + crc32(fsencode(name)) / 2**32 * length) // length)


def home_id(point: str) -> str:
    """Stands for a mount point, whose name may be of any length and any bytes."""
    return sha256(fsencode(point)).hexdigest()[:8]
