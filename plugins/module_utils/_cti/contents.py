# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The texts of small tracked files, kept from one run to the next so that a change can be told line by line.

A text is kept only where a rule says uploadContent and everybody on the host may read the file, or the operator has listed
it; and only if it is the very content that the file's checksum is of.
"""

import os
from fnmatch import fnmatchcase
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from . import textdiff
from .collect.hashing import LENGTHS, constructor, is_allowed, read_whole
from .collect.listing import to_name, to_text
from .collect.mounts import Barred, Mounts
from .dcr import parse_path, reaches
from .diff import Change
from .model import File, FileRule
from .records import KINDS
from .snapshot import Snapshot
from .store import Store

FILE_BYTES = 64 << 10
ALL_BYTES = 16 << 20
LEAST_BYTES = 1 << 10  # that a text counts for, so that ALL_BYTES limits their number as well
DIFFS_BYTES = 4 << 20  # of the differences that one run tells

# Why there is no text; each is said of one file in its record, and of their number in the log.
UNHASHED = "without a checksum"
LARGE = "larger than a text may be"
PRIVATE = "not readable by everybody and not listed in content_paths"
MOVING = "changed or out of reach when it was to be read"
BINARY = "not a UTF-8 text"
FULL = "beyond what is kept in all"

_SHA256, _MD5 = LENGTHS["sha256"], LENGTHS["md5"]
Diffs = Dict[Tuple[str, ...], str]  # identity of a modified file -> how its text differs


def keep(snapshot: Snapshot, rules: Sequence[FileRule], listed: Sequence[str], store: Store) -> Tuple[Snapshot, Diffs]:
    """Let the store keep the texts of what a run saw, to be committed with it.

    `listed`: shell patterns of real paths, as glob(7) reads them, that may be kept although not everybody may read them.
    Gives the snapshot with a note of what is left out, and what differs in files that were modified. Raises StateError and
    SourceFailed.
    """
    asking = [rule for rule in rules if rule.contents]
    if not asking:
        for path in store.texts():
            store.forget_text(path)
        return snapshot, {}
    keeper = _Keeper(snapshot, asking, listed, store)
    keeper.go_through(store.all_items(KINDS["files"]))
    return snapshot._replace(notes=snapshot.notes + keeper.notes()), keeper.diffs


class _Task(NamedTuple):
    item: File
    rule: FileRule
    path: str  # to read


class _Keeper:
    def __init__(self, snapshot: Snapshot, rules: Sequence[FileRule], listed: Sequence[str], store: Store) -> None:
        self.diffs: Diffs = {}
        self._rules = [(parse_path(rule.path).directory.rstrip("/") + "/", rule) for rule in rules]
        self._near: Tuple[str, List[FileRule]] = ("", [])  # a folder, and the rules that may reach into it
        self._store = store
        self._kept = store.texts()
        self._access = _Access(listed)
        self._changes: Dict[str, Change] = {
            change.new.path: change
            for change in snapshot.changes
            if isinstance(change.new, File) and "FileContentChecksum" in change.fields
        }
        self._room: Dict[Any, int] = {rule: rule.max_all or ALL_BYTES for rule in rules}
        self._room[None] = ALL_BYTES
        self._diffs_room = DIFFS_BYTES
        self._asked = 0
        self._left: Dict[str, int] = {}

    def go_through(self, items: Iterator[Any]) -> None:
        """What is kept has its room before what is new."""
        gone = set(self._kept)
        again: List[_Task] = []
        new: List[_Task] = []
        for item in items:
            task = self._judge(item)
            if task is None:
                continue
            known = self._kept.get(item.path)
            if known is None:
                if len(new) < ALL_BYTES // LEAST_BYTES:
                    new.append(task)
                else:
                    self._leave(item, FULL)
            elif known.checksum != item.checksum:
                again.append(task)
            elif self._take(task.rule, known.size or 0):
                gone.discard(item.path)
                if known.size is None:
                    self._leave(item, BINARY)
            else:
                self._leave(item, FULL)
        for task in again + new:
            if self._read(task):
                gone.discard(task.item.path)
        for path in gone:
            self._store.forget_text(path)

    def notes(self) -> List[str]:
        left = sum(self._left.values())
        if not left:
            return []
        reasons = ", ".join("%d %s" % (count, why) for why, count in sorted(self._left.items()))
        return ["The texts of %d of %d files are kept; left out are %s." % (self._asked - left, self._asked, reasons)]

    def _judge(self, item: File) -> Optional[_Task]:
        """What is to be kept of an item, as far as that can be told without reading it."""
        rule = self._rule_of(item)
        if rule is None:
            return None
        self._asked += 1
        path = ""
        if not item.checksum or not is_allowed(_algorithm(item)):
            why = UNHASHED
        elif (item.size or 0) > _limit(rule):
            why = LARGE
        else:
            path = self._access.find(item)
            why = MOVING if not path else "" if self._access.allows(path, item.mode or 0) else PRIVATE
        if why:
            self._leave(item, why)
            return None
        return _Task(item, rule, path)

    def _rule_of(self, item: File) -> Optional[FileRule]:
        """The first that asks for the item's text."""
        folder = item.path.rpartition("/")[0] + "/"
        if folder != self._near[0]:
            self._near = (folder, [rule for directory, rule in self._rules if folder.startswith(directory)])
        return next((rule for rule in self._near[1] if _asks(rule, item)), None)

    def _read(self, task: _Task) -> bool:
        """Whether there is something to keep."""
        item, rule, path = task
        if not self._take(rule, item.size or 0):
            self._leave(item, FULL)
            return False
        raw, mode = read_whole(path, _limit(rule))
        if constructor(_algorithm(item))(raw).hexdigest() != item.checksum:
            self._leave(item, MOVING)
            return False
        if not self._access.allows(path, mode):
            self._leave(item, PRIVATE)
            return False
        text = _text(raw)
        if text is None:
            self._leave(item, BINARY)
        else:
            self._tell(item, text)
        self._store.keep_text(item.path, item.checksum, text)
        return True

    def _take(self, rule: FileRule, size: int) -> bool:
        at_least = max(size, LEAST_BYTES)
        if size > self._room[rule] or at_least > self._room[None]:
            return False
        self._room[rule] -= size
        self._room[None] -= at_least
        return True

    def _leave(self, item: File, why: str) -> None:
        self._left[why] = self._left.get(why, 0) + 1
        self._explain(item, "the file is " + why)

    def _tell(self, item: File, text: str) -> None:
        change, known = self._changes.get(item.path), self._kept.get(item.path)
        if change is None or not isinstance(change.old, File):
            return
        if known is None or known.size is None or known.checksum != change.old.checksum:
            self._explain(item, "no text of before is kept")
        elif self._diffs_room <= 0:
            self._explain(item, "those of this run are more than %d bytes" % DIFFS_BYTES)
        else:
            diff = textdiff.unified(self._store.text(item.path), text)
            self._diffs_room -= len(diff)
            self.diffs[(item.path,)] = diff

    def _explain(self, item: File, why: str) -> None:
        if item.path in self._changes:
            self.diffs[(item.path,)] = "\\ No difference is shown: %s.\n" % why


def _asks(rule: FileRule, item: File) -> bool:
    return item.type == "file" and (rule.links == "follow" or not item.link_target) and reaches(rule, item)


def _algorithm(item: File) -> str:
    return "md5" if len(item.checksum) == _MD5 else "sha256"


def _limit(rule: FileRule) -> int:
    return min(FILE_BYTES, rule.max_file or FILE_BYTES)


def _text(raw: bytes) -> Optional[str]:
    try:
        return None if b"\0" in raw else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


class _Access:
    """Where files really are, and whether everybody may read them there."""

    def __init__(self, listed: Sequence[str]) -> None:
        self._listed = [pattern.split("/") for pattern in listed]
        self._mounts = Mounts.read()
        self._real: Dict[str, str] = {}  # folder -> the same without links; empty where that cannot be told
        self._open: Dict[str, bool] = {}  # real folder -> everybody may go through it

    def find(self, item: File) -> str:
        """The real path; empty where it is out of reach."""
        folder, _slash, name = to_name(item.path).rpartition("/")
        try:
            if folder not in self._real:
                self._real[folder] = ""
                self._real[folder] = self._mounts.resolve(folder or "/")
            real = self._real[folder]
            if not real or not item.link_target:
                return real and real.rstrip("/") + "/" + name
            return self._mounts.resolve(to_name(item.link_target), real)
        except (OSError, Barred):
            return ""

    def allows(self, path: str, mode: int) -> bool:
        if mode & 0o004 and self._is_open(os.path.dirname(path)):
            return True
        names = to_text(path).split("/")
        return any(len(names) == len(pattern) and all(map(fnmatchcase, names, pattern)) for pattern in self._listed)

    def _is_open(self, folder: str) -> bool:
        path: List[str] = []
        while folder not in self._open and folder != "/":
            path.append(folder)
            folder = os.path.dirname(folder)
        verdict = self._open.get(folder, True)
        for step in reversed(path):
            try:
                verdict = verdict and bool(os.lstat(step).st_mode & 0o001)
            except OSError:
                verdict = False
            self._open[step] = verdict
        return verdict
