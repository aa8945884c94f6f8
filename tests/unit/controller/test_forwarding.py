# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ama_forward apart from the runs: what becomes a record, and when a receiver is bothered."""

import json
import os
import re
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.callback import ama_forward
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed import pack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import change_columns, data_columns
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import (
    CHANGE_STREAM,
    DATA_STREAM,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import forward, sockets
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.address import Address
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import Unpacker
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.tls import Tls
from ansible_collections.changetracking.inventory.plugins.plugin_utils._ama_forward import delivery as deliveries
from ansible_collections.changetracking.inventory.plugins.plugin_utils._ama_forward import parcel as parcels
from ansible_collections.changetracking.inventory.plugins.plugin_utils._ama_forward import results
from ansible_collections.changetracking.inventory.plugins.plugin_utils._ama_forward.delivery import Delivery, Receiver
from ansible_collections.changetracking.inventory.plugins.plugin_utils._ama_forward.parcel import Parcel
from ansible_collections.changetracking.inventory.plugins.plugin_utils._spool import MAX_LINE, Spool

PACKAGE = {"SoftwareName": "a", "CurrentVersion": "1", "Size": 5, "InstalledOn": None}
SUMMARY = {"count": 1, "collected_at": "2026-01-01T00:00:00Z", "sources": {}}
NAMES = st.sampled_from(
    [
        "ansible_facts",
        "ct_packages",
        "ct_files",
        "items",
        "sources",
        "inventory",
        "packages",
        "files",
        "changes",
        "packed",
    ]
    + [
        "collected_at",
        "count",
        "status",
        "message",
        "Computer",
        "SoftwareName",
        "FileSystemPath",
        "ConfigChangeType",
        "x",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


def told(module, data):
    """(records, refused) of a result of host h."""
    reading = results._read_data("h", module, data)
    lines = [parcels.line(parcel) for parcel in reading.parcels]
    return [record for line in lines for record in parcels.records(parcels.parse(line))], reading.refused


def facts(*rows, **more):
    return {"ansible_facts": {"ct_packages": dict(SUMMARY, items=list(rows), **more), "password": "x"}, "token": "x"}


def test_a_fact_becomes_a_record_of_what_it_has_in_columns():
    (record,), refused = told("ct_package_facts", facts(dict(PACKAGE, Password="x", SvcName="x")))
    assert record.pop("RecordId").endswith("-0")
    assert record == {
        "SoftwareName": "a", "CurrentVersion": "1", "Size": 5, "ConfigDataType": "Software", "Computer": "h",
        "TimeGenerated": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    assert refused == 0


@pytest.mark.parametrize("value", [{"a": "x"}, ["x"], 1.5, 1 << 63, "x" * 65537, b"x", object()])
def test_a_row_with_a_value_no_column_has_is_refused_and_counted(value):
    records, refused = told("ct_package_facts", facts(PACKAGE, {"SoftwareName": value}, {"Password": "x"}, 5))
    assert (len(records), refused) == (1, 3)


def test_an_inventory_names_its_machine_and_a_bad_name_counts_for_nothing():
    data = {"Computer": "web01", "SourceComputerId": "id", "VMUUID": None, "inventory": {"packages": SUMMARY}}
    data["packed"] = pack({"packages": [dict(PACKAGE, Password="x")], "files": [{"FileSystemPath": "/x"}]})
    (record,), _refused = told("ct_inventory_info", data)
    assert (record["Computer"], record["ReportedComputer"], record["SourceComputerId"]) == ("h", "web01", "id")
    assert record["SoftwareName"] == "a" and "Password" not in record and "VMUUID" not in record
    (record,), _refused = told("ct_inventory_info", dict(data, Computer={"secret": "x"}))
    assert record["Computer"] == "h" and "ReportedComputer" not in record


def test_an_inventory_without_items_or_with_far_too_many_is_no_trouble(monkeypatch):
    data = {"Computer": "web01", "inventory": {"packages": SUMMARY}, "packed": ""}
    assert told("ct_inventory_info", data) == ([], 0)
    monkeypatch.setattr(results, "MAX_PACKED", 10)
    assert told("ct_inventory_info", dict(data, packed="x" * 11)) == ([], 1)


def test_a_change_is_a_row_of_a_known_type():
    change = {
        "ConfigChangeType": "Daemons",
        "SvcName": "ssh",
        "Computer": "web01",
        "TimeGenerated": "now",
        "Secret": "x",
    }
    data = {"Computer": "web01", "inventory": {}, "changes": [change, {"ConfigChangeType": "Other"}, "x"]}
    (record,), _refused = told("ct_inventory_info", data)
    del record["RecordId"]
    assert record == {
        "ConfigChangeType": "Daemons",
        "SvcName": "ssh",
        "Computer": "h",
        "ReportedComputer": "web01",
        "TimeGenerated": "now",
    }


@given(st.sampled_from(sorted(results.MODULES)), st.dictionaries(NAMES, JSON))
def test_whatever_a_result_holds_only_flat_records_of_our_columns_come_of_it(module, data):
    allowed = {*data_columns(), *change_columns(), *parcels.STATUS_COLUMNS, "RecordId", "ReportedComputer"}
    reading = results._read_data("h", module, data)
    for parcel in reading.parcels:
        try:
            for record in parcels.records(parcels.parse(parcels.line(parcel))):
                assert set(record) <= allowed
                assert all(isinstance(value, (str, int)) for value in record.values())
        except ValueError as error:
            assert "This is not what ct_inventory_info returns as packed" in str(error)


def test_a_line_gives_the_same_records_every_time_and_no_two_lines_the_same():
    parcel = Parcel(DATA_STREAM, "packages", {"Computer": "h"}, [PACKAGE, PACKAGE])
    line = parcels.line(parcel)
    records = list(parcels.records(parcels.parse(line)))
    assert list(parcels.records(parcels.parse(line))) == records
    more = list(parcels.records(parcels.parse(parcels.line(parcel))))
    assert len({record["RecordId"] for record in records + more}) == 4


@pytest.mark.parametrize(
    "change",
    [{"stream": "x"}, {"kind": "x"}, {"rows": {}}, {"common": []}, {"packed": 5}, {"kinds": {"files": ["now"]}},
     {"kinds": {"files": ["now", "5"]}}, {"query": None}, {"identity": ""}, {"more": 1}],
)  # fmt: skip
def test_a_line_that_is_none_of_ours_is_refused(change):
    line = json.loads(parcels.line(Parcel(DATA_STREAM, "packages", {}, [PACKAGE])))
    with pytest.raises(ValueError):
        parcels.parse(json.dumps(dict(line, **change)).encode())


@given(st.binary())
def test_garbage_is_refused(raw):
    with pytest.raises(ValueError):
        parcels.parse(raw)


@pytest.mark.parametrize("raw", [b"[" * 100000, b'{"a":' * 100000, b"[]", b"null", b"9" * 10000, b""])
def test_what_would_overwhelm_a_parser_is_refused(raw):
    with pytest.raises(ValueError):
        parcels.parse(raw)


def test_what_an_edited_line_holds_beside_columns_is_not_sent():
    line = json.loads(parcels.line(Parcel(DATA_STREAM, "packages", {"Computer": "h"}, [PACKAGE])))
    line["rows"][0]["Password"] = line["common"]["Password"] = "x"
    line["rows"].append({"SoftwareName": ["x"]})
    (record,) = parcels.records(parcels.parse(json.dumps(line).encode()))
    assert "x" not in record.values()


@pytest.mark.parametrize("module", ["ct_package_facts", "ct_inventory_info"])
@given(secret=st.text(min_size=1) | st.sampled_from(["s3cret-Pa55", "a1:b2,c3;d4", "p'w\"9(x)z", "a.", "p\u00e4ss"]))
def test_no_part_of_a_message_is_sent_but_reasons_of_ours(module, secret):
    """The message may quote any part of the task's arguments, in any form."""
    source = {"status": "failed", "message": "1 path could not be read: %s (Permission denied)" % secret}
    summary = dict(SUMMARY, sources={secret: source, "dpkg": dict(source, message="got: " + secret)})
    kinds = {"packages": summary, "files": summary}
    facts = {"ct_" + kind: summary for kind in kinds}
    data = {"ansible_facts": facts, "inventory": kinds, "msg": "got: " + secret}
    parcels = results._read_data("h", module, data).parcels + results._trouble("h", module, data, "failed")
    rows = [row for parcel in parcels for row in parcel.rows]
    reasons = "|".join(map(re.escape, results.REASONS))
    ours = "[12] sources? could not be read(: (%s)(, (%s))*)?; the output of the run says more[.]" % (reasons, reasons)
    assert all(row["Message"] == results.FAILED or re.fullmatch(ours, row["Message"]) for row in rows)
    assert {row.get("Source", "") for row in rows} <= {"", *results.SOURCES}
    assert not any("Source" in row for row in rows if row.get("Kind") == "files")


def test_sources_that_a_rule_names_are_counted():
    sources = {"/%d" % number: {"status": "failed", "message": "x (No such file or directory)"} for number in range(3)}
    (parcel,) = results._failed_sources("h", "ct_file_facts", "files", {"sources": sources})
    (row,) = parcel.rows
    assert row["Message"] == "3 sources could not be read: No such file or directory; the output of the run says more."
    assert "Source" not in row


def test_rows_beyond_the_limits_are_refused_and_counted(monkeypatch):
    monkeypatch.setattr(results, "MAX_ROWS", 3)
    assert told("ct_package_facts", facts(*[PACKAGE] * 5))[1] == 2
    long = {"SoftwareName": "x" * 60000, "Publisher": "x" * 60000, "SoftwareDescription": "x" * 60000}
    assert told("ct_package_facts", facts(PACKAGE, long))[1] == 1


def test_no_parcel_is_larger_than_a_line_of_the_spool():
    change = {"ConfigChangeType": "Files", "FileSystemPath": "\u00e4" * 60000, "LinkTarget": "\u00e4" * 60000}
    reading = results._read_data("h", "ct_inventory_info", {"inventory": {}, "changes": [change] * 500})
    assert sum(parcel.total for parcel in reading.parcels) == 500
    assert max(len(parcels.line(parcel)) for parcel in reading.parcels) < MAX_LINE


def test_the_changes_of_a_fetch_are_in_what_it_packed():
    changes = [{"ConfigChangeType": "Files", "FileSystemPath": "/x", "RecordId": "own"}]
    data = {"Computer": "h", "inventory": {"files": SUMMARY}, "packed": pack({"changes": changes})}
    (record,), _refused = told("ct_inventory_fetch", data)
    assert (record["FileSystemPath"], record["RecordId"], record["Computer"]) == ("/x", "own", "h")
    assert told("ct_inventory_fetch", dict(data, packed="damaged")) == ([], 1)
    assert told("ct_inventory_info", data) == ([], 0)


def test_a_change_that_two_tasks_return_is_taken_once():
    reader = results.Reader()
    rows = [{"RecordId": "1"}, {"RecordId": "2"}, {"ConfigChangeType": "Files"}]
    parcel = Parcel(CHANGE_STREAM, "files", {"Computer": "h"}, rows)
    assert [len(new.rows) for _time in range(2) for new in reader._unseen("h", parcel)] == [3, 1]
    assert [len(new.rows) for new in reader._unseen("other", parcel)] == [3]


def test_a_record_id_that_is_replaced_takes_no_memory():
    reader = results.Reader()
    rows = [{"RecordId": character * 60000} for character in "abc"]
    (parcel,) = reader._unseen("h", Parcel(CHANGE_STREAM, "files", {}, [*rows, {"RecordId": "good"}]))
    assert len(parcel.rows) == 4 and reader._ids == {"h": {"good"}}


@pytest.mark.parametrize("identity", ["", "x" * 129, 5, True])
def test_a_record_id_is_a_short_text(identity):
    parcel = Parcel(CHANGE_STREAM, "files", {}, [{"ConfigChangeType": "Files", "RecordId": identity}], identity="i")
    assert [record["RecordId"] for record in parcels.records(parcel)] == ["i-0"]


# --- delivery


class Counting:
    """A receiver at a socket file that counts connections, and acknowledges unless it stalls."""

    def __init__(self, path, stalls=False):
        self.address = Address("file", str(path))
        self.records = []
        self.connections = 0
        self._stalls = stalls
        self._open = []
        self._listener = sockets.listen(self.address)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)

    def _serve(self):
        try:
            while True:
                sock = self._listener.accept()[0]
                self.connections += 1
                self._open.append(sock)
                if not self._stalls:
                    self._read(sock)
        except OSError:
            pass

    def _read(self, sock):
        unpacker = Unpacker()
        for data in iter(lambda: sock.recv(65536), b""):
            unpacker.feed(data)
            for value in unpacker:
                batch = forward.decode(value)
                self.records += [(batch.tag, record) for _time, record in batch.entries]
                sock.sendall(forward.ack(batch.chunk))


class Clock:
    """The real one, which can be moved on."""

    moved = 0.0

    def __call__(self):
        return time.monotonic() + self.moved


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "spool"), 1 << 20, pytest.fail)
    assert spool.append(parcels.line(Parcel(DATA_STREAM, "packages", {"Computer": "h"}, [PACKAGE])), 1)
    return spool


def delivery(where, clock=time.monotonic, tag="data", acks="require"):
    given = {DATA_STREAM: tag, CHANGE_STREAM: "changes"} if tag else {}
    receiver = Receiver(where, where._replace(name="/nonexistent"), [str(os.geteuid())], given, acks, Tls())
    return Delivery(receiver, 10, clock)


@pytest.fixture
def listen(tmp_path):
    receivers = []

    def start(**options):
        receivers.append(Counting(tmp_path / "socket", **options))
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.close()


def test_a_receiver_that_stalls_is_given_one_chance_between_tasks_and_one_at_the_end(spool, listen):
    receiver = listen(stalls=True)
    clock = Clock()
    ours = delivery(receiver.address, clock)
    for _task in range(5):
        ours.between_tasks(spool)
        clock.moved += 100
    for _playbook in range(5):
        ours.at_the_end(spool)
    assert receiver.connections == 2
    assert "the receiver did not take and acknowledge the records" in ours.problem
    assert (ours.delivered, spool.records) == (0, 1)


def test_a_receiver_that_failed_is_left_alone_for_a_while_and_then_tried_again(spool, listen, tmp_path):
    clock = Clock()
    ours = delivery(Address("file", str(tmp_path / "socket")), clock)
    ours.between_tasks(spool)
    assert "no connection" in ours.problem
    receiver = listen()
    ours.between_tasks(spool)
    assert (receiver.connections, ours.delivered) == (0, 0)
    clock.moved += 2
    ours.between_tasks(spool)
    assert (receiver.connections, ours.delivered, ours.problem) == (1, 1, "")


def test_what_there_is_no_time_for_waits_and_the_next_run_goes_on(spool, listen):
    class Slow(Clock):
        def __call__(self):
            self.moved += 3
            return super().__call__()

    receiver = listen()
    spool.append(parcels.line(Parcel(DATA_STREAM, "packages", {}, [PACKAGE])), 1)
    ours = delivery(receiver.address, Slow())
    ours.at_the_end(spool)
    assert (ours.delivered, spool.records, ours.problem) == (1, 1, deliveries.NO_TIME)
    delivery(receiver.address).at_the_end(spool)
    assert (len(receiver.records), spool.records) == (2, 0)


def test_no_connection_outlives_an_attempt(spool, listen):
    receiver = listen()
    ours = delivery(receiver.address)
    ours.between_tasks(spool)
    spool.append(parcels.line(Parcel(CHANGE_STREAM, "files", {}, [{"ConfigChangeType": "Files"}])), 1)
    ours.at_the_end(spool)
    assert (receiver.connections, ours.delivered, spool.records) == (2, 2, 0)
    assert [tag for tag, _record in receiver.records] == ["data", "changes"]


def test_each_tag_of_a_stream_gets_every_record(spool, listen, monkeypatch):
    receiver = listen()
    ours = delivery(receiver.address, tag="")
    monkeypatch.setattr(ours, "_ask_for_tags", lambda: {DATA_STREAM: ("dcr-1", "dcr-2")})
    ours.at_the_end(spool)
    (first, one), (second, two) = receiver.records
    assert (first, second, ours.delivered) == ("dcr-1", "dcr-2", 1)
    assert one == two


def test_what_no_tag_is_known_for_waits(spool, listen):
    receiver = listen()
    ours = delivery(receiver.address, tag="")
    ours.at_the_end(spool)
    assert "/nonexistent: no connection" in ours.problem
    assert (receiver.connections, spool.records) == (0, 1)


def test_damaged_lines_are_counted_and_hold_up_nothing(spool, listen):
    bad = Parcel(DATA_STREAM, "", {}, [], "no base64", {"files": ["now", 7]})
    for line, records in ((b"garbage\n", 0), (parcels.line(bad), 7)):
        assert spool.append(line, records)
    ours = delivery(listen().address)
    ours.at_the_end(spool)
    assert (ours.delivered, ours.damaged, ours.dropped, spool.records) == (1, 2, 7, 0)
    assert ours.problem == ""


def test_a_query_chooses_as_jmespath_sees_truth(tmp_path, listen):
    pytest.importorskip("jmespath")
    spool = Spool(str(tmp_path / "spool"), 1 << 20, pytest.fail)
    queries = {
        "Size": 1,
        "`0`": 1,
        "SoftwareName": 1,
        "missing": 0,
        "Size > `5`": 0,
        "`[]`": 0,
        "''": 0,
        "`false`": 0,
        "abs(SoftwareName)": 0,
    }
    for query in queries:
        spool.append(
            parcels.line(Parcel(DATA_STREAM, "packages", {}, [dict(PACKAGE, SoftwareName=query)], query=query)), 1
        )
    receiver = listen()
    ours = delivery(receiver.address)
    ours.at_the_end(spool)
    assert [record["SoftwareName"] for _tag, record in receiver.records] == [
        query for query, sent in queries.items() if sent
    ]
    assert (ours.delivered, ours.left_out, spool.records) == (3, 6, 0)
    assert "does not work on all records" in ours.query_problem


def test_without_jmespath_a_query_is_refused_and_what_waits_for_one_stays(tmp_path, listen, monkeypatch):
    monkeypatch.setattr(deliveries, "jmespath", None)
    monkeypatch.setattr(ama_forward, "jmespath", None)
    with pytest.raises(ValueError, match="needs the Python package jmespath on the controller"):
        ama_forward.check_query("a")
    spool = Spool(str(tmp_path / "spool"), 1 << 20, pytest.fail)
    spool.append(parcels.line(Parcel(DATA_STREAM, "packages", {}, [PACKAGE], query="a")), 1)
    ours = delivery(listen().address)
    ours.at_the_end(spool)
    assert (ours.delivered, spool.records) == (0, 1)
    assert "Python package jmespath" in ours.problem


def test_kinds_are_chosen_in_every_form():
    def kept(parcel):
        return parcels.of_kinds(parcel, ["packages"])

    assert kept(Parcel(DATA_STREAM, "packages", {}, [PACKAGE])) and not kept(
        Parcel(DATA_STREAM, "files", {}, [PACKAGE])
    )
    assert kept(Parcel(DATA_STREAM, "", {}, [{"Status": "failed"}]))
    assert not kept(Parcel(DATA_STREAM, "", {}, [{"Status": "failed", "Kind": "files"}]))
    both = Parcel(DATA_STREAM, "", {}, [], "packed", {"packages": ["now", 2], "files": ["now", 3]})
    assert kept(both).total == 2 and not kept(both._replace(kinds={"files": ["now", 3]}))


def test_a_defect_of_ours_is_one_warning_and_no_exception(capsys):
    plugin = ama_forward.CallbackModule()
    for _time in range(2):
        plugin.v2_runner_on_ok(object())
    assert capsys.readouterr().err.count("v2_runner_on_ok failed (AttributeError") == 1


def test_every_kind_of_ours_is_a_fact_that_is_taken():
    assert {kind for kind in results.MODULES.values() if kind} == set(all_kinds())


def test_a_change_keeps_the_id_it_has_from_its_host_and_others_get_one():
    rows = [{"ConfigChangeType": "Files", "RecordId": "own"}, {"ConfigChangeType": "Files"}]
    parcel = parcels.parse(parcels.line(Parcel(CHANGE_STREAM, "files", {}, rows)))
    ids = [record["RecordId"] for record in parcels.records(parcel)]
    assert ids == ["own", parcel.identity + "-1"]


def test_what_the_host_has_forwarded_itself_is_not_sent_again():
    data = {"Computer": "web01", "inventory": {"files": {"count": 1}}, "changes": [{"ConfigChangeType": "Files"}]}
    assert [parcel.stream for parcel in results._read_data("web01", "ct_inventory_info", data).parcels] == [
        CHANGE_STREAM
    ]
    assert not results._read_data("web01", "ct_inventory_info", dict(data, forward={"delivered": 1})).parcels
