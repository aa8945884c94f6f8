# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay's sinks and their segments."""

import itertools
import json
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import FormatError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay import segments
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.destinations import (
    _flat as forward_form,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.errors import RelayError, SinkError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.refused import (
    FILE_BYTES,
    Refused,
    outline,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.server import MESSAGE_VALUES
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.sinks import (
    EMPTY_SECONDS,
    MAX_SINKS,
    OF_A_PEER,
    Limits,
    LocalSink,
    Sinks,
    folder_name,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import forward
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import Unpacker

pytestmark = pytest.mark.no_python  # it is about the segments on disk


class Place:
    def __init__(self, path):
        self.path = path
        self.log = []
        self.now = 100.0

    def sink(self, **limits):
        return LocalSink(str(self.path / "s"), "s", Limits(**limits), self.log.append, lambda: self.now)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def entry(number, size=0):
    return (number, {"RecordId": str(number), "text": "x" * size})


def encode(entries):
    return segments.encode(entries, lambda entry, reason: pytest.fail(reason))


def keep(sink, *entries):
    sink.append(encode(entries))
    sink.commit()
    sink.seal()


def held(sink, damaged=None):
    found = []
    while sink.oldest():
        segment = sink.oldest()
        found += itertools.chain.from_iterable(
            segments.read(segment.path, (damaged if damaged is not None else []).append)
        )
        sink.taken(segment, 0)
    return [int(record["RecordId"]) for _seconds, record in found]


def test_what_was_committed_comes_back_oldest_first_also_after_a_restart(place):
    sink = place.sink()
    keep(sink, entry(1), entry(2))
    keep(sink, entry(3))
    sink.append(encode([entry(4)]))
    sink.commit()  # and the relay is killed
    again = place.sink()
    assert again.rows == 4
    assert held(again) == [1, 2, 3, 4]
    assert (again.rows, again.delivered, os.listdir(str(place.path / "s"))) == (0, 4, [])


def test_what_was_not_committed_is_not_there(place):
    sink = place.sink()
    sink.append(encode([entry(1)]))
    assert (sink.rows, place.sink().rows) == (0, 0)


def test_records_are_for_nobody_elses_eyes(place):
    sink = place.sink()
    keep(sink, entry(1))
    assert stat.S_IMODE(os.stat(sink.oldest().path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(str(place.path / "s")).st_mode) == 0o700


def test_a_segment_is_read_in_batches_of_few_rows_and_bytes(place):
    sink = place.sink()
    entries = [entry(n) for n in range(1200)] + [entry(n, 100000) for n in range(5)] + [entry(9, 1 << 20)]
    keep(sink, *entries)
    batches = list(segments.read(sink.oldest().path, [].append))
    assert [one for batch in batches for one in batch] == entries
    for batch in batches:
        assert len(batch) <= segments.BATCH_ROWS
        assert len(batch) == 1 or sum(map(len, encode(batch))) <= segments.BATCH_BYTES


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_torn_last_line_is_skipped_and_told_and_nothing_else_is(tmp_path_factory, data):
    place = Place(tmp_path_factory.mktemp("torn"))
    sink = place.sink()
    keep(sink, entry(1), entry(2), entry(3, 20))
    path = sink.oldest().path
    size = os.path.getsize(path)
    last = len(encode([entry(3, 20)])[0])
    cut = data.draw(st.integers(1, last - 1))
    os.truncate(path, size - cut)
    padded = data.draw(st.booleans())
    if padded:
        os.truncate(path, size)  # as a file system may after a power failure: the length is there, the data is not
    damaged = []
    whole = cut == 1 and not padded  # only its newline is missing
    assert held(place.sink(), damaged) == ([1, 2, 3] if whole else [1, 2])
    assert len(damaged) == (not whole)


def test_a_full_sink_drops_nothing_and_takes_no_more_until_there_is_room(place):
    sink = place.sink(bytes=5000)
    for number in range(3):
        keep(sink, entry(number, 2000))
    with pytest.raises(SinkError, match="is full: 5000 bytes wait"):
        sink.append(encode([entry(3, 2000)]))
    sink.commit()
    sink.trim(None)
    assert (sink.rows, sink.dropped, sink.refused, sink.full, place.log) == (3, 0, 1, True, [])
    sink.taken(sink.oldest(), 0)
    keep(sink, entry(4, 2000))
    assert held(sink) == [1, 2, 4]


def test_the_network_fills_half_of_a_sink_also_within_one_turn_and_what_was_found_counts_as_its(place):
    sink = place.sink(bytes=10000)
    for number in range(2):
        sink.append(encode([entry(number, 2000)]), network=True)
    with pytest.raises(SinkError, match="Local clients can use the other half"):
        sink.append(encode([entry(2, 2000)]), network=True)
    sink.append(encode([entry(3, 2000)]))
    sink.commit()
    with pytest.raises(SinkError):
        sink.append(encode([entry(4, 2000)]), network=True)
    for again in (sink, place.sink(bytes=10000)):
        with pytest.raises(SinkError):
            again.append(encode([entry(5, 2000)]), network=True)
        again.append(encode([entry(6, 2000)]))
    assert (place.sink().foreign, sink.foreign) == (sink.size, sink.size * 2 // 3)
    sink.seal()
    sink.taken(sink.oldest(), 0)
    assert sink.foreign == 0


def test_a_failed_write_leaves_the_room_as_it_was(place):
    sink = place.sink(bytes=10000)
    keep(sink, entry(1))
    sink.append(encode([entry(2)]))
    sink.commit()
    os.close(sink._file)
    sink._file = os.open("/dev/full", os.O_WRONLY)
    sink.append(encode([entry(3, 4000)]), network=True)
    with pytest.raises(SinkError, match="Cannot write"):
        sink.commit()
    assert sink.foreign == 0
    sink.append(encode([entry(4, 4000)]), network=True)


def test_the_segment_that_is_being_uploaded_is_not_dropped(place):
    sink = place.sink(seconds=60)
    for number in range(3):
        keep(sink, entry(number))
    place.now += 61
    sink.trim(sink.oldest())
    assert held(sink) == [0]


def test_rows_that_wait_too_long_are_dropped_and_only_time_of_this_relay_counts(place):
    sink = place.sink(seconds=60)
    keep(sink, entry(1))
    os.utime(sink.oldest().path, (0, 0))  # as if the clock had been set since
    sink = place.sink(seconds=60)
    sink.trim(None)
    assert sink.rows == 1
    place.now += 61
    keep(sink, entry(2))
    sink.trim(None)
    assert held(sink) == [2]
    assert "could not be uploaded within 60 s" in place.log[0]


def test_a_sink_that_cannot_be_written_keeps_what_it_has_and_works_again_later(place):
    sink = place.sink()
    sink.append(encode([entry(1)]))
    sink.commit()
    os.close(sink._file)
    sink._file = os.open("/dev/full", os.O_WRONLY)
    sink.append(encode([entry(2), entry(3)]))
    with pytest.raises(SinkError, match="not acknowledged until that works"):
        sink.commit()
    assert (sink.rows, sink.refused) == (1, 2)
    keep(sink, entry(4))
    assert held(sink) == [1, 4]


@given(st.text(min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_tag_is_one_folder_name(tag):
    try:
        name = folder_name(tag)
    except SinkError:
        assert len(tag.encode("utf-8", "surrogatepass")) > 80
        return
    assert "/" not in name and "\0" not in name and not name.startswith(".") and len(os.fsencode(name)) < 256


def test_azures_stream_ids_are_folder_names_as_they_are():
    name = "dcr-0123456789abcdef:CTDataSource-Linux:CONFIG_CHANGE_BLOB_V2"
    assert folder_name(name) == name


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def make_sinks(path, clock=None):
    return Sinks(str(path / "events"), Limits(), [].append, clock or Clock())


def test_tags_without_end_whose_records_wait_are_refused_and_named_streams_are_not(tmp_path):
    sinks = make_sinks(tmp_path)
    sinks.named = frozenset(["named", "also named"])
    for number in range(MAX_SINKS):
        keep(sinks.sink(str(number), "peer %d" % (number // OF_A_PEER)), entry(1))
    with pytest.raises(SinkError, match=r"256 tags wait for their upload .of all"):
        sinks.sink("one more", "another peer")
    assert sinks.sink("5", "any") is sinks.sink("5", "another")
    keep(sinks.sink("named", "any"), entry(1))
    keep(sinks.sink("also named", "any"), entry(1))


def test_the_tags_of_one_client_leave_room_for_those_of_others(tmp_path):
    sinks = make_sinks(tmp_path)
    for number in range(OF_A_PEER):
        keep(sinks.sink(str(number), "one"), entry(1))
    with pytest.raises(SinkError, match="of this client"):
        sinks.sink("one more", "one")
    assert sinks.sink("one more", "other")


def test_an_empty_sink_makes_room_the_longest_unused_first(tmp_path):
    clock = Clock()
    sinks = make_sinks(tmp_path, clock)
    for number in range(OF_A_PEER):
        clock.now += 1
        keep(sinks.sink(str(number), "one"), entry(1))
    for number in (7, 3):
        held(sinks.sink(str(number), "one"))
    for number in range(2):
        keep(sinks.sink("new %d" % number, "one"), entry(1))
    streams = {sink.stream for sink in sinks}
    assert len(streams) == OF_A_PEER and not {"7", "3"} & streams and {"new 0", "new 1"} <= streams
    assert set(os.listdir(str(tmp_path / "events"))) == streams | {".lock"}


def test_an_empty_sink_goes_in_time_or_at_the_next_start_and_a_named_one_stays(tmp_path):
    clock = Clock()
    sinks = make_sinks(tmp_path, clock)
    sinks.named = frozenset(["named"])
    for stream in ("named", "empty", "full"):
        keep(sinks.sink(stream, "one"), entry(1))
    held(sinks.sink("named", "one"))
    held(sinks.sink("empty", "one"))
    sinks.remove_unused()
    assert [sink.stream for sink in sinks] == ["named", "empty", "full"]
    clock.now += EMPTY_SECONDS + 1
    sinks.remove_unused()
    assert [sink.stream for sink in sinks] == ["named", "full"]
    sinks.close()
    again = make_sinks(tmp_path)
    assert [sink.stream for sink in again] == ["full"]
    assert held(again.sink("full", "one")) == [1]


def test_a_sink_with_records_of_this_turn_is_not_empty(tmp_path):
    sinks = make_sinks(tmp_path)
    sink = sinks.sink("s", "one")
    sink.append(encode([entry(1)]))
    assert not sink.empty
    sink.commit()
    assert not sink.empty


def test_sinks_of_an_earlier_relay_are_found_by_their_streams_names(tmp_path):
    sinks = Sinks(str(tmp_path / "events"), Limits(), [].append)
    keep(sinks.sink("../a b", "peer"), entry(1))
    keep(sinks.sink("odd \\xff", "peer"), entry(1))
    (tmp_path / "events" / "a file").write_text("")
    sinks.close()
    assert [(sink.stream, sink.rows) for sink in Sinks(str(tmp_path / "events"), Limits(), [].append)] == [
        ("../a b", 1),
        ("odd \\xff", 1),
    ]


def test_two_relays_cannot_have_one_events_folder(tmp_path):
    first = Sinks(str(tmp_path), Limits(), [].append)
    with pytest.raises(RelayError, match="Another relay"):
        Sinks(str(tmp_path), Limits(), [].append)
    first.close()
    Sinks(str(tmp_path), Limits(), [].append).close()


# --- records that no destination takes


def lines_and_set_aside(*entries):
    found = []
    lines = segments.encode(entries, lambda entry, reason: found.append((entry, reason)))
    return [json.loads(line)[1] for line in lines], found


TOO_LARGE = {
    "text": ({"v": "x" * (5 << 20)}, "5242881 characters"),
    "escaped": ({"v": "\x01" * (1 << 20)}, "bytes"),
    "wide": ({"v": "\U0001f600" * (1 << 19)}, "bytes"),
    "nested": ({"v": [{"w": "x" * (3 << 20)}, "y" * (2 << 20), None, 1]}, "5242882 characters"),
    "key": ({"x" * (5 << 20): "v"}, "5242881 characters"),
    "as text": ({"v": ['"' * (1 << 20)]}, "bytes"),
    "keys": ({"%d" % number: "" for number in range(10000)}, "10000 keys"),
}


@pytest.mark.parametrize("name", sorted(TOO_LARGE))
def test_a_record_that_is_too_large_is_set_aside_and_the_rest_is_not(name):
    record, why = TOO_LARGE[name]
    kept, found = lines_and_set_aside(entry(1), (2, record), entry(3))
    assert kept == [entry(1)[1], entry(3)[1]]
    (((seconds, same), reason),) = found
    assert seconds == 2 and same is record and why in reason


def largest(**record):
    """The record with as long a text as still makes a line."""
    entry = (1700000000, dict(record, text=""))
    there = forward_form("stream", entry)
    used = max(len(json.dumps(one, separators=(",", ":"))) + 1 for one in (entry, there))
    record["text"] = "x" * (segments.RECORD_BYTES - used)
    assert not lines_and_set_aside((1700000000, dict(record, text=record["text"] + "x")))[0]
    return record


LARGEST = {
    "text": {},
    "own id": {"RecordId": "7"},
    "odd id": {"RecordId": 7},
    "keys": {"k%d" % number: "" for number in range(9998)},
    "lists": {"k%d" % number: [] for number in range(9998)},
    "nested": {"k%d" % number: [{"a": '"\u1234\x01\\' * 10}] for number in range(5000)},
    "numbers": {"k%d" % number: 1.5 for number in range(9998)},
    "bools": {"k%d" % number: True for number in range(9998)},
    "escaped": {"k%d" % number: "\x01" * 300 for number in range(2000)},
}


@pytest.mark.parametrize("name", sorted(LARGEST))
def test_any_record_that_is_kept_can_be_forwarded_and_is_kept_there(name):
    record = largest(**LARGEST[name])
    ((kept,), _none) = lines_and_set_aside((1700000000, record))
    ((packed, count),) = forward.pack_batches([forward_form("stream", (1700000000, kept))])
    unpacker = Unpacker(max_items=MESSAGE_VALUES)
    unpacker.feed(forward.message("t" * 249, packed, count, "c" * 1024))
    ((_seconds, there),) = forward.decode(next(iter(unpacker))).entries
    assert lines_and_set_aside((1700000000, there)) == ([there], [])
    assert len(there) == len(set(record) | {"RecordId"})


def test_a_batch_of_a_segment_is_a_message_that_another_relay_takes(place):
    sink = place.sink()
    entries = [(1, {"%x" % number: "" for number in range(9000)}) for _unused in range(20)]
    keep(sink, *entries)
    for batch in segments.read(sink.oldest().path, [].append):
        for packed, count in forward.pack_batches([forward_form("stream", one) for one in batch]):
            unpacker = Unpacker(max_items=MESSAGE_VALUES)
            unpacker.feed(forward.message("t" * 249, packed, count, "c" * 1024))
            assert len(forward.decode(next(iter(unpacker))).entries) == count


def test_many_records_are_made_lines_of_in_parts():
    encoder = segments.Encoder((entry(number) for number in range(1000)), pytest.fail)
    parts = 1
    while not encoder.advance(0.0):  # which is over already
        parts += 1
    assert parts == 1 + 1000 // segments.LOOK_AFTER
    assert encoder.lines == encode([entry(number) for number in range(1000)])
    assert encoder.bytes == sum(map(len, encoder.lines))


def test_a_part_is_bounded_in_bytes_whatever_the_clock_says():
    encoder = segments.Encoder([(n, {"v": "\x01" * 100000}) for n in range(20)], pytest.fail)
    sizes = [0]
    while not encoder.advance(float("inf")):
        sizes.append(encoder.bytes)
    assert max(after - before for before, after in zip(sizes, sizes[1:])) < 2 * segments.PART_BYTES


def test_the_lines_of_one_message_are_bounded():
    with pytest.raises(FormatError, match="more than 16777216 bytes of JSON"):
        segments.encode(((n, {"v": "\x01" * 100000}) for n in range(100)), pytest.fail)


def test_what_was_refused_is_kept_in_a_bounded_file_for_nobody_elses_eyes(tmp_path):
    refused = Refused(str(tmp_path))
    for number in range(40):
        refused.add("s", entry(number, 1 << 20), "it is odd")
    sizes = [os.path.getsize(refused.path + suffix) for suffix in ("", ".old")]
    assert FILE_BYTES < sum(sizes) < 2 * FILE_BYTES + (4 << 20)
    with open(refused.path) as file:
        last = [json.loads(line) for line in file][-1]
    assert (last["tag"], last["time"], last["reason"], last["record"]["RecordId"]) == ("s", 39, "it is odd", "39")
    assert stat.S_IMODE(os.stat(refused.path).st_mode) == 0o600


def test_what_cannot_be_set_aside_is_not_acknowledged(tmp_path):
    with pytest.raises(SinkError, match="Cannot write"):
        Refused(str(tmp_path / "no folder")).add("s", entry(1), "it is odd")


def test_the_outline_of_a_huge_record_says_what_it_leaves_out():
    shown = outline(dict({"RecordId": "7", "text": "x" * 5000, "list": [1]}, **{"k%d" % n: "" for n in range(99)}))
    assert shown["RecordId"] == "7" and shown["text"].endswith("... (5000 characters)") and shown["list"] == "list"
    assert shown["..."] == "50 of 102 keys are shown" and len(json.dumps(shown)) < 2000
