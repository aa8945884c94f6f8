# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Checks how the agent notices changes, and how it learns who made them; and why not in a better way."""

from typing import Any, Iterator, List, Mapping, Sequence, Tuple

from ..text import plural
from .options import AgentOptions
from .status import NO_ACTOR

OK, WARNING, UNKNOWN = "ok", "warning", "unknown"
Result = Tuple[str, str, str, str, Sequence[str], Sequence[str]]  # see doctor.Link
_OFF = "off"


def examine_realtime(options: AgentOptions, status: Mapping[str, Any]) -> Iterator[Result]:
    """The checks `realtime` and `who`. `status`: as status.read() returns it."""
    yield _realtime(options, status)
    yield _who(options, status)


def _realtime(options: AgentOptions, status: Mapping[str, Any]) -> Result:
    if options.realtime == _OFF:
        message = "Changes are found as often as the rule says, because the option realtime is off."
        return ("realtime", OK, message, "", [], [])
    kinds = status.get("Realtime")
    if not status.get("Running") or kinds is None:
        return ("realtime", UNKNOWN, "The agent does not report how it notices changes.", "", [], [])
    details = [text for kind in sorted(kinds) for text in _kind(kind, kinds[kind])]
    causes = ["%s: %s" % (kind, kinds[kind]["Why"]) for kind in sorted(kinds) if not kinds[kind]["By"]]
    if causes:
        scheduled = [kind for kind in sorted(kinds) if not kinds[kind]["By"]]
        message = "Changes of %s are found only as often as the rule says." % _listed(scheduled)
        return ("realtime", WARNING, message, "", details, causes)
    coming = sorted(set(status.get("Kinds", {})) - set(kinds))
    details += ["%s: after the first collection, which has not ended yet" % kind for kind in coming]
    message = "Changes of %s are collected when they are announced." % _listed(sorted(kinds))
    return ("realtime", OK, message if kinds else "Nothing is watched before the first collection.", "", details, [])


def _kind(kind: str, seen: Mapping[str, Any]) -> Iterator[str]:
    """How changes of a kind are noticed, as lines."""
    watched = ", %s" % plural(seen["Watches"], "watched directory") if seen["Watches"] else ""
    yield "%s: %s%s" % (kind, seen["By"] or "no events", watched)
    if seen["Why"]:
        yield "%s: %s" % (kind, seen["Why"])
    if seen["Unwatched"]:
        directories = plural(seen["Unwatched"], "directory", "is")
        yield "%s: %s not watched, and collected as often as the rule says" % (kind, directories)
    if seen["Changes"] or seen["Missed"]:
        announced = plural(seen["Changes"], "change", "was")
        yield "%s: %s announced, and %d found by the schedule alone" % (kind, announced, seen["Missed"])
    if seen["Overflows"]:
        yield "%s: too many events at once %s, each followed by a full collection" % (
            kind,
            plural(seen["Overflows"], "time"),
        )
    if seen["Flapping"]:
        yield "%s: changes too often to be collected at once: %s" % (kind, ", ".join(seen["Flapping"]))


def _who(options: AgentOptions, status: Mapping[str, Any]) -> Result:
    if options.who == _OFF:
        return ("who", OK, "Changes do not say who made them, because the option who is off.", "", [], [])
    who = status.get("Who")
    if not status.get("Running") or who is None:
        return ("who", UNKNOWN, "The agent does not report whether it reads audit messages.", "", [], [])
    details: List[str] = []
    if who["Known"] or who["Unknown"]:
        details.append("%s with an actor, %d without" % (plural(who["Known"], "change"), who["Unknown"]))
    if who["Lost"]:
        details.append("%s lost, because they came too fast" % plural(who["Lost"], "audit message", "was"))
    if not who["By"]:
        return ("who", WARNING, "Changes do not say who made them. %s" % who["Why"], "", details, [])
    if who["Why"]:
        return ("who", WARNING, who["Why"], "", details, [])
    if options.who == "read" and who["Unknown"] and not who["Known"]:
        return ("who", WARNING, "No change has had an actor so far. %s" % NO_ACTOR, "", details, [])
    rules = {"read": "the audit rules of others", "rules": "audit rules of the agent"}[options.who]
    return ("who", OK, "Changes say who made them, as far as %s cover what changed." % rules, "", details, [])


def _listed(words: Sequence[str]) -> str:
    """Words as in a sentence: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
