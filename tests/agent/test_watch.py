# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`agent.pyz watch` prints each change once, as it is stored, and leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE, Program


@pytest.fixture
def watched(host):
    """A host whose agent has its baseline, and a function that starts a watcher."""
    host.write("a")
    host.relay.start()
    host.start()
    host.expect("1 record was delivered")
    watchers = []

    def start(*options, program=()):
        watcher = Program(host.zipapp)
        watchers.append(watcher)
        python, *command = host.command("watch", *options)
        watcher.launch([python, *program, *command], "Waiting for changes", stdout=subprocess.PIPE)
        return watcher

    yield host, start
    for watcher in watchers:
        watcher.end()


def ended(watcher):
    """The exit status, and what it printed since."""
    printed = watcher.process.stdout.read()
    return watcher.process.wait(PATIENCE), printed


def test_each_change_is_printed_once_and_in_order(watched):
    host, start = watched
    lines, records = start(), start("--json")
    for name in ("b", "c", "d"):
        host.write(name)
        line = lines.process.stdout.readline()
        assert line.split("  ")[1:3] == ["Added", "Files"] and line.rstrip("\n").endswith("/tracked/" + name)
        assert json.loads(records.process.stdout.readline())["FileSystemPath"] == str(host.tracked / name)
    for watcher in (lines, records):
        watcher.process.send_signal(signal.SIGINT)
        assert ended(watcher) == (0, "")
        assert watcher.log == ["Waiting for changes. Ctrl-C ends it."]


def test_no_name_steers_the_terminal(watched):
    host, start = watched
    watcher = start()
    host.write("b\x1b[2J\n\u202ec")
    line = watcher.process.stdout.readline().rstrip("\n")
    assert line.endswith("b\\x1b[2J\\x0a\\u202ec") and line.isprintable()


def test_it_goes_on_with_a_new_state(watched):
    host, start = watched
    watcher = start()
    host.write("b")
    assert "/b" in watcher.process.stdout.readline()
    host.stop()
    for path in host.state.iterdir():
        path.unlink()
    host.start()
    host.expect("baseline of 2 items")
    host.write("c")
    assert "/c" in watcher.process.stdout.readline()
    watcher.expect("^There is a new state. All of its changes follow.$")


def test_it_goes_on_when_the_state_directory_is_made_again(watched):
    host, start = watched
    watcher = start()
    host.stop()
    os.rename(str(host.state), str(host.folder / "old"))
    host.start()
    host.expect("baseline of 1 item")
    host.write("b")
    assert "/b" in watcher.process.stdout.readline()


def test_it_ends_when_nobody_reads_it(watched):
    _host, start = watched
    watcher = start()
    watcher.process.stdout.close()
    assert watcher.process.wait(PATIENCE) == 0
    assert watcher.log == ["Waiting for changes. Ctrl-C ends it."]


IMPATIENT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from _cti.agent import watch
from _cti.agent.program import main
watch.LOOK_SECONDS = watch.POLL_SECONDS = watch.ABSENT_SECONDS = 0.1
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("is_removed", [False, True])
def test_it_ends_when_there_is_no_agent_any_more(watched, is_removed):
    host, start = watched
    watcher = start(program=["-c", IMPATIENT])  # which gives an agent that restarts no time
    host.write("b")
    assert "/b" in watcher.process.stdout.readline()
    host.kill()
    if is_removed:
        shutil.rmtree(str(host.state))
    said = watcher.expect("^agent: .* Then watch again.$").group()
    assert str(host.state) in said and ("Deploy it" if is_removed else "systemctl start ctagent") in said
    assert watcher.process.wait(PATIENCE) == 1


def test_it_leaves_no_files(watched):
    host, start = watched
    host.stop()
    before = sorted(os.listdir(str(host.state)))
    watcher = start()
    assert sorted(os.listdir(str(host.state))) == before
    watcher.process.send_signal(signal.SIGINT)
    assert ended(watcher) == (0, "")
    assert sorted(os.listdir(str(host.state))) == before


def test_without_a_state_it_says_so(host):
    code, output = host.run("watch")
    assert code == 1 and output.startswith("agent: ") and "--state" in output
