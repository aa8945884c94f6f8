# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ct_fleet_info answers, on SQLite and on PostgreSQL."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible.template import Templar

from ansible_collections.changetracking.inventory.plugins.action import ct_fleet_info
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed import pack
from ansible_collections.changetracking.inventory.plugins.modules import ct_fleet_info as documentation
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet import history
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.health import problems_of
from ansible_collections.changetracking.inventory.tests.helpers.fleets import (
    DAY,
    HOSTILE,
    HOUR,
    NOON,
    VIM,
    FleetStore,
    by_module,
    file,
    make_older,
    package,
    service,
)

ROOT = Path(__file__).parents[3]
GROUPS = {"all": ["web01", "web02", "web03", "db01"], "web": ["web01", "web02", "web03"], "db": ["db01"]}
OLD, NEW = package("openssl", "3.0.14"), package("openssl", "3.0.15", NOON - 600)


@pytest.fixture(params=["sqlite", "postgresql"])
def fleet(request, tmp_path):
    if request.param == "sqlite":
        return FleetStore(str(tmp_path / "fleet.db"))
    return FleetStore(request.getfixturevalue("server").database())


def ask(where, what="changes", task_vars=None, **arguments):
    where = getattr(where, "where", where)
    task = SimpleNamespace(args={"ask": what, "store": where, **arguments}, async_val=0, check_mode=False, diff=False)
    task.environment = None
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="none"))
    action = ct_fleet_info.ActionModule(task, connection, None, None, Templar(loader=None), None)
    return action.run(task_vars={"groups": GROUPS, **(task_vars or {})})


def short(answer):
    """(level, item, number of hosts) of each change."""
    return [(one["level"], one["item"], one["count"]) for one in answer["changes"]]


# --- changes


def test_the_same_change_on_many_hosts_is_one_entry_and_drift_comes_first(fleet):
    for number in range(120):
        name = "web%03d" % number
        fleet.host(name, NEW, file("/etc/ssh/sshd_config", "b", NOON - 60))
        fleet.change(name, OLD, NEW)
        fleet.task(name, "apt", NOON - 601, {"names": ["openssl"], "installed": {"openssl": "3.0.15"}}, "Upgrade")
    fleet.change("web007", file("/etc/ssh/sshd_config"), file("/etc/ssh/sshd_config", "b", NOON - 60))
    answer = ask(fleet)
    assert short(answer) == [("drift", "/etc/ssh/sshd_config", 1), ("task", "openssl", 120)]
    drift, upgrade = answer["changes"]
    assert (upgrade["before"], upgrade["after"]) == ({"CurrentVersion": "3.0.14"}, {"CurrentVersion": "3.0.15"})
    assert len(upgrade["hosts"]) == 100 and upgrade["changes"] == 120
    assert upgrade["task"]["name"] == "Upgrade" and upgrade["task"]["user"] == "alice" and drift["task"] is None
    assert drift["fields"] == ["FileContentChecksum"]
    assert answer["totals"] == {
        "changes": 121, "hosts": 120, "drift": 1, "unknown": 0, "run": 0, "task": 120, "ignore": 0, "window": 0, "acknowledge": 0,
    }  # fmt: skip
    assert answer["lines"] == [
        "Drift: 1 change on 1 host",
        "  2026-01-01T12:00:00Z  web007  Modified  Files  /etc/ssh/sshd_config  FileContentChecksum",
        "",
        "Ansible: 120 changes on 120 hosts",
        "  2026-01-01T12:00:00Z  120 hosts  Modified  Software  openssl  3.0.14 -> 3.0.15  by 'Upgrade' of site.yml (alice)"
        "  (web000, web001, web002, 117 more)",
    ]


def test_an_upgrade_by_hand_is_drift_by_the_time_of_the_package(fleet):
    for name, installed in (("web01", NOON - 600), ("web02", NOON - 100)):
        item = package("openssl", "3.0.15", installed)
        fleet.host(name, item)
        fleet.change(name, OLD, item)
        fleet.task(name, "apt", NOON - 601, {"names": ["openssl"], "installed": {"openssl": "3.0.15"}})
    assert [(one["level"], one["hosts"]) for one in ask(fleet)["changes"]] == [
        ("drift", ["web02"]),
        ("task", ["web01"]),
    ]


def test_changes_are_selected(fleet):
    fleet.change("web01", OLD, NEW, NOON - 5 * DAY)
    fleet.change("web02", None, package("nmap"), NOON)
    fleet.change("db01", service("postgresql"), service("postgresql", False), NOON)
    fleet.change("db01", file("/etc/a/b.conf"), None, NOON + DAY)
    every = [
        ("unknown", "openssl", 1),
        ("unknown", "nmap", 1),
        ("unknown", "postgresql", 1),
        ("unknown", "/etc/a/b.conf", 1),
    ]

    def items(**arguments):
        return sorted(one["item"] for one in ask(fleet, **arguments)["changes"])

    assert sorted(short(ask(fleet))) == sorted(every)
    assert items(since="2026-01-01") == ["/etc/a/b.conf", "nmap", "postgresql"]
    assert items(until="2025-12-31") == ["openssl"] and items(since="2026-01-01", until="2026-01-01T12:00:00Z") == []
    assert items(since="2026-01-01", until="2026-01-01") == ["nmap", "postgresql"]
    assert items(hosts=["web"]) == ["nmap", "openssl"] and items(hosts=["!web"]) == ["/etc/a/b.conf", "postgresql"]
    assert items(hosts=["web*", "!web01"]) == ["nmap"] and items(hosts=["all"]) == items()
    assert items(kinds=["packages"]) == ["nmap", "openssl"] and items(items=["/etc/*"]) == ["/etc/a/b.conf"]
    assert items(categories=["Added", "Removed"]) == ["/etc/a/b.conf", "nmap"]
    assert items(levels=["task"]) == [] and items(actors=["*"]) == []


def test_an_actor_is_the_user_of_a_run(fleet):
    for user, path in (("alice", "/etc/a"), ("bob", "/etc/b")):
        fleet.change("web01", file(path), file(path, "b", NOON - 60))
        fleet.task("web01", "copy", NOON - 61, {"paths": [path]}, user=user)
    assert short(ask(fleet, actors=["al*"])) == [("task", "/etc/a", 1)]


UPGRADE = {"names": ["openssl"], "installed": {"openssl": "3.0.15"}}


def of_relay(fleet, *names, upgraded=True):
    """Hosts that send to a relay, which upgraded a package."""
    fleet.via = "relay"
    for name in names:
        fleet.host(name, NEW)
        if upgraded:
            fleet.change(name, OLD, NEW)


def levels(fleet):
    """{host: level} of its change, and the warnings."""
    answer = ask(fleet, group=False)
    assert ask(fleet, "actors").get("warnings") == answer.get("warnings")
    return {one["host"]: one["level"] for one in answer["changes"]}, answer.get("warnings", [])


def test_a_host_of_a_relay_is_known_under_its_inventory_name_too(fleet):
    of_relay(fleet, "web01", "web02")
    fleet.task("first", "apt", NOON - 601, UPGRADE, "Upgrade", user="carol")
    fleet.task("first", "ping", NOON + DAY, {}, identity="id of web01")  # a later run
    assert levels(fleet)[0] == {"web01": "task", "web02": "drift"}
    assert [one["level"] for one in ask(fleet, actors=["carol"])["changes"]] == ["task"]
    fleet.task("10.0.0.2", "apt", NOON - 601, UPGRADE, "Upgrade", identity="id of web02")
    assert levels(fleet) == ({"web01": "task", "web02": "task"}, [])


def test_a_host_of_the_inventory_that_also_sends_to_a_relay_is_known_there(fleet):
    fleet.host("first", NEW)
    fleet.execute("UPDATE machines SET SourceComputerId = 'id of web01'")
    fleet.task("first", "apt", NOON - 601, UPGRADE, identity="id of web01")
    of_relay(fleet, "web01")
    assert levels(fleet) == ({"web01": "task"}, [])


def test_a_host_that_says_what_another_one_says_gets_none_of_its_tasks(fleet):
    of_relay(fleet, "web01", "evil")
    fleet.execute("UPDATE machines SET SourceComputerId = 'id of web01'")
    fleet.task("first", "apt", NOON - 601, UPGRADE, identity="id of web01")
    assert levels(fleet)[0] == {"web01": "drift", "evil": "drift"}


def test_the_tasks_of_a_host_that_says_what_another_one_says_are_not_those_of_the_other(fleet):
    of_relay(fleet, "web01", "web02")
    fleet.task("evil", "apt", NOON - 601, UPGRADE, identity="id of web01")
    fleet.task("first", "ping", NOON - 601, {}, identity="id of web01")
    fleet.task("liar", "apt", NOON - 601, UPGRADE, identity="id of web02")
    fleet.task("web02", "ping", NOON - 601, {})  # the run log has this name itself
    assert levels(fleet)[0] == {"web01": "drift", "web02": "drift"}


def test_a_host_that_was_renamed_in_the_inventory_has_its_new_name_after_a_month(fleet):
    of_relay(fleet, "web01")
    fleet.task("before", "ping", NOON - 29 * DAY, {}, identity="id of web01")
    fleet.task("after", "apt", NOON - 601, UPGRADE, identity="id of web01")
    assert levels(fleet)[0] == {"web01": "drift"}
    fleet.execute("DELETE FROM identities WHERE name = 'before'")
    fleet.task("before", "ping", NOON - 31 * DAY, {}, identity="id of web01")
    assert levels(fleet)[0] == {"web01": "task"}


def test_runs_of_hosts_that_the_store_does_not_know_are_one_warning(fleet):
    of_relay(fleet, "web01", "web02", "web03")
    fleet.task("first", "apt", NOON - 601, UPGRADE)
    fleet.task("second", "apt", NOON - 601, UPGRADE)
    fleet.task("localhost", "file", NOON - 601, {})
    ((warning,),) = levels(fleet)[1:]
    assert warning.startswith(
        "run_log recorded no task of web01 and 2 other hosts, but tasks of first and 1 other name that the store has no host of."
    )
    for name in ("first", "second"):  # other machines, which send to no relay
        fleet.task(name, "ping", NOON, {}, identity="id of " + name)
    assert levels(fleet) == (dict.fromkeys(("web01", "web02", "web03"), "drift"), [])


def test_hosts_without_a_run_are_no_warning_where_no_run_is_of_an_unknown_host(fleet):
    of_relay(fleet, "web01", "web02")
    fleet.task("web01", "apt", NOON - 601, UPGRADE)
    assert levels(fleet) == ({"web01": "task", "web02": "drift"}, [])
    fleet.task("elsewhere", "apt", NOON - 601, UPGRADE)
    assert "no task of web02," in levels(fleet)[1][0]
    fleet.task("web02", "ping", NOON, {})
    assert levels(fleet)[1] == []


def test_nothing_is_said_of_changes_that_were_found_before_the_first_run_was_recorded(fleet):
    fleet.change("web01", None, file("/etc/before"), NOON - DAY)
    fleet.change("web01", None, file("/etc/after"), NOON)
    fleet.task("web01", "copy", NOON - 601, {"paths": ["/etc/other"]})
    assert short(ask(fleet)) == [("drift", "/etc/after", 1), ("unknown", "/etc/before", 1)]


def test_what_else_happened_at_that_time_counts_though_it_is_not_selected(fleet):
    """A service that came with a package that was installed by hand as well is not the task's."""
    fleet.change("web01", None, service("nginx"))
    fleet.change("web01", None, package("nginx", "2.0", NOON - 10))
    fleet.task("web01", "apt", NOON - 601, {"names": ["nginx"], "installed": {"nginx": "1.0"}})
    everything = {one["item"]: one["level"] for one in ask(fleet)["changes"] if one["kind"] == "services"}
    assert {one["item"]: one["level"] for one in ask(fleet, kinds=["services"])["changes"]} == everything


def test_different_contents_of_a_file_are_counted(fleet):
    for number, content in enumerate("aabc"):
        fleet.change("web%02d" % number, file("/etc/x", "0"), file("/etc/x", content, NOON - 60))
    (entry,) = ask(fleet)["changes"]
    assert (entry["count"], entry["contents"]) == (4, 3)
    assert "4 hosts  Modified  Files  /etc/x  FileContentChecksum  3 contents" in ask(fleet)["lines"][1]


def test_what_a_line_shows_of_a_change_of_a_mode_or_state(fleet):
    fleet.change("web01", file("/etc/x"), file("/etc/x", mode=0o600))
    fleet.change("web01", service("ssh"), service("ssh", False))
    lines = ask(fleet)["lines"]
    assert lines[0] == "Changed: 2 changes on 1 host"  # no run is recorded, so none is called drift
    assert "/etc/x  Mode 0644 -> 0600" in lines[1] and "ssh  SvcState Running -> Stopped" in lines[2]


def test_each_change_is_an_entry_where_it_is_asked_for(fleet):
    records = [fleet.change(name, OLD, NEW) for name in ("web01", "web02")]
    answer = ask(fleet, group=False)
    assert sorted((one["host"], one["record"]) for one in answer["changes"]) == list(zip(["web01", "web02"], records))
    assert {one["time"] for one in answer["changes"]} == {"2026-01-01T12:00:00Z"}


def test_an_answer_is_bounded_and_says_so(fleet, monkeypatch):
    for number in range(20):
        fleet.change("web01", None, package("p%02d" % number), NOON + number)
    answer = ask(fleet, limit=5)
    assert len(answer["changes"]) == 5 and answer["left_out"] == 15 and answer["totals"]["changes"] == 20
    assert answer["lines"][-1] == "  15 more lines not shown" and len(answer["lines"]) == 7
    monkeypatch.setattr(history, "MOST_CHANGES", 4)
    answer = ask(fleet, group=False)
    assert [one["item"] for one in answer["changes"]] == ["p19", "p18", "p17", "p16"]
    assert answer["warnings"] == [
        "There are more than 4 changes, and the others are left out. Give since, until or hosts."
    ]


def test_the_changes_of_one_host_do_not_push_out_those_of_the_others(fleet, monkeypatch):
    fleet.change("web01", None, package("honest"))
    fleet.change("db01", None, package("honest"))
    for number in range(20):
        fleet.change("flood", None, package("p%02d" % number), NOON + DAY + number)
    monkeypatch.setattr(history, "MOST_CHANGES", 6)
    answer = ask(fleet, group=False)
    assert [(one["host"], one["item"]) for one in answer["changes"][:4]] == [
        ("flood", "p%d" % n) for n in (19, 18, 17, 16)
    ]
    assert sorted(one["host"] for one in answer["changes"][4:]) == ["db01", "web01"] and answer["warnings"]


def test_the_changes_in_the_result_of_one_host_do_not_push_out_those_of_the_others(fleet, monkeypatch):
    record = {"ConfigChangeType": "Software", "ChangeCategory": "Added", "TimeGenerated": "2026-01-01T12:00:00Z"}
    flood = {"changes": [dict(record, SoftwareName="p%02d" % number) for number in range(20)]}
    honest = {"changes": [dict(record, SoftwareName="honest")]}
    monkeypatch.setattr(history, "MOST_CHANGES", 6)
    hostvars = {"flood": {"ct_inventory": flood}, "web01": {"ct_inventory": honest}}
    task_vars = {"ansible_play_hosts_all": list(hostvars), "hostvars": hostvars}
    answer = ask(fleet, results="ct_inventory", group=False, task_vars=task_vars)
    assert [one["host"] for one in answer["changes"]] == ["flood"] * 5 + ["web01"] and answer["warnings"]


def test_the_changes_in_the_results_of_a_play(fleet):
    record = {
        "ConfigChangeType": "Files",
        "ChangeCategory": "Modified",
        "FileSystemPath": "/etc/x",
        "FieldsChanged": "Mode",
        "Mode": "0600",
    }
    record.update(TimeGenerated="2026-01-01T12:00:00Z", LastSnapshotAge=3600)
    odd = [
        7,
        None,
        {},
        {"ConfigChangeType": "x"},
        dict(record, LastSnapshotAge="x"),
        dict(record, Owner=[{}], FileSystemPath="/etc/y"),
    ]
    results = {
        "web01": {"files": [], "packed": pack({"changes": [record]})},
        "web02": {"changes": [record, *odd]},  # as ct_inventory_info returns them
        "web03": {"files": [], "packed": "broken"},
        "db01": {"failed": True, "msg": "unreachable"},
    }
    hostvars = {host: {"ct_inventory": result} for host, result in results.items()}
    task_vars = {"hostvars": hostvars, "ansible_play_hosts_all": [*results, "none"]}
    hostvars["none"] = {}
    fleet.task("web01", "file", NOON - 61, {"paths": ["/etc/x"], "asked": {"mode": "0600"}})
    answer = ask(fleet, task_vars=task_vars, results="ct_inventory")
    assert short(answer) == [("drift", "/etc/x", 1), ("drift", "/etc/y", 1), ("task", "/etc/x", 1)]
    assert answer["lines"][0] == "Drift: 2 changes on 1 host"
    answer = ask("none", task_vars=task_vars, results="ct_inventory")
    assert short(answer) == [("unknown", "/etc/x", 2), ("unknown", "/etc/y", 1)]


# --- marks


MARKS = """
- ignore: {kind: files, item: /etc/adjtime, fields: [FileContentChecksum, DateModified, DateCreated]}
  until: 2026-12-31
  reason: ntp
- window: {hosts: [db]}
  from: 2026-01-01T11:30:00Z
  until: 2026-01-01T13:00:00Z
  reason: patch day
- acknowledge: {item: [openssl, libssl*], hosts: web}
  until: 2026-01-01
  by: alice
  reason: CHG0042
"""


def test_marked_changes_are_hidden_and_counted(fleet, tmp_path):
    adjtime, newer = file("/etc/adjtime"), file("/etc/adjtime", "b", NOON - 60)
    fleet.change("web01", adjtime, newer)
    fleet.change("web02", adjtime, file("/etc/adjtime", "b", NOON - 60, mode=0o600))
    fleet.change("db01", OLD, NEW, NOON + HOUR / 2)
    fleet.change("web01", OLD, NEW)
    fleet.change("web01", OLD, NEW, NOON + DAY)
    path = tmp_path / "marks.yml"
    path.write_text(MARKS)
    answer = ask(fleet, marks=str(path))
    assert short(answer) == [("unknown", "/etc/adjtime", 1), ("unknown", "openssl", 1)]
    assert answer["changes"][1]["first"] == "2026-01-02T12:00:00Z"
    assert {word: answer["totals"][word] for word in ("changes", "ignore", "window", "acknowledge")} == {
        "changes": 2, "ignore": 1, "window": 1, "acknowledge": 1,
    }  # fmt: skip
    assert answer["lines"][-1] == "Not shown: 1 ignored, 1 in a maintenance window, 1 acknowledged"
    given = yaml.safe_load(MARKS)
    shown = ask(fleet, marks=given, marked="show")
    assert shown["totals"]["changes"] == 5 and any("[acknowledge: CHG0042]" in line for line in shown["lines"])
    only = {one["item"]: one["mark"] for one in ask(fleet, marks=given, marked="only", hosts=["web"])["changes"]}
    assert only == {
        "/etc/adjtime": {"word": "ignore", "reason": "ntp", "by": ""},
        "openssl": {"word": "acknowledge", "reason": "CHG0042", "by": "alice"},
    }


def test_a_window_covers_what_happened_in_it_by_the_time_of_the_item(fleet):
    """It was found at noon, and the snapshot before was a day earlier; the file was written an hour before."""
    fleet.change("web01", file("/etc/x"), file("/etc/x", "b", NOON - HOUR), age=DAY)
    fleet.change("web01", service("ssh"), service("ssh", False), age=DAY)

    def covered(start, end):
        mark = {"window": {}, "from": NOON_TEXT % start, "until": NOON_TEXT % end}
        return sorted(one["kind"] for one in ask(fleet, marks=[mark], marked="only")["changes"])

    assert covered(10, 12) == ["files", "services"] and covered(8, 10) == ["services"] and covered(13, 14) == []


NOON_TEXT = "2026-01-01T%02d:00:00Z"


def test_one_change_is_acknowledged_by_its_record(fleet):
    first, _second = fleet.change("web01", OLD, NEW), fleet.change("web02", OLD, NEW)
    assert ask(fleet, marks=[{"acknowledge": {"record": first}, "by": "alice"}])["changes"][0]["hosts"] == ["web02"]


def test_a_wrong_mark_of_a_program_is_named_with_what_removes_it(tmp_path):
    fleet = FleetStore(str(tmp_path / "fleet.db"))
    sql = "INSERT INTO marks (mark, word, what, made_at) VALUES (7, 'ignore', ?, '2026-01-01T00:00:00Z')"
    fleet.execute(sql, json.dumps({"kind": "file"}))
    (message,) = ask(fleet)["warnings"]
    assert "of the fleet store (ct_fleet_mark removes it with state=absent number=7): kind is 'file'." in message


@pytest.mark.parametrize(
    ("column", "question"),
    [
        ("hosts.via", "hosts"),
        ("hosts.failure", "hosts"),
        ("inventories.type", "hosts"),
        ("items.CurrentVersion", "versions"),
        ("contents.Current", "changes"),
    ],
)
def test_a_value_that_is_no_text_is_one_sentence(tmp_path, column, question):
    fleet = FleetStore(str(tmp_path / "fleet.db"))
    fleet.host("web01", OLD)
    fleet.change("web01", OLD, NEW)
    table, name = column.split(".")
    fleet.execute(f"UPDATE OR IGNORE {table} SET {name} = ?", b"\xff\0")
    answer = ask(fleet, ask=question)
    assert (
        answer["failed"] and f"has a value of the wrong type in {column}. Correct or delete that row" in answer["msg"]
    )


def test_an_acknowledged_record_needs_no_time(fleet):
    """The clock of a host may be ahead of the one by which the mark was made."""
    record = fleet.change("web01", OLD, NEW, NOON + DAY)
    sql = "INSERT INTO marks (mark, word, what, made_at) VALUES (1, 'acknowledge', ?, '2026-01-01T00:00:00Z')"
    fleet.execute(sql, json.dumps({"record": record}))
    assert ask(fleet)["totals"]["acknowledge"] == 1


def test_a_window_goes_by_the_time_of_a_package_though_no_run_is_recorded(fleet):
    fleet.host("web01", NEW)
    fleet.change("web01", OLD, NEW, age=DAY)
    early = {"window": {}, "from": NOON_TEXT % 2, "until": NOON_TEXT % 3}
    late = {"window": {}, "from": NOON_TEXT % 11, "until": NOON_TEXT % 13}
    assert ask(fleet, marks=[early])["totals"]["window"] == 0 and ask(fleet, marks=[late])["totals"]["window"] == 1


def test_marks_in_the_store_count(fleet):
    fleet.change("web01", OLD, NEW)
    columns = "mark, word, what, reason, made_by, made_at, valid_from, valid_until"
    sql = f"INSERT INTO marks ({columns}) VALUES (1, 'acknowledge', '{{\"item\": \"openssl\"}}', 'seen', 'alice', ?, NULL, NULL)"
    fleet.execute(sql, "2026-01-01T13:00:00Z")
    fleet.change("web01", OLD, NEW, NOON + DAY)
    answer = ask(fleet)
    assert answer["totals"]["acknowledge"] == 1 and answer["changes"][0]["first"] == "2026-01-02T12:00:00Z"
    fleet.execute("UPDATE marks SET what = 'x'")
    answer = ask(fleet)
    assert "not JSON" in answer["warnings"][0] and answer["totals"]["changes"] == 2


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("x", "has 0 of the keys ignore, window, acknowledge"),
        ({"ignore": {"item": "a"}, "window": {}}, "has 2 of the keys"),
        ({"ignore": {"item": "a"}, "hosts": "web"}, "has the unknown key 'hosts'"),
        ({"ignore": {}}, "selects every change"),
        ({"ignore": "a"}, "is not a mapping"),
        ({"ignore": {"items": "a"}}, "unknown key 'items'. The keys are kind, item, fields"),
        ({"ignore": {"kind": "file"}}, "kind is 'file'. Give some of packages, services, files."),
        ({"ignore": {"category": "added"}}, "category is 'added'"),
        ({"ignore": {"fields": ["Checksum"]}}, "fields is 'Checksum'. Give some of SoftwareType,"),
        (
            {"ignore": {"item": "a"}, "until": "soon"},
            "'until': 'soon'}\": The value of until is 'soon'. Give a time such as",
        ),
        (
            {"ignore": {"item": "a"}, "from": "2026-01-02", "until": "2026-01-01"},
            "ends before it begins. Give a later until.",
        ),
        ({"window": {}, "until": "2026-01-01"}, "has no beginning or no end"),
        ({"acknowledge": {"item": "a"}}, "Give until"),
    ],
)
def test_a_wrong_mark_is_one_sentence(tmp_path, mark, message):
    fleet = FleetStore(str(tmp_path / "fleet.db"))
    fleet.change("web01", OLD, NEW)
    answer = ask(fleet, marks=[mark])
    assert answer["failed"] and message in answer["msg"]


def test_marks_that_cannot_be_read_are_one_sentence(tmp_path):
    fleet = FleetStore(str(tmp_path / "fleet.db"))
    fleet.change("web01", OLD, NEW)
    assert "Cannot read the marks '/none'" in ask(fleet, marks="/none")["msg"]
    (tmp_path / "marks.yml").write_text("- [")
    assert "are not YAML" in ask(fleet, marks=str(tmp_path / "marks.yml"))["msg"]
    (tmp_path / "marks.yml").write_text("a: b")
    assert "are not a list" in ask(fleet, marks=str(tmp_path / "marks.yml"))["msg"]
    (tmp_path / "marks.yml").write_text("")
    assert ask(fleet, marks=str(tmp_path / "marks.yml"))["totals"]["changes"] == 1


# --- inventories


def furnish(fleet):
    """Ten web servers, of which web09 differs in three items, and a database server."""
    common = [package("bash"), package("openssl", "3.0.15"), service("ssh"), file("/etc/ssh/sshd_config")]
    for number in range(9):
        fleet.host("web%02d" % number, *common, file("/etc/hostname", str(number)))
    other = [package("bash"), package("openssl", "3.0.14"), package("nmap"), service("ssh")]
    fleet.host("web09", *other, file("/etc/ssh/sshd_config", "b", mode=0o600), file("/etc/hostname", "9"))
    fleet.host("db01", package("bash"), package("openssl", "3.0.14"))


def variants(answer):
    return {
        one["item"]: [(next(iter((some["values"] or {"": None}).values())), some["count"]) for some in one["variants"]]
        for one in answer["found"]
    }


def test_versions_are_counted(fleet):
    furnish(fleet)
    answer = ask(fleet, "versions", items=["openssl"])
    assert variants(answer) == {"openssl": [("3.0.15", 9), ("3.0.14", 2)]}
    assert answer["found"][0]["variants"][1]["hosts"] == ["db01", "web09"]
    assert answer["lines"] == [
        "packages  openssl",
        "    9 hosts  3.0.15  (web00, web01, web02, 6 more)",
        "    2 hosts  3.0.14  (db01, web09)",
    ]
    assert variants(ask(fleet, "versions", items=["open*"], hosts=["web*"])) == {
        "openssl": [("3.0.15", 9), ("3.0.14", 1)]
    }
    assert len(ask(fleet, "versions", kinds=["packages"])["found"]) == 3
    assert variants(ask(fleet, "versions", items=["ssh"], kinds=["services"])) == {"ssh": [("Running", 10), (None, 1)]}


def test_hosts_with_a_version_below_another_and_hosts_without_the_package(fleet):
    furnish(fleet)
    fleet.host("el9", package("openssl", "1:3.0.7-27.el9"), package("zlib", "0:1.2.11~rc1-40.el9"))
    old = ask(fleet, "versions", items=["openssl"], version="< 3.0.15")
    assert variants(old) == {"openssl": [("3.0.14", 2)]}
    assert old["lines"] == ["packages  openssl", "    2 hosts  3.0.14  (db01, web09)"]
    assert variants(ask(fleet, "versions", items=["openssl"], version=">1:3")) == {"openssl": [("1:3.0.7-27.el9", 1)]}
    assert variants(ask(fleet, "versions", items=["zlib"], version="<1.2.11")) == {"zlib": [("0:1.2.11~rc1-40.el9", 1)]}
    assert ask(fleet, "versions", items=["openssl"], version="< 1")["lines"] == ["No host has such a version."]
    everywhere = ask(fleet, "versions", items=["nmap", "bash"], kinds=["packages"])
    assert variants(everywhere) == {"bash": [("1.0", 11), (None, 1)], "nmap": [("1.0", 1), (None, 11)]}
    assert "     1 host  not there  (el9)" in everywhere["lines"]
    assert ask(fleet, "versions", items=["none"])["lines"] == ["No host has such an item.", "none  no host has it"]


def test_a_package_of_another_architecture_is_there(fleet):
    fleet.host("web01", package("openssl"))
    fleet.host("web02", package("openssl", architecture="arm64"))
    fleet.host("web03", package("bash"))
    found = ask(fleet, "versions", items=["openssl"])["found"]
    assert [[(some["count"], some["hosts"]) for some in one["variants"]] for one in found] == [
        [(1, ["web01"])],
        [(1, ["web02"]), (1, ["web03"])],
    ]


def test_what_one_host_had_on_a_day(fleet):
    fleet.host("web01", NEW, file("/etc/x", mode=0o600), service("ssh"))
    fleet.change("web01", OLD, NEW, NOON)
    answer = ask(fleet, "versions", hosts=["web01"], at="2025-12-31")
    assert answer["lines"] == [
        "files  /etc/x  FileContentChecksum=aaaaaaaaaaaa Mode=0600 Owner=root Group=root FileType=file",
        "packages  openssl  3.0.14",
        "services  ssh  SvcState=Running SvcStartupType=Enabled",
    ]
    assert answer["warnings"] == [
        "The store has nothing of web01 from before that time. The first inventory is used instead, which may be different."
    ]
    now = ask(fleet, "versions", hosts=["web01"], at="2026-01-01", items=["openssl"])
    assert now["lines"] == ["packages  openssl  3.0.15"] and "warnings" not in now
    fleet.host("web02", NEW)
    both = ask(fleet, "compare", hosts=["web01"], reference=["web02"], reference_at="2026-01-01", kinds=["packages"])
    assert both["lines"] == ["No host differs."] and "nothing of web02 from" in both["warnings"][0]


def test_an_answer_to_read_has_no_data(fleet):
    furnish(fleet)
    assert set(ask(fleet, "versions", format="lines")) == {"changed", "lines", "left_out"}
    assert set(ask(fleet, format="lines")) == {"changed", "lines", "left_out", "totals"}
    assert ask(fleet)["lines"] == ["No changes."]


def test_outliers_are_what_nearly_all_others_have_otherwise(fleet):
    furnish(fleet)
    answer = ask(fleet, "outliers", hosts=["web*"])
    assert variants(answer) == {
        "/etc/ssh/sshd_config": [("b" * 64, 1)],
        "nmap": [("1.0", 1)],
        "openssl": [("3.0.14", 1)],
    }
    assert {one["item"]: len(one["expected"]) for one in answer["found"]} == {
        "/etc/ssh/sshd_config": 1, "nmap": 0, "openssl": 1,
    }  # fmt: skip
    assert {host for one in answer["found"] for some in one["variants"] for host in some["hosts"]} == {"web09"}
    assert "packages  nmap  (expected: not there)" in answer["lines"]
    assert "     1 host  FileContentChecksum=bbbbbbbbbbbb Mode=0600  (web09)" in answer["lines"]
    assert ask(fleet, "outliers", hosts=["web*"], majority=95)["found"] == []
    assert ask(fleet, "outliers", hosts=["web*"], majority=95)["lines"] == ["No host differs."]


def test_outliers_are_looked_for_among_hosts_of_the_same_architecture(fleet):
    for number in range(30):
        architecture = "arm64" if number < 10 else "amd64"
        version = "1" if number in (3, 13) else "2"
        own = [package("dpkg", architecture=architecture), package("openssl", version, architecture=architecture)]
        fleet.host("web%02d" % number, *own, *([package("bash", architecture=architecture)] if number != 4 else []))
    fleet.host("web20", *own, package("bash"), package("libc6", architecture="i386"))
    found = ask(fleet, "outliers")["found"]
    assert [(one["item"], one["architecture"], [some["hosts"] for some in one["variants"]]) for one in found] == [
        ("bash", "arm64", [["web04"]]),
        ("libc6", "i386", [["web20"]]),
        ("openssl", "amd64", [["web13"]]),
        ("openssl", "arm64", [["web03"]]),
    ]


def test_hosts_are_compared_with_a_golden_host(fleet):
    furnish(fleet)
    answer = ask(fleet, "compare", reference=["web00"], hosts=["db01", "web09"], kinds=["packages"])
    assert variants(answer) == {"nmap": [("1.0", 1)], "openssl": [("3.0.14", 2)]}
    assert [one["expected"] for one in answer["found"]] == [[], [{"CurrentVersion": "3.0.15"}]]
    back = ask(fleet, "compare", reference=["web09"], hosts=["web00"], kinds=["packages"])
    assert variants(back) == {"nmap": [(None, 1)], "openssl": [("3.0.15", 1)]}
    assert "     1 host  not there  (web00)" in back["lines"]


def test_hosts_are_compared_with_a_group(fleet):
    furnish(fleet)
    answer = ask(fleet, "compare", reference=["web*"], hosts=["web09"])
    assert set(variants(answer)) == {
        "/etc/ssh/sshd_config",
        "nmap",
        "openssl",
    }  # not /etc/hostname, on which nobody agrees


def test_an_earlier_inventory_is_the_current_one_without_the_changes_since(fleet):
    fleet.host("web01", NEW, service("ssh"), file("/etc/x", "c"))
    fleet.host("web02", NEW, service("ssh", False), package("nmap"))
    for name in ("web01", "web02"):
        fleet.change(name, OLD, NEW, NOON)
    fleet.change("web01", file("/etc/x"), file("/etc/x", "b"), NOON)
    fleet.change("web01", file("/etc/x", "b"), file("/etc/x", "c"), NOON + DAY)
    fleet.change("web02", service("ssh"), service("ssh", False), NOON)
    fleet.change("web02", None, package("nmap"), NOON)
    fleet.change("web02", file("/etc/x"), None, NOON)
    then = variants(ask(fleet, "versions", at="2026-01-01T00:00:00Z"))
    assert then == {"openssl": [("3.0.14", 2)], "ssh": [("Running", 2)], "/etc/x": [("a" * 64, 2)]}
    moved = ask(fleet, "compare", reference_at="2026-01-01T00:00:00Z")
    assert variants(moved) == {
        "openssl": [("3.0.15", 2)], "ssh": [("Stopped", 1)], "nmap": [("1.0", 1)], "/etc/x": [("c" * 64, 1), (None, 1)],
    }  # fmt: skip
    (upgraded,) = [one for one in moved["found"] if one["item"] == "openssl"]
    assert upgraded["variants"][0]["before"] == {"CurrentVersion": "3.0.14"}
    assert "    2 hosts  3.0.14 -> 3.0.15  (web01, web02)" in moved["lines"]
    assert "     1 host  not there -> 1.0  (web02)" in moved["lines"]
    golden = ask(fleet, "compare", reference=["web01"], reference_at="2026-01-01T00:00:00Z", kinds=["packages"])
    assert variants(golden) == {"nmap": [("1.0", 1)], "openssl": [("3.0.15", 2)]}


def test_a_change_that_was_undone_is_no_difference(fleet):
    fleet.host("web01", OLD)
    fleet.change("web01", OLD, NEW, NOON)
    fleet.change("web01", NEW, OLD, NOON + HOUR)
    assert ask(fleet, "compare", reference_at="2026-01-01T00:00:00Z")["found"] == []


def test_nothing_is_said_of_an_item_that_was_taken_out_of_the_rule(fleet):
    first, second, third = (file("/srv/x", content) for content in "abc")
    fleet.host("web01", file("/etc/x"))
    fleet.change("web01", first, second, NOON)
    fleet.change("web01", None, file("/srv/y"), NOON)
    assert ask(fleet, "compare", reference_at="2026-01-01T00:00:00Z")["found"] == []
    fleet.host("web01", third)  # in the rule again, after it changed once more
    (moved,) = ask(fleet, "compare", reference_at="2026-01-01T00:00:00Z")["found"]
    assert moved["variants"][0]["before"]["FileContentChecksum"] == "a" * 64
    assert variants({"found": [moved]}) == {"/srv/x": [("c" * 64, 1)]}


def test_what_changed_since_the_inventory_of_an_agent_counts(fleet):
    """The inventory of both hosts is of NOON."""
    fleet.via = "relay"
    gone, nmap = file("/etc/gone"), package("nmap")
    fleet.host("web01", OLD, nmap, service("ssh"), file("/etc/x", "b"), gone)
    fleet.host("web02", NEW, file("/etc/x", "b"))
    fleet.change("web01", file("/etc/x"), file("/etc/x", "b"), NOON)  # found when the inventory was made, and in it
    fleet.change("web01", OLD, NEW, NOON + HOUR)
    fleet.change("web01", nmap, None, NOON + HOUR)
    fleet.change("web01", service("ssh"), service("ssh", False), NOON + HOUR)
    fleet.change("web01", gone, None, NOON + HOUR)
    fleet.change("web01", file("/etc/x", "b"), file("/etc/x", "c"), NOON + 2 * HOUR)
    fleet.change("web01", file("/etc/x", "c"), file("/etc/x", "d"), NOON + DAY)
    fleet.change("web02", None, file("/etc/new"), NOON + DAY)
    assert variants(ask(fleet, "versions")) == {
        "openssl": [("3.0.15", 2)], "ssh": [("Stopped", 1)], "/etc/x": [("b" * 64, 1), ("d" * 64, 1)], "/etc/new": [("a" * 64, 1)],
    }  # fmt: skip
    between = variants(ask(fleet, "versions", at="2026-01-01T15:00:00Z"))
    assert between == {"openssl": [("3.0.15", 2)], "ssh": [("Stopped", 1)], "/etc/x": [("b" * 64, 1), ("c" * 64, 1)]}
    before = variants(ask(fleet, "versions", at="2026-01-01T00:00:00Z", hosts=["web01"]))
    assert before == {
        "openssl": [("3.0.14", 1)], "nmap": [("1.0", 1)], "ssh": [("Running", 1)], "/etc/x": [("a" * 64, 1)], "/etc/gone": [("a" * 64, 1)],
    }  # fmt: skip
    moved = variants(ask(fleet, "compare", reference_at="2026-01-01T15:00:00Z"))
    assert moved == {"/etc/x": [("d" * 64, 1)], "/etc/new": [("a" * 64, 1)]}
    assert variants(ask(fleet, "compare", reference=["web01"], kinds=["packages"])) == {}


def test_nothing_is_said_of_a_kind_that_is_switched_off(fleet):
    fleet.host("web01", NEW)
    fleet.change("web01", OLD, NEW, NOON)
    fleet.change("web01", package("nmap"), None, NOON)
    fleet.execute("DELETE FROM host_items")
    fleet.execute("DELETE FROM inventories WHERE type = 'Software'")
    assert ask(fleet, "compare", reference_at="2026-01-01T00:00:00Z")["found"] == []


def test_two_versions_of_a_package_are_two_variants(fleet):
    kernels = [package("kernel", "1"), package("kernel", "2")]
    fleet.host("web01", *kernels)
    fleet.host("web02", kernels[1])
    assert variants(ask(fleet, "versions")) == {"kernel": [("2", 2), ("1", 1)]}
    assert variants(ask(fleet, "compare", reference=["web02"])) == {"kernel": [("1", 1)]}


def test_items_with_many_variants_are_bounded(fleet):
    for number in range(105):
        fleet.host("web%03d" % number, file("/etc/hostname", "%03d" % number))
    (entry,) = ask(fleet, "versions")["found"]
    assert len(entry["variants"]) == 100 and entry["more"] == 5


# --- hosts


def test_one_item_is_left_out():
    assert [*problems_of("Files", None, 1), *problems_of("Files", None, 2)] == [
        "Files: 1 item is left out",
        "Files: 2 items are left out",
    ]


def test_stale_failed_and_missing_hosts(fleet):
    fleet.host("web01", OLD)
    fleet.host("web02", OLD, sources={"dpkg": {"status": "failed", "message": "locked"}})
    fleet.failed("web03", "unreachable: \x1b[31mrefused")
    fleet.host("old", OLD)
    fleet.execute("UPDATE hosts SET last_seen = '2020-01-01T00:00:00Z' WHERE name = 'old'")
    answer = ask(fleet, "hosts")
    assert [(one["host"], one["status"]) for one in answer["hosts"]] == [
        ("web03", "failed"), ("old", "stale"), ("web02", "partial"), ("web01", "ok"),
    ]  # fmt: skip
    assert answer["missing"] == ["db01"]
    assert answer["totals"] == {"failed": 1, "stale": 1, "partial": 1, "ok": 1, "missing": 1}
    assert answer["hosts"][0]["last_seen"] is None and answer["hosts"][3]["items"]["Software"] == 1
    assert answer["lines"][0] == "failed  web03  last seen never  unreachable: \\x1b[31mrefused"
    assert answer["lines"][1].startswith("stale   old  last seen 2020-01-01T00:00:00Z")
    assert answer["lines"][2].endswith("Daemons: dpkg: locked; Files: dpkg: locked; Software: dpkg: locked")
    assert answer["lines"][3:] == ["missing db01  never collected"]
    assert ask(fleet, "hosts", hosts=["db"])["missing"] == ["db01"] and not ask(fleet, "hosts", hosts=["db"])["hosts"]


# --- what cannot be answered


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hosts": ["wbe*"]}, "No host in the fleet store matches the value of hosts, 'wbe*'."),
        ({"what": "compare"}, "There is nothing to compare with."),
        ({"what": "compare", "reference": ["x"]}, "No host in the fleet store matches the value of reference"),
        ({"since": "friday"}, "The value of since is 'friday'. Give a time"),
        ({"since": 7}, "The value of since is '7'"),
        ({"what": "hosts", "stale_after": "2999-01-01"}, "is in the future"),
        ({"limit": 0}, "The value of limit is 0."),
        ({"majority": 50, "what": "outliers"}, "The value of majority is 50."),
        ({"since": "2026-01-02", "until": "2026-01-01"}, "The value of until is not after that of since."),
        ({"version": "< 1"}, "The option version selects versions of packages. Give ask=versions with it"),
        ({"what": "versions", "version": "< 1", "kinds": ["files"]}, "and no other kinds"),
        ({"what": "versions", "version": "old"}, "The value of version is 'old'. Give one of"),
        ({"what": "hosts", "results": "x"}, "The option results is for changes."),
        ({"since": "2999-01-01"}, "The value of since is in the future."),
    ],
)
def test_what_is_wrong_with_a_question(tmp_path, arguments, message):
    fleet = FleetStore(str(tmp_path / "fleet.db"))
    fleet.host("web01", OLD)
    answer = ask(fleet, **arguments)
    assert answer["failed"] and message in answer["msg"]


def test_a_name_that_matches_no_host_is_a_warning_beside_others(tmp_path):
    fleet = FleetStore(str(tmp_path / "fleet.db"))
    fleet.host("web01", OLD)
    answer = ask(fleet, hosts=["web01", "wbe02", "db", "!x*"])
    assert answer["warnings"] == [
        f"No host in the fleet store matches '{name}' in the value of hosts." for name in ("wbe02", "db", "x*")
    ]
    assert "warnings" not in ask(fleet, hosts=["web*", "all"])


@pytest.mark.parametrize(
    ("what", "arguments", "options"),
    [
        ("hosts", {"items": ["openssl"], "kinds": ["packages"], "hosts": ["web01"]}, ["items", "kinds"]),
        ("changes", {"reference": ["web01"], "at": "2026-01-02", "items": ["x"]}, ["at", "reference"]),
        ("versions", {"since": "3d", "levels": ["drift"]}, ["since", "levels"]),
        ("compare", {"reference": ["web01"], "reference_at": "2026-01-02", "at": "2026-01-02"}, []),
        ("marks", {"hosts": ["web01"]}, ["hosts"]),
    ],
)
def test_an_option_that_the_question_ignores_is_a_warning(tmp_path, what, arguments, options):
    fleet = FleetStore(str(tmp_path / "fleet.db"))
    fleet.host("web01", OLD)
    warnings = ask(fleet, what, **arguments).get("warnings", [])
    ignored = [warning.split()[2] for warning in warnings if f"is ignored with ask={what}. It is for" in warning]
    assert ignored == options


def test_changes_beyond_the_limit_are_told_though_only_some_hosts_are_selected(tmp_path, monkeypatch):
    fleet = FleetStore(str(tmp_path / "fleet.db"))
    for number in range(4):
        fleet.change("web01" if number == 0 else "db01", None, package("p%d" % number), NOON + number)
    monkeypatch.setattr(history, "MOST_CHANGES", 2)
    assert "warnings" not in ask(fleet, hosts=["web01"])
    monkeypatch.setattr(history, "AT_ONCE", 1)  # so many hosts that they are not selected by the query
    assert ask(fleet, hosts=["web01"])["warnings"][0].startswith("There are more than 2 changes")


def test_a_store_that_is_not_there_is_one_sentence(tmp_path):
    message = ask(str(tmp_path / "none.db"))["msg"]
    assert "There is no fleet store" in message and "database of the relay" in message
    assert "Give its path or URL" in ask("none")["msg"]


def test_hostile_text_is_shown_as_text(fleet):
    name = "<script>\x1b[2J\u202e'; DROP TABLE hosts"
    fleet.host("web01", package(name))
    fleet.change("web01", None, package(name))
    for what in ("changes", "versions"):
        answer = ask(fleet, what)
        assert all(text.isprintable() for text in answer["lines"])
        assert (answer.get("changes") or answer["found"])[0]["item"].isprintable()
    assert ask(fleet, items=[name])["totals"]["changes"] == 1


# --- documentation


def test_the_documentation_has_all_options():
    documented = yaml.safe_load(documentation.DOCUMENTATION)["options"]
    assert set(documented) == set(ct_fleet_info.ARGUMENTS)
    for name, option in ct_fleet_info.ARGUMENTS.items():
        for key in ("type", "elements", "choices", "default"):
            assert documented[name].get(key) == option.get(key), name


QUERIES = re.findall(r"^-- (.*)\n(SELECT [^;]*);$", (ROOT / "docs/store.md").read_text("utf-8"), re.MULTILINE)


def test_the_page_has_ten_queries():
    assert len(QUERIES) == 10


EXPECTED = {
    "Which hosts have a package, in which version": 11,
    "Which versions of a package are there, and on how many hosts": 2,
    "On which hosts does a file differ, and how many have which content": 2,
    "Everything that a host has": 5,
    "Where does a service not run": 1,
    "What changed on a host, the latest first": 2,
    "What changed on a day, grouped: the same change on many hosts is one row": 1,
    "When did a file change, and where": 1,
    "How many changes of which kind were there each day": 2,
    "Which hosts are stale or could not be collected": 2,
}


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def of_the_page(request, tmp_path_factory):
    """A store in which each query of the page finds something."""
    if request.param == "sqlite":
        fleet = FleetStore(str(tmp_path_factory.mktemp("page") / "fleet.db"))
    else:
        fleet = FleetStore(request.getfixturevalue("server").database())
    day = 1_789_905_600  # 2026-09-20T12:00:00Z
    furnish(fleet)
    common = [package("bash"), package("openssl", "3.0.15"), file("/etc/ssh/sshd_config"), file("/etc/hostname", "0")]
    fleet.host("web00", *common, service("ssh", False))
    fleet.execute("UPDATE hosts SET name = 'web00042.example.org' WHERE name = 'web00'")
    fleet.execute("UPDATE hosts SET last_seen = '2026-12-01T00:00:00Z'")
    for name in ("web00042.example.org", "web01"):
        fleet.change(name, OLD, NEW, day)
    fleet.change("web00042.example.org", file("/etc/ssh/sshd_config"), file("/etc/ssh/sshd_config", "b"), day + DAY)
    fleet.execute("UPDATE hosts SET last_seen = '2026-12-01T00:00:00Z'")
    fleet.execute("UPDATE hosts SET last_seen = '2026-11-01T00:00:00Z' WHERE name = 'web09'")
    fleet.failed("web08", "unreachable")
    return fleet.where


@pytest.mark.parametrize(("title", "sql"), QUERIES, ids=[title for title, _sql in QUERIES])
def test_a_query_of_the_page_answers_its_question(of_the_page, title, sql):
    with open_store(of_the_page) as store:
        assert len(store.query(sql)) == EXPECTED[title]


# --- who changed what


MOTD = file("/etc/motd"), file("/etc/motd", "b", NOON - 60)


def test_a_change_has_its_actor_and_whether_the_host_confirms_the_task(fleet):
    for name, seen in (("web01", by_module("copy")), ("web02", VIM), ("db01", {})):
        fleet.change(name, *MOTD, **seen)
        fleet.task(name, "copy", NOON - 61, {"paths": ["/etc/motd"]}, "Write it")
    answer = ask(fleet)
    by_hand, unseen, ours = (
        next(one for one in answer["changes"] if one["hosts"] == [host]) for host in ("web02", "db01", "web01")
    )
    assert (by_hand["level"], by_hand["witness"], by_hand["task"]) == ("drift", "differs", None)
    assert by_hand["actor"] == {"login": "bob", "process": "/usr/bin/vim"}
    assert (ours["level"], ours["witness"], ours["task"]["name"]) == ("task", "confirmed", "Write it")
    assert ours["actor"] == {"login": "alice", "process": "/usr/bin/python3.11", "module": "copy"}
    assert (unseen["level"], unseen["witness"], unseen["actor"]) == ("task", None, None)
    lines = "\n".join(answer["lines"])
    assert "web02  Modified  Files  /etc/motd  FileContentChecksum  by bob (vim)" in lines
    assert "by 'Write it' of site.yml (alice)  confirmed by the host: alice, Ansible's copy" in lines
    (one,) = ask(fleet, hosts=["web02"], group=False)["changes"]
    assert one["actor"] == {
        "login": "bob", "uid": 1001, "process": "/usr/bin/vim", "command": "vim", "session": 7, "at": "2026-01-01T11:59:00.120Z",
    }  # fmt: skip


def test_the_same_change_by_others_is_another_entry_whatever_the_session(fleet):
    for number, login in enumerate(("bob", "bob", "eve")):
        fleet.change("web%02d" % number, *MOTD, **dict(VIM, ChangedBy=login, ChangedBySession=number))
    assert sorted((one["actor"]["login"], one["count"]) for one in ask(fleet)["changes"]) == [("bob", 2), ("eve", 1)]


def test_changes_are_selected_by_the_login_on_the_host_or_the_user_of_the_run(fleet):
    fleet.change("web01", *MOTD, **VIM)
    fleet.change("web02", OLD, NEW)
    fleet.task("web02", "apt", NOON - 601, {"names": ["openssl"], "installed": {"openssl": "3.0.15"}}, user="carol")
    for actors, hosts in (
        (["bob"], ["web01"]),
        (["carol"], ["web02"]),
        (["b*", "c*"], ["web01", "web02"]),
        (["vim"], []),
    ):
        answer = ask(fleet, actors=actors, group=False)
        assert sorted(one["host"] for one in answer["changes"]) == hosts


def test_who_changed_what(fleet):
    for name in ("web01", "web02"):
        fleet.change(name, *MOTD, **VIM)
        fleet.change(name, OLD, NEW)
    fleet.task("web01", "apt", NOON - 601, {"names": ["openssl"], "installed": {"openssl": "3.0.15"}}, user="carol")
    answer = ask(fleet, "actors")
    bob, carol, unknown = answer["actors"]
    assert (bob["login"], bob["process"], bob["module"], bob["user"]) == ("bob", "/usr/bin/vim", None, None)
    assert (bob["changes"], bob["count"], bob["names"], bob["more"]) == (2, 2, ["/etc/motd"], 0)
    assert (carol["user"], carol["playbook"], carol["hosts"]) == ("carol", "/srv/site.yml", ["web01"])
    assert (unknown["user"], unknown["login"], unknown["hosts"]) == (None, None, ["web02"])
    assert answer["lines"] == [
        "bob (vim)  2 changes on 2 hosts  last 2026-01-01T12:00:00Z  /etc/motd",
        "site.yml of carol  1 change on 1 host  last 2026-01-01T12:00:00Z  openssl",
        "not known  1 change on 1 host  last 2026-01-01T12:00:00Z  openssl",
    ]
    assert answer["totals"]["changes"] == 4
    assert ask(fleet, "actors", actors=["bob"])["actors"] == [bob]
    assert ask(fleet, "actors", limit=1)["left_out"] == 2
    assert ask(fleet, "actors", marks=[{"ignore": {"login": "bob"}}])["lines"][-1] == "Not shown: 2 ignored"
    assert ask(fleet, "actors", items=["none"])["lines"] == ["No changes."]


def test_a_mark_selects_the_changes_of_a_login(fleet):
    fleet.change("web01", *MOTD, **VIM)
    fleet.change("web02", *MOTD)
    answer = ask(fleet, marks=[{"ignore": {"login": ["b?b", "x"]}}])
    assert [one["hosts"] for one in answer["changes"]] == [["web02"]] and answer["totals"]["ignore"] == 1
    assert ask(fleet, marks=[{"ignore": {"login": "*"}}])["totals"]["ignore"] == 1


def test_a_store_without_actors_is_answered(request, tmp_path):
    for where in (str(tmp_path / "older.db"), request.getfixturevalue("server").database()):
        make_older(where)
        answer = ask(where)
        assert sorted(short(answer)) == [
            ("drift", "/etc/ssh/sshd_config", 1),
            ("drift", "openssl", 1),
            ("task", "openssl", 1),
        ]
        assert {(one["actor"], one["witness"]) for one in answer["changes"]} == {(None, None)}
        assert [one["user"] for one in ask(where, "actors")["actors"]] == ["alice", None]
        assert ask(where, "versions", items=["openssl"], at="2025-12-31")["found"]
        FleetStore(where).change("web02", *MOTD, **VIM)
        assert ask(where, actors=["bob"])["totals"]["changes"] == 1


def test_hostile_actors_are_text_of_limited_length(fleet):
    fleet.change("web01", *MOTD, **HOSTILE)
    for answer in (ask(fleet), ask(fleet, group=False), ask(fleet, "actors")):
        text = json.dumps(answer)
        assert len(text) < 10_000 and not {"\x1b", "\u202e", "\0"}.intersection(json.dumps(answer, ensure_ascii=False))
        assert all(one.isprintable() for one in answer["lines"])


def test_actors_in_results_are_answered_without_a_store():
    row = {
        "ConfigChangeType": "Files", "ChangeCategory": "Modified", "FileSystemPath": "/etc/motd", "FieldsChanged": "FileContentChecksum",
        "TimeGenerated": "2026-01-01T12:00:00Z", "RecordId": "x-0", **VIM, "ChangedByUid": [1], "ChangedBySession": 1 << 80,
    }  # fmt: skip
    task_vars = {"ansible_play_hosts_all": ["web01"], "hostvars": {"web01": {"inventory": {"changes": [row]}}}}
    answer = ask("none", "actors", task_vars, results="inventory")
    assert [(one["login"], one["changes"]) for one in answer["actors"]] == [("bob", 1)]
