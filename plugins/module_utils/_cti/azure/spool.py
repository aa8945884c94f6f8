# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The texts that wait for their upload, in a database of their own in the state directory of the agent.

A text is here before the record that has its link is stored, and leaves when the blob is there, so nothing is lost by a crash.
"""

import os
import sqlite3
from types import TracebackType
from typing import Iterable, Iterator, List, NamedTuple, Optional, Tuple, Type

from ..errors import StateError
from ..kinds.files.budget import Share
from ..state.packing import unpack
from ..text import plural

FILE = "uploads.db"
MAX_BYTES = 32 << 20  # of texts in folders of root, and as many in those of all others
LEAST_BYTES = 1 << 10  # that a text counts for, which limits their number
LOCK_SECONDS = 30.0
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, link TEXT NOT NULL UNIQUE, name TEXT NOT NULL, endpoint TEXT NOT NULL,"
    " identity TEXT NOT NULL, computer TEXT NOT NULL, machine TEXT NOT NULL, path BLOB NOT NULL, checksum TEXT NOT NULL,"
    " owner TEXT NOT NULL, size INTEGER NOT NULL, text BLOB NOT NULL)"
)


class Waiting(NamedTuple):
    """A text that waits."""

    link: str  # the URL of its blob
    name: str  # of the blob
    endpoint: str  # of the storage account
    identity: str  # that the rule named for it; empty: the system-assigned one
    computer: str
    machine: str  # SourceComputerId
    path: bytes
    checksum: str  # of the content, as the record has it
    owner: str  # of the folder, see owners.py
    size: int
    text: bytes  # see content()

    def content(self) -> bytes:
        """The very bytes that the checksum is of. Raises ValueError."""
        (text,) = unpack(self.text)
        if not isinstance(text, str):
            raise ValueError("not a text")
        return text.encode("utf-8")


class Spool:
    """The database at `path`, as a context manager. Raises StateError; one that is corrupt is moved aside, and `note` says so."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.note = ""
        self._db: Optional[sqlite3.Connection] = None

    def __enter__(self) -> "Spool":
        try:
            self._db = self._open()
        except sqlite3.Error as error:
            self._failed(error)
            self._db = self._open()
        return self

    def __exit__(
        self, _kind: Optional[Type[BaseException]], error: Optional[BaseException], _trace: Optional[TracebackType]
    ) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        if isinstance(error, sqlite3.Error):
            self._failed(error)
            raise StateError(self.note) from error

    def _open(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise StateError("Cannot open '%s' (%s)." % (self.path, error.strerror)) from error
        db = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute(_SCHEMA)
            db.execute("SELECT id, size, owner FROM waiting LIMIT 1")
        except BaseException:
            db.close()
            raise
        return db

    def _failed(self, error: sqlite3.Error) -> None:
        """Move a corrupt database aside. Raises StateError for one that is only not usable now."""
        reason = str(error)
        if isinstance(error, sqlite3.OperationalError) and "no such column" not in reason:
            remedy = "Free some space on its file system, and check who uses the file."
            raise StateError("Cannot use '%s' (%s). %s" % (self.path, reason, remedy)) from error
        aside = self.path + ".damaged"
        try:
            os.replace(self.path, aside)
            if os.path.exists(self.path + "-journal"):
                os.replace(self.path + "-journal", aside + "-journal")
        except OSError as failure:
            raise StateError("Cannot move '%s' aside (%s)." % (self.path, failure.strerror)) from error
        self.note = (
            "'%s' is corrupt (%s) and was moved to '%s'. The contents of files that waited in it are not uploaded."
            % (self.path, reason, aside)
        )

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StateError("'%s' is not open." % self.path)
        return self._db

    def add(self, texts: Iterable[Waiting]) -> Tuple[List[Waiting], int]:
        """Put texts into the database, in one transaction. Returns those that are in it, without their content, and the number of those
        for which there is no space: no user takes that of the others."""
        db = self._connection
        share = Share(MAX_BYTES)
        accepted: List[Waiting] = []
        refused = 0
        db.execute("BEGIN IMMEDIATE")
        try:
            for owner, used in db.execute(
                "SELECT owner, sum(max(size, ?)) FROM waiting GROUP BY owner", (LEAST_BYTES,)
            ):
                share.spend(owner, used)
            for text in texts:
                if not share.take(text.owner, max(text.size, LEAST_BYTES)):
                    refused += 1
                    continue
                marks = ", ".join("?" * len(text))
                db.execute("INSERT OR IGNORE INTO waiting VALUES (NULL, %s)" % marks, text)
                accepted.append(text._replace(text=b""))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return accepted, refused

    def texts(self) -> Iterator[Tuple[int, Waiting]]:
        """Each text with its number, the oldest first, one in memory at a time."""
        last = 0
        while True:
            rows = self._connection.execute(
                "SELECT * FROM waiting WHERE id > ? ORDER BY id LIMIT 1", (last,)
            ).fetchall()
            if not rows:
                return
            last, *values = rows[0]
            yield last, Waiting(*values)

    def remove(self, number: int) -> None:
        self._connection.execute("DELETE FROM waiting WHERE id = ?", (number,))

    def newest(self) -> int:
        """The number of the text that was added last; 0 if none waits."""
        return int(self._connection.execute("SELECT coalesce(max(id), 0) FROM waiting").fetchone()[0])

    def count(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM waiting").fetchone()[0])


def discard(folder: str, why: str) -> List[str]:
    """Remove the database in a state directory, also one that was moved aside. `why`: for the sentence that is returned if texts waited in it."""
    waiting = 0
    try:
        with Spool(os.path.join(folder, FILE)) as spool:
            waiting = spool.count()
    except StateError:  # is removed as well
        pass
    for name in sorted(os.listdir(folder), reverse=True):  # a journal before its database, which must not find it
        if name.startswith(FILE):
            os.unlink(os.path.join(folder, name))
    if not waiting:
        return []
    return ["The contents of %s that waited for their upload are discarded: %s." % (plural(waiting, "file"), why)]
