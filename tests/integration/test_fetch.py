# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each operator gets each change once, whatever breaks between the host and the files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

MODULE = "changetracking.inventory.ct_inventory_fetch"
# As an interpreter of the host: the module runs, and its result is lost.
LOSES = '#!/bin/sh\n%s "$@" > /dev/null\nexit 1\n'
# The same, and says so, and does not return before the test is over.
HANGS = '#!/bin/sh\n{python} "$@" > /dev/null\ntouch {ran}\nuntil [ -e {over} ]; do sleep 0.1; done\n'
# Runs the module, and returns its result when the test says so.
WAITS = '#!/bin/sh\n{python} "$@" > {ran}.out\ntouch {ran}\nuntil [ -e {over} ]; do sleep 0.1; done\ncat {ran}.out\n'


def descendants(pid):
    """The processes that a process has started, and those that these have."""
    try:
        children = [
            int(child) for path in Path("/proc/%d/task" % pid).glob("*/children") for child in path.read_text().split()
        ]
    except OSError:
        return []
    return [one for child in children for one in (child, *descendants(child))]


def runs(pid):
    try:
        return Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Fleet:
    """One host with a folder that is tracked, and operators with a folder each."""

    def __init__(self, folder):
        self.folder = folder
        self.tracked = folder / "tracked"
        self.tracked.mkdir()
        self.settings = {"fileInfo": [{"name": "r", "destinationPath": str(self.tracked / "*")}]}
        extension = {"id": "x", "extensionSettings": {"fileSettings": self.settings}}
        self.rule = {"extensionConfigurations": {"ChangeTracking-Linux": [extension]}}

    def start(self, operator, interpreter=sys.executable, **more):
        dest = str(self.folder / operator)
        arguments = dict(
            {"dest": dest, "kinds": ["files"], "state": str(self.folder / "s.db"), "dcr": self.rule}, **more
        )
        command = ["ansible", "-i", "h1,", "-c", "local", "-e", "ansible_python_interpreter=%s" % interpreter]
        return subprocess.Popen(
            [*command, "h1", "-m", MODULE, "-a", json.dumps(arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, start_new_session=True,
        )  # fmt: skip

    def fetch(self, operator, interpreter=sys.executable, **more):
        """Whether it succeeded."""
        process = self.start(operator, interpreter, **more)
        self.output = process.communicate()[0]
        return process.returncode == 0

    def script(self, text):
        path = self.folder / "interpreter"
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def changes(self, operator):
        rows = json.loads((self.folder / operator / "h1" / "Changes.json").read_text())
        return [os.path.basename(row["FileSystemPath"]) for row in rows]


@pytest.fixture
def fleet(tmp_path):
    yield Fleet(tmp_path)
    (tmp_path / "over").touch()


@pytest.mark.no_core
def test_no_change_is_lost_or_fetched_twice_whatever_breaks(fleet):
    for operator in ("one", "two"):
        assert fleet.fetch(operator), fleet.output
        assert fleet.changes(operator) == []

    (fleet.tracked / "a").write_text("")  # found by a run whose result is lost
    assert not fleet.fetch("one", fleet.script(LOSES % sys.executable))

    (fleet.tracked / "b").write_text("")  # found by a run that is killed
    ran = fleet.folder / "ran"
    process = fleet.start("one", fleet.script(HANGS.format(python=sys.executable, ran=ran, over=fleet.folder / "over")))
    while not ran.exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    (fleet.tracked / "c").write_text("")  # found by a run that cannot write it down
    (fleet.folder / "two").rename(fleet.folder / "aside")
    (fleet.folder / "two").write_text("in the way")
    assert not fleet.fetch("two") and "fetches the same changes again" in fleet.output

    assert fleet.fetch("one"), fleet.output
    assert fleet.changes("one") == ["a", "b", "c"]
    (fleet.folder / "two").unlink()
    (fleet.folder / "aside").rename(fleet.folder / "two")
    (fleet.tracked / "d").write_text("")
    assert fleet.fetch("two"), fleet.output
    assert fleet.changes("two") == ["a", "b", "c", "d"]
    assert fleet.fetch("one"), fleet.output
    assert fleet.changes("one") == ["d"]


@pytest.mark.no_core
def test_the_worker_of_a_killed_playbook_writes_nothing(fleet):
    """It lives on until the host answers, and nobody sees what it returns."""
    assert fleet.fetch("one"), fleet.output
    before = {path.name: path.read_bytes() for path in (fleet.folder / "one" / "h1").iterdir()}
    (fleet.tracked / "a").write_text("")
    ran, over = fleet.folder / "ran", fleet.folder / "over"
    process = fleet.start("one", fleet.script(WAITS.format(python=sys.executable, ran=ran, over=over)))
    while not ran.exists():
        assert process.poll() is None
        time.sleep(0.05)
    workers = descendants(process.pid)
    assert workers
    process.kill()
    process.wait()
    over.touch()
    while any(runs(pid) for pid in workers):
        time.sleep(0.05)
    process.stdout.close()
    assert {path.name: path.read_bytes() for path in (fleet.folder / "one" / "h1").iterdir()} == before
    assert fleet.fetch("one"), fleet.output
    assert fleet.changes("one") == ["a"]


@pytest.mark.no_core
def test_another_state_of_the_host_is_named_and_leaves_no_changes_of_the_first(fleet):
    assert fleet.fetch("one")
    (fleet.tracked / "a").write_text("")
    assert fleet.fetch("one") and fleet.changes("one") == ["a"]
    other = str(fleet.folder / "other.db")
    assert fleet.fetch("one", state=other) and fleet.changes("one") == []
    warning = "this run used the state %s, the run before used %s" % (other, fleet.folder / "s.db")
    assert "".join(warning.split()) in "".join(fleet.output.split())  # it is broken where the terminal ends
    (fleet.tracked / "b").write_text("")
    assert fleet.fetch("one") and fleet.changes("one") == ["b"]


@pytest.fixture
def flood(fleet):
    """Two users' folders in the tracked one: one with 60,000 paths of nearly 4,096 bytes, one with 20,000 short names."""
    need_root("giving folders to a user")
    home = os.getcwd()
    short = fleet.tracked / "short"
    short.mkdir()
    os.chown(str(short), 54322, 54322)
    (short / "0").write_text("")
    for number in range(1, 20000):
        os.link(str(short / "0"), str(short / ("%x" % number)))
    os.mkdir(str(fleet.tracked / "user"))
    os.chdir(str(fleet.tracked / "user"))
    os.chown(".", 54321, 54321)
    for _depth in range((3700 - len(os.getcwd())) // 201):
        os.mkdir("p" * 200)
        os.chdir("p" * 200)
        os.chown(".", 54321, 54321)
    Path("0").write_text("")
    for number in range(1, 60000):
        os.link("0", "%x" % number)
    os.chdir(home)
    yield short
    shutil.rmtree(str(fleet.tracked / "user"))


@pytest.mark.no_core
def test_a_users_flood_of_files_and_changes_delays_nobody_elses(fleet, flood):
    fleet.settings["fileInfo"][0]["recurse"] = True
    (fleet.tracked / "root").write_text("")
    assert fleet.fetch("one"), fleet.output
    rows = json.loads((fleet.folder / "one" / "h1" / "File.json").read_text())
    left_out = [row["LeftOut"] for row in rows if "LeftOut" in row]
    assert len(rows) - 1 + sum(left_out) == 80001 and len(left_out) == 1 < left_out[0]
    paths = {row["FileSystemPath"] for row in rows}
    assert str(fleet.tracked / "root") in paths and str(flood / "4e1f") in paths
    said = " ".join(fleet.output.split())
    assert "%d of 60000 items in folders of uid=54321 left out" % left_out[0] in said

    shutil.rmtree(str(flood))
    (fleet.tracked / "root").write_text("changed")
    assert fleet.fetch("one"), fleet.output
    found = fleet.changes("one")
    assert found[0] == "root" and len(found) == 20001  # of several pages
    assert "are left for the next run" not in fleet.output and "history.place" not in fleet.output
