# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ct_inventory_info does where other runs use the same state."""

import os
from types import SimpleNamespace

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import (
    StateError,
    StateOvertaken,
)
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
        "kinds": ["files"], "report": "changes", "state": str(tmp_path / "s.db"), "since": None, "rehash_days": 7,
        "history_days": 30, "history_mib": 64, "known": None, "forward": None,
        "dcr": {"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "x", "extensionSettings": rule}]}},
    }  # fmt: skip
    return SimpleNamespace(params=given, check_mode=False, warnings=[])


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
