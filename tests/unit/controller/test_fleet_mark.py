# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks that ct_fleet_mark adds and removes, on SQLite and on PostgreSQL."""

import getpass
import json
from types import SimpleNamespace

import pytest
import yaml
from ansible.template import Templar

from ansible_collections.changetracking.inventory.plugins.action import ct_fleet_info, ct_fleet_mark
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.modules import ct_fleet_mark as documentation
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet import mark_store
from ansible_collections.changetracking.inventory.tests.helpers.fleets import (
    DAY,
    HOUR,
    NOON,
    FleetStore,
    file,
    package,
)

GROUPS = {"all": ["web01", "web02", "db01"], "web": ["web01", "web02"]}
OLD, NEW = package("openssl", "3.0.14"), package("openssl", "3.0.15", NOON - 600)


@pytest.fixture(params=["sqlite", "postgresql"])
def fleet(request, tmp_path):
    """Two hosts with the same change, and one with another one."""
    if request.param == "sqlite":
        fleet = FleetStore(str(tmp_path / "fleet.db"))
    else:
        fleet = FleetStore(request.getfixturevalue("server").database())
    for name in ("web01", "web02"):
        fleet.change(name, OLD, NEW)
    fleet.change("db01", file("/etc/x"), file("/etc/x", "b", NOON - 60), NOON + HOUR)
    return fleet


def run(plugin, fleet, check_mode=False, diff=False, **arguments):
    task = SimpleNamespace(
        args={"store": getattr(fleet, "where", fleet), **arguments}, async_val=0, check_mode=check_mode, diff=diff
    )
    task.environment = None
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="none"))
    return plugin.ActionModule(task, connection, None, None, Templar(loader=None), None).run(
        task_vars={"groups": GROUPS}
    )


def mark(fleet, **arguments):
    return run(ct_fleet_mark, fleet, **arguments)


def ask(fleet, **arguments):
    return run(ct_fleet_info, fleet, **arguments)


def totals(fleet):
    found = ask(fleet)["totals"]
    return {word: found[word] for word in ("changes", "acknowledge", "ignore", "window") if found[word]}


def stored(fleet):
    with open_store(fleet.where) as store:
        return mark_store.read(store)


def test_what_is_in_the_store_is_acknowledged_and_nothing_later(fleet):
    result = mark(fleet, items=["openssl"], hosts=["web"], reason="CHG0042", by="alice")
    assert result["changed"] and result["covered"] == {"changes": 2, "hosts": 2}
    (made,) = result["marks"]
    assert made["selects"] == {"hosts": ["web"], "item": ["openssl"]} and made["until"] == "2026-01-01T12:00:01Z"
    assert (made["mark"], made["reason"], made["by"], made["from"]) == ("acknowledge", "CHG0042", "alice", None)
    assert totals(fleet) == {"changes": 1, "acknowledge": 2}
    fleet.change("web01", OLD, NEW, NOON + DAY)
    assert totals(fleet) == {"changes": 2, "acknowledge": 2}
    assert mark(fleet, items=["openssl"], hosts=["web"], reason="CHG0043")["changed"]
    assert totals(fleet) == {"changes": 1, "acknowledge": 3}
    assert [(one.reason, one.by) for one in stored(fleet)] == [("CHG0042", "alice"), ("CHG0043", getpass.getuser())]
    assert ask(fleet, marked="only")["changes"][0]["mark"]["reason"] in ("CHG0042", "CHG0043")


def test_a_mark_selects_by_the_login_that_the_host_names(fleet):
    fleet.change("web01", None, file("/etc/a"), ChangedBy="backup")
    fleet.change("web01", None, file("/etc/b"), ChangedBy="bob")
    fleet.change("web01", None, file("/etc/c"))
    made = mark(fleet, mark="ignore", logins=["back*"], reason="backups")
    assert made["marks"][0]["selects"] == {"login": ["back*"]} and made["covered"]["changes"] == 1
    assert totals(fleet) == {"changes": 5, "ignore": 1}


def test_a_mark_that_is_there_is_no_change_and_one_that_differs_is_replaced(fleet):
    for arguments in (
        {"items": ["openssl"]},
        {"mark": "ignore", "items": ["openssl", "bash"]},
        {"mark": "window", "from": "2026-01-01T11:00:00Z", "until": "2026-01-01T13:00:00Z"},
        {"records": ["x"], "until": "2030-01-01"},
    ):
        first = mark(fleet, reason="one", **arguments)
        assert first["changed"]
        assert mark(fleet, reason="one", **arguments) == {**first, "changed": False}
        again = mark(fleet, reason="another", **arguments)
        assert again["changed"] and again["marks"][0]["number"] == first["marks"][0]["number"]
    assert [one.reason for one in stored(fleet)] == ["another"] * 4
    mark(fleet, mark="ignore", items=["bash", "openssl"], reason="another", until="2026-06-30")
    assert [one.end for one in stored(fleet) if one.word == "ignore"] == ["2026-07-01T00:00:00Z"]
    mark(fleet, mark="window", reason="next", **{"from": "2026-02-01", "until": "2026-02-01"})
    assert len(stored(fleet)) == 5


def test_check_mode_and_the_difference(fleet):
    result = mark(fleet, check_mode=True, diff=True, items=["/etc/*"], reason="known", by="alice")
    assert result["changed"] and result["marks"][0]["number"] == 0 and stored(fleet) == []
    assert result["diff"]["before"] == ""
    assert yaml.safe_load(result["diff"]["after"]) == [
        {"acknowledge": {"item": ["/etc/*"]}, "until": "2026-01-01T13:00:01Z", "reason": "known", "by": "alice"}
    ]
    mark(fleet, items=["/etc/*"], reason="known", by="alice")
    result = mark(fleet, check_mode=True, diff=True, items=["/etc/*"], state="absent")
    assert result["changed"] and len(stored(fleet)) == 1 and result["diff"]["after"] == ""
    assert "diff" not in mark(fleet, items=["/etc/*"], state="absent")


def test_marks_are_removed_by_selection_or_number(fleet):
    mark(fleet, mark="ignore", items=["openssl"], reason="a")
    mark(fleet, items=["openssl"], reason="b")
    (other,) = mark(fleet, items=["/etc/x"], reason="c")["marks"]
    assert not mark(fleet, state="absent", items=["openssl"], hosts=["web01"])["changed"]
    assert not mark(fleet, state="absent", items=["openssl"], until="2020-01-01")["changed"]
    removed = mark(fleet, state="absent", items=["openssl"])
    assert removed["changed"] and [one["reason"] for one in removed["marks"]] == ["b"]
    assert mark(fleet, state="absent", number=other["number"])["changed"]
    assert not mark(fleet, state="absent", number=other["number"])["changed"]
    assert [one.reason for one in stored(fleet)] == ["a"]
    assert totals(fleet) == {"changes": 1, "ignore": 2}


def test_the_marks_are_listed(fleet):
    assert ask(fleet, ask="marks")["lines"] == ["The fleet store has no marks."]
    (made,) = mark(fleet, items=["openssl"], hosts=["web01", "web02"], reason="\x1b[31mCHG", by="alice")["marks"]
    answer = ask(fleet, ask="marks")
    assert answer["marks"] == [made] and answer["left_out"] == 0
    assert answer["lines"] == [
        f"{made['number']}  acknowledge  hosts=web01,web02  item=openssl  until 2026-01-01T12:00:01Z  by alice: \\x1b[31mCHG"
    ]


def test_a_record_is_acknowledged_whatever_the_clock_of_its_host(fleet):
    record = fleet.change("db01", OLD, NEW, 2_000_000_000)
    assert mark(fleet, records=[record], reason="seen")["marks"][0]["until"] is None
    assert totals(fleet) == {"changes": 3, "acknowledge": 1}


def test_a_host_whose_clock_is_ahead_has_no_later_change_of_another_host_acknowledged(fleet):
    fleet.change("db01", OLD, NEW, 2_000_000_000)
    result = mark(fleet, items=["openssl"], reason="seen")
    assert result["covered"] == {"changes": 2, "hosts": 2} and result["marks"][0]["until"] == "2026-01-01T12:00:01Z"
    assert result["warnings"][0].startswith(
        "1 change of db01 not acknowledged: by the clock of the host, it was found later"
    )
    fleet.change("web01", OLD, NEW, NOON + DAY)
    assert totals(fleet) == {"changes": 3, "acknowledge": 2}
    answer = mark(fleet, items=["openssl"], hosts=["db01"], reason="seen", **{"from": "2030-01-01"})
    assert answer["failed"] and answer["msg"] == result["warnings"][0]


def test_marks_that_a_program_wrote_are_known(fleet):
    columns = "mark, word, what, made_by, made_at"
    fleet.execute(
        f"INSERT INTO marks ({columns}) VALUES (1, 'ignore', ?, 'cmdb', 'x')", json.dumps({"item": "openssl"})
    )
    assert not mark(fleet, mark="ignore", items=["openssl"], reason="", by="cmdb")["changed"]
    fleet.execute("UPDATE marks SET what = '[]'")
    answer = ask(fleet, ask="marks")
    assert not answer.get("failed") and answer["marks"] == []
    assert "is not JSON of an object: '[]'. Delete mark 1" in answer["warnings"][0] and len(answer["warnings"]) == 1


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("what", "x", "not JSON of an object: 'x'"),
        ("what", b"\xff\0", "not JSON of an object"),
        ("what", "[" * 100_000, "not JSON of an object"),
        ("word", "ignored", "has 0 of the keys"),
        ("word", b"ignore", "a value that is no text"),
        ("valid_until", "soon", "The value of until is 'soon'"),
        ("valid_from", b"\xff", "a value that is no text"),
        ("reason", b"\xff", "a value that is no text"),
    ],
)
def test_a_mark_that_a_program_wrote_wrongly_is_a_warning_and_the_others_count(fleet, column, value, message):
    if fleet.where.startswith("postgresql") and not isinstance(value, str):
        pytest.skip("PostgreSQL checks types")
    mark(fleet, mark="ignore", items=["openssl"], hosts=["web01"], reason="a")
    columns = "mark, word, what, made_by, made_at"
    fleet.execute(f"INSERT INTO marks ({columns}) VALUES (99, 'ignore', ?, 'cmdb', '')", json.dumps({"item": "x"}))
    fleet.execute(f"UPDATE marks SET {column} = ? WHERE mark = 99", value)
    answer = ask(fleet)
    assert answer["totals"]["ignore"] == 1 and "failed" not in answer
    (warning,) = answer["warnings"]
    assert message in warning and "number=99" in warning and "\n" not in warning and len(warning) < 500
    assert ask(fleet, ask="marks")["warnings"] == [warning]
    assert mark(fleet, mark="ignore", items=["bash"], reason="b")["changed"]
    assert mark(fleet, state="absent", number=99)["changed"]
    assert "warnings" not in ask(fleet) and len(stored(fleet)) == 2


def test_many_wrong_marks_are_few_warnings(fleet):
    for number in range(1, 11):
        fleet.execute("INSERT INTO marks (mark, word, what, made_at) VALUES (?, 'ignore', '[]', '')", number)
    warnings = ask(fleet)["warnings"]
    assert len(warnings) == 4 and warnings[3].startswith("7 other marks of the fleet store cannot be used, either.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "The mark selects every change. Give at least one of kinds, items"),
        ({"items": ["openssll"]}, "No change in the fleet store is selected, so there is nothing to acknowledge."),
        ({"mark": "window"}, "has no beginning or no end. Give from and until."),
        ({"items": ["x"], "until": "soon"}, "The value of until is 'soon'. Give a time"),
        (
            {"items": ["x"], "from": "2026-01-02", "until": "2026-01-01"},
            "The value of until is not after that of from.",
        ),
        ({"items": ["x"], "number": 1}, "Give state=absent with it."),
        ({"state": "absent"}, "Give the number of the mark to remove, or what it selects"),
        ({"state": "absent", "number": 1, "items": ["x"]}, "and not both"),
        ({"store": "none", "items": ["x"]}, "There is no fleet store to read."),
        ({"store": "nothing.db", "items": ["x"]}, "There is no fleet store"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_changes_nothing(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    fleet = FleetStore(str(tmp_path / "fleet.db"))
    fleet.change("web01", OLD, NEW)
    result = mark(fleet, **{"reason": "x", **arguments})
    assert result["failed"] and message in result["msg"] and "\n" not in result["msg"]
    assert stored(fleet) == [] and not (tmp_path / "nothing.db").exists()


def test_the_documentation_has_all_options():
    documented = yaml.safe_load(documentation.DOCUMENTATION)["options"]
    assert set(documented) == set(ct_fleet_mark.ARGUMENTS)
    for name, option in ct_fleet_mark.ARGUMENTS.items():
        for key in ("type", "elements", "choices", "default"):
            assert documented[name].get(key) == option.get(key), name
