# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Uploads the texts of changed files to the storage account that the rule names.

Which texts exist is decided in tracking/contents.py. A text that is new in a run goes into the spool before the run is stored, and its
record has the link of the blob. Then it is uploaded, before the record is sent if that takes no longer than HOLD_SECONDS. A failed
upload holds no record back: it is repeated until it succeeds, and then the link of the record leads to the text.
"""

import contextlib
import os
import threading
import time
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .. import host
from ..azure import blobs, spool
from ..azure.blobs import Blobs, TextRefused
from ..azure.errors import AzureError
from ..azure.https import SECONDS, Endpoint
from ..azure.identity import AUTO, METADATA_SECONDS, PATIENCE, VM, Tokens
from ..azure.spool import Spool, Waiting
from ..daemon import Log
from ..errors import StateError
from ..kinds.files.hashing import LENGTHS, constructor
from ..kinds.files.kind import File
from ..kinds.files.scope import FileRule, reaches
from ..rule.settings import Settings
from ..state.store import Store
from ..text import plural, quoted
from ..tracking.contents import asks
from ..tracking.snapshot import Snapshot
from .options import AgentOptions
from .status import Status

HOLD_SECONDS = 10.0  # for which records wait for the texts that they link to
BACKOFF_SECONDS = (5.0, 300.0)  # until the next attempt: after the first failure, and at most
Machine = Mapping[str, Optional[str]]  # of host.identity()


class Account(NamedTuple):
    """Where texts go, and as whom, as the rule names it."""

    endpoint: Endpoint
    identity: str


def account_of(rule: FileRule, hosts: Sequence[str]) -> Account:
    """The account that a file item names. `hosts`: see blobs.account(). Raises AzureError where nothing may be sent there."""
    endpoint, account_id, identity = rule.upload
    return Account(blobs.account(endpoint, account_id, hosts), identity)


def accounts(settings: Settings, hosts: Sequence[str]) -> Tuple[List[Account], List[str]]:
    """The accounts of a rule, and why others cannot be used."""
    found: Dict[Account, None] = {}
    problems: Dict[str, None] = {}
    for upload in dict.fromkeys(rule.upload for rule in settings.file_rules if rule.upload):
        try:
            found[account_of(FileRule("", "", upload=upload), hosts)] = None
        except AzureError as error:
            problems[str(error)] = None
    return list(found), list(problems)


def open_blobs(account: Account, options: AgentOptions, patience: float = PATIENCE, seconds: float = SECONDS) -> Blobs:
    """The container of an account. `patience`: see Tokens. `seconds`: for one request. Raises AzureError."""
    identity = options.azure
    if account.identity and identity.identity in (AUTO, VM) and not identity.client_id:
        identity = identity._replace(client_id=account.identity)
    return Blobs(
        account.endpoint,
        Tokens(identity, patience, min(seconds, METADATA_SECONDS)),
        identity.ca,
        identity.proxy,
        seconds=seconds,
    )


def _destination(text: Waiting, rules: Sequence[Tuple[FileRule, Account]]) -> Optional[Account]:
    """Where a text that waits is to be uploaded to, by the rule as it is now: to the account of its link, as the identity that the rule
    names for it; None where the rule no longer asks for that."""
    path = os.fsdecode(text.path)
    found = [
        account for rule, account in rules if str(account.endpoint) == text.endpoint and reaches(rule, path, "file")
    ]
    return min(found, key=lambda account: account.identity != text.identity, default=None)


class Uploads:
    """The texts of an agent that wait, and their upload. queue(), upload() and wait() are for one thread each."""

    def __init__(
        self, options: AgentOptions, log: Log, status: Status, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._log = log
        self._status = status
        self._clock = clock
        self._path = options.path(spool.FILE)
        self._tried = threading.Event()  # whether an upload of all that waits was attempted
        self._tried.set()
        self._blobs: Dict[Account, Blobs] = {}
        self._backoff = self._not_before = 0.0
        self._error = ""  # of the last upload, empty if it succeeded
        self._stopping = False

    def stop(self) -> None:
        """Let upload() and wait() return soon."""
        self._stopping = True
        self._tried.set()

    # --- what a run adds

    def queue(
        self, snapshot: Snapshot, settings: Settings, store: Store, machine: Machine
    ) -> Dict[Tuple[str, ...], str]:
        """Put the new texts of changed files into the spool. Returns the links, by identity of the item."""
        rules = [rule for rule in settings.file_rules if rule.contents]
        if not snapshot.changes or not any(rule.upload for rule in rules):
            return {}
        try:
            with Spool(self._path) as waiting:
                self._log_error(waiting.note)
                accepted, refused = waiting.add(self._new_texts(snapshot, rules, store, machine))
        except StateError as error:  # holds no record back
            self._log.error("Contents of changed files are not uploaded, and their records have no link. %s" % error)
            return {}
        if refused:
            self._log.error(
                "The contents of %s are not uploaded, and their records have no link: too many wait for their upload."
                % plural(refused, "file")
            )
        if accepted:
            self._tried.clear()
        return {(os.fsdecode(text.path),): text.link for text in accepted}

    def _new_texts(
        self, snapshot: Snapshot, rules: Sequence[FileRule], store: Store, machine: Machine
    ) -> Iterator[Waiting]:
        changed = {change.new.path: change for change in snapshot.changes if isinstance(change.new, File)}
        computer, id_ = machine["Computer"] or "", machine["SourceComputerId"] or ""
        for path, checksum, size, text in store.new_texts():
            change = changed.get(path)
            if change is None or not isinstance(change.new, File) or change.new.checksum != checksum:
                continue
            rule = next((rule for rule in rules if asks(rule, change.new)), None)
            if rule is None or not rule.upload:
                continue
            try:
                endpoint, identity = account_of(rule, self._options.upload_hosts)
            except AzureError:  # upload() names it
                continue
            name = blobs.blob_name(machine, change.new)
            yield Waiting(
                blobs.link(endpoint, name), name, str(endpoint), identity, computer, id_, os.fsencode(path), checksum,
                change.owner, size, text,
            )  # fmt: skip

    # --- the upload

    def wait(self) -> None:
        """Wait until an upload of what waits was attempted, or for HOLD_SECONDS."""
        self._tried.wait(HOLD_SECONDS)

    def upload(self, settings: Optional[Settings]) -> Optional[float]:
        """Upload all that waits. Returns in how many seconds to try again; None if nothing waits, or there is no rule."""
        try:
            if settings is None:
                return None
            if self._clock() < self._not_before:
                return self._not_before - self._clock()
            return self._upload(settings)
        finally:
            self._tried.set()

    def _upload(self, settings: Settings) -> Optional[float]:
        known, problems = accounts(settings, self._options.upload_hosts)
        uploaded, waiting, errors = 0, 0, list(map(AzureError, problems))
        try:
            with Spool(self._path) as texts:
                self._log_error(texts.note)
                try:
                    uploaded = self._upload_texts(texts, settings, known, errors)
                finally:
                    for opened in self._blobs.values():
                        opened.close()
                waiting = texts.count()
        except StateError as error:
            errors.append(AzureError(str(error)))
        if uploaded:
            self._log("The contents of %s were uploaded, %d waiting." % (plural(uploaded, "file"), waiting))
        return self._conclude(uploaded, waiting, errors)

    def _upload_texts(
        self, texts: Spool, settings: Settings, known: Sequence[Account], errors: List[AzureError]
    ) -> int:
        """Upload as many as possible, and add to `errors`. Returns their number."""
        rules = self._uploading(settings)
        machine = host.identity()["SourceComputerId"] or ""
        failed: Dict[Account, None] = {}
        uploaded = dropped = 0
        newest = texts.newest()  # what is queued from now on may be by another rule than this one
        for number, text in texts.texts():
            if self._stopping or (known and len(failed) == len(known)):
                break
            account = _destination(text, rules)
            if account is None and number > newest:
                continue
            if account is None or text.machine != machine:
                texts.remove(number)
                dropped += 1
            elif account not in failed:
                try:
                    content = _content(text)
                except ValueError as error:
                    texts.remove(number)
                    self._log.error(
                        "The text of %s that waited is damaged (%s) and is not uploaded." % (quoted(text.name), error)
                    )
                    continue
                try:
                    self._put(account, text, content)
                    uploaded += 1
                    texts.remove(number)
                except TextRefused as error:
                    errors.append(error)
                except AzureError as error:
                    errors.append(error)
                    failed[account] = None
        if dropped:
            self._log.warning(
                "The contents of %s are not uploaded: the rule no longer has them uploaded to their storage account, or they are another"
                " machine's." % plural(dropped, "file")
            )
        return uploaded

    def _uploading(self, settings: Settings) -> List[Tuple[FileRule, Account]]:
        """The file items of a rule whose texts are uploaded, and where to."""
        found = []
        for rule in settings.file_rules:
            if rule.contents and rule.upload:
                with contextlib.suppress(AzureError):  # accounts() returns it
                    found.append((rule, account_of(rule, self._options.upload_hosts)))
        return found

    def _put(self, account: Account, text: Waiting, content: bytes) -> None:
        """Upload a text. Raises AzureError."""
        if account not in self._blobs:
            self._blobs[account] = open_blobs(account, self._options)
        described = blobs.metadata(text.computer, os.fsdecode(text.path))
        self._blobs[account].put(text.name, content, described)

    def _conclude(self, uploaded: int, waiting: int, errors: Sequence[AzureError]) -> Optional[float]:
        text = str(errors[0]) if errors else ""
        self._status.uploaded(uploaded, waiting, text)
        changed, self._error = text != self._error, text
        if not waiting:
            self._backoff = self._not_before = 0.0
            if changed:
                self._log_error(text)
            return None
        first, most = BACKOFF_SECONDS
        self._backoff = first if uploaded or not errors else min(max(first, self._backoff * 2), most)
        wait = max([self._backoff, *(error.retry_after or 0.0 for error in errors)])
        self._not_before = self._clock() + wait
        if changed and text:
            self._log.error(
                "%s The contents of %s wait. The next attempt is in %d s." % (text, plural(waiting, "file"), wait)
            )
        return wait

    def _log_error(self, text: str) -> None:
        if text:
            self._log.error(text)


def _content(text: Waiting) -> bytes:
    """The content of a text. Raises ValueError where it is not the one that the checksum is of."""
    content = text.content()
    algorithm = "md5" if len(text.checksum) == LENGTHS["md5"] else "sha256"
    if constructor(algorithm)(content).hexdigest() != text.checksum:
        raise ValueError("its checksum differs")
    return content
