# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The fleet store as a destination: SQLite or PostgreSQL. A record that is delivered twice is stored once.

An inventory replaces the previous one. Changes, and all other records, are kept for a number of days.
"""

import json
from typing import Any, Dict, List, Optional, Tuple

from ..errors import CtiError
from ..fleet import retention
from ..fleet.content import as_key, text
from ..fleet.errors import FleetRefused
from ..fleet.store import Store, open_store
from ..fleet.transaction import Transaction
from ..records import INVENTORY_RECORDS, RECORD_ID, TIME
from . import version_0_1
from .entries import generated, record_id
from .errors import RecordsRefused, UploadError
from .inventories import Inventories
from .segments import Entry
from .uploader import Batches, Uploader


class FleetUploader(Uploader):
    """A path or a URL, as open_store() takes it."""

    def __init__(self, where: str, keep_days: int = retention.KEEP_DAYS) -> None:
        self._where = where
        self._keep_days = keep_days
        self._store: Optional[Store] = None

    def prepare(self) -> None:
        """Create the database, because the command sqlite3 would create one that belongs to whoever runs it."""
        try:
            self._open()
        except CtiError as error:
            raise UploadError(str(error)) from error
        finally:
            self.close()  # a connection belongs to one thread

    def begin(self) -> None:
        """Move the rows of a database of version 0.1: until then, queries do not find them."""
        try:
            self._moved()
        except (CtiError, OSError) as error:
            self.close()
            raise UploadError(str(error)) from error

    def take(self, stream: str, batches: Batches) -> None:
        try:
            store = self._moved()
            with store.writing() as transaction:
                arrived = self._add(transaction, stream, batches)
                retention.delete_old(transaction, self._keep_days, arrived)
                retention.delete_received(transaction, self._keep_days, arrived)
                retention.clean(transaction)
        except FleetRefused as error:
            raise RecordsRefused(str(error)) from error
        except (CtiError, OSError) as error:
            self.close()
            raise UploadError("Cannot write the records (%s)." % str(error).rstrip(".")) from error

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _moved(self) -> Store:
        """The open store, after the rows of version 0.1 were moved."""
        store = self._store or self._open()
        version_0_1.move_rows(store, self._add)
        return store

    def _open(self) -> Store:
        version_0_1.rename_tables(self._where)
        self._store = open_store(self._where, write=True)
        return self._store

    def _add(self, transaction: Transaction, stream: str, batches: Batches) -> int:
        """Add records. Returns how many are new."""
        inventories, added = Inventories(transaction), 0
        for batch in batches:
            changes: List[Tuple[int, Dict[str, Any]]] = []
            data: List[Entry] = []
            others: List[Entry] = []
            for entry in batch:
                record = entry[1]
                if "ConfigChangeType" in record:
                    changes.append((inventories.host(record).host, _identified(stream, entry)))
                else:
                    (data if "ConfigDataType" in record else others).append(entry)
            added += transaction.add_all_changes(stream, changes)
            inventories.add(stream, data)
            added += _add_others(transaction, stream, others)
        inventories.settle()
        return added + inventories.arrived


def _identified(stream: str, entry: Entry) -> Dict[str, Any]:
    """The record with RecordId and TimeGenerated, which its sender may have left out."""
    record = entry[1]
    own, time = record_id(stream, entry), generated(entry)
    if record.get(RECORD_ID) == own and record.get(TIME) == time:
        return record
    return dict(record, **{RECORD_ID: own, TIME: time})


def _add_others(transaction: Transaction, stream: str, entries: List[Entry]) -> int:
    rows = []
    for entry in entries:
        more = {name: value for name, value in entry[1].items() if name not in (TIME, RECORD_ID, INVENTORY_RECORDS)}
        row = (transaction.number(), as_key(record_id(stream, entry)), text(stream), as_key(generated(entry)))
        rows.append((*row, text(json.dumps(more, sort_keys=True)) if more else None, transaction.day("other")))
    columns = ("row", "RecordId", "Stream", "TimeGenerated", "AdditionalColumns", "day")
    transaction.insert("OtherRecords", columns, rows, checked=True)
    return len(rows)
