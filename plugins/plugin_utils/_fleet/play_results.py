# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads changes from the results of the hosts of a play, as history.read() does from the fleet store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from ...module_utils._cti.packed_reader import PackedError
from ...module_utils._cti.records import RECORD_ID, change_columns
from .._results import change_rows
from . import history
from .report_columns import share
from .selection import Selects

COLUMNS = (RECORD_ID, *change_columns())

Results = dict[str, Mapping[str, Any]]


def read(
    task_vars: Mapping[str, Any], register: str, selects: Selects
) -> tuple[list[tuple[str, history.Record]], bool]:
    """(host, record) of each change in the results of the hosts of the play, and whether there are more than history.MOST_CHANGES. Then
    each host has an equal share. `register`: the variable in which each host keeps its result."""
    results: Results = {}
    for host in task_vars.get("ansible_play_hosts_all", ()):
        result = task_vars["hostvars"][host].get(register)
        if isinstance(result, Mapping) and selects(host):
            results[str(host)] = result
    records = list(islice(_records(results, None), history.MOST_CHANGES + 1))
    if len(records) <= history.MOST_CHANGES:
        return records, False
    del records
    counts = [(sum(1 for _record in _records({host: result}, None)), 1) for host, result in results.items()]
    return list(_records(results, int(share(counts, history.MOST_CHANGES)))), True


def _records(results: Results, most: int | None) -> Iterator[tuple[str, history.Record]]:
    """Yield (host, record) of the changes in results, at most so many of each host."""
    for host, result in results.items():
        with suppress(PackedError):
            for row in islice(filter(_is_record, change_rows(result)), most):
                yield host, {name: row[name] for name in COLUMNS if isinstance(row.get(name), (str, int))}


def _is_record(row: Any) -> bool:
    return isinstance(row, Mapping)
