# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator selects: hosts, items, and times. A ValueError is one sentence that says what to write instead."""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...module_utils._cti.errors import SinceError
from ...module_utils._cti.state import since

DAY = 86_400.0
EVERYTHING = ("all", "*")

Groups = Mapping[str, Sequence[str]]  # of the Ansible inventory
Selects = Callable[[str], bool]


def matching(patterns: Iterable[str]) -> Selects:
    """Whether a text matches one of the patterns: `*`, `?` and `[...]` as in a shell, where `*` matches a slash too. Without
    patterns, everything does."""
    every = list(patterns)
    if not every:
        return lambda text: True
    match = re.compile("|".join(map(fnmatch.translate, every))).match
    return lambda text: match(text) is not None


def selecting(names: Iterable[str], groups: Groups) -> Selects:
    """Whether a host is selected by names of hosts, patterns of names, or names of groups. Names after `!` are excluded."""
    wanted, unwanted = _expanded(names, groups)
    includes = matching(wanted)
    if not unwanted:
        return includes
    excludes = matching(unwanted)
    return lambda host: includes(host) and not excludes(host)


def _expanded(names: Iterable[str], groups: Groups) -> tuple[list[str], list[str]]:
    wanted: list[str] = []
    unwanted: list[str] = []
    for name in names:
        plain = name.lstrip("!")
        hosts = ["*"] if plain in EVERYTHING else [_literal(host) for host in groups.get(plain, ())] or [plain]
        (unwanted if name.startswith("!") else wanted).extend(hosts)
    return wanted, unwanted


def _literal(host: str) -> str:
    """The pattern that matches this name alone."""
    return re.sub(r"([*?[])", r"[\1]", host)


def moment(value: Any, option: str, end: bool = False) -> float:
    """The Unix seconds of a time, a date, or an age such as 3d. `end`: a date stands for the end of that day."""
    if isinstance(value, datetime.date):  # as YAML reads it; a datetime is one too
        value = value.isoformat()
    text = str(value).strip()
    try:
        at = since.parse(text).at
    except SinceError:
        at = None
    if at is None:
        raise ValueError(
            f"The value of {option} is {text[:80]!r}. Give a time such as 2026-01-09T08:00:00Z, a date such as 2026-01-09, or an age such as 3d."
        )
    return at + DAY if end and re.fullmatch(r"\d{4}-\d\d-\d\d", text) else float(at)
