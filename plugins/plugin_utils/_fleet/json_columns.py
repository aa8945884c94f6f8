# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns of the fleet store that hold JSON. What is none, or of another type, is empty."""

from __future__ import annotations

import json
from typing import Any


def read_list(text: Any) -> list[Any]:
    value = _read(text)
    return value if isinstance(value, list) else []


def read_mapping(text: Any) -> dict[str, Any]:
    value = _read(text)
    return value if isinstance(value, dict) else {}


def _read(text: Any) -> Any:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
