# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of the forward protocol, and their delivery over real sockets to receivers of every temper."""

import gzip
import json
import os
import pwd
import socket
import struct
import threading
import time
import tracemalloc
import uuid
import zlib
from pathlib import Path
from time import time as clock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import (
    FormatError,
    ForwardError,
    TurnOver,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import forward, sockets
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import sender as sender_module
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.address import Address
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import ExtType, Unpacker, pack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.sender import Sender

MODEST = settings(max_examples=50, deadline=None)
US = str(os.geteuid())
TAG = "dcr-1:CTDataSource-Linux:CONFIG_DATA_BLOB_V2"
RECORD = {"ConfigDataType": "Daemons", "SvcName": "ssh", "SvcDescription": "Öpen"}
ENTRIES = [(1700000000, RECORD), (1700000001, {"RecordId": "2"})]
LISTS = [list(entry) for entry in ENTRIES]
PACKED = b"".join(map(pack, LISTS))
GZIP = {"compressed": "gzip"}
CHUNK = "p8n9gmxTQVC8/nh2wlKKeQ=="


def decoded(message):
    unpacker = Unpacker()
    unpacker.feed(pack(message))
    (value,) = unpacker
    return forward.decode(value)


def refused(message):
    with pytest.raises(FormatError) as caught:
        decoded(message)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- receiving


@pytest.mark.parametrize("options", [[], [None], [{}], [{"chunk": CHUNK, "size": 2}]])
@pytest.mark.parametrize("body", [LISTS, PACKED], ids=["Forward", "PackedForward"])
def test_entries_come_in_an_array_or_packed(options, body):
    batch = decoded([TAG, body] + options)
    assert batch == (TAG, ENTRIES, (options and options[0]) or {})
    assert batch.chunk == (CHUNK if options and options[0] else "")


def test_packed_entries_in_a_str_are_read_as_well():
    ascii_only = pack([1, {"key": "value"}])
    stream = b"\x92\xa3tag" + b"\xd9" + bytes((len(ascii_only),)) + ascii_only
    unpacker = Unpacker()
    unpacker.feed(stream)
    assert [forward.decode(value) for value in unpacker] == [("tag", [(1, {"key": "value"})], {})]
    assert decoded(["tag", ""]).entries == []


@pytest.mark.parametrize("options", [[], [{"chunk": CHUNK}]])
def test_a_single_record_comes_with_its_time(options):
    assert decoded([TAG, 1700000000, RECORD] + options) == (TAG, ENTRIES[:1], options[0] if options else {})


def test_compressed_entries_come_in_any_number_of_gzip_members():
    body = gzip.compress(PACKED) + gzip.compress(PACKED[:10]) + gzip.compress(PACKED[10:])
    assert decoded([TAG, body, GZIP]).entries == ENTRIES * 2
    assert decoded([TAG, PACKED, {"compressed": "text"}]).entries == ENTRIES


@pytest.mark.parametrize(
    "time",
    [
        1700000000,
        1700000000.75,
        ExtType(0, struct.pack(">II", 1700000000, 999999999)),
        ExtType(-1, struct.pack(">I", 1700000000)),
        ExtType(-1, struct.pack(">Q", 999999999 << 34 | 1700000000)),
        ExtType(-1, struct.pack(">Iq", 999999999, 1700000000)),
    ],
    ids=["integer", "float", "EventTime", "Timestamp 32", "Timestamp 64", "Timestamp 96"],
)
def test_a_time_comes_in_every_form_and_leaves_as_whole_seconds(time):
    assert decoded([TAG, [[time, RECORD]]]).entries == [(1700000000, RECORD)]


EVENT_TIME = ExtType(0, struct.pack(">II", 1700000000, 5))


@pytest.mark.parametrize("metadata", [{}, {"otlp": {"x": 1}, b"raw": [None]}])
@pytest.mark.parametrize("time", [1700000000, EVENT_TIME])
@pytest.mark.parametrize("form", ["Forward", "PackedForward", "CompressedPackedForward"])
def test_a_time_comes_with_metadata_as_current_fluent_bit_sends_it(form, time, metadata):
    event = [[time, metadata], {"a": "b"}]
    body = [event] if form == "Forward" else pack(event)
    options = {"size": 1, "fluent_signal": 0}
    if form == "CompressedPackedForward":
        body, options = gzip.compress(body), dict(options, **GZIP)
    assert decoded([TAG, body, options]).entries == [(1700000000, {"a": "b"})]


@pytest.mark.parametrize("time", [None, [None, {}]])
def test_no_time_is_now(time):
    before = int(clock())
    ((found, record),) = decoded([TAG, [[time, RECORD]]]).entries
    assert before <= found <= clock() and record == RECORD


def test_a_message_of_one_record_may_have_no_time():
    before = int(clock())
    ((found, _record),) = decoded([TAG, None, RECORD]).entries
    assert before <= found <= clock()


@pytest.mark.parametrize("chunk", ["c" * 1025, "é" * 1025, "c" * 1000000, b"\xff" * 300])
def test_a_chunk_that_is_too_long_to_be_repeated_is_refused(chunk):
    assert "at most 1024" in refused([TAG, LISTS, {"chunk": chunk}])
    assert "at most 1024" in refused([TAG, PACKED, {"chunk": chunk}])
    assert "at most 1024" in refused([TAG, 0, RECORD, {"chunk": chunk}])


def test_a_chunk_of_any_length_that_senders_use_is_taken():
    assert decoded([TAG, LISTS, {"chunk": "c" * 1024}]).chunk == "c" * 1024


def test_a_time_before_1970_is_read():
    assert decoded([TAG, ExtType(-1, struct.pack(">Iq", 0, -5)), RECORD]).entries == [(-5, RECORD)]


@pytest.mark.parametrize(
    "time",
    [
        "1700000000",
        True,
        float("nan"),
        float("inf"),
        1 << 63,
        -(1 << 63),
        ExtType(0, b"1234567"),
        ExtType(7, b"12345678"),
        [],
        {},
        [0],
        [0, []],
        [0, {}, {}],
        [True, {}],
        [[0, {}], {}],
    ],
)
def test_what_is_no_time_is_refused(time):
    refused([TAG, [[time, RECORD]]])


def test_a_record_is_what_json_has_a_form_for():
    odd = {"raw": b"a\xff", b"key": 1, 7: [b"x"], "none": None, "nan": float("nan"), "nested": {b"k": float("-inf")}}
    odd.update({"at": ExtType(0, struct.pack(">II", 5, 500000000)), "ext": ExtType(9, b"\x01\xff")})
    record = decoded([TAG, 0, odd]).entries[0][1]
    assert json.loads(json.dumps(record, allow_nan=False)) == {
        "raw": "a\\xff", "key": 1, "7": ["x"], "none": None, "nan": "nan", "nested": {"k": "-inf"}, "at": 5.5,
        "ext": "01ff",
    }  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        None, 7, "text", [], [TAG], {}, [TAG, 0], [TAG, None], [7, LISTS], [None, LISTS], [TAG, LISTS, 7],
        [TAG, LISTS, []], [TAG, LISTS, {}, {}], [TAG, 0, RECORD, {}, {}], [TAG, 0, [RECORD]], [TAG, 0, RECORD, 7],
        [TAG, [[0]]], [TAG, [0, RECORD]], [TAG, [[0, RECORD, 1]]], [TAG, [[0, []]]], [TAG, PACKED[:-1]], [TAG, b"\xc1"],
        [TAG, b"\x00"], [TAG, PACKED, {"compressed": "zstd"}], [TAG, PACKED, GZIP],
        [TAG, gzip.compress(PACKED)[:-9], GZIP],
        [TAG, gzip.compress(PACKED) + b"rest", GZIP], [TAG, gzip.compress(PACKED[:-1]), GZIP],
    ],
)  # fmt: skip
def test_what_is_no_forward_message_is_refused(message):
    refused(message)


def test_a_gzip_bomb_is_refused_at_the_limit_of_a_message():
    zeros = b"\0" * (50 << 20)
    one = gzip.compress(b"\x92\0\x81\xa1k\xdb" + struct.pack(">I", len(zeros)) + zeros)
    many = gzip.compress(pack([0, {"k": "x" * 1000}])) * 20000
    tracemalloc.start()
    try:
        assert "longer than 10485760 bytes" in refused([TAG, one, GZIP])
        assert "more than 10485760 bytes" in refused([TAG, many, GZIP])
        refused([TAG, gzip.compress(zeros) * 4, GZIP])
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_the_work_of_gzip_members_grows_with_their_bytes_and_not_with_their_number(monkeypatch):
    """A decompressor copies what follows its member's end: what all of them were given is what it costs."""
    given = []
    real = zlib.decompressobj

    class Counted:
        def __init__(self, bits):
            self._member = real(bits)

        def decompress(self, data, size):
            given.append(len(data))
            return self._member.decompress(data, size)

        def __getattr__(self, name):
            return getattr(self._member, name)

    monkeypatch.setattr(zlib, "decompressobj", Counted)
    empty = gzip.compress(b"")
    many = empty * (200000 // len(empty))
    assert decoded([TAG, many + gzip.compress(PACKED), GZIP]).entries == ENTRIES
    assert sum(given) < 20 * len(many)  # all that follows each member was 10,000 times as much
    del given[:]
    large = gzip.compress(os.urandom(1 << 20))
    refused([TAG, large, GZIP])
    assert sum(given) < 2 * len(large)


def test_more_gzip_members_than_any_sender_makes_are_refused():
    empty = gzip.compress(b"")
    assert decoded([TAG, empty * 1000, GZIP]).entries == []
    assert "more than 131072 gzip members" in refused([TAG, empty * (forward.MEMBERS + 1), GZIP])


def test_a_gzip_member_that_ends_anywhere_in_what_was_read_is_found():
    for size in list(range(200, 300)) + [65500 + n for n in range(0, 60, 7)]:
        value = os.urandom(size)
        body = gzip.compress(pack([1, {"a": value.hex()}]), 0) + gzip.compress(PACKED)
        assert decoded([TAG, body, GZIP]).entries == [(1, {"a": value.hex()}), *ENTRIES]


def test_packed_entries_are_read_one_by_one():
    entries = pack([0, {"k": "x" * 1000}]) * 9000
    message = pack([TAG, entries])
    unpacker = Unpacker()
    unpacker.feed(message)
    (value,) = unpacker
    tracemalloc.start()
    try:
        assert sum(1 for _entry in forward.decode_lazily(value).entries) == 9000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_many_small_packed_entries_share_the_limit_of_a_message():
    entry = pack([0, {"k": [None] * 4000}])
    assert "more than 1048576 values" in refused([TAG, gzip.compress(entry * 270), GZIP])


VALUES = st.recursive(
    st.none() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary()
    | st.builds(ExtType, st.sampled_from([0, -1, 5]), st.binary(max_size=12)),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text() | st.binary() | st.integers(0, 9), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@MODEST
@given(
    st.one_of(
        VALUES,
        st.tuples(st.just(TAG), VALUES, VALUES),
        st.tuples(st.just(TAG), st.lists(st.tuples(st.integers(), VALUES))),
    )
)
def test_any_value_is_a_message_that_json_can_hold_or_refused(value):
    try:
        batch = decoded(value)
    except FormatError:
        return
    json.dumps(batch, allow_nan=False)


# --- sending


def sent(entries, chunk=""):
    return [forward.message(TAG, packed, count, chunk) for packed, count in forward.pack_batches(entries)]


def read(stream):
    unpacker = Unpacker()
    unpacker.feed(stream)
    return [forward.decode(value) for value in unpacker]


def test_a_message_is_an_array_of_tag_and_entries_and_options_only_with_a_chunk():
    assert sent(ENTRIES) == [pack([TAG, LISTS])]
    assert sent(ENTRIES, CHUNK) == [pack([TAG, LISTS, {"chunk": CHUNK, "size": 2}])]
    assert sent([]) == []


def test_chunks_are_of_128_bits_and_never_the_same():
    chunks = {forward.new_chunk() for _unused in range(100)}
    assert len(chunks) == 100
    assert {len(chunk) for chunk in chunks} == {24}


def test_batches_stay_near_a_mebibyte_and_split_between_records():
    entries = [(n, {"RecordId": str(n), "text": "ä" * (n % 4000)}) for n in range(3000)]
    messages = sent(entries)
    assert [entry for data in messages for entry in read(data)[0].entries] == entries
    assert max(map(len, messages)) < (1 << 20) + 100
    assert len(messages) < 2 * sum(map(len, messages)) / (1 << 20) + 3


def test_a_record_larger_than_a_batch_travels_alone():
    entries = [(0, {"a": "1"}), (0, {"big": "x" * (3 << 20)}), (0, {"b": "2"})]
    messages = sent(entries)
    assert [read(data)[0].entries for data in messages] in (
        [[entry] for entry in entries],
        [entries[:1], entries[1:2], entries[2:]],
    )


def test_a_record_that_no_receiver_takes_is_refused_before_anything_is_sent():
    with pytest.raises(FormatError) as caught:
        sent([(0, {"big": "x" * (10 << 20)})])
    assert "larger than any receiver accepts" in str(caught.value)
    assert read(sent([(0, {"big": "x" * ((10 << 20) - 5000)})])[0])


def test_a_row_becomes_texts():
    row = {
        "SvcName": "ssh",
        "Size": 5,
        "Ratio": 0.5,
        "IsInventorySnapshot": True,
        "DateCreated": None,
        "tags": ["a", {"b": "ä"}],
    }
    assert forward.flat(row) == {
        "SvcName": "ssh", "Size": "5", "Ratio": "0.5", "IsInventorySnapshot": "true",
        "json_tags": '["a",{"b":"\\u00e4"}]',
    }  # fmt: skip


# --- delivering


class Receiver:
    """Treats one connection after the other as each of `manners` says, the last of them for ever."""

    def __init__(self, where, *manners):
        self.batches = []
        self.done = threading.Event()
        self.listener = sockets.listen(where)
        self.where = where if where.scheme != "tcp" else Address("tcp", "127.0.0.1", self.listener.getsockname()[1])
        self._manners = manners
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        for number in range(1000):
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            manner = self._manners[min(number, len(self._manners) - 1)]
            self._threads.append(threading.Thread(target=self._serve, args=(manner, connection)))
            self._threads[-1].start()

    def _serve(self, manner, connection):
        with connection:
            try:
                manner(self, connection)
            except OSError:
                pass

    def incoming(self, connection):
        unpacker = Unpacker()
        while True:
            data = connection.recv(1 << 16)
            if not data:
                return
            unpacker.feed(data)
            for value in unpacker:
                self.batches.append(forward.decode(value))
                yield self.batches[-1]

    def ids(self):
        return [record["RecordId"] for batch in self.batches for _unused, record in batch.entries]

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.done.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self._threads:
            thread.join()


def acknowledges(receiver, connection):
    for batch in receiver.incoming(connection):
        if batch.chunk:
            connection.sendall(forward.ack(batch.chunk))


def acknowledges_in_bytes(receiver, connection):
    for batch in receiver.incoming(connection):
        for byte in forward.ack(batch.chunk):
            connection.sendall(bytes((byte,)))


def never_acknowledges(receiver, connection):
    for _unused in receiver.incoming(connection):
        pass


def acknowledges_another(receiver, connection):
    for _unused in receiver.incoming(connection):
        connection.sendall(forward.ack("another"))


def talks_nonsense(receiver, connection):
    for _unused in receiver.incoming(connection):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")


def never_reads(receiver, connection):
    receiver.done.wait()


def closes_midway(receiver, connection):
    connection.recv(10)


def closes_unacknowledged(receiver, connection):
    next(receiver.incoming(connection))


WHERE = {
    "abstract": lambda folder: Address("abstract", "ct-test-" + uuid.uuid4().hex),
    "file": lambda folder: Address("file", str(folder / "s")),
    "tcp": lambda folder: Address("tcp", "127.0.0.1", 0),
}


@pytest.fixture(params=sorted(WHERE))
def where(request, tmp_path):
    return WHERE[request.param](tmp_path)


@pytest.fixture(params=["abstract", "file"])
def unix(request, tmp_path):
    return WHERE[request.param](tmp_path)


def sender(receiver, **options):
    options.setdefault("deadline", 5.0)
    return Sender(receiver.where, [US], **options)


def entries(*numbers, size=10):
    return [(1700000000, {"RecordId": str(number), "text": "x" * size}) for number in numbers]


def undelivered(one, what):
    with pytest.raises(ForwardError) as caught:
        one.send(TAG, what)
    text = str(caught.value)
    assert "\n" not in text
    return text


class Clock:
    """Stands in for the module time: the real clock, moved on at will."""

    moved = 0.0

    def monotonic(self):
        return time.monotonic() + self.moved


@pytest.fixture
def still(monkeypatch):
    """No time passes for the sender but what a test lets pass."""
    clock = Clock()
    monkeypatch.setattr(sender_module, "time", clock)
    monkeypatch.setattr(clock, "monotonic", lambda: clock.moved, raising=False)
    return clock


def eventually(condition):
    deadline = sockets.Deadline(5)
    while not condition() and deadline.left():
        threading.Event().wait(0.005)
    return condition()


@pytest.mark.parametrize("acks", ["auto", "require"])
@pytest.mark.parametrize("manner", [acknowledges, acknowledges_in_bytes])
def test_an_acknowledged_send_is_delivered_once(where, manner, acks):
    with Receiver(where, manner) as receiver, sender(receiver, acks=acks) as one:
        assert one.send(TAG, entries(*range(2500))) is True
        assert one.send(TAG, entries(*range(2500, 2600))) is True
        assert receiver.ids() == [str(number) for number in range(2600)]
        assert {batch.tag for batch in receiver.batches} == {TAG}
        assert all(batch.chunk and batch.options["size"] == len(batch.entries) for batch in receiver.batches)


def test_nothing_to_send_needs_no_receiver():
    assert Sender(Address("abstract", "ct-test-nobody"), [US]).send(TAG, []) is True


def test_with_acks_off_none_is_asked_for(where):
    with Receiver(where, acknowledges) as receiver, sender(receiver, acks="off") as one:
        assert one.send(TAG, entries(*range(2500))) is False
        assert eventually(lambda: len(receiver.ids()) == 2500)
        assert {batch.chunk for batch in receiver.batches} == {""}


@pytest.fixture
def as_ama():
    """This process, which listens in these tests, has the name of AMA's until the end of the test."""
    path = Path("/proc/%d/comm" % os.getpid())
    name = path.read_text()
    path.write_text("mdsd")
    yield
    path.write_text(name)


def test_the_azure_monitor_agent_is_given_everything_and_asked_for_no_ack(unix, as_ama):
    with Receiver(unix, never_acknowledges) as receiver, sender(receiver) as one:
        for number in range(3):
            assert one.send(TAG, entries(number)) is False
        assert eventually(lambda: receiver.ids() == ["0", "1", "2"])
        assert [batch.options for batch in receiver.batches] == [{}, {}, {}]


def test_the_azure_monitor_agent_is_asked_for_acks_where_the_user_requires_them(unix, as_ama):
    with Receiver(unix, acknowledges) as receiver, sender(receiver, acks="require") as one:
        assert one.send(TAG, entries(0)) is True
        assert receiver.batches[0].chunk


def test_who_hides_and_has_a_user_of_amas_is_ama_where_that_is_installed(unix, monkeypatch, tmp_path):
    """The listener has ended here, so that its process cannot be looked at."""
    monkeypatch.setattr(sockets, "peer", lambda _sock: sockets.Peer(0, os.geteuid()))
    monkeypatch.setattr(sockets, "AMA_USERS", ("root", pwd.getpwuid(os.geteuid()).pw_name))
    with Receiver(unix, never_acknowledges) as receiver:
        for folder, ama in ((tmp_path, True), (tmp_path / "missing", False)):
            monkeypatch.setattr(sockets, "AMA_FOLDER", str(folder))
            with sockets.connect(receiver.where, 5, [US]) as sock:
                assert sockets.is_ama(sock) is ama


def test_a_receiver_that_is_slow_to_acknowledge_is_waited_for(unix):
    """However slow: with acks `auto`, what it then cannot store is still ours."""

    def stores_nothing(receiver, connection):
        next(receiver.incoming(connection))
        receiver.done.wait(1.5)

    with Receiver(unix, stores_nothing) as receiver, sender(receiver) as one:
        assert "the connection broke" in undelivered(one, entries(0))
        assert len(receiver.batches) == 2  # it came again, and still nobody took it


def test_the_first_messages_are_small_and_grow_with_what_is_acknowledged(where, still):
    with Receiver(where, acknowledges) as receiver, sender(receiver) as one:
        assert one.send(TAG, entries(*range(4000))) is True
        assert [len(batch.entries) for batch in receiver.batches] == [16, 64, 256, 1000, 1000, 1000, 664]
        assert one.send(TAG, entries(*range(1000))) is True
        assert len(receiver.batches[-1].entries) == 1000


def test_messages_stay_small_while_acknowledgements_take_long(where, still):
    """Then many others send, too, and all of them get on."""

    def is_crowded(receiver, connection):
        for batch in receiver.incoming(connection):
            still.moved += 2 if len(receiver.batches) < 5 else 0
            connection.sendall(forward.ack(batch.chunk))

    with Receiver(where, is_crowded) as receiver, sender(receiver) as one:
        assert one.send(TAG, entries(*range(1500))) is True
        assert [len(batch.entries) for batch in receiver.batches] == [16, 64, 64, 64, 64, 256, 972]


def test_a_turn_ends_however_slowly_a_receiver_acknowledges_and_what_it_took_is_counted(where, still):
    def trickles(receiver, connection):
        for batch in receiver.incoming(connection):
            still.moved += 9
            connection.sendall(forward.ack(batch.chunk))

    with Receiver(where, trickles) as receiver, sender(receiver, turn=60) as one:
        with pytest.raises(TurnOver, match="60 s are not enough") as caught:
            one.send(TAG, entries(*range(4000)))
        assert caught.value.taken == len(receiver.ids()) == 16 + 6 * 64
        with pytest.raises(TurnOver) as caught:
            one.send(TAG, entries(0))
        assert caught.value.taken == 0


def test_what_was_acknowledged_before_a_failure_is_counted(where):
    def acknowledges_the_first(receiver, connection):
        for batch in receiver.incoming(connection):
            if len(receiver.batches) == 1:
                connection.sendall(forward.ack(batch.chunk))

    with Receiver(where, acknowledges_the_first) as receiver, sender(receiver, acks="require", deadline=0.5) as one:
        with pytest.raises(ForwardError) as caught:
            one.send(TAG, entries(*range(100)))
        assert caught.value.taken == 16


def test_a_receiver_that_lets_us_wait_has_taken_little_when_we_give_up(where):
    with Receiver(where, never_acknowledges) as receiver, sender(receiver, acks="require", deadline=0.3) as one:
        for _attempt in range(3):
            undelivered(one, entries(*range(3000)))
        assert eventually(lambda: len(receiver.batches) == 3)
        assert len(receiver.ids()) == 48


def test_time_is_counted_from_the_last_progress(where, monkeypatch):
    """Eight seconds of a clock of our own pass for each message, and thirty without progress are granted.

    The receiver may be done with three messages before the sender sees the first of their acks.
    """
    clock = Clock()
    monkeypatch.setattr(sockets, "time", clock)

    def takes_eight_seconds(receiver, connection):
        for batch in receiver.incoming(connection):
            clock.moved += 8
            connection.sendall(forward.ack(batch.chunk))

    with Receiver(where, takes_eight_seconds) as receiver, sender(receiver, silence=30, deadline=1000) as one:
        assert one.send(TAG, entries(*range(3000))) is True
        assert len(receiver.batches) > 3
        clock.moved += 100
        assert one.send(TAG, entries(0)) is True


def test_an_ack_that_comes_a_byte_at_a_time_is_no_progress_before_it_is_complete(where):
    def drips(receiver, connection):
        for batch in receiver.incoming(connection):
            for byte in forward.ack(batch.chunk):
                receiver.done.wait(0.1)
                connection.sendall(bytes((byte,)))

    with Receiver(where, drips) as receiver, sender(receiver, acks="require", silence=0.5) as one:
        assert "within 0.5 s" in undelivered(one, entries(0))


def test_a_tcp_receiver_has_to_acknowledge(tmp_path):
    with Receiver(WHERE["tcp"](tmp_path), never_acknowledges) as receiver, sender(receiver, deadline=0.2) as one:
        assert "set acks to off" in undelivered(one, entries(0))


def test_a_receiver_that_must_acknowledge_and_does_not_has_not_got_it(where):
    with Receiver(where, never_acknowledges) as receiver, sender(receiver, acks="require", deadline=0.2) as one:
        assert "within 0.2 s" in undelivered(one, entries(0))


def test_after_some_acks_silence_is_still_a_failure(unix):
    def one_ack(receiver, connection):
        for batch in receiver.incoming(connection):
            if len(receiver.batches) == 1:
                connection.sendall(forward.ack(batch.chunk))

    with Receiver(unix, one_ack) as receiver, sender(receiver) as one:
        assert one.send(TAG, entries(0)) is True
        one.deadline = 0.3
        assert "within 0.3 s" in undelivered(one, entries(1))


@pytest.mark.parametrize("manner", [acknowledges_another, talks_nonsense])
def test_an_answer_that_is_not_our_ack_is_no_delivery(where, manner):
    with Receiver(where, manner) as receiver, sender(receiver) as one:
        assert "ack is not valid" in undelivered(one, entries(0))


@pytest.mark.parametrize("acks", ["auto", "require", "off"])
@pytest.mark.parametrize("size", [10, 5 << 20], ids=["small", "beyond all buffers"])
def test_a_unix_receiver_that_never_reads_has_not_got_it(unix, acks, size):
    with Receiver(unix, never_reads) as receiver, sender(receiver, acks=acks, deadline=0.3) as one:
        assert "within 0.3 s" in undelivered(one, entries(0, size=size))


@pytest.mark.parametrize("acks", ["auto", "off"])
def test_a_tcp_receiver_that_never_reads_ends_at_the_deadline(tmp_path, acks):
    with Receiver(WHERE["tcp"](tmp_path), never_reads) as receiver, sender(receiver, acks=acks, deadline=0.3) as one:
        receiver.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert "within 0.3 s" in undelivered(one, entries(0, size=9 << 20))


@pytest.mark.parametrize("acks", ["auto", "require"])
@pytest.mark.parametrize("manner", [closes_midway, closes_unacknowledged])
def test_after_a_broken_connection_the_whole_batch_comes_again_over_a_new_one(where, manner, acks, still):
    with Receiver(where, manner, acknowledges) as receiver, sender(receiver, acks=acks) as one:
        assert one.send(TAG, entries(*range(900), size=1000)) is True
        assert receiver.ids()[-900:] == [str(number) for number in range(900)]
        assert len({batch.chunk for batch in receiver.batches}) == 4  # 16, 64, 256 and 564 records


@pytest.mark.parametrize("after", [1, 2, 3, 5, 7])
def test_after_a_break_all_that_was_not_acknowledged_comes_again_in_order(where, after):
    def breaks(receiver, connection):
        for batch in receiver.incoming(connection):
            if len(receiver.batches) == after:
                return
            connection.sendall(forward.ack(batch.chunk))

    with Receiver(where, breaks, acknowledges) as receiver, sender(receiver, acks="require") as one:
        assert one.send(TAG, entries(*range(6500))) is True
        numbers = [int(number) for number in receiver.ids()]
        assert sorted(set(numbers)) == list(range(6500))
        acknowledged = sum(len(batch.entries) for batch in receiver.batches[: after - 1])
        first_again = numbers.index(acknowledged, acknowledged + 1)
        assert numbers[first_again:] == list(range(acknowledged, 6500))


def test_a_break_of_a_connection_to_the_azure_monitor_agent_loses_nothing_it_had_not_read(unix, as_ama):
    def breaks(receiver, connection):
        for _unused in receiver.incoming(connection):
            if len(receiver.batches) == 2:
                return

    with Receiver(unix, breaks, never_acknowledges) as receiver, sender(receiver) as one:
        one.send(TAG, entries(*range(2500)))
        assert eventually(lambda: set(receiver.ids()) == {str(number) for number in range(2500)})


@pytest.mark.parametrize("manner", [closes_midway, closes_unacknowledged])
def test_a_second_broken_connection_is_reported(where, manner):
    with Receiver(where, manner) as receiver, sender(receiver) as one:
        assert "the connection broke" in undelivered(one, entries(*range(900), size=1000))


@pytest.mark.parametrize("acks", ["auto", "require", "off"])
def test_a_receiver_that_was_restarted_meanwhile_gets_the_next_send(where, acks):
    with Receiver(where, acknowledges) as receiver:
        one = sender(receiver, acks=acks)
        one.send(TAG, entries(0))
        assert eventually(lambda: receiver.ids() == ["0"])
        connection = one._socket
        again = receiver.where
        connection.shutdown(socket.SHUT_WR)  # ends the receiver's thread, which closes its side as a restart does
    receiver = Receiver(again, acknowledges)
    with receiver, one:
        one.send(TAG, entries(1))
        assert eventually(lambda: receiver.ids() == ["1"])


def test_a_receiver_that_is_gone_is_one_sentence_with_advice(unix):
    with Receiver(unix, closes_midway) as receiver:
        one = sender(receiver)
    assert "DCR" in undelivered(one, entries(0))


def test_a_receiver_of_the_wrong_user_gets_nothing(unix):
    with Receiver(unix, acknowledges) as receiver:
        assert "Nothing was sent" in undelivered(Sender(unix, ["syslog"]), entries(0))
        assert receiver.batches == []


def test_a_clock_that_is_set_back_and_forth_delays_nothing(unix, monkeypatch):
    clock = iter(range(0, 1 << 40, 1 << 20))
    monkeypatch.setattr(time, "time", lambda: float(-next(clock)))
    with Receiver(unix, never_acknowledges) as receiver, sender(receiver, deadline=0.2) as one:
        assert "within 0.2 s" in undelivered(one, entries(0))


def test_acks_have_three_settings():
    with pytest.raises(ValueError, match="auto, require, off"):
        Sender(Address("abstract", "x"), acks="maybe")
