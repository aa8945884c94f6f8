# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A consumer's place in the history of a host, and from where on one wants the history."""

from typing import NamedTuple, Optional, Sequence


class Place(NamedTuple):
    """A consumer's place in the history of one state: it has every change up to `number`.

    As text `<state>:<number>:<mark>`, which is all that consumers know of it.
    """

    state: str  # its id, 32 hexadecimal digits; another one for each new baseline of the whole state
    number: int
    mark: (
        str  # how the RecordId of that change begins: a state restored from a backup gave the number to another change
    )

    def __str__(self) -> str:
        return "%s:%d:%s" % self


class Since(NamedTuple):
    """One of the first three is set."""

    number: Optional[int] = None  # of the last change that the consumer has
    at: Optional[int] = None  # unix seconds
    places: Sequence[Place] = ()  # in states it has seen, the latest last
    paged: bool = False  # it is a program, which asks until nothing remains
