# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The fleet store in an SQLite file."""

import errno
import os
import sqlite3
import stat
import time
from typing import Any, Iterable, List, Optional, Sequence, Set
from urllib.parse import quote

from ..errors import SourceFailed
from ..kinds.registry import all_kinds
from ..sqlite_time import enable_wal, limit_time
from ..text import quoted
from . import schema, sqlite_schema
from .content import storable
from .errors import FleetError, FleetMissing, FleetRefused

LOCK_SECONDS = 60.0
POLL_SECONDS = 0.5
CACHE_KIB = 16384
CHECKPOINT_PAGES = 16384  # of 4 KiB in the write-ahead log; a page that many transactions change is then written once
# As ANALYZE would find them in a large store: rows, and rows for each value of the columns of an index, from the first column on. Without
# them, SQLite reads all changes for the query of a day.
_STATISTICS = (
    ("changes", "sqlite_autoindex_changes_1", "1000000 5 1"),
    ("changes", "changes_content", "1000000 20"),
    ("batches", "sqlite_autoindex_batches_1", "200000 40 1 1"),
    ("batches", "batches_TimeGenerated", "200000 2"),
    ("batches", "batches_machine_TimeGenerated", "200000 40 1"),
    ("contents", "sqlite_autoindex_contents_1", "50000 1"),
    ("items", "sqlite_autoindex_items_1", "50000 1"),
    *(("contents", "contents_%s" % kind.columns[0], "50000 10") for kind in all_kinds().values()),
    *(("items", "items_%s" % kind.columns[0], "50000 10") for kind in all_kinds().values()),
    ("moments", "sqlite_autoindex_moments_1", "50000 1"),
    ("set_items", "set_items", "20000 400 1"),
    ("set_items", "set_items_item_base", "20000 4 1"),
    ("host_items", "host_items", "100000 20 1"),
    ("host_items", "host_items_item_host", "100000 2 1"),
    ("inventories", "inventories", "15000 3 1"),
    ("inventories", "inventories_base_type", "15000 300 300"),
    ("inventories", "inventories_machine", "15000 3"),
    ("loose", "sqlite_autoindex_loose_1", "1000 50 10 1 1"),
    ("loose", "loose_host_type_row", "1000 50 20 1"),
    ("loose", "loose_item", "1000 2"),
    ("loose", "loose_machine", "1000 50"),
    ("hosts", "hosts_source", "5000 1"),
    ("hosts", "sqlite_autoindex_hosts_1", "5000 1 1 1"),
    ("machines", "sqlite_autoindex_machines_1", "5000 1"),
    ("machines", "machines_Computer", "5000 1"),
)
_TYPES = {"TEXT": "'text'", "INTEGER": "'integer'", "BLOB": "'blob'", "DOUBLE PRECISION": "'integer', 'real'"}


class Sqlite:
    """A connection. Raises FleetError."""

    words = schema.SQLITE

    def __init__(self, path: str, write: bool, lock_seconds: Optional[float] = None) -> None:
        self.name = path
        self._write = write
        seconds = LOCK_SECONDS if lock_seconds is None else lock_seconds
        try:
            real = _find(path, write)
            if os.path.islink(path):
                self.name = real  # next to which the files are that end in -wal and -shm
            uri = "file://%s?mode=%s" % (quote(os.fsencode(real)), "rw" if write else "ro")
            self._db = sqlite3.connect(uri, uri=True, timeout=seconds, isolation_level=None)
        except FileNotFoundError:
            raise FleetMissing(
                "There is no fleet store '%s'. Run the playbook changetracking.inventory.inventory first,"
                " give the path of its ct_dest or ct_store, or that of the database of the relay." % quoted(path)
            ) from None
        except (OSError, ValueError) as error:
            raise FleetError(
                "Cannot open the fleet store '%s' (%s). Correct this, or give another path (in the playbook: ct_store)."
                % (quoted(path), getattr(error, "strerror", None) or error)
            ) from error
        except sqlite3.Error as error:
            raise self._error(error) from error
        try:
            limit_time(self._db)  # an older SQLite reads sqlite_stat1 to prepare the first statement, whatever that is
            self.execute("PRAGMA trusted_schema = OFF")
            if write:
                # With a write-ahead log, readers and a writer do not wait for each other. Processes of different hosts cannot share one.
                if _is_on_network(real):
                    self.execute("PRAGMA journal_mode = DELETE")
                else:
                    enable_wal(self._db, seconds)
                self.execute("PRAGMA synchronous = FULL")
                self.execute("PRAGMA wal_autocheckpoint = %d" % CHECKPOINT_PAGES)
            self.execute("PRAGMA cache_size = -%d" % CACHE_KIB)
            self._db.set_progress_handler(None, 0)
        except sqlite3.Error as error:
            self.close()
            raise self._error(error) from error
        except FleetError:
            self.close()
            raise

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        try:
            return self._db.execute(sql, storable(parameters))
        except (sqlite3.Error, OverflowError) as error:
            raise self._error(error) from error

    def insert(self, table: str, columns: Iterable[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows of values as storable() returns them; one that is already there is left as it is."""
        names = [schema.column(name) for name in columns]
        sql = "INSERT OR IGNORE INTO %s (%s) VALUES (%s)" % (table, ", ".join(names), ", ".join("?" * len(names)))
        try:
            self._db.executemany(sql, rows)
        except (sqlite3.Error, OverflowError) as error:
            raise self._error(error) from error

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """An iterator over the rows."""
        return self.iterate(self.execute(sql, parameters))

    def iterate(self, cursor: Any) -> Any:
        """The rows of a cursor that execute() returned."""
        try:
            yield from cursor
        except sqlite3.Error as error:
            raise self._error(error) from error

    def begin(self, write: bool) -> None:
        self.execute("BEGIN IMMEDIATE" if write else "BEGIN")

    def commit(self, _counter: int = 0) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                pass  # SQLite has already rolled back

    def tables(self) -> Set[str]:
        return {name for (name,) in self.fetch("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}

    def columns(self, table: str) -> Set[str]:
        return {row[1].lower() for row in self.fetch("PRAGMA table_info(%s)" % table)}

    def foreign(self) -> List[sqlite_schema.Object]:
        """What the schema has that schema.py does not make so. To be called before a table or view is read."""
        rows = list(self.fetch(sqlite_schema.QUERY))
        return sqlite_schema.foreign(sqlite_schema.read(rows))

    def mistyped(self) -> str:
        """The column that has a value of another type than it should, as `TABLE.COLUMN`; empty: there is none."""
        for table in schema.tables(self.words):
            for row in list(self.fetch("PRAGMA table_info(%s)" % table)):
                name, declared = schema.column(row[1]), row[2]
                sql = "SELECT 1 FROM %s WHERE typeof(%s) NOT IN (%s, 'null') LIMIT 1" % (table, name, _TYPES[declared])
                if list(self.fetch(sql)):
                    return "%s.%s" % (table, row[1])
        return ""

    def created(self) -> None:
        """Called in the transaction that created the tables."""
        self.execute("ANALYZE")
        self.execute("DELETE FROM sqlite_stat1")
        for row in _STATISTICS:
            self.execute("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", row)

    def reload(self) -> None:
        """Called after the transaction that created the tables."""
        self.execute("ANALYZE sqlite_master")

    def wait(self, seconds: float) -> None:
        """Return when the counter may have grown, or after that time."""
        time.sleep(max(0.0, min(seconds, POLL_SECONDS)))

    def close(self) -> None:
        self._db.close()

    def _error(self, error: Exception) -> FleetError:
        """The error as a sentence. SQLite gives no code before Python 3.11, only a text."""
        text, name = str(error), quoted(self.name)
        if isinstance(error, OverflowError) or "too big" in text:
            return FleetRefused("A value is too large for the fleet store '%s' (%s)." % (name, text))
        if "locked" in text or "busy" in text:
            return FleetError(
                "The fleet store '%s' is in use by another process (%s). Run again when that has ended." % (name, text)
            )
        if "disk is full" in text:
            return FleetError("No space is left for the fleet store '%s'. Free some, and run again." % name)
        if "readonly" in text and not self._write:
            text = "SQLite must write a file next to it"  # the index of the write-ahead log
        if "must write" in text or "readonly" in text or "read-only" in text or "unable to open" in text:
            return FleetError(
                "The current user cannot %s the fleet store '%s' (%s). Change the permissions of the file and its folder, or give another path"
                " (in the playbook: ct_store)." % ("write" if self._write else "read", name, text)
            )
        if "malformed" in text or "not a database" in text or "corrupt" in text:
            return FleetError(
                "The fleet store '%s' is corrupt (%s). Move it aside, with the files of the same name that end in -wal and -shm: the next run"
                " creates a new one and gets all changes that the hosts still keep." % (name, text)
            )
        return FleetError("The fleet store '%s' cannot be used (%s)." % (name, text))


def _find(path: str, write: bool) -> str:
    """The path without symlinks of the database, which is created if it is missing and to be written. Raises OSError and ValueError."""
    if os.path.islink(path) and os.lstat(path).st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "a symlink of another user")
    real = os.path.realpath(path)
    if write:
        os.makedirs(os.path.dirname(real), exist_ok=True)
        try:
            # A file that exists is not opened: closing it would release the locks of other connections in this process (fcntl(2)).
            os.close(os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            pass
    if not stat.S_ISREG(os.stat(real).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return real


def _is_on_network(path: str) -> bool:
    from ..kinds.files.mounts import Mounts, is_remote  # for files only

    try:
        table = Mounts.read()
    except SourceFailed:
        return False
    return is_remote(table.kinds.get(table.of(path), ""))
