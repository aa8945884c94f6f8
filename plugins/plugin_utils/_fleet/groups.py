# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups changes over hosts: the same change on 480 hosts is one entry, and one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...module_utils._cti.kinds.registry import all_kinds
from ...module_utils._cti.text import line, plural, timestamp
from .attribution import CONFIRMED, DIFFERS, DRIFT, NAMED, RUN, TASK
from .changes import MODIFIED, Change
from .history import LEVELS, UNKNOWN, Found
from .witness import actor_of, in_short

MOST_HOSTS = 100  # whose names an entry has
SHOWN_HOSTS = 3  # in a line
MAX_LENGTH = 300  # characters of a line
_CONTENT = "FileContentChecksum"
_FOLLOW = frozenset(("Size", "DateModified", "DateCreated"))  # change with the content
_VERSION = "CurrentVersion"
_HOST_SAYS = {CONFIRMED: "confirmed by the host: ", DIFFERS: "but on the host by ", NAMED: "on the host by "}
_SHARED = ("login", "process", "module")  # of an actor: equal in a group
_HEADINGS = {DRIFT: "Drift", UNKNOWN: "Changed", RUN: "Perhaps Ansible", TASK: "Ansible"}

Entry = dict[str, Any]


def entry(found: Found) -> Entry:
    """A change as data. What is the same in the same change of another host, and `host`, `time` and `record`."""
    change, mark = found.change, found.mark
    before, after = _values(change)
    return {
        "level": found.attribution.level,
        "kind": change.kind,
        "category": change.category,
        "item": change.name,
        "architecture": change.values.get("Architecture") or "",
        "fields": _fields(change),
        "before": before,
        "after": after,
        "reason": found.attribution.reason,
        "task": _task(found),
        "actor": actor_of(change.values),
        "witness": found.attribution.witness or None,
        "mark": {"word": mark.word, "reason": mark.reason, "by": mark.by} if mark is not None else None,
        "host": change.host,
        "time": change.values.get("TimeGenerated"),
        "record": change.values.get("RecordId"),
    }


def _task(found: Found) -> Entry | None:
    task = found.attribution.task
    if task is None:
        return None
    playbook, user = found.ran or ("", "")
    return {
        "playbook": playbook,
        "user": user,
        "play": task.play,
        "name": task.title,
        "module": task.module,
        "run": task.run,
        "started_at": timestamp(task.started_at),
    }


def _fields(change: Change) -> list[str]:
    """The fields that changed, without those that change with the content of a file."""
    fields = sorted(change.fields)
    return [field for field in fields if field not in _FOLLOW] if _CONTENT in change.fields else fields


def _values(change: Change) -> tuple[Entry, Entry]:
    """What the item had before and has now: the version of a package; of others the fields that changed and that a line can show."""
    kind = all_kinds()[change.kind]
    fields = {kind.version} if kind.version else change.fields - _FOLLOW - {_CONTENT}
    before: Entry = {}
    after: Entry = {}
    for field in sorted(fields & kind.tracked.keys()):
        current, previous = kind.tracked[field]
        if change.values.get(previous) is not None:
            before[field] = change.values[previous]
        if change.values.get(current) is not None:
            after[field] = change.values[current]
    return before, after


class Group(NamedTuple):
    first: Found
    hosts: Counter[str]
    contents: set[Any]  # different ones of a file
    times: list[str]  # the earliest and the latest

    def add(self, found: Found) -> None:
        change = found.change
        self.hosts[change.host] += 1
        if change.values.get(_CONTENT):
            self.contents.add(change.values[_CONTENT])
        time = str(change.values.get("TimeGenerated") or "")
        self.times[0], self.times[1] = min(self.times[0] or time, time), max(self.times[1], time)

    def entry(self) -> Entry:
        shared = entry(self.first)
        for one in ("host", "time", "record"):
            del shared[one]
        if shared["actor"] is not None:
            shared["actor"] = {key: value for key, value in shared["actor"].items() if key in _SHARED}
        hosts = sorted(self.hosts)
        return {
            **shared,
            "count": len(hosts),
            "changes": sum(self.hosts.values()),
            "hosts": hosts[:MOST_HOSTS],
            "contents": len(self.contents),
            "first": self.times[0],
            "last": self.times[1],
        }


def grouped(every: Iterable[Found]) -> list[Group]:
    """Drift first, and then what most hosts have."""
    groups: dict[tuple[Any, ...], Group] = {}
    for found in every:
        key = _key(found)
        if key not in groups:
            groups[key] = Group(found, Counter(), set(), ["", ""])
        groups[key].add(found)
    return sorted(groups.values(), key=_order)


def _key(found: Found) -> tuple[Any, ...]:
    change, task = found.change, found.attribution.task
    before, after = _values(change)
    ran = (found.ran, task.play, task.title, task.module) if task is not None else None
    values = tuple(before.items()), tuple(after.items())
    what = change.kind, change.category, change.name, change.values.get("Architecture"), tuple(_fields(change))
    actor = actor_of(change.values) or {}
    who = tuple(actor.get(key) for key in _SHARED)
    return (found.attribution.level, found.attribution.witness, *what, values, ran, who, id(found.mark))


def _order(group: Group) -> tuple[Any, ...]:
    change = group.first.change
    return LEVELS.index(group.first.attribution.level), -len(group.hosts), change.kind, change.name, change.category


# --- as lines


def lines(groups: list[Group], most: int) -> list[str]:
    """A heading for each level, and a line for each group, at most `most` of these."""
    shown: list[str] = []
    for level in LEVELS:
        these = [group for group in groups if group.first.attribution.level == level]
        if not these:
            continue
        hosts = {host for group in these for host in group.hosts}
        total = sum(sum(group.hosts.values()) for group in these)
        shown += ["", f"{_HEADINGS[level]}: {plural(total, 'change')} on {plural(len(hosts), 'host')}"]
        shown += [line("  " + _line(group), MAX_LENGTH) for group in these[: max(0, most)]]
        if len(these) > most:
            shown.append(f"  {plural(len(these) - max(0, most), 'more line')} not shown")
        most -= len(these)
    return shown[1:]


def _line(group: Group) -> str:
    found, hosts = group.first, sorted(group.hosts)
    change, (before, after) = found.change, _values(found.change)
    where = hosts[0] if len(hosts) == 1 else plural(len(hosts), "host")
    words = [group.times[1], where, change.category, all_kinds()[change.kind].config_type, change.name]
    if change.kind == "packages":
        words.append(f"{before.get(_VERSION) or '-'} -> {after.get(_VERSION) or '-'}")
    elif change.category == MODIFIED:
        words += [
            f"{field} {before[field]} -> {after[field]}" if field in before and field in after else field
            for field in _fields(change)
        ]
    if len(group.contents) > 1:
        words.append(f"{len(group.contents)} contents")
    if found.attribution.task is not None:
        words.append(_said(found))
    who = in_short(change.values)
    if who:
        words.append(_HOST_SAYS[found.attribution.witness] + who if found.attribution.task is not None else f"by {who}")
    if found.mark is not None:
        words.append(f"[{found.mark.word}{': ' + found.mark.reason if found.mark.reason else ''}]")
    if len(hosts) > 1:
        more = f", {len(hosts) - SHOWN_HOSTS} more" if len(hosts) > SHOWN_HOSTS else ""
        words.append(f"({', '.join(hosts[:SHOWN_HOSTS])}{more})")
    return "  ".join(words)


def _said(found: Found) -> str:
    task, ran = found.attribution.task, found.ran
    name = (task.title or task.module) if task is not None else ""
    user = f" ({ran.user})" if ran is not None and ran.user else ""
    return f"by '{name}'" + (f" of {ran.playbook.rpartition('/')[2]}{user}" if ran is not None and ran.playbook else "")
