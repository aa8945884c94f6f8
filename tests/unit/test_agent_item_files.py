# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the agent writes its item files, and what they say happened."""

import json

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import item_files
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.item_files import ItemFiles
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.daemon import Log
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import FILES
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import Settings
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import run


@pytest.fixture
def tracked(tmp_path):
    """A tracked folder, with the item files of an agent."""
    folder, state = tmp_path / "tracked", tmp_path / "state"
    folder.mkdir()
    state.mkdir()
    options = AgentOptions(state=str(state))
    with Store(options.database) as store:
        store.check()
    with Store(options.database) as store:
        store.enable_wal()
    settings = Settings(("files",), [FileRule("r", str(folder) + "/*")], {"files": 900}, False, 0, [])

    class Tracked:
        now = 100.0
        files = ItemFiles(options, Log(), lambda: Tracked.now)

        @staticmethod
        def change(name, woken):
            """Add a file, and store a run."""
            (folder / name).write_text("text")
            with Store(options.database) as store:
                snapshot = run.run_kind(FILES, settings, store)
            Tracked.files.update(snapshot, woken)

        @staticmethod
        def written():
            """What happened to each item, as the file has it; None without a file."""
            Tracked.files.write()
            try:
                items = json.loads((state / "File.json").read_text())
            except FileNotFoundError:
                return None
            return {item["Name"]: item["ChangeType"] for item in items}

    return Tracked


def while_written(monkeypatch, work):
    """Let work() be done while a file is written, before it is read what is in it."""
    write = item_files.item_file.write

    def written(*arguments):
        work()
        return write(*arguments)

    monkeypatch.setattr(item_files.item_file, "write", written)


def test_a_file_that_takes_long_to_write_is_left_to_a_later_run(tracked, monkeypatch):
    """Runs that changes start may follow one another each second. The next file then says what happened since the last one."""

    def linger():
        tracked.now += 10

    while_written(monkeypatch, linger)
    tracked.change("a", woken=False)
    assert tracked.written() == {"a": "StartTracking"}
    tracked.change("b", woken=True)
    assert tracked.written() == {"a": "StartTracking"}
    tracked.now += 90
    tracked.change("c", woken=True)
    assert tracked.written() == {"a": "StartTracking", "b": "Added", "c": "Added"}
    tracked.change("d", woken=False)
    tracked.change("e", woken=True)  # before the file for the scheduled run is written
    stay = dict.fromkeys("abc", "StartTracking")
    assert tracked.written() == dict(stay, d="Added", e="Added")


def test_runs_go_on_while_a_file_is_written_which_is_of_one_moment(tracked, monkeypatch):
    with monkeypatch.context() as patch:
        while_written(patch, lambda: (tracked.change("late", woken=True), setattr(tracked, "now", tracked.now + 1)))
        tracked.change("a", woken=False)
        assert tracked.written() == {"a": "StartTracking"}
    assert tracked.written() == {"a": "StartTracking"}  # nothing is due
    tracked.now += 9
    tracked.change("b", woken=True)
    assert tracked.written() == {"a": "StartTracking", "late": "Added", "b": "Added"}


def test_a_kind_that_is_not_collected_any_more_has_no_file_until_it_is_again(tracked):
    tracked.change("a", woken=False)
    tracked.written()
    tracked.files.remove(FILES)
    assert tracked.written() is None
    tracked.files.remove(FILES)
    tracked.change("b", woken=True)
    assert set(tracked.written()) == {"a", "b"}
