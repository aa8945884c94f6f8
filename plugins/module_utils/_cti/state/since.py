# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The option `since`: from where on a consumer wants the history of a host."""

import re
import time
from typing import Any, List, Optional

from ..errors import SinceError
from ..text import quoted, timestamp
from .place import Place, Since

MOST_PLACES = 32
# Compiled where one is used: most runs are given no `since`.
_PLACE = r"([0-9a-f]{32}):([0-9]{1,18}):([0-9a-f]{0,8})"
_AGE = r"([0-9]{1,9})([smhdw])"
_AGE_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_TIME = (
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,][0-9]{1,9})?)?)?"
    r" ?(Z|UTC|([+-])([0-9]{2}):?([0-9]{2})?)?"
)


def place(text: Any) -> Optional[Place]:
    """The place that a text is; None where it is none."""
    match = re.fullmatch(_PLACE, text) if isinstance(text, str) else None
    return Place(match.group(1), int(match.group(2)), match.group(3)) if match else None


def parse(value: Any) -> Since:
    """What a user wrote, or the JSON data it arrived as. Raises SinceError."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18:
        return Since(number=value)
    if isinstance(value, list) and 0 < len(value) <= MOST_PLACES:
        places = [place(element) for element in value]
        if None not in places:
            return Since(places=[one for one in places if one is not None], paged=True)
    if isinstance(value, str):
        since = _parse_text(value.strip())
        if since is not None:
            return since
    raise SinceError(
        "The value of since is %s. Give the place that an earlier result returned as history.place, the number of a change,"
        " a time such as 2026-01-09T08:00:00Z, or an age such as 2d." % _quoted(value)
    )


def misses(since: Since, history: str, last: int, restarted: bool, begins_at: int) -> List[str]:
    """Say why a time or a number finds other changes than it asks for. `history`: the path, printable; `last`: the number of its newest
    change; `restarted`, `begins_at`: see pages.Page."""
    texts = []
    if since.at is not None and since.at > time.time():
        texts.append(
            "The value of since is %s, which is in the future: the clock of this host is at %s. No changes are returned."
            " Give an earlier time, an age such as 2d, or history.place of an earlier result."
            % (timestamp(since.at), timestamp(time.time()))
        )
    if since.number is not None and restarted:
        texts.append(
            "The value of since is %d, and the newest change in the history of '%s' has the number %d. All changes that are kept"
            " are returned. Give history.place of an earlier result, or 0 for all changes."
            % (since.number, history, last)
        )
    if since.at is not None and begins_at:
        texts.append(
            "The value of since is %s, and the history of %s begins at %s. Changes before its first run are not known."
            % (timestamp(since.at), history, timestamp(begins_at))
        )
    return texts


def _parse_text(text: str) -> Optional[Since]:
    if re.fullmatch("[0-9]{1,18}", text):
        return Since(number=int(text))
    one = place(text)
    if one is not None:
        return Since(places=[one])
    age = re.fullmatch(_AGE, text)
    if age:
        return Since(at=int(time.time()) - int(age.group(1)) * _AGE_SECONDS[age.group(2)])
    match = re.fullmatch(_TIME, text, re.IGNORECASE)
    return _parse_time(match) if match else None


def _parse_time(match: Any) -> Optional[Since]:
    """A time without an offset is in UTC; a day begins at midnight."""
    import datetime  # takes longer to import than a small run, outside of Ansible

    year, month, day, hour, minute, second = (int(match.group(number) or 0) for number in range(1, 7))
    offset = int(match.group(9) or 0) * 3600 + int(match.group(10) or 0) * 60
    try:
        whole = datetime.datetime(year, month, day, hour, minute, 59 if second == 60 else second)
    except ValueError:  # a day or an hour that no calendar has
        return None
    if offset >= 86400:
        return None
    seconds = (whole - datetime.datetime(1970, 1, 1)).total_seconds()
    return Since(at=int(seconds) + (offset if match.group(8) == "-" else -offset))


def _quoted(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
        return "'%s'" % quoted(text, 80)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of too many digits"
