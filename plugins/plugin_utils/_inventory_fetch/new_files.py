# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of one folder that are written row by row, and replace those that are there when all of them are complete."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from typing import Any, BinaryIO, NamedTuple

from ...module_utils._cti.text import calm_json
from ...module_utils._cti.tracking.report import text_pieces

MAX_DIFF = 8 << 20  # bytes of a file that a difference shows


class _New(NamedTuple):
    temporary: str  # empty: in check mode, nothing is written
    digest: str
    rows: int
    shown: bytes | None  # for a difference


class NewFiles:
    """A context, at whose end the files that were not `put` are gone. Raises OSError, and what the rows raise."""

    def __init__(self, folder: str, check_mode: bool, diff: bool) -> None:
        self._folder = folder
        self._check_mode = check_mode
        self._diff = diff
        self._new: dict[str, _New] = {}
        self._temporaries: list[str] = []

    def __enter__(self) -> NewFiles:
        return self

    def __exit__(self, *_error: Any) -> None:
        for temporary in self._temporaries:
            try:
                os.unlink(temporary)
            except FileNotFoundError:
                pass

    def write(self, name: str, rows: Iterable[dict[str, Any]]) -> int:
        """Write a file as it will be; returns the number of its rows."""
        if self._check_mode:
            self._new[name] = self._write("", None, rows)
        else:
            os.makedirs(self._folder, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix="." + name)
            self._temporaries.append(temporary)
            with os.fdopen(descriptor, "wb") as file:
                self._new[name] = self._write(temporary, file, rows)
                file.flush()
                os.fsync(descriptor)
        return self._new[name].rows

    def _write(self, temporary: str, file: BinaryIO | None, rows: Iterable[dict[str, Any]]) -> _New:
        digest, pieces, size = hashlib.sha256(), 0, 0
        kept: list[bytes] = []
        for piece in text_pieces(rows):  # one for each row, and the end
            raw = piece.encode("utf-8")
            digest.update(raw)
            if file is not None:
                file.write(raw)
            pieces += 1
            size += len(raw)
            if self._diff and size <= MAX_DIFF:
                kept.append(raw)
        shown = None if not self._diff else b"".join(kept) if size <= MAX_DIFF else _too_large(size)
        return _New(temporary, digest.hexdigest(), pieces - 1, shown)

    def put(self, name: str, known: str | None) -> dict[str, str] | None:
        """Replace the file by the new one, unless it has the same content, whose SHA-256 is `known`: then None.

        Returns the difference as Ansible shows it, empty where it is not asked for.
        """
        new = self._new[name]
        if new.digest == known:
            return None
        path = os.path.join(self._folder, name)
        diff = {}
        if new.shown is not None:
            before = _read(path)
            diff = {
                "before_header": path,
                "after_header": path,
                "before": calm_json(before.decode("utf-8", "replace")),
                "after": new.shown.decode("utf-8"),
            }
        if new.temporary:
            os.replace(new.temporary, path)
        return diff


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
