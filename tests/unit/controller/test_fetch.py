# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ct_inventory_fetch writes, apart from the run on a host."""

import hashlib
import json
import os
from types import SimpleNamespace

import pytest
from ansible.template import Templar

from ansible_collections.changetracking.inventory.plugins.action import ct_inventory_fetch as fetch
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.report import text
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.survey import pack
from ansible_collections.changetracking.inventory.plugins.plugin_utils._packed import unpack

OK = {"dpkg": {"status": "ok", "count": 1}}
FAILED = {"dpkg": {"status": "failed", "count": 0, "message": "locked"}}
ROWS = [{"SoftwareName": "a"}, {"SoftwareName": "\u00e4"}]
CHANGE = {"ConfigChangeType": "Software", "SoftwareName": "a"}


def summary(sources=OK, baseline=True, count=2):
    return {"packages": {"sources": sources, "baseline": baseline, "count": count}}


class Fetch:
    """The action, in front of a host that returns what it is given."""

    def __init__(self, dest):
        self.dest = dest
        self.check_mode = self.diff = False
        self.asked = None

    def __call__(self, inventory, rows=None, **more):
        packed = pack({} if rows is None else {"packages": rows})
        return self.answer(dict({"packed": packed, "inventory": inventory, "Computer": "web01"}, **more))

    def answer(self, result):
        task = SimpleNamespace(delegate_to=None, check_mode=self.check_mode, diff=self.diff)
        action = fetch.ActionModule(task, None, None, None, Templar(loader=None), None)
        action._execute_module = lambda _name, module_args, task_vars: self._ran(module_args, result)
        return action._fetch({"dest": str(self.dest), "state": None}, {"inventory_hostname": "web01"})

    def _ran(self, arguments, result):
        self.asked = arguments
        return result

    def content(self):
        folder = self.dest / "web01"
        return {path.name: json.loads(path.read_text("utf-8")) for path in folder.iterdir()} if folder.is_dir() else {}


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


def test_what_is_known_is_the_bytes_of_a_file(tmp_path):
    (tmp_path / "Packages.json").write_bytes(b"[]\r\n\xff")
    (tmp_path / "File.json").mkdir()
    assert fetch._known(str(tmp_path)) == {"packages": hashlib.sha256(b"[]\r\n\xff").hexdigest()}


def test_the_baseline_has_no_changes_and_a_later_run_may_have_none(host):
    assert names(host(summary(), ROWS, changes=[])) == ["Packages.json"]
    result = host(summary(baseline=False), ROWS, changes=[])
    assert (names(result), "packed" in result) == (["Packages.json", "Changes.json"], False)


def test_the_result_carries_the_changes_packed_and_nothing_else_that_is_large(host):
    result = host(summary(baseline=False), ROWS, changes=[CHANGE])
    assert host.content()["Changes.json"] == [CHANGE]
    assert unpack(result.pop("packed")) == {"changes": [CHANGE]}
    assert sorted(result) == ["Computer", "changed", "files", "inventory"]


def test_a_failure_shows_no_inventory(host):
    (host.dest / "web01").write_text("in the way")
    result = host(summary(baseline=False), ROWS, changes=[CHANGE])
    assert "cannot be written on the controller" in result["msg"]
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
        {"inventory": {"packages": {"sources": {}, "count": 0, "more": list(range(30000))}}},
        {},
    ):
        result = host.answer(dict(answer))
        assert result["failed"] and "The host returned something else than an inventory" in result["msg"], answer
    assert host.content() == {"Packages.json": ROWS}  # and no temporary file


def test_half_a_character_does_not_keep_the_rest_from_being_written(host):
    host(summary(baseline=False), [{"SoftwareName": "a\ud800"}], changes=[{"\udcff": "\udfff"}], msg="\ud800")
    assert len(host.content()["Packages.json"]) == len(host.content()["Changes.json"]) == 1


def test_check_mode_writes_nothing_and_says_what_it_would(host):
    host.check_mode = host.diff = True
    result = host(summary(baseline=False), ROWS, changes=[CHANGE])
    assert result["changed"] and host.content() == {}
    assert [os.path.basename(diff["after_header"]) for diff in result["diff"]] == ["Packages.json", "Changes.json"]
    assert result["diff"][0]["before"] == "" and result["diff"][0]["after"] == text(ROWS)


@pytest.mark.parametrize("host", ["..", ".", "../../etc", "a/b", "web01", "10.0.0.1:22", "\u00e4"])
def test_a_hosts_folder_is_one_segment_below_the_destination(host):
    name = fetch._folder_name(host)
    assert os.path.dirname(os.path.normpath(os.path.join("/dest", name))) == "/dest"


def test_a_file_holds_one_item_a_line():
    assert text([{"a": 1}, {"b": "\u00e4"}]) == '[\n{"a": 1},\n{"b": "\u00e4"}\n]\n'
    assert text([]) == "[]\n"
