# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Converts snapshots into the results that the modules return."""

import json
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence

from ..kinds.kind import Row
from ..text import calm_json, timestamp
from .snapshot import Snapshot


def facts(snapshot: Snapshot, fields: Optional[Sequence[str]] = None) -> Dict[str, Any]:
    """`{items, count, digest, sources, collected_at}`; `fields` names the columns to keep in each item, and those of
    Kind.on_request to add."""
    return dict(_status(snapshot), items=rows(snapshot, fields))


def rows(snapshot: Snapshot, fields: Optional[Sequence[str]] = None) -> List[Row]:
    kind = snapshot.kind
    if not fields:
        return [kind.row(item) for item in snapshot.items]
    row = kind.row if kind.on_request.keys().isdisjoint(fields) else kind.full_row
    return [{column: value for column, value in row(item).items() if column in fields} for item in snapshot.items]


def text(rows: Sequence[Row]) -> str:
    """Rows as a file holds them: a JSON array with one item a line, in which nothing steers a terminal."""
    return "".join(text_pieces(rows))


def text_pieces(rows: Iterable[Row]) -> Iterator[str]:
    """The same, row by row."""
    before = "[\n"
    for row in rows:
        yield before + calm_json(json.dumps(row, ensure_ascii=False))
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def summary(snapshot: Snapshot, with_state: bool) -> Dict[str, Any]:
    """`{count, digest, sources, collected_at}`; with a state also `baseline` or the number of changes of each category, and
    `kept` if it is not 0."""
    result = _status(snapshot)
    if snapshot.kept:
        result["kept"] = snapshot.kept
    if with_state:
        result["baseline"] = snapshot.age is None
    if snapshot.age is not None:
        for category in ("Added", "Removed", "Modified"):
            result[category.lower()] = sum(change.category == category for change in snapshot.changes)
    return result


def _status(snapshot: Snapshot) -> Dict[str, Any]:
    return {
        "count": snapshot.count,
        "digest": snapshot.digest,
        "collected_at": timestamp(snapshot.collected_at),
        "sources": {
            name: {key: value for key, value in source._asdict().items() if key != "message" or value}
            for name, source in snapshot.sources.items()
        },
    }
