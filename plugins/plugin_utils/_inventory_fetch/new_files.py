# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of one folder that are written row by row, and replace those that are there when all of them are complete."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ...module_utils._cti import replace
from ...module_utils._cti.text import calm_json
from ...module_utils._cti.tracking.report import text_pieces

MAX_DIFF = 8 << 20  # bytes of a file that a difference shows
OLD_SECONDS = 86400.0  # of a file that nobody writes any more
_TEMPORARY = re.compile(r"\.\w+\.json\.[0-9a-f]{32}\Z", re.ASCII).match


class _New:
    """The content of a file as it is written."""

    def __init__(self, temporary: str, diff: bool) -> None:
        self.temporary = temporary  # empty: in check mode, nothing is written
        self.rows = 0
        self._digest = hashlib.sha256()
        self._size = 0
        self._diff = diff
        self._kept: list[bytes] = []

    def pieces(self, rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
        for number, piece in enumerate(text_pieces(rows)):  # one for each row, and the end
            self.rows = number
            raw = piece.encode("utf-8")
            self._digest.update(raw)
            self._size += len(raw)
            if self._diff and self._size <= MAX_DIFF:
                self._kept.append(raw)
            yield raw

    def digest(self) -> str:
        return self._digest.hexdigest()

    def shown(self) -> bytes:
        """The content, for a difference."""
        return b"".join(self._kept) if self._size <= MAX_DIFF else _too_large(self._size)


class NewFiles:
    """A context, at whose end the files that were not `put` are gone, and those that a killed run left. Raises OSError, and what the
    rows raise."""

    def __init__(self, folder: str, check_mode: bool, diff: bool) -> None:
        self._folder = folder
        self._check_mode = check_mode
        self._diff = diff
        self._new: dict[str, _New] = {}

    def __enter__(self) -> NewFiles:
        return self

    def __exit__(self, *_error: Any) -> None:
        for new in self._new.values():
            if new.temporary:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(new.temporary)
        if not self._check_mode:
            with contextlib.suppress(OSError):  # they do no harm
                _remove_old(self._folder)

    def write(self, name: str, rows: Iterable[dict[str, Any]]) -> int:
        """Write a file as it will be; returns the number of its rows."""
        if self._check_mode:
            new = _New("", self._diff)
            for _piece in new.pieces(rows):
                pass
        else:
            os.makedirs(self._folder, exist_ok=True)
            new = _New(os.path.join(self._folder, f".{name}.{uuid.uuid4().hex}"), self._diff)
            replace.write(new.temporary, new.pieces(rows))
        self._new[name] = new
        return new.rows

    def digest(self, name: str) -> str:
        """The SHA-256 of a file that was written, in hexadecimal."""
        return self._new[name].digest()

    def put(self, name: str, known: str | None) -> dict[str, str] | None:
        """Replace the file by the new one, unless it has the same content, whose SHA-256 is `known`: then None.

        Returns the difference as Ansible shows it, empty where it is not asked for.
        """
        new = self._new[name]
        if new.digest() == known:
            return None
        diff = self._difference(name, new.shown)
        if new.temporary:
            replace.put(new.temporary, os.path.join(self._folder, name))
        return diff

    def remove(self, name: str) -> dict[str, str]:
        """Remove a file. Returns the difference, as put() does."""
        diff = self._difference(name, bytes)
        if not self._check_mode:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._folder, name))
        return diff

    def _difference(self, name: str, after: Callable[[], bytes]) -> dict[str, str]:
        if not self._diff:
            return {}
        path = os.path.join(self._folder, name)
        return {
            "before_header": path,
            "after_header": path,
            "before": calm_json(_read(path).decode("utf-8", "replace")),
            "after": after().decode("utf-8"),
        }


def _remove_old(folder: str) -> None:
    """Remove what a run of this user that was killed left in the folder. Raises OSError."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY(entry.name):
                status = entry.stat(follow_symlinks=False)
                ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
                if ours and time.time() - status.st_mtime > OLD_SECONDS:
                    os.unlink(entry.path)


def sha256(path: str) -> str | None:
    """That of a file's content, in hexadecimal; None where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_DIFF + 1)
            return content if len(content) <= MAX_DIFF else _too_large(os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        return b""


def _too_large(size: int) -> bytes:
    return b"(%d bytes, of which no difference is shown)\n" % size
