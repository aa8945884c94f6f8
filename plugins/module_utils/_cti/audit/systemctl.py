# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The calls of systemctl that the service manager of the host obeys.

A start of systemctl has an event before it asks for anything, and what the answer was has none. Root's calls are obeyed. Those of
other users are, only where polkit lets them, so they do not tell who changed a unit. Source: systemctl(1).
"""

from typing import List

from .messages import Event

PROGRAMS = (b"/usr/bin/systemctl", b"/bin/systemctl")

_QUERIES = frozenset((
    b"status", b"show", b"cat", b"help", b"is-active", b"is-enabled", b"is-failed", b"is-system-running", b"get-default",
    b"show-environment", b"log-level", b"log-target", b"service-watchdogs", b"whoami",
))  # fmt: skip
# Options for another service manager, or for none. A long option may be shortened.
_ELSEWHERE = (b"--user", b"--global", b"--host", b"--machine", b"--root", b"--image")
_WITH_VALUES = b"tpPnso"  # short options: what follows in the same argument is a value


def units_of_call(event: Event) -> List[bytes]:
    """The units that a started program may have changed, as its arguments name them; none unless root called systemctl."""
    if event.exe not in PROGRAMS or event.uid != 0:
        return []
    words = [word for word in event.arguments[1:] if not word.startswith(b"-")]
    if len(words) < 2 or words[0] in _QUERIES or words[0].startswith(b"list-"):
        return []
    if any(_is_elsewhere(argument) for argument in event.arguments[1:]):
        return []
    return words[1:]


def _is_elsewhere(argument: bytes) -> bool:
    if argument.startswith(b"--"):
        name = argument.partition(b"=")[0]
        return len(name) > 2 and any(option.startswith(name) for option in _ELSEWHERE)
    if not argument.startswith(b"-"):
        return False
    for at in range(1, len(argument)):
        letter = argument[at : at + 1]  # noqa: E203
        if letter in _WITH_VALUES:
            return False
        if letter in b"HM":
            return True
    return False
