# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What every destination of the relay does."""

from typing import Iterable, List

from .segments import Entry

Batches = Iterable[List[Entry]]


class Uploader:
    """A destination. prepare() is called first, by the thread that created it; the other methods by one other thread, begin() first."""

    remote = False  # whether an upload may fail because of a record without a RecordsRefused

    def prepare(self) -> None:
        """Create files that others may read before the first upload. Raises UploadError if that does not work yet."""

    def begin(self) -> None:
        """Do what need not wait for the first upload. Raises UploadError if that does not work yet: then take() does it."""

    def take(self, stream: str, batches: Batches) -> None:
        """Upload records, and return when all of them are stored.

        Raises UploadError if they are not, and all of them are uploaded again. RecordsRefused, or an exception other than
        CtiError, means that repeating it does not help.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release what the destination uses; nothing is uploaded afterwards."""
