# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that the relay has acknowledged arrive in Log Analytics: through throttling, lost answers, outages and kills."""

import json
import random
import time

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.log_analytics import Azure, Workspace, error
from ansible_collections.changetracking.inventory.tests.helpers.program import wait_for

TAG = "CONFIG_CHANGE_BLOB_V2"
TABLE = "CTConfigurationChange_CL"


@pytest.fixture
def azure(tmp_path):
    azure = Azure(tmp_path)
    yield azure
    azure.web.close()


def records(first, count):
    common = {
        "ConfigChangeType": "Files",
        "ChangeCategory": "Modified",
        "TimeGenerated": "2026-01-09T08:00:01Z",
        "Computer": "web01",
    }
    return [(1, dict(common, RecordId="r-%d" % number, Size=str(number))) for number in range(first, first + count)]


def test_what_is_acknowledged_arrives_once_a_record_whatever_happens(relay, azure):
    """Throttled, with lost answers, while the relay is killed again and again."""
    chance = random.Random(5)
    busy = error(429, "RateLimit", **{"retry-after": "0"})
    faults = [busy, Workspace.LOST, error(503, "Busy"), None, None]
    azure.workspace.faults = lambda number, _rows: faults[number % len(faults)]
    sent = 0
    for _turn in range(6):
        relay.start(*azure.options(), upload=azure.where)
        with relay.sender() as sender:
            for _unused in range(5):
                assert sender.send(TAG, records(sent, 300))
                sent += 300
        time.sleep(chance.uniform(0, 0.6))
        relay.kill()
    relay.start(*azure.options(), upload=azure.where)
    wait_for(lambda: not any(sink["Rows"] for sink in relay.status()["Sinks"]), lambda: azure.workspace.statuses)
    expected = {"r-%d" % number for number in range(sent)}
    rows = azure.workspace.function(TABLE)
    assert {row["RecordId"] for row in rows} == expected and len(rows) == sent
    assert {(row["RecordId"], row["Size"]) for row in rows} == {("r-%d" % number, number) for number in range(sent)}
    assert {429, 503, "lost", 204} <= set(azure.workspace.statuses) <= {429, 503, "lost", 204}


def test_a_missing_role_is_named_and_the_records_wait_until_it_is_there(relay, azure):
    azure.workspace.faults = lambda _number, _rows: error(403, "OperationFailed", "no access")
    relay.start(*azure.options(), upload=azure.where)
    with relay.sender() as sender:
        sender.send(TAG, records(0, 5))
    line = relay.expect("Uploading LocalSink").string
    assert "Give it the role Monitoring Metrics Publisher on the rule. A new role may need 30 minutes." in line
    azure.workspace.faults = lambda _number, _rows: None
    wait_for(lambda: len(azure.workspace.ids) == 5)


def test_a_record_that_azure_refuses_is_set_aside_and_named_once_and_the_others_arrive(relay, azure):
    def faults(_number, rows):
        return error(400, "InvalidRecord", "oh") if any(row.get("Size") == 7 for row in rows) else None

    azure.workspace.faults = faults
    relay.start(*azure.options(), upload=azure.where)
    with relay.sender() as sender:
        sender.send(TAG, records(0, 300))
    wait_for(lambda: sum(sink["SetAside"] for sink in relay.status()["Sinks"]) == 1)
    assert azure.workspace.ids == {"r-%d" % number for number in range(300)} and azure.workspace.stored == 300
    (aside,) = [json.loads(text) for text in (relay.events / ".refused.jsonl").read_text().splitlines()]
    assert (aside["record"]["RecordId"], aside["reason"]) == ("r-7", "400, InvalidRecord, oh")
    (stub,) = [row for row in azure.workspace.rows[TABLE] if row["RecordId"] == "r-7"]
    assert stub["AdditionalColumns"] == {"Refused": "400, InvalidRecord, oh"}
    assert sum("was set aside" in line for line in relay.log) == 1


def test_nothing_that_the_relay_writes_has_its_secret_or_token(relay, azure):
    azure.workspace.token = "t0ken-of-the-application"
    azure.workspace.faults = lambda _number, _rows: error(401, "InvalidToken")
    relay.start(*azure.options(), upload=azure.where)
    with relay.sender() as sender:
        sender.send(TAG, records(0, 5))
    relay.expect("Uploading LocalSink")
    status = json.dumps(relay.status())
    relay.end()
    for text in (status, "\n".join(relay.log)):
        assert "s3cret" not in text and "t0ken" not in text
