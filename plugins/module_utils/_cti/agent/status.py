# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The status of the agent: the running agent writes it to a file, and `agent.pyz status` and the doctor read it."""

import json
import os
import threading
import time
from typing import Any, Dict, List, Optional

from .. import folders
from ..daemon import VERSION
from ..errors import StateError
from ..replace import replace
from ..state.outbox import Outbox
from ..text import load_json, plural, timestamp
from ..tracking.snapshot import Snapshot
from .lock import is_running
from .options import AgentOptions
from .rule import ActiveRule

MAX_BYTES = 16 << 20
FILE = "status.json"
NO_ACTOR = (
    "Check that auditing is on (auditctl -s: enabled 1) and that rules cover what is tracked (auditctl -l),"
    " or set the option who to rules."
)


class Status:
    """Writes status.json. Its methods may be called from any thread. A file that cannot be written is no error."""

    def __init__(self, options: AgentOptions) -> None:
        self._path = options.path(FILE)
        self._lock = threading.Lock()
        self._state: Dict[str, Any] = {
            "Version": VERSION,
            "Pid": os.getpid(),
            "StartedAt": timestamp(time.time()),
            "Rule": None,
            "Kinds": {},
            "Delivery": {"At": None, "Records": 0, "Error": ""},
        }

    def rule(self, rule: Optional[ActiveRule], reasons: List[str]) -> None:
        described: Dict[str, Any] = {"Origin": None, "Ids": [], "Warnings": [], "Reasons": reasons}
        if rule is not None:
            described.update(Origin=rule.origin, Ids=list(rule.settings.rules), Warnings=rule.settings.warnings)
        with self._lock:
            kinds = rule.settings.kinds if rule is not None else ()
            self._state["Kinds"] = {kind: state for kind, state in self._state["Kinds"].items() if kind in kinds}
            if self._state["Rule"] != described:
                self._state["Rule"] = described
                self._write()

    def collected(self, snapshot: Snapshot, seconds: float, every: int) -> None:
        self._kind(
            snapshot.kind.name,
            CollectedAt=timestamp(snapshot.collected_at),
            Count=snapshot.count,
            Kept=snapshot.kept,
            Seconds=round(seconds, 3),
            Changes=len(snapshot.changes),
            Failed={name: snapshot.sources[name].message for name in snapshot.failed()},
            Every=every,
            Error="",
            Progress=None,
        )

    def not_collected(self, kind: str, error: str) -> None:
        self._kind(kind, Error=error, Progress=None)

    def progress(self, kind: str, count: int) -> None:
        """Report how many items the current run has collected so far."""
        self._kind(kind, Progress=count)

    def delivered(self, records: int) -> None:
        with self._lock:
            delivery = self._state["Delivery"]
            if records or delivery["Error"]:
                delivery.update(At=timestamp(time.time()), Records=delivery["Records"] + records, Error="")
                self._write()

    def not_delivered(self, error: str) -> None:
        with self._lock:
            if self._state["Delivery"]["Error"] != error:
                self._state["Delivery"]["Error"] = error
                self._write()

    def uploaded(self, texts: int, waiting: int, error: str) -> None:
        """Report an attempt to upload the texts of files: how many of them are uploaded, and how many wait."""
        with self._lock:
            before = self._state.get("Uploads", {"At": None, "Texts": 0})
            at = timestamp(time.time()) if texts else before["At"]
            uploads = {"At": at, "Texts": before["Texts"] + texts, "Waiting": waiting, "Error": error}
            if uploads != before:
                self._state["Uploads"] = uploads
                self._write()

    def realtime(self, kinds: Dict[str, Any]) -> None:
        """Report how each kind is woken, see realtime.waker.Waker.report()."""
        with self._lock:
            if self._state.get("Realtime") != kinds:
                self._state["Realtime"] = kinds
                self._write()

    def who(self, state: Dict[str, Any]) -> None:
        """Report how the agent learns who made changes, see who.Who."""
        with self._lock:
            if self._state.get("Who") != state:
                self._state["Who"] = state
                self._write()

    def _kind(self, kind: str, **values: Any) -> None:
        with self._lock:
            state = self._state["Kinds"].setdefault(kind, {})
            state.update(values)
            if state.get("Progress") is None:
                state.pop("Progress", None)
            self._write()

    def _write(self) -> None:
        try:
            replace(self._path, [json.dumps(self._state).encode("ascii")])
        except OSError:
            pass


def read(options: AgentOptions, owner: Optional[int] = None) -> Dict[str, Any]:
    """The status of the agent that uses this state directory, or last used it, with the contents of its outbox.

    `owner`: a uid that may own the state, in addition to root and the current user. An outbox that cannot be read, for example on a
    full disk, is an Error in it. `Unwritable`: see unwritable(). Raises StateError.
    """
    try:
        raw, _status = folders.read(options.path(FILE), MAX_BYTES, follow=False)
        state: Dict[str, Any] = load_json(raw)
        _check_form(state, _FORM, FILE)
    except FileNotFoundError:
        state = {}
    except OSError as error:
        raise StateError(
            "Cannot read '%s' (%s). %s" % (options.path(FILE), error.strerror, folders.run_as(options.path(FILE)))
        ) from error
    except (ValueError, RecursionError) as error:
        raise StateError(
            "The status file '%s' is not valid (%s). Restart the agent, which writes it again."
            % (options.path(FILE), error)
        ) from error
    state["Running"] = is_running(options)
    try:
        with Outbox(options.database, read_only=True, owner=owner, leave_no_files=True) as outbox:
            depth = outbox.depth()
        state["Outbox"] = {"Records": depth.records, "Bytes": depth.bytes, "Oldest": timestamp(depth.oldest)}
    except StateError as error:
        state["Outbox"] = {"Records": None, "Bytes": None, "Oldest": None, "Error": str(error)}
    state["Unwritable"] = unwritable(options.state)
    return state


def unwritable(folder: str) -> str:
    """Why the state directory takes no new file, and the remedy; empty if it does. The status file is then that of an earlier time."""
    why, remedy = folders.takes_no_files(folder)
    return "The file system of %s %s, so the agent cannot store changes. %s" % (folder, why, remedy) if why else ""


_OPTIONAL = (str, type(None))
_RULE = {"Origin": _OPTIONAL, "Ids": [str], "Warnings": [str], "Reasons": [str]}
_KIND = {
    "CollectedAt": str, "Count": int, "Kept": int, "Seconds": (int, float), "Changes": int, "Failed": {"": str}, "Every": int, "Error": str,
    "Progress": int,
}  # fmt: skip
_DELIVERY = {"At": _OPTIONAL, "Records": int, "Error": str}
_UPLOADS = {"At": _OPTIONAL, "Texts": int, "Waiting": int, "Error": str}
_REALTIME = {
    "By": str, "Why": str, "Watches": int, "Unwatched": int, "Overflows": int, "Changes": int, "Missed": int, "Flapping": [str],
}  # fmt: skip
_WHO = {"Mode": str, "By": str, "Why": str, "Events": int, "Lost": int, "Known": int, "Unknown": int}
_FORM = {
    "Version": str, "Pid": int, "StartedAt": str, "Rule": _RULE, "Kinds": {"": _KIND}, "Delivery": _DELIVERY,
    "Uploads": _UPLOADS, "Realtime": {"": _REALTIME}, "Who": _WHO,
}  # fmt: skip


def _check_form(value: Any, form: Any, name: str) -> None:
    """Check that a value has the types and keys of `form`, where "" stands for any key. Raises ValueError."""
    if value is None and form is _RULE:
        return
    kind: Any = form if isinstance(form, (type, tuple)) else type(form)
    if not isinstance(value, kind):
        raise ValueError("%.40s has another type than the agent writes" % name)
    if isinstance(form, list):
        for element in value:
            _check_form(element, form[0], name)
    elif isinstance(form, dict):
        optional = (
            {"", "Error", "Failed", "Kept", "Progress", "Uploads", "Realtime", "Who"}
            if form is not _KIND or "CollectedAt" in value
            else set(form)
        )
        if form is not _RULE and not optional.issuperset(set(form).difference(value)):
            raise ValueError("%.40s lacks a key that the agent writes" % name)
        for key, element in value.items():
            if key in form or "" in form:
                _check_form(element, form.get(key, form.get("")), key)


def items(seen: Dict[str, Any]) -> str:
    """How many items of a kind there are, and how many of these could not be read in the last run."""
    kept = " (%d of an earlier run)" % seen["Kept"] if seen.get("Kept") else ""
    return plural(seen["Count"], "item") + kept


def lines(state: Dict[str, Any]) -> List[str]:
    """The status as lines of text, for a terminal."""
    out = []
    delivery, waiting = state.get("Delivery", {}), state["Outbox"]
    unread = ["  " + waiting["Error"]] if "Error" in waiting else []
    if "Pid" not in state:
        return ["No agent has used this state directory yet.", *unread]
    out.append(
        "Agent %s, %s"
        % (
            state["Version"],
            "process %d, since %s" % (state["Pid"], state["StartedAt"]) if state["Running"] else "not running",
        )
    )
    rule = state["Rule"] or {}
    out.append("Rule: %s" % (rule.get("Origin") or "none, so nothing is collected"))
    for text in [*rule.get("Reasons", ()), *rule.get("Warnings", ())]:
        out.append("  " + text)
    for kind, seen in sorted(state["Kinds"].items()):
        if "CollectedAt" in seen:
            out.append(
                "%s: %s at %s with %s, took %g s, every %d s"
                % (
                    kind,
                    items(seen),
                    seen["CollectedAt"],
                    plural(seen["Changes"], "change"),
                    seen["Seconds"],
                    seen["Every"],
                )
            )
        if state["Running"] and "Progress" in seen:
            out.append("  %s: %d so far in the current run" % (kind, seen["Progress"]))
        for name, message in seen.get("Failed", {}).items():
            out.append("  %s: %s" % (name, message))
        if seen.get("Error"):
            out.append("  The last run of %s failed: %s" % (kind, seen["Error"]))
    out += _realtime_lines(state.get("Realtime", {}))
    out += _who_lines(state.get("Who"))
    delivered = "%s since the start, last at %s" % (plural(delivery["Records"], "record"), delivery["At"])
    records = "unknown number of records" if unread else waiting["Records"]
    out.append("Delivery: %s; %s waiting" % (delivered if delivery["At"] else "none delivered yet", records))
    if delivery.get("Error"):
        out.append("  " + delivery["Error"])
    uploads = state.get("Uploads")
    if uploads is not None:
        uploaded = "%s uploaded since the start, last at %s" % (plural(uploads["Texts"], "file"), uploads["At"])
        out.append(
            "Contents: %s; %d waiting" % (uploaded if uploads["At"] else "none uploaded yet", uploads["Waiting"])
        )
        if uploads["Error"]:
            out.append("  " + uploads["Error"])
    return out + unread + (["  " + state["Unwritable"]] if state["Unwritable"] else [])


def _who_lines(who: Optional[Dict[str, Any]]) -> List[str]:
    if who is None:
        return []
    why = who["Why"]
    if not why and who["By"] and who["Mode"] == "read" and not who["Events"]:
        why = "No audit message has come since the start. " + NO_ACTOR
    known = "%s with an actor, %d without" % (plural(who["Known"], "change"), who["Unknown"])
    lost = ", %s lost" % plural(who["Lost"], "audit message") if who["Lost"] else ""
    works = who["By"] and (who["Events"] or not why)
    out = ["Who made changes: %s" % ("%s; %s%s" % (who["By"], known, lost) if works else "not known")]
    return out + ["  " + why] if why else out


def _realtime_lines(kinds: Dict[str, Any]) -> List[str]:
    out = []
    for kind, seen in sorted(kinds.items()):
        if seen["By"]:
            watched = plural(seen["Watches"], "watched directory")
            polled = ", %d polled" % seen["Unwatched"] if seen["Unwatched"] else ""
            found = "%s announced, %d missed" % (plural(seen["Changes"], "change"), seen["Missed"])
            out.append("Real time, %s: by %s; %s%s; %s" % (kind, seen["By"], watched, polled, found))
        else:
            out.append("Real time, %s: no" % kind)
        if seen["Why"]:
            out.append("  " + seen["Why"])
        if seen["Flapping"]:
            out.append("  Left to the schedule, because they change all the time: %s" % ", ".join(seen["Flapping"]))
    return out
