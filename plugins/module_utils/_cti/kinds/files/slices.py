# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The names in a very large folder, in slices: only those of a few slices are in memory, and only those of one become items at a time."""

import errno
import sys
from binascii import crc32
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from .budget import FOLDER_ENTRIES, FOLDER_NAMES, HELD_NAMES, SLICES
from .opening import entries_of
from .owners import ROOT

_ENCODING = sys.getfilesystemencoding()

Names = List[List[str]]  # of one slice: the files, the symlinks, the directories and the other entries
OwnerOf = Callable[[str], str]  # name of an entry -> its owner, see Owners.of_entry(); raises OSError
_FILE, _SYMLINK, _DIRECTORY, _OTHER = range(4)


def names_by_slice(descriptor: int, most: int) -> Optional[Iterator[Names]]:
    """The names of all entries, slice by slice. None where there are too many: more than `most` in one slice, since whoever chooses the
    names can put them all into one, more than FOLDER_ENTRIES, or FOLDER_NAMES bytes of them. Raises OSError."""
    held = _Held(0, SLICES)
    counted = _Owned()
    with entries_of(descriptor) as entries:
        for entry in entries:
            name = entry.name.encode(_ENCODING, "surrogateescape")
            number = crc32(name) % SLICES
            counted.add(number, name)
            if counted.entries > FOLDER_ENTRIES or counted.size > FOLDER_NAMES or counted.in_slice[number] > most:
                return None
            held.add(entry, number, name)
            if held.size > HELD_NAMES:
                held.halve()
    return _all_slices(descriptor, most, counted.sizes, lambda entry: True, held)


def _all_slices(
    descriptor: int, most: int, sizes: Sequence[int], wanted: Callable[[Any], bool], held: "_Held"
) -> Iterator[Names]:
    """The names in each slice: those that are held, and for each group of further slices those of another pass over the folder.

    `sizes`: bytes of the names in each slice. Raises OSError where the folder has grown by far too much since they were counted.
    """
    while True:
        yield from held.take()
        if held.end == SLICES:
            return
        begin = end = held.end
        size = 0
        while end < SLICES and (end == begin or size + sizes[end] <= HELD_NAMES):
            size += sizes[end]
            end += 1
        held = _Held(begin, end)
        with entries_of(descriptor) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, "surrogateescape")
                number = crc32(name) % SLICES
                if begin <= number < end and wanted(entry):
                    held.add(entry, number, name)
                    if held.size > 2 * HELD_NAMES or held.entries[number - begin] > 2 * most:
                        raise OSError(errno.EFBIG, "too many new entries while it was listed")


class _Held:
    """The names that are in memory: those of the slices from `begin` to before `end`."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end
        self.size = 0
        self.entries = [0] * (end - begin)  # in each slice
        self._names = [[bytearray() for _kind in range(4)] for _slice in range(begin, end)]

    def add(self, entry: Any, number: int, name: bytes) -> None:
        """Add a name, unless its slice is not one of these."""
        if number < self.end:
            self.entries[number - self.begin] += 1
            self.size += len(name)
            self._names[number - self.begin][_kind(entry)] += name + b"\0"

    def halve(self) -> None:
        """Forget the last half of the slices."""
        self.end = (self.begin + self.end + 1) // 2
        del self._names[self.end - self.begin :]  # noqa: E203
        self.size = sum(len(names) for kinds in self._names for names in kinds)

    def take(self) -> Iterator[Names]:
        """The names in each of the slices, which are forgotten."""
        while self._names:
            yield [_split(names) for names in self._names.pop(0)]


class _Owned:
    """How much one owner has in the folder."""

    def __init__(self) -> None:
        self.entries = 0
        self.size = 0  # bytes of the names
        self.in_slice = [0] * SLICES  # entries
        self.sizes = [0] * SLICES  # bytes of the names in each slice

    def add(self, number: int, name: bytes) -> None:
        self.entries += 1
        self.size += len(name)
        self.in_slice[number] += 1
        self.sizes[number] += len(name)

    def subtract(self, other: "_Owned") -> None:
        self.entries -= other.entries
        self.size -= other.size
        self.in_slice = [all_ - own for all_, own in zip(self.in_slice, other.in_slice)]


class OwnedNames:
    """The names of a folder that has too many, without those of the owners who have the most.

    ROOT's entries have the limits for themselves, and those of all others together have the same again. The owner of each entry
    costs a status. Raises OSError.
    """

    def __init__(self, descriptor: int, most: int, barred: Mapping[str, str], owner_of: OwnerOf) -> None:
        self.left_out: Dict[str, int] = {}  # owner -> number of entries
        self._descriptor = descriptor
        self._most = most
        self._barred = barred
        self._owner_of = owner_of
        self._owned: Dict[str, _Owned] = {}
        self._others = _Owned()  # how much all but ROOT have
        with entries_of(descriptor) as entries:
            for entry in entries:
                owner = self._owner(entry)
                if owner is None:
                    continue
                if owner in self.left_out:
                    self.left_out[owner] += 1
                else:
                    self._add(entry, owner)

    def by_slice(self) -> Iterator[Names]:
        """The names in each slice."""
        sizes = [sum(of_slice) for of_slice in zip(*(owned.sizes for owned in self._owned.values()))] or [0] * SLICES
        return _all_slices(self._descriptor, self._most, sizes, self._is_listed, _Held(0, 0))

    def _is_listed(self, entry: Any) -> bool:
        owner = self._owner(entry)
        return owner is not None and owner not in self.left_out

    def _owner(self, entry: Any) -> Optional[str]:
        """The owner of an entry; None where it is gone. The status of a mount that is not entered is not read."""
        if entry.name in self._barred:
            return ROOT
        try:
            return self._owner_of(entry.name)
        except FileNotFoundError:
            return None
        except OSError:
            return ROOT  # the user who runs the scan may not

    def _add(self, entry: Any, owner: str) -> None:
        name = entry.name.encode(_ENCODING, "surrogateescape")
        number = crc32(name) % SLICES
        if owner not in self._owned:
            self._owned[owner] = _Owned()
        used = self._owned[owner]
        used.add(number, name)
        if owner != ROOT:
            used = self._others
            used.add(number, name)
        if used.entries > FOLDER_ENTRIES:
            self._leave_out(owner, lambda owned: owned.entries)
        elif used.size > FOLDER_NAMES:
            self._leave_out(owner, lambda owned: owned.size)
        elif used.in_slice[number] > self._most:
            self._leave_out(owner, lambda owned: owned.in_slice[number])

    def _leave_out(self, owner: str, amount: Callable[[_Owned], int]) -> None:
        """Leave out ROOT, or of the others the one with the most."""
        if owner != ROOT:
            owner = max((other for other in self._owned if other != ROOT), key=lambda one: amount(self._owned[one]))
        gone = self._owned.pop(owner)
        self.left_out[owner] = gone.entries
        if owner != ROOT:
            self._others.subtract(gone)


def _kind(entry: Any) -> int:
    if entry.is_file(follow_symlinks=False):
        return _FILE
    if entry.is_symlink():
        return _SYMLINK
    return _DIRECTORY if entry.is_dir(follow_symlinks=False) else _OTHER


def _split(names: bytearray) -> List[str]:
    return names.decode(_ENCODING, "surrogateescape").split("\0")[:-1]
