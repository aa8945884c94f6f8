# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Starts a run as soon as something may have changed, and tells the run where to look.

A run is the only thing that makes records. So an event that is lost costs the time until the next scheduled run, and never a change.
"""

import os
import select
import threading
import time
from typing import Any, Callable, Collection, Dict, Iterable, List, Mapping, Optional, Set, Tuple

from ..errors import describe_defect
from ..kinds.files.partial import Named
from ..text import plural, quoted
from .folder_watches import FolderWatches
from .inotify import Unavailable
from .news import FLAPPING_SECONDS, FLAPPING_WAKES, Flapping, News
from .packages import PackageWatches
from .services import ServiceWatches

FILES, PACKAGES, SERVICES = "files", "packages", "services"
QUIET_SECONDS = 0.2  # without an event, after which a burst has ended
BURST_SECONDS = 1.0  # after which a burst becomes a run, ended or not
RUN_SECONDS = 1.0  # between the starts of two runs of a kind
SHARE = 0.1  # of the time that a kind's woken runs may take, on average
SAVED_SECONDS = 3.0  # of it that a kind which seldom changes may use at once
RETRY_SECONDS, LONGEST_RETRY = 10.0, 300.0  # after a run that failed; doubles with each
TRANSACTION_SECONDS = 30.0  # to wait for the end of a transaction of packages
_BUSY_SECONDS = 0.25  # between two looks whether it still runs
_PAUSE = 0.05  # seconds to collect events before they are read
_LONGEST_WAIT = 30.0
_MOST_FLAPPING = 20  # items that are shown, or logged at once


class _Kind:
    """What was announced of one kind, and when its next run is to start."""

    def __init__(self) -> None:
        self.flapping = Flapping()
        self.news = News(self.flapping.items)  # since the current or last run began
        self.taken: Optional[News] = None  # what a run looks at, until it has ended
        self.first: Optional[float] = None  # event that waits for a run
        self.last = 0.0  # event
        self.not_before = 0.0
        self.saved = (SAVED_SECONDS, 0.0)  # seconds that woken runs may take, and since when
        self.started = 0.0
        self.running = False
        self.woken = False  # whether the current run was
        self.requested = False
        self.has_run = False  # whether a run was stored
        self.failures = 0  # of runs, since the last one that was stored
        self.changes = self.missed = 0

    def announced(self, now: float) -> None:
        """Events were read; they wait for a run if there is a reason for one."""
        if self.news:
            self.first = now if self.first is None else self.first
            self.last = now

    def due(self) -> Optional[float]:
        """When the next run is to start; None: no run waits, or one is running."""
        if self.first is None or self.running or self.requested or not (self.has_run or self.failures):
            return None
        return max(min(self.last + QUIET_SECONDS, self.first + BURST_SECONDS), self.not_before)

    def spend(self, now: float) -> None:
        """A woken run ends: the next one waits until both are within the share of the time."""
        saved, since = self.saved
        saved = min(saved + (now - since) * SHARE, SAVED_SECONDS) - (now - self.started)
        self.saved = (saved, now)
        self.not_before = max(self.started + RUN_SECONDS, now - min(saved, 0.0) / SHARE)


class Waker:
    """One thread that waits for events. `wake(kind)` starts a run, `log(text)` and `warn(text)` get lines, and `publish(report)` the status.
    `own`: directories that are the agent's own. A defect ends the waking, with a sentence in the report; the schedule goes on."""

    def __init__(
        self,
        wake: Callable[[str], None],
        log: Callable[[str], None],
        warn: Callable[[str], None],
        publish: Callable[[Dict[str, Any]], None],
        own: Iterable[str] = (),
        root: str = "/",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wake = wake
        self._log = log
        self._warn = warn
        self._publish = publish
        self._clock = clock
        self._lock = threading.RLock()
        self._kinds = {name: _Kind() for name in (FILES, PACKAGES, SERVICES)}
        self._enabled: Set[str] = set()
        self._paths: Tuple[str, ...] = ()  # of the rules, in the last full run of files
        self._published: Optional[Dict[str, Any]] = None
        self._defect = ""
        self._stopping = False
        self._files: Optional[FolderWatches] = None
        self._packages: Optional[PackageWatches] = None
        self._services = ServiceWatches(root, clock)
        self._unavailable = ""
        try:
            self._files = FolderWatches(own)
            self._packages = PackageWatches(root)
        except Unavailable as error:
            self._unavailable = "Changes are found by the schedule alone. %s" % error
        self._mounts = _open_mounts()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._run, name="realtime", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._poke()

    def enable(self, kinds: Collection[str]) -> None:
        """Wake these kinds, which the rule enables, and no others."""
        with self._lock:
            for name in self._enabled.difference(kinds):
                self._kinds[name] = _Kind()
                if name == FILES and self._files is not None:
                    self._files.begin(())
                    self._files.end(None)
            self._enabled = set(kinds) & set(self._kinds)
        self._poke()

    def ask(self, name: str, why: str) -> None:
        """Let a run of a kind look everywhere soon. `why` counts as the item that started it."""
        with self._lock:
            if self._defect or name not in self._enabled:
                return
            self._kinds[name].news.add_everything(why)
            self._kinds[name].announced(self._clock())
        self._poke()

    # --- runs

    @property
    def watch(self) -> Optional[Callable[..., None]]:
        """What a scan of files calls for each directory; None where nothing is watched."""
        return None if self._files is None or self._defect else self._watch

    def _watch(self, descriptor: int, path: str, owner: str, claims: Any) -> None:
        if self._files is None or self._defect:
            return
        try:
            self._files.watch(descriptor, path, owner, claims)
        except Exception as error:
            self._fail(error)

    def begin(self, name: str, paths: Iterable[str], woken: bool) -> Optional[Named]:
        """A run of a kind begins. Returns what of it was announced since the last one began; None: look everywhere. `paths`: of the
        rules. `woken`: whether it was started by wake()."""
        kind = self._kinds.get(name)
        if kind is None or self._defect or name not in self._enabled:
            return None
        try:
            with self._lock:
                return self._begin(name, kind, tuple(paths), woken)
        except Exception as error:
            self._fail(error)
            return None

    def _begin(self, name: str, kind: _Kind, paths: Tuple[str, ...], woken: bool) -> Optional[Named]:
        taken = kind.news
        if kind.taken is not None:  # of a run that failed
            taken.add_all(kind.taken)
        kind.news, kind.taken = News(kind.flapping.items), taken
        kind.first, kind.requested, kind.running, kind.woken = None, False, True, woken
        kind.started = now = self._clock()
        if woken:
            items = kind.flapping.woke(taken.items, now)
            for item in items[:_MOST_FLAPPING]:
                self._log(
                    "%s: %s started more than %d runs in %d minutes, and is left to the schedule until the next scheduled run."
                    % (name, quoted(item), FLAPPING_WAKES, FLAPPING_SECONDS // 60)
                )
            if len(items) > _MOST_FLAPPING:
                self._log("%s: %d more are, for the same reason." % (name, len(items) - _MOST_FLAPPING))
        else:
            kind.flapping.clear()
        named = None
        if name == FILES and self._files is not None:
            if woken and kind.has_run and paths == self._paths:
                named = taken.named()
            self._paths = paths
            self._files.begin(paths if named is None else None)
        elif name == PACKAGES and self._packages is not None:
            self._packages.begin()
        elif name == SERVICES:
            self._services.begin()
        return named

    def end(self, name: str, identities: Iterable[str], named: Optional[Named]) -> None:
        """A run of a kind was stored. `identities`: the first part of those of what changed. `named`: where it looked; None: everywhere."""
        kind = self._kinds.get(name)
        if kind is None or self._defect or name not in self._enabled:
            return
        try:
            with self._lock:
                self._end(name, kind, list(identities), named)
        except Exception as error:
            self._fail(error)
        self._poke()

    def _end(self, name: str, kind: _Kind, identities: List[str], named: Optional[Named]) -> None:
        self._read(name)
        now = self._clock()
        taken, kind.taken = kind.taken or News(), None
        kind.running, kind.failures = False, 0
        kind.not_before = kind.started + RUN_SECONDS
        if kind.woken:
            kind.spend(now)
        if name == FILES and self._files is not None:
            self._files.end(named)
        if kind.has_run:
            known = [path for path in identities if taken.announced(path) or kind.news.announced(path)]
            missed = len(identities) - len(known)
            kind.changes += len(known)
            kind.missed += missed
            if missed and not kind.woken:
                self._log(
                    "%s: the scheduled run found %s that no event had announced." % (name, plural(missed, "change"))
                )
        kind.has_run = True

    def fail(self, name: str) -> None:
        """A run of a kind, begun or not, was not stored. If it was the first one, or something was announced, another run follows, which
        does not wait for the schedule."""
        kind = self._kinds.get(name)
        if kind is None or self._defect or name not in self._enabled:
            return
        with self._lock:
            now = self._clock()
            kind.running = kind.requested = False
            kind.not_before = now + min(RETRY_SECONDS * 2.0 ** min(kind.failures, 10), LONGEST_RETRY)
            kind.failures += 1
            if kind.taken or kind.news or not kind.has_run:
                kind.first = kind.last = now
        self._poke()

    # --- the thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._step()
        except Exception as error:
            self._fail(error)

    def _step(self) -> None:
        wait = self._start_due()
        self._publish_changes()
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        for source in (self._files, self._packages, self._services):
            for number in source.filenos() if source is not None else ():
                poll.register(number, select.POLLIN)
        if self._mounts is not None:
            poll.register(self._mounts, select.POLLPRI)
        ready = [number for number, _events in poll.poll(wait * 1000)]
        if self._reader in ready:
            os.read(self._reader, 4096)
        if set(ready) <= {self._reader}:
            return
        time.sleep(_PAUSE)
        started = time.monotonic()
        with self._lock:
            if self._mounts in ready and self._files is not None:
                self._files.mounts_changed(self._kinds[FILES].news)
                self._kinds[FILES].announced(self._clock())
            more = [name for name in self._kinds if self._read(name)]
        if more:  # a flood must not keep a CPU busy
            time.sleep(min(1.0, 3 * (time.monotonic() - started)))

    def _read(self, name: str) -> bool:
        """Read the events of a kind. Returns whether more wait."""
        source: Any = {FILES: self._files, PACKAGES: self._packages, SERVICES: self._services}[name]
        if source is None:
            return False
        kind = self._kinds[name]
        before = kind.news.events
        more = bool(source.read(kind.news))
        if kind.news.events != before:
            kind.announced(self._clock())
        return more

    def _start_due(self) -> float:
        """Start the runs that are due. Returns the seconds until the next one may be."""
        with self._lock:
            now = self._clock()
            waits = [_LONGEST_WAIT]
            if SERVICES in self._enabled:
                waits.append(self._services.connect(self._kinds[SERVICES].news) - now)
                self._kinds[SERVICES].announced(now)
            due = []
            for name in sorted(self._enabled):
                kind = self._kinds[name]
                at = kind.due()
                if at is not None and at <= now and name == PACKAGES and self._is_busy(kind, now):
                    at = now + _BUSY_SECONDS
                if at is not None and at <= now:
                    kind.requested = True
                    due.append(name)
                elif at is not None:
                    waits.append(at - now)
        for name in due:
            self._wake(name)  # without the lock, since it may start a run at once
        return max(0.0, min(waits))

    def _is_busy(self, kind: _Kind, now: float) -> bool:
        is_late = kind.first is None or now - kind.first >= TRANSACTION_SECONDS
        return not is_late and self._packages is not None and self._packages.busy()

    def _poke(self) -> None:
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:  # the pipe is full, so the thread wakes up anyway
            pass

    def _fail(self, error: BaseException) -> None:
        """Report a defect: all kinds are left to the schedule."""
        if self._defect:
            return
        self._defect = "Changes are found by the schedule alone: %s." % describe_defect(error)
        self._warn(self._defect)
        try:
            self._publish(self.report())
        except Exception:
            pass

    # --- the report

    def _publish_changes(self) -> None:
        report = self.report()
        if report != self._published:
            self._published = report
            self._publish(report)

    def report(self) -> Dict[str, Any]:
        """How each kind is woken, as status.json has it. Before the end of its first run nothing of a kind is watched, so it is left out."""
        with self._lock:
            names = [name for name in self._enabled if self._kinds[name].has_run or self._defect or self._unavailable]
            return {name: self._report(name, self._kinds[name]) for name in sorted(names)}

    def _report(self, name: str, kind: _Kind) -> Mapping[str, Any]:
        source: Any = {FILES: self._files, PACKAGES: self._packages, SERVICES: self._services}[name]
        by, why = "", self._unavailable
        if self._defect:
            why = self._defect
        elif name == SERVICES:
            by, why = self._services.by, self._services.why()
        elif source is not None:
            by, why = "inotify" if name == FILES or source.count else "", source.why()
        return {
            "By": by,
            "Why": why,
            "Watches": source.count if by else 0,
            "Unwatched": self._files.unwatched if by and name == FILES and self._files is not None else 0,
            "Overflows": self._files.overflows if name == FILES and self._files is not None else 0,
            "Changes": kind.changes,
            "Missed": kind.missed,
            "Flapping": [quoted(item) for item in list(kind.flapping.items)[:_MOST_FLAPPING]],
        }


def _open_mounts() -> Optional[int]:
    """The table of mounts, which reports to poll() that it changed. None where it cannot be opened."""
    try:
        return os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
