# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time in which a change may have been made, from one run to the next."""

import stat
import threading

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.who_audit import AuditedWho
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.messages import Event, Touched
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import FILES, File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import default
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.diff import Change
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.snapshot import Snapshot


class _Status:
    def who(self, report):
        self.report = report


def test_a_run_that_looked_elsewhere_does_not_end_the_time_in_which_a_change_was_made(monkeypatch):
    who = AuditedWho(AgentOptions(who="read"), None, _Status())
    monkeypatch.setattr(who, "_thread", threading.current_thread())
    monkeypatch.setattr(who, "_catch_up", lambda: None)
    who._actors.know({b"/srv": 1})
    made = [
        Touched(b"/srv/", b"PARENT", 1, b"fe:00", stat.S_IFDIR),
        Touched(b"/srv/a", b"CREATE", 7, b"fe:00", stat.S_IFREG),
    ]
    who._actors.add(
        Event(150.0, 1, 100, 99, 1001, 0, 5, b"/bin/sh", b"sh", (b"ctagent",), b"/srv", made, True, True, [])
    )

    def run(started, changes=(), partial=False, age=100):
        snapshot = Snapshot(FILES, started + 1, 1, "", {}, [], list(changes), age, [], partial=partial)
        rows = who.actors(snapshot, float(started))
        who.stored("files")
        return rows

    new = File("/srv/a", "1", 1, "root", "root", 0o644, 150, None, "file", "", (1, 7, 1, 150 * 10**9, 150 * 10**9))
    change = Change("Added", None, new, [])
    run(100)
    run(200, partial=True)
    assert run(300, [change], age=100)[("/srv/a",)]["ChangedByUid"] == 1001


def test_a_folder_is_tracked_in_the_place_of_a_file_only_if_a_rule_says_so():
    who = AuditedWho(AgentOptions(who="read"), None, _Status())
    file = File("/srv/a", "1", 1, "root", "root", 0o644, 150, None, "file", "")
    for type_, is_tracked in (("file", False), ("directory", True), ("any", True)):
        who._settings = default()._replace(
            file_rules=[FileRule("one", "/etc/*"), FileRule("two", "/srv/*", type=type_)]
        )
        assert who._tracks(file)(stat.S_IFDIR) == is_tracked
        assert all(who._tracks(file)(format_) for format_ in (0, stat.S_IFREG, stat.S_IFLNK))
