# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The plain data that collectors return and everything else passes on.

An item is a NamedTuple that its kind knows. Each of its fields is a JSON scalar (or, for File.stamp, a list of integers),
so an item survives a round trip through a JSON array. Text may hold lone surrogates (os.fsdecode of a name that is not
UTF-8); Kind.row makes it printable. None means "not known"; an empty string means "known to be empty or not applicable".
"""

from typing import AbstractSet, Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

Item = Tuple[Any, ...]  # a NamedTuple of one kind, see kinds/


class Part(NamedTuple):
    """What is collected, compared and fails as a whole: a package database, systemd, one directory.

    A part that could not be read is not yielded; its collection names it in `unseen`, which for a directory includes everything
    below it.
    """

    name: str
    signature: Optional[str]  # equal to the known one: the items are the same. None: never rely on it
    items: Optional[Sequence[Item]]  # sorted; None where the signature is the known one
    unsure: AbstractSet[Tuple[str, ...]] = (
        frozenset()
    )  # identities of items that exist, but are unreadable or just changing: no change of them is reported
    message: str = ""  # for the operator, although the part was read
    uncompared: AbstractSet[Tuple[str, ...]] = (
        frozenset()
    )  # identities that are added or removed because this run collects another set than the last one
    before: Optional[Sequence[Item]] = None  # its known items, where those are in a part of another name so far
    owners: Mapping[Tuple[str, ...], str] = {}  # identity -> owner of an item, where that is not the one of the part
    by_last_rules: Optional[Sequence[Item]] = (
        None  # its items by the rules of the last run, at the same moment; None: the rules are the same, or those were not used
    )


class Source(NamedTuple):
    """The status of a source."""

    status: str  # ok absent failed
    count: int  # type: ignore[assignment]  # nobody counts the fields of this tuple
    message: str = ""


class Known:
    """What an earlier run stored, for collectors that use it to save work. This one is empty."""

    changes = 0  # found so far by the caller that compares: a collector leaves what exceeds its limit for the next run

    def names(self) -> Iterable[str]:
        """The names of the parts."""
        return ()

    def signature(self, part: str) -> Optional[str]:
        return None

    def count(self, part: str) -> int:
        return 0

    def items(self, part: str) -> List[Item]:
        return []

    def sources(self) -> Mapping[str, Source]:
        """The status of each source in that run, by printable names."""
        return {}


class Collection:
    """The items of one kind on this host. Iterate once for the parts; `sources` and `unseen` are complete after that.

    `unseen` has the names of parts that could not be read; "/" stands for all parts, and `FOLDER//OWNER` for those of this owner
    below a folder.
    """

    def __init__(self) -> None:
        self.sources: Dict[str, Source] = {}
        self.unseen: List[str] = []
        self.replaced: Set[str] = set()  # names of parts whose items are in other parts now, see Part.before
        self.partial = False  # whether only a part was collected anew, and the rest is as it is known
        self.postponed = False  # whether changes are left for the next run, see Known.changes

    def __iter__(self) -> Iterator[Part]:
        raise NotImplementedError

    def out_of_sight(self, part: str) -> bool:
        """Whether a part that was not yielded may still exist, so that its items are not reported as removed."""
        raise NotImplementedError
