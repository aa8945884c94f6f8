# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selects the expected members of a managed host's answer, safe to print and to store, and limited in size.

Ansible acts on some members of a result (ansible_facts, ansible_stats, add_host, exception, diff, those that start with
_ansible_): a host could set variables of the run by them, or end it. So members are taken by name and type, and no others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..module_utils._cti.text import calm_json, line

FLAGS = ("changed", "failed", "unreachable")
FAILURE = {"msg": str, "module_stdout": str, "module_stderr": str, "rc": int}  # of a module that did not get to its end
NOTES = ("warnings", "deprecations")
MAX_TEXT = 4 << 10  # characters
MAX_NOTES = 100
MAX_VALUES = 50_000
MAX_DEPTH = 50
MAX_NUMBER = 10**19  # Python writes no number of more than 4,300 digits
# As JSON writes line ends, other controls, and marks of direction.
_ESCAPES = re.compile(
    r"\\(?:[bfnr]|u(?:00(?:[01][0-9a-f]|7f|[89][0-9a-f])|061c|200[ef]|202[89a-e]|206[6-9]))", re.IGNORECASE
)


def taken(answer: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an answer that `types` names, if they have that type, the flags, and the reason for a failure.

    Each text is one line that is safe to show in a terminal. The module's notes are `warnings`, if there are any.
    Raises ValueError: there are too many values, or a number is too large.
    """
    result: dict[str, Any] = {flag: True for flag in FLAGS if answer.get(flag)}
    for name, kind in {**FAILURE, **types}.items():
        if name in answer and isinstance(answer[name], kind):
            result[name] = answer[name]
    warnings = [text for name in NOTES for text in _notes(answer.get(name))]
    if warnings:
        result["warnings"] = warnings
    return dict(_Copier().copy(result, 0))


def calm_output(output: str) -> str:
    """What a module printed, as ansible-core may read it: it shows what follows the JSON, and, from 2.21 on, the warnings in it,
    before an action plugin has the answer.
    """
    output = calm_json(output)
    if not _ESCAPES.search(output):
        return output
    try:
        answer = json.JSONDecoder().raw_decode(output, output.index("{"))[0]
        for name in NOTES:
            if name in answer:
                answer[name] = _Copier().copy(answer[name], 0)
        return json.dumps(answer)
    except (ValueError, RecursionError):  # if ansible-core reads it all the same, it finds no escapes in it
        return _ESCAPES.sub(lambda match: "?" + match.group()[1:], output)


def _notes(notes: Any) -> list[str]:
    """The texts of a result's warnings: texts, mappings, or, from ansible-core 2.19 on, objects with an event."""
    if not isinstance(notes, (list, tuple)):
        return []
    texts = []
    for note in notes[:MAX_NOTES]:
        text = note.get("msg") if isinstance(note, Mapping) else getattr(getattr(note, "event", note), "msg", note)
        if isinstance(text, str):
            texts.append(text)
    if len(notes) > MAX_NOTES:
        texts.append(f"{MAX_NOTES} of {len(notes)} warnings of the host are shown.")
    return texts


class _Copier:
    def __init__(self) -> None:
        self._values = 0

    def copy(self, value: Any, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise ValueError("it has too many values")
        if isinstance(value, str):
            return calm(value)
        if isinstance(value, dict):
            return {calm(str(key)): self.copy(element, depth + 1) for key, element in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.copy(element, depth + 1) for element in value]
        if isinstance(value, int) and not -MAX_NUMBER < value < MAX_NUMBER:
            raise ValueError("it has a number that is too large")
        return value if value is None or isinstance(value, (bool, int, float)) else calm(str(value))


def calm(text: str) -> str:
    """A text of a host as one line that is safe to show in a terminal, cut where it is long."""
    whole = str.__str__(text)
    if len(whole) > MAX_TEXT:
        whole = f"{whole[:MAX_TEXT]} ... ({MAX_TEXT} of {len(whole)} characters)"
    return line(whole if whole.isprintable() else " ".join(whole.splitlines()))


def calm_data(value: Any) -> Any:
    """The same data, with each text in it made calm(). Raises TypeError for bytes, which are no data of JSON."""
    if isinstance(value, str):
        return calm(value)
    if isinstance(value, bytes) or (isinstance(value, Mapping) and any(isinstance(key, bytes) for key in value)):
        raise TypeError("bytes are no text")
    if isinstance(value, Mapping):
        return {key: calm_data(element) for key, element in value.items()}
    return list(map(calm_data, value)) if isinstance(value, (list, tuple)) else value
