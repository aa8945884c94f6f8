# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Reads one object of a rule, and collects the warnings about what is not used."""

from typing import Any, Callable, Collection, Dict, List

from ..errors import DcrError
from . import forms
from .forms import shown

MAX_WARNINGS = 50


class Warnings:
    """The parts of a rule that are not used, and why: the first MAX_WARNINGS texts, and the number of all."""

    def __init__(self) -> None:
        self.errors: Dict[str, str] = {}  # see Settings
        self.left_out: List[str] = []  # the first MAX_WARNINGS texts about file items that are not used
        self._texts: List[str] = []
        self._number = 0

    def add(self, compose: Callable[..., str], *arguments: Any) -> None:
        """Add the text that `compose` makes from `arguments`. It is not called for a text beyond the limit."""
        self._number += 1
        if self._number <= MAX_WARNINGS:
            self._texts.append(compose(*arguments))

    def leave_out(self, text: str) -> None:
        """Add a text about file items that are not used."""
        self.add(str, text)
        if len(self.left_out) < MAX_WARNINGS:
            self.left_out.append(text)

    def texts(self) -> List[str]:
        if self._number <= MAX_WARNINGS:
            return self._texts
        return [
            *self._texts,
            "Only the first %d of %d warnings about the rule are shown." % (MAX_WARNINGS, self._number),
        ]


def read_section(where: str, value: Any, keys: Collection[str], warnings: Warnings) -> Dict[str, Any]:
    """An object of the rule; empty where it is null. Warns of unknown keys. Raises DcrError."""
    if value is None:
        return {}
    if forms.is_expression(value):
        raise DcrError(forms.expression_refused(where, value))
    if not isinstance(value, dict):
        raise DcrError(f"{where} is {shown(value)}, not an object. Correct the DCR.")
    for key in value:
        if key not in keys:
            warnings.add(_ignored, where, str(key), keys)
    return value


def meant(key: str, known: Collection[str]) -> str:
    """The known key that an unknown one resembles; empty where there is none."""
    import difflib

    folded = {name.lower(): name for name in known}
    similar = difflib.get_close_matches(key[:80].lower(), list(folded), 1, 0.8)
    return folded[similar[0]] if similar else ""


def _ignored(where: str, key: str, known: Collection[str]) -> str:
    similar = meant(key, known)
    suggestion = f" (did you mean {similar}?)" if similar else ""
    return f"{where}.{key[:80]} is not a key of the DCR format and is ignored{suggestion}."
