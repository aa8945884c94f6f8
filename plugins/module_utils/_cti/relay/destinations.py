# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Where the records of a sink go. One more destination is one more small class, and its word in open_uploader()."""

import json
import os
import sqlite3
from itertools import chain
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from ..errors import FormatError, ForwardError
from ..records import RECORD_ID
from ..wire import address as addresses
from ..wire.ama import AMA_USERS
from ..wire.forward import flat
from ..wire.sender import Sender
from ..wire.tls import Tls
from . import inventories, retention, tables
from .errors import RecordsRefused, RelayError, UploadError
from .segments import Entry
from .sinks import folder_name

LOCK_SECONDS = 30
TURN_SECONDS = 300  # to wait for a busy receiver that takes nothing; no client waits for an upload
DELIVERY_SECONDS = 3600  # for one message, however slow the receiver is
PREPARE_SECONDS = 1  # to wait for a lock at the start, while clients wait
CACHE_KIB = 16384  # holds the pages of all indexes that new rows land on
CHECKPOINT_PAGES = 16384  # of 4 KiB in the write-ahead log; a page that many uploads change is then written once
MAX_PLANS = 256
PLAN_BYTES = 8192  # of keys; records with more are unlike any others

Batches = Iterable[List[Entry]]


class Uploader:
    """A destination. prepare() is called first, by the thread that created it; the other methods by one other thread."""

    remote = False  # whether an upload may fail because of a record without a RecordsRefused

    def prepare(self) -> None:
        """Create files that others may read before the first upload. Raises UploadError if that does not work yet."""

    def take(self, stream: str, batches: Batches) -> None:
        """Upload records, and return when all of them are stored.

        Raises UploadError if they are not, and all of them are uploaded again. RecordsRefused, or an exception other than
        CtiError, means that repeating it does not help.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release what the destination uses; nothing is uploaded afterwards."""


def open_uploader(text: str, users: Sequence[str], tls: Tls, keep_days: int = retention.KEEP_DAYS) -> Uploader:
    """The destination for `jsonl:DIR`, `sqlite:PATH` or `forward:ADDRESS`. Raises RelayError and ForwardError.

    `users` may listen at the address, in addition to the current user and those AMA runs as. `keep_days`: for tables.
    """
    word, colon, rest = text.partition(":")
    if colon and rest:
        if word == "jsonl":
            return JsonLinesUploader(rest)
        if word == "sqlite":
            return SqliteUploader(rest, keep_days)
        if word == "forward":
            return ForwardUploader(rest, users, tls)
    raise RelayError("%r is no destination. Give jsonl:DIR, sqlite:PATH or forward:ADDRESS." % text)


class JsonLinesUploader(Uploader):
    """One file a stream, one record a line: {"tag", "time", "record"}.

    What is delivered twice is there twice, with one RecordId.
    """

    suffix = ".jsonl"
    header = ""  # what a file begins with: whole lines

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def take(self, stream: str, batches: Batches) -> None:
        path = os.path.join(self._folder, folder_name(stream) + self.suffix)
        try:
            os.makedirs(self._folder, 0o700, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                end = _end_of_lines(file)
                os.ftruncate(file, end)
                try:
                    self._append(file, end, stream, batches)
                except OSError:
                    os.ftruncate(file, end)
                    raise
            finally:
                os.close(file)
        except OSError as error:
            raise UploadError("Cannot write '%s' (%s)." % (path, error.strerror)) from error

    def lines(self, stream: str, batch: List[Entry]) -> str:
        """The text of a batch: whole lines. A record is one line: an incomplete last line is removed, and its record comes again."""
        return "".join(
            json.dumps({"tag": stream, "time": seconds, "record": record}) + "\n" for seconds, record in batch
        )

    def _append(self, file: int, end: int, stream: str, batches: Batches) -> None:
        for text in chain([self.header] if end == 0 else [], (self.lines(stream, batch) for batch in batches)):
            data = memoryview(text.encode("utf-8"))
            while data:
                written = os.pwrite(file, data, end)
                data, end = data[written:], end + written
        os.fsync(file)


class SqliteUploader(Uploader):
    """The tables ConfigurationData and ConfigurationChange. A record that is delivered twice is stored once.

    An inventory replaces the previous one. Changes, and all other records, are kept for `keep_days`.
    """

    def __init__(self, path: str, keep_days: int = retention.KEEP_DAYS) -> None:
        self._path = path
        self._keep_days = keep_days
        self._db: Optional[sqlite3.Connection] = None
        self._plans: Dict[Tuple[str, ...], tables.Plan] = {}

    def prepare(self) -> None:
        """Create the database, because the command sqlite3 would create one that belongs to whoever runs it."""
        try:
            self._open(PREPARE_SECONDS)
        except (sqlite3.Error, OSError) as error:
            raise UploadError("Cannot write '%s' (%s)." % (self._path, error)) from error
        finally:
            self.close()  # a connection belongs to one thread

    def take(self, stream: str, batches: Batches) -> None:
        try:
            db = self._db if self._db is not None else self._open(LOCK_SECONDS)
            retention.move_old_rows(db)
            db.execute("BEGIN IMMEDIATE")
            before, arriving = retention.newest_rows(db), inventories.Arriving(db)
            for batch in batches:
                self._insert(db, stream, [entry for entry in batch if arriving.belongs(entry)])
            arrived = retention.note_day(db, before)
            arriving.settle()
            retention.delete_old_rows(db, self._keep_days, arrived)
            db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self.close()  # which rolls back
            raise UploadError("Cannot write '%s' (%s)." % (self._path, error)) from error

    def _insert(self, db: sqlite3.Connection, stream: str, entries: List[Entry]) -> None:
        rows: Dict[str, List[tables.Row]] = {}
        for entry in entries:
            keys = tuple(entry[1])
            plan = self._plans.get(keys) or self._plan(keys)
            rows.setdefault(plan.statement, []).append(tables.row(plan, stream, entry))
        for statement, values in rows.items():
            try:
                db.executemany(statement, values)
            except UnicodeEncodeError:
                db.executemany(statement, [tables.printable(row) for row in values])

    def _plan(self, keys: Tuple[str, ...]) -> tables.Plan:
        """The plan for records with these keys. At most MAX_PLANS are cached, each of at most PLAN_BYTES."""
        plan = tables.plan(keys)
        if sum(map(len, keys)) + 64 * len(keys) <= PLAN_BYTES:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[keys] = plan
        return plan

    def _open(self, lock_seconds: float) -> sqlite3.Connection:
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), 0o700, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(self._path, timeout=lock_seconds, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")  # so that queries do not block uploads
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA cache_size = -%d" % CACHE_KIB)
        self._db.execute("PRAGMA wal_autocheckpoint = %d" % CHECKPOINT_PAGES)
        for part in (retention, tables, inventories):
            part.prepare(self._db)
        return self._db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


class ForwardUploader(Uploader):
    """Another relay, Fluentd, Fluent Bit, or the Azure Monitor Agent. A record that is sent twice has the same RecordId."""

    remote = True

    def __init__(self, address: str, users: Sequence[str], tls: Tls) -> None:
        allowed = (*AMA_USERS, str(os.geteuid()), *users)
        self._sender = Sender(
            addresses.parse(address), allowed, deadline=DELIVERY_SECONDS, silence=TURN_SECONDS, tls=tls
        )

    def take(self, stream: str, batches: Batches) -> None:
        try:
            for batch in batches:
                self._sender.send(stream, [_flat(stream, entry) for entry in batch])
        except FormatError as error:
            raise RecordsRefused(str(error)) from error
        except ForwardError as error:
            raise UploadError(str(error)) from error

    def close(self) -> None:
        self._sender.close()


def _flat(stream: str, entry: Entry) -> Tuple[int, Dict[str, str]]:
    record = flat(entry[1])
    record[RECORD_ID] = tables.record_id(stream, entry)
    return int(entry[0]), record


def _end_of_lines(file: int) -> int:
    """Where the last whole line ends: a relay that was killed may have left half of one, which comes again."""
    end = os.fstat(file).st_size
    while end:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
