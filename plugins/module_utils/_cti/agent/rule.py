# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Finds the rule to use: that of the Azure Monitor Agent (AMA), of its config chunks, of a file, or the last good one.

Each place has a rule, has none, or cannot be read. The last good rule is used only while the place it came from cannot be
read. If that place has no rule, the rule is withdrawn, and stays so even if the place cannot be read later. Config chunks
that an answer of AMA overruled are not used until they change.

If the file items of a rule cannot be used, those of the last good rule are used with the rest of it.
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
from ..rule.hold import hold
from ..rule.settings import EXTENSION, Settings
from ..text import plural
from ..wire import address
from .options import AgentOptions

SHOWN = 5  # differences of one sort in a log line
AMA, CHUNKS, FILE = "ama", "chunks", "file"  # the places, in the order in which they are asked
RETRY_SECONDS = (5, 30)  # until the next check while there is no rule: at first, and at most
MAX_KEPT_BYTES = 64 << 20  # the largest rule that any place can have, as ASCII
Document = Any  # a rule as its place has it, an object or a list; None: no rule


class ActiveRule(NamedTuple):
    origin: str  # the place, in words for messages
    document: Document
    settings: Settings


class SavedRule(NamedTuple):
    """What is stored in the state directory (dcr.json) from one check to the next."""

    place: str = ""  # where the last good rule came from; empty: there is none, or it is withdrawn
    document: Document = None  # of the last good rule, which has no errors if any rule had none
    overruled: str = ""  # digest of the rule in the config chunks when AMA answered that it has none


class Lookup(NamedTuple):
    """The result of a check of all places."""

    rule: Optional[ActiveRule]
    reasons: List[str]  # why the rule is not from a place that is asked earlier
    saved: SavedRule  # what to store


class RuleSource:
    """Finds the rule to use, each time find() is called. Messages are logged again only when they change."""

    def __init__(
        self,
        options: AgentOptions,
        warn: Callable[[str], None],
        deadline: float = 10.0,
        inform: Optional[Callable[[str], None]] = None,
    ) -> None:
        """`deadline`: seconds to wait for AMA. `inform` logs which rule is used, `warn` everything else."""
        self._options = options
        self._warn = warn
        self._inform = inform or warn
        self._deadline = deadline
        self._path = options.path("dcr.json")
        self._chunks = Chunks(options.chunks, warn, inform) if options.chunks else None
        self._logged: List[str] = []
        self._failures = 0  # checks in a row that found no rule
        self.answered: Optional[bool] = None  # whether the answer of AMA had a rule; None: AMA did not answer
        self.rule: Optional[ActiveRule] = None
        self.reasons: List[str] = []  # as in Lookup

    def find(self) -> Optional[ActiveRule]:
        """Return the rule to use, and store and log what is new; None if there is no rule, so that nothing is collected."""
        before = self.rule
        self.rule, self.reasons, saved = self.look()
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
        self._save(saved)
        return self.rule

    @property
    def retry_seconds(self) -> Optional[float]:
        """Seconds until the next check while there is no rule; None if there is one."""
        if self.rule is not None or not self._failures:
            return None
        first, most = RETRY_SECONDS
        return float(min(first * 2 ** min(self._failures - 1, 10), most))

    def look(self) -> Lookup:
        """Check all places for a rule. Changes nothing."""
        saved, problem = self._read_saved()
        found, reasons, without = self._search(saved)
        if found is not None:
            place, rule = found
            last = self._last_good(saved) if rule.settings.errors else None
            if last is None:
                return Lookup(rule, reasons, self._to_save(place, rule.document, saved))
            rule = rule._replace(settings=hold(rule.settings, last.settings))
            return Lookup(rule, reasons, self._to_save(place, rule.document, saved)._replace(document=last.document))
        if problem:
            reasons.append(problem)
        if saved.document is None or saved.place in without:
            return Lookup(None, reasons, self._to_save("", None, saved))
        try:
            rule = self._load_saved(saved)
        except DcrError as error:
            return Lookup(None, [*reasons, str(error)], saved)
        return Lookup(rule, reasons, self._to_save(saved.place, saved.document, saved))

    def _load_saved(self, saved: SavedRule) -> ActiveRule:
        return _load("the last good rule, %s" % self._path, saved.document)

    def _last_good(self, saved: SavedRule) -> Optional[ActiveRule]:
        """The saved rule; None if there is none, or none without errors."""
        try:
            rule = self._load_saved(saved) if saved.document is not None else None
        except DcrError:
            return None
        return None if rule is None or rule.settings.errors else rule

    def _search(self, saved: SavedRule) -> Tuple[Optional[Tuple[str, ActiveRule]], List[str], Set[str]]:
        """The first place that has a rule, with the rule; why earlier places are not used; and the places without a rule.

        A rule that is not valid ends the search: no later place may replace it.
        """
        reasons: List[str] = []
        without: Set[str] = set()
        for place, read in ((AMA, self._ask), (CHUNKS, self._read_chunks), (FILE, self._read_file)):
            try:
                origin, document = read()
                refusal = self._refusal(place, origin, document, saved)
                if document is not None and not refusal:
                    return (place, _load(origin, document)), reasons, without
            except DcrError as error:
                reasons.append(str(error))
                break
            except CtiError as error:
                reasons.append(str(error))
                continue
            without.add(place)
            if refusal:
                reasons.append(refusal)
        return None, reasons, without

    def _refusal(self, place: str, origin: str, document: Document, saved: SavedRule) -> str:
        """Why what a place returned is no rule to use; empty if it is one, or if the place is not configured."""
        if place == AMA and self.answered is False:
            return "%s has no rule for %s." % (origin[:1].upper() + origin[1:], EXTENSION)
        if place == CHUNKS and document is not None and _digest(document) == saved.overruled:
            return "Not using the rule from %s: AMA has withdrawn it." % origin
        return ""

    def _ask(self) -> Tuple[str, Document]:
        self.answered = None
        if not self._options.config_address:
            return "", None
        where = address.parse(self._options.config_address)
        document = ask(where, EXTENSION, self._options.allow_users, self._deadline)
        self.answered = document is not None
        return "the Azure Monitor Agent at %s" % str(where), document

    def _read_chunks(self) -> Tuple[str, Document]:
        """No rule if AMA has answered. Raises ForwardError if it is not known whether the chunks have a rule."""
        if self.answered is not None or self._chunks is None or _is_missing(self._options.chunks):
            return "", None
        self._chunks.refresh()
        document = self._chunks.document(EXTENSION)
        if document is None and self._chunks.unread:
            raise ForwardError(
                "Cannot tell whether the config chunks in '%s' have a rule, because not all of them can be read."
                % self._options.chunks
            )
        return "the config chunks in %s" % self._options.chunks, document

    def _read_file(self) -> Tuple[str, Document]:
        return self._options.dcr, _read(self._options.dcr) if self._options.dcr else None

    def _log_rule(self, before: Optional[ActiveRule], rule: ActiveRule) -> None:
        for warning in rule.settings.warnings:
            self._warn(warning)
        changed = differences(before.settings, rule.settings) if before is not None else ""
        self._inform("Using the rule from %s: %s.%s" % (rule.origin, describe(rule.settings), changed))

    # --- the saved rule

    def _read_saved(self) -> Tuple[SavedRule, str]:
        """What is stored, or nothing and why it cannot be read."""
        try:
            found = _read(self._path, MAX_KEPT_BYTES, follow=False)
            if found is None:
                return SavedRule(), ""
            if "document" not in found:  # as version 0.1.0 wrote it
                return SavedRule(AMA, found), ""
            saved = SavedRule(found["place"], found["document"], found["overruled"])
            if saved.place in ("", AMA, CHUNKS, FILE) and isinstance(saved.overruled, str):
                return saved, ""
        except CtiError as error:
            return SavedRule(), str(error)
        except (KeyError, TypeError):
            pass
        return SavedRule(), "'%s' does not have the format that the agent writes. Remove the file." % self._path

    def _to_save(self, place: str, document: Document, before: SavedRule) -> SavedRule:
        overruled = before.overruled
        if self.answered is False:
            overruled = self._digest_of_chunks()
        elif place in (AMA, CHUNKS) and _digest(document) == overruled:  # AMA has the rule again
            overruled = ""
        return SavedRule(place, document, overruled)

    def _digest_of_chunks(self) -> str:
        if self._chunks is None or _is_missing(self._options.chunks):
            return ""
        self._chunks.refresh()
        document = self._chunks.document(EXTENSION)
        return "" if document is None else _digest(document)

    def _save(self, saved: SavedRule) -> None:
        before, problem = self._read_saved()
        if saved == before or (problem and saved.document is None):
            return
        try:
            replace(self._path, [json.dumps(saved._asdict()).encode("ascii")])
        except OSError as error:
            self._warn(
                "Cannot save the rule in '%s' (%s). Make the directory writable, with free space."
                % (self._options.state, error.strerror)
            )
            if saved.document is None:  # a withdrawn rule may not be used again because the disk was full
                self._delete_saved()

    def _delete_saved(self) -> None:
        try:
            os.unlink(self._path)
        except OSError:
            pass


def _digest(document: Any) -> str:
    """SHA-256 of a rule, the same for an answer of AMA and for a config chunk with that rule."""
    content = document.get("extensionConfigurations", document) if isinstance(document, dict) else document
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def _is_missing(path: str) -> bool:
    """Whether there is no such path. False if that cannot be found out."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _load(origin: str, document: Document) -> ActiveRule:
    try:
        return ActiveRule(origin, document, dcr.load(document, "of " + origin))
    except DcrError as error:
        raise DcrError("Not using the rule from %s. %s" % (origin, error)) from error


def _read(path: str, limit: int = dcr.MAX_BYTES, follow: bool = True) -> Document:
    """The JSON value in a rule file; None if there is no file. `follow`: whether it may be a symlink.

    Raises DcrError and ForwardError.
    """
    try:
        raw = folders.read(path, limit, follow)[0]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ForwardError("Cannot read the rule '%s' (%s)." % (path, error.strerror)) from error
    document = dcr.parse(raw, path, limit)
    if not isinstance(document, (dict, list)):
        raise DcrError("The rule '%s' is not a JSON object. Give a data collection rule." % path)
    return document


def describe(settings: Settings) -> str:
    """The rules, kinds and intervals of the settings, on one line."""
    words = []
    if len(settings.rules) > 1:
        words.append("%d rules are merged" % len(settings.rules))
    words.append(" and ".join(settings.rules[:3]) + (" and others" if len(settings.rules) > 3 else ""))
    for kind in settings.kinds:
        items = " (%s)" % plural(len(settings.file_rules), "file item") if kind == FILES.name else ""
        words.append("%s every %d s%s" % (kind, settings.every(kind), items))
    words.append("inventory every %d s" % settings.inventory_every if settings.inventory else "no inventory")
    return ", ".join(words)


def differences(old: Settings, new: Settings) -> str:
    """What changed in the rule, as a sentence to append to a log line; empty if nothing relevant changed."""
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
    same = {rule.path for rule in added} & {rule.path for rule in gone}
    added, gone = ([rule for rule in some if rule.path not in same] for some in (added, gone))
    other = [rule for tracking, rule in after.items() if before.get(tracking, rule) != rule]
    words += ["%s tracked in another way" % path for path in sorted(same)[:SHOWN]]
    words += ["%s %s contents" % (rule.path, "with" if rule.contents else "without") for rule in other[:SHOWN]]
    words += ["%s added" % rule.path for rule in added[:SHOWN]] + ["%s removed" % rule.path for rule in gone[:SHOWN]]
    if max(len(added), len(gone), len(same), len(other)) > SHOWN:
        counts = (plural(len(added), "file item"), len(gone), len(same), len(other))
        words.append("%s added, %d removed, %d tracked in another way, %d with changed contents in total" % counts)
    return " Changed: %s." % ", ".join(words) if words else ""
