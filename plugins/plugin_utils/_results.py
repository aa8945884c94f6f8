# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes in a result of ct_inventory_info or ct_inventory_fetch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..module_utils._cti.packed import CHANGES
from ..module_utils._cti.packed_reader import kinds


def change_rows(result: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the changes, which are a list from ct_inventory_info, and packed from ct_inventory_fetch. Raises PackedError."""
    changes = result.get("changes")
    if isinstance(changes, Sequence) and not isinstance(changes, str):
        yield from changes
    elif isinstance(result.get("files"), Sequence) and isinstance(result.get("packed"), str):
        for kind, rows in kinds(result["packed"]):
            if kind == CHANGES:
                yield from rows
