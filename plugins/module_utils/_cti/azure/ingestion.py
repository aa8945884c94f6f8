# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Sends records to the tables of a Log Analytics workspace, with the Logs Ingestion API.

A record is delivered when Azure has answered 204. Where the answer is lost, it is sent again: the table has it twice, with the same
RecordId. Source: https://learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview
"""

import hashlib
import re
import time
import zlib
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple

from ..daemon import VERSION
from ..errors import ForwardError, Refused
from ..records import RECORD_ID, TIME
from ..text import plural, quoted, without_secrets
from .errors import AzureError
from .https import Client, Endpoint, describe, parse
from .identity import METADATA_SECONDS, PATIENCE, Identity, Tokens
from .tables import CALL_BYTES, Table, encode_row, table_of

SCHEME = "azure:"
FORM = "azure:https://HOST/ID"
SECONDS = 120.0  # for one call
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # between two attempts, where the answer asks for none
RECONNECTIONS = 2  # where there is no answer, before one call fails
_BUSY = (408, 429, 500, 502, 503, 504)
_REFUSED = (400, 413, 422)  # may be about a row; 413 is about a call that is too large
_RESOURCES = {".monitor.azure.us": "https://monitor.azure.us", ".monitor.azure.cn": "https://monitor.azure.cn"}
_RESOURCE = "https://monitor.azure.com"

Entry = Tuple[float, Mapping[str, Any]]  # unix seconds, record with a RecordId


class Rule(NamedTuple):
    """A data collection rule of the kind Direct. str() of it is what an operator would write."""

    endpoint: Endpoint
    immutable_id: str

    def __str__(self) -> str:
        return "%s%s/%s" % (SCHEME, self.endpoint, self.immutable_id)

    @property
    def resource(self) -> str:
        """What a token has to be for."""
        ends = [end for end in _RESOURCES if self.endpoint.host.lower().endswith(end)]
        return _RESOURCES[ends[0]] if ends else _RESOURCE


def parse_rule(text: str) -> Rule:
    """The rule of a text in FORM: the URL for log ingestion of the rule, and its immutable id. Raises AzureError."""
    try:
        endpoint = parse(text[len(SCHEME) :] if text.startswith(SCHEME) else "")  # noqa: E203
        immutable_id = endpoint.path[1:]
        if re.match(r"[A-Za-z0-9-]{1,64}\Z", immutable_id):
            return Rule(endpoint._replace(path=""), immutable_id)
    except AzureError:
        pass
    raise AzureError(
        "'%s' names no rule. Give %s: the endpoint for log ingestion of the rule, and its immutable id."
        % (quoted(without_secrets(text)), FORM)
    )


class IngestionError(ForwardError):
    """Azure did not take all records. Those that it refuses have a row each, with RecordId, TimeGenerated and the reason."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text.rstrip("."))
        self.retry_after = retry_after


class Waiting(NamedTuple):
    """A record that waits for its call."""

    number: int  # in its send()
    entry: Entry
    row: bytes


class Batch:
    """Rows of one table that fit into one call."""

    def __init__(self, table: Table, limit: int = CALL_BYTES) -> None:
        self.table = table
        self.rows: List[Waiting] = []
        self._limit = limit
        self._bytes = 1  # with the brackets and a comma between two rows

    def add(self, waiting: Waiting) -> bool:
        """Add a row. Returns whether it fits."""
        size = self._bytes + len(waiting.row) + 1
        if size > self._limit:
            return False
        self.rows.append(waiting)
        self._bytes = size
        return True


def body_of(rows: Iterable[Waiting]) -> bytes:
    return b"[" + b",".join([waiting.row for waiting in rows]) + b"]"


class Ingestion:
    """Sends records to one rule. To be used by one thread at a time.

    `patience`: seconds to wait in one send() in all, where Azure is busy or cannot be reached, before it fails.
    """

    def __init__(
        self,
        rule: Rule,
        client: Client,
        tokens: Tokens,
        patience: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._rule = rule
        self._client = client
        self._tokens = tokens
        self._patience = patience
        self._sleep = sleep
        self._now = now
        self._waited = 0.0
        self._refused: List[Refused] = []
        # stream -> digests of the calls that were taken, until a send() has ended well
        self._taken: Dict[str, Set[bytes]] = {}

    def __enter__(self) -> "Ingestion":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def send(self, stream: str, entries: Iterable[Entry]) -> bool:
        """Send records, and return when Azure has taken all of them: True, as a receiver that acknowledges.

        Raises IngestionError: its `taken` is the number of records, from the first one on, that are done. What Azure has taken of the
        rest is not sent again if the same records follow in the next send() of the stream.
        """
        self._waited, self._refused = 0.0, []
        number = -1
        batches: Dict[str, Batch] = {}  # by their tables
        try:
            for number, (seconds, record) in enumerate(entries):
                table = table_of(record)
                row = encode_row(table, stream, seconds, record, self._now())
                waiting = Waiting(number, (seconds, record), row)
                if not batches.setdefault(table.name, Batch(table)).add(waiting):
                    self._send(table, stream, batches[table.name].rows)
                    batches[table.name] = Batch(table)
                    batches[table.name].add(waiting)
            for name, batch in list(batches.items()):
                self._send(batch.table, stream, batch.rows)
                del batches[name]
        except IngestionError as error:
            error.taken = min(batch.rows[0].number for batch in batches.values())
            error.refused = [refused for refused in self._refused if refused.number < error.taken]
            raise
        self._taken.pop(stream, None)
        if self._refused:
            failure = IngestionError("Azure refuses %s" % plural(len(self._refused), "record"))
            failure.taken, failure.refused, failure.complete = number + 1, self._refused, True
            raise failure
        return True

    def check(self) -> None:
        """Get a token, and reach the endpoint. Whether the role is there shows when records are sent. Raises AzureError."""
        self._tokens.token(self._rule.resource)
        self._client.request("GET", "/", {})

    def close(self) -> None:
        self._client.close()

    def _send(self, table: Table, stream: str, rows: List[Waiting]) -> None:
        """Send rows in one call, or in smaller and smaller ones where Azure does not take them together."""
        body = body_of(rows)
        digest = hashlib.sha256(body).digest()
        if digest in self._taken.get(stream, ()):
            return
        answer = self._post(table, body)
        if answer is None:
            self._taken.setdefault(stream, set()).add(digest)
        elif len(rows) > 1:
            self._send(table, stream, rows[: len(rows) // 2])
            self._send(table, stream, rows[len(rows) // 2 :])  # noqa: E203
        else:
            self._replace(table, stream, rows[0], answer)

    def _replace(self, table: Table, stream: str, waiting: Waiting, reason: str) -> None:
        """Send, in the place of a record that Azure refuses, a row that says so. If it takes that, the reason is the record."""
        seconds, record = waiting.entry
        row = {RECORD_ID: record.get(RECORD_ID), TIME: record.get(TIME), "Refused": reason}
        body = body_of([waiting._replace(row=encode_row(table, stream, seconds, row, self._now()))])
        if self._post(table, body) is not None:
            raise IngestionError(
                "Azure refuses every row for the stream %s (%s). %s" % (table.stream, reason, _COMPARE)
            )
        self._refused.append(Refused(waiting.number, waiting.entry, reason))

    def _post(self, table: Table, body: bytes) -> Optional[str]:
        """Send one call. Returns None if Azure has taken it, or else why it refuses these rows. Raises IngestionError."""
        packed = _gzip(body)
        if len(packed) > CALL_BYTES:
            return "it is too large"
        target = "/dataCollectionRules/%s/streams/%s?api-version=2023-01-01" % (self._rule.immutable_id, table.stream)
        pause, attempts, renewed = FIRST_PAUSE, 0, False
        while True:
            try:
                token = self._tokens.token(self._rule.resource)
                answer = self._client.request("POST", target, _headers(token), packed)
                status, asked = answer.status, answer.retry_after
                text = "" if status == 204 else describe(answer)
            except AzureError as error:
                attempts += 1
                if attempts > RECONNECTIONS or (error.status and error.status not in _BUSY):
                    raise IngestionError(str(error), error.retry_after or 0.0) from error
                status, asked, text = 0, error.retry_after, str(error)
            if status == 204:
                return None
            if status in _REFUSED:
                return text
            if status == 401 and not renewed:
                self._tokens.forget(self._rule.resource)
                renewed = True
                continue
            if status and status not in _BUSY:
                raise IngestionError(self._explain(table, status, text))
            delay = pause if asked is None else asked
            pause = min(pause * 2, LONGEST_PAUSE)
            if self._waited + delay > self._patience:
                raise IngestionError(text if not status else "Azure takes no records now (%s)" % text, asked or 0.0)
            self._sleep(delay)
            self._waited += delay

    def _explain(self, table: Table, status: int, text: str) -> str:
        rule = self._rule.immutable_id
        if status == 401:
            return (
                "Azure does not accept the token (%s). Check the identity and its tenant, and the clock of this host"
                % text
            )
        if status == 403:
            return (
                "The identity may not send to the rule %s (%s). Give it the role Monitoring Metrics Publisher on the rule. A new role"
                " may need 30 minutes" % (rule, text)
            )
        if status == 404:
            return "%s has no rule %s with the stream %s (%s). %s" % (
                self._rule.endpoint,
                rule,
                table.stream,
                text,
                _COMPARE,
            )
        return "%s answers %s. %s" % (self._rule.endpoint, text, _COMPARE)


def open_ingestion(
    text: str,
    identity: Identity,
    patience: float = 0.0,
    seconds: float = SECONDS,
    token_patience: float = PATIENCE,
) -> Ingestion:
    """The rule that a text in FORM names, for an identity. No request is made yet. `seconds`: for one request. `token_patience`: see
    Tokens. Raises AzureError."""
    rule = parse_rule(text)
    tokens = Tokens(identity, token_patience, min(seconds, METADATA_SECONDS))
    return Ingestion(rule, Client(rule.endpoint, identity.ca, identity.proxy, seconds), tokens, patience)


_COMPARE = "Compare endpoint, immutable id and streams with the rule in Azure"


def _headers(token: str) -> Dict[str, str]:
    return {
        "Authorization": "Bearer " + token,
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "Accept": "application/json",
        "User-Agent": "changetracking.inventory/" + VERSION,
    }


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()
