# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-rulebook with the event source `changes`: what is changed by hand on a booted host is restored, and that is no drift."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.tests.helpers import reader

FILE = "/etc/ssh/sshd_config"
RULE = {
    "extensionConfigurations": {
        "ChangeTracking-Linux": [
            {
                "id": "x",
                "extensionSettings": {
                    "enableFiles": True,
                    "enableSoftware": False,
                    "enableServices": False,
                    "fileSettings": {"fileInfo": [{"name": "ssh", "destinationPath": "/etc/ssh/*"}]},
                },
            }
        ]
    }
}
INVENTORY = """
h1
not_to_be_touched ansible_host=192.0.2.1
[all:vars]
ansible_python_interpreter=/usr/bin/python3
ansible_ssh_common_args=-F {config} -o ControlMaster=auto -o ControlPersist=60s -o ControlPath={short}/%C
"""
PLAY = """
- name: Configure ssh
  hosts: all
  gather_facts: false
  tasks:
    - name: Write sshd_config
      ansible.builtin.copy:
        content: "PermitRootLogin prohibit-password\\n"
        dest: /etc/ssh/sshd_config
        mode: "0644"
"""
RULEBOOK = """
- name: Restore what was changed by hand
  hosts: all
  sources:
    - name: changes
      changetracking.inventory.changes:
        store: {folder}/fleet.db
        place: {folder}/place
        feedback: true
  rules:
    - name: sshd_config was changed by hand
      condition: event.change.item == "/etc/ssh/sshd_config" and event.change.level == "drift"
      actions:
        - debug: {{msg: "event {{{{ event.change.level }}}} {{{{ event.meta.uuid }}}}"}}
        - run_playbook: {{name: site.yml}}
    - name: Anything else
      condition: event.change.level != "drift"
      action:
        debug: {{msg: "event {{{{ event.change.level }}}} {{{{ event.meta.uuid }}}} by {{{{ event.change.task.name }}}}"}}
"""
PATIENCE = 90


class Controller:
    """A booted host, and this machine as its controller, with a rulebook that runs or not."""

    def __init__(self, folder):
        self.folder = folder
        self.rulebook = None
        self._state = Path(reader.state_folder()) / "eda"
        self._short = Path(tempfile.mkdtemp(prefix="ct"))
        self._testhost("up", Path(os.environ["CT_TEST_CACHE"]) / "bookworm", "h1")
        self._environment = dict(
            os.environ,
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            ANSIBLE_CALLBACKS_ENABLED="changetracking.inventory.run_log",
            RUN_LOG_SPOOL=str(folder / "spool"),
        )
        self._log = folder / "rulebook.log"
        texts = {
            "hosts": INVENTORY.format(config=self._state / "ssh_config", short=self._short),
            "site.yml": PLAY,
            "rule.json": json.dumps(RULE),
            "rulebook.yml": RULEBOOK.format(folder=folder),
        }
        for name, text in texts.items():
            (folder / name).write_text(text)

    def close(self):
        self.stop(signal.SIGKILL)
        self._testhost("down", "h1")

    def _testhost(self, *arguments):
        command = [str(reader.TESTHOST), *map(str, arguments)]
        environment = dict(os.environ, TESTHOST_DIR=str(self._state))
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    def on_host(self, script):
        return self._testhost("exec", "h1", "bash", "-euc", script)

    def edit(self, line):
        self.on_host(f"sleep 1; echo '{line}' >> {FILE}")  # not in the second in which Ansible wrote it

    def ansible(self, playbook, *arguments):
        command = ["ansible-playbook", "-i", "hosts", "-l", "h1", playbook, *arguments]
        run = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout

    def collect(self):
        options = {"ct_dest": str(self.folder), "ct_dcr": str(self.folder / "rule.json"), "ct_hosts": "h1"}
        self.ansible("changetracking.inventory.inventory", "-e", json.dumps(options))

    def start(self):
        command = ["ansible-rulebook", "--rulebook", "rulebook.yml", "-i", "hosts"]
        with self._log.open("a") as log:
            self.rulebook = subprocess.Popen(
                [*command, "--persistence-id", "6a2e4f8e-1f0c-4b9d-9a51-6a3f7d3ad0ce"],
                cwd=self.folder, env=self._environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def stop(self, number):
        if self.rulebook is not None:
            os.killpg(self.rulebook.pid, number)
            self.rulebook.wait()
            self.rulebook = None

    def until(self, holds):
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline and self.rulebook.poll() is None, self._log.read_text()
            time.sleep(0.2)

    def events(self, level):
        """The RecordIds of the events of a level that the rules have seen, in their order."""
        words = [line.split() for line in self._log.read_text().splitlines()]
        return [line[2] for line in words if line[:2] == ["event", level]]

    def changes(self):
        """The RecordIds of all changes of the file, in the order of the store."""
        with open_store(str(self.folder / "fleet.db")) as store:
            sql = "SELECT RecordId FROM ConfigurationChange WHERE FileSystemPath = ? ORDER BY Seq"
            return [record for (record,) in store.query(sql, FILE)]

    def restored(self):
        return self.on_host(f"cat {FILE}") == "PermitRootLogin prohibit-password\n"


@pytest.fixture
def controller(tmp_path):
    controller = Controller(tmp_path)
    yield controller
    controller.close()


def test_a_change_by_hand_is_restored_once_and_the_restoring_is_no_drift(controller):
    controller.ansible("site.yml")
    controller.collect()
    controller.start()
    controller.until((controller.folder / "place").exists)

    controller.edit("PermitRootLogin yes")
    controller.collect()
    controller.until(controller.restored)
    controller.collect()
    controller.until(lambda: controller.events("task"))
    by_hand, by_playbook = controller.changes()
    assert (controller.events("drift"), controller.events("task")) == ([by_hand], [by_playbook])

    # What is changed while no rulebook runs is an event of the next one, and nothing before is.
    controller.stop(signal.SIGTERM)
    controller.edit("PasswordAuthentication yes")
    controller.collect()
    controller.start()
    controller.until(controller.restored)
    controller.collect()
    controller.until(lambda: len(controller.events("task")) == 2)
    assert controller.events("drift") + controller.events("task") == [
        *controller.changes()[::2],
        *controller.changes()[1::2],
    ]

    # Likewise after a kill, but the event before may come again.
    controller.stop(signal.SIGKILL)
    controller.edit("X11Forwarding yes")
    controller.collect()
    controller.start()
    controller.until(controller.restored)
    assert set(controller.events("drift")) == set(controller.changes()[::2])
