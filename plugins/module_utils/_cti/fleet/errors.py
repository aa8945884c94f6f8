# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The exceptions of the fleet store. The text of each is one sentence for the operator, or two."""

from ..errors import CtiError


class FleetError(CtiError):
    """The store cannot be opened, read or written. Nothing of the current transaction is stored."""


class FleetMissing(FleetError):
    """There is no store yet."""


class FleetRefused(FleetError):
    """The database does not take one of the values, however often that is repeated."""
