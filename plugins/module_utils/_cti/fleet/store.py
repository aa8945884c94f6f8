# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Opens the fleet store: reads it, and begins the transactions that write it."""

import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Tuple, Union

from . import schema
from .errors import FleetError, FleetMissing
from .postgresql import Postgresql, without_password
from .sqlite import Sqlite
from .transaction import Transaction

__all__ = ["FleetError", "Store", "open_store", "shown"]

Backend = Union[Sqlite, Postgresql]
URLS = ("postgresql:", "postgres:")
_FOREIGN = "'%s' is a database of something else. Give another one (in the playbook: ct_store)."


def open_store(where: str, write: bool = False) -> "Store":
    """The store at a path, `sqlite:PATH` or `postgresql://...`. With `write`, it is created if there is none. Raises FleetError."""
    if where.startswith(URLS):
        return Store(Postgresql(where, write), write)
    return Store(Sqlite(where[7:] if where.startswith("sqlite:") else where, write), write)


def shown(where: str) -> str:
    """Where a store is, as it may be shown: without a password."""
    return without_password(where) if where.startswith(URLS) else where


class Store:
    """An open store. Its methods raise FleetError."""

    def __init__(self, backend: Backend, write: bool) -> None:
        self._db = backend
        self._names = schema.documented()
        try:
            self._check(write)
        except BaseException:
            backend.close()
            raise

    @property
    def is_file(self) -> bool:
        return isinstance(self._db, Sqlite)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_error: Any) -> None:
        self.close()

    def query(self, sql: str, *parameters: Any) -> List[Tuple[Any, ...]]:
        """The rows. `?` stands for a parameter, in SQLite and in PostgreSQL."""
        return list(self._db.fetch(sql, parameters))

    def rows(self, sql: str, *parameters: Any) -> Iterator[Dict[str, Any]]:
        """The rows as dicts, with the documented names of columns."""
        cursor = self._db.execute(sql, parameters)
        names = [self._names.get(one[0].lower(), one[0]) for one in cursor.description]
        return (dict(zip(names, row)) for row in self._db.iterate(cursor))

    def counter(self) -> int:
        """A number that grows with every change that is stored."""
        return int(self.query("SELECT value FROM meta WHERE name = 'counter'")[0][0])

    def wait(self, counter: int, seconds: float) -> int:
        """The counter once it is above `counter`, or after that time."""
        until = time.monotonic() + seconds
        while True:
            now, remaining = self.counter(), until - time.monotonic()
            if now > counter or remaining <= 0:
                return now
            self._db.wait(remaining)

    @contextmanager
    def reading(self) -> Iterator["Store"]:
        """A transaction in which all queries see the same content."""
        self._db.begin(write=False)
        try:
            yield self
        finally:
            self._db.rollback()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A transaction. One writer at a time; the others wait."""
        self._db.begin(write=True)
        try:
            transaction = Transaction(self._db)
            yield transaction
            self._db.commit(transaction.finish())
        except BaseException:
            self._db.rollback()
            raise

    def close(self) -> None:
        self._db.close()

    def _check(self, write: bool) -> None:
        """Check the version, and create what is missing. Raises FleetError."""
        if self._is_current():
            return
        if not write:
            if self._has_meta():
                return  # of an older version: columns are missing until the next run writes
            raise FleetMissing(
                "The fleet store '%s' is empty. Run the playbook changetracking.inventory.inventory first."
                % self._db.name
            )
        self._db.begin(write=True)
        try:
            if isinstance(self._db, Postgresql):
                self._db.execute("SELECT pg_advisory_xact_lock(%d)" % schema.CREATING)
            if not self._is_current():
                self._create()
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise
        self._db.reload()

    def _has_meta(self) -> bool:
        return self._db.columns("meta") == {"name", "value"}

    def _is_current(self) -> bool:
        if not self._has_meta():
            return False
        version = dict(self.query("SELECT name, value FROM meta")).get("version", 0)
        if not isinstance(version, int):
            raise FleetError(_FOREIGN % self._db.name)
        if version > schema.VERSION:
            raise FleetError(
                "The fleet store '%s' was written by a newer version of this collection (schema %d; this version knows %d). Update the"
                " collection." % (self._db.name, version, schema.VERSION)
            )
        if version < schema.VERSION:
            return False
        return all(set(map(str.lower, columns)) <= self._db.columns(table) for table, columns in schema.COLUMNS.items())

    def _create(self) -> None:
        found = self._db.tables() - {"sqlite_sequence", "sqlite_stat1", "sqlite_stat4"}
        if found and not self._has_meta():
            raise FleetError(_FOREIGN % self._db.name)
        if found:
            for view in schema.views():
                self._db.execute("DROP VIEW IF EXISTS " + view)
            for table, columns in schema.COLUMNS.items():
                present = self._db.columns(table)
                for name in columns if present else ():
                    if name.lower() not in present:
                        self._db.execute(
                            "ALTER TABLE %s ADD COLUMN %s" % (table, schema.declared(name, self._db.words))
                        )
        for statement in schema.statements(self._db.words):
            self._db.execute(statement)
        self._db.insert("meta", ("name", "value"), [("version", schema.VERSION), ("counter", 0), ("dropped", 0)])
        self._db.execute("UPDATE meta SET value = ? WHERE name = 'version'", (schema.VERSION,))
        self._db.created()
