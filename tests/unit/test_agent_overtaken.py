# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent where something happens during one of its runs."""

import json

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.agent import Agent
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import enqueue, run
from ansible_collections.changetracking.inventory.tests.helpers.log_lines import LogLines


@pytest.fixture
def agent(tmp_path):
    """An agent for the folder `tracked`, which has collected it once."""
    (tmp_path / "tracked").mkdir()
    files = {"fileInfo": [{"name": "r", "destinationPath": str(tmp_path / "tracked" / "*")}]}
    element = {"id": "x", "extensionSettings": {"fileSettings": files}, "outputStreams": {}}
    (tmp_path / "dcr.json").write_text(json.dumps({"extensionConfigurations": {"ChangeTracking-Linux": [element]}}))
    nowhere = str(tmp_path / "nowhere")

    agent = Agent(
        AgentOptions(
            state=str(tmp_path / "state"), dcr=str(tmp_path / "dcr.json"), chunks="",
            address=nowhere, config_address=nowhere,
        ),
        LogLines(),
    )  # fmt: skip
    agent.once()
    return agent


def reported(agent):
    with Store(agent._options.database, read_only=True) as store:
        return sorted(row["FileSystemPath"][-1] for row in store.history())


def test_a_run_that_another_one_overtakes_collects_again(agent, tmp_path, monkeypatch):
    changes, others = enqueue.remember, ["a", "b"]

    def overtaken(snapshot, store, *arguments):
        if others:
            (tmp_path / "tracked" / others.pop()).write_text("")
            with Store(store.path) as other:
                settings = agent._source.rule.settings
                changes(run.run_kind(all_kinds()["files"], settings, other), other, *arguments)
        return changes(snapshot, store, *arguments)

    monkeypatch.setattr(enqueue, "remember", overtaken)
    (tmp_path / "tracked" / "c").write_text("")
    assert agent.collect(all_kinds()["files"])
    assert not others
    assert reported(agent) == ["a", "b", "c"]


def test_a_run_during_which_the_agent_is_told_to_stop_is_left_for_the_next_start(agent, tmp_path, monkeypatch):
    (tmp_path / "tracked" / "a").write_text("")
    with monkeypatch.context() as patch:
        whole = run.run_kind

        def stopped(*arguments, **options):
            agent._schedule.end()
            return whole(*arguments, **options)

        patch.setattr(run, "run_kind", stopped)
        assert not agent.collect(all_kinds()["files"])
    assert reported(agent) == []
    agent._schedule.stopping = False
    agent.once()
    assert reported(agent) == ["a"]
