# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""changetracking.db: what the last run saw, one row per part.

One run is one transaction: either all of what a run saw is kept, or the state before it stays as it was
and the next run finds the same changes again. A part whose signature is unchanged costs neither reading nor writing.
"""

import json
import os
import sqlite3
import stat
import zlib
from types import TracebackType
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Type

from .errors import StateError
from .model import Item, Known
from .records import Kind

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE part (
    kind TEXT NOT NULL, name BLOB NOT NULL, signature TEXT, digest TEXT NOT NULL, count INTEGER NOT NULL, items BLOB NOT NULL,
    PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE run (kind TEXT PRIMARY KEY, collected_at INTEGER NOT NULL, scope TEXT NOT NULL, unseen TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
LOCK_SECONDS = 30
MAX_PART_BYTES = 512 << 20  # of JSON, once unpacked


class StoredPart(NamedTuple):
    signature: Optional[str]
    digest: str
    count: int  # type: ignore[assignment]  # nobody counts the fields of this tuple


class Run(NamedTuple):
    """One kind's last run."""

    collected_at: int  # unix seconds
    scope: List[Any]  # what was to be collected
    unseen: List[str]  # what was out of sight


class Store:
    """The state database at `path`; use it as a context manager, which commits on success and rolls back on an exception.

    Read-only, a missing file is an empty state and nothing is created. Raises StateError.
    """

    def __init__(self, path: str, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._db: Optional[sqlite3.Connection] = None

    def __enter__(self) -> "Store":
        try:
            if self._read_only:
                self._open_read_only()
            else:
                self._open()
        except (OSError, sqlite3.Error) as error:
            self._close()
            raise self._error(error) from error
        except StateError:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            if self._db is not None and not self._read_only:
                self._db.execute("ROLLBACK" if error else "COMMIT")
        except sqlite3.Error as failure:
            if error is None:
                raise self._error(failure) from failure
        finally:
            self._close()
        if isinstance(error, sqlite3.Error):
            raise self._error(error) from error

    def last_run(self, kind: Kind) -> Optional[Run]:
        """None before the first run of this kind."""
        for row in self._query("SELECT collected_at, scope, unseen FROM run WHERE kind = ?", kind.name):
            return Run(row[0], self._json(row[1]), self._json(row[2]))
        return None

    def known(self, kind: Kind) -> "StoredParts":
        rows = self._query("SELECT name, signature, digest, count FROM part WHERE kind = ?", kind.name)
        return StoredParts(self, kind, {os.fsdecode(row[0]): StoredPart(*row[1:]) for row in rows})

    def items(self, kind: Kind, part: str) -> List[Item]:
        for (packed,) in self._query(
            "SELECT items FROM part WHERE kind = ? AND name = ?", kind.name, os.fsencode(part)
        ):
            try:
                return [kind.item(*fields) for fields in self._json(self._unpack(packed))]
            except TypeError as error:
                raise self._error(error) from error
        return []

    def put(self, kind: Kind, part: str, signature: Optional[str], digest: str, items: Sequence[Item]) -> None:
        packed = zlib.compress(json.dumps(items, separators=(",", ":")).encode("ascii"), 1)
        self._write(
            "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)",
            kind.name, os.fsencode(part), signature, digest, len(items), packed,
        )  # fmt: skip

    def drop(self, kind: Kind, part: str) -> None:
        self._write("DELETE FROM part WHERE kind = ? AND name = ?", kind.name, os.fsencode(part))

    def finish(self, kind: Kind, run: Run) -> None:
        self._write(
            "INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?)",
            kind.name, run.collected_at, json.dumps(run.scope), json.dumps(run.unseen),
        )  # fmt: skip

    def _open(self) -> None:
        folder = os.path.dirname(os.path.abspath(self.path))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._check_owner(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        db = self._connect("rw")
        db.execute("BEGIN IMMEDIATE")
        if self._version(db) == 0:
            for statement in SCHEMA.split(";"):
                db.execute(statement)

    def _open_read_only(self) -> None:
        try:
            self._check_owner(os.lstat(self.path))
        except FileNotFoundError:
            return
        if self._version(self._connect("ro")) == 0:
            self._close()

    def _connect(self, mode: str) -> sqlite3.Connection:
        from urllib.parse import quote

        uri = "file:%s?mode=%s" % (quote(os.path.abspath(self.path)), mode)
        self._db = sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None)
        self._db.execute("PRAGMA trusted_schema = OFF")
        return self._db

    def _check_owner(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise StateError("%s is not a regular file; give the path of a state database." % self.path)
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise StateError(
                "%s can be written by others than the user who runs this; restrict it (chown, chmod 600) or move it away."
                % self.path
            )

    def _version(self, db: sqlite3.Connection) -> int:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise StateError(
                "%s was written by a newer version of this collection (format %d, this one reads up to %d); upgrade the collection here."
                % (self.path, version, SCHEMA_VERSION)
            )
        if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StateError("%s is an SQLite database of something else; give another path for the state." % self.path)
        return version

    def _query(self, statement: str, *values: Any) -> List[Any]:
        if self._db is None:
            return []
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _write(self, statement: str, *values: Any) -> None:
        if self._db is None or self._read_only:
            return
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _unpack(self, packed: bytes) -> str:
        try:
            inflate = zlib.decompressobj()
            raw = inflate.decompress(packed, MAX_PART_BYTES)
            if not inflate.eof:
                raise ValueError("longer than %d bytes, or cut off" % MAX_PART_BYTES)
            return raw.decode("ascii")
        except (zlib.error, ValueError, TypeError) as error:
            raise self._error(error) from error

    def _json(self, text: str) -> List[Any]:
        try:
            value = json.loads(text)
            if not isinstance(value, list):
                raise ValueError("not a list")
            return value
        except (ValueError, TypeError) as error:
            raise self._error(error) from error

    def _error(self, error: BaseException) -> StateError:
        reason = str(error)
        if isinstance(error, OSError):
            return StateError("%s cannot be opened (%s); give a path the user can write." % (self.path, error.strerror))
        if "locked" in reason:
            return StateError(
                "%s is in use by another run for more than %d s; run again when it is done." % (self.path, LOCK_SECONDS)
            )
        if "full" in reason or "disk I/O" in reason:
            return StateError(
                "%s could not be written (%s); free some space and run again: the state of the run before is kept."
                % (self.path, reason)
            )
        if "unable to open" in reason or "readonly" in reason:
            return StateError(
                "%s or its folder cannot be written (%s); give a path the user can write." % (self.path, reason)
            )
        return StateError(
            "%s is damaged (%s); move it away: the next run is then a new baseline, and what changed since the last one cannot be told."
            % (self.path, reason)
        )

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


class StoredParts(Known):
    """The parts of one kind: how each looked, held in memory; its items, read when asked for."""

    def __init__(self, store: Store, kind: Kind, parts: Dict[str, StoredPart]) -> None:
        self.parts = parts
        self._store = store
        self._kind = kind

    def signature(self, part: str) -> Optional[str]:
        return self.parts[part].signature if part in self.parts else None

    def count(self, part: str) -> int:
        return self.parts[part].count if part in self.parts else 0

    def items(self, part: str) -> List[Item]:
        return self._store.items(self._kind, part) if part in self.parts else []
