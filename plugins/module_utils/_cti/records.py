# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Items in Change Tracking & Inventory's words: the only place that knows its field names.

The columns are those of the Log Analytics tables ConfigurationData (an item as it is) and ConfigurationChange
(what happened to it). Owner, Group, Mode and systemd's raw states have no documented column; they ride along.
"""

import hashlib
import json
from typing import Any, Callable, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple

from .model import File, Item, Package, Service
from .text import printable, printable_values, timestamp

Row = Dict[str, Any]


class Kind(NamedTuple):
    """What the road needs to know about one kind of item."""

    name: str
    config_type: str  # ConfigDataType and ConfigChangeType
    item: Callable[..., Any]  # the item's class, to read it back from a stored array
    identity: Callable[[Any], Tuple[str, ...]]  # what makes two items the same thing at two times
    compared: Callable[[Any], Sequence[Any]]  # two items with equal ones have not changed
    label: Callable[[Any], str]  # what an operator calls the item
    make_row: Callable[[Any], Row]  # the item's columns, with texts as the host has them: use row()
    columns: Tuple[str, ...]
    tracked: Dict[str, Tuple[str, str]]  # column -> its names (current, previous) in a change record
    uncompared: Tuple[str, ...]  # columns whose change alone is no change of the item
    # (older item, newer item) -> columns that cannot be compared between these two
    incomparable: Callable[[Any, Any], Tuple[str, ...]] = lambda older, newer: ()

    def row(self, item: Any) -> Row:
        """The item's columns, printable: the one way in which an item leaves the library."""
        return printable_values(self.make_row(item))


def package_row(item: Package) -> Row:
    return {
        "SoftwareName": item.name,
        "SoftwareType": "Package",
        "SoftwareDescription": item.summary,
        "Publisher": item.publisher,
        "CurrentVersion": item.version,
        "Architecture": item.architecture,
        "Size": item.size,
        "InstalledOn": timestamp(item.installed_on),
    }


def service_state(item: Service) -> str:
    if item.sub_state == "unknown":
        return "Unknown"
    is_up = "running" in item.sub_state or item.active_state in ("reloading", "refreshing")
    return "Running" if is_up else "Stopped"


def _incomparable_service(older: Service, newer: Service) -> Tuple[str, ...]:
    """The state of a service that systemd starts when it is needed changes by being used; once nothing starts it any more,
    and it is not enabled, its state is somebody's doing again. An older version's
    SvcRunlevels depended on what was loaded. Where systemd ran for one of the two runs only, the other one knows no
    states and no search path, and may lack what is in /run, drop-ins among it."""
    out = []
    if newer.on_demand or (older.on_demand and newer.is_enabled):
        out.append("SvcState")
    if older.on_demand is None:
        out.append("SvcRunlevels")
    if (older.sub_state == "unknown") != (newer.sub_state == "unknown"):
        out += ["SvcState", "SvcPath", "SvcDescription"]
        if "-runtime" in older.unit_file_state + newer.unit_file_state:
            out += ["SvcStartupType", "SvcRunlevels", "UnitFileState"]
    return tuple(out)


def service_row(item: Service) -> Row:
    return {
        "SvcName": item.name,
        "SvcDescription": item.description,
        "SvcState": service_state(item),
        "SvcStartupType": "Enabled" if "enabled" in item.unit_file_state else "Disabled",
        "SvcRunlevels": item.wanted_by,
        "SvcController": "systemd",
        "SvcPath": item.path,
        "LoadState": item.load_state,
        "ActiveState": item.active_state,
        "SubState": item.sub_state,
        "UnitFileState": item.unit_file_state,
    }


def file_row(item: File) -> Row:
    return {
        "FileSystemPath": item.path,
        "FileContentChecksum": item.checksum,
        "Size": item.size,
        "Owner": item.owner,
        "Group": item.group,
        "Mode": None if item.mode is None else "%04o" % item.mode,
        "DateModified": timestamp(item.modified),
        "DateCreated": timestamp(item.created),
        "FileType": item.type,
        "LinkTarget": item.link_target,
    }


def _previous(*columns: str) -> Dict[str, Tuple[str, str]]:
    return {column: (column, "Previous" + column) for column in columns}


PACKAGES = Kind(
    name="packages",
    config_type="Software",
    item=Package,
    identity=lambda item: (item.name, item.architecture),
    compared=lambda item: item[:6],
    label=lambda item: printable(item.name),
    make_row=package_row,
    columns=tuple(package_row(Package("", "", "", "", "", None, None))),
    tracked={"CurrentVersion": ("Current", "Previous")},
    uncompared=("InstalledOn",),
)
SERVICES = Kind(
    name="services",
    config_type="Daemons",
    item=Service,
    identity=lambda item: (item.name,),
    compared=lambda item: (item[0], item[1], "" if item.on_demand else service_state(item), *item[5:8]),
    label=lambda item: printable(item.name),
    make_row=service_row,
    columns=tuple(service_row(Service("", "", "", "", "", "", "", ""))),
    tracked={
        "SvcState": ("SvcState", "SvcPreviousState"),
        "SvcStartupType": ("SvcStartupType", "SvcPreviousStartupType"),
        "SvcRunlevels": ("SvcRunlevels", "SvcPreviousRunlevels"),
        "SvcController": ("SvcController", "SvcPreviousController"),
        "SvcPath": ("SvcPath", "SvcPreviousPath"),
        "UnitFileState": ("UnitFileState", "PreviousUnitFileState"),
    },
    uncompared=("LoadState", "ActiveState", "SubState"),
    incomparable=_incomparable_service,
)
_FILE_COLUMNS = tuple(file_row(File("", "", None, "", "", None, None, None, "", "")))
FILES = Kind(
    name="files",
    config_type="Files",
    item=File,
    identity=lambda item: (item.path,),
    compared=lambda item: item[:10],
    label=lambda item: printable(item.path),
    make_row=file_row,
    columns=_FILE_COLUMNS,
    tracked=_previous(*_FILE_COLUMNS[1:]),
    uncompared=(),
)
KINDS = {kind.name: kind for kind in (PACKAGES, SERVICES, FILES)}


# What a record on the wire has beside its kind's columns, and the columns of the two tables.
RECORD_ID = "RecordId"  # stays the same when a record is delivered again
TIME = "TimeGenerated"
INVENTORY_RECORDS = "InventoryRecords"  # in the last record of an inventory of one kind: how many records it has
CONTENT_DIFF = "ContentDiff"  # of a file whose text is kept
MACHINE_COLUMNS = ("Computer", "SourceComputerId", "VMUUID", TIME)
INTEGER_COLUMNS = ("Size", "PreviousSize", "LastSnapshotAge")


def _changed(kind: Kind) -> Iterator[str]:
    for column in kind.columns:
        if column not in kind.tracked and column not in kind.uncompared:
            yield column
    for current, previous in kind.tracked.values():
        yield current
        yield previous


def _unique(*groups: Iterable[str]) -> Tuple[str, ...]:
    return tuple(dict.fromkeys(column for group in groups for column in group))


DATA_COLUMNS = _unique(
    MACHINE_COLUMNS,
    ("ConfigDataType", "Name", "SvcDisplayName"),
    *(kind.columns for kind in KINDS.values()),
)
CHANGE_COLUMNS = _unique(
    MACHINE_COLUMNS,
    ("ConfigChangeType", "ChangeCategory", "FieldsChanged", "LastSnapshotAge", "SvcDisplayName", "SvcChangeType"),
    *(_changed(kind) for kind in KINDS.values()),
    (CONTENT_DIFF,),
)


def digest(kind: Kind, items: Sequence[Item]) -> str:
    """Hex SHA-256 of what is compared, so that equal digests mean that nothing changed."""
    compared = json.dumps([list(kind.compared(item)) for item in items], separators=(",", ":"))
    return hashlib.sha256(compared.encode("ascii")).hexdigest()


def change_record(kind: Kind, category: str, old: Optional[Item], new: Optional[Item], fields: Sequence[str]) -> Row:
    """A ConfigurationChange record, without the columns that say when and where.

    A Removed record has no current values, an Added one no previous ones: those keys are left out.
    """
    before = kind.row(old) if old is not None else {}
    after = kind.row(new) if new is not None else {}
    record = {"ConfigChangeType": kind.config_type, "ChangeCategory": category, "FieldsChanged": ",".join(fields)}
    for column, value in (after or before).items():
        if column not in kind.tracked and column not in kind.uncompared:
            record[column] = value
    for column, (current, previous) in kind.tracked.items():
        if after:
            record[current] = after[column]
        if before:
            record[previous] = before[column]
    return record


def data_record(kind: Kind, row: Row) -> Row:
    """A ConfigurationData record of an item's row, without the columns that say when and where."""
    return dict(row, ConfigDataType=kind.config_type)


def sealed(records: Iterable[Row]) -> Iterator[Row]:
    """The records of an inventory, the last one of which says how many there are: who has so many has all of it."""
    last: Optional[Row] = None
    count = 0
    for record in records:
        if last is not None:
            yield last
        last = record
        count += 1
    if last is not None:
        yield dict(last, **{INVENTORY_RECORDS: count})


def identified(records: Iterable[Row]) -> Iterator[Row]:
    """The same, each with a RecordId that no other record has, unless it has one: it is given once, before it is sent."""
    import uuid  # the modules, which send nothing, do without it

    batch = uuid.uuid4().hex
    for number, record in enumerate(records):
        record.setdefault(RECORD_ID, "%s-%d" % (batch, number))
        yield record
