# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor names the first broken link, and changes nothing."""

import json
import os
import sqlite3

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.ama import address


@pytest.fixture
def running(host):
    """A host on which every link holds."""
    host.write("a")
    host.relay.start()
    host.start("--refresh", "1000")
    host.expect("1 records were delivered")
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
    assert link(report, "paths")["Details"] == ["%s/* is a shell pattern; 1 files" % running.tracked]
    code, text = running.run("doctor")
    assert code == 0 and text.splitlines()[-1] == "All links hold."


def test_it_changes_nothing(running):
    running.stop()
    before = {path.name: path.read_bytes() for path in running.state.iterdir()}
    (running.state / "dcr.json").unlink()
    running.run("doctor")
    after = {path.name: path.read_bytes() for path in running.state.iterdir()}
    del before["dcr.json"]
    assert {name: after.get(name) for name in before} == before and "dcr.json" not in after


def test_an_agent_that_does_not_run(running):
    running.stop()
    report = found(running)
    assert report["Broken"] == "service" and "systemctl start ctagent" in report["Remedy"]


def test_a_state_that_is_damaged(running):
    running.stop()
    (running.state / "changetracking.db").write_bytes(b"garbage" * 1000)
    report = found(running)
    assert link(report, "state")["Status"] == "broken" and "is damaged" in link(report, "state")["Message"]


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
    with address.listen(address.parse(str(where))):
        report = found(running, "--address", str(where), "--config-address", "")
    assert report["Broken"] == "receiver" and "nothing was sent" in report["Remedy"]


def test_a_rule_without_tags(running):
    (running.folder / "dcr.json").write_text(
        json.dumps({"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "x", "extensionSettings": {}}]}})
    )
    report = found(running, "--config-address", "")
    assert report["Broken"] == "streams" and "the ARM form names no tags" in report["Remedy"]


def test_a_broken_rule(running):
    (running.folder / "dcr.json").write_text("{")
    report = found(running, "--config-address", "")
    assert report["Ok"] and "is not JSON" in "".join(link(report, "rule")["Details"])
    os.unlink(str(running.state / "dcr.json"))
    assert found(running, "--config-address", "")["Broken"] == "rule"


def test_a_full_outbox(running):
    noise = os.urandom(1 << 20)
    with sqlite3.connect(str(running.state / "changetracking.db")) as db:
        for _megabyte in range(65):
            db.execute("INSERT INTO outbox VALUES (NULL, 'unknown stream', 'files', 0, 1, ?)", (noise,))
    db.close()
    running.expect("fill the outbox")
    assert found(running)["Broken"] == "files"
    delivery = link(found(running), "delivery")
    assert delivery["Status"] == "broken" and "65 records wait" in delivery["Message"]


def test_a_receiver_that_takes_nothing(running):
    running.relay.stop()
    running.write("b")
    running.expect("The next attempt is in")
    report = found(running)
    assert report["Broken"] == "receiver"
    assert link(report, "delivery")["Status"] == "broken"
