# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What the last run saw, one row per part, and what is to be told of it.

One run is one transaction: either all of what a run saw is kept, with the records that follow from it, or the state
before it stays as it was and the next run finds the same changes again. A run writes beside the database until it ends,
so that a long one does not hold up another kind's. A part whose signature is unchanged costs neither reading nor writing.
"""

import json
import os
import sqlite3
from types import TracebackType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Type

from .database import Database, pack
from .errors import StateError
from .model import Item, Known, Source
from .records import Kind, Row

HISTORY = 100  # times up to track.BATCH records


class StoredPart(NamedTuple):
    signature: Optional[str]
    digest: str
    count: int  # type: ignore[assignment]  # nobody counts the fields of this tuple


class Run(NamedTuple):
    """One kind's last run."""

    collected_at: int  # unix seconds
    scope: List[Any]  # what was to be collected
    unseen: List[str]  # what was out of sight


class Text(NamedTuple):
    """What is kept of a file's content."""

    checksum: str  # of the content, as the item has it
    size: Optional[int]  # bytes; None: it is no text, and nothing is kept but that


class Store(Database):
    """Commits when the context ends, and forgets what was put when that is by an exception. Raises StateError."""

    def __init__(
        self, path: str, read_only: bool = False, owner: Optional[int] = None, traceless: bool = False
    ) -> None:
        super().__init__(path, read_only, owner, traceless)
        self._stage: Optional[sqlite3.Connection] = None
        self._generations: Dict[str, int] = {}  # of the kinds compared with, as they were then

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            if error is None and self._stage is not None and self._db is not None:
                self._commit(self._db, self._stage)
        except sqlite3.Error as failure:
            raise self._error(failure) from failure
        finally:
            if self._stage is not None:
                self._stage.close()
                self._stage = None
            super().__exit__(kind, error, trace)

    # --- what was

    def last_run(self, kind: Kind) -> Optional[Run]:
        """None before the first run of this kind."""
        for row in self._query("SELECT collected_at, scope, unseen FROM run WHERE kind = ?", kind.name):
            return Run(row[0], self._json(row[1]), self._json(row[2]))
        return None

    def last_sources(self, kind: Kind) -> Dict[str, Source]:
        """How each source fared in that run."""
        for (text,) in self._query("SELECT sources FROM outcome WHERE kind = ?", kind.name, since=2):
            try:
                return {name: Source(*values) for name, *values in self._json(text)}
            except (TypeError, ValueError) as error:
                raise self._error(error) from error
        return {}

    def known(self, kind: Kind) -> "StoredParts":
        self._generations[kind.name] = self._generation(kind.name)
        rows = self._query("SELECT name, signature, digest, count FROM part WHERE kind = ?", kind.name)
        return StoredParts(self, kind, {os.fsdecode(row[0]): StoredPart(*row[1:]) for row in rows})

    def items(self, kind: Kind, part: str) -> List[Item]:
        rows = self._query("SELECT items FROM part WHERE kind = ? AND name = ?", kind.name, os.fsencode(part))
        return self._items(kind, rows[0][0]) if rows else []

    def all_items(self, kind: Kind) -> Iterator[Item]:
        """What is known once this run is committed, part by part."""
        if self._db is None:
            return
        staged: Dict[bytes, sqlite3.Connection] = {}
        if self._stage is not None:
            names = self._stage.execute("SELECT name FROM part WHERE kind = ?", (kind.name,))
            staged = {name: self._stage for (name,) in names}
        stored = {name for (name,) in self._query("SELECT name FROM part WHERE kind = ?", kind.name)}
        for name in sorted(stored.union(staged)):
            where = staged.get(name, self._db)
            for (packed,) in where.execute("SELECT items FROM part WHERE kind = ? AND name = ?", (kind.name, name)):
                yield from self._items(kind, packed) if packed is not None else ()

    def inventory_queued_at(self, kind: Kind) -> Optional[int]:
        """Unix seconds; None where the inventory of this kind never was."""
        rows = self._query("SELECT queued_at FROM inventory WHERE kind = ?", kind.name, since=2)
        return int(rows[0][0]) if rows else None

    def history(self) -> Iterator[Row]:
        """The latest change records, oldest first."""
        for (packed,) in self._query("SELECT records FROM history ORDER BY id", since=2):
            yield from self._unpack(packed)

    def texts(self) -> Dict[str, Text]:
        """Of the files, by path."""
        rows = self._query("SELECT path, checksum, size FROM content", since=2)
        return {os.fsdecode(row[0]): Text(*row[1:]) for row in rows}

    def text(self, path: str) -> str:
        """One of these that has a size."""
        for (packed,) in self._query("SELECT text FROM content WHERE path = ?", os.fsencode(path), since=2):
            for text in self._unpack(packed):
                return str(text)
        raise self._error(ValueError("a text is missing"))

    # --- what is

    def put(self, kind: Kind, part: str, signature: Optional[str], digest: str, items: Sequence[Item]) -> None:
        self._put(
            "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)",
            kind.name, os.fsencode(part), signature, digest, len(items), pack(items),
        )  # fmt: skip

    def drop(self, kind: Kind, part: str) -> None:
        self._put(
            "INSERT OR REPLACE INTO part VALUES (?, ?, NULL, NULL, NULL, NULL)", kind.name, os.fsencode(part)
        )  # fmt: skip

    def finish(self, kind: Kind, run: Run, sources: Mapping[str, Source]) -> None:
        self._put(
            "INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?, ?)",
            kind.name, run.collected_at, json.dumps(run.scope), json.dumps(run.unseen),
            json.dumps([[name, *source] for name, source in sources.items()]),
        )  # fmt: skip

    def queue(self, stream: str, kind: Kind, now: int, records: Sequence[Row]) -> None:
        """Put records into the outbox; `now` in unix seconds."""
        self._put("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", stream, kind.name, now, len(records), pack(records))

    def remember(self, records: Sequence[Row]) -> None:
        """Keep change records, whether or not they are to be handed over; the oldest go."""
        self._put("INSERT INTO history VALUES (?)", pack(records))

    def keep_text(self, path: str, checksum: str, text: Optional[str]) -> None:
        """None: the content with this checksum is no text."""
        size = None if text is None else len(text.encode("utf-8"))
        packed = None if text is None else pack([text])
        self._put("INSERT INTO content VALUES (?, ?, ?, ?)", os.fsencode(path), checksum, size, packed)

    def forget_text(self, path: str) -> None:
        self._put("INSERT INTO content VALUES (?, NULL, NULL, NULL)", os.fsencode(path))

    def forget_texts(self) -> None:
        """All of them, at once."""
        self._query("DELETE FROM content")

    def renew_inventory(self, stream: str, kind: Kind, now: int) -> None:
        """An inventory in the outbox that nobody has taken is superseded by the one that is queued from here on."""
        self._put("INSERT INTO renewed VALUES (?, ?, ?)", stream, kind.name, now)

    def _put(self, statement: str, *values: Any) -> None:
        if self._db is None or self._read_only:
            return
        try:
            if self._stage is None:
                self._stage = _stage()
            self._stage.execute(statement, values)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _commit(self, db: sqlite3.Connection, stage: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            runs = stage.execute("SELECT kind, collected_at, scope, unseen, sources FROM run").fetchall()
            for kind, *_values in runs:
                self._check_generation(kind)
            db.executemany("DELETE FROM part WHERE kind = ? AND name = ?", stage.execute(_DROPPED))
            db.executemany("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)", stage.execute(_PUT))
            for kind, collected_at, scope, unseen, sources in runs:
                db.execute("INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?)", (kind, collected_at, scope, unseen))
                following = self._generation(kind) + 1
                db.execute("INSERT OR REPLACE INTO outcome VALUES (?, ?, ?)", (kind, following, sources))
            for stream, kind, now in stage.execute("SELECT stream, kind, queued_at FROM renewed"):
                db.execute("DELETE FROM outbox WHERE stream = ? AND kind = ?", (stream, kind))
                db.execute("INSERT OR REPLACE INTO inventory VALUES (?, ?)", (kind, now))
            db.executemany("INSERT INTO outbox VALUES (NULL, ?, ?, ?, ?, ?)", stage.execute(_QUEUED))
            db.executemany("INSERT INTO history VALUES (NULL, ?)", stage.execute("SELECT records FROM history"))
            db.executemany("DELETE FROM content WHERE path = ?", stage.execute(_FORGOTTEN))
            db.executemany("INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?)", stage.execute(_KEPT))
            db.execute("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (HISTORY,))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # SQLite has ended it where the disk is full
                db.execute("ROLLBACK")
            raise

    def _generation(self, kind: str) -> int:
        rows = self._query("SELECT generation FROM outcome WHERE kind = ?", kind, since=2)
        return int(rows[0][0]) if rows else 0

    def _check_generation(self, kind: str) -> None:
        """Nothing may be stored on top of what was not compared with."""
        if self._generations.get(kind, self._generation(kind)) != self._generation(kind):
            raise StateError(
                "%s: another run stored what it saw of the %s while this one looked; run again, of this one nothing is kept."
                % (self.path, kind)
            )

    def _items(self, kind: Kind, packed: bytes) -> List[Item]:
        try:
            return [kind.item(*fields) for fields in self._unpack(packed)]
        except TypeError as error:
            raise self._error(error) from error


_DROPPED = "SELECT kind, name FROM part WHERE items IS NULL"
_PUT = "SELECT kind, name, signature, digest, count, items FROM part WHERE items IS NOT NULL"
_QUEUED = "SELECT stream, kind, created, count, records FROM outbox ORDER BY rowid"
_FORGOTTEN = "SELECT path FROM content WHERE checksum IS NULL"
_KEPT = "SELECT path, checksum, size, text FROM content WHERE checksum IS NOT NULL"


def _stage() -> sqlite3.Connection:
    """A database without a name: in memory while it is small, beyond that in a file that nobody else sees."""
    stage = sqlite3.connect("", isolation_level=None)
    for statement in (
        "PRAGMA journal_mode = OFF",
        "CREATE TABLE part (kind, name, signature, digest, count, items, PRIMARY KEY (kind, name)) WITHOUT ROWID",
        "CREATE TABLE run (kind PRIMARY KEY, collected_at, scope, unseen, sources)",
        "CREATE TABLE renewed (stream, kind, queued_at)",
        "CREATE TABLE outbox (stream, kind, created, count, records)",
        "CREATE TABLE history (records)",
        "CREATE TABLE content (path, checksum, size, text)",
    ):
        stage.execute(statement)
    return stage


class StoredParts(Known):
    """The parts of one kind: how each looked, held in memory; its items, read when asked for."""

    def __init__(self, store: Store, kind: Kind, parts: Dict[str, StoredPart]) -> None:
        self.parts = parts
        self._store = store
        self._kind = kind

    def names(self) -> Iterable[str]:
        return self.parts

    def signature(self, part: str) -> Optional[str]:
        return self.parts[part].signature if part in self.parts else None

    def count(self, part: str) -> int:
        return self.parts[part].count if part in self.parts else 0

    def items(self, part: str) -> List[Item]:
        return self._store.items(self._kind, part) if part in self.parts else []
