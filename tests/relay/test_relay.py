# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What those who use the relay rely on."""

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import records
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.ama import config
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import Package
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services.kind import Service
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import msgpack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.forward import flat
from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE
from ansible_collections.changetracking.inventory.tests.helpers.relay_process import EXTENSION, certificate, read_value

CHANGES = "dcr-1:CTDataSource-Linux:CONFIG_CHANGE_BLOB_V2"
DATA = "dcr-1:CTDataSource-Linux:CONFIG_DATA_BLOB_V2"
NOW = 1700000000


def send(relay, message):
    """Send one message that asks for an ack, and wait for that."""
    with relay.connect() as sock:
        sock.sendall(msgpack.pack(message))
        return read_value(sock)


def uploaded(relay):
    relay.expect(r"\) 0 rows$")


def test_the_configuration_of_one_dcr_is_handed_out(relay):
    relay.put_chunk("one.json", "1", settings={"enableFiles": True})
    relay.start()
    with relay.connect("config") as sock:
        document = config.request(sock, EXTENSION)
    assert [element["id"] for element in document["extensionConfigurations"]] == ["dcr-1:CTDataSource-Linux"]
    assert document["extensionConfigurations"][0]["extensionSettings"] == {"enableFiles": True}
    assert document["extensionConfigurations"][0]["outputStreams"]["CONFIG_DATA_BLOB_V2"] == DATA


def test_the_configuration_of_200_dcrs_is_handed_out(relay):
    items = [{"name": "item%d" % number, "destinationPath": "/etc/%d/*.conf" % number} for number in range(50)]
    for number in range(200):
        relay.put_chunk("%d.json" % number, "%03d" % number, settings={"fileSettings": {"fileInfo": items}})
    relay.start()
    with relay.connect("config") as sock:
        document = config.request(sock, EXTENSION)
    ids = [element["id"] for element in document["extensionConfigurations"]]
    assert len(ids) == 201 and ids == sorted(ids)


def test_an_extension_no_chunk_names_has_no_configuration(relay):
    relay.start()
    with relay.connect("config") as sock:
        assert config.request(sock, "Other") is None


def test_a_request_in_single_bytes_is_answered(relay):
    relay.start()
    request = msgpack.pack(json.dumps({"Request": "AgentTaggedData", "RequestId": "r", "Tag": EXTENSION}))
    with relay.connect("config") as sock:
        for byte in request:
            sock.sendall(bytes((byte,)))
        sock.shutdown(socket.SHUT_WR)
        reply = json.loads(b"".join(iter(lambda: sock.recv(65536), b"")).decode())
    assert (reply["Success"], reply["RequestId"]) == (True, "r")
    assert json.loads(reply["TaggedData"])["extensionName"] == EXTENSION


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"Request":"AgentTaggedData"}', '{"Request":"Reboot"}'])
def test_a_request_that_makes_no_sense_is_refused_with_a_reason(relay, text):
    relay.start()
    with relay.connect("config") as sock:
        sock.sendall(msgpack.pack(text))
        sock.shutdown(socket.SHUT_WR)
        reply = json.loads(b"".join(iter(lambda: sock.recv(65536), b"")).decode())
    assert reply["Success"] is False and reply["Description"].endswith(".")


def test_the_data_socket_is_there_as_long_as_a_chunk_names_the_extension(place):
    relay = place()
    relay.start()
    assert not os.path.exists(relay.address().name)
    relay.put_chunk("one.json", "1")
    relay.expect("Listening on .*/ChangeTracking-Linux.socket")
    relay.connect().close()
    os.unlink(str(relay.chunks / "one.json"))
    relay.expect("No config chunk names ChangeTracking-Linux any more")
    assert not os.path.exists(relay.address().name)


def event_time(code, data):
    return msgpack.ExtType(code, data)


ENTRY = [NOW, {"ConfigDataType": "Software", "RecordId": "a"}]
PACKED = msgpack.pack(ENTRY) + msgpack.pack([NOW, {"ConfigDataType": "Software", "RecordId": "b"}])
MODES = {
    "message": ([DATA, NOW, ENTRY[1], {"chunk": "c"}], 1),
    "forward": ([DATA, [ENTRY], {"chunk": "c"}], 1),
    "packed": ([DATA, PACKED, {"chunk": "c"}], 2),
    "compressed": ([DATA, gzip.compress(PACKED), {"chunk": "c", "compressed": "gzip"}], 2),
    "event time": ([DATA, event_time(0, NOW.to_bytes(4, "big") + b"\0\0\0\1"), ENTRY[1], {"chunk": "c"}], 1),
    "metadata": ([DATA, [[[event_time(0, NOW.to_bytes(4, "big") + b"\0\0\0\1"), {}], ENTRY[1]]], {"chunk": "c"}], 1),
    "timestamp": ([DATA, [[event_time(-1, NOW.to_bytes(4, "big")), ENTRY[1]]], {"chunk": "c"}], 1),
}


def test_heartbeats_are_taken_between_messages(relay):
    relay.start()
    with relay.connect() as sock:
        sock.sendall(b"\xc0\xc0" + msgpack.pack([DATA, [ENTRY], {"chunk": "1"}]) + b"\xc0")
        assert read_value(sock) == {"ack": "1"}
        sock.sendall(b"\xc0" + msgpack.pack([DATA, [ENTRY], {"chunk": "2"}]))
        assert read_value(sock) == {"ack": "2"}


@pytest.mark.parametrize("mode", sorted(MODES))
def test_every_mode_of_the_forward_protocol_is_taken_and_acknowledged(relay, mode):
    message, count = MODES[mode]
    relay.start()
    assert send(relay, message) == {"ack": "c"}
    uploaded(relay)
    rows = relay.rows("SELECT RecordId, Stream, TimeGenerated FROM ConfigurationData ORDER BY RecordId")
    assert rows == [("a", DATA, "2023-11-14T22:13:20Z"), ("b", DATA, "2023-11-14T22:13:20Z")][:count]


OLDER = {
    "DataType": "CONFIG_CHANGE_BLOB", "IPName": "changetracking", "DataItems": [
        {"Timestamp": "2016-03-15T19:02:38.577Z", "Computer": "HostName", "ConfigChangeType": "Software.Packages", "Collections": [
            {"CollectionName": "rsyslog", "CurrentVersion": "7.4.7", "IsInventorySnapshot": False, "Name": "rsyslog"}]}],
}  # fmt: skip


def test_the_older_stream_and_the_socket_for_diagnostics_take_records_of_any_form(relay):
    """None of them becomes a row of another table, and none is lost."""
    relay.start()
    older = DATA.replace("CONFIG_DATA_BLOB_V2", "CONFIG_CHANGE_BLOB")
    flat_form = dict(OLDER, json_DataItems=json.dumps(OLDER["DataItems"]))
    del flat_form["DataItems"]
    with relay.connect() as sock:
        sock.sendall(msgpack.pack([older, [[NOW, OLDER], [NOW, flat_form]], {"chunk": "c"}]))
        assert read_value(sock) == {"ack": "c"}
    with relay.connect("MaExtensionDiagnostics") as sock:
        sock.sendall(msgpack.pack(["MaExtensionDiagnostics", [[NOW, {"Level": "3", "Message": "m"}]], {"chunk": "d"}]))
        assert read_value(sock) == {"ack": "d"}
    found = []
    while len(found) < 3:
        found = relay.rows("SELECT Stream, AdditionalColumns FROM OtherRecords ORDER BY row")
    assert sorted((stream, json.dumps(json.loads(text), sort_keys=True)) for stream, text in found) == sorted(
        (stream, json.dumps(record, sort_keys=True))
        for stream, record in (
            (older, OLDER), (older, flat_form), ("MaExtensionDiagnostics", {"Level": "3", "Message": "m"}),
        )
    )  # fmt: skip
    assert relay.rows("SELECT count(*) FROM ConfigurationChange") == [(0,)]


def test_a_sender_that_wants_no_ack_gets_none_and_its_records_arrive(relay):
    relay.start()
    with relay.connect() as sock:
        sock.sendall(msgpack.pack([DATA, [ENTRY]]))
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    uploaded(relay)
    assert relay.rows("SELECT RecordId FROM ConfigurationData") == [("a",)]


def test_what_is_delivered_twice_is_in_the_tables_once(relay):
    relay.start()
    nameless = [NOW, {"ConfigChangeType": "Files", "FileSystemPath": "/etc/a"}]
    for chunk in ("1", "2"):
        send(relay, [DATA, [ENTRY, nameless, [NOW + 1, nameless[1]]], {"chunk": chunk}])
        uploaded(relay)
    assert relay.rows("SELECT count(*) FROM ConfigurationData") == [(1,)]
    assert relay.rows("SELECT count(*) FROM ConfigurationChange") == [(2,)]


def test_nothing_of_a_record_is_lost_for_want_of_a_column(relay):
    relay.start()
    record = {
        "ConfigDataType": "Files",
        "FileSystemPath": "/é",
        "Colour": "blue",
        "nested": {"a": [1, None]},
        "Stream": "s",
    }
    send(relay, [DATA, [[NOW, record], [NOW, {"anything": "else"}]], {"chunk": "1"}])
    uploaded(relay)
    assert relay.rows("SELECT FileSystemPath FROM ConfigurationData") == [("/é",)]
    (more,) = relay.rows("SELECT AdditionalColumns FROM ConfigurationData")[0]
    assert json.loads(more) == {"Colour": "blue", "nested": {"a": [1, None]}, "Stream": "s"}
    assert relay.rows("SELECT AdditionalColumns FROM OtherRecords") == [('{"anything": "else"}',)]


README = Path(__file__).parent.parent.parent / "roles" / "relay" / "README.md"


def test_the_documentations_queries_find_what_they_are_to_find(relay):
    up = Service("ssh", "", "loaded", "active", "running", "enabled", "multi-user.target", "/lib/ssh.service")
    down = up._replace(active_state="inactive", sub_state="dead")
    old = File("/etc/hosts", "aa", 10, "root", "root", 0o644, NOW, None, "file", "")
    new = old._replace(checksum="bb", size=12)
    nginx = Package("nginx", "amd64", "1.22", "", "", 1, None)
    kinds = all_kinds()
    changes = [
        records.change_record(kinds["services"], "Modified", up, down, ["SvcState"]),
        records.change_record(
            kinds["services"], "Modified", down._replace(name="cron"), up._replace(name="cron"), ["SvcState"]
        ),
        records.change_record(kinds["packages"], "Added", None, nginx, []),
        records.change_record(kinds["packages"], "Removed", nginx._replace(name="vim"), None, []),
        records.change_record(kinds["files"], "Modified", old, new, ["FileContentChecksum", "Size"]),
        records.change_record(kinds["files"], "Modified", old, old._replace(mode=0o600), ["Mode"]),
    ]
    relay.start()
    with relay.sender() as sender:
        machine = {"Computer": "web01", "TimeGenerated": timestamp(time.time())}
        rows = [dict(flat(change), RecordId=str(number), **machine) for number, change in enumerate(changes)]
        rows.append(dict(rows[0], RecordId="old", TimeGenerated=timestamp(time.time() - 2 * 86400)))
        assert sender.send(CHANGES, [(NOW, row) for row in rows])
    uploaded(relay)
    queries = re.findall("^SELECT .*;$", README.read_text(encoding="utf-8"), re.MULTILINE)
    found = [sorted(relay.rows(query.replace("SELECT *", "SELECT RecordId"))) for query in queries]
    everything = [(str(number),) for number in range(len(changes))] + [("old",)]
    assert found == [[("0",)], [("2",)], [("4",)], everything, []]
    assert relay.rows(
        "SELECT PreviousFileContentChecksum, FileContentChecksum, Size FROM ConfigurationChange WHERE RecordId = '4'"
    ) == [("aa", "bb", 12)]


def test_a_relay_can_upload_to_another_one(place):
    first, second = place(), place()
    for relay in (first, second):
        relay.put_chunk("one.json", "1")
    second.start()
    first.start(upload="forward:%s" % str(second.address()))
    assert send(first, [DATA, [ENTRY, [NOW, {"ConfigDataType": "Files"}]], {"chunk": "1"}])
    uploaded(second)
    assert len(second.rows("SELECT RecordId FROM ConfigurationData")) == 2


def test_a_relay_can_upload_to_another_one_over_tls_where_each_must_have_the_right_certificate(place):
    first, stranger, second = place(), place(), place()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for relay in (first, stranger, second):
        relay.put_chunk("one.json", "1")
    ours, theirs = certificate(first.folder, "ours"), certificate(first.folder, "theirs")
    second.start("--listen", "tls://localhost:%d" % port, "--tls-cert", ours, "--tls-ca", ours)
    upload = "forward:tls://localhost:%d" % port
    stranger.start("--tls-cert", theirs, "--tls-ca", ours, upload=upload)
    assert send(stranger, [DATA, [[NOW, {"ConfigDataType": "Software", "RecordId": "stranger"}]], {"chunk": "1"}])
    stranger.expect("Uploading LocalSink .* failed")
    first.start("--tls-cert", ours, "--tls-ca", ours, upload=upload)
    large = [[NOW, {"ConfigDataType": "Software", "RecordId": str(n), "text": "x" * 1000}] for n in range(3000)]
    assert send(first, [DATA, large, {"chunk": "1"}])
    uploaded(first)
    uploaded(second)
    while second.rows("SELECT count(*) FROM ConfigurationData") != [(3000,)]:
        uploaded(second)
    assert second.rows("SELECT count(*) FROM ConfigurationData WHERE RecordId = 'stranger'") == [(0,)]


def test_json_lines_hold_what_was_sent(relay):
    relay.start(upload="jsonl:%s" % (relay.folder / "out"))
    send(relay, [DATA, [ENTRY], {"chunk": "1"}])
    uploaded(relay)
    lines = (relay.folder / "out" / (DATA + ".jsonl")).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"tag": DATA, "time": NOW, "record": ENTRY[1]}]


def test_what_cannot_be_uploaded_is_kept_and_told_and_uploaded_later(relay):
    (relay.folder / "out").write_text("a file where a folder is to be")
    relay.start(upload="jsonl:%s" % (relay.folder / "out"))
    send(relay, [DATA, [ENTRY], {"chunk": "1"}])
    relay.expect("Uploading LocalSink %s failed: .*out.* The next attempt" % DATA)
    (sink,) = relay.status()["Sinks"]
    assert sink["Rows"] == 1 and sink["UploadError"]
    os.unlink(str(relay.folder / "out"))
    relay.expect("works again")
    assert os.path.getsize(str(relay.folder / "out" / (DATA + ".jsonl")))


def test_the_tables_are_there_as_soon_as_the_relay_is_ready(relay):
    relay.start()
    assert os.stat(str(relay.database)).st_mode & 0o777 == 0o600
    assert relay.rows("SELECT count(*) FROM ConfigurationChange") == [(0,)]


def test_a_database_that_cannot_be_made_at_the_start_is_told_and_made_later(relay):
    relay.database.mkdir()
    relay.start(wait=None)
    relay.expect(r"Cannot open the fleet store .*relay\.db. \(not a regular file\)\. .* Records are kept")
    relay.expect("The relay is ready")
    send(relay, [DATA, [ENTRY], {"chunk": "1"}])
    relay.expect("Uploading LocalSink %s failed" % DATA)
    relay.database.rmdir()
    relay.expect("works again")
    assert relay.rows("SELECT RecordId FROM ConfigurationData") == [("a",)]


def test_sigterm_ends_it_cleanly_and_the_next_one_goes_on(relay):
    relay.start("--interval", "1000")
    send(relay, [DATA, [[NOW, {"ConfigDataType": "Software", "RecordId": str(n)}] for n in range(7)], {"chunk": "1"}])
    assert relay.stop() == 0
    assert "The relay has stopped. 7 rows wait for the next start." in relay.log[-1]
    assert not os.path.exists(relay.address().name)
    relay.start()
    relay.expect("%s now has \\(actual count\\) 7 rows" % DATA)
    uploaded(relay)
    assert relay.rows("SELECT count(*) FROM ConfigurationData") == [(7,)]


def refused(relay, *options):
    command = [sys.executable, relay.zipapp, "run", "--chunks", str(relay.chunks), *options]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")
    (line,) = [line for line in ended.stderr.decode().splitlines() if line.startswith("relay: ")]
    assert "Traceback" not in ended.stderr.decode()
    return line


def test_a_second_relay_on_the_same_sockets_says_so_and_harms_nothing(relay, tmp_path):
    relay.start()
    line = refused(relay, "--events", str(tmp_path / "events"), "--sockets", str(relay.sockets))
    assert "another process listens there" in line
    assert send(relay, [DATA, [ENTRY], {"chunk": "1"}])


def test_a_second_relay_on_the_same_events_says_so(relay, tmp_path):
    relay.start()
    line = refused(relay, "--events", str(relay.events), "--sockets", str(tmp_path / "s"))
    assert "Another relay uses the events directory" in line


def test_what_it_cannot_start_with_is_one_sentence(relay, tmp_path):
    (tmp_path / "file").write_text("")
    sockets = ("--sockets", str(relay.folder / "t"))
    assert "cannot be used" in refused(relay, "--events", str(tmp_path / "file" / "events"), *sockets)
    assert "is no destination" in refused(relay, "--events", str(tmp_path / "e"), "--upload", "ftp:x", *sockets)
    assert "config chunks" in refused(relay, "--chunks", "/nonexistent", "--events", str(tmp_path / "e"), *sockets)


def test_a_user_who_is_gone_is_named_and_does_not_keep_the_relay_from_starting(relay):
    relay.start("--allow-user", "no-such-user", wait="The user 'no-such-user' in --allow-user does not exist")
    assert relay.expect("The relay is ready")
    assert send(relay, [DATA, [ENTRY], {"chunk": "1"}])


def test_status_for_a_user_who_may_not_ask_says_so(relay):
    relay.sockets.mkdir(exist_ok=True)
    command = [sys.executable, relay.zipapp, "status", "--sockets", str(relay.sockets)]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(relay.sockets / "config.socket"))
        listener.listen(1)
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        listener.accept()[0].close()
        _output, errors = asking.communicate(timeout=PATIENCE)
    assert asking.returncode == 1 and b"closed the connection without an answer, probably because uid" in errors


def test_status_without_a_relay_says_that_there_is_none(relay):
    command = [sys.executable, relay.zipapp, "status", "--sockets", str(relay.sockets)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    assert ended.returncode == 1 and b"no connection" in ended.stderr and b"give it here" not in ended.stderr
    del command[3:]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    assert ended.returncode == 1 and ended.stderr.endswith(b"If the relay runs with --sockets, give it here too.\n")


def test_the_service_manager_is_told_when_it_is_ready_and_that_it_is_alive(relay):
    path = str(relay.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(PATIENCE)
        relay.start(env=dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC="3000000"), wait=None)
        assert manager.recv(100) == b"READY=1"
        assert relay.connect("config")
        assert manager.recv(100) == b"WATCHDOG=1"
        relay.process.terminate()
        while manager.recv(100) != b"STOPPING=1":
            pass


def test_the_agents_own_names_are_the_default(place):
    relay = place()
    extension = "Test-%d" % os.getpid()
    relay.put_chunk("one.json", "1", extension=extension)
    command = [sys.executable, relay.zipapp, "run", "--chunks", str(relay.chunks), "--events", str(relay.events)]
    relay.process = subprocess.Popen(command, stderr=subprocess.PIPE, universal_newlines=True)
    listening = [relay.process.stderr.readline() for _unused in range(3)]
    assert "Listening on @" in listening[0], "AMA, or another relay, runs on this machine: " + listening[0]
    name = "CAgentStream_CloudAgentInfo_%s_default_fluent.socket" % extension
    assert listening[2].endswith("Listening on @%s\n" % name)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(b"\0" + name.encode() + b"\0" * (107 - len(name)))
