# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the file of a report, apart from how a browser shows it; tests/report has that."""

import base64
import hashlib
import json
import re
import zlib
from types import SimpleNamespace

import pytest
from ansible.template import Templar

from ansible_collections.changetracking.inventory.plugins.action import ct_fleet_report
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet import (
    report,
    report_changes,
    report_items,
)
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.report_columns import share, shown
from ansible_collections.changetracking.inventory.tests.helpers.fleets import (
    HOSTILE,
    NOON,
    VIM,
    FleetStore,
    file,
    make_older,
    package,
    service,
)
from ansible_collections.changetracking.inventory.tests.report import fleet

MOTD = file("/etc/motd"), file("/etc/motd", "b", NOON - 60)

WEB01 = "web01.example.org"


@pytest.fixture
def where(tmp_path):
    where = str(tmp_path / "fleet.db")
    fleet.example(where)
    return where


def made(where, **more):
    scope = {"since": fleet.NOW - 30 * fleet.DAY, "stale_after": 2.0 * fleet.DAY, "groups": fleet.GROUPS, **more}
    with open_store(where) as store:
        return report.make(store, report.Scope("Title", fleet.NOW, **scope))


def data(text):
    (block,) = re.findall(r'<script type="text/plain" id="data">([^<]*)</script>', text)
    return json.loads(zlib.decompress(base64.b64decode(block)))


def items(kind, host):
    """As the script in the page does it."""

    def sums(numbers):
        total, out = 0, []
        for number in numbers:
            total += number
            out.append(total)
        return out

    rows = list(zip(*([column["texts"][one] for one in sums(column["of"])] for column in kind["columns"])))
    base = sums(kind["bases"][kind["base"][host]]) if kind["base"][host] >= 0 else []
    added, gone = sums(kind["added"][host]), sums(kind["gone"][host])
    keys = {rows[item][: kind["identity"]] for item in added}
    return sorted(
        rows[item] for item in base if item not in gone and rows[item][: kind["identity"]] not in keys
    ) + sorted(rows[item] for item in added)


def test_a_report_of_a_store_without_actors_and_of_hostile_ones(tmp_path):
    where = str(tmp_path / "older.db")
    make_older(where)
    older = data(made(where, since=NOON - fleet.DAY).text)["changes"]
    assert len(older["when"]) == 3 and {tuple(actor[5:]) for actor in older["actors"]} == {("", "")}
    store = FleetStore(where)
    store.change("web02", *MOTD, **VIM)
    store.change("web03", *MOTD, **HOSTILE)
    actors = data(made(where, since=NOON - fleet.DAY).text)["changes"]["actors"]
    assert ["drift", "", "", "", "", "bob (vim)", "named"] in actors
    (hostile,) = (actor[5] for actor in actors if "onerror" in actor[5])
    assert hostile.isprintable() and len(hostile) < 300


def test_postgresql_gives_the_same_report(where, server):
    other = server.database()
    fleet.example(other)
    assert data(made(where).text) == data(made(other).text)


def test_the_policy_has_the_hashes_of_the_script_and_the_style(where):
    text = made(where).text
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text).group(1)
    for tag in ("script", "style"):
        (block,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_only_the_block_of_data_differs_between_reports(where, tmp_path):
    with open_store(str(tmp_path / "empty.db"), write=True):
        pass
    texts = [re.sub(r'id="data">[^<]*', "", made(one).text) for one in (where, str(tmp_path / "empty.db"))]
    assert texts[0] == texts[1]


def test_hosts_are_selected_by_name_pattern_and_group(where):
    assert data(made(where, hosts=["db", "!db01*"]).text)["hosts"]["name"] == fleet.GROUPS["db"][1:]
    assert made(where, hosts=["web01*"]).changes == 8  # of openssl, and 7 of tzdata
    assert made(where, hosts=["web01*", "wbe02"]).warnings == [
        "No host in the fleet store matches 'wbe02' in the value of hosts."
    ]
    with pytest.raises(ValueError, match="No host in the fleet store matches the value of hosts, 'wbe'"):
        made(where, hosts=["wbe"])


def test_hosts_with_too_many_items_do_not_push_out_the_others(where, monkeypatch):
    whole = made(where)
    with fleet.Fleet(where) as filled:
        filled.host("big.example.org", {"files": [fleet.file(f"/srv/{number}/{'x' * 300}") for number in range(2000)]})
    monkeypatch.setattr(report_items, "MAX_COST", 60_000)
    cut = made(where)
    before, after = data(whole.text), data(cut.text)
    for name in before["hosts"]["name"]:
        for old, new in zip(before["kinds"], after["kinds"]):
            host = after["hosts"]["name"].index(name)
            assert items(old, before["hosts"]["name"].index(name)) == items(new, host) and new["missing"][host] == 0
    big = after["hosts"]["name"].index("big.example.org")
    files = after["kinds"][2]
    assert 0 < files["missing"][big] == cut.left_out < 2000
    assert len(items(files, big)) + cut.left_out == 2000


def test_hosts_with_too_many_changes_do_not_push_out_the_others(where, monkeypatch):
    with fleet.Fleet(where) as filled:
        filled.host("big.example.org", {})
        for number in range(500):
            filled.change("big.example.org", "files", None, fleet.file(f"/tmp/{number}"), fleet.NOW - number)
    monkeypatch.setattr(report_changes, "MAX_CHANGES", 200)
    cut = made(where)
    assert cut.changes <= 200 and cut.left_out > 300
    hosts = data(cut.text)["changes"]["host"]
    names = data(cut.text)["hosts"]["name"]
    assert hosts.count(names.index(WEB01)) == 8 and hosts.count(names.index("big.example.org")) > 50


@pytest.mark.parametrize(
    ("costs", "budget", "limit"),
    [([], 10, float("inf")), ([(5, 1), (5, 1)], 10, float("inf")), ([(2, 1), (100, 1)], 10, 8), ([(100, 1), (100, 1)], 10, 5),
     ([(30, 3), (100, 1)], 40, 10), ([(1, 1), (1, 1), (50, 1), (50, 2)], 32, 10)],
)  # fmt: skip
def test_shares(costs, budget, limit):
    assert share(costs, budget) == limit


@pytest.mark.parametrize(
    "text", ["\u202egpj.exe", "\u2066a", "a\x00b", "\x1b[31m", "a\nb", "\u200b", "\udcff", "\ue000"]
)
def test_texts_have_no_characters_that_change_what_is_around_them(text):
    assert shown(text).isprintable()


def test_long_texts_are_shortened():
    assert len(shown("x" * (1 << 20))) < 250 and "(1048576 characters)" in shown("x" * (1 << 20))


def test_what_changed_since_the_inventory_of_an_agent_is_in_the_report(tmp_path):
    """The inventories of all hosts are of NOON. A host that got the same changes later has the same items."""
    where = str(tmp_path / "relay.db")
    store = FleetStore(where)
    store.via = "relay"
    gone, two = file("/etc/gone"), [package("linux", version) for version in ("6.1", "6.2")]
    after = [package("openssl", "1.1"), two[0], service("ssh", False), file("/etc/a", "b"), file("/etc/new")]
    for name in ("web01", "web02", "web03"):
        store.host(name, package("openssl"), package("nmap"), *two, service("ssh"), file("/etc/a"), gone)
    store.host("web04", *after)
    store.host("web05")
    for name in ("web01", "web02"):
        store.change(name, file("/etc/a", "c"), file("/etc/a"), NOON)  # in the inventory
        store.change(name, file("/etc/a"), file("/etc/a", "b"), NOON + 60)
        store.change(name, gone, None, NOON + 60)
        store.change(name, None, after[-1], NOON + 60)
        store.change(name, package("openssl"), after[0], NOON + 60)
        store.change(name, package("nmap"), None, NOON + 60)
        store.change(name, two[1], None, NOON + 60)
        store.change(name, service("ssh"), after[2], NOON + 60)
    for old, new in ((None, after[-1]), (after[-1], None), (None, after[0])):
        store.change("web05", old, new, NOON + 60)
    store.host("web02", *after)
    store.execute(
        "UPDATE inventories SET collected_at = '2026-01-01T12:02:00Z' WHERE host = (SELECT host FROM hosts WHERE name = 'web02')"
    )
    store.close()
    kinds = data(made(where).text)["kinds"]
    of_host = [[items(kind, host) for kind in kinds] for host in range(5)]
    assert of_host[0] == of_host[1] == of_host[3] != of_host[2]
    assert [len(some) for some in of_host[2]] == [4, 1, 2] and [len(some) for some in of_host[0]] == [2, 1, 2]
    assert of_host[4] == [[one for one in of_host[3][0] if one[0] == "openssl"], [], []]


def test_runs_of_hosts_that_the_store_does_not_know_are_a_warning_of_the_report(tmp_path):
    store = FleetStore(str(tmp_path / "relay.db"))
    store.via = "relay"
    store.change("web01", *MOTD)
    store.task("first", "copy", NOON - 61, {"paths": ["/etc/motd"]})
    (warning,) = made(store.where).warnings
    assert warning.startswith("run_log recorded no task of web01, but tasks of first that the store has no host of.")
    store.task("first", "ping", NOON, {}, identity="id of web01")
    known = made(store.where)
    assert known.warnings == [] and data(known.text)["changes"]["actors"][0][0] == "task"


def test_marks_are_in_the_report(where):
    marks = [{"ignore": {"item": "tzdata"}, "reason": "monthly", "by": "carol"}]
    found = data(made(where, marks=marks).text)["changes"]
    assert ["ignore", "monthly", "carol"] in found["marks"] and [] in found["marks"]
    with pytest.raises(ValueError, match="selects every change"):
        made(where, marks=[{"ignore": {}}])


# --- the action


def run(check_mode=False, **arguments):
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=check_mode, diff=False, environment=None)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="none"))
    action = ct_fleet_report.ActionModule(task, connection, None, None, Templar(loader=None), None)
    return action.run(task_vars={"groups": {}})


def test_the_file_can_be_read_by_its_owner_only_and_replaces_another(where, tmp_path):
    dest = tmp_path / "report.html"
    dest.write_text("old")
    result = run(store=where, dest=str(dest), since="2025-12-01")
    assert result["hosts"] == 31 and result["changes"] > 20 and result["size"] == dest.stat().st_size
    assert dest.stat().st_mode & 0o777 == 0o600 and [one.name for one in tmp_path.glob(".report*")] == []


def test_check_mode_writes_nothing(where, tmp_path):
    assert run(True, store=where, dest=str(tmp_path / "report.html"))["changed"]
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"store": "nothing.db"}, "There is no fleet store"),
        ({"store": "none"}, "There is no fleet store to read"),
        ({"dest": "."}, "Give the path of a file"),
        ({"dest": "missing/report.html"}, "Cannot write the report"),
        ({"since": "soon"}, "The value of since is 'soon'"),
        ({"since": "2999-01-01"}, "The value of since is in the future"),
        ({"marks": "missing.yml"}, "Cannot read the marks 'missing.yml'"),
    ],
)
def test_what_is_wrong_is_one_sentence(where, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(**{"store": where, **arguments})
    assert result["failed"] and message in result["msg"]
