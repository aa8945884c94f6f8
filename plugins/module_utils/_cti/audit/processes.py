# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Who made a system call: the login, the program, and the module of Ansible that it belongs to."""

import os
import re
import threading
import time
from collections import OrderedDict
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from .messages import UNSET, Event

MAX_PROCESSES = 8192  # remembered, by their id
MAX_PARENTS = 16  # of one process
MAX_FORGED = 8192  # sessions
COMMAND_BYTES = 256
READ_SECONDS = 1.0  # for a command line
PENALTY_SECONDS = 600.0  # for which a user's command lines are not read after one that took longer
MAX_SLOW = 8  # users with such a command line; while there are so many, none is read

_MODULE: Callable[[bytes], Any] = re.compile(rb"AnsiballZ_([a-z0-9_]{1,100})\.py(?![^\0/ ])").search
_CLOCK_BOOTTIME = 7  # clock_gettime(2); Python 3.7 and later name it in `time`
_TICKS = os.sysconf("SC_CLK_TCK")


class Actor(NamedTuple):
    """Who made a system call."""

    auid: int  # the user who logged in; UNSET: nobody did, as for a service
    uid: int
    session: int
    exe: bytes
    command: bytes  # the arguments after a NUL each; empty: not known
    module: str  # of Ansible; empty: none, or not known

    @property
    def user(self) -> int:
        """The uid of the login, or of the process where there is none."""
        return self.uid if self.auid == UNSET else self.auid


class _Process(NamedTuple):
    parent: int
    session: int
    exe: bytes  # that had the title first
    title: bytes
    module: str  # that its own command line names
    looked_at: bool  # while it ran: events of a program that replaced another one have the old command line


class Processes:
    """The processes that events came from, the last MAX_PROCESSES of them. `proc`: reads a running process, see read_process()."""

    def __init__(self, proc: Callable[[int, int, float], Optional[Tuple[int, bytes]]]) -> None:
        self._proc = proc
        self._known: "OrderedDict[int, _Process]" = OrderedDict()
        self._forged: "OrderedDict[int, None]" = OrderedDict()  # sessions

    def distrust(self, session: int) -> None:
        """Take the login of this session for none, see messages.forged_session()."""
        self._forged[session] = None
        if len(self._forged) > MAX_FORGED:
            self._forged.popitem(last=False)

    def actor(self, event: Event) -> Actor:
        """Who made the system call."""
        if event.session in self._forged:
            event = event._replace(auid=UNSET, session=UNSET)
        title, started = event.title, event.exe
        before = self._known.get(event.pid)
        if before is not None and before[:2] == (event.ppid, event.session) and before.title == title:
            started = before.exe
        if started != event.exe:  # the kernel still gives the command line of the program that this process was before
            title = b""
        module = module_of(title)
        self._remember(event.pid, _Process(event.ppid, event.session, started, event.title, module, False))
        return Actor(
            event.auid, event.uid, event.session, event.exe, title[:COMMAND_BYTES],
            module or self._module_of_parents(event),
        )  # fmt: skip

    def _module_of_parents(self, event: Event) -> str:
        """The module of the nearest parent in the same session, which the events named, or which runs."""
        if event.session == UNSET:
            return ""
        pid = event.ppid
        for _parent in range(MAX_PARENTS):
            if pid <= 1:
                break
            known = self._known.get(pid)
            if known is None or known.session != event.session or not (known.module or known.looked_at):
                found = self._proc(pid, event.session, event.seconds)
                if found is not None:
                    known = _Process(found[0], event.session, b"", found[1], module_of(found[1]), True)
                    self._remember(pid, known)
                elif known is None or known.session != event.session:
                    break
            if known.module:
                return known.module
            pid = known.parent
        return ""

    def _remember(self, pid: int, process: _Process) -> None:
        self._known.pop(pid, None)
        self._known[pid] = process
        if len(self._known) > MAX_PROCESSES:
            self._known.popitem(last=False)


def module_of(title: bytes) -> str:
    """The module of Ansible whose program the command line runs; empty where it runs none. With pipelining, none is named."""
    first, _nul, rest = title.partition(b"\0")
    script = rest.partition(b"\0")[0]
    match = (_MODULE(script) or _MODULE(first)) if b"AnsiballZ_" in title else None
    return match.group(1).decode("ascii") if match is not None else ""


class CommandLines:
    """Reads command lines of processes. The kernel takes them from the memory of the process, whose owner can have it wait for ever.

    So a thread reads each. Who makes one wait has no other one read for a while.
    """

    def __init__(self, read: Callable[[int], bytes] = lambda pid: _read("/proc/%d/cmdline" % pid, 4096)) -> None:
        self._read = read
        self._slow: Dict[bytes, Tuple[float, threading.Thread]] = {}  # by login

    def of(self, pid: int) -> bytes:
        """Raises OSError."""
        user = _read("/proc/%d/loginuid" % pid, 32)
        now = time.monotonic()
        self._slow = {
            login: (until, thread) for login, (until, thread) in self._slow.items() if thread.is_alive() or now < until
        }
        if user in self._slow or len(self._slow) >= MAX_SLOW:
            raise TimeoutError
        found: List[bytes] = []
        thread = threading.Thread(target=self._read_into, args=(pid, found), name="command line", daemon=True)
        thread.start()
        thread.join(READ_SECONDS)
        if thread.is_alive():
            self._slow[user] = (now + PENALTY_SECONDS, thread)
        if not found:
            raise TimeoutError
        return found[0]

    def _read_into(self, pid: int, found: List[bytes]) -> None:
        try:
            found.append(self._read(pid))
        except OSError:  # it has ended
            pass


_command_lines = CommandLines()


def read_process(pid: int, session: int, seconds: float) -> Optional[Tuple[int, bytes]]:
    """The parent and the start of the command line of a process that is in this audit session and was started before that time
    (unix seconds). None where there is no such process, or this one may not see it."""
    try:
        if int(_read("/proc/%d/sessionid" % pid, 32)) != session:
            return None
        fields = _read("/proc/%d/stat" % pid, 4096).rpartition(b")")[2].split()
        age = time.clock_gettime(_CLOCK_BOOTTIME) - int(fields[19]) / float(_TICKS)
        if age + 0.05 < time.time() - seconds:
            return None
        return int(fields[1]), _command_lines.of(pid)
    except (OSError, ValueError, IndexError):
        return None


def _read(path: str, limit: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(limit)
