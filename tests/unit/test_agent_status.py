# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent says of itself while a run goes on."""

import errno
import json
import os
import re
import sqlite3
from types import SimpleNamespace

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import folders
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import (
    agent,
    doctor,
    lock,
    program,
    status,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import StateError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Source
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.outbox import Outbox
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


def test_the_help_of_what_reads_the_state_has_no_options_of_collecting(options, capsys):
    shown = {}
    for command in ("status", "watch", "run"):
        with pytest.raises(SystemExit):
            program.main([command, "--help"])
        shown[command] = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert shown["watch"] == shown["status"] == {"--config", "--state", "--json"}
    assert {"--address", "--jitter", "--who-arguments"} < shown["run"]
    assert program.main(["status", "--config", "", "--state", options.state, "--jitter", "1"]) == 1
    assert "No agent has used this state directory yet." in capsys.readouterr().out


def test_audit_that_says_nothing_is_not_called_healthy(options):
    mine = status.Status(options)
    seen = {"Mode": "read", "By": "audit", "Why": "", "Events": 0, "Lost": 0, "Known": 0, "Unknown": 0}

    def shown(**values):
        mine.who(dict(seen, **values))
        lines = status.lines(status.read(options))
        at = next(at for at, line in enumerate(lines) if line.startswith("Who made changes"))
        return lines[at:-1]

    unknown = "Who made changes: not known"
    assert shown() == [unknown, "  No audit message has come since the start. " + status.NO_ACTOR]
    assert shown(Mode="rules", Why="Auditing is off.") == [unknown, "  Auditing is off."]
    healthy = "Who made changes: audit; 0 changes with an actor, 0 without"
    assert shown(Events=1) == shown(Mode="rules") == [healthy]
    assert shown(Events=1, Why="'/x' has no audit rule.") == [healthy, "  '/x' has no audit rule."]


def test_no_run_goes_on_where_the_agent_was_killed_in_its_midst(options):
    status.Status(options).progress("files", 7000)
    assert "so far" not in "\n".join(status.lines(status.read(options)))


def test_an_outbox_that_cannot_be_read_leaves_the_rest_of_the_status(options, monkeypatch, capsys):
    held = lock.StateLock(options.state)
    status.Status(options).collected(SEEN, 1.0, 60)

    def fail(outbox):
        raise StateError("Cannot write the state 'x' (disk I/O error). Free some disk space.")

    monkeypatch.setattr(Outbox, "__enter__", fail)
    assert program.main(["status", "--config", "", "--state", options.state]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("Agent ") and any(text.startswith("files: 9000 items at ") for text in shown)
    assert shown[-2:] == [
        "Delivery: none delivered yet; unknown number of records waiting",
        "  Cannot write the state 'x' (disk I/O error). Free some disk space.",
    ]
    links = {link.name: link for link in doctor.examine(options)}
    assert links["service"].status == "ok"
    assert (links["delivery"].status, links["delivery"].message) == (
        "unknown",
        "An unknown number of records waits; none delivered yet.",
    )
    assert held


@pytest.mark.parametrize(
    "found, why",
    [
        ({"f_flag": os.ST_RDONLY}, "is read-only"),
        ({"f_favail": 0}, "has no free inodes"),
        ({"f_bavail": 15}, "is full"),
        ({"f_files": 0, "f_favail": 0}, ""),
        ({"f_blocks": 0, "f_bavail": 0}, ""),
    ],
)
def test_a_state_that_takes_no_files_is_named_though_the_last_status_is_healthy(
    options, monkeypatch, capsys, found, why
):
    status.Status(options).collected(SEEN, 1.0, 60)
    free = {"f_flag": 0, "f_files": 9, "f_favail": 9, "f_blocks": 1 << 20, "f_bavail": 1 << 20, "f_frsize": 4096}
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(**dict(free, **found)))
    (state,) = [link for link in doctor.examine(options) if link.name == "state"]
    text = "The file system of %s %s, so the agent cannot store changes. " % (options.state, why)
    program.main(["status", "--config", "", "--state", options.state])
    last = capsys.readouterr().out.splitlines()[-1]
    if why:
        assert state.status == "broken" and state.message.startswith(text) and last == "  " + state.message
        assert doctor.as_data(doctor.examine(options))["Broken"] == "state"  # and not the agent, which cannot start
    else:
        assert state.status != "broken" and "cannot store" not in last


def test_why_nothing_is_delivered_is_a_sentence_with_the_address_as_it_is(options):
    held = lock.StateLock(options.state)
    status.Status(options).not_delivered("tcp://h:1: closed by the receiver (0 records were delivered, 5 kept)")
    (delivery,) = [link for link in doctor.examine(options) if link.name == "delivery"]
    assert delivery.message == "tcp://h:1: closed by the receiver."
    assert held


def test_the_remedy_for_a_full_or_read_only_file_system_is_the_first(tmp_path):
    for number, first in ((errno.ENOSPC, "Free some space on its file system, or "), (errno.EROFS, "Remount its ")):
        shown = folders.remedy(OSError(number, ""), str(tmp_path), "Give another path.")
        assert shown.startswith(first) and shown.endswith("or give another path.")


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
