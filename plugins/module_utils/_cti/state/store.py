# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Stores the result of a run: one row for each part, the records that follow from it, and the history.

One run is one transaction: either all of what a run saw is kept, with the records that follow from it, or the state
before it stays as it was and the next run finds the same changes again. A run writes next to the database until it ends,
so that a long one does not hold up another kind's. A part whose signature is unchanged costs neither reading nor writing.
"""

import json
import os
import sqlite3
import time
from types import TracebackType
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
)

from .. import host
from ..errors import StateOvertaken
from ..kinds.kind import Kind, Row
from ..model import Item, Known, Source
from ..text import plural, quoted
from . import history
from .database import Database
from .packing import inflate, pack
from .place import Place
from .stage import Stage

DAMAGED = "damaged"  # the digest of a part whose items were set aside
ATTEMPTS = 5  # of one run, where other runs store their results meanwhile
Machine = Mapping[str, Optional[str]]  # of host.identity()
Result = TypeVar("Result")


class StoredPart(NamedTuple):
    signature: Optional[str]
    digest: str
    count: int  # type: ignore[assignment]  # nobody counts the fields of this tuple


class Run(NamedTuple):
    """One kind's last run."""

    collected_at: int  # unix seconds
    scope: List[Any]  # what was to be collected
    # what was out of sight: names of parts; [part, *identity] of an item of which nothing is known; tracking.run.SWITCHED_OFF
    unseen: List[Any]


class Text(NamedTuple):
    """What the state has of a file's text."""

    checksum: str  # of the content, as the item has it
    size: Optional[int]  # bytes; None: it is no text, and nothing is kept but that


class Store(Database):
    """Stores the result of a run: all of it when the context ends, none of it when an exception ends it. Raises StateError.

    After a commit, `before` and `after` are the last places in the history before and after the changes of this run.
    """

    stored = False  # whether this process has stored the result of a run

    def __init__(
        self,
        path: str,
        read_only: bool = False,
        owner: Optional[int] = None,
        leave_no_files: bool = False,
        retention: history.Retention = history.KEEP,
    ) -> None:
        super().__init__(path, read_only, owner, leave_no_files)
        self.before: Optional[Place] = None
        self.after: Optional[Place] = None
        self.ignored = False  # it is another machine's, and may not be emptied
        self._retention = retention
        self._stage: Optional[Stage] = None
        self._generations: Dict[str, Tuple[str, int]] = {}  # of the kinds compared with, as they were then

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

    @property
    def read_only(self) -> bool:
        return self._read_only

    # --- whose it is

    def is_foreign(self, machine: Machine) -> bool:
        """Whether another machine than this one, as host.identity() describes it, made the state.

        What either side does not know is no difference: a VMUUID is known to root alone. A state that was made before the
        machine had an id is one of an image.
        """
        for computer, vm in self._query("SELECT computer, vm FROM state", since=3):
            our_computer, our_vm = machine["SourceComputerId"], machine["VMUUID"]
            if our_computer is not None and computer is not None and our_computer != computer:
                return True
            return our_vm is not None and vm is not None and our_vm != vm and not host.in_container()
        return False

    def claim(self, machine: Machine) -> List[str]:
        """Make the state this machine's. One that another machine made, as a clone of it finds it, is emptied first, and the
        records that wait in it are set aside; the sentence about that is returned."""
        if not self.is_foreign(machine):
            self._claim(machine)
            return []
        ((records, changes),) = self._query(
            "SELECT (SELECT coalesce(sum(count), 0) FROM outbox), (SELECT coalesce(sum(count), 0) FROM history)"
        )
        if self._db is not None and not self._read_only:
            from . import clone  # once in the life of a machine

            clone.empty(self._db, machine, lambda: self.is_foreign(machine))
        elif self._db is not None:
            self._close()
            self.ignored = True
        return [
            "The state '%s' was created by another machine: this one is a clone of it, or its machine-id changed. This run is a new"
            " baseline. Of that machine, %s not sent, and %s not kept. Machines that share a folder need a state each."
            % (quoted(self.path), plural(records, "undelivered record", "is"), plural(changes, "change", "is"))
        ]

    def _claim(self, machine: Machine) -> None:
        computer, vm = machine["SourceComputerId"] or "", machine["VMUUID"]
        known = self._query("SELECT computer, vm FROM state", since=3)
        if known and not self._read_only and (known[0][0] is None or (known[0][1] is None and vm is not None)):
            self._query("UPDATE state SET computer = coalesce(computer, ?), vm = coalesce(vm, ?)", computer, vm)

    # --- what was

    def last_run(self, kind: Kind) -> Optional[Run]:
        """None before the first run of this kind."""
        self._generations.setdefault(kind.name, self._generation(kind.name))
        for row in self._query("SELECT collected_at, scope, unseen FROM run WHERE kind = ?", kind.name):
            return Run(row[0], self._json(row[1]), self._json(row[2]))
        return None

    def last_sources(self, kind: Kind) -> Dict[str, Source]:
        """The status of each source in that run."""
        for (text,) in self._query("SELECT sources FROM outcome WHERE kind = ?", kind.name, since=2):
            try:
                sources = {name: Source(*values) for name, *values in self._json(text)}
                for name, source in sources.items():
                    if not (isinstance(name, str) and tuple(map(type, source)) == (str, int, str)):
                        raise ValueError("an outcome is none")
                return sources
            except (TypeError, ValueError) as error:
                raise self._row_error(error) from error
        return {}

    def known(self, kind: Kind) -> "StoredParts":
        self._generations.setdefault(kind.name, self._generation(kind.name))
        rows = self._query("SELECT name, signature, digest, count FROM part WHERE kind = ?", kind.name)
        return StoredParts(self, kind, {os.fsdecode(row[0]): StoredPart(*row[1:]) for row in rows})

    def items(self, kind: Kind, part: str) -> List[Item]:
        rows = self._query("SELECT items FROM part WHERE kind = ? AND name = ?", kind.name, os.fsencode(part))
        return self._items(kind, rows[0][0]) if rows else []

    def all_items(self, kind: Kind) -> Iterator[Item]:
        """The items of a kind as they are after the commit of this run, part by part."""
        if self._db is None:
            return
        stage = self._stage
        staged = stage.parts(kind.name) if stage is not None else set()
        stored = {name for (name,) in self._query("SELECT name FROM part WHERE kind = ?", kind.name)}
        for name in sorted(stored | staged):
            where = stage if stage is not None and name in staged else self._db
            for (packed,) in where.execute("SELECT items FROM part WHERE kind = ? AND name = ?", (kind.name, name)):
                yield from self._items(kind, packed) if packed is not None else ()

    def inventory_queued_at(self, kind: Kind) -> Optional[int]:
        """When the inventory of this kind was last put into the outbox, in unix seconds; None: never."""
        rows = self._query("SELECT queued_at FROM inventory WHERE kind = ?", kind.name, since=2)
        return int(rows[0][0]) if rows else None

    def history(self) -> Iterator[Row]:
        """All change records in the history, oldest first. Raises RowDamaged after the last one where some cannot be read."""
        if self._version == 2:
            for (packed,) in self._query("SELECT records FROM history ORDER BY id", since=2):
                yield from self._unpack(packed)
            return
        damaged: Optional[ValueError] = None
        for last, count in self._query("SELECT last, count FROM history ORDER BY last", since=3):
            for (packed,) in self._query("SELECT records FROM history WHERE last = ?", last):
                try:
                    records = history.read_row(inflate(packed), count)
                except ValueError as error:
                    damaged, records = error, []
                yield from records
        if damaged is not None:
            raise self._row_error(damaged)

    def texts(self) -> Dict[str, Text]:
        """Of the files, by path."""
        rows = self._query("SELECT path, checksum, size FROM content", since=2)
        return {os.fsdecode(row[0]): Text(*row[1:]) for row in rows}

    def text(self, path: str) -> str:
        """One of these that has a size."""
        for (packed,) in self._query("SELECT text FROM content WHERE path = ?", os.fsencode(path), since=2):
            for text in self._unpack(packed):
                return str(text)
        raise self._row_error(ValueError("a text is missing"))

    def new_texts(self) -> Iterator[Tuple[str, str, int, bytes]]:
        """Path, checksum, size and packed text of those that this run has put into the store so far."""
        if self._stage is not None:
            for path, checksum, size, text in self._stage.texts():
                yield os.fsdecode(path), checksum, size, text

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

    def remember(self, records: Sequence[Row], owner: str = "") -> None:
        """Put change records into the history, whether or not they are also sent. `owner`: see Kind.owner."""
        for row in history.rows(list(records), owner):
            self._put("INSERT INTO history VALUES (?, ?, ?, ?)", *row)

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
        """Replace the inventory of a kind that is still in the outbox by the one that is queued after this call."""
        self._put("INSERT INTO renewed VALUES (?, ?, ?)", stream, kind.name, now)

    def _put(self, statement: str, *values: Any) -> None:
        if self._db is None or self._read_only:
            return
        try:
            if self._stage is None:
                self._stage = Stage()
            self._stage.execute(statement, values)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _commit(self, db: sqlite3.Connection, stage: Stage) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            self._check_replaced()
            self.before = self._end()
            for kind in stage.kinds():
                self._check_generation(kind)
            stage.copy(db)
            history.append(db, stage.history(), self._retention, int(time.time()))
            self.after = self._end()
            db.execute("COMMIT")
            Store.stored = True
        except BaseException:
            if db.in_transaction:  # SQLite has ended it where the disk is full
                db.execute("ROLLBACK")
            raise

    def _end(self) -> Optional[Place]:
        for row in self._query("SELECT id, last, mark FROM state", since=3):
            return Place(*row)
        return None

    def _generation(self, kind: str) -> Tuple[str, int]:
        """The id of the state, and how many runs of the kind it has stored."""
        end = self._end()
        rows = self._query("SELECT generation FROM outcome WHERE kind = ?", kind, since=2)
        return end.state if end else "", int(rows[0][0]) if rows else 0

    def _check_generation(self, kind: str) -> None:
        """Raise StateOvertaken where the stored run is not the one that this run compared with."""
        if self._generations.get(kind, self._generation(kind)) != self._generation(kind):
            raise StateOvertaken(
                f"Another run stored its {kind} in the state '{self.path}' during this run. Nothing of this run is stored. Run again."
            )

    def _items(self, kind: Kind, packed: bytes) -> List[Item]:
        try:
            return [kind.item(*fields) for fields in self._unpack(packed)]
        except TypeError as error:
            raise self._row_error(error) from error


def run_until_stored(run: Callable[[], Result]) -> Result:
    """Call `run`, which opens a Store, collects and stores, and return its result. Where another run of the same state stores its
    result meanwhile, `run` is called again, up to ATTEMPTS times; then its StateOvertaken is raised. All other errors are
    raised at once."""
    for _attempt in range(ATTEMPTS - 1):
        try:
            return run()
        except StateOvertaken:
            pass
    return run()


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

    def sources(self) -> Mapping[str, Source]:
        return self._store.last_sources(self._kind)
