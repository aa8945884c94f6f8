# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The plain data that collectors return and everything else passes on.

An item is a NamedTuple that its kind knows. Each of its fields is a JSON scalar (or, for File.stamp, a list of integers),
so an item survives a round trip through a JSON array. Text may hold lone surrogates (os.fsdecode of a name that is not
UTF-8); Kind.row makes it printable. None means "not known"; an empty string means "known to be empty or not applicable".
"""

from typing import AbstractSet, Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

Item = Tuple[Any, ...]  # a NamedTuple of one kind, see kinds/


class Part(NamedTuple):
    """The unit of collection, of comparison and of failure: a package database, systemd, one directory.

    A part that could not be seen is not yielded at all; its collection names it in `unseen`
    (for a directory: and means everything below it too).
    """

    name: str
    signature: Optional[str]  # equal to the known one: the items are the same. None: never rely on it
    items: Optional[Sequence[Item]]  # sorted; None where the signature is the known one
    unsure: AbstractSet[Tuple[str, ...]] = (
        frozenset()
    )  # identities that are there in some form, but not as they will be, or not readable
    message: str = ""  # what the operator should know although all went well
    uncompared: AbstractSet[Tuple[str, ...]] = (
        frozenset()
    )  # identities that come or go because another set is collected than the run before, not because the host changed
    before: Optional[Sequence[Item]] = None  # what is known of it, where that is in a part of another name so far


class Source(NamedTuple):
    """How a source fared."""

    status: str  # ok absent failed
    count: int  # type: ignore[assignment]  # nobody counts the fields of this tuple
    message: str = ""


class Known:
    """What an earlier run saw, as far as a collector may use it to save work. This one knows nothing."""

    changes = 0  # found by who compares with it, so far: a collector leaves what is beyond its limit for the next run

    def names(self) -> Iterable[str]:
        """Of the parts."""
        return ()

    def signature(self, part: str) -> Optional[str]:
        return None

    def count(self, part: str) -> int:
        return 0

    def items(self, part: str) -> List[Item]:
        return []


class Collection:
    """One pass over one kind. Iterate once for the parts; `sources` and `unseen` hold good after that.

    `unseen` holds the names of parts, of which "/" stands for all there are.
    """

    def __init__(self) -> None:
        self.sources: Dict[str, Source] = {}
        self.unseen: List[str] = []
        self.replaced: Set[str] = set()  # names of parts whose items are in other parts now, see Part.before
        self.postponed = False  # whether parts that are there are left for the next run, see Known.changes

    def __iter__(self) -> Iterator[Part]:
        raise NotImplementedError

    def out_of_sight(self, part: str) -> bool:
        """Whether a part that was not yielded may still exist, so that its absence is no removal."""
        raise NotImplementedError
