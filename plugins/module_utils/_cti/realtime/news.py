# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What events announced of a kind, until a run has looked there."""

from typing import Container, Dict, List, Optional, Set

from ..kinds.files.partial import Named

MOST_NAMED = 1000  # folders, or items; where more are announced, everything is
FLAPPING_WAKES, FLAPPING_SECONDS = 20, 600.0  # an item that wakes more often in that time is left to the schedule
_MOST_ITEMS = 4096
MOST_FLAPPING = 1000  # items; what else changes all the time is limited by the share of the time that runs may take


class News:
    """What was announced since a run began. `flapping`: items that do not start a run, because they change all the time."""

    def __init__(self, flapping: Container[str] = ()) -> None:
        self._flapping = flapping
        self.events = 0  # that are a reason for a run
        self.everything = False
        self.quiet_everything = False
        self.folders: Set[str] = set()
        self.trees: Set[str] = set()
        self.quiet: Set[str] = set()  # paths that are announced, and start no run
        self.items: Set[str] = set()  # that start a run

    def __bool__(self) -> bool:
        """Whether there is a reason for a run."""
        return self.everything or bool(self.folders)

    def add(self, folder: str, item: str, tree: bool = False) -> None:
        """Something may have changed in a folder: the item `item`, and with `tree` all that is below it."""
        if item in self._flapping:
            self.quiet.add(item if tree else folder)
            if len(self.quiet) > MOST_NAMED:
                self.quiet_everything = True
                self.quiet.clear()
            return
        self.folders.add(folder)
        if tree:
            self.trees.add(item)
        self._count(item)

    def add_everything(self, item: str = "") -> None:
        """Anything may have changed; `item` is the reason. Empty: events are lost, which can be those of any item, so it never flaps."""
        if item in self._flapping:
            self.quiet_everything = True
            return
        self.everything = True
        self._count(item)

    def _count(self, item: str) -> None:
        self.events += 1
        if item and len(self.items) < MOST_NAMED:
            self.items.add(item)
        if len(self.folders) > MOST_NAMED or len(self.trees) > MOST_NAMED:
            self.everything = True
        if self.everything:
            self.folders.clear()
            self.trees.clear()

    def add_all(self, other: "News") -> None:
        self.everything |= other.everything
        self.quiet_everything |= other.quiet_everything
        for mine, others in zip(self._sets(), other._sets()):
            mine.update(others)

    def _sets(self) -> List[Set[str]]:
        return [self.folders, self.trees, self.quiet, self.items]

    def named(self) -> Optional[Named]:
        """What a run has to look at; None: everything."""
        return None if self.everything else Named(frozenset(self.folders), frozenset(self.trees))

    def announced(self, path: str) -> bool:
        """Whether the entry with this path was announced, or something in its folder."""
        if self.everything or self.quiet_everything:
            return True
        folder = path.rpartition("/")[0] or "/"
        if folder in self.folders or folder in self.quiet:
            return True
        while path != "/":
            if path in self.trees or path in self.quiet:
                return True
            path = path.rpartition("/")[0] or "/"
        return False


class Flapping:
    """Which items start runs so often that they are left to the schedule."""

    def __init__(self) -> None:
        self.items: Dict[str, None] = {}  # in the order in which they were found
        self._wakes: Dict[str, List[float]] = {}  # item -> times

    def woke(self, items: Set[str], now: float) -> List[str]:
        """Count that these items started a run. Returns those that are flapping from now on."""
        found = []
        if len(self._wakes) > _MOST_ITEMS:
            self._wakes.clear()
        for item in items:
            times = [time for time in self._wakes.get(item, ()) if now - time < FLAPPING_SECONDS]
            times = [*times[-FLAPPING_WAKES:], now]
            self._wakes[item] = times
            if len(times) > FLAPPING_WAKES and len(self.items) < MOST_FLAPPING:
                del self._wakes[item]
                self.items[item] = None
                found.append(item)
        return found

    def clear(self) -> None:
        """Let a scheduled run end it."""
        self.items.clear()
        self._wakes.clear()
