# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open what ct_inventory_info packed. The managed host wrote it, so it is not trusted."""

from __future__ import annotations

import base64
import json
import zlib

MAX_BYTES = 512 << 20


def unpack(packed: str, max_bytes: int | None = None) -> dict[str, list[dict]]:
    """The items by kind. Raises ValueError with one sentence."""
    limit = MAX_BYTES if max_bytes is None else max_bytes
    try:
        inflate = zlib.decompressobj()
        raw = inflate.decompress(base64.b64decode(packed, validate=True), limit)
        if not inflate.eof:
            raise ValueError(f"it is cut off, or more than {limit >> 20} MiB")
        items = json.loads(raw)
    except (TypeError, ValueError, RecursionError, zlib.error) as error:
        raise ValueError(f"This is not what ct_inventory_info returns as packed ({error}).") from None
    if not isinstance(items, dict) or not all(isinstance(rows, list) for rows in items.values()):
        raise ValueError("This is not what ct_inventory_info returns as packed (it is not items by kind).")
    return items
