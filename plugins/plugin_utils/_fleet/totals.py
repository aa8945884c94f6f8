# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many changes there are, of each level and with each mark."""

from __future__ import annotations

from collections import Counter

from .history import LEVELS, Found
from .marks import ACKNOWLEDGE, IGNORE, WINDOW, WORDS

_SAID = {IGNORE: "ignored", WINDOW: "in a maintenance window", ACKNOWLEDGE: "acknowledged"}


def of(found: list[Found], shown: list[Found]) -> dict[str, int]:
    """The numbers of the shown changes, their hosts and levels, and of all marked ones."""
    levels, words = Counter(one.attribution.level for one in shown), _words(found)
    return {
        "changes": len(shown),
        "hosts": len({one.change.host for one in shown}),
        **{level: levels[level] for level in LEVELS},
        **{word: words[word] for word in WORDS},
    }


def not_shown(found: list[Found], below: bool) -> list[str]:
    """The line with the number of marked changes, which are hidden. `below`: other lines precede it."""
    words = _words(found)
    if not words:
        return []
    counts = ", ".join(f"{words[word]} {_SAID[word]}" for word in WORDS if words[word])
    return [""] * below + [f"Not shown: {counts}"]


def _words(found: list[Found]) -> Counter[str]:
    return Counter(one.mark.word for one in found if one.mark)
