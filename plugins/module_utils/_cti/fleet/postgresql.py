# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The fleet store in a PostgreSQL database. Needs psycopg 3."""

import select
from typing import Any, Iterable, Sequence, Set
from urllib.parse import urlsplit

from ..text import line
from . import schema
from .errors import FleetError

LOCK_SECONDS = 60
CONNECT_SECONDS = 10
COPIED = 100  # rows; for more, COPY is faster than INSERT
NEEDED = "The fleet store '%s' needs the Python package psycopg, version 3, which %s. Install it: pip install 'psycopg[binary]'."


class Postgresql:
    """A connection. Raises FleetError. Has the methods of sqlite.Sqlite."""

    words = schema.POSTGRESQL

    def __init__(self, url: str, write: bool) -> None:
        self.name = without_password(url)
        try:
            import psycopg
        except ImportError as error:
            raise FleetError(NEEDED % (self.name, "cannot be imported (%s)" % error)) from error
        self._errors = (psycopg.Error, OSError, ValueError)
        self._listening = False
        try:
            self._db = psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
        except self._errors as error:
            raise FleetError(
                "Cannot connect to the fleet store '%s' (%s). Check the URL, and that the server runs."
                % (self.name, line(str(error).strip()))
            ) from error
        self._db.prepare_threshold = 2
        self.execute("SET lock_timeout = '%ds'" % LOCK_SECONDS)
        self.execute("SET timezone = 'UTC'")

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        try:
            if not parameters:
                return self._db.execute(sql)
            return self._db.execute(_placeholders(sql), parameters)
        except self._errors as error:
            raise self._error(error) from error

    def insert(self, table: str, columns: Iterable[str], rows: Sequence[Sequence[Any]]) -> None:
        names = ", ".join(schema.column(name) for name in columns)
        try:
            with self._db.cursor() as cursor:
                if len(rows) < COPIED:
                    sql = "INSERT INTO %s (%s) VALUES (%s) ON CONFLICT DO NOTHING"
                    values = ", ".join(["%s"] * len(rows[0])) if rows else ""
                    cursor.executemany(sql % (table, names, values), rows)
                    return
                cursor.execute(
                    "CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA" % (names, table)
                )
                with cursor.copy("COPY incoming (%s) FROM STDIN" % names) as copy:
                    for row in rows:
                        copy.write_row(row)
                cursor.execute(
                    "INSERT INTO %s (%s) SELECT %s FROM incoming ON CONFLICT DO NOTHING" % (table, names, names)
                )
                cursor.execute("DROP TABLE incoming")
        except self._errors as error:
            raise self._error(error) from error

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        cursor = self.execute(sql, parameters)
        return iter(cursor) if cursor.description is not None else iter(())

    def iterate(self, cursor: Any) -> Any:
        return iter(cursor)  # the server has sent all rows

    def begin(self, write: bool) -> None:
        self.execute("BEGIN" if write else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def commit(self, counter: int = 0) -> None:
        if counter:
            self.execute("NOTIFY %s, '%d'" % (schema.CHANNEL, counter))
        self.execute("COMMIT")

    def rollback(self) -> None:
        try:
            self._db.execute("ROLLBACK")
        except self._errors:
            pass  # the connection is lost, and the transaction with it

    def tables(self) -> Set[str]:
        sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        return {name for (name,) in self.fetch(sql)}

    def columns(self, table: str) -> Set[str]:
        sql = "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ?"
        return {name.lower() for (name,) in self.fetch(sql, (table.lower(),))}

    def created(self) -> None:
        pass

    def reload(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        if not self._listening:
            self.execute("LISTEN " + schema.CHANNEL)
            self._listening = True
            return  # to look once more: something may have come before
        select.select([self._db.fileno()], [], [], max(0.0, seconds))

    def close(self) -> None:
        self._db.close()

    def _error(self, error: Exception) -> FleetError:
        text = line(str(error).strip())
        state = getattr(error, "sqlstate", None) or ""
        if state == "55P03":
            return FleetError(
                "The fleet store '%s' is in use by another process. Run again when that has ended." % self.name
            )
        if state == "53100":
            return FleetError("No space is left for the fleet store '%s'. Free some, and run again." % self.name)
        if state in ("42501", "25006"):
            return FleetError(
                "The user cannot write the fleet store '%s' (%s). Grant the privileges, or give another one (in the playbook: ct_store)."
                % (self.name, text)
            )
        return FleetError(
            "The fleet store '%s' cannot be used (%s). Correct this, and run again: what is not stored is fetched again."
            % (self.name, text)
        )


def without_password(url: str) -> str:
    """The URL as it may be shown: without password and options."""
    try:
        parts = urlsplit(url)
        user = (parts.username + "@") if parts.username else ""
        port = ":%d" % parts.port if parts.port else ""
        return line("%s://%s%s%s%s" % (parts.scheme, user, parts.hostname or "", port, parts.path), 200)
    except ValueError:
        return "postgresql"


def _placeholders(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")
