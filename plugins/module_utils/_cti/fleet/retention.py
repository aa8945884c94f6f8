# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Deletes old changes from the fleet store, and what nothing refers to any more.

The age of a change is the number of days, after the one it arrived on, on which the store got changes. So neither a clock that is
set, of a host or of the controller, nor a time without a run makes changes old.
"""

from typing import Optional

from .transaction import Transaction

KEEP_DAYS = 400
SLICE = 5000  # changes to delete in one transaction, so that others need not wait for those of a whole day
_MACHINES = (
    "DELETE FROM machines WHERE machine IN (SELECT machine FROM machines EXCEPT SELECT machine FROM hosts EXCEPT SELECT machine FROM inventories"
    " EXCEPT SELECT machine FROM batches EXCEPT SELECT machine FROM loose)"
)
_MOMENTS = (
    "DELETE FROM moments WHERE moment IN (SELECT moment FROM moments EXCEPT SELECT moment FROM changes EXCEPT SELECT moment FROM set_items"
    " EXCEPT SELECT moment FROM loose EXCEPT SELECT moment FROM host_items WHERE moment IS NOT NULL)"
)
_UNUSED = (
    "DELETE FROM batches WHERE batch < ? AND NOT EXISTS (SELECT 1 FROM changes WHERE changes.batch = batches.batch)",
    "DELETE FROM days WHERE content = 'changes' AND day < ?",
)
_RECEIVED = {"data": (("loose", "row"), ("arrivals", "arrival")), "other": (("OtherRecords", "row"),)}
_ORPHANS = (
    # A host of the inventory stays, because it is stale. One that only the relay knows does not: whatever it sent is too old.
    "DELETE FROM hosts WHERE via = 'relay' AND NOT EXISTS (SELECT 1 FROM inventories WHERE inventories.host = hosts.host)"
    " AND NOT EXISTS (SELECT 1 FROM batches WHERE batches.host = hosts.host) AND NOT EXISTS (SELECT 1 FROM loose WHERE loose.host = hosts.host)"
    " AND NOT EXISTS (SELECT 1 FROM arrivals WHERE arrivals.host = hosts.host)",
    "DELETE FROM contents WHERE NOT EXISTS (SELECT 1 FROM changes WHERE changes.content = contents.content)",
    "DELETE FROM set_items WHERE NOT EXISTS (SELECT 1 FROM inventories WHERE inventories.base = set_items.base)",
    "DELETE FROM items WHERE NOT EXISTS (SELECT 1 FROM set_items WHERE set_items.item = items.item)"
    " AND NOT EXISTS (SELECT 1 FROM loose WHERE loose.item = items.item)"
    " AND NOT EXISTS (SELECT 1 FROM host_items WHERE host_items.item = items.item)",
    _MOMENTS,
    _MACHINES,
)


def delete_old(transaction: Transaction, keep_days: int, arrived: int = 0) -> int:
    """Delete changes that are older than so many days: up to SLICE, or twice as many as arrived. Returns how many were deleted;
    `dropped` in meta has the sum."""
    first = _first_kept(transaction, "changes", keep_days)
    if first is None:
        return 0
    old = "SELECT seq FROM changes WHERE batch < ? ORDER BY batch LIMIT ?"
    most = max(SLICE, 2 * arrived)
    deleted = transaction.execute("DELETE FROM changes WHERE seq IN (%s)" % old, first, most)
    if deleted:
        transaction.execute("UPDATE meta SET value = value + ? WHERE name = 'dropped'", deleted)
    if 0 < deleted < most:
        for statement in _UNUSED:
            transaction.execute(statement, first)
    return deleted


def delete_received(transaction: Transaction, keep_days: int, arrived: int) -> None:
    """Delete what the relay got besides changes and is older than so many days."""
    most = max(SLICE, 2 * arrived)
    for content, tables in _RECEIVED.items():
        first = _first_kept(transaction, content, keep_days)
        if first is None:
            continue
        done = True
        for table, key in tables:
            old = "SELECT %s FROM %s WHERE day < ? ORDER BY %s LIMIT ?" % (key, table, key)
            done &= transaction.execute("DELETE FROM %s WHERE %s IN (%s)" % (table, key, old), first, most) < most
        if content == "data":
            for host, type_ in transaction.query(
                "SELECT host, type FROM inventories WHERE day < ? LIMIT ?", first, SLICE
            ):
                transaction.remove_inventory(host, type_)
        if done:
            transaction.execute("DELETE FROM days WHERE content = ? AND day < ?", content, first)


def _first_kept(transaction: Transaction, content: str, keep_days: int) -> Optional[int]:
    sql = "SELECT day FROM days WHERE content = ? ORDER BY day DESC LIMIT 1 OFFSET ?"
    found = transaction.query(sql, content, keep_days)
    return int(found[0][0]) if found else None


def clean(transaction: Transaction) -> bool:
    """Once a day: delete what nothing refers to any more. Returns whether this was the time."""
    today = int(transaction.now[:10].replace("-", ""))
    transaction.insert("meta", ("name", "value"), [("cleaned", 0)])
    if transaction.execute("UPDATE meta SET value = ? WHERE name = 'cleaned' AND value <> ?", today, today) == 0:
        return False
    for statement in _ORPHANS:
        transaction.execute(statement)
    return True
