# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Keeps the item files of the agent up to date, which hold all items of a kind: after each scheduled run, and after a run that a change
started if the time allows it. A large file takes minutes to write, and no run waits for that."""

import threading
import time
from typing import Callable, Dict, Mapping, Optional, Tuple

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
    """Its methods may be called from any thread, but write() from one at a time. `clock`: monotonic seconds."""

    def __init__(self, options: AgentOptions, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = options.database
        self._folder = options.item_files or options.state
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()  # of the dictionaries
        # By kind: whether its file is to be written only if the time allows it; None: it is to be removed.
        self._due: Dict[str, Tuple[Kind, Optional[bool]]] = {}
        self._happened: Dict[str, Dict[itemfiles.Identity, str]] = {}  # kind -> categories since its file was written
        self._not_before: Dict[str, float] = {}  # kind -> when the file may be written between two scheduled runs

    def update(self, snapshot: Snapshot, woken: bool) -> None:
        """A run was stored: write the file of the kind. `woken`: whether a change started the run; if the turn of the file has not come yet,
        it is left to a later run, which then also says what happened in this one."""
        kind = snapshot.kind
        with self._lock:
            happened = self._happened.setdefault(kind.name, {})
            for change in snapshot.changes:
                if change.new is not None:
                    happened[kind.identity(change.new)] = change.category
            is_due = self._due.get(kind.name, (kind, None))[1] is False
            self._due[kind.name] = (kind, woken and not is_due)

    def remove(self, kind: Kind) -> None:
        """The kind is not collected any more: remove its file."""
        with self._lock:
            self._due[kind.name] = (kind, None)
            self._happened.pop(kind.name, None)

    def write(self) -> None:
        """Write and remove the files that are due. What cannot be written is logged."""
        while True:
            with self._lock:
                if not self._due:
                    return
                name, (kind, woken) = self._due.popitem()
                started = self._clock()
                if woken and started < self._not_before.get(name, started):
                    continue
                happened = self._happened.pop(name, {})
            if woken is None:
                self._remove(kind)
            else:
                self._write(kind, happened)
                ended = self._clock()
                self._not_before[name] = ended + (ended - started) * (1 / SHARE - 1)

    def _write(self, kind: Kind, happened: Mapping[itemfiles.Identity, str]) -> None:
        try:
            with Store(self._database, read_only=True) as store:
                store.hold()  # runs that go on meanwhile must not mix with this one
                left_out = item_file.write(self._folder, kind, store, happened)
            if left_out:
                self._log.warning(left_out)
        except OSError as error:
            self._log.error(
                "Cannot write %s (%s). Make its directory writable, with free space." % (kind.item_file, error.strerror)
            )
        except StateError as error:
            self._log.error(str(error))

    def _remove(self, kind: Kind) -> None:
        try:
            itemfiles.remove(self._folder, kind)
        except OSError as error:
            self._log.error("Cannot remove %s (%s). Make its directory writable." % (kind.item_file, error.strerror))
