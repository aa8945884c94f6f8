# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change as attribution reads it: an item of a host, what differs, and when that can have happened."""

from __future__ import annotations

import calendar
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...module_utils._cti.kinds.registry import all_kinds

ADDED, REMOVED, MODIFIED = "Added", "Removed", "Modified"
# Seconds between two snapshots of which the second one says 0: the clock of the host was set back in between, by an unknown time.
UNKNOWN_AGE = 86_400.0


class Change(NamedTuple):
    """One change record. All times are Unix seconds of the host's clock; those of an item are whole seconds."""

    host: str  # inventory name
    kind: str  # packages, services or files
    name: str  # of the package or service; the path of the file
    category: str
    fields: frozenset[str]  # that differ; empty for Added and Removed
    since: float  # of the snapshot before, which did not have the change; -inf where it is not known
    until: float  # of the snapshot that has it; inf where it is not known
    values: Mapping[str, Any]  # the columns of the record
    modified: float | None = None  # DateModified
    created: float | None = None  # DateCreated
    installed: float | None = None  # InstalledOn of the item, which is not in a record

    @property
    def removed(self) -> bool:
        return self.category == REMOVED

    def overlaps(self, other: Change) -> bool:
        """Whether both can have happened at the same time."""
        return self.since <= other.until and other.since <= self.until


def from_record(host: str, record: Mapping[str, Any], installed_on: Any = None) -> Change:
    """The change of a ConfigurationChange record. `installed_on`: InstalledOn of the item of a package, if it still has the version
    of the record. Raises ValueError for a record of no kind."""
    kind = next((one for one in all_kinds().values() if record.get("ConfigChangeType") == one.config_type), None)
    if kind is None:
        raise ValueError(f"no kind is called {record.get('ConfigChangeType')!r}")
    until = seconds(record.get("TimeGenerated"))
    age = record.get("LastSnapshotAge")
    known = until is not None and age not in (None, "")
    return Change(
        host=host,
        kind=kind.name,
        name=str(record.get(kind.columns[0]) or ""),
        category=str(record.get("ChangeCategory") or ""),
        fields=frozenset(filter(None, str(record.get("FieldsChanged") or "").split(","))),
        since=until - (float(age or 0) or UNKNOWN_AGE) if known and until is not None else -math.inf,
        until=math.inf if until is None else until,
        values=record,
        modified=seconds(record.get("DateModified")),
        created=seconds(record.get("DateCreated")),
        installed=seconds(installed_on),
    )


def seconds(text: Any) -> float | None:
    """The Unix seconds of a time such as 2026-01-09T08:00:01Z; None for anything else."""
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    except (TypeError, ValueError):
        return None
