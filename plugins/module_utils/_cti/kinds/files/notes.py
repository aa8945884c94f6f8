# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Counts what a scan could not read or left out, for one short message."""

from typing import Dict, List

from ...text import plural, quoted
from .budget import FILE_BYTES

SHOWN = 3  # paths named for each kind

_KEPT = "; its last known items are kept"
# kind -> (noun, outcome); the most serious first
_TEXTS = {
    "refused": ("path", "not read"),
    "unseen": ("path", "could not be read" + _KEPT),
    "covered": ("directory", "not visible, a file system was mounted or unmounted" + _KEPT),
    "crowded": ("directory", "not read, too many entries" + _KEPT),
    "far": ("directory", "not read, path too long" + _KEPT),
    "folders": ("directory", "not read, limit of directories per owner and run reached" + _KEPT),
    "postponed": ("directory", "with changes left for the next run, limit of changes per owner and run reached"),
    "unread": ("file", "unreadable, no checksum"),
    "changing": ("file", "kept changing while being read, no checksum"),
    "large": ("file", f"larger than {FILE_BYTES >> 30} GiB, no checksum"),
    "slow": ("directory", "with changes left for the next run, time limit for the small files of one owner reached"),
    "late": ("file", "without checksum, time limit for reading in one run reached"),
    "again": ("file", "not read again in this run, time limit reached"),
    "mount": ("mount", "not entered, network or pseudo file system"),
    "barred": ("symlink", "not followed, target on a network or pseudo file system"),
    "links": ("symlink", "not followed, limit of names to look up reached" + _KEPT),
    "loop": ("directory", "not entered again, loop of symlinks"),
    "deep": ("symlink", "not followed, too many symlinks in one path"),
    "often": ("directory", "not entered, too many symlinks lead to directories" + _KEPT),
}
_FAILED = ("refused", "unseen", "covered", "crowded", "far", "folders")  # with these, the source was not read in full
_OF_ALL = ("large", "late", "again", "unread", "changing")  # shown as N of M files


class Notes:
    """Counts by kind, and the first few paths of each."""

    def __init__(self) -> None:
        self._counts: Dict[str, int] = {}
        self._paths: Dict[str, List[str]] = {}

    def add(self, kind: str, path: str, why: str = "") -> None:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        paths = self._paths.setdefault(kind, [])
        if len(paths) < SHOWN:
            paths.append(quoted(path) + (f" ({why})" if why else ""))

    @property
    def failed(self) -> bool:
        """Whether a part of the source could not be read."""
        return any(kind in self._counts for kind in _FAILED)

    def message(self, files: int) -> str:
        """One line; empty where there are no notes. `files`: the number of files in all."""
        return "; ".join(self._sentence(kind, files) for kind in _TEXTS if kind in self._counts)

    def _sentence(self, kind: str, files: int) -> str:
        count, paths = self._counts[kind], self._paths[kind]
        noun, outcome = _TEXTS[kind]
        counted = f"{count} of {plural(files, noun)}" if kind in _OF_ALL else plural(count, noun)
        more = ", ..." if count > len(paths) else ""
        return f"{counted} {outcome}: {', '.join(paths)}{more}"
