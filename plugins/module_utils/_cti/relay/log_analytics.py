# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The tables of a Log Analytics workspace as a destination. A record that is sent twice has the same RecordId."""

from typing import Any, Dict, Iterator, Tuple

from ..azure.errors import AzureError
from ..azure.identity import Identity
from ..azure.ingestion import Ingestion, IngestionError, open_ingestion
from ..records import RECORD_ID
from .entries import record_id
from .errors import RecordsRefused, RelayError, UploadError
from .uploader import Batches, Uploader

PATIENCE = 120.0  # seconds to wait for a busy Azure in one upload, before it counts as failed


class LogAnalyticsUploader(Uploader):
    """`azure:https://HOST/IMMUTABLE-ID`, as parse_rule() takes it."""

    def __init__(self, where: str, identity: Identity) -> None:
        try:
            self._ingestion: Ingestion = open_ingestion(where, identity, PATIENCE)
        except AzureError as error:
            raise RelayError(str(error)) from error

    def take(self, stream: str, batches: Batches) -> None:
        try:
            self._ingestion.send(stream, _identified(stream, batches))
        except IngestionError as error:
            text = "%s." % str(error).rstrip(".")
            if error.complete:
                raise RecordsRefused(text, [(entry, reason) for _number, entry, reason in error.refused]) from error
            raise UploadError(text, error.retry_after) from error

    def close(self) -> None:
        self._ingestion.close()


def _identified(stream: str, batches: Batches) -> Iterator[Tuple[float, Dict[str, Any]]]:
    for batch in batches:
        for entry in batch:
            yield entry[0], dict(entry[1], **{RECORD_ID: record_id(stream, entry)})
