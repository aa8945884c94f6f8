# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Checks everything from the rule to the delivery of records, with a remedy for the first check that fails.

The checks only read. Each takes about DEADLINE seconds at most.
"""

import os
import re
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

from ..errors import CtiError, ForwardError
from ..kinds.files.kind import FILES
from ..kinds.files.scope import parse_path
from ..rule import tags
from ..rule.forms import CHUNK_STREAMS
from ..rule.settings import Settings
from ..state.outbox import MAX_BYTES
from ..state.store import Store
from ..text import plural, timestamp
from ..wire import sockets
from . import baseline, status
from .doctor_realtime import examine_realtime
from .options import AgentOptions
from .rule import RETRY_SECONDS, ActiveRule, RuleSource

DEADLINE = 5.0
OK, WARNING, BROKEN, UNKNOWN = "ok", "warning", "broken", "unknown"
MICROSOFT = "cxp.service"  # Microsoft's agent
UNITS = "/run/systemd/units"  # systemd has a symlink invocation:UNIT here for each active unit
SELINUX = "/sys/fs/selinux/enforce"
CHECKED_BYTES = 256 << 20  # a larger database is not checked as a whole
FREE_BYTES = 64 << 20
LATE_SECONDS = 600  # that a record may wait without a warning
_CAP_DAC_READ_SEARCH = 2  # the number of its bit, see capabilities(7)
_SYNTAXES = {"literal": "a path", "glob": "a shell pattern", "regex": "a regular expression"}
_ASSOCIATE = "Associate a data collection rule with this machine, or add one to the relay's relay_chunks"
_WAIT = "Until then, records wait in the outbox on this host."
_NO_SOCKET = "If no rule should come from there, set config_address (in the role: agent_config_address) to ''."
_START = "Start the agent: systemctl start ctagent. See its log: journalctl -u ctagent."


class Link(NamedTuple):
    """The result of one check."""

    name: str
    status: str  # ok warning broken unknown
    message: str
    remedy: str = ""
    details: Sequence[str] = ()
    causes: Sequence[str] = ()  # of a warning, in words that are the same on all hosts; empty: the message is the cause


def examine(options: AgentOptions, owner: Optional[int] = None) -> List[Link]:
    """Run all checks, in the order in which the data flows. `owner`: a uid that may own the state."""
    return list(_Examination(options, owner).links())


def as_data(links: Sequence[Link]) -> Dict[str, Any]:
    """The result as data. `Warnings` has one text per cause, the same on all hosts with that cause."""
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
    """The result as text, for a terminal. The last line is the summary, with the message of the first failed check."""
    broken = _first_broken(links)
    for link in links:
        yield "%-8s %-14s %s" % (link.status, link.name, link.message if link is not broken else "See the last line.")
        for detail in link.details:
            yield "%-23s   %s" % ("", detail)
        if link.remedy and link is not broken:
            yield "%-23s %s" % ("", link.remedy)
    yield _summary(links)


def _summary(links: Sequence[Link]) -> str:
    """The first failed check with its remedy; or that all passed, and which have warnings or an unknown result."""
    broken = _first_broken(links)
    if broken is not None:
        return _sentences("First failed check: %s." % broken.name, broken.message, broken.remedy)
    warnings = [link.name for link in links if link.status == WARNING]
    unknown = [link.name for link in links if link.status == UNKNOWN]
    parts = []
    if warnings:
        parts.append("%s: %s" % (plural(len(warnings), "warning"), ", ".join(warnings)))
    if unknown:
        parts.append("%d unknown: %s" % (len(unknown), ", ".join(unknown)))
    return "Checks passed, with %s." % "; ".join(parts) if parts else "All checks passed."


def _sentences(*texts: str) -> str:
    return " ".join(text for text in texts if text)


def _without_counts(error: str) -> str:
    """The cause in words that are the same on all hosts, so that the playbook doctor shows it once."""
    error = re.sub(r" \(\d+ records? (?:was|were) delivered, \d+ kept\)", "", error)
    error = re.sub(r"\b(?:1 record is|\d+ records are)", "records are", error)
    error = re.sub(r"\b(?:1 record waits|\d+ records wait)", "records wait", error)
    error = error if error.endswith(".") else error + "."
    return error if "://" in error.split(" ")[0] else error[:1].upper() + error[1:]


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
        for link in self._checks():
            broken = broken or link.status == BROKEN
            yield link
        yield _selinux(broken)

    def _checks(self) -> Iterator[Link]:
        service, state = self._service(), self._state()
        if service.status == state.status == BROKEN and state.remedy != _START:
            remedy = "It cannot start until the check 'state' passes."
            service = service._replace(status=WARNING, remedy=remedy)  # so that the first failed check is the cause
        yield service
        yield state
        yield from self._config_socket_and_rule()
        if self._rule is not None:
            yield from self._collections(self._rule)
            yield self._streams(self._rule)
        receiver = self._log_analytics() if self._options.to_azure else self._receiver()
        yield receiver
        yield self._delivery(receiver)
        if self._options.upload_contents and self._rule is not None:
            from .doctor_uploads import examine_uploads  # loaded only if it is used

            for found in examine_uploads(self._options, self._rule.settings, self._status.get("Uploads")):
                yield Link(*found)
        yield from (Link(*found) for found in examine_realtime(self._options, self._status))
        yield _microsoft()._replace(details=baseline.kept(self._options))
        yield self._privileges()

    def _service(self) -> Link:
        try:
            self._status = status.read(self._options, self._owner)
        except CtiError as error:
            return Link("service", UNKNOWN, str(error))
        if self._status["Running"]:
            since = self._status.get("StartedAt")
            return Link("service", OK, "The agent runs as process %s since %s." % (self._status.get("Pid"), since))
        return Link("service", BROKEN, "No agent runs with the state directory '%s'." % self._options.state, _START)

    def _state(self) -> Link:
        folder = self._options.state
        why = status.unwritable(folder)
        if why:
            return Link("state", BROKEN, why)
        try:
            with Store(self._options.database, read_only=True, owner=self._owner, leave_no_files=True) as store:
                whole = not os.path.exists(store.path) or os.path.getsize(store.path) <= CHECKED_BYTES
                if whole:
                    store.check()
            free = os.statvfs(folder)
        except CtiError as error:
            return Link("state", BROKEN, str(error))
        except OSError as error:
            return Link(
                "state", BROKEN, "The state directory '%s' cannot be used (%s)." % (folder, error.strerror), _START
            )
        if free.f_bavail * free.f_frsize < FREE_BYTES:
            message = "The file system of %s has less than %d MiB free." % (folder, FREE_BYTES >> 20)
            remedy = "Free some space. On a full disk, the agent cannot store changes."
            return Link("state", WARNING, message, remedy, ["%d MiB are free" % (free.f_bavail * free.f_frsize >> 20)])
        result = "is intact" if whole else "can be opened; it is too large to be checked as a whole"
        return Link("state", OK, "%s %s." % (self._options.database, result))

    # --- the rule

    def _config_socket_and_rule(self) -> Iterator[Link]:
        notes: List[str] = []
        source = RuleSource(self._options, notes.append, DEADLINE)
        self._rule, reasons, _saved = source.look()
        if self._options.config_address:
            yield self._config_socket(source.answered, reasons[0] if reasons else "")
            if not source.answered:  # the check of the config socket has the first reason
                reasons = reasons[1:]
        yield self._rule_check(notes, reasons)
        if self._rule is not None and FILES.name in self._rule.settings.kinds and self._is_used():
            yield self._paths(self._rule.settings)

    def _is_used(self) -> bool:
        """Whether the agent uses a rule, or does not run."""
        return not self._status.get("Running") or bool((self._status.get("Rule") or {}).get("Origin"))

    def _rule_check(self, notes: Sequence[str], reasons: Sequence[str]) -> Link:
        """`notes`: what the source of the rule logged. `reasons`: why the rule is not from an earlier place."""
        if self._rule is None:
            message = "There is no usable rule, so nothing is collected."
            if reasons:
                return Link("rule", BROKEN, message, reasons[0], [*notes, *reasons[1:]])
            return Link("rule", BROKEN, message, "%s, or save one as %s." % (_ASSOCIATE, self._options.dcr), notes)
        if not self._is_used():
            message = "The agent does not use the rule from %s yet, so nothing is collected." % self._rule.origin
            remedy = "It checks again within %d s. To check now: systemctl reload ctagent." % RETRY_SECONDS[1]
            return Link("rule", BROKEN, message, remedy, [*notes, *reasons])
        settings = self._rule.settings
        details = [*settings.warnings, *notes, *reasons]
        message = "Using the rule from %s: %s." % (self._rule.origin, ", ".join(settings.rules[:5]))
        remedy = "Correct the rule, or the place that it should come from." if details else ""
        return Link("rule", WARNING if details else OK, message, remedy, details, details)

    def _config_socket(self, answered: Optional[bool], reason: str) -> Link:
        """`reason`: why the rule does not come from the config socket."""
        if answered:
            return Link("config socket", OK, "%s answers with a rule." % self._options.config_address)
        otherwise = _NO_SOCKET if self._rule is not None else ""
        if answered is not None:
            return Link("config socket", WARNING, reason, _sentences(_ASSOCIATE + ".", otherwise))
        status = WARNING if self._rule is not None else BROKEN
        return Link("config socket", status, "%s." % reason.rstrip("."), otherwise)

    def _paths(self, settings: Settings) -> Link:
        """Show how each destinationPath is read and what it matched in the last run. Sources that failed are in the check `files`."""
        details, unknown = [], "not scanned yet"
        try:
            with Store(self._options.database, read_only=True, owner=self._owner, leave_no_files=True) as store:
                sources = store.last_sources(FILES)
        except CtiError:
            sources, unknown = {}, "see the check 'state'"
        failed = 0
        for rule in settings.file_rules:
            source = sources.get(rule.name) or sources.get("%s (%s)" % (rule.name, rule.path))
            matched = unknown
            if source is not None:
                failed += source.status == "failed"
                files = plural(source.count, "file")
                matched = files if source.status == "ok" and not source.message else ""
                matched = matched or "%s, %s: %s" % (source.status, files, source.message)
            details.append("%s is %s; %s" % (rule.path, _SYNTAXES[parse_path(rule.path).syntax], matched))
        unread = ", %d of which cannot be read" % failed if failed else ""
        return Link("paths", OK, "%s in the rule%s." % (plural(len(details), "file item"), unread), "", details)

    # --- collecting

    def _collections(self, rule: ActiveRule) -> Iterator[Link]:
        for kind in rule.settings.kinds:
            yield self._collection(kind, self._status.get("Kinds", {}).get(kind, {}), rule.settings.every(kind))

    def _collection(self, kind: str, seen: Dict[str, Any], every: int) -> Link:
        if seen.get("Error"):
            return Link(kind, BROKEN, "The last run failed. %s" % _without_counts(seen["Error"]))
        when = seen.get("CollectedAt")
        if when is None:
            message = "Not collected since the agent started."
            if self._is_late(self._status.get("StartedAt"), every):
                remedy = "If the rule is not new, restart the agent and see its log: journalctl -u ctagent."
                return Link(kind, WARNING, message, remedy)
            return Link(kind, UNKNOWN, message, "Run this check again in %d s." % every)
        failed = ["%s: %s" % pair for pair in sorted(seen.get("Failed", {}).items())]
        message = "%s at %s, %s." % (status.items(seen), when, plural(seen["Changes"], "change"))
        if self._is_late(when, every):
            remedy = "See the log (journalctl -u ctagent), and restart the agent."
            return Link(kind, BROKEN, "The next run of %s is overdue." % kind, remedy, [message])
        if failed:
            remedy = "Make it readable. Until then, none of its items is reported as removed."
            return Link(kind, WARNING, message, remedy, failed, ["%s." % text.rstrip(".") for text in failed])
        return Link(kind, OK, message)

    def _is_late(self, since: Optional[str], every: int) -> bool:
        """Whether the next run should have ended, even if it started late and took long."""
        late = 2 * every + self._options.jitter + 60
        return bool(self._status.get("Running")) and since is not None and since < str(timestamp(time.time() - late))

    # --- delivery

    def _streams(self, rule: ActiveRule) -> Link:
        chosen = tags.choose(self._options.receiver, rule.settings.streams, {})
        missing = [stream for stream, found in chosen.items() if not found]
        if missing:
            message = "The rule has no tag for %s, so their records are not sent." % " and ".join(missing)
            remedy = "Use the rule from the config socket or the config chunks: the ARM form names no tags."
            if rule.settings.streams:
                lacking = " and ".join(name for name, stream in CHUNK_STREAMS.items() if stream in missing)
                remedy = "Add %s to the streams of the rule, in its data source and its data flow." % lacking
            return Link("streams", BROKEN, message, remedy)
        names = [tag for found in chosen.values() for tag in found]
        return Link("streams", OK, "Records are sent with the tags %s." % ", ".join(names))

    def _receiver(self) -> Link:
        options = self._options
        try:
            sockets.connect(options.receiver, DEADLINE, options.allow_users, options.tls).close()
        except ForwardError as error:
            return Link("receiver", BROKEN, "%s." % error, _WAIT)
        return Link("receiver", OK, "%s accepts connections." % options.address)

    def _log_analytics(self) -> Link:
        from ..azure.ingestion import open_ingestion  # loaded only if it is used

        try:
            opened = open_ingestion(self._options.address, self._options.azure, seconds=DEADLINE, token_patience=0.0)
            with opened as ingestion:
                ingestion.check()
        except CtiError as error:
            return Link("receiver", BROKEN, str(error), _WAIT)
        return Link("receiver", OK, "%s answers, and the identity has a token for it." % self._options.address)

    def _delivery(self, receiver: Link) -> Link:
        delivery, waiting = self._status.get("Delivery", {}), self._status.get("Outbox", {})
        records_wait, oldest = plural(waiting.get("Records") or 0, "record", "waits"), waiting.get("Oldest")
        if waiting.get("Error"):
            records_wait = "An unknown number of records waits"
        if delivery.get("Error"):
            error = _without_counts(delivery["Error"])
            if receiver.status == BROKEN and error.rstrip(".") in _without_counts(receiver.message):
                error = "The last delivery failed for the same reason as the check 'receiver'."
            return Link("delivery", BROKEN, error, "Delivery is retried automatically.", [records_wait])
        delivered = "%d delivered, last at %s" % (delivery.get("Records", 0), delivery.get("At"))
        message = "%s; %s." % (records_wait, delivered if delivery.get("At") else "none delivered yet")
        if waiting.get("Error"):  # the check `state` has the reason
            return Link("delivery", UNKNOWN, message)
        if waiting.get("Bytes", 0) >= MAX_BYTES:
            full = "The outbox is full."
            return Link("delivery", BROKEN, full, "Nothing is collected until some records are delivered.", [message])
        if oldest and oldest < str(timestamp(time.time() - LATE_SECONDS)):
            late = "Records wait for more than %d minutes." % (LATE_SECONDS // 60)
            details = [message, "the oldest waits since %s" % oldest]
            return Link("delivery", WARNING, late, "See the log of the receiver.", details)
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
            return Link("privileges", UNKNOWN, "Cannot find out which files the agent can read (%s)." % error)
        if able:
            return Link("privileges", OK, "%s can read every file." % who)
        message = "%s lacks CAP_DAC_READ_SEARCH, so files that it cannot read are missing or have no checksum." % who
        return Link(
            "privileges", WARNING, message, "Run the agent with this capability, as the role agent does, or as root."
        )


def _microsoft() -> Link:
    if not os.path.isdir(UNITS):
        message = "Cannot find out whether Microsoft's agent (%s) runs, because systemd does not run here." % MICROSOFT
        return Link("microsoft", UNKNOWN, message)
    if os.path.lexists(os.path.join(UNITS, "invocation:" + MICROSOFT)):
        remedy = "Remove one of the two agents. Otherwise, every change is reported twice."
        return Link("microsoft", WARNING, "Microsoft's agent (%s) runs as well." % MICROSOFT, remedy)
    return Link("microsoft", OK, "Microsoft's agent (%s) does not run." % MICROSOFT)


def _selinux(broken: bool) -> Link:
    """Check whether SELinux is enforcing. Only its log shows whether it is the cause of a failed check."""
    try:
        with open(SELINUX, encoding="ascii") as file:
            enforcing = file.read(1) == "1"
    except FileNotFoundError:
        return Link("selinux", OK, "SELinux is off.")
    except (OSError, ValueError) as error:
        return Link("selinux", UNKNOWN, "Cannot find out whether SELinux is enforcing (%s)." % error)
    if enforcing and broken:
        remedy = "Check whether SELinux denied the agent something: ausearch -m avc -ts today -c python3"
        return Link("selinux", WARNING, "SELinux is enforcing and may be the cause of the failed check.", remedy)
    return Link("selinux", OK, "SELinux is %s." % ("enforcing" if enforcing else "not enforcing"))
