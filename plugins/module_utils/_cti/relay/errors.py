# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The exceptions of the relay. The text of each is for the operator."""

from typing import TYPE_CHECKING, Sequence, Tuple

from ..errors import CtiError

if TYPE_CHECKING:
    from .segments import Entry


class RelayError(CtiError):
    """The relay cannot start, or cannot be queried."""


class SinkError(CtiError):
    """Records could not be stored, so they are not acknowledged."""


class StorageError(SinkError):
    """The events directory cannot be written, for example on a full disk."""


class UploadError(CtiError):
    """The destination did not accept a segment. The segment is kept and uploaded again, in `retry_after` seconds at the earliest."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class RecordsRefused(UploadError):
    """The destination will never accept some of these records. The relay sets them aside. `records`: those, each with the reason,
    where the destination knows them and has stored all others; or else the relay finds them."""

    def __init__(self, text: str, records: "Sequence[Tuple[Entry, str]]" = ()) -> None:
        super().__init__(text)
        self.records = records
