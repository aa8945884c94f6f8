# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the agent writes its item files, and what they say happened."""

import json

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import item_files
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.item_files import ItemFiles
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.daemon import Log
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import FILES
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import Settings
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import run


def test_a_file_that_takes_long_to_write_is_left_to_a_later_run(tmp_path, monkeypatch):
    """Runs that changes start may follow one another each second. The next file then says what happened since the last one."""
    tracked, state = tmp_path / "tracked", tmp_path / "state"
    tracked.mkdir()
    state.mkdir()
    options = AgentOptions(state=str(state))
    settings = Settings(("files",), [FileRule("r", str(tracked) + "/*")], {"files": 900}, False, 0, [])
    now = [100.0]
    write = item_files.item_file.write

    def write_slowly(*arguments):
        now[0] += 10
        return write(*arguments)

    monkeypatch.setattr(item_files.item_file, "write", write_slowly)
    files = ItemFiles(options, Log(), lambda: now[0])

    def after_change(name, woken):
        (tracked / name).write_text("text")
        with Store(options.database) as store:
            snapshot = run.run_kind(FILES, settings, store)
        files.write(snapshot, woken)
        items = json.loads((state / "File.json").read_text())
        return {item["Name"]: item["ChangeType"] for item in items}

    assert after_change("a", woken=False) == {"a": "StartTracking"}
    assert after_change("b", woken=True) == {"a": "StartTracking"}
    now[0] += 90
    assert after_change("c", woken=True) == {"a": "StartTracking", "b": "Added", "c": "Added"}
    everything = after_change("d", woken=False)
    assert everything == {"a": "StartTracking", "b": "StartTracking", "c": "StartTracking", "d": "Added"}
