# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Which rule holds: of the Azure Monitor Agent (AMA), of its config chunks, of a file, or the last good one."""

import json
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from .. import dcr
from ..ama import address
from ..ama.chunks import Chunks
from ..ama.config import ask
from ..errors import CtiError, DcrError, ForwardError
from ..replace import replace
from .options import Options

SHOWN = 5
Document = Optional[Dict[str, Any]]


class Rule(NamedTuple):
    origin: str  # what an operator calls the place it is from
    document: Dict[str, Any]
    settings: dcr.Settings


class Source:
    """find() it again and again; what it says is said once, until it is something else."""

    def __init__(self, options: Options, log: Callable[[str], None], deadline: float = 10.0) -> None:
        """`deadline`: seconds for an answer of AMA's."""
        self._options = options
        self._log = log
        self._deadline = deadline
        self._last_good = "the last good rule, %s" % options.path("dcr.json")
        self._chunks = Chunks(options.chunks, log) if options.chunks else None
        self._said: List[str] = []
        self.answered: Optional[bool] = None  # by AMA: with a rule, or without one; None: not at all
        self.rule: Optional[Rule] = None
        self.reasons: List[str] = []  # why it is not from a place that comes before the one it is from

    def find(self) -> Optional[Rule]:
        """None where there is none, so that nothing is to be collected."""
        before = self.rule
        self.rule, self.reasons = self.look()
        for reason in self.reasons:
            if reason not in self._said:
                self._log(reason)
        self._said = self.reasons
        if self.rule is None:
            if before is not None:
                self._log("The data collection rule is withdrawn: nothing is collected until there is one.")
        elif before is None or before[:2] != self.rule[:2]:
            for warning in self.rule.settings.warnings:
                self._log(warning)
            changed = differences(before.settings, self.rule.settings) if before is not None else ""
            self._log("The rule is that of %s: %s.%s" % (self.rule.origin, describe(self.rule.settings), changed))
            if self.rule.origin != self._last_good:
                self._keep(self.rule)
        return self.rule

    def look(self) -> Tuple[Optional[Rule], List[str]]:
        """The rule that holds, and why it is not from a place that comes before. Changes nothing."""
        reasons: List[str] = []
        places = [self._ask, self._read_chunks, self._read_file, self._read_last_good]
        while places:
            look = places.pop(0)
            try:
                origin, document = look()
                if document is not None:
                    return _rule(origin, document), reasons
                if look == self._ask and origin:
                    reasons.append("%s has no rule for %s." % (origin, dcr.EXTENSION))
                    places = [self._read_file]
            except DcrError as error:  # what is broken now may not give way to what was never meant to hold
                reasons.append(str(error))
                if look != self._read_last_good:
                    places = [self._read_last_good]
            except CtiError as error:
                reasons.append(str(error))
        return None, reasons

    def _ask(self) -> Tuple[str, Document]:
        if not self._options.config_address:
            return "", None
        self.answered = None
        where = address.parse(self._options.config_address)
        document = ask(where, dcr.EXTENSION, self._options.allow_users, self._deadline)
        self.answered = document is not None
        return "the agent at %s" % str(where), document

    def _read_chunks(self) -> Tuple[str, Document]:
        if self._chunks is None or not os.path.isdir(self._options.chunks):
            return "", None
        self._chunks.refresh()
        return "the config chunks in %s" % self._options.chunks, self._chunks.document(dcr.EXTENSION)

    def _read_file(self) -> Tuple[str, Document]:
        return self._options.dcr, _read(self._options.dcr) if self._options.dcr else None

    def _read_last_good(self) -> Tuple[str, Document]:
        return self._last_good, _read(self._options.path("dcr.json"))

    def _keep(self, rule: Rule) -> None:
        try:
            replace(self._options.path("dcr.json"), [json.dumps(rule.document).encode("ascii")])
        except OSError as error:
            self._log("The rule cannot be kept in %s (%s)." % (self._options.state, error.strerror))


def _rule(origin: str, document: Dict[str, Any]) -> Rule:
    try:
        return Rule(origin, document, dcr.load(document, "of " + origin))
    except DcrError as error:
        raise DcrError("The rule of %s is not used. %s" % (origin, error)) from error


def _read(path: str) -> Document:
    """A rule's file; None where there is none. Raises DcrError and ForwardError."""
    try:
        with open(path, "rb") as file:
            raw = file.read(dcr.MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ForwardError("The rule %s cannot be read (%s)." % (path, error.strerror)) from error
    document = dcr.parse(raw, path)
    if not isinstance(document, dict):
        raise DcrError("The rule %s is no JSON object; give a data collection rule." % path)
    return document


def describe(settings: dcr.Settings) -> str:
    """In one line."""
    words = []
    if len(settings.rules) > 1:
        words.append("%d rules are merged" % len(settings.rules))
    words.append(" and ".join(settings.rules[:3]) + (" and others" if len(settings.rules) > 3 else ""))
    for kind in settings.kinds:
        items = "%d items of " % len(settings.file_rules) if kind == "files" else ""
        words.append("%s%s every %d s" % (items, kind, settings.every(kind)))
    words.append("inventory every %d s" % settings.inventory_every if settings.inventory else "no inventory")
    return ", ".join(words)


def differences(old: dcr.Settings, new: dcr.Settings) -> str:
    """What is new in a rule, as the end of a line; empty where nothing is that counts."""
    words = []
    for kind in ("packages", "services", "files"):
        if (kind in old.kinds) != (kind in new.kinds):
            words.append("%s %s" % (kind, "on" if kind in new.kinds else "off"))
        elif kind in new.kinds and old.every(kind) != new.every(kind):
            words.append("%s every %d s instead of %d s" % (kind, new.every(kind), old.every(kind)))
    before = {rule.tracking: rule for rule in old.file_rules}
    after = {rule.tracking: rule for rule in new.file_rules}
    added = [rule for tracking, rule in after.items() if tracking not in before]
    gone = [rule for tracking, rule in before.items() if tracking not in after]
    other = [rule for tracking, rule in after.items() if before.get(tracking, rule) != rule]
    words += ["%s %s contents" % (rule.path, "with" if rule.contents else "without") for rule in other[:SHOWN]]
    words += ["%s added" % rule.path for rule in added[:SHOWN]] + ["%s gone" % rule.path for rule in gone[:SHOWN]]
    if max(len(added), len(gone), len(other)) > SHOWN:
        counts = (len(added), len(gone), len(other))
        words.append("%d items of files added, %d gone, %d with other contents in all" % counts)
    return " Changed: %s." % ", ".join(words) if words else ""
