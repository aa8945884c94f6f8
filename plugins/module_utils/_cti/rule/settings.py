# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The settings of a data collection rule, independent of the form in which it came."""

from typing import List, Mapping, NamedTuple, Sequence, Tuple

from ..kinds.files.scope import TEMPLATE, FileRule
from ..kinds.registry import all_kinds

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
    errors: Mapping[str, str] = {}  # kind -> why what the rule has for it cannot be used; they are in `warnings` too
    left_out: Sequence[str] = ()  # the warnings about file items that are not used

    def every(self, kind: str) -> int:
        """Seconds between two collections of a kind."""
        return self.intervals[kind]

    @property
    def problems(self) -> List[str]:
        """Why less is tracked than the rule says."""
        return [*self.errors.values(), *self.left_out]


def default() -> Settings:
    """The settings in Azure's template: every kind, and every *.conf below /etc."""
    return Settings(
        kinds=tuple(all_kinds()),
        file_rules=[FileRule("ChangeTrackingLinuxPath_default", TEMPLATE)],
        intervals={name: kind.dcr.seconds for name, kind in all_kinds().items()},
        inventory=True,
        inventory_every=36000,
        warnings=[],
        rules=("the default",),
    )
