# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The option `who`."""

from ..daemon import Log
from .options import AgentOptions
from .status import Status
from .who import Who


def open_who(options: AgentOptions, log: Log, status: Status) -> Who:
    """By the options."""
    if options.who == "off":
        return Who()
    from .who_audit import AuditedWho  # loaded only if it is used

    return AuditedWho(options, log, status)
