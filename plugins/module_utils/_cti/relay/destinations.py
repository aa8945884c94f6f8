# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Where the records of a sink go. One more destination is one more small class, and its word in open_uploader()."""

import json
import os
from itertools import chain
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import FormatError, ForwardError
from ..fleet.retention import KEEP_DAYS
from ..fleet.store import is_url
from ..records import RECORD_ID
from ..text import without_secrets
from ..wire import address as addresses
from ..wire.ama import AMA_USERS
from ..wire.forward import flat
from ..wire.sender import Sender
from ..wire.tls import Tls
from .entries import record_id
from .errors import RecordsRefused, RelayError, UploadError
from .fleet_store import FleetUploader
from .segments import Entry
from .sinks import folder_name
from .uploader import Batches, Uploader

__all__ = ["Uploader", "open_uploader"]

TURN_SECONDS = 300  # to wait for a busy receiver that takes nothing; no client waits for an upload
DELIVERY_SECONDS = 3600  # for one message, however slow the receiver is


def open_uploader(
    text: str, users: Sequence[str], tls: Tls, keep_days: int = KEEP_DAYS, azure: Optional[Mapping[str, str]] = None
) -> Uploader:
    """The destination for `jsonl:DIR`, `sqlite:PATH`, `postgresql://...`, `forward:ADDRESS` or `azure:https://...`. Raises RelayError
    and ForwardError.

    `users` may listen at the address, in addition to the current user and those AMA runs as. `keep_days`: for tables. `azure`: the
    fields of the Identity to send with.
    """
    if is_url(text):
        return FleetUploader(text, keep_days)
    word, colon, rest = text.partition(":")
    if colon and rest:
        if word == "jsonl":
            return JsonLinesUploader(rest)
        if word == "sqlite":
            return FleetUploader(rest, keep_days)
        if word == "forward":
            return ForwardUploader(rest, users, tls)
        if word == "azure":
            from ..azure.identity import Identity
            from .log_analytics import LogAnalyticsUploader

            return LogAnalyticsUploader(text, Identity(**(azure or {})))
    raise RelayError(
        "%r is no destination. Give jsonl:DIR, sqlite:PATH, postgresql://..., forward:ADDRESS or azure:https://HOST/ID."
        % without_secrets(text)
    )


class JsonLinesUploader(Uploader):
    """One file a stream, one record a line: {"tag", "time", "record"}.

    What is delivered twice is there twice, with one RecordId.
    """

    suffix = ".jsonl"
    header = ""  # what a file begins with: whole lines

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def take(self, stream: str, batches: Batches) -> None:
        path = os.path.join(self._folder, folder_name(stream) + self.suffix)
        try:
            os.makedirs(self._folder, 0o700, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                end = _end_of_lines(file)
                os.ftruncate(file, end)
                try:
                    self._append(file, end, stream, batches)
                except OSError:
                    os.ftruncate(file, end)
                    raise
            finally:
                os.close(file)
        except OSError as error:
            raise UploadError("Cannot write '%s' (%s)." % (path, error.strerror)) from error

    def lines(self, stream: str, batch: List[Entry]) -> str:
        """The text of a batch: whole lines. A record is one line: an incomplete last line is removed, and its record comes again."""
        return "".join(
            json.dumps({"tag": stream, "time": seconds, "record": record}) + "\n" for seconds, record in batch
        )

    def _append(self, file: int, end: int, stream: str, batches: Batches) -> None:
        for text in chain([self.header] if end == 0 else [], (self.lines(stream, batch) for batch in batches)):
            data = memoryview(text.encode("utf-8"))
            while data:
                written = os.pwrite(file, data, end)
                data, end = data[written:], end + written
        os.fsync(file)


class ForwardUploader(Uploader):
    """Another relay, Fluentd, Fluent Bit, or the Azure Monitor Agent. A record that is sent twice has the same RecordId."""

    remote = True

    def __init__(self, address: str, users: Sequence[str], tls: Tls) -> None:
        allowed = (*AMA_USERS, str(os.geteuid()), *users)
        self._sender = Sender(
            addresses.parse(address), allowed, deadline=DELIVERY_SECONDS, silence=TURN_SECONDS, tls=tls
        )

    def take(self, stream: str, batches: Batches) -> None:
        try:
            for batch in batches:
                self._sender.send(stream, [_flat(stream, entry) for entry in batch])
        except FormatError as error:
            raise RecordsRefused(str(error)) from error
        except ForwardError as error:
            raise UploadError(str(error)) from error

    def close(self) -> None:
        self._sender.close()


def _flat(stream: str, entry: Entry) -> Tuple[int, Dict[str, str]]:
    record = flat(entry[1])
    record[RECORD_ID] = record_id(stream, entry)
    return int(entry[0]), record


def _end_of_lines(file: int) -> int:
    """Where the last whole line ends: a relay that was killed may have left half of one, which comes again."""
    end = os.fstat(file).st_size
    while end:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
