# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a task is over its hosts, said now and then while the run goes on.

Each host's action runs in a process of its own. They count together in a file in the folder that Ansible makes for the
temporary files of one run, and removes at its end.
"""

import fcntl
import os
import time

from ansible import constants

from .._output import show

EVERY = 10  # seconds; a run that is shorter says nothing
FEW = 10  # so many hosts, or less, say nothing
OUTCOMES = ("ok", "changed", "failed")


class Progress:
    """Of one task. Made when a host's part begins, told how it `ended`. What cannot be counted is not worth an error."""

    def __init__(self, task: str, hosts: int) -> None:
        self._hosts = hosts
        self._path = os.path.join(constants.DEFAULT_LOCAL_TMP, "ct_progress_" + task)
        if hosts > FEW:
            try:
                open(self._path, "ab").close()
            except OSError:
                self._hosts = 0

    def ended(self, outcome: str) -> None:
        if self._hosts > FEW:
            try:
                self._count(outcome)
            except (OSError, ValueError):
                pass

    def _count(self, outcome: str) -> None:
        """The file holds three numbers; the time at which something was said last is that of its metadata."""
        with open(self._path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            said, now = os.fstat(file.fileno()).st_mtime, time.time()
            counts = dict(zip(OUTCOMES, map(int, file.read().split() or (0, 0, 0))))
            counts[outcome] += 1
            file.seek(0)
            file.write(b"%d %d %d" % tuple(counts[name] for name in OUTCOMES))
            file.flush()
            done = sum(counts.values())
            due = now - said >= EVERY and done < self._hosts
            os.utime(file.fileno(), (now, now) if due else (said, said))
        if due:
            message = "Inventory: %d of %d hosts done, %d of them changed, %d failed."
            show(message % (done, self._hosts, counts["changed"], counts["failed"]))
