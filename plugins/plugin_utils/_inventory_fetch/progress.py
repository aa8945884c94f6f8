# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the progress of a task over its hosts.

The action of each host runs in its own process. They count in one file, in the folder that Ansible creates for the temporary
files of a run and removes at its end.
"""

import fcntl
import os
import time

from ansible import constants

from .._output import show

EVERY = 10  # seconds; a shorter run shows nothing
FEW = 10  # a run with this many hosts or fewer shows nothing
OUTCOMES = ("ok", "changed", "failed")


class Progress:
    """The progress of one task. Create one when the action of a host starts, and call ended() at its end. Errors are ignored."""

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
        """The file has three numbers; its mtime is the time of the last line that was shown."""
        with open(self._path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            shown, now = os.fstat(file.fileno()).st_mtime, time.time()
            counts = dict(zip(OUTCOMES, map(int, file.read().split() or (0, 0, 0))))
            counts[outcome] += 1
            file.seek(0)
            file.write(b"%d %d %d" % tuple(counts[name] for name in OUTCOMES))
            file.flush()
            done = sum(counts.values())
            due = now - shown >= EVERY and done < self._hosts
            os.utime(file.fileno(), (now, now) if due else (shown, shown))
        if due:
            message = "Inventory: %d of %d hosts done, %d of them changed, %d failed."
            show(message % (done, self._hosts, counts["changed"], counts["failed"]))
