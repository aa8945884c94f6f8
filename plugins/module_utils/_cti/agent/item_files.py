# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Keeps the item files of the agent up to date, which hold all items of a kind: after each scheduled run, and after a run that a change
started if the time allows it."""

import time
from typing import Callable, Dict

from .. import itemfiles
from ..daemon import Log
from ..errors import StateError
from ..kinds.kind import Kind
from ..state.store import Store
from ..tracking import item_file
from ..tracking.snapshot import Snapshot
from .options import AgentOptions

SHARE = 0.1  # of the time that a file may be written after runs that changes start


class ItemFiles:
    """`clock`: monotonic seconds. Each kind has one thread at a time. What cannot be written is logged."""

    def __init__(self, options: AgentOptions, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = options.database
        self._folder = options.item_files or options.state
        self._log = log
        self._clock = clock
        self._happened: Dict[str, Dict[itemfiles.Identity, str]] = {}  # kind -> categories since its file was written
        self._not_before: Dict[str, float] = {}  # kind -> when the file may be written between two scheduled runs

    def write(self, snapshot: Snapshot, woken: bool) -> None:
        """Write the file of a kind after a run. `woken`: whether a change started the run; if its turn has not come yet, the file is left
        to a later run, which then also says what happened in this one."""
        kind = snapshot.kind
        happened = self._happened.setdefault(kind.name, {})
        for change in snapshot.changes:
            if change.new is not None:
                happened[kind.identity(change.new)] = change.category
        started = self._clock()
        if woken and started < self._not_before.get(kind.name, started):
            return
        try:
            with Store(self._database, read_only=True) as store:
                left_out = item_file.write(self._folder, kind, store, happened)
            if left_out:
                self._log.warning(left_out)
        except OSError as error:
            self._log.error(
                "Cannot write %s (%s). Make its directory writable, with free space." % (kind.item_file, error.strerror)
            )
        except StateError as error:
            self._log.error(str(error))
        happened.clear()
        ended = self._clock()
        self._not_before[kind.name] = ended + (ended - started) * (1 / SHARE - 1)

    def remove(self, kind: Kind) -> None:
        """Remove the file of a kind that is not collected any more."""
        try:
            itemfiles.remove(self._folder, kind)
        except OSError as error:
            self._log.error("Cannot remove %s (%s). Make its directory writable." % (kind.item_file, error.strerror))
