# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The settings of a data collection rule, independent of the form in which it came."""

from typing import List, Mapping, NamedTuple, Tuple

from ..kinds.files.scope import FileRule

EXTENSION = "ChangeTracking-Linux"
CHANGE_STREAM = "CONFIG_CHANGE_BLOB_V2"
DATA_STREAM = "CONFIG_DATA_BLOB_V2"  # inventory


class Settings(NamedTuple):
    """What is collected, and how often."""

    kinds: Tuple[str, ...]
    file_rules: List[FileRule]
    intervals: Mapping[str, int]  # kind -> seconds between two collections
    inventory: bool
    inventory_every: int
    warnings: List[str]
    rules: Tuple[str, ...] = ()  # the ids of the data collection rules, sorted
    streams: Mapping[str, Tuple[str, ...]] = {}  # CHANGE_STREAM, DATA_STREAM -> tags, one a rule; none in the ARM form

    def every(self, kind: str) -> int:
        """Seconds between two collections of a kind."""
        return self.intervals[kind]
