# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a relay got of changes and their actors."""

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import original

COLUMNS = (
    "ChangeCategory", "FileSystemPath", "ChangedAt", "ChangedBy", "ChangedByUid", "ChangedByProcess", "ChangedByCommand",
    "ChangedBySession", "ChangedByModule", "ChangedByCount", "TimeGenerated",
)  # fmt: skip


def records(host, after=0):
    host.arrived()
    query = "SELECT Seq, %s FROM ConfigurationChange WHERE Seq > %d ORDER BY Seq" % (", ".join(COLUMNS), after)
    rows = []
    for seq, *values in host.relay.rows(query):
        row = dict(zip(COLUMNS, values), Seq=seq)
        if row["FileSystemPath"]:
            row["FileSystemPath"] = original(row["FileSystemPath"])
        rows.append(row)
    return rows


def wait_for_runs(host, kind="File"):
    """Until a run that started from now on is stored, and its records are delivered."""
    host.skip()  # the lines of runs that have ended
    for _run in range(2):
        host.expect("Number of %s received in this run" % kind)
    while host.status()["Outbox"]["Records"]:
        pass


def only(host, seen=0):
    """The one new record."""
    (row,) = records(host, seen)
    return row
