# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet store: the same tests on SQLite and on PostgreSQL."""

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import sqlite_time
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet import (
    content,
    postgresql,
    retention,
    schema,
    sqlite,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import (
    FleetError,
    is_url,
    located,
    open_store,
    shown,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.transaction import Inventory
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import mounts
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import ACTOR_COLUMNS
from ansible_collections.changetracking.inventory.tests.helpers.fleets import HOSTILE, VIM, make_older
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

pytestmark = pytest.mark.no_python  # it is about the databases
PAGE = Path(__file__).parents[2] / "docs" / "store.md"


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    if request.param == "sqlite":
        return str(tmp_path / "fleet.db")
    return request.getfixturevalue("server").database()


@pytest.fixture
def store(where):
    with open_store(where, write=True) as store:
        yield store


def machine(name="web01", source="id of web01", uuid=None):
    return {"Computer": name, "SourceComputerId": source, "VMUUID": uuid}


def package(name, version="1.0", when="2026-01-01T00:00:00Z", **more):
    row = {"SoftwareName": name, "SoftwareType": "Package", "CurrentVersion": version, "Size": 7, "InstalledOn": when}
    return dict(row, Architecture="amd64", SoftwareDescription="About " + name, Publisher="P", **more)


def change(number, batch="b" * 32, at="2026-01-02T00:00:00Z", **columns):
    record = {"RecordId": "%s-%d" % (batch, number), "TimeGenerated": at, "LastSnapshotAge": 300, "Computer": "web01"}
    record.update(ConfigChangeType="Files", ChangeCategory="Modified", FieldsChanged="Size", FileSystemPath="/etc/f")
    return dict(record, SourceComputerId="id of web01", Size=number, **columns)


def keep(store, name, *rows, type_="Software", **about):
    """Replace the inventory of a host."""
    with store.writing() as transaction:
        host = transaction.host("playbook", name, "", machine(name))
        transaction.replace_inventory(host, Inventory(type_, "2026-01-01T00:00:00Z", **about), iter(rows))
        return host.host


def add(store, *records, name="web01"):
    with store.writing() as transaction:
        host = transaction.host("playbook", name, "", machine(name))
        return transaction.add_changes(host.host, "", iter(records))


def packages(store, name="web01"):
    sql = "SELECT SoftwareName, CurrentVersion, InstalledOn FROM ConfigurationData WHERE Host = ? ORDER BY 1, 2"
    return store.query(sql, name)


def seen(*rows):
    return sorted((row["SoftwareName"], row["CurrentVersion"], row["InstalledOn"]) for row in rows)


def test_an_item_comes_back_with_all_its_columns(store):
    for kind in all_kinds().values():
        row = {column: ("7" if column == "Mode" else "x of " + column) for column in kind.columns}
        row["Size"] = 12
        keep(store, "web01", row, type_=kind.config_type)
        (found,) = store.rows("SELECT * FROM ConfigurationData WHERE ConfigDataType = ?", kind.config_type)
        assert {column: found[column] for column in row if column in found} == {
            c: v for c, v in row.items() if c in found
        }
        assert set(row) <= set(found)
        assert (found["Host"], found["Computer"], found["VMUUID"]) == ("web01", "web01", None)


def test_what_has_no_column_is_kept_as_json(store):
    keep(store, "web01", package("a", Odd={"b": [1]}, Worse=None))
    ((more,),) = store.query("SELECT AdditionalColumns FROM ConfigurationData")
    assert json.loads(more) == {"Odd": {"b": [1]}, "Worse": None}


def test_hosts_share_the_items_they_have_in_common(store):
    common = [package("p%d" % number) for number in range(100)]
    for number in range(5):
        own = [package("own", str(number)), package("p0", when="2026-02-0%dT00:00:00Z" % (number + 1))]
        keep(store, "web%02d" % number, *common[1:], *own)
        assert packages(store, "web%02d" % number) == seen(*common[1:], *own)
    assert store.query("SELECT count(*) FROM items") == [(105,)]
    assert store.query("SELECT count(DISTINCT base), count(*) FROM set_items") == [(1, 101)]
    assert store.query("SELECT count(*) FROM host_items") == [(4 * 3,)]


def test_an_inventory_replaces_the_one_before_whatever_differs(store):
    first = [package("p%d" % number) for number in range(40)]
    rounds = [
        first,
        first[:30],
        first,
        [package("p%d" % number, "2.0") for number in range(40)],
        first[:1],
        [],
        [package("p%d" % number, when="2027-01-01T00:00:00Z") for number in range(40)],
        first,
    ]
    keep(store, "other", *first)
    for rows in rounds:
        keep(store, "web01", *rows)
        assert packages(store) == seen(*rows) and packages(store, "other") == seen(*first)
        assert store.query(
            "SELECT items FROM inventories v JOIN hosts h ON h.host = v.host WHERE h.name = 'web01'"
        ) == [(len(rows),)]


def test_a_host_that_went_over_to_what_another_one_has_shares_its_set(store):
    old = [package("p%d" % number) for number in range(100)]
    new = [package("p%d" % number, "2.0") for number in range(100)]
    keep(store, "a", *old)
    keep(store, "b", *new)
    keep(store, "a", *new)
    assert store.query("SELECT count(DISTINCT base) FROM inventories") == [(1,)]


def test_a_row_for_what_is_left_out_is_counted_and_is_no_item(store):
    keep(
        store, "web01", package("a"), dict.fromkeys(package("x"), None), {"SoftwareName": "(5 left out)", "LeftOut": 5}
    )
    assert store.query("SELECT items, left_out FROM inventories") == [(2, 5)]


def test_a_value_that_is_no_integer_is_kept_as_json(store):
    rows = [package("a"), dict(package("b"), Size="a lot"), dict(package("c"), Size=None), dict(package("d"), Size="")]
    keep(store, "web01", *rows, dict(package("e"), Size="8"))
    sql = "SELECT Size, AdditionalColumns FROM ConfigurationData ORDER BY SoftwareName"
    assert store.query(sql) == [(7, None), (None, '{"Size": "a lot"}'), (None, None), (None, None), (8, None)]


@pytest.mark.parametrize("columns", [content.ITEMS, content.CHANGES])
def test_a_digest_is_that_of_all_columns_whichever_of_them_a_record_has(columns):
    names = schema.ITEM_COLUMNS if columns is content.ITEMS else schema.CHANGE_COLUMNS
    for record in (package("a"), change(1), package("\ud800 %s", Odd=1, FileSystemPath=None), {}):
        form = columns.form(record)
        values = dict(zip(form.content.names, form.values(record)[0]))
        older = [values.get(name) for name in names if name not in ACTOR_COLUMNS]
        assert form.content.digest(list(values.values())) == content.digest(older)
    assert columns.form({"Size": 1, "Mode": "7"}) is columns.form({"Size": 2, "Mode": "8"})


def test_records_with_other_actors_have_other_digests():
    seen = set()
    for name in (*ACTOR_COLUMNS, None):
        form = content.CHANGES.form(change(1, **({name: "a"} if name else {})))
        values, times = form.values(change(1, **({name: "a"} if name else {})))
        seen.add((form.content.digest(values), form.times.digest(times)))
    assert len(seen) == len(ACTOR_COLUMNS) + 1


def test_the_actor_of_a_change_is_stored_and_equal_contents_are_stored_once(store):
    later = dict(change(1, **VIM), Size=0, ChangedAt="2026-01-01T11:59:01.000Z", ChangedBySession=8)
    add(store, change(0, **VIM), later)
    names = ", ".join(ACTOR_COLUMNS)
    rows = store.query("SELECT %s FROM ConfigurationChange ORDER BY Seq" % names)
    assert rows[0] == tuple(VIM.get(name) for name in ACTOR_COLUMNS)
    assert (rows[1][0], rows[1][5]) == ("2026-01-01T11:59:01.000Z", 8)
    assert store.query("SELECT count(*) FROM contents") == [(1,)]


def test_hostile_actors_are_stored_as_text_and_what_is_no_number_is_kept_beside(store):
    add(
        store,
        change(0, **HOSTILE),
        change(1, **{name: [1] for name in ACTOR_COLUMNS}),
        change(2, **dict.fromkeys(ACTOR_COLUMNS)),
    )
    names = ", ".join((*ACTOR_COLUMNS, "AdditionalColumns"))
    first, second, third = store.query("SELECT %s FROM ConfigurationChange ORDER BY Seq" % names)
    assert first[1] == HOSTILE["ChangedBy"] and first[4] == "x" * 100_000
    assert first[6] == "copy\\x00\\udc00\n--".replace("\\udc00", "\\ud800")
    assert (first[2], first[5], first[7]) == (None, None, None)
    assert json.loads(first[8]) == {"ChangedByUid": 1 << 70, "ChangedBySession": {"a": [1]}, "ChangedByCount": True}
    assert second[1] == "[1]" and json.loads(second[8])["ChangedBySession"] == [1]
    assert set(third) == {None}
    assert store._db.mistyped() == ""


def test_an_item_keeps_a_column_of_changes_beside(store):
    keep(store, "web01", package("a", ChangedAt="x", ChangedBySession=1))
    assert store.query("SELECT AdditionalColumns FROM ConfigurationData") == [
        ('{"ChangedAt": "x", "ChangedBySession": 1}',)
    ]


def test_a_store_without_actors_is_read_and_then_gets_them_and_nothing_is_stored_anew(where):
    make_older(where)
    tables = "SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM contents), (SELECT count(*) FROM moments), (SELECT count(*) FROM set_items)"
    with open_store(where) as reader:
        assert reader.present("ConfigurationChange", ("Host", "ChangedBy", "Size")) == ["Host", "Size"]
        before = reader.query(tables)
        with open_store(where, write=True) as writer:
            assert writer.query("SELECT count(*), count(ChangedBy) FROM ConfigurationChange") == [(3, 0)]
            # The same inventory and the same change of another host.
            for view, put in (("ConfigurationData", keep), ("ConfigurationChange", add)):
                (row,) = writer.rows("SELECT * FROM %s WHERE Host = 'web02' AND SoftwareName IS NOT NULL" % view)
                own = (
                    {"HostId", "Host", "Seq", "Stream", "RecordId"}
                    if put is keep
                    else {"HostId", "Host", "Seq", "Stream"}
                )
                record = {name: value for name, value in row.items() if value is not None and name not in own}
                if put is keep:
                    keep(writer, "web03", record)
                else:
                    add(writer, record, name="web03")
            assert writer.query(tables) == before
            add(writer, change(1, **VIM))
            assert writer.query("SELECT count(ChangedBy) FROM ConfigurationChange WHERE ChangedBySession = 7") == [(1,)]
        assert reader.present("ConfigurationChange", ("Host", "ChangedBy")) == ["Host", "ChangedBy"]
        assert reader.query("SELECT count(ChangedBy) FROM ConfigurationChange") == [(1,)]


def test_records_of_any_keys_take_little_memory(monkeypatch):
    monkeypatch.setattr(content, "MAX_FORMS", 4)
    columns = content.Columns(schema.ITEM_COLUMNS, schema.TIMES)
    for number in range(10):
        columns.form({"key %d" % number: 1})
        columns.form({"x" * (content.FORM_BYTES + number): 1})
    assert len(columns._forms) <= 4 and all(len(keys[0]) < 10 for keys in columns._forms)


def test_changes_of_many_hosts_are_added_at_once_and_only_those_that_are_new(store):
    with store.writing() as transaction:
        hosts = [transaction.host("relay", "web%03d" % n, "", machine("web%03d" % n)).host for n in range(400)]
        some = [(host, change(number)) for host in hosts[::2] for number in range(3)]
        assert transaction.add_all_changes("s", some) == 600
    with store.writing() as transaction:
        assert (
            transaction.add_all_changes("s", some + [(host, change(number)) for host in hosts for number in range(4)])
            == 1000
        )
        assert transaction.add_all_changes("s", some) == 0
    sql = "SELECT Host, count(*), count(DISTINCT RecordId), min(Stream), max(Size) FROM ConfigurationChange GROUP BY Host ORDER BY Host"
    assert store.query(sql) == [("web%03d" % n, 4, 4, "s", 3) for n in range(400)]
    assert store.query("SELECT count(*) FROM batches") == [(400,)]


def test_a_change_comes_back_as_it_was_and_is_there_once(store):
    records = [
        change(0, DateModified="2026-01-01T00:00:00Z", PreviousSize=8, Owner="root", Odd=1),
        change(1, Group="g"),
    ]
    assert add(store, *records) == 2
    assert add(store, *records, change(2)) == 1
    found = list(store.rows("SELECT * FROM ConfigurationChange ORDER BY RecordId"))
    assert [row["RecordId"] for row in found] == ["b" * 32 + "-%d" % number for number in range(3)]
    for row, record in zip(found, records):
        assert {name: row[name] for name in record if name != "Odd"} == {n: v for n, v in record.items() if n != "Odd"}
    assert json.loads(found[0]["AdditionalColumns"]) == {"Odd": 1} and found[1]["AdditionalColumns"] is None


def test_any_record_id_is_kept_as_it_is(store):
    ids = ["", "x", "-", "a-", "-1", "a--1", "a-01", "a-1", "a-99999999999", "sha256:12", "ü-²", "a\0-1"]
    for _again in range(2):
        add(store, *[dict(change(0), RecordId=one) for one in ids])
    found = {one for (one,) in store.query("SELECT RecordId FROM ConfigurationChange")}
    assert found == {one.replace("\0", "\\x00") for one in ids}


def test_a_host_cannot_take_the_record_ids_of_another(store):
    assert add(store, change(0), name="bad") == 1
    assert add(store, change(0), name="web01") == 1


def test_the_number_of_a_change_rises_as_changes_become_visible(store):
    add(store, change(0), change(1))
    before = store.counter()
    add(store, change(2), change(1))
    (row,) = store.rows("SELECT * FROM ConfigurationChange WHERE Seq > ?", before)
    assert row["Size"] == 2 and before < row["Seq"] <= store.counter()
    counter = store.counter()
    keep(store, "web01")
    keep(store, "web01")
    assert store.counter() >= counter


def test_a_reader_is_woken_by_a_change(where, store):
    with open_store(where) as reader:
        counter = reader.counter()
        assert reader.wait(counter, 0.1) == counter
        timer = threading.Timer(0.3, lambda: open_and_add(where))
        timer.start()
        assert reader.wait(counter, 30) > counter
        timer.join()


def open_and_add(where):
    with open_store(where, write=True) as store:
        add(store, change(0))


ODD = [
    None,
    5,
    2**64,
    1.5,
    True,
    [1],
    {"a": None},
    "\0",
    "\ud800",
    "",
    "x" * 100000,
    "'; DROP TABLE hosts",
    "\u202e<script>",
    "\udcff\0",
]


@pytest.mark.parametrize("value", ODD, ids=[repr(value)[:20] for value in ODD])
def test_any_value_of_a_host_can_be_stored(store, value):
    keep(store, "web01", dict.fromkeys(package("a"), value))
    row = {name: value for name in change(0) if name != "RecordId"}
    assert add(store, dict(row, RecordId="a-1")) == 1
    with store.writing() as transaction:
        transaction.host("relay", str(value), str(value), {"Computer": value, "VMUUID": value})
        transaction.failed("playbook", str(value), "", str(value))
    assert len(list(store.rows("SELECT * FROM ConfigurationData"))) == 1
    assert len(list(store.rows("SELECT * FROM ConfigurationChange"))) == 1


def text_columns():
    """{table: [(column, type)]} of all tables."""
    db = sqlite3.connect(":memory:")
    for statement in schema.statements(schema.SQLITE):
        db.execute(statement)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    tables = {name: [row[1:3] for row in db.execute("PRAGMA table_info(%s)" % name)] for name in names}
    db.close()
    return tables


def test_a_text_that_no_database_takes_is_stored_and_found_in_every_column(store):
    odd = "\u00fc \ud800 \udcff \0 "
    for table, columns in text_columns().items():
        names = [name for name, _type in columns]
        numbers = list(range(1, 122))  # so many that PostgreSQL gets most of them by COPY
        rows = [
            [
                {"TEXT": odd + str(number), "INTEGER": number, "BLOB": b"%d" % number}.get(type_, 0.5)
                for _name, type_ in columns
            ]
            for number in numbers
        ]
        with store.writing() as transaction:
            transaction.insert(table, names, rows[:-1])
            transaction.insert(table, names, rows[-1:])
        for name in [schema.column(name) for name, type_ in columns if type_ == "TEXT"]:
            for number in (7, numbers[-1]):
                sql = "SELECT count(*) FROM %s WHERE %s = ?" % (table, name)
                assert store.query(sql, odd + str(number)) == [(1,)], (table, name)
            for (found,) in store.query("SELECT %s FROM %s" % (name, table)):
                assert "\0" not in found and found.encode("utf-8")


def random_text(seed, length=5000):
    """One that cannot be compressed: PostgreSQL compresses what it indexes."""
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz\u00fc\u20ac0123456789", k=length))


def test_no_text_is_too_long_for_an_index(store):
    one, other = random_text(1), random_text(1) + "x"
    for _again in range(2):
        for name in (one, other):
            keep(store, "web01", dict.fromkeys(package("a"), name))
            with store.writing() as transaction:
                host = transaction.host("relay", name, name, dict.fromkeys(machine(), name))
                record = dict.fromkeys(change(0), name)
                transaction.add_changes(host.host, name, [record, dict(record, RecordId=name + "-7")])
                transaction.failed("playbook", name, "", name)
                transaction.move(host.host, "a" * 32, "a:1:b", name)
    assert store.query("SELECT count(*) FROM ConfigurationChange") == [(4,)]
    assert store.query("SELECT count(*) FROM ConfigurationChange WHERE FileSystemPath = ?", one) == [(2,)]
    assert store.query("SELECT count(*) FROM ConfigurationData WHERE SoftwareName = ?", other) == [(1,)]
    assert store.query("SELECT via, count(*) FROM hosts GROUP BY via ORDER BY via") == [("playbook", 3), ("relay", 2)]


def test_a_change_without_an_id_is_known_by_what_it_holds(store):
    record = {name: value for name, value in change(0).items() if name != "RecordId"}
    assert add(store, record, dict(record, Size=9)) == 2
    assert add(store, record) == 0


def test_a_host_of_the_relay_is_never_one_of_the_inventory_whatever_it_says(store):
    """Computer, SourceComputerId and VMUUID are what a host says of itself."""
    keep(store, "web01", package("a"))
    with store.writing() as transaction:
        claims = machine("web01", "id of web01")
        host = transaction.host("relay", "web01", "id of web01", claims)
        transaction.replace_inventory(host, Inventory("Software"), [package("evil")])
        transaction.add_changes(host.host, "", [change(0)])
    assert store.query(
        "SELECT via, SoftwareName FROM ConfigurationData d JOIN hosts h ON h.host = d.HostId ORDER BY 1"
    ) == [
        ("playbook", "a"),
        ("relay", "evil"),
    ]
    assert store.query("SELECT h.via FROM ConfigurationChange c JOIN hosts h ON h.host = c.HostId") == [("relay",)]
    (sql,) = re.findall(r"^SELECT p\.name[^;]*;$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert store.query(sql) == [("web01", "web01")]


def test_nothing_of_a_transaction_that_fails_is_stored(where, store):
    keep(store, "web01", package("a"))
    with pytest.raises(ZeroDivisionError), store.writing() as transaction:
        host = transaction.host("playbook", "web02", "", machine())
        transaction.replace_inventory(host, Inventory("Software"), [package("b")])
        transaction.add_changes(host.host, "", [change(0)])
        raise ZeroDivisionError
    with open_store(where) as reader:
        assert reader.query("SELECT name FROM hosts") == [("web01",)]
        assert reader.query("SELECT count(*) FROM items") == [(1,)]
    assert add(store, change(0)) == 1


def test_a_place_is_stored_for_each_state_the_latest_last(store):
    with store.writing() as transaction:
        host = transaction.host("playbook", "web01", "", machine()).host
        for number in range(12):
            transaction.move(host, "s%d" % number, "s%d:1:m" % number, "/state")
        transaction.move(host, "s9", "s9:2:m", "/state")
    places = store.query("SELECT place FROM places ORDER BY seen")
    assert places[-2:] == [("s11:1:m",), ("s9:2:m",)] and len(places) == 8


def test_a_failure_is_noted_until_the_host_is_seen_again(store):
    keep(store, "web01", package("a"))
    with store.writing() as transaction:
        transaction.failed("playbook", "web01", "", "unreachable")
        transaction.failed("playbook", "web02", "", "no Python")
    assert store.query("SELECT name, failure FROM hosts ORDER BY 1") == [
        ("web01", "unreachable"),
        ("web02", "no Python"),
    ]
    assert packages(store) == seen(package("a"))
    keep(store, "web02")
    assert store.query("SELECT failure, last_seen > '2' FROM hosts WHERE name = 'web02'") in (
        [(None, 1)],
        [(None, True)],
    )


def test_a_host_that_was_reinstalled_stays_itself_and_a_clone_is_another(store):
    number = keep(store, "web01", package("a"))
    with store.writing() as transaction:
        again = transaction.host("playbook", "web01", "", machine("web01", "another id"))
        clone = transaction.host("playbook", "web02", "", machine("web01", "another id"))
    assert again.host == number and again.before not in (None, again.machine)
    assert clone.host != number and clone.before is None and clone.machine == again.machine


def test_changes_are_kept_for_so_many_days_on_which_some_arrived(store, monkeypatch):
    for day in range(1, 6):
        with store.writing() as transaction:
            transaction.now = "2026-01-%02dT00:00:00Z" % (day * 5)
            host = transaction.host("playbook", "web01", "", machine())
            transaction.add_changes(host.host, "", [change(day, batch="%d" % day, FileSystemPath="/%d" % day)])
            retention.delete_old(transaction, 2)
            retention.clean(transaction)
    assert store.query("SELECT FileSystemPath FROM ConfigurationChange ORDER BY 1") == [("/3",), ("/4",), ("/5",)]
    assert store.query("SELECT value FROM meta WHERE name = 'dropped'") == [(2,)]
    assert store.query("SELECT count(*) FROM contents") == [(3,)]
    assert store.query("SELECT count(*) FROM batches") == [(3,)]


def test_old_changes_go_in_slices(store, monkeypatch):
    monkeypatch.setattr(retention, "SLICE", 10)
    for day in (1, 2):
        with store.writing() as transaction:
            transaction.now = "2026-01-%02dT00:00:00Z" % day
            host = transaction.host("playbook", "web01", "", machine())
            transaction.add_changes(host.host, "", [change(number, batch=str(day)) for number in range(25)])
    left = []
    for _run in range(4):
        with store.writing() as transaction:
            retention.delete_old(transaction, 0)
        left += [number for (number,) in store.query("SELECT count(*) FROM changes")]
    assert left == [40, 30, 25, 25]


def test_what_nothing_refers_to_is_deleted_and_nothing_else(store):
    rows = [package("p%d" % number) for number in range(50)]
    keep(store, "web01", *rows)
    keep(store, "web02", *rows[1:], package("p0", "9"))
    keep(store, "web01", package("x"))
    keep(store, "web02", *rows[1:], package("p0", "10"))
    with store.writing() as transaction:
        assert retention.clean(transaction) and not retention.clean(transaction)
    assert packages(store) == seen(package("x")) and packages(store, "web02") == seen(*rows[1:], package("p0", "10"))
    assert store.query("SELECT count(*) FROM items") == [(52,)]  # 50 of the set, one of each host


def test_writers_wait_for_each_other_and_none_loses_anything(where, store):
    def write(writer):
        with open_store(where, write=True) as mine:
            for number in range(20):
                add(mine, change(number, batch="w%d" % writer), change(number, batch="all"))
                keep(mine, "host%d" % writer, package("a", str(number)), package("b"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.query("SELECT count(*), count(DISTINCT RecordId) FROM ConfigurationChange") == [(100, 100)]
    assert store.query(
        "SELECT CurrentVersion, count(*) FROM ConfigurationData WHERE SoftwareName = 'a' GROUP BY 1"
    ) == [("19", 4)]


def test_two_that_create_a_store_at_once_create_one(where):
    failures = []

    def create():
        try:
            with open_store(where, write=True) as store:
                add(store, change(0, batch="x%d" % threading.get_ident()))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with open_store(where) as store:
        assert store.query("SELECT count(*) FROM hosts") == [(1,)]


def test_a_store_of_a_newer_version_is_left_alone(where, store):
    store._db.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    for write in (False, True):
        with pytest.raises(FleetError, match="newer version of this collection"):
            open_store(where, write)


def test_a_store_of_an_older_version_gets_the_columns_it_lacks(where, store):
    add(store, change(0))
    for view in schema.views():
        store._db.execute("DROP VIEW " + view)
    store._db.execute("ALTER TABLE contents DROP COLUMN ContentDiff")
    with open_store(where, write=True) as newer:
        add(newer, change(1, ContentDiff="+a"))
        assert newer.query("SELECT ContentDiff FROM ConfigurationChange ORDER BY Size") == [(None,), ("+a",)]


def test_a_store_without_a_table_of_a_later_version_gets_it(where, store):
    store._db.execute("DROP TABLE identities")
    with open_store(where) as older:
        assert older.present("identities", ("name",)) == []
    with open_store(where, write=True) as newer:
        assert newer.query("SELECT * FROM identities") == []


def test_a_store_of_an_older_schema_is_brought_up_to_date(where, store):
    store._db.execute("UPDATE meta SET value = 0 WHERE name = 'version'")
    with open_store(where, write=True) as newer:
        assert newer.query("SELECT value FROM meta WHERE name = 'version'") == [(schema.VERSION,)]


def test_a_database_of_something_else_is_left_alone(where):
    if where.startswith("postgresql"):
        import psycopg

        with psycopg.connect(where) as db:
            db.execute("CREATE TABLE shop (a INTEGER)")
    else:
        db = sqlite3.connect(where)
        db.execute("CREATE TABLE shop (a INTEGER)")
        db.close()
    for write in (True, False):
        with pytest.raises(FleetError, match=r"is a database of something else|is empty"):
            open_store(where, write)


# --- SQLite alone


def test_no_store_is_one_sentence(tmp_path):
    with pytest.raises(FleetError, match="There is no fleet store"):
        open_store(str(tmp_path / "none.db"))
    (tmp_path / "file").write_text("")
    with pytest.raises(FleetError, match="Cannot open the fleet store"):
        open_store(str(tmp_path / "file" / "fleet.db"), write=True)
    with pytest.raises(FleetError, match="is empty"):
        open_store(str(tmp_path / "file"))


def test_a_store_in_use_is_one_sentence(tmp_path):
    path = str(tmp_path / "fleet.db")
    with open_store(path, write=True) as store, store.writing():
        other = sqlite3.connect(path)
        with pytest.raises(FleetError, match="is in use by another process"):
            sqlite.Sqlite(path, True, 0.1).begin(write=True)
        other.close()


def test_damage_is_one_sentence_and_the_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "fleet.db"
    path.write_text("my shopping list, which is a good deal longer than the header of a database file" * 20)
    before = path.read_bytes()
    with pytest.raises(FleetError, match=r"is corrupt .* gets all changes that the hosts still keep"):
        open_store(str(path), write=True)
    assert path.read_bytes() == before


def test_damage_within_is_one_sentence(tmp_path):
    path = str(tmp_path / "fleet.db")
    with open_store(path, write=True) as store:
        keep(store, "web01", *[package("p%d" % number) for number in range(2000)])
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * (size - 4096 * 3))
    with pytest.raises(FleetError, match=r"is corrupt|cannot be used"), open_store(path, write=True) as store:
        keep(store, "web01", *[package("q%d" % number) for number in range(2000)])
        list(store.rows("SELECT * FROM ConfigurationData"))


def test_a_full_disk_is_one_sentence(small_disk):
    path = os.path.join(str(small_disk), "fleet.db")
    with pytest.raises(FleetError, match="No space is left"), open_store(path, write=True) as store:
        for number in range(100):
            keep(store, "web%d" % number, *[package("p%d-%d" % (number, one), Odd="x" * 2000) for one in range(500)])


@pytest.mark.parametrize("name", [":memory:", "a?b#c%20 &mode=ro.db", "\udcff.db", "file:x", "\u00fc.db"])
def test_a_file_may_have_any_name(tmp_path, name):
    path = str(tmp_path / name)
    with open_store(path, write=True) as store:
        add(store, change(0))
    with open_store(path) as store:
        assert store.query("SELECT count(*) FROM changes") == [(1,)]
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_one_sentence_and_nobody_waits_for_it(tmp_path, make):
    make(str(tmp_path / "x"))
    for write in (True, False):
        with pytest.raises(
            FleetError, match=r"Cannot open the fleet store '.*' \((not a regular file|Is a directory)\)"
        ):
            open_store(str(tmp_path / "x"), write)


@pytest.mark.parametrize("write", [True, False])
def test_a_path_that_is_none_is_one_sentence(write):
    with pytest.raises(FleetError, match=r"There is no fleet store|Cannot open the fleet store"):
        open_store("a\0b", write)


def test_a_symlink_is_followed_unless_another_user_made_it(tmp_path):
    there, link = tmp_path / "there" / "fleet.db", tmp_path / "fleet.db"
    link.symlink_to(there)
    with open_store(str(link), write=True) as store:
        add(store, change(0))
    assert there.is_file() and link.is_symlink()
    content = there.read_bytes()
    there.write_bytes(b"x" * 9999)
    with pytest.raises(FleetError, match="'%s' is corrupt" % there):
        open_store(str(link))
    there.write_bytes(content)
    need_root("giving a symlink to a user")
    os.lchown(str(link), 54321, 54321)
    for write in (True, False):
        with pytest.raises(FleetError, match="a symlink of another user"):
            open_store(str(link), write)


@pytest.fixture
def nobody():
    """A folder in which a test may go on as another user."""
    need_root("another user")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield folder
        os.seteuid(0)


def test_a_store_that_the_user_may_not_write_is_one_sentence(nobody):
    path = os.path.join(nobody, "fleet.db")
    with open_store(path, write=True) as store:
        add(store, change(0))
    os.seteuid(54321)
    for write in (True, False):
        word = "write" if write else "read"
        with pytest.raises(
            FleetError, match="The current user cannot %s the fleet store|Cannot open the fleet store" % word
        ):
            open_store(path, write)
    os.seteuid(0)
    os.chmod(path, 0o644)
    os.seteuid(54321)
    refused = pytest.raises(FleetError, match="The current user cannot write the fleet store")
    with refused, open_store(path, write=True) as store:
        add(store, change(1))
    refused = pytest.raises(FleetError, match=r"The current user cannot read the fleet store '[^']*' [^']*permissions")
    with refused as caught, open_store(path) as store:
        store.counter()
    assert "attempt to write" not in str(caught.value)
    with pytest.raises(FleetError, match="Cannot open the fleet store"):
        open_store(os.path.join(nobody, "other.db"), write=True)


TRY_TO_WRITE = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0.1).execute('BEGIN IMMEDIATE')"


def test_a_second_connection_does_not_end_the_lock_of_the_first(tmp_path):
    """Closing any descriptor of a file releases the locks that its process has on it (fcntl(2))."""
    path = str(tmp_path / "fleet.db")
    with open_store(path, write=True) as store, store.writing():
        open_store(path, write=True).close()
        open_store(path).close()
        done = subprocess.run([sys.executable, "-c", TRY_TO_WRITE, path], stderr=subprocess.PIPE, check=False)
        assert b"database is locked" in done.stderr


def test_who_opens_a_new_file_while_another_one_creates_the_tables_waits(tmp_path, monkeypatch):
    path = str(tmp_path / "fleet.db")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # SQLite refuses a write-ahead log at once
    monkeypatch.setattr(sqlite_time.time, "sleep", lambda _seconds: other.execute("COMMIT"))
    with open_store(path, write=True) as store:
        assert store.query("PRAGMA journal_mode") == [("wal",)]
    other.close()


def test_a_file_on_a_network_file_system_has_no_write_ahead_log(tmp_path, monkeypatch):
    """SQLite keeps the index of one in memory that processes of different hosts do not share."""
    monkeypatch.setattr(mounts, "is_remote", lambda _kind: True)
    path = str(tmp_path / "fleet.db")
    with open_store(path, write=True) as store, open_store(path, write=True) as other:
        add(store, change(0))
        assert add(other, change(0), change(1)) == 1
        assert store.query("PRAGMA journal_mode") == [("delete",)]
        assert os.listdir(str(tmp_path)) == ["fleet.db"]


def test_a_table_that_happens_to_have_our_name_is_left_alone(tmp_path):
    path = str(tmp_path / "fleet.db")
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE meta (name TEXT, value TEXT)")
    db.execute("INSERT INTO meta VALUES ('version', 'x')")
    db.commit()
    db.close()
    for write in (True, False):
        with pytest.raises(FleetError, match="is a database of something else"):
            open_store(path, write)


ENDLESS = "AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n, n + 1 FROM r"
IN_PLACE, END = (
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET type = 'view', rootpage = 0, %s",
    "' WHERE name = 'marks'",
)
REPLACED = {  # the kind and name that the sentence says, and what has become of the store
    "table for view": ("view 'hosts'", "DROP TABLE hosts; CREATE VIEW hosts (host, name) " + ENDLESS),
    "quoted": ("view 'marks'", 'DROP TABLE marks; CREATE VIEW "marks" ' + ENDLESS),
    "computed": (
        "table 'hosts'",
        "DROP TABLE hosts; CREATE TABLE hosts (host INTEGER PRIMARY KEY, via TEXT, name TEXT AS (hex(zeroblob(host))))",
    ),
    "checked": ("table 'days'", "DROP TABLE days; CREATE TABLE days (day INTEGER PRIMARY KEY, content TEXT CHECK (1))"),
    "without types": ("table 'places'", "DROP TABLE places; CREATE TABLE places (host, state, place, path, seen)"),
    "trigger": ("trigger 't'", "CREATE TRIGGER t AFTER UPDATE ON meta BEGIN DELETE FROM hosts; END"),
    "many": ("schema entry 'n[0-9]+'", "".join("CREATE VIEW n%d AS SELECT 1;" % number for number in range(2000))),
    "comment": ("schema entry 'marks'", IN_PLACE % "sql = 'CREATE VIEW/**/marks " + ENDLESS + END),
    "if not exists": ("schema entry 'marks'", IN_PLACE % "sql = 'CREATE VIEW IF NOT EXISTS marks " + ENDLESS + END),
}


def script(path, text):
    db = sqlite3.connect(path)
    db.executescript(text)
    db.close()


@pytest.mark.parametrize(("what", "text"), list(REPLACED.values()), ids=list(REPLACED))
def test_a_table_that_this_collection_does_not_make_is_one_sentence_and_is_not_read(tmp_path, what, text):
    path = str(tmp_path / "fleet.db")
    open_store(path, write=True).close()
    script(path, text)
    for write in (False, True):
        with pytest.raises(FleetError, match="has a %s that this collection does not make. Remove it, or move" % what):
            open_store(path, write)


def test_a_meta_that_is_a_view_is_not_read(tmp_path):
    path = str(tmp_path / "fleet.db")
    open_store(path, write=True).close()
    script(path, "DROP TABLE meta; CREATE VIEW meta (name, value) " + ENDLESS)
    for write in (False, True):
        with pytest.raises(FleetError, match="is a database of something else"):
            open_store(path, write)


def test_a_changed_view_is_not_read_and_is_replaced_by_whoever_writes(tmp_path):
    path = str(tmp_path / "fleet.db")
    with open_store(path, write=True) as store:
        add(store, change(0))
    script(path, "DROP VIEW ConfigurationChange; CREATE VIEW ConfigurationChange (Seq, Host) " + ENDLESS)
    with pytest.raises(
        FleetError, match=r"has a view 'ConfigurationChange' .*\. Run the playbook .* which replaces it, or"
    ):
        open_store(path)
    for write in (True, False):
        with open_store(path, write) as store:
            assert store.query("SELECT Size FROM ConfigurationChange") == [(0,)]


def test_tables_views_and_indexes_of_an_operator_are_left_alone(tmp_path):
    path = str(tmp_path / "fleet.db")
    open_store(path, write=True).close()
    script(
        path,
        'CREATE VIEW "my hosts" AS SELECT name FROM hosts; CREATE INDEX mine ON hosts (name); CREATE TABLE notes (a)',
    )
    for write in (True, False):
        with open_store(path, write) as store:
            assert store.query('SELECT * FROM "my hosts"') == []


def test_a_store_of_an_older_version_can_be_read(tmp_path):
    path = str(tmp_path / "fleet.db")
    with open_store(path, write=True) as store:
        add(store, change(0))
    old = "; ".join(
        "DROP VIEW %s; CREATE VIEW %s AS %s" % (name, name, text)
        for name, text in schema.views(["ContentDiff"]).items()
    )
    script(
        path, old + "; ALTER TABLE contents DROP COLUMN ContentDiff; UPDATE meta SET value = 0 WHERE name = 'version'"
    )
    with open_store(path) as store:
        assert store.query("SELECT Size FROM ConfigurationChange") == [(0,)]
    for write in (True, False):  # the column is the last one then
        with open_store(path, write) as store:
            assert store.query("SELECT ContentDiff FROM ConfigurationChange") == [(None,)]


def test_a_value_of_the_wrong_type_is_one_sentence_where_it_is_used(tmp_path):
    path = str(tmp_path / "fleet.db")
    with open_store(path, write=True) as store:
        keep(store, "web01", package("a"))
    script(path, "UPDATE items SET SoftwareName = x'ff'; UPDATE inventories SET left_out = 'x'")
    with pytest.raises(FleetError, match=r"has a value of the wrong type in items.SoftwareName\."), open_store(
        path
    ) as store:
        sorted([*store.query("SELECT SoftwareName FROM items")[0], "b"])
    script(path, "UPDATE items SET SoftwareName = 7")  # which SQLite makes a text
    with pytest.raises(FleetError, match=r"has a value of the wrong type in inventories.left_out\."), open_store(
        path
    ) as store:
        sum(store.query("SELECT left_out FROM inventories")[0])
    script(path, "UPDATE inventories SET left_out = 0")
    with pytest.raises(TypeError), open_store(path) as store:
        sum(store.query("SELECT name FROM hosts")[0])


QUERIES = {
    "a package": "SELECT Computer, SoftwareName, CurrentVersion FROM ConfigurationData WHERE SoftwareName = 'x'",
    "versions": "SELECT CurrentVersion, count(*) FROM ConfigurationData WHERE SoftwareName = 'x' GROUP BY 1",
    "a host": "SELECT * FROM ConfigurationData WHERE Host = 'x'",
    "a computer": "SELECT * FROM ConfigurationData WHERE Computer = 'x' AND ConfigDataType = 'Software'",
    "a day": "SELECT * FROM ConfigurationChange WHERE ConfigChangeType = 'Files' AND TimeGenerated > '2026'",
    "a host's changes": "SELECT * FROM ConfigurationChange WHERE Host = 'x' ORDER BY TimeGenerated DESC LIMIT 100",
    "a computer's changes": "SELECT * FROM ConfigurationChange WHERE Computer = 'x' AND TimeGenerated > '2026'",
    "a file": "SELECT * FROM ConfigurationChange WHERE FileSystemPath = '/x' AND TimeGenerated > '2026'",
    "what is new": "SELECT * FROM ConfigurationChange WHERE Seq > 7 ORDER BY Seq",
}


LARGE = ("b", "c", "w", "i", "s", "t", "o")  # as the views call their tables


@pytest.mark.parametrize("query", list(QUERIES.values()), ids=list(QUERIES))
def test_a_query_reads_no_table_as_a_whole(tmp_path, query):
    with open_store(str(tmp_path / "fleet.db"), write=True):
        pass
    with open_store(str(tmp_path / "fleet.db")) as store:
        plan = [row[-1] for row in store.query("EXPLAIN QUERY PLAN " + query)]
    scans = [step for step in plan if step.split()[0] == "SCAN" and step.split()[1] in LARGE]
    assert scans == [], plan


# --- PostgreSQL alone


def test_a_server_that_restarts_in_a_transaction_loses_nothing_and_is_one_sentence(server):
    where = server.database()
    with open_store(where, write=True) as store:
        add(store, change(0))
        lost = pytest.raises(FleetError, match=r"cannot be used .* what is not stored is fetched again")
        with lost, store.writing() as transaction:
            host = transaction.host("playbook", "web01", "", machine())
            transaction.add_changes(host.host, "", [change(1)])
            server.stop()
            server.start()
    with open_store(where, write=True) as store:
        assert add(store, change(0), change(1)) == 1


def test_a_user_who_may_only_read_is_one_sentence(server):
    where = server.database()
    with open_store(where, write=True) as store:
        store._db.execute(
            "ALTER DATABASE %s SET default_transaction_read_only = on" % where.split("?")[0].rpartition("/")[2]
        )
    with open_store(where) as store:
        assert store.query("SELECT count(*) FROM hosts") == [(0,)]
    with pytest.raises(FleetError, match="cannot write the fleet store"), open_store(where, write=True) as store:
        add(store, change(0))


SHOWN = {
    "postgresql://me:secret@h/db": "postgresql://me@h/db",
    "postgres://me:s:e/@h": "postgresql",
    "postgres://me:s:e@h:5432/db?password=secret": "postgres://me@h:5432/db",
    "postgresql://me@h1:1,h2:2/db": "postgresql://me@h1:1,h2:2/db",
    "postgresql://u%40d:secret@[::1]:5/db": "postgresql://u%40d@[::1]:5/db",
    "postgresql:///db?host=/run/postgresql": "postgresql:///db",
    "postgresql://me:se/cret@h/db": "postgresql",
    "postgresql://me:se#cret@h/db": "postgresql",
    "postgresql://me:12?cret@h/db": "postgresql",
    "postgresql://me:se@cret@h/db": "postgresql",
    "postgresql://me:12/cret@h/db": "postgresql",
    "postgresql://me:secret": "postgresql",
    "postgresql:me:secret@h": "postgresql",
    "postgresql://h/db?password=sec@ret": "postgresql",
    "postgresql://me:sec%ret@h/db": "postgresql://me@h/db",
    "postgresql://me:secret@h/db?no=such": "postgresql://me@h/db",
    "postgresql://me:secret\n@h/db": "postgresql://me@h/db",
    "postgresql://[me:secret@h/db": "postgresql",
    " PostgreSQL://me:secret@h/db ": "PostgreSQL://me@h/db",
    "POSTGRES://me:secret@h/db": "POSTGRES://me@h/db",
    "postgresql+psycopg://me:secret@h/db": "postgresql",
    "host=h password=secret": "postgresql",
    " sslmode = require  PASSWORD = secret host=h": "postgresql",
}


@pytest.mark.parametrize("url", list(SHOWN))
def test_no_error_has_any_part_of_the_password(url, monkeypatch):
    assert shown(url) == SHOWN[url]
    psycopg = pytest.importorskip("psycopg")

    def refuse(autocommit, **options):  # libpq quotes the host, the port, the user and the database
        options.pop("password", None)
        raise psycopg.OperationalError("cannot reach\n%s" % options)

    monkeypatch.setattr(psycopg, "connect", refuse)
    refusals = r"Cannot connect to the fleet store|The URL of the fleet store .* is invalid"
    with pytest.raises(FleetError, match=refusals) as caught:
        open_store(url)
    printed = "".join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__))
    assert "cret" not in printed and "sec%ret" not in printed and "\n" not in str(caught.value)


OTHER_FORMS = [url for url in SHOWN if "+" in url or "=" in url.split("?")[0]]


@pytest.mark.parametrize("url", OTHER_FORMS)
def test_another_form_than_a_url_is_one_sentence(url):
    for write in (False, True):
        with pytest.raises(
            FleetError, match=r"The URL of the fleet store 'postgresql' is invalid\. Give postgresql://"
        ):
            open_store(url, write)


@pytest.mark.parametrize("path", ["a/host=x", "postgresql", "my postgresql://x", "x=y.db", "fleet.db", "sqlite:host=x"])
def test_a_path_is_no_url(path):
    assert not is_url(path)


def test_a_store_is_located_below_a_folder_whatever_the_current_directory_is(monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/me")
    assert located("a.db") == located("sqlite:a.db") == "/a.db"
    assert located("sqlite:a.db", "/srv") == located("a.db", "/srv") == "/srv/a.db"
    assert located("sqlite:~/a.db", "/srv") == "/home/me/a.db"
    assert located("postgresql://h/db", "/srv") == "postgresql://h/db"


def test_a_writer_that_takes_long_is_one_sentence(server, monkeypatch):
    where = server.database()
    monkeypatch.setattr(postgresql, "LOCK_SECONDS", 1)
    with open_store(where, write=True) as store, open_store(where, write=True) as other:
        with store.writing(), pytest.raises(FleetError, match="is in use by another process"):
            add(other, change(0))
        assert add(other, change(0)) == 1


def test_a_writer_that_hangs_does_not_keep_the_others_waiting(server, monkeypatch):
    where = server.database()
    with monkeypatch.context() as patched:
        patched.setattr(postgresql, "IDLE_SECONDS", 1)
        gone = open_store(where, write=True)
    lost = pytest.raises(FleetError, match="cannot be used")
    with gone, lost, open_store(where, write=True) as other, gone.writing() as transaction:
        transaction.machine(machine())
        transaction.query("SELECT 1")
        assert add(other, change(0)) == 1  # waits until the server has ended the first transaction
        transaction.query("SELECT 1")
    with open_store(where) as store:
        assert store.query("SELECT count(*) FROM changes") == [(1,)]


def test_what_the_server_does_not_commit_counts_as_not_stored(server):
    where = server.database()
    with open_store(where, write=True) as store:
        with pytest.raises(FleetError, match="did not take the transaction"), store.writing() as transaction:
            transaction.execute("UPDATE meta SET value = 7 WHERE name = 'dropped'")
            with pytest.raises(FleetError):
                transaction.query("SELECT 1 / 0")
        assert store.query("SELECT value FROM meta WHERE name = 'dropped'") == [(0,)]


def test_notifications_do_not_pile_up(server):
    where = server.database()
    with open_store(where, write=True) as store, open_store(where) as reader:
        counter = reader.counter()
        reader.wait(counter, 0.01)
        for number in range(20):
            add(store, change(number))
            counter = reader.wait(counter, 30)
        assert not getattr(reader._db._db, "_notifies_backlog", None)
        started = time.monotonic()
        assert reader.wait(counter, 0.5) == counter and time.monotonic() - started < 10


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_does_not_take_every_text_is_one_sentence(server, encoding):
    import psycopg

    with psycopg.connect(server.url("postgres"), autocommit=True) as db:
        db.execute("CREATE DATABASE %s ENCODING '%s' TEMPLATE template0" % (encoding.lower(), encoding))
    for write in (True, False):
        with pytest.raises(FleetError, match="has the encoding %s. Create it with ENCODING 'UTF8'" % encoding):
            open_store(server.url(encoding.lower()), write)


def test_a_user_without_privileges_is_one_sentence(server):
    where = server.database()
    with open_store(where, write=True) as store:
        store._db.execute("CREATE USER guest")
        add(store, change(0))
    for write in (True, False):
        with pytest.raises(FleetError, match="The user lacks a privilege for the fleet store"):
            open_store(where.replace("tester@", "guest@"), write)
    with open_store(where, write=True) as store:
        store._db.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
    with open_store(where.replace("tester@", "guest@")) as store:
        assert store.query("SELECT count(*) FROM ConfigurationChange") == [(1,)]
    refused = pytest.raises(FleetError, match="The user lacks a privilege")
    with refused, open_store(where.replace("tester@", "guest@"), write=True) as store:
        add(store, change(1))
