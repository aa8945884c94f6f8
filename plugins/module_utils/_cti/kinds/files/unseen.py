# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What a scan of files did not see, remembered in a bounded size."""

from typing import Dict, List, Set

from .budget import Share

_OVERHEAD = 100  # bytes of a name in addition to its characters


class Unseen:
    """Names of folders that were not seen, nor what is below them; and of an owner who has too many of them, only the owner.

    `share`: of the bytes for names. An owner, see owners.py, who has used up its share costs no other owner anything: what is not
    remembered is looked up where it matters.
    """

    def __init__(self, share: Share) -> None:
        self._share = share
        self._names: Set[str] = set()
        self._owners: Dict[
            str, Set[str]
        ] = {}  # folder -> owners with folders below it that were not seen; "": anywhere

    def add(self, name: str, owner: str) -> None:
        """Add a folder, or what may be one."""
        if name in self._names:
            return
        if self._share.take(owner, len(name) + _OVERHEAD):
            self._names.add(name)
        else:
            self._owners.setdefault("", set()).add(owner)

    def add_owner(self, folder: str, owner: str) -> None:
        """Add whatever an owner has in a folder."""
        if owner in self._owners.get(folder, ()):
            return
        if not self._share.take(owner, len(folder) + _OVERHEAD):
            folder = ""
        self._owners.setdefault(folder, set()).add(owner)

    def has(self, part: str) -> bool:
        """Whether the part with this name is in one of the folders."""
        if "/" in self._names:
            return True
        while part not in self._names:
            part, slash, _name = part.rpartition("/")
            if not slash:
                return False
        return True

    def may_have(self, part: str) -> bool:
        """Whether the part may be in a folder whose name is not remembered."""
        if not self._owners:
            return False
        while part not in self._owners:
            part, slash, _name = part.rpartition("/")
            if not slash:
                return "" in self._owners
        return True

    def names(self) -> List[str]:
        """The names, and `FOLDER//OWNER` for each owner; see Judge, which reads them in the next run."""
        return [*self._names, *(folder + "//" + owner for folder, owners in self._owners.items() for owner in owners)]
