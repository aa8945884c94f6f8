# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How columns of the report are written, so that they are small: texts once, rising numbers as differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...module_utils._cti.text import line
from . import changes

MAX_NAME = 500  # characters
MAX_TEXT = 200


def shown(text: Any, limit: int = MAX_TEXT) -> str:
    """A text of a host on one line: controls and marks that change the direction of writing are escapes, and it is not too long."""
    return "" if text is None else line(str(text), limit)


def delta(numbers: Iterable[int]) -> list[int]:
    """Each number as the difference to the one before."""
    before, out = 0, []
    for number in numbers:
        out.append(number - before)
        before = number
    return out


def coded(values: Sequence[str]) -> dict[str, Any]:
    """A column of texts: each text once, and its numbers."""
    texts = sorted(set(values))
    numbers = {text: number for number, text in enumerate(texts)}
    return {"texts": texts, "of": delta(numbers[value] for value in values)}


def seconds(text: Any) -> int:
    """Unix seconds of a time of the store, without fractions; 0 where there is none."""
    return int(changes.seconds(f"{str(text)[:19]}Z") or 0)


def share(costs: Sequence[tuple[int, int]], budget: int) -> float:
    """The largest cost for each unit of weight with which all fits into the budget. `costs`: pairs of cost and weight.

    Who needs less than that gets all it needs, so a few large ones do not push out the others.
    """
    remaining, weights = budget, sum(weight for _cost, weight in costs)
    for cost, weight in sorted(costs, key=lambda pair: pair[0] / pair[1]):
        if cost * weights > remaining * weight:
            return remaining / weights
        remaining -= cost
        weights -= weight
    return float("inf")
