# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The fleet store in a PostgreSQL database. Needs psycopg 3."""

import re
import select
import time
from typing import Any, Iterable, List, Sequence, Set

from ..text import line
from . import schema
from .content import storable
from .errors import FleetError, FleetRefused
from .sqlite_schema import Object

LOCK_SECONDS = 60
IDLE_SECONDS = 600  # of a writer in its transaction, after which the server ends it
POLL_SECONDS = 5.0  # where the server cannot notify
COPIED = 100  # rows; for more, COPY is faster than INSERT
# The URL takes precedence. A server that is gone is noticed within two minutes, and so is a client, which may have locked the others out.
CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
    "tcp_user_timeout": "120000",
}
SESSION = (
    "SET lock_timeout = '%ds'; SET timezone = 'UTC';"
    " SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6"
)
NEEDED = "The fleet store '%s' needs the Python package psycopg, version 3, which %s. Install it: pip install 'psycopg[binary]'."
FORM = "Give postgresql://USER@HOST:PORT/DATABASE, with each special character in a name or password as %XX."
_INVALID = "The URL of the fleet store '%s' is invalid. %s"
# What may be shown of a URL is before its options and is none of the password: all that this does not match stays unsaid.
_HOST = r"(?:[\w.%-]*|\[[\w:.%]*\])(?::[0-9]*)?"
_URL = re.compile(
    r"\s*((?i:postgres(?:ql)?)://)(?:([\w.%-]*)(?::[^@/?#]*)?@)?("
    + "%s(?:,%s)*" % (_HOST, _HOST)  # noqa: W503
    + r"(?:/[\w.%-]*)?)(?:\?[^@#]*)?\s*",  # noqa: W503
    re.ASCII,
)


class Postgresql:
    """A connection. Raises FleetError. Has the methods of sqlite.Sqlite."""

    words = schema.POSTGRESQL

    def __init__(self, url: str, write: bool) -> None:
        self.name = without_password(url)
        self._write = write
        scheme, slashes, rest = url.strip().partition("://")
        url = scheme.lower() + slashes + rest
        # libpq takes other forms, too, which without_password() does not know.
        if scheme.lower() not in ("postgresql", "postgres") or not slashes:
            raise FleetError(_INVALID % (self.name, FORM))
        try:
            import psycopg
        except ImportError as error:
            raise FleetError(NEEDED % (self.name, "cannot be imported (%s)" % error)) from error
        self._errors = (psycopg.Error, OSError, ValueError)
        self._listening = False
        self._db = self._connect(psycopg, url)
        self._db.prepare_threshold = 2
        # Without a handler, psycopg keeps all notifications.
        self._db.add_notify_handler(lambda _notification: None)
        try:
            encoding = self._db.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise FleetError(
                    "The database of the fleet store '%s' has the encoding %s. Create it with ENCODING 'UTF8'."
                    % (self.name, encoding)
                )
            self.execute(SESSION % LOCK_SECONDS)
            if write:
                self.execute("SET idle_in_transaction_session_timeout = '%ds'" % IDLE_SECONDS)
        except FleetError:
            self.close()
            raise

    def _connect(self, psycopg: Any, url: str) -> Any:
        try:
            options = psycopg.conninfo.conninfo_to_dict(url)
        except self._errors:  # whose text quotes the URL
            raise FleetError(_INVALID % (self.name, FORM)) from None
        options = dict(CONNECTION, **options)
        options["client_encoding"] = "UTF8"
        try:
            return psycopg.connect(autocommit=True, **options)
        except self._errors as error:
            why = "(%s). Check the URL, and that the server runs." % _text(error)
            if not _URL.fullmatch(url):  # then the text may have a part of the password, as of a host
                why = "and its URL has an unusual form. " + FORM
            raise FleetError("Cannot connect to the fleet store '%s' %s" % (self.name, why)) from None

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        try:
            if not parameters:
                return self._db.execute(sql)
            return self._db.execute(_placeholders(sql), storable(parameters))
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
        self.execute(
            "BEGIN ISOLATION LEVEL READ COMMITTED" if write else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        )

    def commit(self, counter: int = 0) -> None:
        if counter:
            self.execute("NOTIFY %s, '%d'" % (schema.CHANNEL, counter))
        if self.execute("COMMIT").statusmessage != "COMMIT":  # the server says ROLLBACK where a statement has failed
            raise FleetError("The fleet store '%s' did not take the transaction. Run again." % self.name)

    def rollback(self) -> None:
        try:
            self._db.execute("ROLLBACK")
        except self._errors:
            pass  # the connection is lost, and the transaction with it

    def tables(self) -> Set[str]:
        """Those of the schema in which tables are created, also those that the user may not read."""
        sql = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
        return {name for (name,) in self.fetch(sql)}

    def columns(self, table: str) -> Set[str]:
        sql = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped"
        return {name.lower() for (name,) in self.fetch(sql, (table.lower(),))}

    def foreign(self) -> List[Object]:
        return []  # whoever owns the database is trusted

    def mistyped(self) -> str:
        return ""  # PostgreSQL checks types

    def created(self) -> None:
        pass

    def reload(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        """Return when the counter may have grown, or after that time."""
        if not self._listening:
            self._listening = True
            try:
                self.execute("LISTEN " + schema.CHANNEL)
                return  # to look once more: something may have come before
            except FleetError:  # a standby server cannot
                self._listening = False
                time.sleep(max(0.0, min(seconds, POLL_SECONDS)))
                return
        poll = select.poll()
        try:
            poll.register(self._db.fileno(), select.POLLIN)
        except self._errors as error:
            raise self._error(error) from error
        poll.poll(max(0.0, seconds) * 1000)

    def close(self) -> None:
        self._db.close()

    def _error(self, error: Exception) -> FleetError:
        text = _text(error)
        state = getattr(error, "sqlstate", None) or ""
        if state == "55P03":
            return FleetError(
                "The fleet store '%s' is in use by another process. Run again when that has ended." % self.name
            )
        if state == "53100":
            return FleetError("No space is left for the fleet store '%s'. Free some, and run again." % self.name)
        if state == "42501":
            return FleetError(
                "The user lacks a privilege for the fleet store '%s' (%s). Grant it, or give another store (in the playbook: ct_store)."
                % (self.name, text)
            )
        if state == "25006":
            return FleetError(
                "The user cannot %s the fleet store '%s' (%s). Give another one (in the playbook: ct_store)."
                % ("write" if self._write else "read", self.name, text)
            )
        if state[:2] in ("22", "54"):  # data exception, program limit exceeded
            return FleetRefused("The fleet store '%s' does not take a value (%s)." % (self.name, text))
        return FleetError(
            "The fleet store '%s' cannot be used (%s). Correct this, and run again: what is not stored is fetched again."
            % (self.name, text)
        )


def without_password(url: str) -> str:
    """The URL as it may be shown: without password and options."""
    match = _URL.fullmatch(url)
    if match is None:
        return "postgresql"
    scheme, user, place = match.groups()
    return line("%s%s%s" % (scheme, user + "@" if user else "", place), 200)


def _text(error: Exception) -> str:
    """The text of an error, which may have several lines."""
    return line(" ".join(str(error).split()))


def _placeholders(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")
