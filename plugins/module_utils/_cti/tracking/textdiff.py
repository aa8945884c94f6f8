# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What differs between two texts, in bounded time and size."""

import difflib
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Iterator, List, Mapping, Sequence

MAX_BYTES = 32 << 10  # what a column of a Log Analytics table holds
MAX_STEPS = 2 * 10**6  # comparisons of lines; difflib's effort grows with their cube where somebody wants it to
CONTEXT = 3  # unchanged lines around a changed one

if TYPE_CHECKING:
    _Base = difflib.SequenceMatcher[str]
else:
    _Base = difflib.SequenceMatcher


def unified(old: str, new: str) -> str:
    """The unified format, as `patch` takes it; empty where the texts are equal. A line ends with a newline and nothing else.

    Lines that start with a backslash are remarks: the last one of a difference that is longer than MAX_BYTES says how many
    of its lines are there. Source: "Detailed Description of Unified Format" in the manual of GNU diffutils.
    """
    pieces = list(_pieces(_lines(old), _lines(new)))
    if not pieces:
        return ""
    sizes = accumulate(len(piece.encode("utf-8")) for piece in pieces)
    fit = sum(size <= MAX_BYTES - 100 for size in sizes)  # but for the lines before and after them
    out = ["--- before\n", "+++ after\n"] + pieces[:fit]
    if fit < len(pieces):
        out.append("\\ %d of %d lines of the difference\n" % (fit, len(pieces)))
    return "".join(out)


def _lines(text: str) -> List[str]:
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return lines + [last] if last else lines


def _pieces(old: List[str], new: List[str]) -> Iterator[str]:
    for group in _Matcher(old, new).get_grouped_opcodes(CONTEXT):
        yield "@@ -%s +%s @@\n" % (_span(group[0][1], group[-1][2]), _span(group[0][3], group[-1][4]))
        for tag, start, end, new_start, new_end in group:
            if tag == "equal":
                yield from _marked(" ", old[start:end])
            else:
                yield from _marked("-", old[start:end])
                yield from _marked("+", new[new_start:new_end])


def _span(start: int, end: int) -> str:
    if end - start == 1:
        return str(end)
    return "%d,%d" % (start + 1 if end > start else start, end - start)


def _marked(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield mark + line + ("" if line.endswith("\n") else "\n\\ No newline at end of file\n")


class _Matcher(_Base):
    """Finds no more matches when MAX_STEPS are used up, so that what is left differs as a whole."""

    a: Sequence[str]
    b: Sequence[str]
    b2j: Mapping[str, Sequence[int]]  # where in b a line is; without those that are too frequent to be distinguished

    def __init__(self, old: Sequence[str], new: Sequence[str]) -> None:
        super().__init__(None, old, new)
        self._steps = [0, *accumulate(1 + len(self.b2j.get(line, ())) for line in old)]
        self._remaining_steps = MAX_STEPS

    def find_longest_match(self, alo: int = 0, ahi: Any = None, blo: int = 0, bhi: Any = None) -> difflib.Match:
        """Or one at an end, which costs nothing and does as well."""
        ahi = len(self.a) if ahi is None else ahi
        bhi = len(self.b) if bhi is None else bhi
        most = min(ahi - alo, bhi - blo)
        size = 0
        while size < most and self.a[alo + size] == self.b[blo + size]:
            size += 1
        if size:
            return difflib.Match(alo, blo, size)
        while size < most and self.a[ahi - size - 1] == self.b[bhi - size - 1]:
            size += 1
        if size:
            return difflib.Match(ahi - size, bhi - size, size)
        self._remaining_steps -= self._steps[ahi] - self._steps[alo]
        if self._remaining_steps < 0:
            return difflib.Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)
