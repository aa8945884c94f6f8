# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ct_inventory_info does where other runs use the same state."""

import os
from types import SimpleNamespace

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import StateOvertaken
from ansible_collections.changetracking.inventory.plugins.modules import ct_inventory_info as info


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
    survey, others = info.survey, ["a", "b"]

    def overtaken(*arguments, **named):
        result = survey(*arguments, **named)
        if others:
            (tmp_path / "tracked" / others.pop()).write_text("")
            run(module)
        return result

    monkeypatch.setattr(info, "survey", overtaken)
    (tmp_path / "tracked" / "c").write_text("")
    module.params["since"] = 0
    assert sorted(run(module)) == ["a", "b", "c"]
    assert not others
    assert len(module.warnings) == len(set(module.warnings))


def test_a_run_that_is_overtaken_again_and_again_fails(module, tmp_path, monkeypatch):
    run(module)
    survey, depth = info.survey, []

    def overtaken(*arguments, **named):
        result = survey(*arguments, **named)
        if not depth:
            depth.append(1)
            run(module)
            depth.pop()
        return result

    monkeypatch.setattr(info, "survey", overtaken)
    with pytest.raises(StateOvertaken, match="run again"):
        run(module)
