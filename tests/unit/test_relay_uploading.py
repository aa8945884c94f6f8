# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploads to destinations that do not take everything: no record holds up the others for ever."""

import itertools
import json
import queue

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay import segments
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.destinations import Uploader
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.errors import (
    RecordsRefused,
    UploadError,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.refused import Refused
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.sinks import Limits, Sinks
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.uploads import Uploading
from ansible_collections.changetracking.inventory.tests.helpers.log_lines import LogLines

PATIENCE = 60  # seconds for what takes a moment


class Destination(Uploader):
    """Takes what has no key `poison`; else, and while it is `away`, it fails with `error`."""

    def __init__(self, error, remote):
        self.error = error
        self.remote = remote
        self.away = False
        self.taken = set()
        self.begun = queue.Queue()

    def begin(self):
        self.begun.put(1)
        raise self.error

    def take(self, stream, batches):
        got = list(itertools.chain.from_iterable(batches))
        if self.away:
            raise UploadError("nobody there")
        if any("poison" in record for _seconds, record in got):
            raise self.error
        self.taken.update(record["RecordId"] for _seconds, record in got)


class Place:
    def __init__(self, path, error, remote=True):
        self.log = LogLines()
        self.now = 0.0
        self.woken = queue.Queue()
        self.destination = Destination(error, remote)
        self.sinks = Sinks(str(path), Limits(), self.log.append, lambda: self.now)
        self.refused = Refused(self.sinks.folder)
        self.uploading = Uploading(
            self.sinks,
            self.destination,
            self.refused,
            1.0,
            self.log,
            lambda: self.woken.put(1),
            lambda: self.now,
        )

    def keep(self, *records, stream="s"):
        sink = self.sinks.sink(stream, "peer")
        sink.append(segments.encode([(1, record) for record in records], lambda entry, reason: pytest.fail(reason)))
        sink.commit()
        sink.seal()
        return sink

    def run(self, attempts):
        """So many attempts of an upload, each as soon as it is due."""
        for _unused in range(attempts):
            self.uploading.tick()
            self.now += 1000
            self.uploading.tick()
            self.woken.get(timeout=PATIENCE)
        self.uploading.tick()

    def until_empty(self):
        for _attempt in range(20):
            if not any(sink.rows for sink in self.sinks):
                return
            self.run(1)
        raise AssertionError("\n".join(self.log))

    def set_aside(self):
        try:
            with open(self.refused.path) as file:
                return [json.loads(line)["record"]["RecordId"] for line in file]
        except OSError:
            return []


def records(count, *poison):
    return [dict({"RecordId": str(n)}, **({"poison": ""} if n in poison else {})) for n in range(count)]


ERRORS = {
    "its form": RecordsRefused("no form"),
    "the connection": UploadError("closed by the receiver"),
    "a defect": ZeroDivisionError("oh"),
}


@pytest.mark.parametrize("poison", [[0], [999], [3, 4, 700], [0, 999]], ids=str)
@pytest.mark.parametrize("name", sorted(ERRORS))
def test_a_record_that_is_not_taken_is_set_aside_named_and_counted_and_all_others_arrive(tmp_path, name, poison):
    place = Place(tmp_path, ERRORS[name])
    sink = place.keep(*records(1000, *poison))
    place.until_empty()
    assert place.destination.taken == {str(n) for n in range(1000) if n not in poison}
    assert place.set_aside() == [str(n) for n in poison]
    assert (sink.delivered, sink.set_aside, sink.dropped) == (1000 - len(poison), len(poison), 0)
    assert sum("was set aside in" in line for line in place.log) == len(poison)


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_a_segment_of_nothing_but_such_a_record_does_not_hold_up_the_next(tmp_path, name):
    place = Place(tmp_path, ERRORS[name])
    place.keep({"RecordId": "bad", "poison": ""})
    place.keep({"RecordId": "good"})
    place.until_empty()
    assert place.destination.taken == {"good"} and place.set_aside() == ["bad"]


def test_a_destination_that_is_away_loses_nothing_however_long(tmp_path):
    place = Place(tmp_path, UploadError("closed by the receiver"))
    place.destination.away = True
    place.keep(*records(1000, 5))
    place.keep(*records(10))
    place.run(13)
    assert place.set_aside() == [] and place.destination.taken == set()
    place.destination.away = False
    place.until_empty()
    assert place.destination.taken == {str(n) for n in range(1000) if n != 5} | {str(n) for n in range(10)}


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_a_destination_that_cannot_begin_yet_is_not_given_up(tmp_path, name):
    place = Place(tmp_path, ERRORS[name])
    assert place.destination.begun.get(timeout=PATIENCE) == 1 and place.log == []
    sink = place.keep(*records(3))
    place.until_empty()
    assert sink.delivered == 3


def test_a_record_that_comes_alone_waits_until_something_else_is_taken(tmp_path):
    place = Place(tmp_path, UploadError("closed by the receiver"))
    place.keep({"RecordId": "bad", "poison": ""})
    place.run(13)
    assert place.set_aside() == []


def test_a_disk_that_takes_only_small_records_has_none_set_aside(tmp_path):
    place = Place(tmp_path, UploadError("No space left on device"), remote=False)
    place.keep(*records(10, 5))
    place.run(13)
    assert place.set_aside() == [] and place.destination.taken == set()


def test_records_that_the_destination_names_are_set_aside_and_no_other_is_uploaded_again(tmp_path):
    place = Place(tmp_path, None)
    uploads = []

    def take(_stream, batches):
        entries = list(itertools.chain.from_iterable(batches))
        uploads.append(len(entries))
        raise RecordsRefused("two of them", [(entry, "no form") for entry in entries if "poison" in entry[1]])

    place.destination.take = take
    sink = place.keep(*records(1000, 3, 700))
    place.until_empty()
    assert uploads == [1000] and place.set_aside() == ["3", "700"]
    assert (sink.delivered, sink.set_aside) == (998, 2)


def test_a_destination_says_when_it_takes_records_again(tmp_path):
    place = Place(tmp_path, UploadError("busy", 777.0))
    place.keep({"RecordId": "1", "poison": ""})
    place.run(1)
    assert "The next attempt is in 777 s." in place.log[-1]
