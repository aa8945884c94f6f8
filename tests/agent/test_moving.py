# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host moves from the relay to the Azure Monitor Agent (AMA) and back, and no record is lost or sent twice."""

import time

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.agent_process import SETTINGS
from ansible_collections.changetracking.inventory.tests.helpers.fake_ama import FakeAma
from ansible_collections.changetracking.inventory.tests.helpers.program import wait_for

CHANGES = "dcr-%s:CTDataSource-Linux:CONFIG_CHANGE_BLOB_V2"


@pytest.fixture
def ama(host, programs):
    (host.folder / "ama").mkdir()
    ama = FakeAma(programs / "agent.pyz", host.folder / "ama", host.relay.sockets)
    yield ama
    ama.end()


def settings(host):
    """The same as the relay hands out."""
    items = [{"name": "tracked", "destinationPath": str(host.tracked) + "/*"}]
    return dict(SETTINGS, fileSettings={"fileCollectionFrequency": 1, "fileInfo": items})


def of_relay(host):
    return host.relay.rows("SELECT FileSystemPath, RecordId, Stream FROM ConfigurationChange")


def of_ama(ama):
    found = [
        (record["FileSystemPath"], record["RecordId"], tag)
        for tag, record in ama.records()
        if "ConfigChangeType" in record
    ]
    return sorted(found)


def wait(found, names):
    """Until the changes of these files are there."""
    wait_for(lambda: set(names) <= {path.rpartition("/")[2] for path, _id, _tag in found()}, found)


def test_from_the_relay_to_ama_and_back(host, ama):
    host.relay.start()
    host.start("--acks", "auto")
    host.expect("baseline of 0 items")
    host.write("1")
    wait(lambda: of_relay(host), ["1"])

    assert host.relay.stop() == 0
    host.write("2")
    host.expect("The next attempt is in")
    ama.start()  # has no rule yet, as after its installation: the agent ends collecting, and keeps what it knows
    host.expect("no rule")
    host.write("3")
    ama.associate("ama", "second", settings=settings(host))
    wait(lambda: of_ama(ama), ["2", "3"])
    host.write("4")
    wait(lambda: of_ama(ama), ["4"])

    assert ama.stop() == 0
    host.write("5")
    host.expect("The next attempt is in")
    host.relay.start()
    wait(lambda: of_relay(host), ["5"])
    host.write("6")
    wait(lambda: of_relay(host), ["6"])
    assert host.stop() == 0

    relayed, sent = of_relay(host), of_ama(ama)
    assert sorted(path[-1] for path, _id, _tag in relayed) == ["1", "5", "6"]
    assert {tag for _path, _id, tag in relayed} == {CHANGES % "1"}
    assert sorted((path[-1], tag) for path, _id, tag in sent) == [
        (name, CHANGES % dcr) for name in "234" for dcr in ("ama", "second")
    ]
    ids = [one for _path, one, tag in [*relayed, *sent] if tag != CHANGES % "second"]
    assert len(set(ids)) == len(ids) == 6
    data = [record for _tag, record in ama.records() if "ConfigDataType" in record]
    assert data == []  # the inventory went to the relay, and is not due yet


def test_moving_while_much_changes_loses_nothing_and_sends_nothing_twice(host, ama):
    host.relay.start()
    host.start("--acks", "auto")
    host.expect("baseline of 0 items")
    ama.associate("1", settings=settings(host))  # the same rule, at both
    written = 0
    for receiver in (host.relay, ama, host.relay, ama):
        if written:
            receiver.start()
            host.expect("delivered")
        for _number in range(30):
            host.write("file%d" % written)
            written += 1
            time.sleep(0.05)
        assert receiver.stop() == 0
    host.relay.start()
    host.write("last")
    wait(lambda: of_relay(host), ["last"])
    assert host.stop() == 0
    found = [*of_relay(host), *of_ama(ama)]
    assert len(found) == len({one for _path, one, _tag in found}) == len({path for path, _id, _tag in found}) == 121
    assert of_ama(ama) and {tag for _path, _id, tag in found} == {CHANGES % "1"}


def test_a_receiver_that_takes_the_place_of_another_gets_the_tags_of_its_own_rule(host, ama):
    """Though the next check of the rule is due in an hour."""
    host.relay.start()
    host.start("--acks", "auto", "--refresh", "3600")
    host.expect("baseline of 0 items")
    host.write("1")
    wait(lambda: of_relay(host), ["1"])
    assert host.relay.stop() == 0
    ama.associate("ama", settings=settings(host))
    ama.start()
    host.write("2")
    wait(lambda: of_ama(ama), ["2"])
    assert ama.stop() == 0
    host.relay.start()
    host.write("3")
    wait(lambda: of_relay(host), ["3"])
    assert host.stop() == 0
    assert {tag for _path, _id, tag in of_ama(ama)} == {CHANGES % "ama"}
    assert [(path[-1], tag) for path, _id, tag in sorted(of_relay(host))] == [
        ("1", CHANGES % "1"),
        ("3", CHANGES % "1"),
    ]
