# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent that sends its records to Log Analytics itself."""

import sqlite3

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.packing import unpack
from ansible_collections.changetracking.inventory.tests.helpers.log_analytics import Azure, Workspace, error

CHANGES, DATA = "CTConfigurationChange_CL", "CTConfigurationData_CL"


@pytest.fixture
def azure(tmp_path):
    azure = Azure(tmp_path)
    yield azure
    azure.web.close()


def options(azure):
    return ["--address=" + azure.where, *azure.options()]


def paths(azure, table):
    return sorted(row["FileSystemPath"].rpartition("/")[2] for row in azure.workspace.function(table))


def test_inventory_and_changes_arrive_as_rows_whatever_azure_answers(host, azure):
    faults = [None, error(429, "RateLimit", **{"retry-after": "1"}), Workspace.LOST, None, error(503, "Busy")]
    azure.workspace.faults = lambda number, _rows: faults[number % len(faults)]
    host.write("kept", "one")
    host.write("gone")
    host.relay.start()
    host.start(*options(azure))
    host.expect("2 records were delivered")
    host.write("kept", "two")
    (host.tracked / "gone").unlink()
    host.write("new")
    host.expect("files: 1 added, 1 removed, 1 modified")
    host.expect("3 records were delivered")
    assert host.stop() == 0
    assert paths(azure, DATA) == ["gone", "kept"] and paths(azure, CHANGES) == ["gone", "kept", "new"]
    (row,) = [row for row in azure.workspace.function(CHANGES) if row["ChangeCategory"] == "Modified"]
    assert "FileContentChecksum" in row["FieldsChanged"] and row["Size"] == 3 and "AdditionalColumns" not in row


def test_azure_says_when_to_come_back(host, azure):
    azure.workspace.faults = lambda _number, _rows: error(429, "RateLimit", **{"retry-after": "77"})
    host.relay.start()
    host.write("a")
    host.start(*options(azure))
    assert host.expect(r"The next attempt is in (\d+) s").group(1) == "77"
    assert "429, RateLimit" in host.status()["Delivery"]["Error"]


def test_nothing_is_sent_before_that_time_though_more_is_collected(host, azure):
    azure.workspace.faults = lambda _number, _rows: error(429, "RateLimit", **{"retry-after": "3600"})
    host.relay.start()
    host.write("a")
    host.start(*options(azure))
    host.expect("The next attempt is in 3600 s")
    calls = azure.workspace.calls
    for name in ("b", "c"):
        host.write(name)
        host.expect("files: 1 added")
    for _run in range(2):
        host.expect("received in this run")
    assert azure.workspace.calls == calls and host.status()["Outbox"]["Records"] == 3


def test_a_record_that_azure_refuses_is_set_aside_and_holds_up_no_other(host, azure):
    def faults(_number, rows):
        return error(400, "InvalidRecord") if any("bad" in row.get("FileSystemPath", "") for row in rows) else None

    azure.workspace.faults = faults
    host.relay.start()
    for name in ("a", "bad", "c"):
        host.write(name)
    host.start(*options(azure))
    host.expect("1 record was refused by the receiver: 400, InvalidRecord. The table set_aside of the state")
    host.expect("2 records were delivered, 0 waiting")
    host.stop()
    assert len(azure.workspace.ids) == azure.workspace.stored == 3
    with sqlite3.connect(str(host.state / "changetracking.db")) as database:
        ((source, packed),) = database.execute("SELECT source, content FROM set_aside").fetchall()
    (record,) = unpack(packed)
    assert source == "outbox" and record["FileSystemPath"].endswith("/bad")


def test_the_doctor_says_whether_there_is_a_token_and_an_answer(host, azure):
    host.relay.start()
    host.start(*options(azure))
    host.expect("baseline")
    _code, text = host.run("doctor", *options(azure))
    assert "%s answers, and the identity has a token for it." % azure.where in text
    azure.secret.unlink()
    code, text = host.run("doctor", *options(azure))
    assert code == 1 and "First failed check: receiver. " in text and str(azure.secret) in text


def test_what_does_not_fit_is_one_sentence(host, azure):
    for given, sentence in (
        (["--address=azure:https://x"], "The option address is invalid: "),
        (["--address=" + azure.where, "--azure-identity=secret"], "azure_client_id is empty. Give it."),
    ):
        code, text = host.run("check", *given)
        assert code == 2 and sentence in text and text.count("\n") == 1


def test_a_host_whose_azure_is_away_delivers_when_it_is_back(host, azure):
    azure.web.close()
    host.relay.start()
    host.write("a")
    host.start(*options(azure))
    host.expect("No answer from https://localhost.*1 kept")
    assert host.stop() == 0
