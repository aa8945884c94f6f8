# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters, on this ansible-core."""

import base64
import csv
import datetime
import io
import zlib

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.changetracking.inventory.plugins.filter.ct_checks import ct_checks
from ansible_collections.changetracking.inventory.plugins.filter.ct_csv import ct_csv
from ansible_collections.changetracking.inventory.plugins.filter.ct_query import ct_query
from ansible_collections.changetracking.inventory.plugins.filter.ct_table import ct_table
from ansible_collections.changetracking.inventory.plugins.filter.ct_unpack import ct_unpack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.daemon import VERSION
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed import pack

ITEMS = {"packages": [{"SoftwareName": "a"}, {"SoftwareName": "ä\x01"}], "files": []}
SOURCES = {"dpkg": {"status": "ok", "count": 2}, "rpm": {"status": "absent", "count": 0}}


def test_what_was_packed_is_opened():
    assert ct_unpack(pack(ITEMS)) == ITEMS
    assert ct_unpack({"packed": pack(ITEMS), "inventory": {}}) == ITEMS


@pytest.mark.parametrize(
    "hostile",
    ["", "x", None, 5, {}, pack([1]), pack({"packages": 5}), pack(ITEMS)[:-8], base64.b64encode(b"garbage").decode(),
     base64.b64encode(zlib.compress(b"[" * 100000)).decode()],
)  # fmt: skip
def test_what_a_host_made_up_is_refused_in_one_sentence(hostile):
    with pytest.raises(AnsibleFilterError, match="This is not what ct_inventory_info returns as packed"):
        ct_unpack(hostile)


def test_a_query_looks_into_packed_items():
    result = {"packed": pack(ITEMS), "Computer": "web01"}
    assert ct_query(result, "[Computer, packages[].SoftwareName]") == ["web01", ["a", "ä\x01"]]
    assert "packed" in result


def test_a_query_works_on_ansibles_own_types():
    from ansible.utils.unsafe_proxy import wrap_var

    assert ct_query(wrap_var({"items": [{"n": "abc"}, {"n": "abd"}]}), "items[?starts_with(n, 'abd')].n | [0]") == "abd"


class Tagged:
    """As the types that Ansible has of its own for what comes out of YAML, a module, a vault or a template."""


class TaggedText(Tagged, str):
    pass


class TaggedInt(Tagged, int):
    pass


class TaggedFloat(Tagged, float):
    pass


class TaggedDate(Tagged, datetime.date):
    pass


class TaggedList(Tagged, list):
    pass


class TaggedDict(Tagged, dict):
    pass


class Vaulted:
    __ENCRYPTED__ = True

    def __str__(self):  # pylint: disable=invalid-str-returned # it is a str, as Ansible's own is
        return TaggedText("secret")


@pytest.mark.parametrize(
    "expression, found",
    [
        ("sort_by(items, &Size)[].n", ["y", "x"]),
        ("items[?Size > `5`].n", ["x"]),
        ("max(items[].Size)", 10),
        ("sum(floats)", 4.0),
        ("type(items[0])", "object"),
        ("length(items)", 2),
        ("join('-', items[].n)", "x-y"),
        ("starts_with(since, '2026-')", True),
        ("to_string(items[0].Size)", "10"),
        ("nothing || vault", "secret"),
        ("sort(set)", ["a", "b"]),
        ("flag && `1`", 1),
    ],
)
def test_every_type_of_ansibles_is_what_it_stands_for(expression, found):
    rows = [TaggedDict({TaggedText("Size"): TaggedInt(10), "n": TaggedText("x")}), {"Size": TaggedInt(2), "n": "y"}]
    data = TaggedDict(
        {"items": TaggedList(rows), "floats": (TaggedFloat(1.5), TaggedFloat(2.5)), "since": TaggedDate(2026, 1, 2)},
        vault=Vaulted(), nothing=None, set={TaggedText("a"), "b"}, flag=True,
    )  # fmt: skip
    result = ct_query(data, TaggedText(expression))
    assert (result, type(result)) == (found, type(found))


def test_an_error_quotes_nothing_of_the_data():
    for expression in ("abs(n)", "sort(l)", "sort_by(l, &n)", "max(l)", "to_number(n)", "join(n, l)", "sum(l)"):
        try:
            ct_query({"n": "{{ hostile }}", "l": [{"n": "{{ hostile }}"}, "{{ hostile }}", 1, None]}, expression)
        except AnsibleFilterError as error:
            assert "hostile" not in str(error)


def test_data_that_is_nested_too_deeply_is_an_error_of_one_sentence():
    data = []
    for _level in range(100000):
        data = [data]
    with pytest.raises(AnsibleFilterError, match="nested too deeply"):
        ct_query(data, "[0]")


@pytest.mark.parametrize("expression", ["[", "nofunction(@)", "abs('x')", ""])
def test_a_bad_expression_is_named(expression):
    with pytest.raises(AnsibleFilterError, match="cannot be evaluated"):
        ct_query({}, expression)


def summary(**kinds):
    return {"inventory": {kind: dict({"sources": SOURCES}, **value) for kind, value in kinds.items()}}


def table(**results):
    hostvars = {host: {} if result is None else {"ct_inventory": result} for host, result in results.items()}
    return ct_table(list(hostvars), hostvars)


NOTHING = {"added": 0, "removed": 0, "modified": 0, "baseline": False}


def answer(ok, summary, *warnings):
    return {"installed": True, "doctor": {"Ok": ok, "Summary": summary, "Warnings": list(warnings)}}


def test_the_checks_of_a_fleet_are_shown_once_for_each_cause():
    passed, warned = "All checks passed.", "Checks passed, with 2 warnings: state, files."
    fleet = {
        "b": answer(True, passed),
        "a": answer(True, passed),
        "c": answer(True, warned, "state: Full.", "files: x: Permission denied."),
        "d": answer(False, "First failed check: service.", "state: Full."),
        "none": {"installed": False},
        "old": {"installed": True, "doctor": {"Ok": True, "Remedy": None, "Links": []}},
        "older": {"installed": True, "doctor": {"Ok": False, "Remedy": "Start it.", "Links": []}},
        "failed": {"failed": True, "msg": "The agent does not answer"},
        "gone": None,
    }
    found = ct_checks(list(fleet), {host: {"ct_agent": result} for host, result in fleet.items()})
    assert found == {
        passed: "a, b",
        warned: "c",
        "Warning: state: Full.": "c, d",
        "Warning: files: x: Permission denied.": "c",
        "First failed check: service.": "d",
        "No agent is installed.": "none",
        "Checks passed. Deploy the agent again to see its warnings here: this version does not return them.": "old",
        "Start it.": "older",
        "No answer.": "failed, gone",
    }


def test_an_agent_and_a_relay_of_another_version_are_named_with_what_to_do():
    def versions(agent, relay):
        return {"ct_agent": dict(answer(True, "x"), status={"Version": agent}), "relay": {"stdout": "relay " + relay}}

    newer, theirs = (
        str(int(VERSION.split(".", maxsplit=1)[0]) + 1) + ".0.0",
        "but this collection has version %s." % VERSION,
    )
    fleet = {
        "a": versions("0.0.9", VERSION),
        "b": versions(VERSION, "0.0.9"),
        "c": versions("0.0.9", newer),
        "d": versions(VERSION, VERSION),
        "none": {"ct_agent": {"installed": False}, "relay": {"stdout": "", "rc": 2}},
    }
    found = ct_checks(list(fleet), fleet, relay="relay")
    assert {text: hosts for text, hosts in found.items() if "ersion" in text} == {
        "Warning: The agent has version 0.0.9, %s Run the playbook deploy again." % theirs: "a, c",
        "Warning: The relay has version 0.0.9, %s Run the role relay again." % theirs: "b",
        "Warning: The relay has version %s, %s Upgrade the collection on this controller." % (newer, theirs): "c",
    }
    assert ct_checks(["b"], fleet) == {"x": "b"}


def test_a_host_with_a_relay_and_no_agent_is_checked_as_a_relay():
    relays = {
        "good": {"rc": 0, "stdout": "x", "stderr": ""},
        "stuck": {"rc": 1, "stdout": "x", "stderr": ""},
        "down": {"rc": 1, "stdout": "", "stderr": "a\nrelay: error: No relay\x1b."},
        "none": {"skipped": True},
        "odd": 5,
        "gone": None,
    }
    fleet = {host: {"ct_agent": {"installed": False}, "relay": status} for host, status in relays.items()}
    fleet["both"] = {"ct_agent": answer(True, "All checks passed."), "relay": relays["stuck"]}
    assert ct_checks(list(fleet), fleet, relay_status="relay") == {
        "The relay runs and uploads. There is no agent.": "good",
        "The relay cannot store or upload records. Run relay.pyz status on this host to see the error.": "stuck",
        "relay: error: No relay\\x1b.": "down",
        "No agent is installed.": "gone, none, odd",
        "All checks passed.": "both",
    }


@pytest.mark.parametrize(
    "version", [5, None, [], "", "x", "0.1", "0.1.0\n", "\x1b", "1" * 10**6, "0.1.0" + "x" * 10**6, "1." * 10**5 + "1"]
)
def test_a_version_that_a_host_made_up_does_no_harm(version):
    agent = dict(answer(True, "x"), status={"Version": version})
    found = ct_checks(["h"], {"h": {"ct_agent": agent, "r": {"stdout": "relay %s" % version}}}, relay="r")
    assert len(found) <= 3 and all(len(text) < 300 and text.isprintable() for text in found)


@pytest.mark.parametrize(
    "doctor", [5, [], {}, {"Ok": True, "Summary": 1, "Warnings": []}, {"Summary": "x", "Warnings": "y"}, {"Remedy": {}}]
)
def test_whatever_an_agent_answers_it_is_not_taken_for_healthy(doctor):
    (text,) = ct_checks(["h"], {"h": {"r": {"installed": True, "doctor": doctor}}}, "r")
    assert "All checks passed" not in text


def test_the_warnings_of_one_host_are_bounded_and_on_one_line():
    found = ct_checks(["h"], {"h": {"ct_agent": answer(True, "x\n\x1b", *map(str, range(1000)), "y" * 10**6)}})
    assert "20 of 1001 warnings are shown." in found and len(found) == 22
    assert all(len(text) < 5000 and text.isprintable() for text in found)


def test_the_table_has_a_line_for_every_host_whatever_became_of_it():
    broken = {"dpkg": {"status": "failed", "count": 0, "message": "locked"}}
    assert table(
        web01=summary(packages={"count": 5, "baseline": True}),
        web02=summary(packages=dict(NOTHING, count=5, added=2), files=dict(NOTHING, count=7, modified=1)),
        web03=summary(packages=dict(NOTHING, count=5)),
        web04=summary(packages={"count": 5}),
        web05=summary(packages={"count": 0, "sources": broken}),
        web06={"failed": True, "msg": "The DCR is not JSON.\nmore"},
        web07=None,
        web08=dict(summary(files=dict(NOTHING, count=7)), failed=True, msg="inventory cannot be written"),
        web09={"unreachable": True, "msg": "Task failed: Data could not be sent to remote host"},
    ) == [
        "HOST   PACKAGES  SERVICES  FILES  CHANGES                             PROBLEMS",
        "web01  5         -         -      baseline",
        "web02  5         -         7      3 (2 added, 0 removed, 1 modified)",
        "web03  5         -         -      0",
        "web04  5         -         -      -",
        "web05  0         -         -      -                                   packages: dpkg: locked",
        "web06  -         -         -      -                                   The DCR is not JSON.",
        "web07  -         -         -      -                                   no result: unreachable, or failed before",
        "web08  -         -         7      0                                   inventory cannot be written",
        "web09  -         -         -      -                                   unreachable: Data could not be sent to remote host",
    ]


def test_of_many_hosts_those_with_problems_are_named_below_the_table():
    good = summary(packages=dict(NOTHING, count=5))
    hosts = {"web%03d" % number: good if number % 3 else {"msg": "full"} for number in range(60)}
    assert table(**hosts)[60:] == [
        "web059  5         -         -      0",
        "",
        "20 hosts of 60 with problems: " + ", ".join("web%03d" % (3 * number) for number in range(10)) + ", 10 more",
    ]
    assert table(**dict.fromkeys(hosts, good))[-1].startswith("web059")
    assert table(**dict(list(hosts.items())[:20]))[-1].startswith("web019")


@pytest.mark.parametrize(
    "problems, shown", [(["x is left out", "y\n\x1b"], "rule: x is left out; rule: y"), ("no list", "")]
)
def test_what_cannot_be_used_of_a_rule_is_a_problem_of_the_host(problems, shown):
    result = dict(summary(files=dict(NOTHING, count=7)), rule_problems=problems)
    assert table(web01=result)[1] == ("web01  -         -         7      0        " + shown).rstrip()


def test_a_count_with_items_of_an_earlier_run_is_marked():
    broken = {"dpkg": {"status": "failed", "count": 0, "message": "locked"}}
    lines = table(
        web01=summary(packages=dict(NOTHING, count=161, kept=161, sources=broken), files=dict(NOTHING, count=3)),
        web02=dict(summary(packages=dict(NOTHING, count=5, modified=1)), changes=[CHANGE]),
    )
    assert lines == [
        "HOST   PACKAGES  SERVICES  FILES  CHANGES                             PROBLEMS",
        "web01  161*      -         3      0                                   packages: dpkg: locked",
        "web02  5         -         -      1 (0 added, 0 removed, 1 modified)",
        "",
        "* includes items of an earlier run, because their source cannot be read now (see PROBLEMS)",
        "",
        "web02",
        LINE,
    ]


def test_what_could_not_be_read_is_named_as_an_operator_knows_it_with_what_to_do():
    one = "1 path could not be read; its last known items are kept: /etc/ssl/private (Permission denied)"
    source = {"ChangeTrackingLinuxPath_default": {"status": "failed", "count": 1, "message": one}}

    def problem(message, **more):
        source["ChangeTrackingLinuxPath_default"]["message"] = message
        return table(web01=dict(summary(files={"count": 1, "sources": source}), **more))[1].split("-  ")[-1].strip()

    assert problem(one) == "files: /etc/ssl/private: Permission denied (run with -b)"
    assert problem(one, VMUUID="x") == "files: /etc/ssl/private: Permission denied"
    assert problem("something else") == "files: something else"
    assert problem(None) == "files: could not be read"
    many = {"rule%d" % number: {"status": "failed", "message": str(number)} for number in range(7)}
    assert table(web01=summary(files={"count": 1, "sources": many}))[1].endswith("files: 0; files: 1; files: 2; 4 more")


CHANGE = {
    "TimeGenerated": "2026-01-09T08:00:01Z", "ChangeCategory": "Modified", "ConfigChangeType": "Software",
    "SoftwareName": "openssl", "Previous": "3.0.9-1", "Current": "3.0.11-1", "FieldsChanged": "CurrentVersion",
}  # fmt: skip
LINE = "  2026-01-09T08:00:01Z  Modified  Software  openssl  3.0.9-1 -> 3.0.11-1  CurrentVersion"


def test_the_table_ends_with_what_changed_on_each_host():
    seen = summary(packages=dict(NOTHING, count=5, modified=1))
    files = ["/srv/inventory/web02/Packages.json", "/srv/inventory/web02/Changes.json"]
    lines = table(
        web01=dict(seen, changes=[CHANGE]),
        web02=dict(seen, packed=pack({"changes": [CHANGE] * 21}), files=files),
        web03=dict(seen, packed=pack({"packages": ITEMS["packages"]})),
        web04=dict(seen, packed="damaged", files=files),
        web05=dict(seen, changes=[]),
    )
    more = "  20 of 21 changes; all are in /srv/inventory/web02/Changes.json"
    assert lines[6:] == ["", "web01", LINE, "", "web02", *[LINE] * 20, more]


def test_the_table_counts_the_changes_that_it_lists():
    quiet = summary(packages=dict(NOTHING, count=5))
    busy = summary(packages=dict(NOTHING, count=5, added=7))
    added = dict(CHANGE, ChangeCategory="Added")
    lines = table(
        web01=dict(quiet, packed=pack({"changes": [CHANGE, added, added]}), files=[]),  # of runs into another dest
        web02=dict(quiet, changes=[CHANGE]),
        web03=dict(summary(packages={"count": 5, "baseline": True}), changes=[CHANGE] * 21),
        web04=dict(busy, files=[]),  # another consumer's changes
        web05=busy,  # a summary lists none
    )
    assert [line.split("-  ")[-1].strip() for line in lines[1:6]] == [
        "3 (2 added, 0 removed, 1 modified)",
        "1 (0 added, 0 removed, 1 modified)",
        "21 (0 added, 0 removed, 21 modified)",
        "0",
        "7 (7 added, 0 removed, 0 modified)",
    ]


def test_the_table_of_a_large_fleet_is_bounded():
    result = dict(summary(packages=dict(NOTHING, count=5, modified=20)), changes=[CHANGE] * 20)
    lines = table(**{"web%d" % number: result for number in range(200)})
    assert len(lines) < 1300
    assert lines[-1] == "The changes of 154 more hosts are not shown."


HOSTILE = [
    5, "x", [], [5], {"inventory": 5}, {"inventory": {"packages": 5}}, {"inventory": {"packages": {}}}, {"msg": {"a": 1}},
    {"inventory": {"packages": {"count": "x" * 10**6, "added": "1", "removed": [], "modified": {}, "baseline": False}}},
    {"inventory": {"packages": {"count": True, "sources": {"a": 5, "b": {"status": "failed", "message": ["x"]}}}}},
    {"inventory": {"packages": {"count": -1, "sources": [1]}}, "changes": 5, "packed": 5, "files": 5},
    {"inventory": {"packages": {"count": 10**400}}, "changes": [5, {"SoftwareName": {"a": 1}}, {}], "files": [5]},
    {"msg": "\x1b[2Jline\u202e" + "x" * 10**6}, {"inventory": {"packages": {}}, "changes": [{"SvcName": "\x1b]0;x\x07\n"}]},
    {"inventory": {"p\x1b[31m": {"count": 1, "sources": {"\x1b": {"status": "failed", "message": "\x1b\udc80"}}}}},
    {"inventory": {"files": {"count": 1, "sources": {"\x1b": {"status": "failed", "message": "\x1b\udc80" * 10**5}}}}},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_whatever_a_host_returned_the_others_have_their_lines_and_the_terminal_its_peace(number):
    lines = table(web01=HOSTILE[number], web02=summary(packages={"count": 5, "baseline": True}))
    assert lines[1].startswith("web01  ") and lines[2].startswith("web02  5  ")
    assert all(text.isprintable() and len(text) < 1500 for text in lines)


def test_an_answer_about_the_fleet_as_csv():
    changes = [
        {
            "item": "/etc/x",
            "fields": ["Mode", "Owner"],
            "before": {"Mode": "0644", "Owner": None},
            "count": 2,
            "task": None,
        },
        {"item": 'a "b", c', "count": 1, "mark": {"word": "ignore"}},
    ]
    assert list(csv.reader(io.StringIO(ct_csv(changes)))) == [
        ["item", "fields", "before", "count", "task", "mark"],
        ["/etc/x", "Mode; Owner", "Mode=0644", "2", "", ""],
        ['a "b", c', "", "", "1", "", "word=ignore"],
    ]
    variants = [{"values": {"CurrentVersion": "1"}, "count": 2}, {"values": None, "count": 1}]
    found = [{"item": "openssl", "variants": variants, "more": 0, "expected": []}]
    assert ct_csv(found) == '"item","values","count"\r\n"openssl","CurrentVersion=1",2\r\n"openssl","",1\r\n'
    assert ct_csv([]) == "\r\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_no_text_of_a_host_is_a_formula(text):
    rows = [{text: text, "list": [text], "mapping": {text: text}}]
    cells = [
        cell
        for row in csv.reader(io.StringIO(ct_csv(rows), newline=""))
        for cell in row
        if cell not in ("list", "mapping")
    ]
    assert len(cells) == 4 and all(cell == "'" + text or cell == f"'{text}={text}" for cell in cells)
    assert ct_csv([{"n": -1}]) == '"n"\r\n-1\r\n'


@pytest.mark.parametrize("rows", ["x", None, {"a": 1}, [1]])
def test_csv_needs_rows(rows):
    with pytest.raises(AnsibleFilterError, match="ct_csv needs a list of mappings"):
        ct_csv(rows)
