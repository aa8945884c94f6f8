# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time in which a change may have been made, from one run to the next."""

import errno
import math
import stat
import threading
import time

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import who_audit
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.who_audit import AuditedWho
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.messages import Event, Touched
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.netlink import AuditStatus
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import FILES, File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import default
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.diff import Change
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.snapshot import Snapshot
from ansible_collections.changetracking.inventory.tests.helpers.log_lines import LogLines


class _Status:
    def who(self, report):
        self.report = report


class _Control:
    """The kernel, whose audit is on where `enabled` holds 1."""

    def __init__(self, enabled):
        self._enabled = enabled

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def status(self):
        return AuditStatus(self._enabled[0], 0, 0, 0)


def audited(monkeypatch, mode):
    """One that reads nothing by itself; /srv is tracked."""
    who = AuditedWho(AgentOptions(who=mode), LogLines(), _Status())
    monkeypatch.setattr(who, "_thread", threading.current_thread())
    monkeypatch.setattr(who, "_catch_up", lambda: None)
    who._actors.know({b"/srv": 1})
    return who


def event(seconds, inode):
    """User 1001 creates /srv/a."""
    made = [
        Touched(b"/srv/", b"PARENT", 1, b"fe:00", stat.S_IFDIR),
        Touched(b"/srv/a", b"CREATE", inode, b"fe:00", stat.S_IFREG),
    ]
    return Event(seconds, 1, 100, 99, 1001, 0, 5, b"/bin/sh", b"sh", (b"ctagent",), b"/srv", made, True, True, [])


def test_a_run_that_looked_elsewhere_does_not_end_the_time_in_which_a_change_was_made(monkeypatch):
    who = audited(monkeypatch, "read")
    who._actors.add(event(150.0, 7))

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


@pytest.mark.parametrize("mode", ["read", "rules"])
@pytest.mark.parametrize(
    "text, is_silent",
    [
        (b'auid=0 ses=3 op=remove_rule key="ctagent" list=4 res=1', ("read", "rules")),
        (b'auid=0 ses=3 op=remove_rule key="other" list=4 res=1', ("read",)),
        (b"op=set audit_enabled=0 old=1 auid=0 ses=3 res=1", ("read", "rules")),
        (b'auid=0 ses=3 op=add_rule key="ctagent" list=4 res=1', ()),
    ],
)
def test_a_change_after_the_last_message_before_rules_are_deleted_has_no_actor(monkeypatch, mode, text, is_silent):
    """It may be one of somebody else, that has no message."""
    who, enabled = audited(monkeypatch, mode), [1]
    monkeypatch.setattr(who_audit, "Control", lambda: _Control(enabled))
    for name in ("set_rules", "known_folders"):
        monkeypatch.setattr(who_audit.rules, name, lambda *_arguments: who_audit.rules.Outcome({b"/srv": 1}, []))
    who.follow(default())

    def collect(started, inode, changed):
        new = File("/srv/a", "1", 1, "root", "root", 0o644, 1, None, "file", "", (1, inode, 1, changed, changed))
        snapshot = Snapshot(FILES, started + 1, 1, "", {}, [], [Change("Added", None, new, [])], 50, [], partial=True)
        return who.actors(snapshot, float(started)).get(("/srv/a",))

    who._actors.add(event(150.0, 7))
    who._note_change(b"audit(160.000:9): " + text)
    enabled[0] = 0 if b"enabled=0" in text else 1
    assert (collect(170, 7, 165 * 10**9) is None) == (mode in is_silent)
    enabled[0] = 1
    who.follow(default())
    assert who._silent is None


@pytest.mark.parametrize("moved_at, is_known", [(149.0, True), (151.0, False), (166.0, True)])
def test_a_change_after_the_folder_of_a_file_was_moved_has_no_actor(monkeypatch, moved_at, is_known):
    """With the folder, the kernel deletes the rule of the file: who owns the folder could give his change the name of the last one before."""
    who = audited(monkeypatch, "read")
    who._actors.add(event(150.0, 7))
    for path in (b"/srv/a", b"/srv/other"):
        moved = b'audit(%.3f:9): auid=1000 ses=3op=remove_rule path="%s" key="ctagent" list=4 res=1'
        who._note_change(moved % (moved_at if path == b"/srv/a" else 151.0, path))
    new = File("/srv/a", "1", 1, "root", "root", 0o644, 1, None, "file", "", (1, 7, 1, 165 * 10**9, 165 * 10**9))
    snapshot = Snapshot(FILES, 171, 1, "", {}, [], [Change("Added", None, new, [])], 50, [], partial=True)
    assert (("/srv/a",) in who.actors(snapshot, 170.0)) == is_known


def test_names_come_back_where_the_agent_may_not_ask_whether_the_kernel_audits(monkeypatch):
    """So it is with `read`, for which the agent has no capability."""
    who, records = audited(monkeypatch, "read"), []

    def control():
        raise who_audit.AuditError("not permitted")

    def receive(_reader):
        if not records:
            raise BlockingIOError
        return records.pop(0)

    monkeypatch.setattr(who_audit, "Control", control)
    monkeypatch.setattr(who_audit.netlink, "receive", receive)
    monkeypatch.setattr(who._assembler, "add", lambda type_, text: event(float(text), 7) if type_ == 1320 else None)
    deleted = (who_audit.CONFIG_CHANGE, b'audit(160.000:9): auid=0 ses=3 op=remove_rule key="other" list=4 res=1')
    off = (who_audit.CONFIG_CHANGE, b"audit(160.000:9): op=set audit_enabled=0 old=1 auid=0 ses=3 res=1")
    for come, is_silent in (
        ([deleted], False),
        ([off], True),
        ([off, (1320, b"159.9")], True),  # was on the way
        ([(1320, b"160.1")], False),
    ):
        records.extend(come)
        who._read_waiting(None)
        who.follow(default())
        assert (who._silent is not None) == is_silent


def test_no_rule_is_left_where_the_agent_stops_while_it_adds_rules(monkeypatch):
    who, left = audited(monkeypatch, "rules"), []

    def set_rules(*_arguments):
        who._thread = None  # stop(), which deleted the rules before
        left.append("rule")
        return who_audit.rules.Outcome({}, [])

    monkeypatch.setattr(who_audit, "Control", lambda: _Control([1]))
    monkeypatch.setattr(who_audit.rules, "set_rules", set_rules)
    monkeypatch.setattr(who_audit.rules, "delete_rules", lambda _control: left.clear())
    who.follow(default())
    assert left == []


def test_a_folder_is_tracked_in_the_place_of_a_file_only_if_a_rule_says_so():
    who = AuditedWho(AgentOptions(who="read"), None, _Status())
    file = File("/srv/a", "1", 1, "root", "root", 0o644, 150, None, "file", "")
    for type_, is_tracked in (("file", False), ("directory", True), ("any", True)):
        who._settings = default()._replace(
            file_rules=[FileRule("one", "/etc/*"), FileRule("two", "/srv/*", type=type_)]
        )
        assert who._tracks(file)(stat.S_IFDIR) == is_tracked
        assert all(who._tracks(file)(format_) for format_ in (0, stat.S_IFREG, stat.S_IFLNK))


def test_records_are_lost_from_the_overflow_of_the_socket_until_none_waits(monkeypatch):
    who = AuditedWho(AgentOptions(who="read"), None, _Status())
    lost = []
    monkeypatch.setattr(who._actors, "lose", lambda *times: lost.append(times))
    answers = [OSError(errno.ENOBUFS, "No buffer space"), (1300, b""), OSError(errno.ENOBUFS, ""), BlockingIOError()]

    def receive(_reader):
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(who_audit.netlink, "receive", receive)
    who._newest = 100.0
    before = time.time()
    who._read_waiting(None)
    assert lost[0] == (100.0, math.inf) and len(lost) == 2
    assert lost[1][0] == 100.0 and before <= lost[1][1] == who._newest <= time.time()


def test_records_that_the_kernel_drops_and_those_not_read_in_time_are_lost(monkeypatch):
    who = AuditedWho(AgentOptions(who="read"), None, _Status())
    lost = []
    monkeypatch.setattr(who._actors, "lose", lambda *times: lost.append(times))
    for dropped in (3, 3, 4):
        who._count_lost(AuditStatus(1, 0, dropped, 0))
    assert len(lost) == 1 and lost[0][0] <= lost[0][1] and who._lost == 1
    monkeypatch.setattr(who, "_backlog", lambda: 1)
    monkeypatch.setattr(who_audit, "WAIT_SECONDS", 0.0)
    with open("/dev/null") as reader:
        who._reader = reader
        who._newest = 50.0
        who._catch_up()
    assert lost[1][0] == 50.0 and len(lost) == 2
