# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator selects: hosts, items, and times. A ValueError is one sentence that says what to write instead."""

from __future__ import annotations

import datetime
import fnmatch
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ...module_utils._cti.errors import SinceError
from ...module_utils._cti.fleet.store import located
from ...module_utils._cti.state import since

DAY = 86_400.0
EVERYTHING = ("all", "*")
NONE = "none"

Groups = Mapping[str, Sequence[str]]  # of the Ansible inventory
Selects = Callable[[str], bool]


def location(store: str) -> str:
    """Where a fleet store is, by the value of the option: an absolute path or a URL. Raises ValueError."""
    store = store.strip()
    if store in ("", NONE):
        raise ValueError("There is no fleet store to read. Give its path or URL as store (in the playbook: ct_store).")
    return located(store)


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


def check_hosts(option: str, names: Sequence[str], groups: Groups, known: Collection[str]) -> list[str]:
    """A warning for each of the names, groups and patterns that matches no host. Raises ValueError if no host is selected."""
    if not any(map(selecting(names, groups), known)):
        raise ValueError(
            f"No host in the fleet store matches the value of {option}, {', '.join(names)[:200]!r}. Give names or groups of hosts, or"
            " patterns such as web*."
        )
    plain = [name.lstrip("!") for name in names]
    unknown = [name for name in plain if name not in known and not any(map(selecting([name], groups), known))]
    return [f"No host in the fleet store matches {name[:80]!r} in the value of {option}." for name in unknown]


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


def past(value: Any, option: str) -> float:
    """The same of a time that is not in the future: after it, nothing was found yet."""
    at = moment(value, option)
    if at > time.time():
        raise ValueError(f"The value of {option} is in the future. Give an age such as 3d.")
    return at
