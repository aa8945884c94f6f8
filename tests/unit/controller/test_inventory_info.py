# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ct_inventory_info does where other runs use the same state."""

import copy
import os
import sqlite3
from types import SimpleNamespace

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils import _forward
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import (
    CtiError,
    DcrError,
    RetentionError,
    StateError,
    StateOvertaken,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import PACKAGES
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import dcr
from ansible_collections.changetracking.inventory.plugins.module_utils._facts import facts
from ansible_collections.changetracking.inventory.plugins.module_utils._module import check_path, check_state_path
from ansible_collections.changetracking.inventory.plugins.modules import ct_inventory_info as info


@pytest.mark.parametrize("path", ["/x", "/x/y.db", "/", "/x/"])
def test_an_absolute_path_is_accepted(path):
    check_path("state", path)


@pytest.mark.parametrize(
    "path, problem",
    [
        ("", "is '', which is empty"),
        ("  ", "is '  ', which is empty"),
        ("s.db", "is 's.db', which is relative"),
        ("./x/../s.db", "which is relative"),
        (".", "which is relative"),
        (" /s.db", "is ' /s.db', which is relative"),
        ("~nobody-of-that-name/s.db", "names the home of a user who is not on this host"),
        ("a\nb", "is 'a\\x0ab', which is relative"),
    ],
)
@pytest.mark.parametrize("check", [check_path, check_state_path])
def test_a_path_that_does_not_say_where_it_starts_is_refused_with_the_option_the_value_and_the_remedy(
    check, path, problem
):
    with pytest.raises(StateError) as caught:
        check("state", path)
    text = str(caught.value)
    assert text.startswith("The value of state is ") and problem in text and "Give an absolute path" in text


@pytest.mark.parametrize("name", ["", "/", "/new/", "/new//"])
def test_a_folder_is_not_taken_for_the_file_of_a_state_and_none_is_made(tmp_path, name):
    with pytest.raises(StateError, match="which is a folder. Give the path of a file in it, such as '%s" % tmp_path):
        check_state_path("state", str(tmp_path) + name)
    assert not os.listdir(str(tmp_path))


@pytest.fixture
def module(tmp_path):
    rule = {"fileSettings": {"fileInfo": [{"name": "r", "destinationPath": str(tmp_path / "tracked" / "*")}]}}
    (tmp_path / "tracked").mkdir()
    given = {
        "kinds": ["files"], "report": "changes", "state": str(tmp_path / "s.db"), "since": None, "rehash_days": 7, "source_packages": False,
        "history_days": 30, "history_mib": 64, "known": None, "forward": None,
        "dcr": {"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "x", "extensionSettings": rule}]}},
    }  # fmt: skip
    return SimpleNamespace(params=given, check_mode=False, warnings=[])


@pytest.mark.parametrize("days", [-2, -0.1, float("nan"), float("inf"), 40000])
def test_a_number_of_days_that_is_none_is_refused(module, days):
    module.params["rehash_days"] = days
    with pytest.raises(RetentionError, match="The value of rehash_days is %s. Give a number from 0" % days):
        info.work(module)


@pytest.mark.parametrize("name", [[""], ["a", " "]])
def test_an_empty_name_is_refused(name):
    with pytest.raises(CtiError, match=r"The value of name is empty. .* leave out name for all packages."):
        facts(SimpleNamespace(params={"name": name}), PACKAGES, None)


def run(module):
    module.warn = module.warnings.append
    return [os.path.basename(change["FileSystemPath"]) for change in info.work(module)["changes"]]


def test_a_run_that_another_one_overtakes_looks_again(module, tmp_path, monkeypatch):
    """Each change is stored once, by the run that is the first to store it, and returned to both."""
    assert run(module) == []
    run_host, others = info.run_host, ["a", "b"]

    def overtaken(*arguments, **named):
        result = run_host(*arguments, **named)
        if others:
            (tmp_path / "tracked" / others.pop()).write_text("")
            run(module)
        return result

    monkeypatch.setattr(info, "run_host", overtaken)
    (tmp_path / "tracked" / "c").write_text("")
    module.params["since"] = 0
    assert sorted(run(module)) == ["a", "b", "c"]
    assert not others
    assert len(module.warnings) == len(set(module.warnings))


def test_a_run_that_is_overtaken_again_and_again_fails(module, tmp_path, monkeypatch):
    run(module)
    run_host, depth = info.run_host, []

    def overtaken(*arguments, **named):
        result = run_host(*arguments, **named)
        if not depth:
            depth.append(1)
            run(module)
            depth.pop()
        return result

    monkeypatch.setattr(info, "run_host", overtaken)
    with pytest.raises(StateOvertaken, match="Run again"):
        run(module)


def extension_settings(module):
    return module.params["dcr"]["extensionConfigurations"]["ChangeTracking-Linux"][0]["extensionSettings"]


@pytest.fixture
def by_rule(module, tmp_path):
    """A module that collects what the rule enables: files alone at first. They are switched off and on by its `files()`."""
    module.params["kinds"] = None
    settings = extension_settings(module)
    settings.update(enableSoftware=False, enableServices=False)
    module.files = lambda on: settings.update(enableFiles=on)
    module.write = lambda name: (tmp_path / "tracked" / name).write_text("")
    run(module)
    return module


def test_what_changed_before_a_kind_is_switched_off_is_reported_once_and_what_follows_when_it_is_on_again(by_rule):
    by_rule.write("before")
    by_rule.files(False)
    assert run(by_rule) == ["before"]
    assert by_rule.warnings == ["The rule has switched off files. This run compared them for the last time."]
    by_rule.write("meanwhile")
    assert run(by_rule) == run(by_rule) == [] and len(by_rule.warnings) == 1
    by_rule.files(True)
    assert run(by_rule) == ["meanwhile"] and run(by_rule) == []
    by_rule.files(False)
    by_rule.write("again")
    assert run(by_rule) == ["again"]


def test_a_kind_that_is_switched_off_is_not_in_the_inventory_and_its_changes_have_their_place(by_rule):
    by_rule.write("before")
    by_rule.files(False)
    by_rule.params.update(report="full", since=0)
    result = info.work(by_rule)
    assert result["inventory"] == {} and result["history"]["last"] == 1 and len(result["changes"]) == 1


def test_check_mode_compares_a_kind_that_is_switched_off_and_leaves_it_to_the_next_run(by_rule):
    by_rule.write("before")
    by_rule.files(False)
    by_rule.check_mode = True
    assert run(by_rule) == run(by_rule) == ["before"]
    by_rule.check_mode = False
    assert run(by_rule) == ["before"] and run(by_rule) == []


def test_a_kind_that_a_run_is_not_asked_for_is_not_switched_off(by_rule):
    by_rule.params["kinds"] = ["services"]
    by_rule.write("a")
    assert run(by_rule) == [] and not [text for text in by_rule.warnings if "switched off" in text]
    by_rule.params["kinds"] = ["files"]
    by_rule.files(False)
    assert run(by_rule) == ["a"] and run(by_rule) == []


def test_a_rule_whose_section_of_files_is_removed_reports_what_changed_before(by_rule):
    by_rule.write("before")
    del extension_settings(by_rule)["fileSettings"]
    assert run(by_rule) == ["before"] and run(by_rule) == []


def test_changes_of_a_kind_that_is_switched_off_are_sent_without_its_inventory(by_rule, tmp_path):
    by_rule.params["forward"] = {
        "address": "tcp://127.0.0.1:9", "config_address": "@none", "allow_users": [], "acks": "off", "change_tag": None,
        "data_tag": None, "tls_ca": "", "tls_cert": "", "tls_key": "",
    }  # fmt: skip
    by_rule.fail_json = lambda **result: None
    by_rule.write("before")
    by_rule.files(False)
    assert run(by_rule) == ["before"]
    with sqlite3.connect(by_rule.params["state"]) as db:
        assert db.execute("SELECT stream, kind, count FROM outbox").fetchall() == [
            ("CONFIG_CHANGE_BLOB_V2", "files", 1)
        ]


@pytest.mark.parametrize(
    "broken", [{"fileinfo": [{"destinationPath": "/etc/x"}]}, {"fileInfo": [{"destinationPath": "x"}]}]
)
def test_a_rule_without_usable_file_items_is_refused_and_changes_nothing(by_rule, broken, tmp_path):
    by_rule.write("before")
    good = extension_settings(by_rule).pop("fileSettings")
    extension_settings(by_rule)["fileSettings"] = broken
    with pytest.raises(DcrError, match="set enableFiles to false"):
        run(by_rule)
    extension_settings(by_rule)["fileSettings"] = good
    assert run(by_rule) == ["before"]


def test_a_file_item_that_cannot_be_used_is_a_problem_in_the_result(by_rule):
    assert "rule_problems" not in info.work(by_rule)
    extension_settings(by_rule)["fileSettings"]["fileInfo"].append({"destinationPath": "x"})
    (problem,) = info.work(by_rule)["rule_problems"]
    assert "fileInfo[1] is left out" in problem and by_rule.warnings == [problem]


def test_a_rule_of_ama_without_usable_file_items_is_used_with_those_of_the_last_run(by_rule, monkeypatch):
    good = by_rule.params["dcr"]
    broken = copy.deepcopy(good)
    settings = broken["extensionConfigurations"]["ChangeTracking-Linux"][0]["extensionSettings"]
    settings["fileSettings"] = {"fileinfo": settings["fileSettings"]["fileInfo"]}
    by_rule.params.update(dcr=None, forward={})
    answers = [dcr.load(rule, "x") for rule in (broken, broken, good)]
    forward = SimpleNamespace(
        to_agent=True, notes=[], settings=lambda: answers.pop(0), deliver=lambda _state, _settings: {}
    )
    monkeypatch.setattr(_forward, "Forward", lambda _given: forward)
    by_rule.write("a")
    assert run(by_rule) == ["a"]
    assert any("fileinfo" in text for text in by_rule.warnings)
    assert "Until then, 1 file item is used, from the last good rule." in by_rule.warnings
    by_rule.write("b")
    result = info.work(by_rule)
    assert [os.path.basename(change["FileSystemPath"]) for change in result["changes"]] == ["b"]
    assert result["inventory"]["files"]["count"] == 2 and "fileinfo" in result["rule_problems"][0]
    by_rule.write("c")
    assert run(by_rule) == ["c"]
