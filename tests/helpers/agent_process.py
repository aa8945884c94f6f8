# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as its users run it, with a relay beside it."""

import json
import os
import subprocess
import sys

from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE, Program, wait_for
from ansible_collections.changetracking.inventory.tests.helpers.relay_process import Relay

SETTINGS = {"enableSoftware": False, "enableServices": False}


class Host(Program):
    def __init__(self, programs, folder):
        super().__init__(programs / "agent.pyz")
        self.folder = folder
        self.tracked = folder / "tracked"
        self.state = folder / "state"
        self.tracked.mkdir()
        (folder / "relay").mkdir()
        self.relay = Relay(programs / "relay.pyz", folder / "relay")
        self.track()
        self.users = [str(os.geteuid())]  # who may listen

    def track(self, every=0.2, paths=None, recurse=True, **settings):
        """Write the rule that the relay hands out: files alone, `every` so many seconds; 0.2 stands for 1."""
        paths = paths or [str(self.tracked) + "/*"]
        items = [{"name": path, "destinationPath": path, "recurse": recurse} for path in paths]
        files = {"fileCollectionFrequency": max(1, int(every)), "fileInfo": items}
        self.relay.put_chunk("one.json", "1", settings=dict(SETTINGS, fileSettings=files, **settings))

    def command(self, command, *options):
        return [
            sys.executable, self.zipapp, command, "--state", str(self.state), "--jitter", "0", "--refresh", "1",
            "--address", str(self.relay.address()), "--config-address", str(self.relay.address("config")),
            *(word for user in self.users for word in ("--allow-user", user)), "--acks", "require", "--dcr", str(self.folder / "dcr.json"), "--chunks", "",
            *options,
        ]  # fmt: skip

    def run(self, command, *options):
        """The exit status, and what it printed."""
        done = subprocess.run(
            self.command(command, *options), timeout=PATIENCE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def start(self, *options, wait="The agent is ready"):
        self.launch(self.command("run", *options), wait)

    def end(self):
        super().end()
        self.relay.end()

    def status(self):
        return json.loads(self.run("status", "--json")[1])

    def write(self, name, text="text"):
        path = self.tracked / name
        new = self.folder / "new"
        new.write_text(text)
        os.replace(str(new), str(path))

    def changes(self):
        """(category, name) of what arrived, in the order in which it did."""
        rows = self.relay.rows("SELECT ChangeCategory, FileSystemPath FROM ConfigurationChange ORDER BY Seq")
        return [(category, path.rpartition("/")[2]) for category, path in rows]

    def inventory(self):
        rows = self.relay.rows("SELECT FileSystemPath FROM ConfigurationData ORDER BY 1")
        return [path.rpartition("/")[2] for (path,) in rows]

    def arrived(self):
        """Once everything that was delivered is in the tables."""
        wait_for(lambda: not any(sink["Rows"] for sink in self.relay.status()["Sinks"]))
        return self
