# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What a run stores, next to the database until the run ends."""

import sqlite3
from typing import Any, Iterator, Sequence, Set, Tuple

_TABLES = (
    "CREATE TABLE part (kind, name, signature, digest, count, items, PRIMARY KEY (kind, name)) WITHOUT ROWID",
    "CREATE TABLE run (kind PRIMARY KEY, collected_at, scope, unseen, sources)",
    "CREATE TABLE renewed (stream, kind, queued_at)",
    "CREATE TABLE outbox (stream, kind, created, count, records)",
    "CREATE TABLE history (count, mark, owner, records)",
    "CREATE TABLE content (path, checksum, size, text)",
)
_DROPPED = "SELECT kind, name FROM part WHERE items IS NULL"
_NEXT_OUTCOME = (
    "INSERT OR REPLACE INTO outcome VALUES (?, 1 + coalesce((SELECT generation FROM outcome WHERE kind = ?), 0), ?)"
)
_PUT = "SELECT kind, name, signature, digest, count, items FROM part WHERE items IS NOT NULL"
_QUEUED = "SELECT stream, kind, created, count, records FROM outbox ORDER BY rowid"
_REMEMBERED = "SELECT count, mark, owner, records FROM history ORDER BY rowid"
_FORGOTTEN = "SELECT path FROM content WHERE checksum IS NULL"
_KEPT = "SELECT path, checksum, size, text FROM content WHERE checksum IS NOT NULL"
_TEXTS = "SELECT path, checksum, size, text FROM content WHERE size IS NOT NULL"


class Stage:
    """A database without a name: in memory while it is small, beyond that in a file that nobody else sees.

    Its tables have the columns of those in the state database. A part without items is dropped, a text without checksum
    is forgotten, and what is in `renewed` replaces an inventory that waits. Raises sqlite3.Error.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        for table in _TABLES:
            self._db.execute(table)

    def close(self) -> None:
        self._db.close()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._db.execute(statement, values)

    def parts(self, kind: str) -> Set[bytes]:
        """The names of the parts of a kind that are put or dropped."""
        return {name for (name,) in self.execute("SELECT name FROM part WHERE kind = ?", (kind,))}

    def kinds(self) -> Iterator[str]:
        """The kinds of which there is a run."""
        for (kind,) in self.execute("SELECT kind FROM run"):
            yield kind

    def history(self) -> Iterator[Tuple[int, str, str, bytes]]:
        """The rows that history.rows() made."""
        return iter(self.execute(_REMEMBERED))

    def texts(self) -> Iterator[Tuple[bytes, str, int, bytes]]:
        """Path, checksum, size and packed text of the files whose content is a text."""
        return iter(self.execute(_TEXTS))

    def copy(self, db: sqlite3.Connection) -> None:
        """Copy all but the history to the state database, in the caller's transaction."""
        db.executemany("DELETE FROM part WHERE kind = ? AND name = ?", self.execute(_DROPPED))
        db.executemany("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)", self.execute(_PUT))
        for kind, collected_at, scope, unseen, sources in self.execute("SELECT * FROM run"):
            db.execute("INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?)", (kind, collected_at, scope, unseen))
            db.execute(_NEXT_OUTCOME, (kind, kind, sources))
        for stream, kind, now in self.execute("SELECT stream, kind, queued_at FROM renewed"):
            db.execute("DELETE FROM outbox WHERE stream = ? AND kind = ?", (stream, kind))
            db.execute("INSERT OR REPLACE INTO inventory VALUES (?, ?)", (kind, now))
        db.executemany("INSERT INTO outbox VALUES (NULL, ?, ?, ?, ?, ?)", self.execute(_QUEUED))
        db.executemany("DELETE FROM content WHERE path = ?", self.execute(_FORGOTTEN))
        db.executemany("INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?)", self.execute(_KEPT))
