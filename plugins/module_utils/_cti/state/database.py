# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Opens the state database, changetracking.db, safely, and explains each failure in one sentence."""

import contextlib
import os
import sqlite3
import stat
from types import TracebackType
from typing import Any, Iterator, List, Optional, Tuple, Type

from .. import folders
from ..errors import CtiError, RowDamaged, StateDamaged, StateError, StateTooNew
from .packing import json_list, unpack

# One script a version: a database of version n is brought up to date by those from n on.
SCHEMA = (
    """
CREATE TABLE part (
    kind TEXT NOT NULL, name BLOB NOT NULL, signature TEXT, digest TEXT NOT NULL, count INTEGER NOT NULL, items BLOB NOT NULL,
    PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE run (kind TEXT PRIMARY KEY, collected_at INTEGER NOT NULL, scope TEXT NOT NULL, unseen TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
""",
    """
CREATE TABLE outcome (kind TEXT PRIMARY KEY, generation INTEGER NOT NULL, sources TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE inventory (kind TEXT PRIMARY KEY, queued_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, kind TEXT NOT NULL, created INTEGER NOT NULL,
    count INTEGER NOT NULL, records BLOB NOT NULL);
CREATE TABLE history (id INTEGER PRIMARY KEY AUTOINCREMENT, records BLOB NOT NULL);
CREATE TABLE content (path BLOB PRIMARY KEY, checksum TEXT NOT NULL, size INTEGER, text BLOB);
PRAGMA user_version = 2;
""",
    """
CREATE TABLE state (
    id TEXT NOT NULL, computer TEXT, vm TEXT, last INTEGER NOT NULL, mark TEXT NOT NULL, clock INTEGER NOT NULL,
    seen_at INTEGER NOT NULL, dropped_at INTEGER NOT NULL);
INSERT INTO state VALUES (lower(hex(randomblob(16))), NULL, NULL, 0, '', 0, 0, 0);
ALTER TABLE history RENAME TO history_2;
CREATE TABLE history (
    last INTEGER PRIMARY KEY, count INTEGER NOT NULL, mark TEXT NOT NULL, stored_at INTEGER NOT NULL, clock INTEGER NOT NULL,
    total INTEGER NOT NULL, records BLOB NOT NULL);
CREATE TABLE set_aside (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL, content BLOB);
PRAGMA user_version = 3;
""",
    """
ALTER TABLE history RENAME TO history_3;
CREATE TABLE history (
    last INTEGER PRIMARY KEY, count INTEGER NOT NULL, mark TEXT NOT NULL, stored_at INTEGER NOT NULL, clock INTEGER NOT NULL,
    total INTEGER NOT NULL, owner TEXT NOT NULL, records BLOB NOT NULL);
INSERT INTO history SELECT last, count, mark, stored_at, clock, total, '', records FROM history_3;
DROP TABLE history_3;
PRAGMA user_version = 4;
""",
)
LOCK_SECONDS = 30


def _quote(path: str) -> str:
    """A path in a URI, as https://sqlite.org/uri.html has it. urllib.parse takes longer to import than a small run."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


class Database:
    """The state database at `path`, as a context manager. Raises StateError.

    `read_only`: a missing file is an empty state, and nothing is created.
    `owner`: a uid that may own the file, in addition to root and the current user. The content of such a file is checked before
    it is read, and the time to read it is limited.
    `leave_no_files`: do not let SQLite create files next to the database, as it otherwise does, and leaves, where no agent runs. The
    content is checked and the time limited as above. For read-only use, in a process without another connection to the file and without
    threads: root is the owner of the file for a moment.
    """

    def __init__(
        self, path: str, read_only: bool = False, owner: Optional[int] = None, leave_no_files: bool = False
    ) -> None:
        self.path = path
        self._read_only = read_only
        self._owners = (0, os.geteuid(), owner)
        self._leave_no_files = leave_no_files
        self._at_rest = False
        self._db: Optional[sqlite3.Connection] = None
        self._version = 0
        self._foreign = False  # somebody else may write it
        self._file = (0, 0)  # device and inode of what was opened
        self._uid = 0  # its owner

    def __enter__(self) -> Any:
        try:
            if self._find():
                db = self._connect()
                if not self._read_only and self._version < len(SCHEMA):
                    self._bring_up_to_date(db)
        except (OSError, sqlite3.Error, ValueError, MemoryError) as error:
            self._close()
            raise self._error(error) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._close()
        if isinstance(error, sqlite3.Error):
            raise self._error(error) from error
        if self._foreign and isinstance(error, Exception) and not isinstance(error, CtiError):
            raise self._error(ValueError(f"it contains values that make no sense: {error}")) from error

    def check(self) -> None:
        """Read the whole database. Raises StateError where it is damaged."""
        for (found,) in self._query("PRAGMA quick_check(1)"):
            if found != "ok":
                raise self._error(ValueError(found.splitlines()[-1]))

    def enable_wal(self) -> None:
        """Let others read while a run writes, from now on."""
        from ..sqlite_time import enable_wal  # for the agent only

        if self._db is not None:
            try:
                enable_wal(self._db, LOCK_SECONDS)
            except sqlite3.Error as error:
                raise self._error(error) from error

    def hold(self) -> None:
        """Let all that is read from now on be of this moment. Whoever writes waits for that, unless enable_wal() was called."""
        self._query("BEGIN")
        self._query("SELECT 1 FROM sqlite_master LIMIT 1")  # only a read begins the transaction

    def _find(self) -> bool:
        """Whether there is a file, after creating one unless read-only. It must not be opened and closed here: that would
        release the locks of all other connections of this process (fcntl(2))."""
        folder = os.path.dirname(os.path.abspath(self.path))
        try:
            self._check_folder(folder)
            self._file = self._check_files()
            return True
        except FileNotFoundError:
            if self._read_only:
                return False
        self._check_folder(folder, make=True)
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            pass
        self._file = self._check_files()
        return True

    def _check_folder(self, folder: str, make: bool = False) -> None:
        """Raise StateError where somebody else could replace the file, and so decide what root compares with and writes to."""
        try:
            folders.check(folder, self._owners, make)
        except folders.Controlled as error:
            raise StateError(
                f"The state '{self.path}' is in a folder controlled by others than the current user ({error.filename}). Give a path in a"
                " folder of the current user."
            ) from error

    def _check_files(self) -> Tuple[int, int]:
        """Check the database and what SQLite would use as its journal, from which it writes into the database."""
        status = os.lstat(self.path)
        found = self._check_file(status)
        for suffix in ("-journal", "-wal", "-shm"):
            try:
                self._check_file(os.lstat(self.path + suffix))
            except FileNotFoundError:
                pass
        # A reader that must leave no files is not held up by a damaged state of its own user either.
        self._uid = status.st_uid
        self._foreign = self._leave_no_files or self._uid not in (0, os.geteuid())
        return found

    @contextlib.contextmanager
    def _as_owner(self) -> Iterator[None]:
        """Let SQLite create files as the owner, where files cannot be avoided. Those that root creates are given to the owner a moment later, and
        until then an agent that runs as the owner cannot store its changes. Nothing may be imported meanwhile: the owner may not be
        allowed to read the program."""
        if not self._leave_no_files or os.geteuid() != 0 or self._uid == 0:
            yield
            return
        folder = os.path.dirname(os.path.abspath(self.path))
        try:
            with contextlib.suppress(OSError):  # a container without this capability
                os.seteuid(self._uid)
            if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                os.seteuid(0)
            yield
        finally:
            os.seteuid(0)

    def _check_file(self, status: os.stat_result) -> Tuple[int, int]:
        if not stat.S_ISREG(status.st_mode):
            raise StateError(f"The state '{self.path}' is not a regular file. Give the path of a state database.")
        if status.st_uid not in self._owners or status.st_mode & 0o022:
            raise StateError(
                f"The state '{self.path}' can be written by others than the current user. Restrict it (chown, chmod 600), or move it"
                " aside."
            )
        return status.st_dev, status.st_ino

    def _check_replaced(self) -> None:
        """Raise StateError where the file has lost its name: what is written to it would be lost."""
        try:
            now: Optional[Tuple[int, int]] = self._check_file(os.lstat(self.path))
        except FileNotFoundError:
            now = None
        if now != self._file:
            raise StateError(f"The state '{self.path}' was replaced or removed during the run. Run again.")

    def _connect(self) -> sqlite3.Connection:
        self._at_rest = self._leave_no_files and self._is_at_rest()
        mode = "ro&immutable=1" if self._at_rest else "ro" if self._read_only else "rw"
        uri = "file://%s?mode=%s" % (_quote(os.path.abspath(self.path)), mode)
        if self._foreign:
            from .. import untrusted_sqlite  # not in memory unless it is needed
        with self._as_owner():
            self._db = db = sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None)
            self._check_replaced()
            if self._foreign:
                untrusted_sqlite.restrict(db)
            self._version = self._check_version(db)  # the first read: SQLite creates its files now
        if self._foreign:
            untrusted_sqlite.check_state(db, SCHEMA)
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA synchronous = FULL")
        return db

    def _is_at_rest(self) -> bool:
        """Whether nobody has the database open; only one with a write-ahead log shows that."""
        with open(self.path, "rb", opener=folders.opener(follow=False)) as file:
            header = file.read(20)
        return header[18:20] == b"\2\2" and not os.path.exists(self.path + "-wal")

    def _has_header(self) -> bool:
        """Whether the file starts like an SQLite database; otherwise it never was one."""
        try:
            with open(self.path, "rb", opener=folders.opener(follow=False)) as file:
                return file.read(16) == b"SQLite format 3\0"
        except OSError:
            return True

    def _check_version(self, db: sqlite3.Connection) -> int:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > len(SCHEMA):
            raise StateTooNew(
                f"The state '{self.path}' was written by a newer version of this collection (format {version}, this one reads up to"
                f" {len(SCHEMA)}). Upgrade the collection here."
            )
        if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StateError(
                f"'{self.path}' is an SQLite database, but not a state database. Give another path for the state."
            )
        return version

    def _bring_up_to_date(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        self._version = self._check_version(db)  # another process may have come first
        for script in SCHEMA[self._version :]:  # noqa: E203
            for statement in script.split(";"):
                db.execute(statement)
        if self._version == 2:
            from .numbering import number_history  # once in the life of an old database

            number_history(db)
        elif self._version < 2:  # no change was kept
            db.execute("DROP TABLE history_2")
        db.execute("COMMIT")
        self._version = len(SCHEMA)

    def _query(self, statement: str, *values: Any, since: int = 0) -> List[Any]:
        """The rows of a query; none where there is no database, or it has a version before `since`."""
        if self._db is None or self._version < since:
            return []
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _unpack(self, packed: bytes) -> List[Any]:
        try:
            return unpack(packed)
        except ValueError as error:
            raise self._row_error(error) from error

    def _json(self, text: str) -> List[Any]:
        try:
            return json_list(text)
        except ValueError as error:
            raise self._row_error(error) from error

    def _row_error(self, error: BaseException) -> RowDamaged:
        return RowDamaged(
            f"The state '{self.path}' is damaged in one row ({error}). The next run that stores its result moves the row aside."
        )

    def _error(self, error: BaseException) -> StateError:
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError):
            if self._read_only:
                remedy = folders.run_as(self.path)
            else:
                remedy = folders.remedy(error, self.path, "Give a path that the current user can write.", root=False)
            return StateError(f"Cannot open the state '{self.path}' ({error.strerror}). {remedy}")
        if "locked" in reason:
            return StateError(
                f"Another run has used the state '{self.path}' for more than {5 if self._foreign else LOCK_SECONDS} s. Run again when"
                " it has finished."
            )
        if "interrupted" in reason:
            return StateError(
                f"The state '{self.path}' takes too long to read, perhaps because somebody damaged it on purpose. Check who can write"
                " it."
            )
        if "full" in reason or "disk I/O" in reason:
            return StateError(
                f"Cannot write the state '{self.path}' ({reason}). Free some disk space and run again. The state of the last run is"
                " kept."
            )
        if "unable to open" in reason or "readonly" in reason:
            why, remedy = folders.takes_no_files(os.path.dirname(os.path.abspath(self.path)))
            if why:
                return StateError(f"Cannot write the state '{self.path}', because its file system {why}. {remedy}")
            return StateError(
                f"Cannot write the state '{self.path}' or its folder ({reason}). Give a path that the current user can write."
            )
        if self._at_rest and os.path.exists(self.path + "-wal"):
            return StateError(f"Another run wrote the state '{self.path}' while it was read. Try again.")
        if "not a database" in reason and not self._has_header():
            return StateDamaged(f"'{self.path}' is not a state database ({reason}). Give another path for the state.")
        return StateDamaged(
            f"The state '{self.path}' is corrupt ({reason}). Move it aside: the next run creates a new baseline, and changes since"
            " the last run are not reported."
        )

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
