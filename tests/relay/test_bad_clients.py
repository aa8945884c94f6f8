# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever one client does, or the disk: one clear line, bounded memory, the other clients unharmed."""

import json
import os
import re
import resource
import socket
import struct
import subprocess
import zlib

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import msgpack
from ansible_collections.changetracking.inventory.tests.helpers.relay_process import is_closed_by_peer, read_value
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

DATA = "dcr-1:CTDataSource-Linux:CONFIG_DATA_BLOB_V2"
ENTRY = [1700000000, {"ConfigDataType": "Software", "RecordId": "a"}]


def still_serves(relay, tag=DATA):
    with relay.connect() as sock:
        sock.sendall(msgpack.pack([tag, [ENTRY], {"chunk": "c"}]))
        return read_value(sock) == {"ack": "c"}


BAD = {
    "garbage": b"\xc1" * 10,
    "not a message": msgpack.pack({"a": 1}),
    "an array of 4 GiB": b"\xdd\xff\xff\xff\xff",
    "a string of 4 GiB": b"\x93\xdb\xff\xff\xff\xff",
    "ten million empty maps": b"\xdd" + struct.pack(">I", 10000000) + b"\x80" * 100000,
    "deep nesting": b"\x91" * 1000,
    "no entry": msgpack.pack(["tag", [1, 2]]),
    "compressed bomb": msgpack.pack([DATA, zlib.compress(b"\0" * (64 << 20)), {"compressed": "gzip"}]),
    "a tag that is a path": msgpack.pack(["x" * 1000, [ENTRY]]),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_client_that_sends_nonsense_is_disconnected_with_a_reason_and_no_other(relay, name):
    relay.start()
    with relay.connect() as good, relay.connect() as bad:
        bad.sendall(BAD[name])
        assert relay.expect(r"process %d of uid %d: disconnected: \S.*" % (os.getpid(), os.geteuid()))
        assert is_closed_by_peer(bad)
        good.sendall(msgpack.pack([DATA, [ENTRY], {"chunk": "c"}]))
        assert read_value(good) == {"ack": "c"}


def test_half_a_message_is_told_when_its_client_goes(relay):
    relay.start()
    with relay.connect() as sock:
        sock.sendall(msgpack.pack([DATA, [ENTRY], {"chunk": "c"}])[:-3])
    assert relay.expect("it closed the connection in the middle of a message")
    assert still_serves(relay)


def test_a_tag_cannot_leave_the_events_folder(relay):
    relay.start()
    for tag in ("../../evil", "/etc/evil", "..", ".lock", "a/b", "nul\0", "new\nline"):
        assert still_serves(relay, tag)
    names = {"%2E.%2F..%2Fevil", "%2E.", "%2Elock", "%2Fetc%2Fevil", ".lock", "a%2Fb", "new%0Aline", "nul%00"}
    assert set(os.listdir(str(relay.events))) == names
    assert not any("\n" in line for line in relay.log)


def test_a_thousand_clients_with_half_a_megabyte_each_cost_bounded_memory_and_nobody_else(relay):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    relay.start()
    before = relay.resident_kib()
    half = b"\x92\xa1t\xc6" + struct.pack(">I", 1 << 20) + b"x" * (512 << 10)
    clients = [relay.connect() for _unused in range(1000)]
    try:
        for client in clients:
            client.setblocking(False)
            try:
                client.send(half)
            except BlockingIOError:
                pass
        assert still_serves(relay)  # which it comes to only when it has accepted all that connected before
        assert relay.resident_kib() - before < 128 << 10
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert still_serves(relay)


def test_a_client_that_reads_no_acks_is_not_read_from_and_others_are(relay):
    relay.start()
    message = msgpack.pack([DATA, [ENTRY], {"chunk": "c" * 1000}])
    with relay.connect() as deaf:
        deaf.setblocking(False)
        data = memoryview(message * 1000)
        while data:
            # Its answers fill the socket's buffer, ours then fills too: that is what the relay's patience rests on.
            try:
                data = data[deaf.send(data) :] or memoryview(message * 1000)
            except BlockingIOError:
                if not still_serves(relay):
                    raise
                try:
                    data = data[deaf.send(data) :]
                except BlockingIOError:
                    break
        assert still_serves(relay)
        assert relay.resident_kib() < 128 << 10


def test_a_config_client_that_asks_and_asks_and_never_reads_costs_no_memory(relay):
    items = [{"name": "item%d" % number, "destinationPath": "/etc/%d/*.conf" % number} for number in range(5000)]
    relay.put_chunk("one.json", "1", settings={"fileSettings": {"fileInfo": items}})
    relay.start()
    before = relay.resident_kib()
    request = msgpack.pack('{"Request":"AgentTaggedData","RequestId":"1","Tag":"ChangeTracking-Linux"}')
    with relay.connect("config") as deaf:
        deaf.sendall(request * 1000)
        assert still_serves(relay)
    assert relay.resident_kib() - before < 64 << 10


def test_a_user_who_is_not_allowed_is_turned_away_until_allowed(relay):
    need_root("being another user")
    os.chmod(str(relay.folder), 0o755)
    relay.start("--allow-user", "daemon")
    nobody = connect_as_nobody(relay)
    assert relay.expect("process %d of user 'nobody'. To allow" % nobody.pid)
    assert nobody.wait(60) == 0
    assert still_serves(relay)
    relay.stop()
    relay.start("--allow-user", "nobody")
    nobody = connect_as_nobody(relay)
    while relay.status()["Connections"] < 2:
        pass
    nobody.kill()
    nobody.wait(60)


def connect_as_nobody(relay):
    """A process that connects, and ends when it is disconnected."""

    def become():
        os.setgid(65534)
        os.setuid(65534)

    program = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.exit(len(s.recv(1)))"
    return subprocess.Popen(["/usr/bin/python3", "-c", program, relay.address().name], preexec_fn=become)


def test_a_disk_that_takes_no_more_is_told_and_nothing_unsaved_is_acknowledged(relay):
    """RLIMIT_FSIZE stands in for the full disk: write(2) takes a part, then fails."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))

    out = relay.folder / "out"
    relay.start("--interval", "1000", upload="jsonl:%s" % out, preexec_fn=limit)
    large = [DATA, [[1, {"RecordId": "large", "text": "x" * 200000}]], {"chunk": "c"}]
    assert still_serves(relay)
    with relay.connect() as sock:
        sock.sendall(msgpack.pack(large))
        assert relay.expect("Cannot write .*Records are not acknowledged until that works")
        assert is_closed_by_peer(sock)
    assert still_serves(relay)
    (sink,) = relay.status()["Sinks"]
    assert (sink["Received"], sink["Known"], sink["Refused"], sink["Rows"]) == (1, 1, 1, 1)
    assert relay.stop() == 0
    relay.start(upload="jsonl:%s" % out)
    relay.expect(r"\) 0 rows$")
    lines = (out / (DATA + ".jsonl")).read_text().splitlines()
    assert len(lines) == 1 and not any("large" in line for line in lines)


def test_a_full_sink_acknowledges_no_more_and_loses_nothing_that_it_acknowledged(relay):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (relay.folder / "out").write_text("")
    relay.start("--max-mib", "1", "--listen", "tcp://127.0.0.1:%d" % port, upload="jsonl:%s" % (relay.folder / "out"))
    taken = []
    number = 0
    for connect in (lambda: socket.create_connection(("127.0.0.1", port), 60), relay.connect):
        with connect() as sock:
            while True:
                number += 1
                sock.sendall(
                    msgpack.pack([DATA, [[1, {"RecordId": "r%d" % number, "text": "x" * 100000}]], {"chunk": "c"}])
                )
                try:
                    assert read_value(sock) == {"ack": "c"}
                except (AssertionError, ConnectionResetError):
                    break
                taken.append("r%d" % number)
        assert relay.expect("disconnected: The stream %s is full: .* bytes wait for their upload" % DATA)
        assert len(taken) == (11 if connect == relay.connect else 5)
    (sink,) = relay.status()["Sinks"]
    assert (sink["Received"], sink["Rows"], sink["Dropped"], sink["Refused"], sink["Full"]) == (11, 11, 0, 1, True)
    assert still_serves(relay, "other")
    os.unlink(str(relay.folder / "out"))
    relay.expect(r"LocalSink %s now has \(actual count\) 0 rows" % DATA)
    assert still_serves(relay)
    text = (relay.folder / "out" / (DATA + ".jsonl")).read_text()
    assert re.findall(r'"RecordId": "(r\d+)"', text) == taken


def test_a_peer_over_tcp_is_served_only_where_asked_for(relay):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    relay.start("--listen", "tcp://127.0.0.1:%d" % port)
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(msgpack.pack([DATA, [ENTRY], {"chunk": "c"}]))
        assert read_value(sock) == {"ack": "c"}


def test_half_messages_and_then_silence_are_ended_when_memory_is_short_and_nobody_else(relay):
    relay.start()
    half = b"\x92\xa1t\xc6" + struct.pack(">I", 8 << 20) + b"x" * (7 << 20)
    silent = [relay.connect() for _unused in range(6)]
    try:
        for client in silent:
            client.sendall(half)
            assert still_serves(relay)
        assert relay.expect("disconnected: memory is short, and only 0 bytes of its message came in")
        assert still_serves(relay)
    finally:
        for client in silent:
            client.close()


def test_a_segment_torn_by_a_power_cut_costs_its_last_line_and_says_so(relay):
    folder = relay.events / DATA
    folder.mkdir(parents=True)
    line = json.dumps(ENTRY) + "\n"
    (folder / "000000000001.jsonl").write_text(line + line.replace('"a"', '"b"')[:-9])
    relay.start()
    assert relay.expect("000000000001.jsonl: 1 damaged line was skipped")
    relay.expect(r"\) 0 rows$")
    assert still_serves(relay)
    assert relay.rows("SELECT RecordId FROM ConfigurationData") == [("a",)]
    assert "dropped" not in "\n".join(relay.log)


def test_a_sink_that_may_not_be_written_any_more_acknowledges_nothing_until_it_may(relay):
    """A file where the sink's folder was stands in for the read-only file system, which root could write regardless."""
    relay.start()
    assert still_serves(relay)
    relay.expect(r"\) 0 rows$")
    folder = relay.events / DATA
    folder.rmdir()
    folder.write_text("")
    with relay.connect() as sock:
        sock.sendall(msgpack.pack([DATA, [[1, {"RecordId": "another"}]], {"chunk": "c"}]))
        assert relay.expect("Cannot write .*%s.*Records are not acknowledged until that works" % DATA)
        assert is_closed_by_peer(sock)
    assert still_serves(relay, "other")
    folder.unlink()
    folder.mkdir()
    assert still_serves(relay)
