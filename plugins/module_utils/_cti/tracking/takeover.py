# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The first run of files on a host that Microsoft's agent tracked: compared with what that agent recorded last.

A change is reported only where both agents must agree:

* Fields that Microsoft's agent does not have, or has in a way that cannot be compared, count as unchanged.
* A file that it recorded and that is gone is removed, if the rule reaches it. Files that the rule does not reach are left out.
* A file that it did not record is part of the baseline: it may not have looked for it. The file is added only if it was created after
  the last recording, and a file item of the rule also reaches other files of that folder that were recorded.
"""

import calendar
import os
import re
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..kinds import collectors
from ..kinds.files.kind import FILES, File
from ..kinds.files.listing import slice_name, slice_of
from ..kinds.files.scope import FileRule, in_scope, reaches
from ..kinds.kind import Row
from ..model import Collection, Item, Known, Part
from ..rule.settings import Settings
from ..state.store import Run, Store
from ..text import plural
from . import run
from .judge import Scope
from .microsoft import Microsoft
from .snapshot import Snapshot

MAX_FILES = 500  # that Microsoft's agent records: with so many, files may be missing in its database
CHECKSUM_BYTES = 1250000  # of a larger file its checksum is wrong
_PERMISSIONS = 0o777  # what its Mode has; setuid, setgid and sticky are lost
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(Z?)\Z", re.ASCII)


class Recorded(NamedTuple):
    """What Microsoft's agent recorded of a file, as far as it can be compared. None: not known."""

    path: str
    checksum: Optional[str]
    size: Optional[int]
    owner: Optional[str]
    group: Optional[str]
    mode: Optional[int]  # permission bits
    modified: Tuple[int, ...]  # unix seconds, by each way to read it: as UTC and as local time; empty: not known

    def alone(self) -> File:
        """An item without what only the host knows."""
        modified = self.modified[0] if self.modified else None
        return File(
            self.path, self.checksum or "", self.size, self.owner or "", self.group or "", self.mode, modified, None, "file", ""
        )  # fmt: skip


def recorded(path: str, item: Row) -> Recorded:
    """An item of the database, see microsoft.py."""
    size, mode = _number(item.get("Size")), _number(item.get("Mode"))
    checksum = item.get("FileContentChecksum")
    usable = (
        isinstance(checksum, str) and _SHA256.match(checksum.lower()) and size is not None and size <= CHECKSUM_BYTES
    )
    return Recorded(
        path,
        str(checksum).lower() if usable else None,
        size,
        _name(item.get("Owner")),
        _name(item.get("Group")),
        None if mode is None else mode & _PERMISSIONS,
        _times(item.get("DateModified")),
    )


def _number(value: Any) -> Optional[int]:
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def _name(value: Any) -> Optional[str]:
    return value if isinstance(value, str) and value else None


def _times(value: Any) -> Tuple[int, ...]:
    found = _TIME.match(value) if isinstance(value, str) else None
    if found is None:
        return ()
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    if year < 1970:  # the zero of Go is in the year 1
        return ()
    try:
        utc = calendar.timegm((year, month, day, hour, minute, second, 0, 0, 0))
        local = utc if found.group(7) else int(time.mktime((year, month, day, hour, minute, second, 0, 0, -1)))
    except (ValueError, OverflowError):
        return ()
    return (utc,) if utc == local else (utc, local)


def run_files(
    settings: Settings, store: Store, microsoft: Microsoft, progress: Any, rehash_days: float, watch: Any = None
) -> "Takeover":
    """Collect files and compare them with what Microsoft's agent recorded; put the result into the store, which has no files yet.
    `progress`, `rehash_days`, `watch`: see run.run_kind(). Raises StateError."""
    rules = [list(rule.tracking) for rule in settings.file_rules]
    base = collectors.collect(FILES, settings.file_rules, Known(), rehash_days, watch)
    joined = _Joined(base, settings.file_rules, microsoft)
    # Nothing was seen, but for the parts that _Joined gives a past.
    before = Run(int(microsoft.written_at), rules, ["/"])
    scope = Scope(rules, in_scope)
    snapshot = run.compare_and_store(FILES, lambda _known: joined, store, scope, progress=progress, first=before)
    return Takeover(snapshot, joined.compared, joined.outside, joined.new)


class Takeover(NamedTuple):
    snapshot: Snapshot
    compared: int  # files that Microsoft's agent recorded and the rule reaches
    outside: int  # files that it recorded and the rule does not reach
    new: int  # files that it did not record, which are part of the baseline

    def sentence(self) -> str:
        """How many files were compared, and how many were not."""
        counts = (plural(self.compared, "file", "was"), self.outside, self.new)
        return (
            "%s compared with it; %d in it are outside of the rule, and %d that are not in it are part of the baseline"
            % counts
        )


class _Joined(Collection):
    """The parts of a first scan, each with what Microsoft's agent recorded of it as the items before."""

    def __init__(self, base: Collection, rules: Sequence[FileRule], microsoft: Microsoft) -> None:
        super().__init__()
        self.compared = self.outside = self.new = 0
        self._base = base
        self._rules = rules
        self._written_at = microsoft.written_at
        self._is_full = len(microsoft.items) >= MAX_FILES
        self._folders: Dict[str, Dict[str, Recorded]] = {}  # what was not compared yet
        self._tracking: Dict[str, List[FileRule]] = {}  # folder -> the rules that reach a recorded file in it
        self._as_utc = self._as_local = 0  # number of times that are right if read so
        for path, item in microsoft.items.items():
            known = recorded(path, item)
            if in_scope(rules, known.alone()):
                self._folders.setdefault(_folder(path), {})[path] = known
            else:
                self.outside += 1
        for folder, files in self._folders.items():
            self._tracking[folder] = [rule for rule in rules if any(reaches(rule, path, "file") for path in files)]

    def __iter__(self) -> Iterator[Part]:
        seen: Set[str] = set()  # names of parts
        for part in self._base:
            seen.add(part.name)
            yield self._joined(part)
        self.sources, self.unseen = self._base.sources, self._base.unseen
        self.replaced, self.postponed = self._base.replaced, self._base.postponed
        sliced = {name.partition("//")[0] or "/" for name in seen if "//" in name}
        gone: Dict[str, List[Item]] = {}
        for folder, files in sorted(self._folders.items()):
            for path, known in files.items():
                name = folder + slice_name(slice_of(path)) if folder in sliced else folder
                if name not in seen and not self._base.out_of_sight(name) and _is_gone(path):
                    gone.setdefault(name, []).append(self._removed(known))
        for name, before in gone.items():
            yield Part(name, None, [], before=before)

    def out_of_sight(self, part: str) -> bool:
        return self._base.out_of_sight(part)

    def _joined(self, part: Part) -> Part:
        items: Sequence[Any] = part.items or ()
        folder = part.name.partition("//")[0] or "/"
        if folder not in self._folders:
            self.new += len(items)
            return part
        files = self._folders[folder]
        before: List[Item] = []
        for item in items:
            known = files.pop(item.path, None)
            if known is not None:
                self.compared += 1
                before.append(self._as_before(known, item))
            elif not self._is_added(folder, item):
                self.new += 1
                before.append(item)
        slice_ = part.name[len(folder) :] if "//" in part.name else ""  # noqa: E203
        for path in [path for path in files if not slice_ or slice_name(slice_of(path)) == slice_]:
            if (path,) in part.unsure:
                before.append(files.pop(path).alone())
            elif _is_gone(path):
                before.append(self._removed(files.pop(path)))
        return part._replace(before=sorted(before))

    def _removed(self, known: Recorded) -> File:
        self.compared += 1
        return known.alone()

    def _is_added(self, folder: str, item: File) -> bool:
        if self._is_full or item.created is None or item.created <= self._written_at:
            return False
        return any(reaches(rule, item.path, item.type) for rule in self._tracking[folder])

    def _as_before(self, known: Recorded, item: File) -> File:
        """The item with what Microsoft's agent recorded of it."""
        if item.type != "file":
            return item
        checksum = item.checksum if known.checksum is None else known.checksum
        if item.link_target:  # it mixes what belongs to the link with what belongs to the target
            return item._replace(checksum=checksum)
        return item._replace(
            checksum=checksum,
            size=item.size if known.size is None else known.size,
            owner=_comparable(known.owner, item.owner),
            group=_comparable(known.group, item.group),
            mode=item.mode if known.mode is None or item.mode is None else item.mode & ~_PERMISSIONS | known.mode,
            modified=self._modified(known.modified, item.modified),
        )

    def _modified(self, times: Tuple[int, ...], now: Optional[int]) -> Optional[int]:
        """The time that was recorded. In which zone is not known: it is the present one if it may be."""
        if not times or now is None:
            return now
        if len(times) == 1:
            return times[0]
        self._as_utc += now == times[0]
        self._as_local += now == times[1]
        if now in times:
            return now
        return times[self._as_local > self._as_utc]


def _comparable(known: Optional[str], name: str) -> str:
    """The name of a user or group before. A number is not compared with a name."""
    return name if known is None or known.isdecimal() != name.isdecimal() else known


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
        return False
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
