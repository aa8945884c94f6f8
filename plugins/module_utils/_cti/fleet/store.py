# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Opens the fleet store: reads it, and begins the transactions that write it."""

import os
import re
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Tuple, Union

from ..text import quoted
from . import schema
from .errors import FleetError, FleetMissing
from .postgresql import Postgresql, without_password
from .sqlite import Sqlite
from .transaction import Transaction

__all__ = ["FleetError", "Store", "is_url", "located", "open_store", "path_of", "shown"]

Backend = Union[Sqlite, Postgresql]
_PREFIX = "sqlite:"
# A URL of PostgreSQL, of SQLAlchemy too, or options of libpq: they may have a password.
_URL = re.compile(
    r"\s*(?:postgres(?:ql)?(?:\+\w*)?:|(?:\w+\s*=.*\s)?(?:host|hostaddr|port|dbname|user|password|passfile|service)\s*=)",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_FOREIGN = "'%s' is a database of something else. Give another one (in the playbook: ct_store)."
_ODD = (
    "The fleet store '%s' has a %s '%s' that this collection does not make. %s, or move the file aside, with those of the same name that end in"
    " -wal and -shm: the next run creates a new one."
)


def open_store(where: str, write: bool = False) -> "Store":
    """The store at a path, `sqlite:PATH` or `postgresql://...`. With `write`, it is created if there is none. Raises FleetError."""
    if is_url(where):
        return Store(Postgresql(where, write), write)
    return Store(Sqlite(path_of(where), write), write)


def is_url(where: str) -> bool:
    """Whether this is a PostgreSQL database, in a form that is valid or not, and no path."""
    return _URL.match(where) is not None


def path_of(where: str) -> str:
    """The path of a store that is a file."""
    return where[len(_PREFIX) :] if where.startswith(_PREFIX) else where  # noqa: E203


def located(where: str, folder: str = "") -> str:
    """The same store, whatever the current directory is. A relative path is below `folder`, or else the current directory."""
    return where if is_url(where) else os.path.abspath(os.path.join(folder, os.path.expanduser(path_of(where))))


def shown(where: str) -> str:
    """Where a store is, as it may be shown: without a password."""
    return without_password(where) if is_url(where) else where


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

    def __exit__(self, _type: Any, error: Any, _traceback: Any) -> None:
        try:
            if isinstance(error, (TypeError, AttributeError)):
                self._check_types()
        finally:
            self.close()

    @contextmanager
    def checking(self) -> Iterator[None]:
        """For what uses values without closing the store. Raises FleetError if that fails because a value has the wrong type."""
        try:
            yield
        except (TypeError, AttributeError):
            self._check_types()
            raise

    def _check_types(self) -> None:
        """After an error of whoever uses a value: say so if it is not of the type of its column. Raises FleetError."""
        column = self._db.mistyped()
        if column:
            raise FleetError(
                "The fleet store '%s' has a value of the wrong type in %s. Correct or delete that row, or move the file aside, with those of the"
                " same name that end in -wal and -shm: the next run creates a new one." % (self._db.name, column)
            ) from None

    def query(self, sql: str, *parameters: Any) -> List[Tuple[Any, ...]]:
        """The rows. `?` stands for a parameter, in SQLite and in PostgreSQL."""
        return list(self._db.fetch(sql, parameters))

    def rows(self, sql: str, *parameters: Any) -> Iterator[Dict[str, Any]]:
        """The rows as dicts, with the documented names of columns."""
        cursor = self._db.execute(sql, parameters)
        names = [self._names.get(one[0].lower(), one[0]) for one in cursor.description]
        return (dict(zip(names, row)) for row in self._db.iterate(cursor))

    def present(self, view: str, names: Iterable[str]) -> List[str]:
        """Those of these columns of a view that the store has: one that an older version wrote has fewer, until the next run writes."""
        known = self._db.columns(view)
        return [name for name in names if name.lower() in known]

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
        """Check the schema and its version, and create what is missing. Raises FleetError."""
        if self._is_current(write):
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
            if not self._is_current(write):
                self._create()
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise
        self._db.reload()

    def _has_meta(self) -> bool:
        return self._db.columns("meta") == {"name", "value"}

    def _is_current(self, write: bool) -> bool:
        foreign = self._db.foreign()
        if any(one.name.lower() == "meta" for one in foreign):
            raise FleetError(_FOREIGN % self._db.name)
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
        replaced = {view.lower() for view in schema.views()}  # by whoever writes
        for one in foreign:
            if one.kind != "view" or one.name.lower() not in replaced:
                raise FleetError(_ODD % (quoted(self._db.name), one.kind, quoted(one.name), "Remove it"))
            if not write:
                remedy = "Run the playbook changetracking.inventory.inventory, which replaces it"
                raise FleetError(_ODD % (quoted(self._db.name), one.kind, one.name, remedy))
        if foreign or version < schema.VERSION or not self._db.columns("identities"):  # added in version 2
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
