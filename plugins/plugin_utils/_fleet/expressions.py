# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates the expressions of an inventory plugin once for all hosts that are alike in what an expression uses.

Ansible compiles an expression again for each host, which takes about a millisecond.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import Environment, TemplateError, nodes

ALL = "*"
Apply = Callable[[Any, Mapping[str, Any], str], None]  # (inventory, variables, host)
_TEXT = r"(?:'([^'\\]*)'|\"([^\"\\]*)\")"
# 'KEY' in VARIABLE, VARIABLE.get('KEY'), VARIABLE['KEY'], VARIABLE.KEY, VARIABLE
_USE = rf"(?:{_TEXT}\s+(?:not\s+)?in\s+)?\b{{}}\b(?:\.get\(\s*{_TEXT}|\[\s*{_TEXT}\s*\]|\.([A-Za-z_]\w*))?"
_PARSER = Environment(autoescape=True)


def names_in(variable: str, text: str) -> set[str]:
    """The keys of a variable, a mapping, that an expression uses. ALL is one of them where the text does not say which."""
    found: set[str] = set()
    for match in re.finditer(_USE.format(variable), text):
        *of_test, of_get, of_get_2, of_item, of_item_2, attribute = match.groups()
        tested = next((name for name in of_test if name is not None), None)
        keys = [name for name in (of_get, of_get_2, of_item, of_item_2, attribute) if name is not None]
        if (attribute is not None and hasattr(dict, attribute)) or (keys and tested is not None):
            found.add(ALL)  # a method of the mapping; or whether a text is in a value
        else:
            found.update(keys or [ALL if tested is None else tested])
    return {ALL if set("*?[") & set(name) else name for name in found}


class Expression:
    """An entry of `compose`, `groups` or `keyed_groups`. `apply` has Ansible evaluate it for a host. `known`: the variables by which
    hosts are compared. An expression that uses others, or none, is evaluated for each host."""

    def __init__(self, text: str, apply: Apply, known: Iterable[str]) -> None:
        self._apply = apply
        self._uses = _uses(text, frozenset(known))
        self._calls: dict[tuple[Any, ...], list[tuple[str, tuple[Any, ...]]]] = {}

    def evaluate(self, inventory: Any, variables: Mapping[str, Any], host: str) -> None:
        if self._uses is None:
            self._apply(inventory, variables, host)
            return
        key = tuple([_part(variables[variable], names) for variable, names in self._uses.items()])
        if key not in self._calls:
            recorder = _Recorder(inventory, host)
            self._apply(recorder, variables, host)
            self._calls[key] = recorder.calls
            return
        for method, arguments in self._calls[key]:
            getattr(inventory, method)(*[host if argument is _HOST else argument for argument in arguments])


_HOST = object()  # stands for the name of the host


class _Recorder:
    """An inventory that notes the calls of its methods."""

    def __init__(self, inventory: Any, host: str) -> None:
        self._inventory = inventory
        self._host = host
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append((method, tuple([_HOST if one is self._host else one for one in arguments])))
            return getattr(self._inventory, method)(*arguments)

        return call


def _uses(text: str, known: frozenset[str]) -> dict[str, set[str]] | None:
    """{variable: names in it}; None where the expression is to be evaluated for each host."""
    try:
        found = {node.name for node in _PARSER.parse("{{ %s }}" % text).find_all(nodes.Name)}
    except TemplateError:
        return None
    return {one: names_in(one, text) for one in sorted(found)} if found and found <= known else None


def _part(value: Any, names: set[str]) -> Any:
    """What of a variable counts."""
    if not isinstance(value, Mapping):
        return value
    return frozenset(value.items()) if ALL in names else tuple([value.get(name) for name in sorted(names)])
