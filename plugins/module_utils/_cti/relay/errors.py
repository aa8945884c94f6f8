# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The exceptions of the relay. The text of each is for the operator."""

from ..errors import CtiError


class RelayError(CtiError):
    """The relay cannot start, or cannot be queried."""


class SinkError(CtiError):
    """Records could not be stored, so they are not acknowledged."""


class UploadError(CtiError):
    """The destination did not accept a segment. The segment is kept and uploaded again."""


class RecordsRefused(UploadError):
    """The destination will never accept some of these records. The relay finds them and sets them aside."""
