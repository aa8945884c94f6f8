# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent says of itself while a run goes on."""

import json
import sqlite3

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import agent, lock, program, status
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Source
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import enqueue
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.snapshot import Snapshot
from ansible_collections.changetracking.inventory.tests.helpers.log_lines import LogLines

SEEN = Snapshot(all_kinds()["files"], 0, 9000, "", {"files": Source("ok", 9000, "")}, [], [], None, [])


@pytest.fixture
def options(tmp_path):
    return AgentOptions(state=str(tmp_path))


def test_a_run_that_goes_on_is_told_until_it_ends(options):
    held = lock.StateLock(options.state)
    mine = status.Status(options)
    mine.progress("files", 7000)
    seen = status.read(options)
    assert seen["Kinds"]["files"]["Progress"] == 7000
    assert "  files: 7000 so far in the current run" in status.lines(seen)
    mine.collected(SEEN, 1.0, 60)
    assert "Progress" not in status.read(options)["Kinds"]["files"]
    mine.progress("files", 1)
    mine.not_collected("files", "it failed")
    assert "Progress" not in status.read(options)["Kinds"]["files"]
    assert held


def test_no_run_goes_on_where_the_agent_was_killed_in_its_midst(options):
    status.Status(options).progress("files", 7000)
    assert "so far" not in "\n".join(status.lines(status.read(options)))


def test_check_refuses_the_state_of_a_newer_version_and_no_other(tmp_path, capsys):
    path = tmp_path / "changetracking.db"
    check = ["check", "--config", ""]
    this = [*check, "--state", str(tmp_path)]
    assert program.main(this) == 0 and not path.exists()
    path.write_text("damaged")
    path.chmod(0o600)
    assert program.main(this) == 0
    path.unlink()
    with sqlite3.connect(str(path)) as database:
        database.execute("PRAGMA user_version = 1000")
    path.chmod(0o600)
    assert program.main(this) == 1 and program.main(check) == 0
    assert "was written by a newer version of this collection (format 1000" in capsys.readouterr().err


def test_a_defect_in_what_is_made_of_one_kind_leaves_the_others_alone(tmp_path, monkeypatch):
    (tmp_path / "state").mkdir()
    (tmp_path / "dcr.json").write_text(
        json.dumps({"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "d", "extensionSettings": {}}]}})
    )
    nowhere = str(tmp_path / "nowhere")
    options = AgentOptions(
        state=str(tmp_path / "state"),
        dcr=str(tmp_path / "dcr.json"),
        chunks="",
        address=nowhere,
        config_address=nowhere,
    )
    changes = enqueue.remember

    def defective(snapshot, *arguments):
        if snapshot.kind.name == "packages":
            raise ZeroDivisionError("by design")
        return changes(snapshot, *arguments)

    monkeypatch.setattr(enqueue, "remember", defective)
    log = LogLines()
    assert agent.Agent(options, log).once() == 1
    kinds = status.read(options)["Kinds"]
    assert kinds["packages"]["Error"].startswith("internal error: ZeroDivisionError: by design (test_agent_status.py")
    assert "Count" in kinds["files"] and "Count" in kinds["services"] and not kinds["files"]["Error"]
    assert any(line.startswith("packages: internal error: ZeroDivisionError") for line in log)


def test_without_a_command_the_agent_says_which_there_are(capsys):
    with pytest.raises(SystemExit) as ended:
        program.main([])
    assert ended.value.code == 2 and "give a command: run, once" in capsys.readouterr().err
