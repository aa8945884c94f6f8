# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay's sinks and their segments."""

import itertools
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay import segments
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.errors import RelayError, SinkError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.sinks import (
    MAX_SINKS,
    Limits,
    LocalSink,
    Sinks,
    folder_name,
)


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


def keep(sink, *entries):
    sink.append(segments.encode(entries))
    sink.commit()
    sink.seal()


def held(sink, damaged=None):
    found = []
    while sink.oldest():
        segment = sink.oldest()
        found += itertools.chain.from_iterable(
            segments.read(segment.path, (damaged if damaged is not None else []).append)
        )
        sink.taken(segment)
    return [int(record["RecordId"]) for _seconds, record in found]


def test_what_was_committed_comes_back_oldest_first_also_after_a_restart(place):
    sink = place.sink()
    keep(sink, entry(1), entry(2))
    keep(sink, entry(3))
    sink.append(segments.encode([entry(4)]))
    sink.commit()  # and the relay is killed
    again = place.sink()
    assert again.rows == 4
    assert held(again) == [1, 2, 3, 4]
    assert (again.rows, again.delivered, os.listdir(str(place.path / "s"))) == (0, 4, [])


def test_what_was_not_committed_is_not_there(place):
    sink = place.sink()
    sink.append(segments.encode([entry(1)]))
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
        assert len(batch) == 1 or sum(map(len, segments.encode(batch))) <= segments.BATCH_BYTES


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_torn_last_line_is_skipped_and_told_and_nothing_else_is(tmp_path_factory, data):
    place = Place(tmp_path_factory.mktemp("torn"))
    sink = place.sink()
    keep(sink, entry(1), entry(2), entry(3, 20))
    path = sink.oldest().path
    size = os.path.getsize(path)
    last = len(segments.encode([entry(3, 20)])[0])
    cut = data.draw(st.integers(1, last - 1))
    os.truncate(path, size - cut)
    padded = data.draw(st.booleans())
    if padded:
        os.truncate(path, size)  # as a file system may after a power failure: the length is there, the data is not
    damaged = []
    whole = cut == 1 and not padded  # only its newline is missing
    assert held(place.sink(), damaged) == ([1, 2, 3] if whole else [1, 2])
    assert len(damaged) == (not whole)


def test_too_large_a_sink_drops_its_oldest_rows_counted_and_told(place):
    sink = place.sink(bytes=10000)
    for number in range(10):
        keep(sink, entry(number, 2000))
    sink.trim(None)
    assert sink.size <= 10000
    assert sink.dropped + sink.rows == 10
    assert len(place.log) == sink.dropped and "dropped its oldest 1 rows" in place.log[0]
    assert held(sink) == [6, 7, 8, 9]


def test_the_segment_that_is_being_uploaded_is_not_dropped(place):
    sink = place.sink(bytes=5000)
    for number in range(4):
        keep(sink, entry(number, 2000))
    sink.trim(sink.oldest())
    assert held(sink) == [0, 3]


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
    assert "they are older than 60 s" in place.log[0]


def test_a_sink_that_cannot_be_written_keeps_what_it_has_and_works_again_later(place):
    sink = place.sink()
    sink.append(segments.encode([entry(1)]))
    sink.commit()
    os.close(sink._file)
    sink._file = os.open("/dev/full", os.O_WRONLY)
    sink.append(segments.encode([entry(2), entry(3)]))
    with pytest.raises(SinkError, match="not acknowledged until it can"):
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


def test_tags_without_end_are_refused(tmp_path):
    sinks = Sinks(str(tmp_path / "events"), Limits(), [].append)
    for number in range(MAX_SINKS):
        sinks.sink(str(number))
    with pytest.raises(SinkError, match="256 sinks already"):
        sinks.sink("one more")
    assert sinks.sink("5") is sinks.sink("5")


def test_sinks_of_an_earlier_relay_are_found_by_their_streams_names(tmp_path):
    sinks = Sinks(str(tmp_path / "events"), Limits(), [].append)
    keep(sinks.sink("../a b"), entry(1))
    (tmp_path / "events" / "a file").write_text("")
    sinks.close()
    assert [(sink.stream, sink.rows) for sink in Sinks(str(tmp_path / "events"), Limits(), [].append)] == [
        ("../a b", 1)
    ]


def test_two_relays_cannot_have_one_events_folder(tmp_path):
    first = Sinks(str(tmp_path), Limits(), [].append)
    with pytest.raises(RelayError, match="Another relay"):
        Sinks(str(tmp_path), Limits(), [].append)
    first.close()
    Sinks(str(tmp_path), Limits(), [].append).close()
