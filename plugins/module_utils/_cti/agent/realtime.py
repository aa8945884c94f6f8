# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Lets changes start runs of the agent, see realtime/."""

from typing import TYPE_CHECKING, Any, Dict, FrozenSet, Optional, Tuple

from ..daemon import Log
from ..kinds.files.kind import FILES
from ..kinds.kind import Kind
from ..rule.settings import Settings
from ..tracking.snapshot import Snapshot
from .options import AgentOptions
from .schedule import Schedule
from .status import Status

if TYPE_CHECKING:
    from ..kinds.files.partial import Named
    from ..realtime.waker import Waker


_Tracked = FrozenSet[Tuple[Any, ...]]  # what the file items of a rule track, and how


class Realtime:
    """Without the option `realtime`, and before start(), it does nothing."""

    def __init__(self, options: AgentOptions, schedule: Schedule, log: Log, status: Status) -> None:
        self._options = options
        self._schedule = schedule
        self._log = log
        self._status = status
        self._waker: Optional[Waker] = None
        self._named: Dict[str, Optional[Named]] = {}  # where the current run of a kind looks
        self._begun: Optional[_Tracked] = None  # by the current run of files
        self._tracked: Optional[_Tracked] = None  # by the last one that was stored
        self._wanted: Optional[_Tracked] = None  # by the rule

    def start(self) -> None:
        if self._options.realtime == "off":
            return
        from ..realtime.waker import Waker  # loaded only if it is used

        own = (self._options.state, self._options.item_files)
        self._waker = Waker(self._schedule.wake, self._log, self._log.warning, self._status.realtime, own)
        self._waker.start()

    def stop(self) -> None:
        if self._waker is not None:
            self._waker.stop()

    def enable(self, settings: Optional[Settings]) -> None:
        """Follow the kinds that the rule enables. Where it tracks other files than the last run did, another one follows at once: without
        it they would not be watched, and what changes there would be no change until the next scheduled run."""
        if self._waker is None:
            return
        self._waker.enable(settings.kinds if settings is not None else ())
        self._wanted = None if settings is None else _tracked(settings)
        self._follow_rule()

    def _follow_rule(self) -> None:
        if self._waker is not None and None not in (self._wanted, self._tracked) and self._wanted != self._tracked:
            self._waker.ask(FILES.name, "the rule")

    def begin(self, kind: Kind, settings: Settings) -> Dict[str, Any]:
        """A run of a kind begins. Returns the arguments of run_kind() that say what is watched, and where to look."""
        if self._waker is None:
            return {}
        paths = [rule.path for rule in settings.file_rules]
        named = self._waker.begin(kind.name, paths, self._schedule.is_between(kind.name))
        self._named[kind.name] = named
        if kind is FILES:
            self._begun = _tracked(settings)
        return {"watch": self._waker.watch, "named": named} if kind is FILES else {}

    def end(self, snapshot: Snapshot) -> None:
        """A run was stored."""
        if self._waker is None:
            return
        kind = snapshot.kind
        items = [change.old if change.new is None else change.new for change in snapshot.changes]
        paths = [str(kind.identity(item)[0]) for item in items if item is not None]
        self._waker.end(kind.name, paths, self._named.get(kind.name) if snapshot.partial else None)
        if kind is FILES:
            self._tracked = self._begun
            self._follow_rule()  # the rule may have changed since the run took it

    def fail(self, name: str) -> None:
        """A run of a kind was not stored."""
        if self._waker is not None:
            self._waker.fail(name)


def _tracked(settings: Settings) -> _Tracked:
    return frozenset(rule.tracking for rule in settings.file_rules)
