# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What went wrong or was left out during a scan, kept short however often it happens."""

from typing import Dict, List

from ..text import quoted

SHOWN = 3  # paths named of each kind

# kind -> (what, what became of it); in the order of their gravity
_TEXTS = {
    "refused": ("path", "not read"),
    "unseen": ("path", "could not be read; what was known of it is kept"),
    "unread": ("file", "could not be read, so without checksum"),
    "changing": ("file", "kept changing while being read, so without checksum"),
    "mount": ("mount", "not entered, being network or pseudo file systems"),
    "barred": ("link", "not followed, leading to network or pseudo file systems"),
    "loop": ("directory", "not entered again, being a loop of links"),
    "deep": ("link", "not followed, lying behind too many other links"),
    "often": ("directory", "not entered again, being reached by too many links"),
}


class Notes:
    """Counts by kind, and the first few paths of each."""

    def __init__(self) -> None:
        self._counts: Dict[str, int] = {}
        self._paths: Dict[str, List[str]] = {}

    def add(self, kind: str, path: str, why: str = "") -> None:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        paths = self._paths.setdefault(kind, [])
        if len(paths) < SHOWN:
            paths.append(quoted(path) + (" ({0})".format(why) if why else ""))

    def __contains__(self, kind: str) -> bool:
        return kind in self._counts

    def message(self) -> str:
        """One line; empty where there is nothing to say."""
        return "; ".join(self._sentence(kind) for kind in _TEXTS if kind in self._counts)

    def _sentence(self, kind: str) -> str:
        count, paths = self._counts[kind], self._paths[kind]
        noun, outcome = _TEXTS[kind]
        more = ", ..." if count > len(paths) else ""
        return "{0} {1}: {2}{3}".format(plural(count, noun), outcome, ", ".join(paths), more)


def plural(count: int, noun: str) -> str:
    if count == 1:
        return "1 " + noun
    return "{0} {1}".format(count, noun[:-1] + "ies" if noun.endswith("y") else noun + "s")
