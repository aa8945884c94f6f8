# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The destinationPath of a file item."""

from typing import Any, Callable, NamedTuple


class PathSpec(NamedTuple):
    """A parsed destinationPath."""

    directory: str  # absolute and normalised
    syntax: str  # literal glob regex
    name: str  # the last segment as written; empty for "/" itself
    match: Callable[[str], Any]  # base name (os.fsdecode text) -> true if it matches
