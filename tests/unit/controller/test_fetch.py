# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ct_inventory_fetch writes, apart from the run on a host."""

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.template import Templar

from ansible_collections.changetracking.inventory.plugins.action import ct_inventory_fetch as fetch
from ansible_collections.changetracking.inventory.plugins.module_utils._cti import packed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed import pack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed_reader import unpack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.pages import (
    PAGE_BYTES,
    PAGE_RECORDS,
    REST,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.report import text
from ansible_collections.changetracking.inventory.plugins.plugin_utils._bounded import calm_output
from ansible_collections.changetracking.inventory.plugins.plugin_utils._inventory_fetch import changes as changes_module
from ansible_collections.changetracking.inventory.plugins.plugin_utils._inventory_fetch import places
from ansible_collections.changetracking.inventory.plugins.plugin_utils._inventory_fetch.changes import next_place
from ansible_collections.changetracking.inventory.plugins.plugin_utils._inventory_fetch.places import Kept

OK = {"dpkg": {"status": "ok", "count": 1}}
FAILED = {"dpkg": {"status": "failed", "count": 0, "message": "locked"}}
ROWS = [{"SoftwareName": "a"}, {"SoftwareName": "\u00e4"}]
CHANGE = {"ConfigChangeType": "Software", "SoftwareName": "a"}


def summary(sources=None, baseline=True, count=2):
    return {"packages": {"sources": sources or OK, "baseline": baseline, "count": count}}


class Fetch:
    """The action, in front of a host that returns what it is given."""

    def __init__(self, dest):
        self.dest = dest
        self.check_mode = self.diff = False
        self.asked = self.state = self.kinds = None
        self.warned = []
        self.pages = []  # answers to further questions, by which what follows is fetched
        self.asked_for = []  # their places
        self.meanwhile = lambda: None

    def run(self, state, *changes, number, path="/root/s.db", **more):
        """Fetch with a state whose history then ends at that number."""
        self.state = path
        history = {"place": "%s:%d:6f2f0c3c" % (state * 32, number), "path": path}
        return self(summary(baseline=False), ROWS, changes=list(changes), history=history, **more)

    def __call__(self, inventory, rows=None, **more):
        packed = pack({} if rows is None else {"packages": rows})
        return self.answer(dict({"packed": packed, "inventory": inventory, "Computer": "web01"}, **more))

    def answer(self, result):
        task = SimpleNamespace(delegate_to=None, check_mode=self.check_mode, diff=self.diff)
        action = fetch.ActionModule(task, None, None, None, Templar(loader=None), None)
        action._execute_module = lambda name, module_args, task_vars: self._ran(name, module_args, result)
        action._display = SimpleNamespace(warning=self.warned.append)
        variables = {"inventory_hostname": "web01", "ct_direct": "never"}
        return action._fetch({"dest": str(self.dest), "state": self.state, "kinds": self.kinds}, variables)

    def _ran(self, name, arguments, result):
        if name == "changetracking.inventory.ct_state_info":
            assert arguments["path"] == self.state
            self.asked_for += arguments["since"]
            return self.pages.pop(0)
        self.asked = arguments
        self.meanwhile()
        return result

    def content(self):
        files = (self.dest / "web01").iterdir() if (self.dest / "web01").is_dir() else ()
        return {path.name: json.loads(path.read_text("utf-8")) for path in files if path.name != places.FILE}


@pytest.fixture
def host(tmp_path):
    return Fetch(tmp_path)


def names(result):
    return [os.path.basename(path) for path in result["files"]]


def test_a_file_of_which_nothing_could_be_collected_is_left_as_it_is(host):
    result = host(summary(FAILED, count=0), [])
    assert (result["changed"], names(result), host.content()) == (False, [], {})
    assert host(summary(OK, count=0), [])["changed"]
    assert host.content() == {"Packages.json": []}
    assert host(summary(FAILED), ROWS)["changed"]
    assert not host(summary(FAILED, count=0), [])["changed"]
    assert host.content() == {"Packages.json": ROWS}


def test_a_kind_that_did_not_travel_keeps_its_file_and_is_named_as_if_it_had(host):
    host(summary(), ROWS)
    for sources, count, files in ((OK, 2, ["Packages.json"]), (FAILED, 2, ["Packages.json"]), (FAILED, 0, [])):
        result = host(summary(sources, count=count))
        assert (result["changed"], names(result), host.content()) == (False, files, {"Packages.json": ROWS})
    assert host.asked["known"] == {"packages": hashlib.sha256(text(ROWS).encode()).hexdigest()}


def test_a_host_cannot_leave_out_what_the_controller_does_not_have(host):
    assert "it left out the packages" in host(summary())["msg"]


def test_the_file_of_a_kind_that_the_rule_switched_off_is_removed_and_no_other(host):
    host(summary(), ROWS)
    file = {"status": "ok", "count": 0}
    files = {"files": {"sources": {"r": file}, "baseline": True, "count": 0}}
    host.kinds = ["files"]
    host.answer({"packed": pack({"files": []}), "inventory": files, "Computer": "web01"})
    assert sorted(host.content()) == ["File.json", "Packages.json"]
    host.kinds = None
    host.check_mode = host.diff = True
    result = host(summary())
    assert result["changed"] and result["files"][0].endswith("Packages.json") and len(result["files"]) == 1
    assert [(one["before"], one["after"]) for one in result["diff"]] == [("[]\n", "")]
    assert "File.json" in host.content()
    host.check_mode = False
    assert host(summary())["changed"] and sorted(host.content()) == ["Packages.json"]
    assert not host(summary())["changed"]


def test_what_is_known_is_the_bytes_of_a_file(tmp_path):
    (tmp_path / "Packages.json").write_bytes(b"[]\r\n\xff")
    (tmp_path / "File.json").mkdir()
    assert fetch._known(str(tmp_path)) == {"packages": hashlib.sha256(b"[]\r\n\xff").hexdigest()}


def test_a_run_without_changes_leaves_none_of_another_run_lying_there(host):
    for baseline in (True, False):
        host(summary(), ROWS, changes=[CHANGE])
        result = host(summary(baseline=baseline), ROWS, changes=[])
        assert (names(result), "packed" in result) == (["Packages.json", "Changes.json"], False)
        assert host.content()["Changes.json"] == []


def test_a_run_without_a_state_leaves_changes_and_place_as_they_are(host):
    host.run("a", CHANGE, number=1)
    host.state = None
    host(summary(), [])
    assert host.content() == {"Packages.json": [], "Changes.json": [CHANGE]}
    assert "since" not in host.asked and len(places.read(str(host.dest / "web01"))) == 1


def test_the_host_is_asked_for_what_follows_the_place_that_the_run_before_wrote(host):
    host.run("a", number=1)
    assert host.asked["since"] == 0
    host.run("a", CHANGE, number=2)
    assert host.asked["since"] == ["a" * 32 + ":1:6f2f0c3c"]
    assert host.run("a", number=2)["changed"]
    assert host.asked["since"] == ["a" * 32 + ":2:6f2f0c3c"]
    assert host.content()["Changes.json"] == [] and host.warned == []


def place(number, state="a"):
    return "%s:%d:6f2f0c3c" % (state * 32, number)


def page(number, *changes, state="a", remaining=0, missed=0, restarted=False, **more):
    history = {"place": place(number, state), "path": "/root/s.db", "last": 9, "remaining": remaining, "missed": missed}
    history.update({"restarted": True} if restarted else {})
    return dict({"changes": list(changes), "history": history}, **more)


def fetch_pages(host, *pages):
    """Fetch two changes, of which the first page has the first, and the further pages."""
    host.run("a", number=1)
    host.state, host.pages = "/root/s.db", list(pages)
    first = page(2, CHANGES[0], remaining=7, missed=1, warnings=["1 of 8 changes are returned. " + REST, "note"])
    return host(summary(baseline=False), ROWS, **first)


CHANGES = [dict(CHANGE, SoftwareName=name) for name in "abcdefgh"]


def test_the_host_is_asked_until_it_has_no_more_changes_and_the_place_is_that_of_the_last(host):
    pages = (
        page(5, *CHANGES[1:4], remaining=3, missed=2, warnings=["2 gone"]),
        page(6, remaining=3),
        page(9, *CHANGES[4:]),
    )
    result = fetch_pages(host, *pages)
    assert host.asked_for == [place(2), place(5), place(6)] and host.pages == []
    assert host.content()["Changes.json"] == CHANGES == unpack(result["packed"])["changes"]
    assert result["history"] == dict(page(9)["history"], missed=3)
    assert result["warnings"] == ["note", "2 gone"] and host.warned == []
    host.run("a", number=9)
    assert host.asked["since"] == [place(9)]


@pytest.mark.parametrize(
    "answer, why",
    [
        ({"failed": True, "msg": "No space left"}, "No space left"),
        ({"unreachable": True}, "the host did not return them"),
        ({}, "its changes are not a list"),
        (page(3, 5), "its changes are not a list"),
        (page(2, CHANGE), "the history of the host was replaced"),
        (page(9, CHANGE, state="b"), "the history of the host was replaced"),
        (page(9, CHANGE, restarted=True), "the history of the host was replaced"),
        ({"changes": [CHANGE], "history": {"place": "x"}}, "the place in its history is missing"),
        ({"changes": [CHANGE]}, "the place in its history is missing"),
        (page(9, *[CHANGE] * 9), "they are more than 10"),
    ],
)
def test_what_arrived_before_a_page_that_does_not_is_kept_and_the_rest_is_left_and_named(
    host, monkeypatch, answer, why
):
    monkeypatch.setattr(changes_module, "MAX_CHANGES", 10)
    result = fetch_pages(host, page(3, CHANGES[1], remaining=6), answer)
    assert result["changed"] and host.content()["Changes.json"] == CHANGES[:2]
    (warning,) = host.warned
    assert warning.startswith("web01: 6 changes are left for the next run, because " + why)
    host.run("a", number=9)
    assert host.asked["since"] == [place(3)]


@pytest.mark.parametrize(
    "limit, value, why",
    [("ENOUGH_CHANGES", 2, "about 2 changes"), ("ENOUGH_BYTES", 1, "0 MiB"), ("ENOUGH_SECONDS", -60, "minutes")],
)
def test_a_run_asks_for_no_more_than_it_may_fetch(host, monkeypatch, limit, value, why):
    monkeypatch.setattr(changes_module, limit, value)
    fetch_pages(host, page(3, CHANGES[1], remaining=6), page(9))
    assert len(host.content()["Changes.json"]) == (2 if limit == "ENOUGH_CHANGES" else 1)
    assert why in host.warned[0]


BAD_ROWS = {
    "digits": {"a": 10**19},
    "many digits": {"a": -(10**4299)},
    "infinite": {"a": [float("inf")]},
    "nan": {"a": float("nan")},
    "deep": {"a": json.loads("[" * 10 + "]" * 10)},
    "long": {"a": "x" * packed.MAX_ROW},
}


@pytest.mark.parametrize("row", BAD_ROWS.values(), ids=BAD_ROWS)
def test_no_change_is_kept_that_whoever_reads_the_result_refuses(host, row):
    result = fetch_pages(host, page(3, CHANGES[1], remaining=6), page(9, row))
    assert unpack(result["packed"])["changes"] == CHANGES[:2] and "6 changes are left" in host.warned[0]
    failed = host.run("b", row, number=3)
    assert failed["failed"] and failed["msg"].startswith("The host did not return an inventory: ")


@pytest.mark.parametrize("name, value", [("MAX_BYTES", 1000), ("MAX_VALUES", 8)])
def test_all_changes_together_are_within_the_limits_of_whoever_reads_the_result(host, monkeypatch, name, value):
    monkeypatch.setattr(changes_module, name, value)
    rows = [dict(CHANGE, Text="x" * 150)] * 2
    fetch_pages(host, page(4, *rows, remaining=6), page(6, *rows, remaining=4), page(8, *rows))
    assert len(host.content()["Changes.json"]) < 6 and "they are more than " in host.warned[0]


def test_the_warnings_of_all_pages_are_as_few_as_those_of_one(host):
    more = [page(3 + at, remaining=5, warnings=["%d %d" % (at, text) for text in range(60)]) for at in range(4)]
    result = fetch_pages(host, *more, page(9, *CHANGES[1:]))
    assert result["warnings"][:2] == ["note", "0 0"] and len(result["warnings"]) == 102
    assert result["warnings"][-1] == "Further warnings of the host, after the first 100, are not shown."


def test_pages_without_changes_come_to_an_end(host):
    fetch_pages(host, *[page(3 + at, remaining=5) for at in range(100)])
    assert len(host.asked_for) == 11 and "the host returned 11 pages without changes" in host.warned[0]


def test_no_number_of_a_host_is_too_large_to_be_written(host):
    large = page(3, remaining=5)
    large["history"]["missed"] = 10**4299
    result = fetch_pages(host, large, page(9))
    assert "it has a number that is too large" in host.warned[0] and json.dumps(result)


def test_a_page_more_than_enough_is_within_the_limits_of_whoever_reads_the_result():
    assert changes_module.ENOUGH_CHANGES + 2 * PAGE_RECORDS <= changes_module.MAX_CHANGES
    assert changes_module.ENOUGH_BYTES + 2 * PAGE_BYTES <= packed.MAX_BYTES


def test_check_mode_asks_for_one_page(host):
    host.check_mode = True
    fetch_pages(host)
    assert host.asked_for == [] and "7 changes are left for the next run" in host.warned[-1]


def test_the_place_stays_until_all_is_written(host):
    """As after a kill between the files and the place."""
    host.run("a", number=1)
    place = host.dest / "web01" / places.FILE
    before = place.read_bytes()
    place.unlink()
    place.mkdir()
    result = host.run("a", CHANGE, number=2)
    assert result["failed"] and "fetches the same changes again" in result["msg"]
    place.rmdir()
    place.write_bytes(before)
    assert not host.run("a", CHANGE, number=2)["changed"]
    assert host.asked["since"] == ["a" * 32 + ":1:6f2f0c3c"] and host.content()["Changes.json"] == [CHANGE]


def test_check_mode_leaves_the_place(host):
    host.run("a", number=1)
    host.check_mode = True
    assert host.run("a", CHANGE, number=2)["changed"]
    host.check_mode = False
    host.run("a", CHANGE, number=2)
    assert host.asked["since"] == ["a" * 32 + ":1:6f2f0c3c"]


def test_another_state_is_named_and_each_has_its_place(host):
    host.run("a", number=1)
    host.run("b", number=7, path="/home/joe/s.db")
    assert len(host.warned) == 1 and "/home/joe/s.db, the run before used /root/s.db" in host.warned[0]
    host.run("a", CHANGE, number=2)
    assert host.asked["since"] == ["a" * 32 + ":1:6f2f0c3c", "b" * 32 + ":7:6f2f0c3c"] and len(host.warned) == 2
    host.run("a", number=2)
    assert len(host.warned) == 2


def test_a_run_leaves_what_another_one_wrote_meanwhile(host):
    host.run("a", number=1)
    meanwhile, host.meanwhile = host.meanwhile, lambda: other.run("a", CHANGE, CHANGE, number=3)
    other = Fetch(host.dest)
    assert not host.run("a", CHANGE, number=2)["changed"]
    assert "Another run wrote to" in host.warned[0] and host.content()["Changes.json"] == [CHANGE, CHANGE]
    host.meanwhile = meanwhile
    host.run("a", number=3)
    assert host.asked["since"] == ["a" * 32 + ":3:6f2f0c3c"]


def test_the_result_carries_the_changes_packed_and_nothing_else_that_is_large(host):
    result = host(summary(baseline=False), ROWS, changes=[CHANGE])
    assert host.content()["Changes.json"] == [CHANGE]
    assert unpack(result.pop("packed")) == {"changes": [CHANGE]}
    assert sorted(result) == ["Computer", "changed", "files", "inventory"]


def test_arguments_of_any_depth_are_no_trouble(host):
    deep = {"a": 1}
    for _level in range(100):
        deep = {"a": [deep]}
    assert "invocation" not in host(summary(), ROWS, invocation={"module_args": {"dcr": deep}}, failed=False)


def test_a_failure_shows_no_inventory(host):
    (host.dest / "web01").write_text("in the way")
    result = host(summary(baseline=False), ROWS, changes=[CHANGE])
    assert "cannot be written on the controller" in result["msg"] and sorted(result) == ["failed", "msg"]
    failed = host.answer({"failed": True, "msg": "x" * 100000, "packed": pack({}), "changes": [CHANGE]})
    for each in (result, failed):
        assert each["failed"] and "packed" not in each and "changes" not in each
    assert len(failed["msg"]) < 5000


def test_nothing_is_written_unless_all_that_was_packed_is_sound(host):
    host(summary(), ROWS)
    for answer in (
        {"packed": pack({"packages": [], "files": [5]}), "inventory": summary()},
        {"packed": pack({"packages": []})[:-8], "inventory": summary()},
        {"packed": pack({"packages": []}), "inventory": summary(baseline=False), "changes": [5]},
        {"packed": pack({"packages": []}), "inventory": summary(baseline=False), "changes": {"a": "b"}},
        {"packed": pack({"packages": []}), "inventory": {"packages": {"count": "x", "sources": {}}}},
        {"packed": pack({"packages": []}), "inventory": {"packages": {"count": 1, "sources": [1]}}},
        {"packed": pack({"packages": []}), "inventory": {"packages": 5}},
        {"packed": pack({"packages": []}), "inventory": "packages"},
        {"packed": pack({"packages": []}), "inventory": None},
        {"packed": 5, "inventory": summary()},
        {"inventory": {"packages": {"sources": {}, "count": 0, "more": list(range(60000))}}},
        {},
    ):
        result = host.answer(dict(answer))
        assert result["failed"] and "The host did not return an inventory" in result["msg"], answer
    assert host.content() == {"Packages.json": ROWS}  # and no temporary file


def test_half_a_character_does_not_keep_the_rest_from_being_written(host):
    host(summary(baseline=False), [{"SoftwareName": "a\ud800"}], changes=[{"\udcff": "\udfff"}], msg="\ud800")
    assert len(host.content()["Packages.json"]) == len(host.content()["Changes.json"]) == 1


def test_a_full_disk_is_named(small_disk):
    host = Fetch(Path(small_disk))
    rows = [{"SoftwareName": os.urandom(40).hex()} for _number in range(20000)]
    assert host(summary(count=len(rows)), rows)["msg"].startswith(
        "%s/web01 cannot be written on the controller (No space left on device)." % small_disk
    )


def test_check_mode_writes_nothing_and_says_what_it_would(host):
    host.check_mode = host.diff = True
    result = host(summary(baseline=False), ROWS, changes=[CHANGE])
    assert result["changed"] and host.content() == {}
    assert [os.path.basename(diff["after_header"]) for diff in result["diff"]] == ["Packages.json", "Changes.json"]
    assert result["diff"][0]["before"] == "" and result["diff"][0]["after"] == text(ROWS)


ONE, TWO = (Kept(name * 32 + ":7:6f2f0c3c", "/%s.db" % name) for name in "ab")


def test_places_are_written_so_that_they_can_be_read_whatever_their_paths(tmp_path):
    folder = str(tmp_path)
    states = [Kept("%032d:1:" % number, "\U0001f600" * places.MAX_PATH) for number in range(3)]
    places.write(folder, [ONE, *states])
    assert places.read(folder) == states[-1:]
    places.write(folder, [*states, ONE])
    assert places.read(folder) == [states[-1], ONE]


def test_a_place_is_kept_with_those_of_other_states_the_latest_last(tmp_path):
    folder = str(tmp_path)
    assert places.read(folder) == [] == places.read(str(tmp_path / "nowhere"))
    places.write(folder, [ONE, TWO])
    assert places.read(folder) == [ONE, TWO]
    later = Kept(ONE.place.replace(":7:", ":8:"), ONE.path)
    assert places.moved([ONE, TWO], later) == [TWO, later]
    many = [Kept("%032x:1:" % number, "/") for number in range(20)]
    assert places.moved(many, ONE) == [*many[-7:], ONE]
    assert os.listdir(folder) == [".place.json"]


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"{}", b'{"places": 1}', b'{"places": [1]}', b'{"places": [{"place": "x", "path": "/"}]}', b"\xff",
     b"[" * 60000, b'{"places": [{"place": null, "path": "/"}]}', b" " * 70000],
)  # fmt: skip
def test_a_place_that_is_damaged_is_none(tmp_path, damage):
    (tmp_path / ".place.json").write_bytes(damage)
    assert places.read(str(tmp_path)) == []


@pytest.mark.parametrize(
    "history",
    [None, [], "text", {}, {"place": None, "path": "/"}, {"place": "../../etc", "path": "/"}, {"place": ONE.place},
     {"place": ONE.place, "path": None}, {"place": ONE.place, "path": "x" * 5000}, {"place": ONE.place + "\n", "path": "/"},
     {"place": ["a"], "path": "/"}, {"place": "{{ 1 }}", "path": "/"}],
)  # fmt: skip
def test_what_a_host_calls_its_place_is_checked_before_it_is_kept(history):
    with pytest.raises(ValueError):
        next_place(history)


def test_a_host_without_a_state_has_no_place_in_check_mode():
    assert next_place({"place": None, "not_stored": 0}) is None
    with pytest.raises(ValueError):
        next_place({"place": None, "path": "/"})


def test_another_state_is_named_whatever_its_path_is_made_of():
    message = fetch._another_state("web01", Kept(ONE.place, "/root/\x1b[31m\u202e\nx"), TWO)
    assert message.isprintable() and "/b.db" in message and "ct_state" in message


@pytest.mark.parametrize("host", ["..", ".", "../../etc", "a/b", "web01", "10.0.0.1:22", "\u00e4"])
def test_a_hosts_folder_is_one_segment_below_the_destination(host):
    name = fetch._folder_name(host)
    assert os.path.dirname(os.path.normpath(os.path.join("/dest", name))) == "/dest"


def test_a_file_holds_one_item_a_line():
    assert text([{"a": 1}, {"b": "\u00e4"}]) == '[\n{"a": 1},\n{"b": "\u00e4"}\n]\n'
    assert text([]) == "[]\n"


STEERING = "\x1b[2J\x9b2J\u202e\u2028\x7f"
ACTED_ON = {
    "ansible_facts": {"ct_dcr": "/etc/passwd"}, "ansible_stats": {"data": "x"}, "add_host": {"host_name": "x"},
    "add_group": "x", "exception": STEERING, "diff": {"before": STEERING}, "invocation": {}, "skipped": True,
    "_ansible_no_log": True, "_ansible_verbose_override": True, "results": [], "stdout": "x", "attempts": 1,
    "ansible_job_id": "1", STEERING: 1,
}  # fmt: skip


def test_no_member_of_an_answer_that_ansible_acts_on_is_passed_on(host):
    good = host(summary(), ROWS, **ACTED_ON)
    assert sorted(good) == ["Computer", "changed", "files", "inventory"]
    bad = host.answer(
        dict(ACTED_ON, failed=True, msg=STEERING + "\nok: [honest]", warnings=[STEERING, {"msg": "a"}, 5])
    )
    assert sorted(bad) == ["failed", "msg", "warnings"]
    assert bad["msg"].isprintable() and len(bad["warnings"]) == 2 and bad["warnings"][0].isprintable()
    assert host.answer({"failed": "x", "msg": {"a": "b"}, "warnings": {"a": 1}}) == {"failed": True}


def test_no_more_warnings_than_an_operator_can_read_are_passed_on(host):
    result = host(summary(), ROWS, warnings=["x"] * 5000)
    assert len(result["warnings"]) == 101 and result["warnings"][-1] == "100 of 5000 warnings of the host are shown."


def test_no_file_and_no_difference_steers_a_terminal_and_the_text_stays_the_same(host):
    row = {"SoftwareName": "a" + STEERING + "\u00e4\u00a0\U0001f600"}
    folder = host.dest / "web01"
    folder.mkdir()
    (folder / "Packages.json").write_text(
        json.dumps([row], ensure_ascii=False), "utf-8"
    )  # as a version before wrote it
    host.diff = True
    result = host(summary(baseline=False), [row], changes=[dict(CHANGE, SoftwareName=STEERING)])
    written = (folder / "Packages.json").read_text("utf-8"), (folder / "Changes.json").read_text("utf-8")
    for shown in (*written, *(diff[side] for diff in result["diff"] for side in ("before", "after"))):
        assert not set(shown) & set(STEERING) - set("[2J"), ascii(shown)
    assert json.loads(written[0]) == [row] and "\u00e4\u00a0\U0001f600" in written[0]


def test_what_a_module_printed_steers_no_terminal_before_the_action_has_it():
    answer = {"warnings": [STEERING + "\r\nok: [honest]", {"msg": STEERING}], "changes": [{"SvcName": STEERING}]}
    raw = json.dumps(answer)
    calm = json.loads(calm_output(raw + "\n junk " + STEERING))
    assert all(text.isprintable() for text in (calm["warnings"][0], calm["warnings"][1]["msg"]))
    assert calm["changes"] == answer["changes"]
    for odd in ("{ junk\n" + raw, raw[:-1] + ',"x":' + "[" * 100000 + "}"):
        assert calm_output(odd).isprintable() or not set(calm_output(odd)) & set(STEERING) - set("[2J")
        assert "\\u001b" not in calm_output(odd)
    assert calm_output('{"a": "\\u00e4"}') == '{"a": "\\u00e4"}'
