# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Rows of a state that nobody can have written there: set aside, so that they do not stop what all the others hold.

A part whose items are damaged is compared again from the next run on. A damaged row of history stays, and is counted by
whoever reads it; one of the outbox is set aside when its turn comes.
"""

import os
import sqlite3
from typing import List

from ..errors import RowDamaged
from ..kinds.kind import Kind
from ..kinds.registry import all_kinds
from ..text import plural, quoted
from .aside import set_aside
from .packing import pack
from .store import DAMAGED, Store


def repair(path: str) -> List[str]:
    """Set aside what cannot be read of what the runs are compared with. One sentence for each table with such rows.

    Raises StateError.
    """
    with Repair(path) as store:
        notes: List[str] = store.repair()
    return notes


class Repair(Store):
    def repair(self) -> List[str]:
        db = self._db
        if db is None:
            return []
        db.execute("BEGIN IMMEDIATE")
        try:
            notes = [note for kind in all_kinds().values() for note in self._repair_kind(db, kind)]
            notes += self._repair_texts(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return notes

    def _repair_kind(self, db: sqlite3.Connection, kind: Kind) -> List[str]:
        notes = []
        try:
            self.last_sources(kind)
        except RowDamaged as error:
            set_aside(db, "outcome", str(error), "SELECT sources FROM outcome WHERE kind = ?", (kind.name,))
            db.execute("UPDATE outcome SET sources = '[]' WHERE kind = ?", (kind.name,))
        try:
            self.last_run(kind)
        except RowDamaged as error:
            set_aside(db, "run", str(error), "SELECT scope || unseen FROM run WHERE kind = ?", (kind.name,))
            for table in ("run", "part"):
                db.execute("DELETE FROM %s WHERE kind = ?" % table, (kind.name,))
            db.execute("UPDATE outcome SET generation = generation + 1 WHERE kind = ?", (kind.name,))
            return [
                "What the last run stored of the %s is damaged and set aside; this run is their baseline." % kind.name
            ]
        names = [name for (name,) in self._query("SELECT name FROM part WHERE kind = ? ORDER BY name", kind.name)]
        damaged = [name for name in names if self._is_damaged(db, kind, name)]
        if damaged:
            notes.append(
                "What the last run stored of %d of %d sources or folders of the %s is damaged and set aside (%s first). It is compared"
                " again from the next run on." % (len(damaged), len(names), kind.name, quoted(os.fsdecode(damaged[0])))
            )
        return notes

    def _is_damaged(self, db: sqlite3.Connection, kind: Kind, name: bytes) -> bool:
        where = (kind.name, name)
        try:
            self.items(kind, os.fsdecode(name))
            return False
        except RowDamaged as error:
            set_aside(db, "part", str(error), "SELECT items FROM part WHERE kind = ? AND name = ?", where)
        db.execute(
            "UPDATE part SET signature = NULL, digest = ?, count = 0, items = ? WHERE kind = ? AND name = ?",
            (DAMAGED, pack([]), *where),
        )
        return True

    def _repair_texts(self, db: sqlite3.Connection) -> List[str]:
        damaged = []
        for path in [path for path, text in self.texts().items() if text.size is not None]:
            try:
                self.text(path)
            except RowDamaged as error:
                damaged.append(path)
                where = (os.fsencode(path),)
                set_aside(db, "content", str(error), "SELECT text FROM content WHERE path = ?", where)
                db.execute("DELETE FROM content WHERE path = ?", where)
        if not damaged:
            return []
        return [
            "The kept texts of %s are damaged and set aside; the next change shows no lines."
            % plural(len(damaged), "file")
        ]
