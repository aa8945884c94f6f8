# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the history of the host at its own pace, as an operator's scheduled play does: by ct_state_info over ssh."""

import json
import os
import subprocess
import sys
from pathlib import Path


class Consumer:
    """run() until told to stop, finish() for the rest; then `ids` holds the RecordId of every change that came."""

    def __init__(self, machine, state, name, every):
        self.name = name
        self.every = every  # seconds between two questions
        self.asked = 0
        self.ids = []
        self._machine = machine
        self._database = f"{state}/changetracking.db"
        self._place = "0"

    def run(self, stop):
        while not stop.wait(self.every):
            self._ask()

    def finish(self):
        while self._ask():
            pass

    def _ask(self):
        """Whether more follows. An answer that is lost on its way loses nothing: the place is still the old one."""
        arguments = json.dumps({"path": self._database, "since": self._place})
        command = [
            str(Path(sys.executable).with_name("ansible")),
            "-i",
            f"{self._machine.HOST},",
            "all",
            "-m",
            "changetracking.inventory.ct_state_info",
        ]
        settings = {
            "ANSIBLE_SSH_ARGS": f"-F {self._machine.state}/ssh_config -o ControlMaster=no",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.oneline",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        }
        done = subprocess.run(
            [*command, "-a", arguments, "--one-line"],
            env=dict(os.environ, **settings),
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.asked += 1
        _before, found, text = done.stdout.partition(" => ")
        if done.returncode or not found:
            print(f"consumer {self.name}: no answer: {done.stdout[:300]}")
            return True
        result = json.loads(text)
        self.ids += [record["RecordId"] for record in result["changes"]]
        self._place = result["history"]["place"]
        return bool(result["history"]["remaining"])
