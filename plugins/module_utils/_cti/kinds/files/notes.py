# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What went wrong or was left out during a scan, kept short however often it happens."""

from typing import Dict, List

from ...text import plural, quoted
from .budget import FILE_BYTES

SHOWN = 3  # paths named of each kind

# kind -> (what, what became of it); in the order of their gravity
_TEXTS = {
    "refused": ("path", "not read"),
    "unseen": ("path", "could not be read; what was known of it is kept"),
    "covered": ("folder", "not visible, because a file system was mounted or unmounted; what was known of it is kept"),
    "crowded": ("folder", "not read, because it holds too many entries; what was known of it is kept"),
    "far": ("folder", "not read, because its path is too long; what was known of it is kept"),
    "folders": ("folder", "not read, because one run reads no more of this owner; what was known of it is kept"),
    "postponed": ("folder", "with changes left for the next run, because this one has found enough of this owner"),
    "unread": ("file", "could not be read, so without checksum"),
    "changing": ("file", "kept changing while being read, so without checksum"),
    "large": ("file", "without checksum, being larger than {0} GiB".format(FILE_BYTES >> 30)),
    "late": ("file", "without checksum, because the time to read large files in one run is used up"),
    "again": ("file", "not read again this time, because the time for it is used up"),
    "mount": ("mount", "not entered, being network or pseudo file systems"),
    "barred": ("link", "not followed, leading to network or pseudo file systems"),
    "links": ("link", "not followed, because too many names were looked up behind links; what was known of it is kept"),
    "loop": ("directory", "not entered again, being a loop of links"),
    "deep": ("link", "not followed, lying behind too many other links"),
    "often": ("directory", "not entered, being reached by too many links; what was known of it is kept"),
}
_FAILED = ("refused", "unseen", "covered", "crowded", "far", "folders")  # with these a source was not seen in full
_OF_ALL = ("large", "late", "again", "unread", "changing")  # told as N of M files


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

    @property
    def failed(self) -> bool:
        """Whether there is something that was not seen."""
        return any(kind in self._counts for kind in _FAILED)

    def message(self, files: int) -> str:
        """One line; empty where there is nothing to say. `files`: how many there are in all."""
        return "; ".join(self._sentence(kind, files) for kind in _TEXTS if kind in self._counts)

    def _sentence(self, kind: str, files: int) -> str:
        count, paths = self._counts[kind], self._paths[kind]
        noun, outcome = _TEXTS[kind]
        counted = "{0} of {1}".format(count, plural(files, noun)) if kind in _OF_ALL else plural(count, noun)
        more = ", ..." if count > len(paths) else ""
        return "{0} {1}: {2}{3}".format(counted, outcome, ", ".join(paths), more)
