# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Prints the changes that the agent stores, as it stores them.

The history in the state has them under rising numbers. A notification of the kernel only says that it is time to look there, so nothing is
printed twice or left out. Where there are no notifications, it looks every POLL_SECONDS. It ends where no agent runs any more.
"""

import json
import os
import select
import sys
import time
from types import TracebackType
from typing import Iterator, Optional, Type

from ..errors import StateError
from ..kinds.kind import Row
from ..realtime.inotify import CREATE, MODIFY, MOVED_TO, Inotify, Unavailable
from ..records import change_line
from ..state.pages import History, Page
from ..state.place import Place, Since
from ..text import line, plural
from .lock import is_running
from .options import AgentOptions

POLL_SECONDS = 2.0
LOOK_SECONDS = 10.0  # between two looks where no notification comes
BURST_SECONDS = 0.1  # from the first notification of a transaction to its end
ABSENT_SECONDS = 60.0  # without an agent; a restart or an upgrade takes less


def watch(options: AgentOptions, owner: Optional[int], as_json: bool) -> None:
    """Print each change that is stored from now on, until SIGINT, or until nobody reads stdout. `owner`: a uid that may own the
    state. Raises StateError if the state cannot be read now, or if no agent has run for ABSENT_SECONDS."""
    followed = _Followed(options.database, owner)
    last_run = time.monotonic()
    try:
        with _Notifications(os.path.dirname(options.database)) as notifications:
            followed.begin()
            _note("Waiting for changes. Ctrl-C ends it.")
            while notifications.wait():
                for row in followed.new():
                    sys.stdout.write(line(json.dumps(row) if as_json else change_line(row)) + "\n")
                sys.stdout.flush()
                if is_running(options):
                    last_run = time.monotonic()
                elif time.monotonic() - last_run >= ABSENT_SECONDS:
                    raise StateError(_absent(options))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Otherwise, the interpreter prints an error message at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _absent(options: AgentOptions) -> str:
    """That there is no agent, and what to do."""
    if os.path.exists(options.database):
        why = "No agent has run with the state directory '%s' for %d s. Start it: systemctl start ctagent"
    else:
        why = "The agent was removed: the state directory '%s' has had no state for %d s. Deploy it, or give the one that it uses with --state"
    return (why % (options.state, ABSENT_SECONDS)) + ". Then watch again."


class _Followed:
    """The history of a state, and the place in it up to which everything was printed."""

    def __init__(self, database: str, owner: Optional[int]) -> None:
        self._database = database
        self._owner = owner
        self._place: Optional[Place] = None
        self._error = ""

    def begin(self) -> None:
        with self._open() as history:
            self._place = history.end().place

    def new(self) -> Iterator[Row]:
        """The changes that were stored since the last call. Why some of them are missing, or cannot be read yet, goes to stderr."""
        remaining = 1
        while remaining:
            try:
                page = self._next()
            except StateError as error:  # for example, the agent moves a corrupt state aside
                if str(error) != self._error:
                    self._error = str(error)
                    _note(self._error)
                return
            self._error = ""
            if page.place is None:  # there is no state at the moment
                return
            if page.restarted:
                _note("There is a new state. All of its changes follow.")
            if page.missed + page.damaged:
                _note("%s no longer kept." % plural(page.missed + page.damaged, "change", "is"))
            yield from page.records
            self._place, remaining = page.place, page.remaining

    def _next(self) -> Page:
        with self._open() as history:
            page: Page = history.follow(Since(places=[self._place])) if self._place else history.end()
            return page

    def _open(self) -> History:
        return History(self._database, self._owner, leave_no_files=True)


class _Notifications:
    """Says when something was stored in a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = os.fsencode(folder)
        self._inotify: Optional[Inotify] = None
        self._poll = select.poll()

    def __enter__(self) -> "_Notifications":
        self._poll.register(sys.stdout.fileno(), 0)  # for POLLERR: nobody reads it any more
        try:
            self._inotify = Inotify()
            self._poll.register(self._inotify.fileno(), select.POLLIN)
        except Unavailable as error:
            _note(str(error))
        self._watches()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._inotify is not None:
            self._inotify.close()

    def wait(self) -> bool:
        """Return when something was stored, or when it is time to look. False: nobody reads what is printed."""
        found = dict(self._poll.poll((LOOK_SECONDS if self._watches() else POLL_SECONDS) * 1000))
        if sys.stdout.fileno() in found:
            return False
        if found and self._inotify is not None:
            time.sleep(BURST_SECONDS)
            for _event in self._inotify.read():
                pass
        return True

    def _watches(self) -> bool:
        """Whether the folder is watched, also one that was made again under its name."""
        try:
            return self._inotify is not None and self._inotify.add(self._folder, CREATE | MODIFY | MOVED_TO) >= 0
        except OSError:
            return False


def _note(text: str) -> None:
    sys.stderr.write(line(text) + "\n")
    sys.stderr.flush()
