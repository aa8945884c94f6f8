# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of ours as its users run it: one file, one process, whose log is watched."""

import queue
import re
import subprocess
import threading
import time

PATIENCE = 60  # seconds for what takes a moment, on a machine that is busy


def wait_for(condition, about=lambda: "", seconds=PATIENCE):
    """`about()`: what a failed test shows."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, about()
        time.sleep(0.02)


class Program:
    """Processes of it run one after the other."""

    def __init__(self, zipapp):
        self.zipapp = str(zipapp)
        self.process = None
        self.log = []

    def launch(self, command, wait, **keywords):
        """Until its log has a line that matches `wait`, if that is given."""
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, universal_newlines=True, start_new_session=True, **keywords
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._collect, args=(self.process, self._lines), daemon=True).start()
        if wait:
            self.expect(wait)

    def expect(self, pattern):
        """Wait for a line of the log, and return the match."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, "it ended:\n" + "\n".join(self.log)
            match = re.search(pattern, line)
            if match:
                return match

    def skip(self):
        """Let expect() wait for lines that come from now on."""
        while not self._lines.empty():
            self._lines.get()

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self):
        """As a service manager does; the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def end(self):
        """Whether it runs or not."""
        if self.process is not None:
            self.kill()

    def _collect(self, process, lines):
        for line in process.stderr:
            self.log.append(line.rstrip("\n"))
            lines.put(line)
        lines.put(None)
