# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Keeps the texts of small tracked files from one run to the next, so that a change can be shown line by line.

A text is kept only where a rule has uploadContent, and only if everybody on the host may read the file or the operator has listed
it, and if the checksum that was recorded is that of this text.
"""

import os
from fnmatch import fnmatchcase
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..kinds.files.budget import Share
from ..kinds.files.file_rules import to_name, to_text
from ..kinds.files.hashing import LENGTHS, constructor, is_allowed
from ..kinds.files.kind import FILES, File
from ..kinds.files.mounts import Barred, Mounts
from ..kinds.files.opening import Paths, Step, close, reopen
from ..kinds.files.owners import ROOT, Owners
from ..kinds.files.scope import FileRule, parse_path, reaches
from ..kinds.files.statx import status_of
from ..state.store import Store, Text
from ..text import plural
from . import textdiff
from .diff import Change
from .snapshot import Snapshot

FILE_BYTES = 64 << 10
ALL_BYTES = 16 << 20
LEAST_BYTES = 1 << 10  # that a text counts for, so that ALL_BYTES limits their number as well
DIFFS_BYTES = 4 << 20  # of the differences that one run shows

# Why a text is not kept: for one file in its record, for their number in the log.
UNHASHED = "without a checksum"
LARGE = "larger than a text may be"
PRIVATE = "not readable by everybody and not listed in content_paths"
MOVING = "changed or out of reach when it was to be read"
BINARY = "not a UTF-8 text"
FULL = "beyond what is kept in all or of one owner"

_MAX_LINKERS = 1000  # owners remembered

_SHA256, _MD5 = LENGTHS["sha256"], LENGTHS["md5"]
Diffs = Dict[Tuple[str, ...], str]  # identity of a modified file -> how its text differs


def keep(snapshot: Snapshot, rules: Sequence[FileRule], listed: Sequence[str], store: Store) -> Tuple[Snapshot, Diffs]:
    """Put the texts of the files that a run saw into the store, to be committed with the run.

    `listed`: glob(7) patterns of real paths whose texts may be kept although not everybody may read them. Returns the snapshot
    with a note about the texts that are left out, and the differences of the modified files. Raises StateError and SourceFailed.
    """
    asking = [rule for rule in rules if rule.contents]
    if not asking:
        for path in store.texts():
            store.forget_text(path)
        return snapshot, {}
    keeper = _Keeper(snapshot, asking, listed, store)
    try:
        keeper.keep_texts(store.all_items(FILES))
    finally:
        keeper.close()
    return snapshot._replace(notes=snapshot.notes + keeper.notes()), keeper.diffs


class _Task(NamedTuple):
    item: File
    rule: FileRule
    owner: str  # of the folder, see owners.py


class _Keeper:
    def __init__(self, snapshot: Snapshot, rules: Sequence[FileRule], listed: Sequence[str], store: Store) -> None:
        self.diffs: Diffs = {}
        self._rules = [(parse_path(rule.path).directory.rstrip("/") + "/", rule) for rule in rules]
        self._cached_folder: Tuple[str, List[FileRule]] = ("", [])  # a folder, and the rules that may reach into it
        self._store = store
        self._kept = store.texts()
        self._access = _Access(listed)
        self._changes: Dict[str, Change] = {
            change.new.path: change
            for change in snapshot.changes
            if isinstance(change.new, File) and "FileContentChecksum" in change.fields
        }
        self._space = {rule: rule.max_all or 2 * ALL_BYTES for rule in rules}
        self._shares = {rule: Share(rule.max_all or ALL_BYTES) for rule in rules}
        self._share_of_all = Share(ALL_BYTES)
        self._diffs_share = Share(DIFFS_BYTES)
        self._asked = 0
        self._left_out: Dict[str, int] = {}

    def close(self) -> None:
        self._access.close()

    def keep_texts(self, items: Iterator[Any]) -> None:
        """Keep the texts of these items, and forget all others. Space goes first to texts that are still current, then to
        those of modified files, then to new ones."""
        forgotten = set(self._kept)
        modified: List[_Task] = []
        new: List[_Task] = []
        max_new = Share(ALL_BYTES // LEAST_BYTES)
        for item in items:
            task = self._judge(item)
            if task is None:
                continue
            known = self._kept.get(item.path)
            if known is None and max_new.take(task.owner):
                new.append(task)
            elif known is None:
                self._leave_out(item, FULL)
            elif known.checksum != item.checksum:
                modified.append(task)
            elif self._keep_current(task, known):
                forgotten.discard(item.path)
        for task in modified + new:
            if self._read(task):
                forgotten.discard(task.item.path)
        for path in forgotten:
            self._store.forget_text(path)

    def _keep_current(self, task: _Task, known: Text) -> bool:
        """Reserve space for the text that is kept, and is still that of the file; False where there is too little."""
        if not self._reserve(task, known.size or 0):
            self._leave_out(task.item, FULL)
            return False
        if known.size is None:
            self._leave_out(task.item, BINARY)
        return True

    def notes(self) -> List[str]:
        left_out = sum(self._left_out.values())
        if not left_out:
            return []
        reasons = ", ".join("%d %s" % (count, why) for why, count in sorted(self._left_out.items()))
        return [
            "The texts of %d of %s are kept; left out are %s."
            % (self._asked - left_out, plural(self._asked, "file"), reasons)
        ]

    def _judge(self, item: File) -> Optional[_Task]:
        """The task to keep an item's text; None where no rule asks for it, or the text is left out without reading the file."""
        rule = self._rule_of(item)
        if rule is None:
            return None
        self._asked += 1
        if not item.checksum or not is_allowed(_algorithm(item)):
            why = UNHASHED
        elif (item.size or 0) > _limit(rule):
            why = LARGE
        else:
            why = self._access.refusal(item)
        if why:
            self._leave_out(item, why)
            return None
        return _Task(item, rule, self._access.owner)

    def _rule_of(self, item: File) -> Optional[FileRule]:
        """The first rule that asks for the item's text."""
        folder = item.path.rpartition("/")[0] + "/"
        if folder != self._cached_folder[0]:
            self._cached_folder = (folder, [rule for directory, rule in self._rules if folder.startswith(directory)])
        return next((rule for rule in self._cached_folder[1] if asks(rule, item)), None)

    def _read(self, task: _Task) -> bool:
        """Read a file and keep its text, or that it has none; False where it is left out."""
        item, rule, _owner = task
        if not self._reserve(task, item.size or 0):
            self._leave_out(item, FULL)
            return False
        raw, why = self._access.read(item, _limit(rule))
        if not why and constructor(_algorithm(item))(raw).hexdigest() != item.checksum:
            why = MOVING
        if why:
            self._leave_out(item, why)
            return False
        text = _text(raw)
        if text is None:
            self._leave_out(item, BINARY)
        else:
            self._show_diff(task, text)
        self._store.keep_text(item.path, item.checksum, text)
        return True

    def _reserve(self, task: _Task, size: int) -> bool:
        """Reserve space for a text of so many bytes; False where the rule, or the owner of the folder, has too little left."""
        rule, owner = task.rule, task.owner
        if size > self._space[rule] or size > self._shares[rule].left(owner):
            return False
        if not self._share_of_all.take(owner, max(size, LEAST_BYTES)):
            return False
        self._space[rule] -= size
        self._shares[rule].spend(owner, size)
        return True

    def _leave_out(self, item: File, why: str) -> None:
        self._left_out[why] = self._left_out.get(why, 0) + 1
        self._explain(item, "the file is " + why)

    def _show_diff(self, task: _Task, text: str) -> None:
        item = task.item
        change, known = self._changes.get(item.path), self._kept.get(item.path)
        if change is None or not isinstance(change.old, File):
            return
        if known is None or known.size is None or known.checksum != change.old.checksum:
            self._explain(item, "no text of before is kept")
        elif not self._diffs_share.left(task.owner):
            self._explain(item, "this run shows no more differences of the same owner")
        else:
            diff = textdiff.unified(self._store.text(item.path), text)
            self._diffs_share.spend(task.owner, len(diff))
            self.diffs[(item.path,)] = diff

    def _explain(self, item: File, why: str) -> None:
        if item.path in self._changes:
            self.diffs[(item.path,)] = "\\ No difference is shown: %s.\n" % why


def asks(rule: FileRule, item: File) -> bool:
    """Whether a rule with contents asks for the text of an item."""
    return (
        item.type == "file" and (rule.links == "follow" or not item.link_target) and reaches(rule, item.path, item.type)
    )


def _algorithm(item: File) -> str:
    return "md5" if len(item.checksum) == _MD5 else "sha256"


def _limit(rule: FileRule) -> int:
    return min(FILE_BYTES, rule.max_file or FILE_BYTES)


def _text(raw: bytes) -> Optional[str]:
    try:
        return None if b"\0" in raw else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


class _TrackedFolder(NamedTuple):
    """A folder of tracked files."""

    path: str  # as the items name it
    real: str  # without links
    is_open: bool  # whether everybody may go to it
    owner: str  # see owners.py


class _Access:
    """Whether everybody may read a file, judged by the descriptors through which it is read."""

    def __init__(self, listed: Sequence[str]) -> None:
        self.owner = ""  # of the folder of the item that was asked for last, see owners.py
        self._listed = [pattern.split("/") for pattern in listed]
        self._paths = Paths(Mounts.read())
        self._owners = Owners()
        self._linkers: Dict[str, str] = {}  # folder above one behind a link -> its owner
        self._folder: Optional[_TrackedFolder] = None  # of the last item

    def close(self) -> None:
        self._paths.close()

    def refusal(self, item: File) -> str:
        """Why the text of a file must not be kept, judged by its folders and the mode that the scan saw; empty where it may."""
        path, _slash, name = to_name(item.path).rpartition("/")
        try:
            folder = self._enter(path)
            self.owner = folder.owner
            if item.link_target:
                steps = self._paths.walk(to_name(item.path))
                try:
                    return "" if self._allows(steps) else PRIVATE
                finally:
                    close(steps)
        except (OSError, Barred):
            return MOVING
        if folder.is_open and (item.mode or 0) & 0o004:
            return ""
        return "" if self._is_listed(folder.real.rstrip("/") + "/" + name) else PRIVATE

    def _enter(self, path: str) -> "_TrackedFolder":
        """The folder with this path; the one of the last item is not walked to again."""
        if self._folder is None or self._folder.path != path:
            steps = self._paths.walk(path or "/")
            try:
                owner = self._owner(path, steps[-1])
                self._folder = _TrackedFolder(path, steps[-1].real, _is_open(steps), owner)
            finally:
                close(steps)
        return self._folder

    def _owner(self, path: str, step: Step) -> str:
        """On whose account a folder counts: behind links, of whoever may write to the folder with the first that is not
        root's."""
        linker = ROOT
        if step.real != (path or "/"):
            above = path.rpartition("/")[0]
            if above not in self._linkers:
                found = self._paths.find(above or "/")
                try:
                    owner = self._owner(above, found)
                finally:
                    os.close(found.descriptor)
                if len(self._linkers) >= _MAX_LINKERS:
                    self._linkers.clear()
                self._linkers[above] = owner
            linker = self._linkers[above]
        return linker or self._owners.of_folder(os.fstat(step.descriptor))

    def read(self, item: File, limit: int) -> Tuple[bytes, str]:
        """The content, and why it must not be kept; one of the two is empty. The file and each folder of its path are checked before
        and after reading, and the file must be unchanged: what it held while a folder was closed is not public."""
        try:
            steps = self._paths.walk(to_name(item.path), follow=bool(item.link_target))
        except (OSError, Barred):
            return b"", MOVING
        try:
            before = status_of(steps[-1].descriptor, b"")
            if not self._allows(steps):
                return b"", PRIVATE
            with open(reopen(steps[-1].descriptor), "rb") as file:
                raw = file.read(limit + 1)
            if not self._allows(steps):
                return b"", PRIVATE
            still = before == status_of(steps[-1].descriptor, b"")
            return (raw, "") if still and len(raw) <= limit else (b"", MOVING)
        except OSError:
            return b"", MOVING
        finally:
            close(steps)

    def _allows(self, steps: Sequence[Step]) -> bool:
        is_open = _is_open(steps[:-1]) and bool(os.fstat(steps[-1].descriptor).st_mode & 0o004)
        return is_open or self._is_listed(steps[-1].real)

    def _is_listed(self, real: str) -> bool:
        names = to_text(real).split("/")
        return any(len(names) == len(pattern) and all(map(fnmatchcase, names, pattern)) for pattern in self._listed)


def _is_open(folders: Sequence[Step]) -> bool:
    """Whether everybody may go through all of these folders."""
    return all(os.fstat(folder.descriptor).st_mode & 0o001 for folder in folders)
