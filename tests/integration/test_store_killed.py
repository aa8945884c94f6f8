# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet store has each change once, however often the playbook is killed. CT_STORE_KILLS=100 is the long version."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.tests.helpers import postgres

KILLS = int(os.environ.get("CT_STORE_KILLS", "5"))
HOSTS = ("web01", "web02", "web03")
PLAYBOOK = "changetracking.inventory.inventory"
PATIENCE = 60  # seconds


class Changing(threading.Thread):
    """Adds files to the tracked folders, the same to each. Each file is one change of each host."""

    def __init__(self, folders):
        super().__init__(daemon=True)
        self.folders = folders
        self.made = []
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.1):
            name = "%06d" % len(self.made)
            for folder in self.folders:
                (folder / name).touch()
            self.made.append(name)


class Fleet:
    """Hosts that are folders of this machine, and a store."""

    def __init__(self, folder, store):
        self.store = store
        self.folders = [folder / name / "tracked" for name in HOSTS]
        hosts = {}
        for name, tracked in zip(HOSTS, self.folders):
            tracked.mkdir(parents=True)
            items = [{"name": "r", "destinationPath": str(tracked / "*")}]
            extension = {"id": "x", "extensionSettings": {"fileSettings": {"fileInfo": items}}}
            rule = {"extensionConfigurations": {"ChangeTracking-Linux": [extension]}}
            hosts[name] = {"ct_state": str(tracked.parent / "s.db"), "ct_dcr": rule}
        variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ct_kinds": ["files"]}
        variables.update(ct_dest=str(folder / "inventory"), ct_store=store)
        self.inventory = folder / "hosts.json"
        self.inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
        self.log = folder / "log"
        self.mark = str(folder)

    def start(self):
        with self.log.open("w") as log:
            return subprocess.Popen(
                ["ansible-playbook", "-i", str(self.inventory), PLAYBOOK],
                stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ, CT_STORE_TEST=self.mark),
            )  # fmt: skip

    def run(self):
        """A run that nobody kills. Returns its seconds."""
        started = time.monotonic()
        assert self.start().wait() == 0, self.log.read_text()
        return time.monotonic() - started

    def processes(self):
        """All that a playbook has started and that still run, or it."""
        mark = ("CT_STORE_TEST=" + self.mark).encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0"):  # a zombie has none
                    found.append(int(path.parent.name))
            except OSError:
                pass
        return found

    def kill(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def wait(self):
        """Until the workers of killed playbooks have ended.

        One with a large result waits for ever for its playbook to read it, since ansible-core leaves it both ends of the pipe.
        """
        end = time.monotonic() + PATIENCE
        while self.processes():
            if time.monotonic() > end:
                self.kill()
            time.sleep(0.1)

    def found(self, table, host):
        with open_store(self.store) as store:
            return [
                os.path.basename(path)
                for (path,) in store.query("SELECT FileSystemPath FROM %s WHERE Host = ? ORDER BY 1" % table, host)
            ]


@pytest.fixture(params=["sqlite", "postgresql"])
def fleet(request, tmp_path):
    if request.param == "sqlite":
        fleet = Fleet(tmp_path, str(tmp_path / "fleet.db"))
        yield fleet
        fleet.kill()
        return
    why = postgres.missing()
    if why:
        pytest.skip(why)
    server = postgres.Server()
    fleet = Fleet(tmp_path, server.database())
    yield fleet
    fleet.kill()
    server.close()


@pytest.mark.no_core
def test_the_store_has_each_change_once_however_often_the_playbook_is_killed(fleet):
    seed = random.randrange(1 << 32)
    print("seed %d" % seed)
    dice = random.Random(seed)
    fleet.run()
    usual = fleet.run()
    changing = Changing(fleet.folders)
    changing.start()
    ended = orphans = 0
    for number in range(KILLS):
        process = fleet.start()
        time.sleep(usual * (dice.random() if number % 4 == 0 else 0.3 + 0.7 * dice.random()))
        ended += process.poll() is not None
        if dice.random() < 0.5:
            fleet.kill()
        else:  # its workers live on, and find out
            orphans += 1
            process.kill()
        process.wait()
        if number % 10 == 9:
            fleet.wait()
            usual = max(usual, fleet.run())
    changing.over.set()
    changing.join()
    fleet.wait()
    fleet.run()
    for host in HOSTS:
        assert fleet.found("ConfigurationChange", host) == changing.made
        assert fleet.found("ConfigurationData", host) == changing.made
    with open_store(fleet.store) as store:
        assert store.query("SELECT count(DISTINCT RecordId) FROM ConfigurationChange") == [
            (len(changing.made) * len(HOSTS),)
        ]
        assert store.query("SELECT DISTINCT ChangeCategory FROM ConfigurationChange") == [("Added",)]
        if store.is_file:
            assert store.query("PRAGMA integrity_check") == [("ok",)]
    print("%d kills, %d of runs that had ended, %d with workers that lived on; %d changes of each host" % (
        KILLS, ended, orphans, len(changing.made),
    ))  # fmt: skip
