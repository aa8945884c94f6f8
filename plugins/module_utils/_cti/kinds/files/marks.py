# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The signature of a directory's part: a digest, when the contents were last read, and where the directory is."""

from binascii import crc32
from hashlib import sha256
from os import fsencode
from typing import NamedTuple, Optional, Sequence

from .budget import DAY
from .owners import ROOT

_LEFT_OUT = "left_out:"


class Mark(NamedTuple):
    """A signature. If its text is equal to the one in the state, nothing has changed and nothing is due."""

    digest: str  # see listing.signature(); empty: never rely on it; likewise what left_out() returns
    period: int  # number of the period in which all contents were read; -1: not known
    home: str  # home_id() of the mount point the directory is on; empty: not known
    linked: bool  # whether it was reached through a link
    owner: str  # of the directory, see owners.py

    @property
    def left_out(self) -> Sequence[str]:
        """The owners whose entries were too many to be listed."""
        return self.digest[len(_LEFT_OUT) :].split(",") if self.digest.startswith(_LEFT_OUT) else ()  # noqa: E203

    def __str__(self) -> str:
        text = "%s %d %s%s" % (self.digest, self.period, self.home, "@" if self.linked else "")
        return text + " " + self.owner if self.owner else text


def parse_mark(text: Optional[str]) -> Mark:
    """The mark with this text; one without any information for None, and for the text of an earlier version."""
    fields = (text or "").split(" ")
    if len(fields) not in (3, 4):
        return Mark("", -1, "", False, ROOT)
    owner = fields[3] if len(fields) == 4 else ROOT
    return Mark(fields[0], int(fields[1]), fields[2].rstrip("@"), fields[2].endswith("@"), owner)


def left_out(owners: Sequence[str]) -> str:
    """The digest of a part of which the entries of these owners are not listed; empty where there are none."""
    return _LEFT_OUT + ",".join(owners) if owners else ""


def period(name: str, now: float, days: float) -> int:
    """The number of a part's period of so many days that `now` (unix seconds) is in; 0 where days is 0.

    The periods of the parts begin at different times, so that what is due is spread evenly over the runs.
    """
    if days <= 0:
        return 0
    length = days * DAY
    return int((now + crc32(fsencode(name)) / 2**32 * length) // length)


def home_id(point: str) -> str:
    """A short text for a mount point, whose own path may have any length and any bytes."""
    return sha256(fsencode(point)).hexdigest()[:8]
