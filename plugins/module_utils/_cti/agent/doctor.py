# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Checks everything between the rule and the records, and says what to do about the first check that fails.

It reads only and changes nothing; no check takes longer than DEADLINE seconds or so.
"""

import os
import re
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

from ..errors import CtiError, ForwardError
from ..kinds.files.kind import FILES
from ..kinds.files.scope import parse_path
from ..rule import tags
from ..rule.settings import Settings
from ..state.outbox import MAX_BYTES
from ..state.store import Store
from ..text import timestamp
from ..wire import sockets
from . import status
from .options import AgentOptions
from .rule import RETRY_SECONDS, ActiveRule, RuleSource

DEADLINE = 5.0
OK, WARNING, BROKEN, UNKNOWN = "ok", "warning", "broken", "unknown"
MICROSOFT = "cxp.service"  # Microsoft's agent
UNITS = "/run/systemd/units"  # where systemd keeps a link invocation:UNIT for each unit that is active
SELINUX = "/sys/fs/selinux/enforce"
CHECKED_BYTES = 256 << 20  # a larger database is not read through
FREE_BYTES = 64 << 20
LATE_SECONDS = 600  # a record that waits longer is a warning
_CAP_DAC_READ_SEARCH = 2  # its bit, capabilities(7)
_SYNTAXES = {"literal": "a path", "glob": "a shell pattern", "regex": "a regular expression"}
_ASSOCIATE = "Associate a data collection rule with this machine, or add one to the relay's relay_chunks"
_NO_SOCKET = "; or, if no rule is to come from there, set config_address (the role's agent_config_address) to ''"
_START = "Start it: systemctl start ctagent; what it says is in journalctl -u ctagent."


class Link(NamedTuple):
    """The result of one check."""

    name: str
    status: str  # ok warning broken unknown
    message: str
    remedy: str = ""
    details: Sequence[str] = ()
    causes: Sequence[str] = ()  # of a warning, each the same text on all hosts; empty: the message is the cause


def examine(options: AgentOptions, owner: Optional[int] = None) -> List[Link]:
    """Run all checks, in the order in which the data travels. `owner`: a uid that may own the state."""
    return list(_Examination(options, owner).links())


def as_data(links: Sequence[Link]) -> Dict[str, Any]:
    """The result for programs. `Warnings` are sentences that are equal on all hosts that have the same cause."""
    broken = _first_broken(links)
    return {
        "Ok": broken is None,
        "Broken": broken.name if broken else None,
        "Remedy": _sentences(broken.message, broken.remedy) if broken else None,
        "Summary": _summary(links),
        "Warnings": [
            _sentences("%s: %s" % (link.name, cause), link.remedy)
            for link in links
            if link.status in (WARNING, UNKNOWN)
            for cause in link.causes or [link.message]
        ],
        "Links": [
            {
                "Name": link.name,
                "Status": link.status,
                "Message": link.message,
                "Remedy": link.remedy,
                "Details": link.details,
            }
            for link in links
        ],
    }


def lines(links: Sequence[Link]) -> Iterator[str]:
    """The result as text, for a terminal; the last line is the summary."""
    broken = _first_broken(links)
    for link in links:
        yield "%-8s %-14s %s" % (link.status, link.name, link.message)
        for detail in link.details:
            yield "%-23s   %s" % ("", detail)
        if link.remedy and link is not broken:
            yield "%-23s %s" % ("", link.remedy)
    yield _summary(links)


def _summary(links: Sequence[Link]) -> str:
    """The first failed check with its remedy; or that none failed, and which have warnings or are unknown."""
    broken = _first_broken(links)
    if broken is not None:
        return _sentences("First failed check: %s." % broken.name, broken.message, broken.remedy)
    warnings = [link.name for link in links if link.status == WARNING]
    unknown = [link.name for link in links if link.status == UNKNOWN]
    parts = []
    if warnings:
        parts.append("%d warning%s: %s" % (len(warnings), "s" if len(warnings) > 1 else "", ", ".join(warnings)))
    if unknown:
        parts.append("%d unknown: %s" % (len(unknown), ", ".join(unknown)))
    return "Checks passed, with %s." % "; ".join(parts) if parts else "All checks passed."


def _sentences(*texts: str) -> str:
    return " ".join(text for text in texts if text)


def _without_counts(error: str) -> str:
    """The cause alone: it is one text on all hosts, so that the doctor of a fleet shows it once."""
    error = re.sub(r" \(\d+ records were delivered, \d+ are kept\)", "", error)
    error = re.sub(r"\b\d+ records", "records", error)
    return error[:1].upper() + error[1:]


def _first_broken(links: Sequence[Link]) -> Optional[Link]:
    return next((link for link in links if link.status == BROKEN), None)


class _Examination:
    def __init__(self, options: AgentOptions, owner: Optional[int]) -> None:
        self._options = options
        self._owner = owner
        self._status: Dict[str, Any] = {}
        self._rule: Optional[ActiveRule] = None

    def links(self) -> Iterator[Link]:
        broken = False
        for link in self._chain():
            broken = broken or link.status == BROKEN
            yield link
        yield _selinux(broken)

    def _chain(self) -> Iterator[Link]:
        yield self._service()
        yield self._state()
        yield from self._config_socket_and_rule()
        if self._rule is not None:
            yield from self._collections(self._rule)
            yield self._streams(self._rule)
        yield self._receiver()
        yield self._delivery()
        yield _microsoft()
        yield self._privileges()

    def _service(self) -> Link:
        try:
            self._status = status.read(self._options, self._owner)
        except CtiError as error:
            return Link("service", UNKNOWN, str(error), "Ask as root or as the agent's user.")
        if self._status["Running"]:
            since = self._status.get("StartedAt")
            return Link("service", OK, "The agent runs as process %s since %s." % (self._status.get("Pid"), since))
        return Link("service", BROKEN, "No agent runs with the state in %s." % self._options.state, _START)

    def _state(self) -> Link:
        folder = self._options.state
        try:
            with Store(self._options.database, read_only=True, owner=self._owner, leave_no_files=True) as store:
                whole = not os.path.exists(store.path) or os.path.getsize(store.path) <= CHECKED_BYTES
                if whole:
                    store.check()
            free = os.statvfs(folder)
        except CtiError as error:
            return Link("state", BROKEN, str(error))
        except OSError as error:
            return Link("state", BROKEN, "%s cannot be used (%s)." % (folder, error.strerror), _START)
        if free.f_bavail * free.f_frsize < FREE_BYTES:
            message = "The file system of %s has less than %d MiB free." % (folder, FREE_BYTES >> 20)
            remedy = "Free some space: on a full disk, nothing new can be stored."
            return Link("state", WARNING, message, remedy, ["%d MiB are free" % (free.f_bavail * free.f_frsize >> 20)])
        result = "is intact" if whole else "can be opened; it is too large to be read through"
        return Link("state", OK, "%s %s." % (self._options.database, result))

    # --- the rule

    def _config_socket_and_rule(self) -> Iterator[Link]:
        said: List[str] = []
        source = RuleSource(self._options, said.append, DEADLINE)
        self._rule, reasons, _kept = source.look()
        elsewhere = reasons
        if self._options.config_address:
            yield self._config_socket(source.answered, reasons[0] if reasons else "")
            if not source.answered:  # why not is told there, and comes first
                elsewhere = reasons[1:]
        if self._rule is None:
            message = "There is no rule that can be used, so nothing is collected."
            remedy = "%s, or put one into %s." % (_ASSOCIATE, self._options.dcr)
            yield Link("rule", BROKEN, message, elsewhere[0] if elsewhere else remedy, [*said, *reasons])
            return
        if self._status.get("Running") and not (self._status.get("Rule") or {}).get("Origin"):
            message = "The agent does not use the rule from %s yet, so nothing is collected." % self._rule.origin
            remedy = "It looks again within %d s; or now: systemctl reload ctagent." % RETRY_SECONDS[1]
            yield Link("rule", BROKEN, message, remedy, [*said, *reasons])
            return
        settings = self._rule.settings
        details = [*settings.warnings, *said, *elsewhere]
        message = "Using the rule from %s: %s." % (self._rule.origin, ", ".join(settings.rules[:5]))
        remedy = "Correct the rule, or the place that it should come from." if details else ""
        yield Link("rule", WARNING if details else OK, message, remedy, details, details)
        if FILES.name in settings.kinds:
            yield self._paths(settings)

    def _config_socket(self, answered: Optional[bool], reason: str) -> Link:
        """`reason`: why the rule is not from there."""
        if answered:
            return Link("config socket", OK, "%s answers with a rule." % self._options.config_address)
        if answered is not None:
            return Link(
                "config socket", WARNING, reason, _ASSOCIATE + (_NO_SOCKET if self._rule is not None else "") + "."
            )
        if self._rule is not None:
            return Link("config socket", WARNING, "%s%s." % (reason, _NO_SOCKET))
        return Link("config socket", BROKEN, "%s." % reason)

    def _paths(self, settings: Settings) -> Link:
        """Show how each destinationPath was read, and what it matched in the last run.

        A source that failed is a warning of the check `files`.
        """
        details = []
        try:
            with Store(self._options.database, read_only=True, owner=self._owner, leave_no_files=True) as store:
                sources = store.last_sources(FILES)
        except CtiError:
            sources = {}
        failed = 0
        for rule in settings.file_rules:
            source = sources.get(rule.name) or sources.get("%s (%s)" % (rule.name, rule.path))
            matched = "not looked at yet"
            if source is not None:
                failed += source.status == "failed"
                matched = "%d files" % source.count if source.status == "ok" and not source.message else ""
                matched = matched or "%s, %d files: %s" % (source.status, source.count, source.message)
            details.append("%s is %s; %s" % (rule.path, _SYNTAXES[parse_path(rule.path).syntax], matched))
        unread = ", %d of which could not be read" % failed if failed else ""
        return Link("paths", OK, "%d items of the rule%s." % (len(details), unread), "", details)

    # --- collecting

    def _collections(self, rule: ActiveRule) -> Iterator[Link]:
        for kind in rule.settings.kinds:
            yield self._collection(kind, self._status.get("Kinds", {}).get(kind, {}), rule.settings.every(kind))

    def _collection(self, kind: str, seen: Dict[str, Any], every: int) -> Link:
        if seen.get("Error"):
            return Link(kind, BROKEN, "The last run failed. %s" % _without_counts(seen["Error"]))
        when = seen.get("CollectedAt")
        if when is None:
            message = "Not collected since the agent was started."
            if self._is_late(self._status.get("StartedAt"), every):
                remedy = "Unless the rule is new, restart the agent; see journalctl -u ctagent."
                return Link(kind, WARNING, message, remedy)
            return Link(kind, UNKNOWN, message, "Run the doctor again in %d s." % every)
        failed = ["%s: %s" % pair for pair in sorted(seen.get("Failed", {}).items())]
        message = "%d at %s, %d changes." % (seen["Count"], when, seen["Changes"])
        if self._is_late(when, every):
            remedy = "Look into journalctl -u ctagent, and restart the agent."
            return Link(kind, BROKEN, "The next run of %s is overdue." % kind, remedy, [message])
        if failed:
            remedy = "Make it readable; until then, nothing of it is reported as removed."
            return Link(kind, WARNING, message, remedy, failed, ["%s." % text.rstrip(".") for text in failed])
        return Link(kind, OK, message)

    def _is_late(self, since: Optional[str], every: int) -> bool:
        """A run may start late, and take long."""
        late = 2 * every + self._options.jitter + 60
        return bool(self._status.get("Running")) and since is not None and since < str(timestamp(time.time() - late))

    # --- handing over

    def _streams(self, rule: ActiveRule) -> Link:
        chosen = tags.choose(self._options.receiver, rule.settings.streams, {})
        missing = [stream for stream, found in chosen.items() if not found]
        if missing:
            message = "The rule names no tag for %s, so their records are kept." % " and ".join(missing)
            remedy = "Use the rule as the agent's config socket or config chunks hold it: the ARM form names no tags."
            return Link("streams", BROKEN, message, remedy)
        names = [tag for found in chosen.values() for tag in found]
        return Link("streams", OK, "Records go out under %s." % ", ".join(names))

    def _receiver(self) -> Link:
        options = self._options
        try:
            sockets.connect(options.receiver, DEADLINE, options.allow_users, options.tls).close()
        except ForwardError as error:
            return Link("receiver", BROKEN, "%s." % error, "Until then, records are kept on this host.")
        return Link("receiver", OK, "%s takes connections." % options.address)

    def _delivery(self) -> Link:
        delivery, waiting = self._status.get("Delivery", {}), self._status.get("Outbox", {})
        records, oldest = waiting.get("Records", 0), waiting.get("Oldest")
        if delivery.get("Error"):
            error = _without_counts(delivery["Error"])
            return Link("delivery", BROKEN, error, "Delivery is retried automatically.", ["%d records wait" % records])
        message = "%d records wait; %d were delivered, the last at %s." % (
            records,
            delivery.get("Records", 0),
            delivery.get("At") or "no time yet",
        )
        if waiting.get("Bytes", 0) >= MAX_BYTES:
            full = "The outbox is full."
            return Link("delivery", BROKEN, full, "Nothing is collected until some records are delivered.", [message])
        if oldest and oldest < str(timestamp(time.time() - LATE_SECONDS)):
            late = "Records wait for more than %d minutes." % (LATE_SECONDS // 60)
            details = [message, "the oldest waits since %s" % oldest]
            return Link("delivery", WARNING, late, "See the receiver's log.", details)
        return Link("delivery", OK, message)

    # --- the host

    def _privileges(self) -> Link:
        running = self._status.get("Running")
        pid, who = (self._status.get("Pid"), "The agent") if running else (os.getpid(), "The current user")
        try:
            with open("/proc/%s/status" % pid, encoding="ascii", errors="replace") as file:
                fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
            able = int(fields["CapEff"], 16) >> _CAP_DAC_READ_SEARCH & 1
        except (OSError, ValueError, KeyError) as error:
            return Link("privileges", UNKNOWN, "Cannot find out what the agent can read (%s)." % error)
        if able:
            return Link("privileges", OK, "%s can read every file." % who)
        message = "%s lacks CAP_DAC_READ_SEARCH: files that it cannot read are missing, or have no checksum." % who
        return Link("privileges", WARNING, message, "Run the agent with that capability, as its role does, or as root.")


def _microsoft() -> Link:
    if not os.path.isdir(UNITS):
        return Link("microsoft", UNKNOWN, "systemd does not run here, so it is not known whether %s does." % MICROSOFT)
    if os.path.lexists(os.path.join(UNITS, "invocation:" + MICROSOFT)):
        remedy = "Remove one of the two agents, or every change is reported twice."
        return Link("microsoft", WARNING, "Microsoft's agent (%s) runs as well." % MICROSOFT, remedy)
    return Link("microsoft", OK, "Microsoft's agent (%s) does not run." % MICROSOFT)


def _selinux(broken: bool) -> Link:
    """Check whether SELinux enforces; its log alone tells whether it is the cause of a failed check."""
    try:
        with open(SELINUX, encoding="ascii") as file:
            enforcing = file.read(1) == "1"
    except FileNotFoundError:
        return Link("selinux", OK, "SELinux is off.")
    except (OSError, ValueError) as error:
        return Link("selinux", UNKNOWN, "Cannot find out whether SELinux is enforcing (%s)." % error)
    if enforcing and broken:
        remedy = "See whether it denied the agent something: ausearch -m avc -ts today -c python3"
        return Link("selinux", WARNING, "SELinux is enforcing, and may be the cause of the failed check.", remedy)
    return Link("selinux", OK, "SELinux is %s." % ("enforcing" if enforcing else "not enforcing"))
