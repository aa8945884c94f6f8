# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who changed what: the changes of each actor, as the run log and the hosts name them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from ...module_utils._cti.text import line, plural
from .groups import MAX_LENGTH, MOST_HOSTS, SHOWN_HOSTS
from .history import Found, Ran
from .witness import actor_of

MOST_ITEMS = 100  # whose names an entry has
_KEYS = ("login", "process", "module")

Entry = dict[str, Any]


def by_actor(every: Iterable[Found]) -> list[Entry]:
    """The actors with their changes, hosts and items. Who changed most is first; changes whose actor is not known are last."""
    found: dict[tuple[Ran | None, tuple[Any, ...]], list[Found]] = defaultdict(list)
    for one in every:
        actor = actor_of(one.change.values) or {}
        found[one.ran, tuple(map(actor.get, _KEYS))].append(one)
    entries = [_entry(ran, actor, some) for (ran, actor), some in found.items()]
    return sorted(entries, key=lambda one: (not _who(one), -one["changes"], _who(one)))


def _entry(ran: Ran | None, actor: tuple[Any, ...], some: list[Found]) -> Entry:
    times = sorted(str(one.change.values.get("TimeGenerated") or "") for one in some)
    hosts = sorted({one.change.host for one in some})
    items = Counter(one.change.name for one in some)
    return {
        "user": ran.user if ran else None,
        "playbook": ran.playbook if ran else None,
        **dict(zip(_KEYS, actor)),
        "changes": len(some),
        "count": len(hosts),
        "hosts": hosts[:MOST_HOSTS],
        "names": [name for name, _count in sorted(items.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_ITEMS]],
        "more": max(0, len(items) - MOST_ITEMS),
        "first": times[0],
        "last": times[-1],
    }


def _who(entry: Entry) -> str:
    login, process, module = entry["login"], (entry["process"] or "").rpartition("/")[2], entry["module"]
    program = f"Ansible's {module}" if module else process
    host = f"{login} ({program})" if login and program else login or program
    playbook = (entry["playbook"] or "").rpartition("/")[2]
    run = " of ".join(filter(None, (playbook, entry["user"])))
    return "  on the host ".join(filter(None, (run, host)))


def lines(entries: list[Entry]) -> list[str]:
    shown = []
    for entry in entries:
        items, total = entry["names"][:SHOWN_HOSTS], len(entry["names"]) + entry["more"]
        more = f", {total - len(items)} more" if total > len(items) else ""
        what = f"{plural(entry['changes'], 'change')} on {plural(entry['count'], 'host')}"
        shown.append(
            line(f"{_who(entry) or 'not known'}  {what}  last {entry['last']}  {', '.join(items)}{more}", MAX_LENGTH)
        )
    return shown
