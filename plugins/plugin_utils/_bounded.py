# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what a managed host returned in a form that can be printed and stored, and in a size that fits for every host of a run."""

from __future__ import annotations

from typing import Any

from ..module_utils._cti.text import is_utf8, printable

MAX_TEXT = 4 << 10  # characters
MAX_VALUES = 50_000
MAX_DEPTH = 50


def storable(value: Any) -> Any:
    """The value with each lone surrogate written out: such a text can be neither printed nor stored. Raises RecursionError."""
    if isinstance(value, str):
        return value if is_utf8(value) else printable(value)  # an honest host has made it printable
    if isinstance(value, list):
        return [storable(element) for element in value]
    if isinstance(value, dict):
        return {storable(name): storable(element) for name, element in value.items()}
    return value


def bounded(value: Any) -> Any:
    """A copy with texts that can be printed and stored, long ones cut. Raises ValueError: it has too many values."""
    return _Copier().copy(value, 0)


class _Copier:
    def __init__(self) -> None:
        self._values = 0

    def copy(self, value: Any, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise ValueError("it has too many values")
        if isinstance(value, str):
            return _cut(value)
        if isinstance(value, dict):
            return {_cut(str(key)): self.copy(element, depth + 1) for key, element in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.copy(element, depth + 1) for element in value]
        return value


def _cut(text: str) -> str:
    whole = str.__str__(text)
    if len(whole) > MAX_TEXT:
        whole = f"{whole[:MAX_TEXT]} ... ({MAX_TEXT} of {len(whole)} characters)"
    return str(storable(whole))
