# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Who made the changes that a run found, by the kernel's audit: the options `who` and `who_arguments`."""

import math
import os
import select
import socket
import stat
import struct
import threading
import time
from functools import lru_cache
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ..audit import netlink, rules
from ..audit.actors import OWN_KEY, Actors
from ..audit.messages import (
    CONFIG_CHANGE,
    LOGIN,
    Assembler,
    ends_messages,
    file_of_deleted_rule,
    forged_session,
    key_of_deleted_rule,
    switches_off,
)
from ..audit.netlink import AuditError, AuditStatus, Control
from ..audit.nodes import NO_DEVICES, Devices, read_devices
from ..audit.systemctl import PROGRAMS
from ..audit.touches import Found, Window
from ..daemon import Log
from ..errors import SourceFailed
from ..kinds.files.kind import FILES
from ..kinds.files.mounts import Mounts
from ..kinds.files.scope import parse_path, reaches
from ..kinds.kind import Row
from ..kinds.packages.kind import PACKAGES
from ..kinds.services.kind import SERVICES
from ..model import Item
from ..rule.settings import Settings
from ..tracking.diff import Change
from ..tracking.snapshot import Snapshot
from .actor_row import actor_row
from .options import AgentOptions
from .status import Status
from .who import Identity, Who

MAX_EXPLAINED = 20000  # items, of which the last event that explained a change is remembered
WAIT_SECONDS = 2.0  # for events that are on the way
CLOCK_SECONDS = 0.02  # by which the time of a message may be early
CALM_SECONDS = 0.05  # without any event: none is on the way

_TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block", stat.S_IFCHR: "char",
}  # fmt: skip
_DPKG = b"/var/lib/dpkg"
_LISTS = b"/var/lib/dpkg/info"
_RPM = (b"/usr/lib/sysimage/rpm", b"/var/lib/rpm")
_RPM_FILES = (b".rpm.lock", b"rpmdb.sqlite", b"Packages", b"Packages.db")
_UNITS = (
    b"/etc/systemd/system", b"/run/systemd/system", b"/usr/local/lib/systemd/system", b"/usr/lib/systemd/system",
    b"/lib/systemd/system",
)  # fmt: skip


class AuditedWho(Who):
    """Reads the records of the kernel's audit in a thread, from start() to stop()."""

    def __init__(self, options: AgentOptions, log: Log, status: Status) -> None:
        self._options = options
        self._log = log
        self._status = status
        self._actors = Actors(os.getpid(), accept=self._is_tracked)
        self._assembler = Assembler(lambda seconds: self._actors.lose(seconds, seconds))
        self._reader: Optional[socket.socket] = None
        self._thread: Optional[threading.Thread] = None
        self._stop_reader, self._stop_writer = -1, -1
        self._devices = NO_DEVICES  # when the rule was followed last
        self._busy = False  # whether records that were read are not added yet
        self._settings: Optional[Settings] = None  # that were followed last
        self._rules_deleted = False  # since then, maybe by somebody else
        self._own_deletions = (0.0, 0.0)  # from when to when the agent deleted rules last; unix seconds
        self._silent: Optional[float] = None  # since when there may be changes without messages, until follow()
        self._off = 0.0  # since when the kernel does not audit, for all that messages tell; 0.0: it does
        self._watched: Dict[bytes, int] = {}  # the folders with rules
        self._tracked: Optional[Set[bytes]] = None  # paths; None: all are
        self._since: Dict[str, float] = {}  # by kind: when the last run that compared all of it started
        self._explained: Dict[Tuple[str, Identity], int] = {}  # the last event that explained a change
        self._pending: Dict[str, Tuple[Optional[float], Dict[Identity, int], int]] = {}  # until the run is stored
        self._why: List[str] = []
        self._remarked = ""
        self._overflows = 0
        self._lost_before: Optional[int] = None  # by the kernel, before the start
        self._lost = 0
        self._asked = 0.0  # the kernel, how many are lost; unix seconds
        self._newest = 0.0  # up to which all records are read; unix seconds
        self._gap: Optional[float] = None  # since when records are lost, while they are
        self._known = 0
        self._unknown = 0

    def start(self) -> None:
        try:
            self._reader = netlink.open_reader(netlink.passed_socket(os.environ))
        except AuditError as error:
            self._say([str(error)])
            return
        self._newest = time.time()
        self._stop_reader, self._stop_writer = os.pipe()
        self._thread = threading.Thread(target=self._read, args=(self._reader,), name="audit", daemon=True)
        self._thread.start()
        self._clean()
        self._report()

    def stop(self) -> None:
        if self._thread is not None:
            os.write(self._stop_writer, b"\0")
            self._thread.join(WAIT_SECONDS)
            self._thread = None
            self._clean()

    def _clean(self) -> None:
        """Delete the agent's rules, also those that it could not delete when it was killed."""
        try:
            with Control() as control:
                rules.delete_rules(control)
        except AuditError:  # it may not, so it could not add any
            pass

    # --- reading

    def _read(self, reader: socket.socket) -> None:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(self._stop_reader, select.POLLIN)
        while True:
            ready = poll.poll()
            if any(descriptor == self._stop_reader for descriptor, _events in ready):
                return
            self._busy = True
            self._read_waiting(reader)
            self._busy = False

    def _read_waiting(self, reader: socket.socket) -> None:
        """Read records until none waits."""
        while True:
            try:
                type_, text = netlink.receive(reader)
            except BlockingIOError:
                self._newest = time.time()
                if self._gap is not None:
                    self._actors.lose(self._gap, self._newest)
                    self._gap = None
                return
            except OSError:  # ENOBUFS: records are lost, until none waits
                self._overflows += 1
                if self._gap is None:
                    self._gap = self._newest
                    self._actors.lose(self._gap, math.inf)
                continue
            forged = forged_session(text) if type_ == LOGIN else None
            if forged is not None:
                self._actors.distrust(forged)
            if type_ == CONFIG_CHANGE:
                self._note_change(text)
            event = self._assembler.add(type_, text)
            if event is not None:
                self._newest = event.seconds
                if event.seconds > self._off:
                    self._off = 0.0
                self._actors.add(event)

    def _note_change(self, text: bytes) -> None:
        """A change of the rules, or of whether the kernel audits. What happens from then on may have no message."""
        key = key_of_deleted_rule(text)
        own = key == OWN_KEY
        if own:
            self._rules_deleted = True
        lost = file_of_deleted_rule(text)
        if lost is not None:
            self._actors.lose_file(*lost)
        ended = ends_messages(text)
        if ended is None or (key is not None and not own and self._options.who == "rules"):
            return
        if own and self._own_deletions[0] <= ended <= self._own_deletions[1]:
            return
        if switches_off(text):
            self._off = ended
        if self._silent is None:
            self._silent = ended

    def _is_tracked(self, path: bytes) -> bool:
        if self._tracked is None:
            return True
        while path not in self._tracked:
            if len(path) <= 1:
                return False
            path = os.path.dirname(path)
        return True

    def _catch_up(self) -> None:
        """Wait until the records of what was done before are read. Those that are not read by then are lost for this run."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)  # type: ignore[arg-type]
        end = time.monotonic() + WAIT_SECONDS
        calm = time.monotonic()
        while time.monotonic() < end and time.monotonic() - calm < CALM_SECONDS:
            if self._busy or poll.poll(0) or self._backlog():
                calm = time.monotonic()
            time.sleep(CALM_SECONDS / 5)
        if time.monotonic() >= end:
            self._actors.lose(self._newest, time.time())

    def _backlog(self) -> int:
        """How many records wait in the kernel; 0 where that is not known."""
        try:
            with Control() as control:
                status = control.status()
                self._count_lost(status)
                return status.backlog
        except AuditError:
            return 0

    def _count_lost(self, status: AuditStatus) -> None:
        """Note how many records the kernel has dropped since the start."""
        now = time.time()
        if self._lost_before is None:
            self._lost_before = status.lost
        lost = status.lost - self._lost_before
        if lost != self._lost:
            self._actors.lose(self._asked, now)
        self._lost, self._asked = lost, now

    # --- rules

    def follow(self, settings: Settings) -> None:
        if self._thread is None:
            return
        self._settings, self._rules_deleted = settings, False
        roots = roots_of(settings)
        try:
            mounts, self._devices = Mounts.read(), read_devices()
        except (OSError, SourceFailed) as error:
            self._say([str(error)])
            return
        silent, self._silent = self._silent, None
        enabled = self._options.who == "read" and not self._off  # the kernel does not answer without CAP_AUDIT_CONTROL
        outcome = rules.known_folders(roots, mounts, self._devices)
        why: List[str] = []
        try:
            with Control() as control:
                status = control.status()
                self._count_lost(status)
                refused = rules.refusal(status) if self._options.who == "rules" else ""
                if self._options.who == "rules" and not refused:
                    self._own_deletions = (time.time() - CLOCK_SECONDS, math.inf)
                    outcome = rules.set_rules(control, roots, mounts, self._devices, self._watched)
                    if self._thread is None:  # stop() may have deleted the rules before these were added
                        rules.delete_rules(control)
                    self._own_deletions = (self._own_deletions[0], time.time())
                    self._watched = outcome.folders
                    why += outcome.problems
                why += [text for text in (refused, rules.state(status)) if text]
                self._remark(rules.remark(status))
                enabled = bool(status.enabled)
        except AuditError as error:
            if self._options.who == "rules":
                why.append(str(error))
        if silent is not None:
            self._actors.lose(silent, time.time())
            self._silent = self._silent if enabled else silent
        folders = dict(outcome.folders)
        try:
            lists = os.stat(_LISTS)
            folders[_LISTS] = self._devices.node(os.major(lists.st_dev), os.minor(lists.st_dev), lists.st_ino)
        except OSError:  # no dpkg here
            pass
        self._actors.know(folders, self._devices)
        self._tracked = {root.path for root in roots} | set(outcome.folders)
        self._say(why)

    def _remark(self, text: str) -> None:
        if text and text != self._remarked:
            self._log(text)
        self._remarked = text

    def _say(self, why: List[str]) -> None:
        for text in why:
            if text not in self._why:
                self._log.warning(text)
        self._why = why
        self._report()

    def _report(self) -> None:
        reads = self._thread is not None
        self._status.who(
            {
                "Mode": self._options.who,
                "By": "audit" if reads else "",
                "Why": " ".join(self._why),
                "Events": self._actors.events,
                "Lost": self._overflows + self._assembler.incomplete + self._lost,
                "Known": self._known,
                "Unknown": self._unknown,
            }
        )

    # --- the join

    def actors(self, snapshot: Snapshot, started: float) -> Mapping[Identity, Row]:
        if self._thread is None:
            return {}
        kind = snapshot.kind
        is_full = kind is FILES and not snapshot.partial  # such as after a mount
        if self._settings is not None and (self._rules_deleted or self._silent is not None or is_full):
            self.follow(self._settings)
        last = float(snapshot.collected_at - (snapshot.age or 0))
        since = self._since.get(kind.name, last)
        rows: Dict[Identity, Row] = {}
        explained: Dict[Identity, int] = {}
        if snapshot.changes:
            self._catch_up()
            if self._silent is not None:
                self._actors.lose(self._silent, time.time())
            self._actors.resolve()
        names: Dict[int, str] = {}
        for change in snapshot.changes:
            identity = kind.identity(change.new or change.old)
            window = Window(since, started, self._explained.get((kind.name, identity), 0))
            found = self._find(kind.name, change, window)
            if found is not None:
                explained[identity] = found.serial
                rows[identity] = actor_row(found, self._options.who_arguments, names)
        unknown = len(snapshot.changes) - len(rows)
        self._pending[kind.name] = (None if snapshot.partial else started, explained, unknown)
        return rows

    def stored(self, kind: str) -> None:
        pending = self._pending.pop(kind, None)
        if pending is None:
            return
        started, explained, unknown = pending
        if started is not None:
            self._since[kind] = started
        if len(self._explained) + len(explained) > MAX_EXPLAINED:
            self._explained.clear()
        self._explained.update({(kind, identity): serial for identity, serial in explained.items()})
        self._known += len(explained)
        self._unknown += unknown
        self._report()

    def _find(self, kind: str, change: Change, window: Window) -> Optional[Found]:
        item: Any = change.new or change.old
        if kind == FILES.name:
            old, new = (_state_of(each, self._devices) for each in (change.old, change.new))
            return self._actors.of_file(
                os.fsencode(item.path), window, old, new, change.category, _is_written(change), self._tracks(item)
            )
        if kind == PACKAGES.name:
            return self._find_package(item.name, item.architecture, change.new, window)
        if kind == SERVICES.name:
            return self._actors.of_unit(os.fsencode(item.name), window)
        return None

    def _tracks(self, item: Any) -> Callable[[int], bool]:
        """For of_file(): a folder in the place of a tracked file may be none that is tracked, and who removes it removes no file."""

        rules_ = self._settings.file_rules if self._settings is not None else ()

        @lru_cache(maxsize=None)
        def tracks(format_: int) -> bool:
            type_ = _TYPES.get(format_, item.type)
            return type_ == item.type or any(reaches(rule, item.path, type_) for rule in rules_)

        return tracks

    def _find_package(self, name: str, architecture: str, new: Any, window: Window) -> Optional[Found]:
        """dpkg writes a list of files for each package. rpm has one database: who had it open when the package was installed, or the only
        one who had."""
        stem = _LISTS + b"/" + os.fsencode(name)
        lists = [stem + b".list", b"%s:%s.list" % (stem, os.fsencode(architecture))]
        found = self._actors.of_paths(lists, window)
        if found is not None:
            return found
        files = [folder + b"/" + file for folder in _RPM for file in _RPM_FILES]
        if new is not None and new.installed_on is not None and new.installed_on + 1 <= window.until:
            found = self._actors.of_paths(files, window._replace(until=float(new.installed_on + 1)))
            return found and found._replace(count=1)
        found = self._actors.of_paths(files, window)
        return found if found is not None and found.count == 1 else None


def roots_of(settings: Settings) -> List[rules.Root]:
    """What to watch for a rule: the roots of its file items, the package databases, unit files and systemctl."""
    paths: List[bytes] = []
    if FILES.name in settings.kinds:
        for rule in settings.file_rules:
            spec = parse_path(rule.path)
            path = os.path.join(spec.directory, spec.name) if spec.syntax == "literal" else spec.directory
            paths.append(os.fsencode(path))
    if PACKAGES.name in settings.kinds:
        paths += [folder for folder in (_DPKG, *_RPM) if os.path.isdir(folder)]
    starts: Sequence[bytes] = ()
    if SERVICES.name in settings.kinds:
        paths += [folder for folder in _UNITS if os.path.isdir(folder)]
        starts = PROGRAMS
    return [*(rules.Root(path) for path in paths), *(rules.Root(path, starts=True) for path in starts)]


def _state_of(item: Optional[Item], devices: Devices) -> Optional[Tuple[int, float]]:
    """The node of a file, and when it changed last (ctime, unix seconds)."""
    stamp = getattr(item, "stamp", None)
    if stamp is None:
        return None
    major, minor = struct.unpack("=II", struct.pack("=Q", stamp[0]))
    return devices.node(major, minor, stamp[1]), stamp[4] / 1e9


def _is_written(change: Change) -> bool:
    """Whether the content of a file differs."""
    old: Any = change.old
    new: Any = change.new
    return old is not None and new is not None and (old.checksum, old.size) != (new.checksum, new.size)
