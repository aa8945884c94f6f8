# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The agent: finds the rule, collects each kind at the rule's interval, and delivers the records, as independent tasks."""

import functools
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from .. import host
from ..daemon import Log, Notifier
from ..errors import CtiError, RowDamaged, StateDamaged, StateError, describe_defect
from ..kinds.files.kind import FILES
from ..kinds.kind import Kind, Row
from ..kinds.registry import all_kinds
from ..rule.settings import Settings
from ..state.database import Database
from ..state.outbox import Outbox
from ..state.store import Store, run_until_stored
from ..text import plural
from ..tracking import enqueue, report, run
from ..tracking.snapshot import Snapshot
from . import baseline
from .delivery import Delivery
from .item_files import ItemFiles
from .lock import StateLock
from .options import AgentOptions, OptionError
from .realtime import Realtime
from .rule import RuleSource
from .schedule import Schedule, deepest_folder
from .status import Status
from .who import Who

if TYPE_CHECKING:
    from .uploads import Uploads

STOP_SECONDS = 10  # to wait for running tasks
STUCK_SECONDS = 600  # for which a run may wait in one call of the kernel, such as to a file system that does not answer


class _Stopping(Exception):
    """The agent was told to stop during a run. The run may have seen the agent itself, or the whole host, while it stops."""


class Agent:
    """The agent as a service (run()) or for a single run (once()). Raises CtiError if it cannot start."""

    def __init__(self, options: AgentOptions, log: Log) -> None:
        self._options = options
        self._log = log
        self._lock = StateLock(options.state)
        self._prepare_database()
        self._status = Status(options)
        self._who = self._open_who()
        self._uploads = self._open_uploads()
        self._source = RuleSource(options, log.warning, inform=log)
        self._schedule = Schedule(self._failed)
        self._notifier = Notifier(os.environ)
        self._delivery = Delivery(options, log, self._status)
        self._realtime = Realtime(options, self._schedule, log, self._status)
        self._item_files = ItemFiles(options, log)
        self._warned: Dict[str, List[str]] = {}  # of the last run of each kind
        self._damaged: Optional[StateDamaged] = None
        self._discarded = False  # whether a run was, see _Stopping
        self._stuck = False  # whether a run is, see STUCK_SECONDS
        self._baseline: Optional[baseline.Taken] = None  # until it is stored

    def run(self) -> int:
        """Run until SIGTERM. Returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_signal: self._schedule.end())
        signal.signal(signal.SIGHUP, lambda *_signal: self._schedule.run_within("rule"))
        self._delivery.be_patient()
        self._who.start()
        self._realtime.start()
        self._schedule.set("delivery", self.deliver, None)
        self._schedule.set("upload", self._upload, None)
        self._schedule.set("item files", self._item_files.write, None)
        self._schedule.set("rule", self._find_rule, self._options.refresh)
        self._notifier.notify("READY=1")
        self._log("The agent is ready.")
        self._schedule.run(self._tick)
        self._notifier.notify("STOPPING=1")
        self._who.stop()
        self._realtime.stop()
        if self._uploads is not None:
            self._uploads.stop()
        if self._stuck:
            return 1
        ended = self._schedule.stop(STOP_SECONDS)
        if self._damaged is not None:
            self._set_aside(self._damaged)
            return 1
        whole = ended and not self._discarded
        self._log("The agent has stopped%s." % ("" if whole else " during a run, whose results are discarded"))
        return 0

    def _tick(self) -> None:
        """Tell the service manager that the agent works, and end it where a run is stuck, so that the service manager starts it again."""
        self._notifier.notify("WATCHDOG=1")
        for name in all_kinds():
            if self._schedule.stuck(name) >= STUCK_SECONDS:
                self._log.error(
                    "%s: the run has waited for %d minutes for a file system that does not answer, in or below '%s'. Its results are"
                    " discarded and the agent ends. Repair or unmount that file system."
                    % (name, STUCK_SECONDS // 60, deepest_folder(self._options.state))
                )
                self._stuck = True
                self._schedule.end()

    def once(self) -> int:
        """Collect all kinds that the rule enables, and deliver the records. Returns the exit status."""
        rule = self._source.find()
        self._status.rule(rule, self._source.reasons)
        if rule is None:
            raise OptionError("There is no data collection rule. Associate one with this machine, or give --dcr FILE.")
        collected = [self.collect(kind) for kind in all_kinds().values()]
        self._item_files.write()
        if self._damaged is not None:
            self._set_aside(self._damaged)
            return 1
        self._upload()
        return 0 if self.deliver() and all(collected) else 1

    def collect(self, kind: Kind, again: bool = True) -> bool:
        """Collect one kind and store it with its records. Returns whether that worked. `again`: retry once after a repair.

        A kind that the rule has switched off is collected for the last time, unless that was done.
        """
        rule = self._source.rule
        if rule is None:
            return False
        settings = rule.settings
        notes: List[str] = []
        started = time.monotonic()
        try:
            self._check_outbox()
            collected = run_until_stored(lambda: self._collect(kind, settings, notes))
        except RowDamaged as error:
            if again:
                self._repair(error)
                return self.collect(kind, again=False)
            self._not_collected(kind.name, str(error))
            return False
        except StateDamaged as error:
            self._damaged = error
            self._schedule.end()
            return False
        except _Stopping:
            self._discarded = True
            return False
        except CtiError as error:
            self._not_collected(kind.name, str(error))
            return False
        except Exception as error:  # a defect in one kind must not stop the others
            self._failed(kind.name, error)
            return False
        for note in notes:
            self._log.warning(note)
        if collected is None:
            return True
        snapshot, records = collected
        self._realtime.end(snapshot)
        if self._baseline is not None and kind is FILES:
            self._keep_baseline(self._baseline)
        self._log_result(snapshot, records, time.monotonic() - started)
        if kind.name in settings.kinds:
            self._status.collected(snapshot, time.monotonic() - started, settings.every(kind.name))
        if self._uploads is not None:
            self._schedule.run_within("upload")
        self._schedule.run_within("delivery")
        if kind.name in settings.kinds:
            self._item_files.update(snapshot, self._schedule.is_between(kind.name))
            self._schedule.run_within("item files")
        return True

    def _collect(self, kind: Kind, settings: Settings, notes: List[str]) -> Optional[Tuple[Snapshot, List[Row]]]:
        """Collect and store one kind with its change records. Adds warnings to `notes`. None if the kind is switched off and
        there is nothing to compare any more. Raises _Stopping."""
        started = time.time()
        with Store(self._options.database, retention=self._options.retention) as store:
            machine = host.identity()
            notes += self._claim(store, machine)
            snapshot = self._run_or_end(kind, settings, store)
            if snapshot is None:
                return None
            if self._schedule.stopping:
                raise _Stopping
            diffs = links = None
            if self._options.contents and kind is FILES:
                from ..tracking import contents  # loaded only if it is used

                snapshot, diffs = contents.keep(snapshot, settings.file_rules, self._options.content_paths, store)
                if self._uploads is not None:
                    links = self._uploads.queue(snapshot, settings, store, machine)
            if kind.name not in settings.kinds:
                settings = settings._replace(inventory=False)
            records = enqueue.remember(snapshot, store, machine, diffs, links, self._who.actors(snapshot, started))
            enqueue.queue(snapshot, records, settings, store, machine)
        self._who.stored(kind.name)
        return snapshot, records

    def _run_or_end(self, kind: Kind, settings: Settings, store: Store) -> Optional[Snapshot]:
        if kind.name in settings.kinds:
            progress = functools.partial(self._status.progress, kind.name)
            realtime = self._realtime.begin(kind, settings)
            if kind is FILES and self._options.baseline:
                self._baseline = baseline.take(self._options, settings, store, progress, realtime.get("watch"))
                if self._baseline.snapshot is not None:
                    return self._baseline.snapshot
            return run.run_kind(
                kind, settings, store, progress=progress, rehash_days=self._options.rehash_days, **realtime
            )
        if store.last_run(kind) is not None:
            self._item_files.remove(kind)
            self._schedule.run_within("item files")
        return run.end_kind(kind, settings, store, self._options.rehash_days)

    def _check_outbox(self) -> None:
        with Outbox(self._options.database) as outbox:
            depth = outbox.depth()
        if depth.full:
            raise StateError(
                "%s and fill the outbox, so nothing is collected until some are delivered. Several changes of an item"
                " until then are reported as one." % plural(depth.records, "record", "waits")
            )

    def deliver(self) -> bool:
        """Deliver the records in the outbox. Returns whether that worked; if not, another attempt is scheduled."""
        wait = self._delivery.pause()
        if wait > 0:
            self._schedule.run_within("delivery", wait)
            return False
        if self._uploads is not None:
            self._uploads.wait()
        try:
            delivered, task, seconds = self._delivery.deliver(self._source.rule)
        except StateDamaged as error:
            self._damaged = error
            self._schedule.end()
            return False
        if task:
            self._schedule.run_within(task, seconds)
        return delivered

    def _open_who(self) -> Who:
        if self._options.who == "off":
            return Who()
        from .who_audit import AuditedWho  # loaded only if it is used

        return AuditedWho(self._options, self._log, self._status)

    # --- the contents of files

    def _open_uploads(self) -> Optional["Uploads"]:
        if not self._options.upload_contents:
            self._discard_texts("upload_contents is off")
            return None
        from .uploads import Uploads  # loaded only if it is used

        return Uploads(self._options, self._log, self._status)

    def _discard_texts(self, why: str) -> None:
        """Remove the texts that wait for their upload."""
        if any(name.startswith("uploads.db") for name in os.listdir(self._options.state)):
            from ..azure.spool import discard  # loaded only if it is used

            for note in discard(self._options.state, why):
                self._log.warning(note)

    def _upload(self) -> None:
        if self._uploads is not None:
            rule = self._source.rule
            wait = self._uploads.upload(rule.settings if rule is not None else None)
            if wait is not None:
                self._schedule.run_within("upload", wait)

    # --- the rule

    def _find_rule(self) -> None:
        receivers = self._delivery.receivers
        receiver = receivers.seen if receivers is not None else None
        rule = self._source.find()
        if receivers is not None:
            receivers.known = receiver
        self._status.rule(rule, self._source.reasons)
        self._realtime.enable(rule.settings if rule is not None else None)
        for kind in all_kinds().values():
            every = rule.settings.every(kind.name) if rule is not None and kind.name in rule.settings.kinds else None
            delay = random.uniform(0, min(self._options.jitter, every or 0))
            self._schedule.set(kind.name, functools.partial(self.collect, kind), every, delay)
            if rule is not None and every is None:
                self._schedule.run_within(kind.name)  # for the last time
        if self._source.retry_seconds is not None:
            self._schedule.run_within("rule", self._source.retry_seconds)
        if rule is not None:
            self._who.follow(rule.settings)
            self._schedule.run_within("upload")
            self._schedule.run_within("delivery", self._delivery.backoff)

    # --- results

    def _not_collected(self, task: str, why: str) -> None:
        self._log.error("%s: %s" % (task, why))
        self._status.not_collected(task, why)
        self._realtime.fail(task)

    def _log_result(self, snapshot: Snapshot, records: List[Row], seconds: float) -> None:
        name = snapshot.kind.name
        self._log("Number of %s received in this run: %d" % (snapshot.kind.received, snapshot.count - snapshot.kept))
        warnings = snapshot.warnings()
        for warning in warnings:
            if warning not in self._warned.get(name, ()):
                self._log.warning("%s: %s" % (name, warning))
        self._warned[name] = warnings
        if snapshot.age is None:
            self._log("%s: baseline of %s in %.2f s" % (name, plural(snapshot.count, "item"), seconds))
        elif records:
            summary = report.summary(snapshot, with_state=True)
            self._log(
                "%s: %d added, %d removed, %d modified in %.2f s"
                % (name, summary["added"], summary["removed"], summary["modified"], seconds)
            )

    def _keep_baseline(self, taken: baseline.Taken) -> None:
        self._baseline = None
        if taken.sentence:
            (self._log.warning if taken.snapshot is None else self._log)(taken.sentence)
            baseline.keep(self._options, taken.sentence)

    def _failed(self, task: str, error: BaseException) -> None:
        """Report a defect in a task. The task runs again when it is due, and the others go on."""
        self._log.error("%s: %s." % (task, describe_defect(error)))
        self._status.not_collected(task, describe_defect(error))
        self._realtime.fail(task)

    # --- the database

    def _prepare_database(self) -> None:
        try:
            with Store(self._options.database) as store:
                store.check()
                store.enable_wal()
                for note in self._claim(store, host.identity()):
                    self._log.warning(note)
                if not self._options.contents and store.texts():
                    store.forget_texts()  # stored while the option was on
        except StateDamaged as error:
            self._set_aside(error)
            with Database(self._options.database) as database:
                database.enable_wal()

    def _claim(self, store: Store, machine: Dict[str, Optional[str]]) -> List[str]:
        """See Store.claim(). The texts that wait are those of the machine that made the state, and go first: a crash in between must
        not leave them to this one."""
        if store.is_foreign(machine):
            self._discard_texts("another machine queued them")
        return store.claim(machine)

    def _repair(self, error: RowDamaged) -> None:
        from ..state.repair import repair  # loaded only if it is used

        self._log.error(str(error))
        for note in repair(self._options.database):
            self._log.error(note)

    def _set_aside(self, error: StateDamaged) -> None:
        aside = self._options.database + ".damaged"
        for suffix in ("", "-wal", "-shm"):
            try:
                os.replace(self._options.database + suffix, aside + suffix)
            except FileNotFoundError:
                pass
        self._log.error(
            "%s The agent moved it to %s, with the records that were not delivered yet." % (str(error), aside)
        )
