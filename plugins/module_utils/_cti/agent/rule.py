# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Which rule holds: that of the Azure Monitor Agent (AMA), of its config chunks, of a file, or the last good one.

A place has a rule, has none, or cannot be read. The last good rule is used only while the place it is from cannot be
read: where that place has none, the rule is withdrawn, and stays withdrawn when the place cannot be read later. Config
chunks that AMA's answer overruled are not used until they change.
"""

import hashlib
import json
import os
from typing import Any, Callable, List, NamedTuple, Optional, Set, Tuple

from .. import folders
from ..ama.chunks import Chunks
from ..ama.config import ask
from ..errors import CtiError, DcrError, ForwardError
from ..kinds.files.kind import FILES
from ..kinds.registry import all_kinds
from ..replace import replace
from ..rule import dcr
from ..rule.settings import EXTENSION, Settings
from ..wire import address
from .options import AgentOptions

SHOWN = 5
AMA, CHUNKS, FILE = "ama", "chunks", "file"  # the places, in their order
RETRY_SECONDS = (5, 30)  # between two looks while there is no rule: at first, and at the most
MAX_KEPT_BYTES = 64 << 20  # the largest rule of any place, in ASCII
Document = Any  # a rule as it was found, an object or a list; None: there is none


class ActiveRule(NamedTuple):
    origin: str  # what an operator calls the place it is from
    document: Document
    settings: Settings


class SavedRule(NamedTuple):
    """What is remembered from one look to the next, in the state's dcr.json."""

    place: str = ""  # of the last good rule; empty: there is none, or it is withdrawn
    document: Document = None
    overruled: str = ""  # digest of the config chunks' rule when AMA answered that it has none


class Lookup(NamedTuple):
    """What a look at all places found."""

    rule: Optional[ActiveRule]
    reasons: List[str]  # why the rule is not from a place that comes before the one it is from
    kept: SavedRule  # what to remember


class RuleSource:
    """find() it again and again. What it logs is logged once, until it is something else."""

    def __init__(
        self,
        options: AgentOptions,
        warn: Callable[[str], None],
        deadline: float = 10.0,
        inform: Optional[Callable[[str], None]] = None,
    ) -> None:
        """`deadline`: seconds to wait for an answer of AMA. `inform` gets which rule is used, `warn` all else that is logged."""
        self._options = options
        self._warn = warn
        self._inform = inform or warn
        self._deadline = deadline
        self._path = options.path("dcr.json")
        self._chunks = Chunks(options.chunks, warn, inform) if options.chunks else None
        self._logged: List[str] = []
        self._failures = 0  # looks without a rule, one after the other
        self.answered: Optional[bool] = None  # by AMA: with a rule, or without one; None: not at all
        self.rule: Optional[ActiveRule] = None
        self.reasons: List[str] = []  # as Lookup has them

    def find(self) -> Optional[ActiveRule]:
        """The rule that holds; None where there is none, so that nothing is to be collected."""
        before = self.rule
        self.rule, self.reasons, kept = self.look()
        for reason in self.reasons:
            if reason not in self._logged:
                self._warn(reason)
        self._logged = self.reasons
        if self.rule is None:
            if before is not None:
                self._warn("The data collection rule is withdrawn: nothing is collected until there is one.")
            elif not self._failures:
                self._warn("There is no data collection rule yet: nothing is collected until there is one.")
            self._failures += 1
        else:
            self._failures = 0
            if before is None or before[:2] != self.rule[:2]:
                self._log_rule(before, self.rule)
        self._keep(kept)
        return self.rule

    @property
    def retry_seconds(self) -> Optional[float]:
        """How soon to look again; None where there is a rule, so that the next look can wait for its turn."""
        if self.rule is not None or not self._failures:
            return None
        first, most = RETRY_SECONDS
        return float(min(first * 2 ** min(self._failures - 1, 10), most))

    def look(self) -> Lookup:
        """Look at all places. Changes nothing."""
        kept, problem = self._read_kept()
        reasons: List[str] = []
        without: Set[str] = set()  # places that have no rule: what was from there is withdrawn
        for place, read in ((AMA, self._ask), (CHUNKS, self._read_chunks), (FILE, self._read_file)):
            try:
                origin, document = read()
                if place == AMA and self.answered is False:
                    reasons.append("%s has no rule for %s." % (origin, EXTENSION))
                elif place == CHUNKS and document is not None and _digest(document) == kept.overruled:
                    reasons.append("The rule of %s is not used: AMA has withdrawn it." % origin)
                elif document is not None:
                    return Lookup(_rule(origin, document), reasons, self._to_keep(place, document, kept))
                without.add(place)
            except DcrError as error:  # what is broken now may not give way to what was never meant to hold
                reasons.append(str(error))
                break
            except CtiError as error:
                reasons.append(str(error))
        reasons += [problem] if problem else []
        if kept.document is None or kept.place in without:
            return Lookup(None, reasons, self._to_keep("", None, kept))
        try:
            rule = _rule("the last good rule, %s" % self._path, kept.document)
            return Lookup(rule, reasons, self._to_keep(kept.place, kept.document, kept))
        except DcrError as error:
            return Lookup(None, [*reasons, str(error)], kept)

    def _ask(self) -> Tuple[str, Document]:
        self.answered = None
        if not self._options.config_address:
            return "", None
        where = address.parse(self._options.config_address)
        document = ask(where, EXTENSION, self._options.allow_users, self._deadline)
        self.answered = document is not None
        return "the agent at %s" % str(where), document

    def _read_chunks(self) -> Tuple[str, Document]:
        """None, too, where AMA has answered. Raises ForwardError where the folder cannot be read and nothing is known of it."""
        if self.answered is not None or self._chunks is None or _is_missing(self._options.chunks):
            return "", None
        self._chunks.refresh()
        document = self._chunks.document(EXTENSION)
        if document is None and self._chunks.unread:
            raise ForwardError("It is not known what the config chunks in %s say." % self._options.chunks)
        return "the config chunks in %s" % self._options.chunks, document

    def _read_file(self) -> Tuple[str, Document]:
        return self._options.dcr, _read(self._options.dcr) if self._options.dcr else None

    def _log_rule(self, before: Optional[ActiveRule], rule: ActiveRule) -> None:
        for warning in rule.settings.warnings:
            self._warn(warning)
        changed = differences(before.settings, rule.settings) if before is not None else ""
        self._inform("The rule is that of %s: %s.%s" % (rule.origin, describe(rule.settings), changed))

    # --- what is kept

    def _read_kept(self) -> Tuple[SavedRule, str]:
        """What is kept, and why that is not known."""
        try:
            found = _read(self._path, MAX_KEPT_BYTES, follow=False)
            if found is None:
                return SavedRule(), ""
            if "document" not in found:  # as version 0.1.0 wrote it
                return SavedRule(AMA, found), ""
            kept = SavedRule(found["place"], found["document"], found["overruled"])
            if kept.place in ("", AMA, CHUNKS, FILE) and isinstance(kept.overruled, str):
                return kept, ""
        except CtiError as error:
            return SavedRule(), str(error)
        except (KeyError, TypeError):
            pass
        return SavedRule(), "%s is not what the agent writes; remove it." % self._path

    def _to_keep(self, place: str, document: Document, before: SavedRule) -> SavedRule:
        overruled = before.overruled
        if self.answered is False:
            overruled = self._digest_of_chunks()
        elif place in (AMA, CHUNKS) and _digest(document) == overruled:  # AMA has it again
            overruled = ""
        return SavedRule(place, document, overruled)

    def _digest_of_chunks(self) -> str:
        if self._chunks is None or _is_missing(self._options.chunks):
            return ""
        self._chunks.refresh()
        document = self._chunks.document(EXTENSION)
        return "" if document is None else _digest(document)

    def _keep(self, kept: SavedRule) -> None:
        before, problem = self._read_kept()
        if kept == before or (problem and kept.document is None):
            return
        try:
            replace(self._path, [json.dumps(kept._asdict()).encode("ascii")])
        except OSError as error:
            self._warn("The rule cannot be kept in %s (%s)." % (self._options.state, error.strerror))
            self._forget(kept)

    def _forget(self, kept: SavedRule) -> None:
        """A withdrawn rule may not come back because the disk was full."""
        if kept.document is None:
            try:
                os.unlink(self._path)
            except OSError:
                pass


def _digest(document: Any) -> str:
    """Of a rule as AMA answers with it or as a config chunk holds it: equal rules have equal ones."""
    said = document.get("extensionConfigurations", document) if isinstance(document, dict) else document
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode("ascii")).hexdigest()


def _is_missing(path: str) -> bool:
    """Whether there is nothing of that name; what cannot be looked at may be there."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _rule(origin: str, document: Document) -> ActiveRule:
    try:
        return ActiveRule(origin, document, dcr.load(document, "of " + origin))
    except DcrError as error:
        raise DcrError("The rule of %s is not used. %s" % (origin, error)) from error


def _read(path: str, limit: int = dcr.MAX_BYTES, follow: bool = True) -> Document:
    """A rule's file; None where there is none. `follow`: whether it may be a symlink. Raises DcrError and ForwardError."""
    try:
        raw = folders.read(path, limit, follow)[0]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ForwardError("The rule %s cannot be read (%s)." % (path, error.strerror)) from error
    document = dcr.parse(raw, path, limit)
    if not isinstance(document, (dict, list)):
        raise DcrError("The rule %s is no JSON object; give a data collection rule." % path)
    return document


def describe(settings: Settings) -> str:
    """In one line."""
    words = []
    if len(settings.rules) > 1:
        words.append("%d rules are merged" % len(settings.rules))
    words.append(" and ".join(settings.rules[:3]) + (" and others" if len(settings.rules) > 3 else ""))
    for kind in settings.kinds:
        items = "%d items of " % len(settings.file_rules) if kind == FILES.name else ""
        words.append("%s%s every %d s" % (items, kind, settings.every(kind)))
    words.append("inventory every %d s" % settings.inventory_every if settings.inventory else "no inventory")
    return ", ".join(words)


def differences(old: Settings, new: Settings) -> str:
    """What is new in a rule, as the end of a line; empty where nothing is that counts."""
    words = []
    for kind in all_kinds():
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
