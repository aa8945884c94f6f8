# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay's uploaders, and what it says to whom."""

import io
import json
import socket
import sqlite3

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.ama.address import Tls
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.daemon import (
    COMPLAINTS_A_MINUTE,
    Log,
    Notifier,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import KINDS
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay import tables
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.errors import RelayError, UploadError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.uploaders import (
    MAX_PLANS,
    PLAN_BYTES,
    JsonLines,
    Sqlite,
    open_uploader,
)


def change(**columns):
    return (1700000000, dict({"ConfigChangeType": "Files"}, **columns))


@pytest.fixture
def database(tmp_path):
    return str(tmp_path / "sub" / "relay.db")


def rows(path, query):
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def take(uploader, *entries):
    uploader.take("s", iter([list(entries)]))
    uploader.close()


def test_numbers_can_be_compared_as_numbers(database):
    take(Sqlite(database), change(RecordId="1", Size="9", LastSnapshotAge="300"), change(RecordId="2", Size="10"))
    assert rows(database, "SELECT Size FROM ConfigurationChange WHERE Size > 9") == [(10,)]


def test_every_column_of_every_kind_has_one_in_the_tables():
    for kind in KINDS.values():
        assert set(kind.columns) <= set(tables.DATA.columns)
        for names in kind.tracked.values():
            assert set(names) <= set(tables.CHANGE.columns)


@pytest.mark.parametrize("value", [5, 2**64, 1.5, True, [1], {"a": None}, "\0", "\ud800", "'; DROP TABLE x"])
def test_any_value_can_be_stored(database, value):
    take(Sqlite(database), change(FileSystemPath=value, odd=value))
    ((path, more),) = rows(database, "SELECT FileSystemPath, AdditionalColumns FROM ConfigurationChange")
    assert isinstance(path, str) and list(json.loads(more)) == ["odd"]


def test_a_record_without_an_id_is_known_by_what_it_holds(database):
    for _delivery in range(2):
        take(
            Sqlite(database),
            change(FileSystemPath="/a"),
            change(FileSystemPath="/b"),
            change(FileSystemPath="/b", RecordId=""),
        )
    assert len(rows(database, "SELECT RecordId FROM ConfigurationChange")) == 3


def test_sets_of_keys_are_remembered_only_while_they_are_few_and_small(database):
    uploader = Sqlite(database)
    keys = [{"%d" % number + "k" * 200000: "v"} for number in range(20)]
    keys += [{"%d" % number: "v"} for number in range(1000)]
    keys.append({"%d" % number: "v" for number in range(10000)})
    take(uploader, *[change(RecordId=str(number), **more) for number, more in enumerate(keys)])
    assert rows(database, "SELECT count(*) FROM ConfigurationChange") == [(len(keys),)]
    assert len(uploader._plans) <= MAX_PLANS
    assert max(sum(map(len, names)) for names in uploader._plans) <= PLAN_BYTES


def test_a_database_of_an_older_relay_gets_the_columns_it_lacks(database, tmp_path):
    (tmp_path / "sub").mkdir()
    db = sqlite3.connect(database)
    db.execute(
        "CREATE TABLE ConfigurationChange (RecordId TEXT PRIMARY KEY NOT NULL, Stream TEXT, AdditionalColumns TEXT)"
    )
    db.close()
    take(Sqlite(database), change(FileSystemPath="/a"))
    assert rows(database, "SELECT FileSystemPath FROM ConfigurationChange") == [("/a",)]


def test_what_is_no_database_is_left_alone_and_told(tmp_path):
    path = tmp_path / "text"
    path.write_text("my shopping list, which is a good deal longer than the header of a database file" * 20)
    before = path.read_bytes()
    with pytest.raises(UploadError, match="cannot be written"):
        take(Sqlite(str(path)), change())
    assert path.read_bytes() == before


def test_a_failure_within_a_segment_leaves_nothing_of_it_in_the_tables(database):
    def batches():
        yield [change(RecordId=str(number)) for number in range(2000)]
        raise OSError(5, "Input/output error")

    uploader = Sqlite(database)
    with pytest.raises(UploadError):
        uploader.take("s", batches())
    assert rows(database, "SELECT count(*) FROM ConfigurationChange") == [(0,)]
    take(uploader, change(RecordId="1"))
    assert rows(database, "SELECT count(*) FROM ConfigurationChange") == [(1,)]


@pytest.mark.parametrize("torn", [b'{"tag": "s", "ti', b"x" * 200000], ids=["short", "long"])
def test_json_lines_torn_by_a_kill_are_made_good(tmp_path, torn):
    uploader = JsonLines(str(tmp_path))
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

    take(JsonLines(str(tmp_path)), change(RecordId="0"))
    with pytest.raises(UploadError):
        JsonLines(str(tmp_path)).take("s", batches())
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("text", ["", "sqlite", "sqlite:", "ftp:x", "/path"])
def test_a_destination_that_is_none_is_refused(text):
    with pytest.raises(RelayError, match="is no destination"):
        open_uploader(text, [], Tls())


def test_nothing_a_client_says_can_forge_a_line_of_the_log():
    stream = io.StringIO()
    Log(stream)("a\nb\x1b[2J\u2028\ud800é")
    assert stream.getvalue().count("\n") == 1 and "\x1b" not in stream.getvalue()


def test_complaints_about_clients_are_limited_and_counted():
    stream, now = io.StringIO(), [0.0]
    log = Log(stream, lambda: now[0])
    for _unused in range(COMPLAINTS_A_MINUTE + 5):
        log.complaint("bad client")
    now[0] = 60.0
    log.complaint("another")
    lines = stream.getvalue().splitlines()
    assert len(lines) == COMPLAINTS_A_MINUTE + 2 and "5 more complaints" in lines[-2]


def test_a_log_that_is_gone_is_no_reason_to_stop():
    stream = io.StringIO()
    log = Log(stream)
    stream.close()
    log("a line")


def test_the_service_manager_is_told_on_an_abstract_socket_too():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0test-relay-%d" % id(manager))
        manager.settimeout(10)
        Notifier({"NOTIFY_SOCKET": "@test-relay-%d" % id(manager)}).tell("READY=1")
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
    notifier.tell("WATCHDOG=1")
