# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Who made the changes that a run found: the option `who`."""

from typing import Mapping, Tuple

from ..kinds.kind import Row
from ..rule.settings import Settings
from ..tracking.snapshot import Snapshot

Identity = Tuple[str, ...]  # of an item


class Who:
    """Knows nobody: the option is off. who_audit.AuditedWho is what it is otherwise."""

    def start(self) -> None:
        """Listen from now on."""

    def stop(self) -> None:
        """Listen no more, and leave no audit rule."""

    def follow(self, settings: Settings) -> None:
        """Watch what this rule tracks. To be called again and again, since others may delete audit rules."""

    def actors(self, snapshot: Snapshot, started: float) -> Mapping[Identity, Row]:
        """Who made the changes of a run, as columns by the identity of the item; without those of whom it is not known.

        `started` (unix seconds): when the run started.
        """
        return {}

    def stored(self, kind: str) -> None:
        """The run of a kind, whose actors were asked for, is stored."""
