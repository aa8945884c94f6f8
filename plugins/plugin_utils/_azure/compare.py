# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a resource with what is asked for. ARM adds keys, and spells ids and locations as it likes: that is no difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Azure returns these whole, as they were written, so that a key that is not asked for is a difference too.
EXACT = ("extensionSettings", "dataSources")
# Automatic upgrades change it.
AT_CREATION = ("typeHandlerVersion",)
EMPTY: tuple[Any, ...] = (None, {}, [], "")


def seen(wanted: Any, found: Any, key: str = "") -> Any:
    """The part of `found` that `wanted` has, where both mean the same in the words of `wanted`: they are equal if nothing is to change."""
    return _seen(wanted, found, key, False)


def differing(wanted: Any, found: Any, path: str = "") -> list[str]:
    """The keys of `wanted` that have another value in `found`, each as a path."""
    if wanted == found:
        return []
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        prefix = path + "." if path else ""
        return [one for key, value in wanted.items() for one in differing(value, found.get(key), prefix + key)]
    return [path]


def merged(wanted: Any, *others: Any) -> Any:
    """A copy of `wanted` with the keys that only the others have."""
    if not isinstance(wanted, Mapping):
        return wanted
    result = dict(wanted)
    for other in others:
        for key, value in (other or {}).items():
            result[key] = (
                merged(result[key], value) if key in result and isinstance(value, Mapping) else result.get(key, value)
            )
    return result


def _seen(wanted: Any, found: Any, key: str, exact: bool) -> Any:
    if key in AT_CREATION and found is not None:
        return wanted
    if wanted in EMPTY and found in EMPTY and not key.startswith("/"):  # an id as a key says that it is there
        return wanted
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return _seen_mapping(wanted, found, exact or key == "extensionSettings", key in EXACT)
    if isinstance(wanted, list) and isinstance(found, list):
        return _seen_list(wanted, found, exact)
    if isinstance(wanted, str) and isinstance(found, str) and _plain(key, wanted) == _plain(key, found):
        return wanted
    return found


def _seen_mapping(wanted: Mapping[str, Any], found: Mapping[str, Any], exact: bool, only_these: bool) -> dict[str, Any]:
    result = {key: _seen(value, found.get(key), key, exact) for key, value in wanted.items()}
    result = {key: value for key, value in result.items() if key in found or value == wanted[key]}
    if exact or only_these:
        result.update({key: value for key, value in found.items() if key not in wanted and value not in EMPTY})
    return result


def _seen_list(wanted: list[Any], found: list[Any], exact: bool) -> list[Any]:
    if all(isinstance(element, str) for element in [*wanted, *found]):
        same = sorted(map(str.lower, wanted)) == sorted(map(str.lower, found))
        return wanted if same and not exact else found
    if len(wanted) != len(found):
        return found
    return [_seen(one, other, "", exact) for one, other in zip(wanted, found)]


def _plain(key: str, text: str) -> str:
    if key == "location":
        return text.replace(" ", "").lower()
    if key == "roleDefinitionId":  # which has a subscription before it, or none
        return text.rpartition("/")[2].lower()
    return text.lower() if text.startswith(("/subscriptions/", "/providers/")) else text
