# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor names the first failed check and every warning, and changes nothing."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import zlib

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import doctor, status
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.doctor import Link
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.lock import StateLock
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import address, sockets
from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE, wait_for

RULE = {"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "x", "extensionSettings": {}}]}}


@pytest.fixture
def running(host):
    """A host on which no check fails."""
    host.write("a")
    host.relay.start()
    host.start("--refresh", "1000")
    host.expect("1 record was delivered")
    return host


def found(host, *options):
    code, output = host.run("doctor", "--json", *options)
    report = json.loads(output)
    assert code == (0 if report["Ok"] else 1)
    assert (report["Broken"] is None) == report["Ok"]
    return report


def link(report, name):
    return next(link for link in report["Links"] if link["Name"] == name)


def test_where_all_links_hold_it_says_so_and_how_the_rule_was_read(running):
    report = found(running)
    assert report["Ok"], report
    assert link(report, "paths")["Details"] == ["%s/* is a shell pattern; 1 file" % running.tracked]
    code, text = running.run("doctor")
    assert code == 0 and text.splitlines()[-1] == report["Summary"]
    assert (
        report["Summary"]
        == doctor.as_data([Link(one["Name"], one["Status"], "") for one in report["Links"]])["Summary"]
    )


@pytest.mark.parametrize(
    ("statuses", "summary"),
    [
        (["ok", "ok", "ok"], "All checks passed."),
        (["ok", "warning", "ok"], "Checks passed, with 1 warning: state."),
        (["warning", "warning", "unknown"], "Checks passed, with 2 warnings: service, state; 1 unknown: microsoft."),
        (["ok", "ok", "unknown"], "Checks passed, with 1 unknown: microsoft."),
        (["ok", "broken", "warning"], "First failed check: state. state message state remedy"),
    ],
)
def test_the_summary_says_that_all_is_well_only_where_it_is(statuses, summary):
    names = ("service", "state", "microsoft")
    links = [Link(name, status, name + " message", name + " remedy") for name, status in zip(names, statuses)]
    report = doctor.as_data(links)
    assert report["Summary"] == list(doctor.lines(links))[-1] == summary
    assert report["Ok"] == ("broken" not in statuses)
    noted = [name for name, status in zip(names, statuses) if status in ("warning", "unknown")]
    assert report["Warnings"] == ["%s: %s message %s remedy" % (name, name, name) for name in noted]


def test_a_source_that_cannot_be_read_is_one_warning_without_the_counts_of_the_host(running):
    running.process.send_signal(signal.SIGSTOP)  # it would write its own status again
    status = json.loads((running.state / "status.json").read_text())
    status["Kinds"]["files"]["Failed"] = {"item": "Permission denied", "other": "It hangs."}
    (running.state / "status.json").write_text(json.dumps(status))
    report = found(running)
    assert report["Ok"] and report["Summary"].startswith("Checks passed, with 1 warning: files")
    warnings = [text for text in report["Warnings"] if text.startswith("files: ")]
    remedy = "Make it readable. Until then, none of its items is reported as removed."
    assert warnings == ["files: item: Permission denied. " + remedy, "files: other: It hangs. " + remedy]


def test_it_changes_nothing(running):
    running.stop()
    before = {path.name: path.read_bytes() for path in running.state.iterdir()}
    for command in ("doctor", "status"):
        running.run(command, "--json")
    running.run("show", "files")
    assert {path.name: path.read_bytes() for path in running.state.iterdir()} == before


def test_an_agent_that_does_not_run(running):
    running.stop()
    report = found(running)
    assert report["Broken"] == "service" and "systemctl start ctagent" in report["Remedy"]


def test_a_state_that_is_damaged(running):
    running.stop()
    (running.state / "changetracking.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    report = found(running)
    assert link(report, "state")["Status"] == "broken" and "is corrupt" in link(report, "state")["Message"]


def test_a_state_that_is_damaged_in_a_page_that_is_seldom_read(running):
    running.write("b" * 200, "x")
    running.expect("1 record was delivered")
    running.stop()
    database = running.state / "changetracking.db"
    with sqlite3.connect(str(database)) as db:
        ((page, size),) = db.execute(
            "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size() WHERE name = 'history'"
        ).fetchall()
    db.close()
    with open(str(database), "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    report = found(running)
    assert "is corrupt" in link(report, "state")["Message"]
    assert link(report, "state")["Status"] == "broken"


def test_no_rule_anywhere(running):
    os.unlink(str(running.relay.chunks / "one.json"))
    while running.relay.status()["Extensions"]:
        pass
    report = found(running)
    assert report["Broken"] == "rule" and "Associate a data collection rule" in report["Remedy"]
    assert link(report, "config socket")["Status"] == "warning"


def test_nobody_at_the_config_socket_and_no_rule_elsewhere(running):
    os.unlink(str(running.state / "dcr.json"))
    report = found(running, "--config-address", "/nowhere.socket")
    assert report["Broken"] == "config socket" and "azuremonitoragent" in report["Remedy"]


def test_nobody_at_the_config_socket_and_the_last_good_rule(running):
    report = found(running, "--config-address", "/nowhere.socket")
    assert report["Ok"] and link(report, "config socket")["Status"] == "warning"
    assert "the last good rule" in link(report, "rule")["Message"]


def test_nobody_at_the_receivers_address(running):
    report = found(running, "--address", "/nowhere.socket")
    assert report["Broken"] == "receiver" and "azuremonitoragent" in report["Remedy"]


def test_somebody_else_at_the_receivers_address(running):
    where = running.folder / "other.socket"
    running.users = ["65533"]
    with sockets.listen(address.parse(str(where))):
        report = found(running, "--address", str(where), "--config-address", "/nowhere.socket")
    assert report["Broken"] == "receiver" and "Nothing was sent" in report["Remedy"]


def test_a_rule_without_tags(running):
    (running.folder / "dcr.json").write_text(json.dumps(RULE))
    report = found(running, "--config-address", "")
    assert report["Broken"] == "streams" and "the ARM form names no tags" in report["Remedy"]


def test_a_rule_that_names_only_the_older_stream(running):
    chunk = {
        "id": "dcr-1:CTDataSource-Linux",
        "extensionSettings": {},
        "outputStreams": {"CONFIG_CHANGE_BLOB": "older"},
    }
    (running.folder / "dcr.json").write_text(json.dumps({"extensionConfigurations": {"ChangeTracking-Linux": [chunk]}}))
    report = found(running, "--config-address", "")
    assert report["Broken"] == "streams"
    assert "Add Microsoft-ConfigurationChangeV2 and Microsoft-ConfigurationData to the streams" in report["Remedy"]


def test_a_broken_rule(running):
    (running.folder / "dcr.json").write_text("{")
    report = found(running, "--config-address", "/nowhere.socket")
    assert report["Ok"] and "is not JSON" in "".join(link(report, "rule")["Details"])
    report = found(running, "--config-address", "")  # which the last good rule is from
    assert report["Broken"] == "rule" and "is not JSON" in report["Remedy"]


def test_a_rule_of_the_config_socket_that_cannot_be_used(running):
    os.unlink(str(running.state / "dcr.json"))
    running.relay.put_chunk("one.json", "1", settings={"fileSettings": "often"})
    wait_for(lambda: link(found(running), "config socket")["Status"] == "ok" and not found(running)["Ok"])
    report = found(running)
    assert report["Broken"] == "rule" and 'fileSettings is "often"' in report["Remedy"]


def test_a_collection_that_is_overdue(host):
    host.track(every=100000)
    host.relay.start()
    host.start("--refresh", "1000")
    host.expect("files: baseline")
    wait_for(lambda: host.status()["Kinds"])
    status = json.loads((host.state / "status.json").read_text())
    status["Kinds"]["files"]["CollectedAt"] = "2001-01-01T00:00:00Z"
    (host.state / "status.json").write_text(json.dumps(status))
    report = found(host)
    assert report["Broken"] == "files" and "overdue" in report["Remedy"]


def test_an_agent_that_may_not_read_every_file(running):
    running.stop()
    drop = ["setpriv", "--bounding-set", "-dac_read_search"] if os.geteuid() == 0 else []
    command = drop + running.command("doctor", "--json")
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=PATIENCE, check=False)
    privileges = link(json.loads(done.stdout.decode()), "privileges")
    assert privileges["Status"] == "warning" and "lacks CAP_DAC_READ_SEARCH" in privileges["Message"]


def examined(tmp_path, **options):
    options = AgentOptions(state=str(tmp_path), config_address="", chunks="", **options)
    return {link.name: link for link in doctor.examine(options)}


def test_an_agent_that_does_not_use_the_rule_that_is_there_is_no_agent_for_which_all_holds(tmp_path):
    (tmp_path / "rule.json").write_text(json.dumps(RULE))
    options = AgentOptions(state=str(tmp_path))
    lock = StateLock(str(tmp_path))  # as a running agent holds it
    status.Status(options).rule(None, [])
    rule = examined(tmp_path, dcr=str(tmp_path / "rule.json"))["rule"]
    assert rule.status == "broken" and "does not use the rule from" in rule.message
    assert "systemctl reload ctagent" in rule.remedy
    del lock


def test_that_microsofts_agent_runs_as_well_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "UNITS", str(tmp_path))
    assert examined(tmp_path)["microsoft"].status == "ok"
    os.symlink("c0ffee", str(tmp_path / "invocation:cxp.service"))
    assert "reported twice" in examined(tmp_path)["microsoft"].remedy
    monkeypatch.setattr(doctor, "UNITS", str(tmp_path / "nothing"))
    assert examined(tmp_path)["microsoft"].status == "unknown"


def test_selinux_is_suspected_only_where_something_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "SELINUX", str(tmp_path / "enforce"))
    (tmp_path / "enforce").write_text("1")
    assert "ausearch" in examined(tmp_path)["selinux"].remedy
    (tmp_path / "enforce").write_text("0")
    assert examined(tmp_path)["selinux"].status == "ok"


def test_a_full_outbox(running):
    noise = zlib.compress(json.dumps([{"noise": "x" * (1 << 20)}]).encode(), 0)  # as records lie there
    with sqlite3.connect(str(running.state / "changetracking.db")) as db:
        for _megabyte in range(65):
            db.execute("INSERT INTO outbox VALUES (NULL, 'unknown stream', 'files', 0, 1, ?)", (noise,))
    db.close()
    running.expect("fill the outbox")
    wait_for(lambda: running.status()["Kinds"]["files"]["Error"])  # it is logged first
    report = found(running)
    assert report["Broken"] == "files", report
    delivery = link(report, "delivery")
    assert delivery["Status"] == "broken" and "65 records wait" in delivery["Details"][0]
    assert not re.search("[0-9]+ records", report["Remedy"] + delivery["Message"])  # which differ from host to host


def test_a_receiver_that_takes_nothing(running):
    running.relay.stop()
    running.write("b")
    running.expect("The next attempt is in")
    report = found(running)
    assert report["Broken"] == "receiver"
    delivery = link(report, "delivery")
    assert delivery["Status"] == "broken" and delivery["Details"] == ["1 record waits"]
    assert "records" not in delivery["Message"]  # whose number would differ from host to host
