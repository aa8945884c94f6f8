# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay's uploaders, and what it says to whom."""

import csv
import io
import itertools
import json
import os
import random
import re
import socket
import sqlite3
import sys
import tracemalloc
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.daemon import (
    CLIENT_LINES_A_MINUTE,
    Log,
    Notifier,
    print_error,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet import (
    retention,
    schema,
    sqlite,
    transaction,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.errors import FleetRefused
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay import fleet_store, version_0_1
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.destinations import (
    JsonLinesUploader,
    open_uploader,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.errors import (
    RecordsRefused,
    RelayError,
    UploadError,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.fleet_store import FleetUploader
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.tls import Tls
from ansible_collections.changetracking.inventory.tests.helpers.fleets import HOSTILE, VIM, make_older

pytestmark = pytest.mark.no_python  # it is about the databases


def change(**columns):
    return (1700000000, dict({"ConfigChangeType": "Files"}, **columns))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        return str(tmp_path / "sub" / "relay.db")
    return request.getfixturevalue("server").database()


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "sub" / "relay.db")


def rows(path, query):
    with open_store(path) as store:
        return store.query(query)


def take(uploader, *entries):
    uploader.take("s", iter([list(entries)]))
    uploader.close()


def test_numbers_can_be_compared_as_numbers(database):
    take(
        FleetUploader(database), change(RecordId="1", Size="9", LastSnapshotAge="300"), change(RecordId="2", Size="10")
    )
    assert rows(database, "SELECT Size FROM ConfigurationChange WHERE Size > 9") == [(10,)]


def test_every_column_of_every_kind_has_one_in_the_tables():
    for kind in all_kinds().values():
        assert set(kind.columns) <= {*schema.ITEM_COLUMNS, *schema.TIMES}
        for names in kind.tracked.values():
            assert set(names) <= {*schema.CHANGE_COLUMNS, *schema.TIMES}


@pytest.mark.parametrize("value", [5, 2**64, 1.5, True, [1], {"a": None}, "\0", "\ud800", "'; DROP TABLE x"])
def test_any_value_can_be_stored(database, value):
    take(FleetUploader(database), change(FileSystemPath=value, odd=value))
    ((path, more),) = rows(database, "SELECT FileSystemPath, AdditionalColumns FROM ConfigurationChange")
    assert isinstance(path, str) and list(json.loads(more)) == ["odd"]


def test_a_record_without_an_id_is_known_by_what_it_holds(database):
    for _delivery in range(2):
        take(
            FleetUploader(database),
            change(FileSystemPath="/a"),
            change(FileSystemPath="/b"),
            change(FileSystemPath="/b", RecordId=""),
        )
    assert len(rows(database, "SELECT RecordId FROM ConfigurationChange")) == 3


def test_records_of_any_keys_are_stored(database):
    uploader = FleetUploader(database)
    keys = [{"%d" % number + "k" * 200000: "v"} for number in range(20)]
    keys += [{"%d" % number: "v"} for number in range(1000)]
    keys.append({"%d" % number: "v" for number in range(10000)})
    take(uploader, *[change(RecordId=str(number), **more) for number, more in enumerate(keys)])
    assert rows(database, "SELECT count(*) FROM ConfigurationChange") == [(len(keys),)]


def test_a_database_of_an_older_relay_gets_the_columns_it_lacks(file, tmp_path):
    (tmp_path / "sub").mkdir()
    db = sqlite3.connect(file)
    db.execute(
        "CREATE TABLE ConfigurationChange (RecordId TEXT PRIMARY KEY NOT NULL, Stream TEXT, AdditionalColumns TEXT)"
    )
    db.close()
    take(FleetUploader(file), change(FileSystemPath="/a"))
    assert rows(file, "SELECT FileSystemPath FROM ConfigurationChange") == [("/a",)]


def test_the_relay_goes_on_with_a_store_without_actors(database, tmp_path):
    (tmp_path / "sub").mkdir()
    make_older(database)
    take(FleetUploader(database), change(RecordId="a-0", FileSystemPath="/a", **VIM), change(RecordId="a-1", **HOSTILE))
    found = rows(database, "SELECT ChangedBy, ChangedBySession FROM ConfigurationChange ORDER BY Seq")
    assert found == [(None, None)] * 3 + [("bob", 7), (HOSTILE["ChangedBy"], None)]


def test_what_is_no_database_is_left_alone_and_told(tmp_path):
    path = tmp_path / "text"
    path.write_text("my shopping list, which is a good deal longer than the header of a database file" * 20)
    before = path.read_bytes()
    with pytest.raises(UploadError, match="Cannot write"):
        take(FleetUploader(str(path)), change())
    assert path.read_bytes() == before


def test_a_failure_within_a_segment_leaves_nothing_of_it_in_the_tables(database):
    def batches():
        yield [change(RecordId=str(number)) for number in range(2000)]
        raise OSError(5, "Input/output error")

    uploader = FleetUploader(database)
    with pytest.raises(UploadError):
        uploader.take("s", batches())
    assert rows(database, "SELECT count(*) FROM ConfigurationChange") == [(0,)]
    take(uploader, change(RecordId="1"))
    assert rows(database, "SELECT count(*) FROM ConfigurationChange") == [(1,)]


@pytest.mark.parametrize("torn", [b'{"tag": "s", "ti', b"x" * 200000], ids=["short", "long"])
def test_json_lines_torn_by_a_kill_are_made_good(tmp_path, torn):
    uploader = JsonLinesUploader(str(tmp_path))
    take(uploader, change(RecordId="1"))
    with open(str(tmp_path / "s.jsonl"), "ab") as file:
        file.write(torn)
    take(uploader, change(RecordId="2"))
    lines = (tmp_path / "s.jsonl").read_text().splitlines()
    assert [json.loads(line)["record"]["RecordId"] for line in lines] == ["1", "2"]


def test_json_lines_that_cannot_be_written_whole_are_not_written_in_part(tmp_path):
    def batches():
        yield [change(RecordId=str(number)) for number in range(2000)]
        raise OSError(5, "Input/output error")

    take(JsonLinesUploader(str(tmp_path)), change(RecordId="0"))
    with pytest.raises(UploadError):
        JsonLinesUploader(str(tmp_path)).take("s", batches())
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 1


class CsvUploader(JsonLinesUploader):
    """As CONTRIBUTING.md describes one."""

    suffix = ".csv"
    header = "time,path\r\n"

    def lines(self, stream, batch):
        text = io.StringIO()
        paths = [(seconds, record["FileSystemPath"].replace("\n", "\\n")) for seconds, record in batch]
        csv.writer(text).writerows(paths)
        return text.getvalue()


@pytest.mark.parametrize("torn", ["", "time,pa", "time,path\r\n", 'time,path\r\n1,"a'])
def test_a_format_of_lines_has_its_header_once_and_no_torn_line(tmp_path, torn):
    (tmp_path / "s.csv").write_bytes(torn.encode())
    for path in ('/a,"\n', "/b"):
        take(CsvUploader(str(tmp_path)), change(FileSystemPath=path))
    with open(str(tmp_path / "s.csv"), newline="") as file:
        assert list(csv.reader(file)) == [["time", "path"], ["1700000000", '/a,"\\n'], ["1700000000", "/b"]]


@pytest.mark.parametrize("text", ["", "sqlite", "sqlite:", "ftp:x", "/path"])
def test_a_destination_that_is_none_is_refused(text):
    with pytest.raises(RelayError, match="is no destination"):
        open_uploader(text, [], Tls())


def test_a_destination_that_is_none_shows_no_password():
    with pytest.raises(RelayError, match="is no destination") as caught:
        open_uploader("postgre://me:secret@h/db", [], Tls())
    assert "secret" not in str(caught.value) and "h/db" in str(caught.value)
    with pytest.raises(RelayError, match="is no destination") as caught:
        open_uploader("https://a.blob.core.windows.net/c?sig=secret", [], Tls())
    assert "secret" not in str(caught.value) and "a.blob.core" in str(caught.value)


def test_nothing_a_client_says_can_forge_a_line_of_the_log():
    stream = io.StringIO()
    Log(stream)("a\nb\x1b[2J\u2028\ud800é")
    assert stream.getvalue().count("\n") == 1 and "\x1b" not in stream.getvalue()


def test_complaints_about_clients_are_limited_and_counted():
    stream, now = io.StringIO(), [0.0]
    log = Log(stream, lambda: now[0])
    for _unused in range(CLIENT_LINES_A_MINUTE + 5):
        log.about_client("bad client")
    now[0] = 60.0
    log.about_client("another")
    lines = stream.getvalue().splitlines()
    assert len(lines) == CLIENT_LINES_A_MINUTE + 2 and "5 more messages" in lines[-2]


def test_lines_for_the_journal_have_their_level_and_all_others_the_time(tmp_path, monkeypatch):
    with (tmp_path / "journal").open("w") as journal, (tmp_path / "file").open("w") as file:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", "%d:%d" % (status.st_dev, status.st_ino))
        for stream in (journal, file):
            log = Log(stream)
            log("ready")
            log.warning("slow")
            log.error("lost")
            log.about_client("odd")
        monkeypatch.setattr(sys, "stderr", journal)
        print_error("agent", ValueError("bad"))
        monkeypatch.setattr(sys, "stderr", file)
        print_error("agent", ValueError("bad"))
    lines = (tmp_path / "journal").read_text().splitlines()
    assert lines == ["<6>ready", "<4>slow", "<3>lost", "<4>odd", "<3>agent: bad"]
    assert [line.split("Z ")[-1] for line in (tmp_path / "file").read_text().splitlines()] == [
        "ready", "slow", "lost", "odd", "agent: bad",
    ]  # fmt: skip


def test_a_log_that_is_gone_is_no_reason_to_stop():
    stream = io.StringIO()
    log = Log(stream)
    stream.close()
    log("a line")


def test_the_service_manager_is_told_on_an_abstract_socket_too():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0test-relay-%d" % id(manager))
        manager.settimeout(10)
        Notifier({"NOTIFY_SOCKET": "@test-relay-%d" % id(manager)}).notify("READY=1")
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "environment, seconds",
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "3", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_served_twice_as_often_as_asked_for_by_whom_it_is_meant_for(environment, seconds):
    notifier = Notifier(environment)
    assert notifier.watchdog_seconds == seconds
    notifier.notify("WATCHDOG=1")


# --- what is kept, and for how long


def inventory(batch, *names, count=None, computer="web01", **columns):
    """Records as enqueue.queue() makes them, the last of which says how many there are."""
    out = []
    for number, name in enumerate(names):
        record = {"ConfigDataType": "Software", "Computer": computer, "SourceComputerId": "id-" + computer}
        record.update(SoftwareName=name, RecordId="%s-%d" % (batch, number), TimeGenerated="2026-01-01T00:00:00Z")
        record.update(columns)
        out.append((1700000000, record))
    if count is not False:
        out[-1][1]["InventoryRecords"] = str(len(names) if count is None else count)
    return out


def names(path, computer="web01"):
    query = "SELECT SoftwareName FROM ConfigurationData WHERE Computer = '%s' ORDER BY 1" % computer
    return [name for (name,) in rows(path, query)]


def test_an_inventory_replaces_the_one_before_it_when_all_of_it_is_there(database):
    uploader = FleetUploader(database)
    take(uploader, *inventory("a", "one", "two", "three"))
    new = inventory("b", "one", "four")
    take(uploader, new[0])
    assert names(database) == ["one", "one", "three", "two"]
    take(uploader, new[1])
    assert names(database) == ["four", "one"]


def test_it_does_so_whichever_record_comes_first_and_however_it_is_cut(database):
    uploader = FleetUploader(database)
    take(uploader, *inventory("a", "one", "two", "three"))
    new = inventory("b", *("n%d" % number for number in range(5)))
    for one in reversed(new):
        assert names(database)[-3:] == ["one", "three", "two"]
        take(uploader, one)
    assert names(database) == ["n%d" % number for number in range(5)]


def test_what_comes_again_of_an_inventory_that_was_replaced_does_not_come_back(database):
    uploader = FleetUploader(database)
    old, new = inventory("a", "one", "two"), inventory("b", "three")
    for again in (old, new, old, new + old, old[:1], old[1:]):
        take(uploader, *again)
    assert names(database) == ["three"]


def test_an_inventory_that_was_begun_and_never_ended_goes_with_the_next_one(database):
    uploader = FleetUploader(database)
    cut = inventory("b", "two", "three")
    take(uploader, *inventory("a", "one"), *cut[:1])
    take(uploader, *inventory("c", "four"))
    take(uploader, *cut)
    assert names(database) == ["four"]


def test_of_two_inventories_that_arrive_mixed_the_one_that_began_later_stays(database):
    uploader = FleetUploader(database)
    first, second = inventory("a", "one", "two"), inventory("b", "three", "four")
    for one in (first[0], second[0], first[1], second[1]):
        take(uploader, one)
    assert names(database) == ["four", "three"]
    take(uploader, *first)
    assert names(database) == ["four", "three"]


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "", None, 7])
def test_no_clock_of_a_host_makes_an_inventory_newer_or_older(database, time):
    uploader = FleetUploader(database)
    take(uploader, *inventory("a", "one"))
    take(uploader, *inventory("b", "two", "three", TimeGenerated=time))
    assert names(database) == ["three", "two"]
    take(uploader, *inventory("c", "four"))
    assert names(database) == ["four"]


def test_inventories_of_other_hosts_and_kinds_stay_and_so_do_records_of_other_types(database):
    uploader = FleetUploader(database)
    other = inventory("b", "status", ConfigDataType="CollectionStatus")
    take(uploader, *inventory("a", "one", computer="db01"), *inventory("c", "file", ConfigDataType="Files"), *other)
    same_name = inventory("d", "clone", SourceComputerId="another machine")
    take(uploader, *same_name, *inventory("e", "two"), change(RecordId="e-9", Computer="web01"))
    assert names(database, "db01") == ["one"]
    assert names(database) == ["clone", "file", "status", "two"]
    assert rows(database, "SELECT RecordId FROM ConfigurationChange") == [("e-9",)]


@pytest.mark.parametrize("count", [False, "", "x", "-1", "\\u00b2", "99999999999999999999", None, {"a": 1}, 4])
def test_an_inventory_that_does_not_say_how_large_it_is_or_is_not_all_there_replaces_nothing(database, count):
    uploader = FleetUploader(database)
    new = inventory("b", "two", "three", count=False)
    if count is not False:
        new[-1][1]["InventoryRecords"] = count
    take(uploader, *inventory("a", "one"))
    take(uploader, *new)
    assert names(database) == ["one", "three", "two"]
    take(uploader, *inventory("c", "four"))
    assert names(database) == ["four"]


def test_what_is_remembered_of_replaced_inventories_is_bounded(database):
    uploader = FleetUploader(database)
    for number in range(30):
        take(uploader, *inventory("batch%d" % number, "name%d" % number))
    assert names(database) == ["name29"]
    assert rows(database, "SELECT count(*) < 12 FROM arrivals") in ([(1,)], [(True,)])


def test_what_is_announced_and_never_comes_is_forgotten_in_time(database, calendar):
    uploader = FleetUploader(database, keep_days=1)
    for number in range(5):
        calendar.day = number
        take(uploader, *inventory("batch%d" % number, "one", count=9, computer="host%d" % number))
    assert rows(database, "SELECT h.name FROM arrivals a JOIN hosts h ON h.host = a.host ORDER BY 1") == [
        ("host3",),
        ("host4",),
    ]


def computers(path):
    return [name for (name,) in rows(path, "SELECT DISTINCT Computer FROM ConfigurationData ORDER BY 1")]


def deliver(uploader, *computers, **columns):
    """An inventory under each of these names, in turn, from hosts with one SourceComputerId."""
    for computer in computers:
        batch = "b%d" % next(numbers)
        take(uploader, *inventory(batch, "one", "two", computer=computer, SourceComputerId="one id", **columns))


numbers = itertools.count()


def test_an_inventory_under_a_new_name_replaces_that_under_the_old_one(database):
    uploader = FleetUploader(database)
    take(uploader, *inventory("f", "file", computer="old", SourceComputerId="one id", ConfigDataType="Files"))
    deliver(uploader, "old", "old", "new")
    assert names(database, "old") == ["file"]  # the other kinds follow when it is their turn
    assert names(database, "new") == ["one", "two"]
    deliver(uploader, "new")
    take(uploader, *inventory("g", "file", computer="new", SourceComputerId="one id", ConfigDataType="Files"))
    assert computers(database) == ["new"]


def test_a_late_record_under_the_old_name_does_not_bring_it_back(database):
    uploader = FleetUploader(database)
    late = inventory("late", "one", "two", computer="old", SourceComputerId="one id")
    take(uploader, late[0])
    deliver(uploader, "old", "new")
    take(uploader, *late)
    assert computers(database) == ["new"]


def test_an_old_name_stays_until_the_new_inventory_is_all_there(database):
    uploader = FleetUploader(database)
    new = inventory("new", "one", "two", computer="new", SourceComputerId="one id")
    deliver(uploader, "old")
    take(uploader, new[0])
    assert computers(database) == ["new", "old"]
    take(uploader, new[1])
    assert computers(database) == ["new"]


def test_a_host_that_gets_its_name_back_has_one_inventory_in_the_end(database):
    uploader = FleetUploader(database)
    deliver(uploader, "a", "a", "b", "b", "a")
    assert computers(database) == ["a", "b"]  # so far they might be two hosts
    deliver(uploader, "a", "a", "a")
    assert computers(database) == ["a"]


@pytest.mark.parametrize("hosts", [2, 3, 20])
def test_hosts_that_share_a_machine_id_have_an_inventory_each_from_the_second_one_on(database, hosts):
    uploader = FleetUploader(database)
    clones = ["clone%02d" % number for number in range(hosts)]
    deliver(uploader, *clones, *clones)
    for _day in range(3):
        for clone in clones:
            deliver(uploader, clone)
            assert computers(database) == clones
    # One whose turn comes twice, because it was restarted, drives nobody out.
    deliver(uploader, clones[0], clones[0])
    assert computers(database) == clones


def test_machines_that_share_a_machine_id_and_have_a_uuid_each_never_replace_each_other(database):
    uploader = FleetUploader(database)
    deliver(uploader, "a", VMUUID="uuid of a")
    deliver(uploader, "b", VMUUID="uuid of b")
    deliver(uploader, "b", "b", "b", "b", VMUUID="uuid of b")
    assert computers(database) == ["a", "b"]
    deliver(uploader, "c", VMUUID="uuid of b")
    assert computers(database) == ["a", "c"]


@pytest.mark.parametrize("one, other", [("", "uuid"), ("uuid", ""), ("uuid", None), (None, "uuid"), (None, None)])
def test_a_uuid_that_is_unknown_tells_no_machines_apart(database, one, other):
    uploader = FleetUploader(database)
    deliver(uploader, "old", VMUUID=one)
    deliver(uploader, "new", VMUUID=other)
    assert computers(database) == ["new"]


@pytest.mark.parametrize("source", ["", None])
def test_hosts_without_an_id_are_known_by_their_names(database, source):
    uploader = FleetUploader(database)
    for batch, computer in (("a", "web01"), ("b", "web02"), ("c", "web02"), ("d", "web02"), ("e", "web02")):
        take(uploader, *inventory(batch, "one", computer=computer, SourceComputerId=source))
    assert computers(database) == ["web01", "web02"]


LONG = "".join(
    random.Random(1).choices("abcdefghijklmnopqrstuvwxyz\u00fc\u20ac0123456789", k=5000)
)  # which cannot be compressed
ODD = [
    None,
    5,
    2**64 - 1,
    1.5,
    True,
    [1],
    [],
    {},
    {"a": None},
    "\0",
    "\ud800",
    "",
    "-",
    "a-",
    "-1",
    "x" * 100000,
    LONG,
    LONG + "-7",
    "'; DROP",
    "\udcff\0",
]


@pytest.mark.parametrize(
    "column", ["ConfigDataType", "Computer", "SourceComputerId", "TimeGenerated", "RecordId", "InventoryRecords"]
)
def test_no_value_of_a_record_keeps_the_others_of_its_upload_out(database, column):
    for number, value in enumerate(ODD):
        uploader = FleetUploader(database)
        odd = inventory("b%d" % number, "odd%d" % number, **{column: value})
        two = inventory("c%d" % number, "two%d" % number, computer="db01")
        for _delivery in range(2):
            take(uploader, *inventory("a%d" % number, "one"), *odd, *two)
        assert names(database, "db01") == ["two%d" % number], value
        count = "SELECT count(*) FROM ConfigurationData WHERE SoftwareName = 'odd%d'" % number
        assert rows(database, count) == [(1,)], value


def test_a_large_inventory_takes_no_memory_to_replace(database):
    uploader = FleetUploader(database)
    for batch in ("a", "b"):
        many = [(1, dict(inventory(batch, "name%d" % n)[0][1], RecordId="%s-%d" % (batch, n))) for n in range(20000)]
        for _seconds, record in many[:-1]:
            del record["InventoryRecords"]
        many[-1][1]["InventoryRecords"] = "20000"
        uploader.take("s", [many[:-1]])
        tracemalloc.start()
        uploader.take("s", [many[-1:]])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20
    assert len(names(database)) == 20000


class Calendar:
    """Stands in for the module time: which day it is."""

    def __init__(self):
        self.day = 0

    def time(self):
        return 1700000000 + self.day * 86400


@pytest.fixture
def calendar(monkeypatch):
    calendar = Calendar()
    monkeypatch.setattr(transaction, "time", calendar)
    return calendar


def kept(path, table="ConfigurationChange"):
    order = "Seq" if table == "ConfigurationChange" else "row"
    return [int(own) for (own,) in rows(path, "SELECT RecordId FROM %s ORDER BY %s" % (table, order))]


def test_changes_are_kept_for_so_many_days(database, calendar):
    uploader = FleetUploader(database, keep_days=2)
    for number in range(6):
        calendar.day = number
        take(uploader, change(RecordId=str(number)), (1, {"RecordId": str(number)}))
    assert kept(database) == kept(database, "OtherRecords") == [3, 4, 5]


def test_a_clock_that_jumps_or_a_year_without_a_record_makes_nothing_old(database, calendar):
    uploader = FleetUploader(database, keep_days=2)
    for number, day in enumerate((0, 4000, 0, 1, 4000, 0, 1)):
        calendar.day = day
        take(uploader, change(RecordId=str(number)))
    assert kept(database) == list(range(7))
    calendar.day = 9000
    for number in range(7, 20):
        take(uploader, change(RecordId=str(number)))
    assert kept(database) == list(range(1, 20))


def test_a_table_that_gets_nothing_for_long_keeps_what_it_has(database, calendar):
    uploader = FleetUploader(database, keep_days=2)
    take(uploader, (1, {"RecordId": "0"}))
    for number in range(1, 10):
        calendar.day = number
        take(uploader, change(RecordId=str(number)))
    take(uploader, (1, {"RecordId": "1"}))
    assert kept(database, "OtherRecords") == [0, 1]


def test_old_rows_are_deleted_in_slices_that_keep_up_with_what_arrives(database, calendar, monkeypatch):
    monkeypatch.setattr(retention, "SLICE", 10)
    uploader = FleetUploader(database, keep_days=1)
    take(uploader, *(change(RecordId=str(number)) for number in range(100)))
    for day in (1, 2):
        calendar.day = day
        take(uploader, change(RecordId=str(100 + day)))
    assert len(kept(database)) == 100 + 2 - 10
    take(uploader, *(change(RecordId=str(200 + number)) for number in range(30)))
    assert len(kept(database)) == 92 + 30 - 60
    for number in range(4):
        take(uploader, change(RecordId=str(300 + number)))
    assert kept(database)[0] == 101


def test_an_inventory_of_a_host_that_is_gone_goes_with_the_changes_of_its_time(database, calendar):
    uploader = FleetUploader(database, keep_days=1)
    take(uploader, *inventory("a", "one", computer="gone"))
    for day in (1, 2):
        calendar.day = day
        take(uploader, *inventory("b%d" % day, "two"))
    assert names(database, "gone") == [] and names(database) == ["two"]


def test_a_host_that_is_gone_leaves_nothing_behind(database, calendar):
    uploader = FleetUploader(database, keep_days=1)
    take(uploader, *inventory("a", "one", computer="gone"), change(RecordId="1", Computer="gone"))
    for day in (1, 2, 3):
        calendar.day = day
        take(uploader, *inventory("b%d" % day, "two"), change(RecordId="9%d" % day, Computer="web01"))
    assert "gone" not in {name for (name,) in rows(database, "SELECT name FROM hosts")}
    assert rows(database, "SELECT count(*) FROM machines WHERE Computer = 'gone'") == [(0,)]


def test_a_value_that_the_database_refuses_keeps_only_its_record_out(database, monkeypatch):
    """As a text of more than 1 GB would be."""
    from_entry = fleet_store.record_id

    def record_id(stream, entry):
        if entry[1].get("RecordId") == "bad":
            raise FleetRefused("too large")
        return from_entry(stream, entry)

    monkeypatch.setattr(fleet_store, "record_id", record_id)
    with pytest.raises(RecordsRefused, match="too large"):
        take(FleetUploader(database), change(RecordId="1"), change(RecordId="bad"))
    take(FleetUploader(database), change(RecordId="1"))
    assert kept(database) == [1]


def test_a_server_that_restarts_between_two_uploads_is_one_failure(server):
    where = server.database()
    uploader = FleetUploader(where)
    uploader.take("s", [[change(RecordId="1")]])
    server.stop()
    server.start()
    with pytest.raises(UploadError, match="Cannot write the records"):
        uploader.take("s", [[change(RecordId="2")]])
    take(uploader, change(RecordId="1"), change(RecordId="2"))
    assert kept(where) == [1, 2]


README = Path(__file__).parents[2] / "roles" / "relay" / "README.md"
QUERIES = re.findall("^SELECT .*;$", README.read_text("utf-8"), re.MULTILINE)


LARGE = ("b", "c", "w", "i", "s", "t", "o")  # as the views call their tables


@pytest.mark.parametrize("query", QUERIES)
def test_every_documented_query_looks_rows_up_by_an_index(file, query):
    take(FleetUploader(file), change(RecordId="1"))
    assert len(QUERIES) >= 3
    plan = [row[-1].split() for row in rows(file, "EXPLAIN QUERY PLAN " + query)]
    assert [step for step in plan if step[0] == "SCAN" and step[1] in LARGE] == []


# As version 0.1 made them, with the columns that matter here.
OLD = """
CREATE TABLE ConfigurationChange (RecordId TEXT PRIMARY KEY NOT NULL, Stream TEXT NOT NULL, "TimeGenerated" TEXT,
 "ConfigChangeType" TEXT, "FileSystemPath" TEXT, "Size" INTEGER, AdditionalColumns TEXT);
CREATE TABLE ConfigurationData (RecordId TEXT PRIMARY KEY NOT NULL, Stream TEXT NOT NULL, "Computer" TEXT,
 "SourceComputerId" TEXT, "TimeGenerated" TEXT, "ConfigDataType" TEXT, "SoftwareName" TEXT, AdditionalColumns TEXT);
CREATE TABLE OtherRecords (RecordId TEXT PRIMARY KEY NOT NULL, Stream TEXT NOT NULL, "TimeGenerated" TEXT,
 AdditionalColumns TEXT);
"""


@pytest.fixture
def old(file, tmp_path):
    (tmp_path / "sub").mkdir()
    db = sqlite3.connect(file)
    db.executescript(OLD)
    changes = [("%d" % number, "s", "2026-01-01T00:00:00Z", "Files", "/f", 9, '{"a": 1}') for number in range(100)]
    db.executemany("INSERT INTO ConfigurationChange VALUES (?, ?, ?, ?, ?, ?, ?)", changes)
    data = ("x-0", "s", "web01", "id-web01", "2026-01-01T00:00:00Z", "Software", "old", None)
    db.execute("INSERT INTO ConfigurationData VALUES (?, ?, ?, ?, ?, ?, ?, ?)", data)
    db.execute("INSERT INTO OtherRecords VALUES ('7', 's', '2026-01-01T00:00:00Z', '{}')")
    db.commit()
    db.close()
    return file


def test_a_database_of_version_0_1_keeps_all_it_has(old):
    uploader = FleetUploader(old)
    uploader.prepare()
    take(
        uploader,
        change(RecordId="99", FileSystemPath="/f", TimeGenerated="2026-01-01T00:00:00Z"),
        change(RecordId="100"),
    )
    assert kept(old) == list(range(101)) and kept(old, "OtherRecords") == [7] and names(old) == ["old"]
    query = "SELECT Stream, FileSystemPath, Size, AdditionalColumns FROM ConfigurationChange WHERE RecordId = '5'"
    assert rows(old, query) == [("s", "/f", 9, '{"a": 1}')]
    assert rows(old, "SELECT name FROM sqlite_master WHERE name LIKE '%_0_1' OR name = 'x'") == []
    take(uploader, *inventory("b", "new"))
    assert names(old) == ["new"]


def test_its_rows_are_there_before_the_first_upload(old):
    uploader = FleetUploader(old)
    uploader.prepare()
    uploader.begin()
    assert kept(old) == list(range(100)) and kept(old, "OtherRecords") == [7] and names(old) == ["old"]
    uploader.close()


@pytest.mark.parametrize("end", range(9))
def test_its_change_goes_on_where_it_was_interrupted(old, monkeypatch, end):
    """As by a kill before the transaction with this number is committed."""
    monkeypatch.setattr(version_0_1, "MOVED", 30)
    begun = []

    def commit(backend, counter=0):
        begun.append(counter)
        if len(begun) > end:
            raise KeyboardInterrupt
        backend.execute("COMMIT")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite.Sqlite, "commit", commit)
        with pytest.raises(KeyboardInterrupt):
            take(FleetUploader(old), change(RecordId="100"))
    take(FleetUploader(old), change(RecordId="100"))
    assert kept(old) == list(range(101)) and kept(old, "OtherRecords") == [7] and names(old) == ["old"]
