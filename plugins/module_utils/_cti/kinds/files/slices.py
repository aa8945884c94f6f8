# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The names in a very large folder, in slices, so that only those of one slice become items at a time."""

import sys
from binascii import crc32
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from .budget import FOLDER_ENTRIES, FOLDER_NAMES, SLICES
from .opening import entries_of
from .owners import ROOT

_ENCODING = sys.getfilesystemencoding()

# The names of the files, the symlinks, the directories and the other entries: of each of these, one bytearray for each slice,
# from the last slice to the first, with a NUL after each name.
Names = List[List[bytearray]]
OfEntry = Callable[[int, int, int], str]  # (uid, mode, links) -> owner, see Owners.of_entry()
_FILE, _SYMLINK, _DIRECTORY, _OTHER = range(4)


def next_slice(names: Names) -> List[List[str]]:
    """Take the names of the next slice: files, symlinks, directories, other entries."""
    return [_split(slices.pop()) for slices in names]


def names_by_slice(descriptor: int, most: int) -> Optional[Names]:
    """The names of all entries. None where there are too many: more than `most` in one slice, since whoever chooses the names can put
    them all into one, more than FOLDER_ENTRIES, or FOLDER_NAMES bytes of them. Raises OSError."""
    names = _empty()
    count = total = 0
    with entries_of(descriptor) as entries:
        for entry in entries:
            name = entry.name.encode(_ENCODING, "surrogateescape")
            count += 1
            total += len(name)
            if count > FOLDER_ENTRIES or total > FOLDER_NAMES:
                return None
            names[_kind(entry)][-1 - crc32(name) % SLICES] += name + b"\0"
    largest = max(sum(part.count(0) for part in parts) for parts in zip(*names))
    return None if largest > most else names


class _Owned:
    """What one owner has in the folder."""

    def __init__(self) -> None:
        self.entries = 0
        self.size = 0  # bytes of the names
        self.in_slice = [0] * SLICES
        self.names: Dict[Tuple[int, int], bytearray] = {}  # (kind, slice) -> names

    def add(self, kind: int, number: int, name: bytes) -> None:
        self.entries += 1
        self.size += len(name)
        self.in_slice[number] += 1
        self.names.setdefault((kind, number), bytearray()).extend(name + b"\0")


class OwnedNames:
    """The names of a folder that has too many, without those of the owners who have the most.

    ROOT's entries have the limits for themselves, and those of all others together have the same again. The owner of each entry
    costs a status. Raises OSError.
    """

    def __init__(self, descriptor: int, most: int, barred: Mapping[str, str], of_entry: OfEntry) -> None:
        self.left_out: Dict[str, int] = {}  # owner -> number of entries
        self._most = most
        self._owned: Dict[str, _Owned] = {}
        self._others = _Owned()  # how much all but ROOT have
        with entries_of(descriptor) as entries:
            for entry, owner in _owned(entries, barred, of_entry):
                if owner in self.left_out:
                    self.left_out[owner] += 1
                else:
                    self._add(entry, owner)

    def names(self) -> Names:
        """To be called once."""
        names = _empty()
        while self._owned:
            _owner, owned = self._owned.popitem()
            for (kind, number), some in owned.names.items():
                names[kind][-1 - number] += some
        return names

    def _add(self, entry: Any, owner: str) -> None:
        name = entry.name.encode(_ENCODING, "surrogateescape")
        number = crc32(name) % SLICES
        if owner not in self._owned:
            self._owned[owner] = _Owned()
        self._owned[owner].add(_kind(entry), number, name)
        used = self._owned[owner]
        if owner != ROOT:
            used = self._others
            used.entries += 1
            used.size += len(name)
            used.in_slice[number] += 1
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
            self._others.entries -= gone.entries
            self._others.size -= gone.size
            self._others.in_slice = [all_ - own for all_, own in zip(self._others.in_slice, gone.in_slice)]


def _owned(entries: Iterator[Any], barred: Mapping[str, str], of_entry: OfEntry) -> Iterator[Tuple[Any, str]]:
    """The entries with their owners. The status of a mount that is not entered is not read."""
    for entry in entries:
        try:
            if entry.name in barred:
                yield entry, ROOT
                continue
            status = entry.stat(follow_symlinks=False)
            yield entry, of_entry(status.st_uid, status.st_mode, status.st_nlink)
        except FileNotFoundError:
            continue
        except OSError:
            yield entry, ROOT  # the user who runs the scan may not


def _empty() -> Names:
    return [[bytearray() for _number in range(SLICES)] for _kind in range(4)]


def _kind(entry: Any) -> int:
    if entry.is_file(follow_symlinks=False):
        return _FILE
    if entry.is_symlink():
        return _SYMLINK
    return _DIRECTORY if entry.is_dir(follow_symlinks=False) else _OTHER


def _split(names: bytearray) -> List[str]:
    return names.decode(_ENCODING, "surrogateescape").split("\0")[:-1]
