# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change starts a run of the agent. What no event announces, the schedule finds."""

import mmap
import os
import resource
import signal

import pytest

from ansible_collections.changetracking.inventory.tests.helpers import bolt

NEVER = 100000  # seconds, in which no scheduled run follows the first one


@pytest.fixture
def ready(host):
    """An agent whose first run is done, and whose next scheduled one no test sees."""
    host.track(every=NEVER, paths=[str(host.tracked) + "/"])
    host.relay.start()
    host.write("kept")
    host.start()
    host.expect("files: baseline of 1 item")
    host.expect("1 record was delivered")
    while "files" not in host.status()["Realtime"]:  # reported by a thread of its own
        pass
    return host


def realtime(host, kind="files"):
    return host.status()["Realtime"][kind]


def test_a_change_is_at_the_relay_without_waiting_for_the_schedule(ready):
    assert realtime(ready)["By"] == "inotify" and realtime(ready)["Watches"] > 0
    ready.write("new")
    ready.expect("files: 1 added")
    ready.expect("1 record was delivered")
    ready.write("kept", "other")
    ready.expect("files: 0 added, 0 removed, 1 modified")
    os.unlink(str(ready.tracked / "new"))
    ready.expect("files: 0 added, 1 removed")
    ready.expect("1 record was delivered")
    assert ready.arrived().changes() == [("Added", "new"), ("Modified", "kept"), ("Removed", "new")]
    while realtime(ready)["Changes"] < 3:
        pass
    assert realtime(ready)["Missed"] == 0
    assert "Real time, files: by inotify" in ready.run("status")[1]


def test_a_tree_that_is_made_at_once_and_moved_is_followed(ready):
    os.makedirs(str(ready.tracked / "a/b/c"))
    (ready.tracked / "a/b/c/deep").write_text("text")
    ready.expect("files: 1 added")
    os.rename(str(ready.tracked / "a"), str(ready.tracked / "z"))
    ready.expect("files: 1 added, 1 removed")
    (ready.tracked / "z/b/c/deep").write_text("other")
    ready.expect("files: 0 added, 0 removed, 1 modified")


def test_without_the_option_the_schedule_finds_a_change(host):
    host.track(every=1)
    host.relay.start()
    host.start("--realtime", "off")
    host.expect("baseline of 0 items")
    assert "Realtime" not in host.status()
    host.write("new")
    host.expect("files: 1 added")
    assert "Real time" not in host.run("status")[1]


def test_without_the_option_nothing_is_watched(host):
    host.track(every=NEVER)
    host.relay.start()
    host.start("--realtime", "off")
    host.expect("baseline of 0 items")
    assert not any("inotify" in link for link in open_files(host.process.pid))


def open_files(process):
    folder = "/proc/%d/fd/" % process
    found = []
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(folder + name))
        except FileNotFoundError:  # closed meanwhile
            pass
    return found


def test_a_burst_in_which_the_agent_is_killed_loses_nothing(ready):
    for number in range(200):
        ready.write("burst-%03d" % number)
    ready.process.send_signal(signal.SIGKILL)
    ready.process.wait()
    for number in range(200, 300):
        ready.write("burst-%03d" % number)
    ready.start()
    while len(set(ready.changes())) < 300:
        pass
    assert sorted(ready.arrived().changes()) == [("Added", "burst-%03d" % number) for number in range(300)]


def test_what_no_event_announces_is_found_by_the_schedule_and_counted(host):
    host.relay.start()
    outside = host.folder / "outside"
    outside.write_text("text")
    os.symlink(str(outside), str(host.tracked / "link"))
    host.write("mapped", "text")
    host.start()
    host.expect("baseline of 2 items")
    outside.write_text("other")
    host.expect("the scheduled run found 1 change that no event had announced")
    with open(str(host.tracked / "mapped"), "r+b") as file, mmap.mmap(file.fileno(), 4) as mapped:
        mapped[:4] = b"else"
        mapped.flush()
        host.expect("the scheduled run found 1 change that no event had announced")
    while realtime(host)["Missed"] < 2:
        pass
    assert sorted(host.arrived().changes()) == [("Modified", "link"), ("Modified", "mapped")]


def test_after_the_baseline_of_microsofts_agent_a_change_starts_a_run(host):
    host.track(every=NEVER)
    host.write("kept")
    database = host.folder / "microsoft.db"
    bolt.microsoft(database, [bolt.item(path) for path in sorted(host.tracked.iterdir())], at=1)
    host.relay.start()
    host.start("--baseline", str(database))
    host.expect("The baseline of files is what Microsoft")
    host.expect("Number of File received in this run: 1")
    host.write("new")
    host.expect("files: 1 added")


def test_a_new_rule_is_followed_without_waiting_for_the_schedule(ready):
    other = ready.folder / "other"
    (other / "deep").mkdir(parents=True)
    (other / "deep/first").write_text("text")
    ready.track(every=NEVER, paths=[str(ready.tracked) + "/", str(other) + "/*"])
    ready.expect("Not reported as changes of the host: 1 newly tracked item")
    (other / "second").write_text("text")
    ready.expect("files: 1 added")
    (other / "deep/first").write_text("other")
    ready.expect("files: 0 added, 0 removed, 1 modified")
    ready.track(every=NEVER, paths=[str(ready.tracked) + "/", str(other) + "/*"], recurse=False)
    ready.expect("1 no longer tracked")
    ready.track(every=NEVER, paths=[str(ready.tracked) + "/"])
    ready.expect("Number of File received in this run: 1$")
    (other / "third").write_text("text")
    ready.write("last")
    ready.expect("files: 1 added")


def test_a_run_that_failed_is_tried_again_when_the_state_can_be_written(ready):
    resource.prlimit(ready.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))  # the disk is full
    ready.write("new")
    ready.expect("files: Cannot write the state")
    resource.prlimit(ready.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ready.expect("files: 1 added")
