# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What the relay cannot do, each in one sentence for the operator."""

from ..errors import CtiError


class RelayError(CtiError):
    """The relay cannot start, or cannot be asked."""


class SinkError(CtiError):
    """Records could not be stored: they are not acknowledged."""


class UploadError(CtiError):
    """A segment was not taken: it stays where it is, and is tried again."""


class RecordsRefused(UploadError):
    """The destination takes some of these records at no time: they are looked for, and set aside."""
