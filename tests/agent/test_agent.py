# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent tracks arrives in the relay's tables, and what it is asked it answers."""

import fcntl
import json
import os
import signal
import sqlite3

import pytest

from ansible_collections.changetracking.inventory.tests.helpers import bolt
from ansible_collections.changetracking.inventory.tests.helpers.agent_process import SETTINGS
from ansible_collections.changetracking.inventory.tests.helpers.program import wait_for


def test_the_first_run_is_an_inventory_and_each_change_a_record(host):
    host.write("kept", "one")
    host.write("gone")
    host.relay.start()
    host.start()
    host.expect("2 records were delivered")
    host.write("kept", "two")
    os.unlink(str(host.tracked / "gone"))
    host.write("new")
    host.expect("files: 1 added, 1 removed, 1 modified")
    host.expect("3 records were delivered")
    assert host.stop() == 0
    host.arrived()
    assert host.inventory() == ["gone", "kept"]
    assert sorted(host.changes()) == [("Added", "new"), ("Modified", "kept"), ("Removed", "gone")]
    row = host.relay.rows(
        "SELECT FieldsChanged, FileContentChecksum <> PreviousFileContentChecksum, LastSnapshotAge >= 0, Stream"
        " FROM ConfigurationChange WHERE ChangeCategory = 'Modified'"
    )[0]
    assert "FileContentChecksum" in row[0] and row[1:] == (1, 1, "dcr-1:CTDataSource-Linux:CONFIG_CHANGE_BLOB_V2")


def test_nothing_that_happens_while_it_is_stopped_is_missed_or_told_twice(host):
    host.relay.start()
    host.start()
    host.expect("baseline of 0 items")
    host.stop()
    host.write("a")
    host.start()
    host.expect("1 record was delivered")
    host.stop()
    host.start()
    host.expect("Number of File received in this run: 1")
    host.stop()
    assert host.arrived().changes() == [("Added", "a")]


def test_once_collects_and_delivers_everything_and_ends(host):
    host.relay.start()
    host.write("a")
    assert host.run("once")[0] == 0
    host.write("b")
    code, log = host.run("once")
    assert code == 0 and "files: 1 added" in log
    assert host.arrived().changes() == [("Added", "b")]
    assert host.inventory() == ["a"]


def test_what_changed_since_microsofts_agent_is_reported_once(host):
    for name in ("kept", "changed", "gone"):
        host.write(name)
    database = host.folder / "microsoft.db"
    bolt.microsoft(database, [bolt.item(path) for path in sorted(host.tracked.iterdir())], at=1)
    host.write("changed", "other")
    os.unlink(str(host.tracked / "gone"))
    host.relay.start()
    with open(str(database), "rb") as file:  # as Microsoft's agent does
        fcntl.flock(file, fcntl.LOCK_EX)
        code, log = host.run("once", "--baseline", str(database))
    assert code == 0, log
    assert (
        "The baseline of files is what Microsoft's agent recorded in '%s' until 1970-01-01T00:00:01Z" % database in log
    )
    assert "files: 0 added, 1 removed, 1 modified" in log
    assert sorted(host.arrived().changes()) == [("Modified", "changed"), ("Removed", "gone")]
    assert host.inventory() == ["changed", "kept"]
    (age,) = host.relay.rows("SELECT DISTINCT LastSnapshotAge > 1000000 FROM ConfigurationChange")
    assert age == (1,)
    assert host.run("once", "--baseline", str(database))[0] == 0
    os.unlink(str(host.state / "changetracking.db"))  # a state that was lost is no reason to report it again
    assert host.run("once", "--baseline", str(database))[0] == 0
    assert len(host.arrived().changes()) == 2
    assert "microsoft" in host.run("doctor")[1] and "The baseline of files is what Microsoft" in host.run("doctor")[1]


def test_a_database_of_microsofts_agent_that_cannot_be_used_is_named_and_the_first_run_is_the_baseline(host):
    host.write("a")
    host.relay.start()
    code, log = host.run("once", "--baseline", str(host.folder / "none.db"))
    assert (
        code == 0 and "There is no database '%s/none.db'. The first run is the baseline of files." % host.folder in log
    )
    host.write("b")
    assert host.run("once", "--baseline", str(host.folder / "none.db"))[0] == 0
    assert host.arrived().changes() == [("Added", "b")] and host.inventory() == ["a"]


def test_once_without_a_receiver_keeps_what_it_found_and_says_so(host):
    host.relay.start()
    host.write("a")
    assert host.run("once")[0] == 0
    host.write("b")
    (host.folder / "dcr.json").write_bytes((host.state / "dcr.json").read_bytes())
    host.relay.stop()
    code, log = host.run("once")
    assert code == 1 and "1 kept" in log
    host.relay.start()
    assert host.run("once")[0] == 0
    assert host.arrived().changes() == [("Added", "b")]


def test_once_without_a_rule_says_what_to_do(host):
    code, log = host.run("once")
    assert code == 1
    assert "give --dcr FILE" in log.splitlines()[-1]


def test_packages_and_services_and_files_each_go_their_way(host):
    host.track(enableSoftware=True, enableServices=True)
    host.write("a")
    host.relay.start()
    assert host.run("once")[0] == 0
    kinds = dict(host.arrived().relay.rows("SELECT ConfigDataType, count(*) FROM ConfigurationData GROUP BY 1"))
    shown = {kind: len(host.run("show", kind)[1].splitlines()) for kind in ("packages", "services", "files")}
    assert shown == {"packages": kinds["Software"], "services": kinds["Daemons"], "files": kinds["Files"]}
    for name, kind in (("Packages.json", "packages"), ("Services.json", "services"), ("File.json", "files")):
        items = json.loads((host.state / name).read_text())
        assert len(items) == shown[kind]
        assert {item["ChangeType"] for item in items} == {"StartTracking"}


def test_the_item_files_tell_what_the_last_run_found(host):
    host.relay.start()
    host.write("a")
    host.write("b")
    host.run("once")
    host.write("b", "changed")
    host.write("c")
    host.run("once", "--item-files", str(host.folder))
    items = json.loads((host.folder / "File.json").read_text())
    told = {item["Name"]: item["ChangeType"] for item in items}
    assert told == {"a": "StartTracking", "b": "Modified", "c": "Added"}
    assert {item["Mode"] for item in items} == {os.stat(str(host.tracked / "a")).st_mode & 0o7777}


def test_show_tells_items_and_changes_for_people_and_for_programs(host):
    host.relay.start()
    host.write("a")
    host.run("once")
    host.write("odd\nname")
    host.run("once")
    code, text = host.run("show", "files")
    assert code == 0 and len(text.splitlines()) == 2 and "odd\\x0aname" in text
    lines = [json.loads(line) for line in host.run("show", "changes", "--json")[1].splitlines()]
    assert [(line["ChangeCategory"], line["FileSystemPath"][-8:]) for line in lines] == [("Added", "odd\nname")]
    assert "Added  Files" in host.run("show", "changes")[1]


def test_status_tells_how_it_fares(host):
    assert host.run("status")[1] == "No agent has used this state directory yet.\n"
    host.relay.start()
    host.write("a")
    host.start()
    host.expect("1 record was delivered")
    status = host.status()
    assert status["Running"] and status["Kinds"]["files"]["Count"] == 1 and status["Delivery"]["Records"] == 1
    assert status["Rule"]["Ids"] == ["dcr-1:CTDataSource-Linux"] and status["Outbox"]["Records"] == 0
    assert host.run("status")[0] == 0
    host.stop()
    code, text = host.run("status")
    assert code == 1 and "not running" in text


def test_an_agent_that_came_before_the_relay_finds_the_rule_long_before_its_next_look_is_due(host):
    host.write("a")
    host.start("--refresh", "100000")
    host.expect("There is no data collection rule yet")
    code, text = host.run("status")
    assert code == 1 and "Rule: none" in text
    host.relay.start()
    host.expect("Using the rule from")
    host.expect("1 record was delivered")
    while host.run("status")[0] != 0:
        pass


def test_a_withdrawn_rule_stays_withdrawn_when_the_relay_goes_and_the_agent_is_restarted(host):
    host.relay.start()
    host.start()
    host.expect("baseline")
    os.unlink(str(host.relay.chunks / "one.json"))
    host.expect("The data collection rule is withdrawn")
    host.relay.stop()
    host.stop()
    host.start()
    host.expect("There is no data collection rule yet")
    assert host.status()["Rule"]["Origin"] is None


def test_a_second_agent_on_the_same_state_is_refused(host):
    host.relay.start()
    host.start()
    for command in ("run", "once"):
        code, log = host.run(command)
        assert code == 1 and "Another agent runs with the state directory" in log


def test_who_looks_whether_an_agent_runs_keeps_none_from_starting(host):
    host.state.mkdir()
    lock = (host.state / "lock").resolve()
    with open(str(lock), "w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        host.start(wait=None)
        while not has_open(host.process, lock):
            assert host.process.poll() is None, host.log
    host.expect("The agent is ready")


def has_open(process, path):
    folder = "/proc/%d/fd" % process.pid
    try:
        return str(path) in [os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)]
    except FileNotFoundError:  # closed while we looked
        return False


def test_a_new_rule_holds_at_once_when_asked_for_and_what_changed_in_it_is_said(host):
    host.relay.start()
    host.start("--refresh", "1000")
    host.expect("baseline")
    other = host.folder / "other"
    other.mkdir()
    host.track(every=2, paths=[str(host.tracked) + "/*", str(other) + "/*"])
    wait_for(lambda: "other" in json.dumps(_answer(host)))
    host.process.send_signal(signal.SIGHUP)
    line = host.expect("Using the rule from .*").group()
    assert "files every 2 s instead of 1 s" in line and str(other) + "/* added" in line
    host.track(every=2, paths=[str(host.tracked) + "/*", str(other) + "/*"], recurse=False)
    wait_for(lambda: '"recurse": false' in json.dumps(_answer(host)))
    host.process.send_signal(signal.SIGHUP)
    line = host.expect("Using the rule from .*").group()
    assert line.count("/* tracked in another way") == 2 and " added" not in line and " removed" not in line


def test_a_rule_that_is_withdrawn_ends_the_collecting_and_one_that_comes_begins_it(host):
    host.relay.start()
    host.start()
    host.expect("baseline")
    os.unlink(str(host.relay.chunks / "one.json"))
    host.expect("The data collection rule is withdrawn")
    assert host.status()["Rule"]["Origin"] is None
    host.write("meanwhile")
    host.track()
    host.expect("Using the rule from")
    host.expect("files: 1 added")
    host.expect("1 record was delivered")
    assert host.arrived().changes() == [("Added", "meanwhile")]


def test_a_broken_rule_leaves_the_last_good_one_in_force(host):
    host.relay.start()
    host.start()
    host.expect("baseline")
    host.relay.put_chunk("one.json", "1", settings={"fileSettings": "soon"})
    host.expect('fileSettings is "soon", not an object')
    host.expect("Using the rule from the last good rule")
    host.write("a")
    host.expect("1 record was delivered")


def test_file_items_that_cannot_be_used_leave_the_last_good_ones_in_force(host):
    host.relay.start()
    host.write("a")
    host.start()
    host.expect("baseline of 1 item in")
    good = {"fileInfo": [{"destinationPath": str(host.tracked) + "/*"}]}
    for section in ({"fileinfo": good["fileInfo"]}, {"fileInfo": [{"destinationPath": "etc"}]}):
        host.relay.put_chunk("one.json", "1", settings=dict(SETTINGS, fileSettings=section))
        host.expect("set enableFiles to false")
        host.expect("Until then, 1 file item is used, from the last good rule")
        host.expect("Using the rule from .*1 file item[)]")
    host.write("b")
    host.expect("1 record was delivered")
    while len(json.loads((host.state / "File.json").read_text())) < 2:  # no run waits for it
        pass
    status = host.status()
    assert "No file item" in status["Rule"]["Warnings"][0] and status["Kinds"]["files"]["Count"] == 2
    assert "No file item" in host.run("status")[1] and "No file item" in host.run("doctor")[1]
    host.track()
    host.expect("Using the rule from")
    host.write("c")
    host.expect("1 record was delivered")
    assert host.arrived().changes() == [("Added", "b"), ("Added", "c")]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_kind_that_is_switched_off_reports_what_changed_before_and_leaves_no_item_file(host, restarted):
    host.relay.start()
    host.write("a")
    host.start("--refresh", "1000")
    host.expect("1 record was delivered")
    if restarted:
        host.stop()
    host.relay.put_chunk("one.json", "1", settings=dict(SETTINGS, enableFiles=False))
    host.write("b")
    while '"enableFiles": false' not in json.dumps(_answer(host)):
        pass
    if restarted:
        host.start("--refresh", "1000")
    else:
        host.process.send_signal(signal.SIGHUP)
    host.expect("The rule has switched off files. This run compared them for the last time.")
    host.expect("1 record was delivered")
    while (host.state / "File.json").exists():  # no run waits for that
        pass
    assert "files" not in host.status()["Kinds"]
    host.stop()
    host.write("c")
    assert host.run("once")[0] == 0 and host.run("status")[1].count("files") == 0
    host.track()
    while '"enableFiles"' in json.dumps(_answer(host)):
        pass
    code, log = host.run("once")
    assert code == 0 and "files: 1 added" in log and (host.state / "File.json").exists()
    assert host.arrived().changes() == [("Added", "b"), ("Added", "c")]


def test_several_rules_are_merged_and_each_gets_the_records(host):
    host.relay.put_chunk("one.json", "1", "2", settings={
        "enableSoftware": False, "enableServices": False,
        "fileSettings": {"fileInfo": [{"name": "x", "destinationPath": str(host.tracked) + "/*"}]},
    })  # fmt: skip
    host.write("a")
    host.relay.start(upload="jsonl:%s" % (host.folder / "records"))
    code, log = host.run("once")
    assert code == 0 and "2 rules are merged" in log
    host.arrived()
    files = sorted(path.name for path in (host.folder / "records").iterdir())
    assert files == ["dcr-%d:CTDataSource-Linux:CONFIG_DATA_BLOB_V2.jsonl" % number for number in (1, 2)]
    ids = {json.loads(path.read_text())["record"]["RecordId"] for path in (host.folder / "records").iterdir()}
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("options", "words", "status"),
    [
        (["--address", "nowhere"], "The option address is invalid: 'nowhere' is no address", 2),
        (["--acks", "perhaps"], "one of auto, require, off", 2),
        (["--refresh", "0"], "at least 1", 2),
        (["--config", "/nowhere.json"], "Cannot read the configuration '/nowhere.json'", 2),
        (["--state", "/proc/nowhere"], "cannot be used", 1),
        (["--state", ""], "The option state is empty", 2),
        (["--who-arguments"], "who_arguments needs the option who", 2),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(host, options, words, status):
    code, log = host.run("once", *options)
    assert code == status and words in log and len(log.splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [
        "{", "[]", '{"sate": "/x"}', '{"jitter": true}', '{"allow_users": "root"}', '{"jitter": -1}', '{"state": "state"}',
        '{"tls_ca": "ca.pem"}', '{"item_files": "~/items"}', '{"dcr": "./dcr.json"}',
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_refused_in_one_line(host, content):
    config = host.folder / "agent.json"
    config.write_text(content)
    code, log = host.run("once", "--config", str(config))
    assert code == 2 and len(log.splitlines()) == 1 and "Traceback" not in log


def test_the_configuration_file_holds_where_no_flag_overrides_it(host):
    config = host.folder / "agent.json"
    config.write_text(json.dumps({"state": "/proc/nowhere", "item_files": str(host.folder)}))
    host.relay.start()
    host.write("a")
    assert host.run("once", "--config", str(config))[0] == 0
    assert (host.folder / "File.json").exists()


def _answer(host):
    from ansible_collections.changetracking.inventory.plugins.module_utils._cti.ama.config import ask

    return ask(host.relay.address("config"), "ChangeTracking-Linux", [str(os.geteuid())])


def test_what_differs_in_a_text_arrives_with_its_change_and_is_forgotten_when_that_is_switched_off(host):
    item = {"name": "all", "destinationPath": str(host.tracked) + "/*", "uploadContent": True}
    files = {"fileCollectionFrequency": 1, "fileInfo": [item]}
    settings = {"enableSoftware": False, "enableServices": False, "fileSettings": files}
    host.relay.put_chunk("one.json", "1", settings=settings)
    host.folder.chmod(0o755)  # or not everybody could read what is in it
    host.tracked.chmod(0o755)
    host.relay.start()
    for text in ("old\n", "new\n"):
        host.write("open", text)
        (host.tracked / "open").chmod(0o644)
        host.write("secret", "password " + text)
        (host.tracked / "secret").chmod(0o600)
        code, log = host.run("once", "--contents")
        assert code == 0 and "The texts of 1 of 2 files are kept; left out are 1 not readable by everybody" in log
    told = dict(host.arrived().relay.rows("SELECT FileSystemPath, ContentDiff FROM ConfigurationChange"))
    assert told[str(host.tracked / "open")] == "--- before\n+++ after\n@@ -1 +1 @@\n-old\n+new\n"
    assert told[str(host.tracked / "secret")].startswith(
        "\\ No difference is shown: the file is not readable by everybody"
    )
    database = sqlite3.connect(str(host.state / "changetracking.db"))
    assert database.execute("SELECT count(*) FROM content").fetchone() == (1,)
    assert host.run("once")[0] == 0
    assert database.execute("SELECT count(*) FROM content").fetchone() == (0,)
    database.close()
