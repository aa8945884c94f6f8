# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor says which way of noticing changes and of knowing who made them is in use, and why not a better one."""

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.doctor import Link
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.doctor_realtime import (
    examine_realtime,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions

FILES = {
    "By": "inotify", "Why": "", "Watches": 3, "Unwatched": 0, "Overflows": 0, "Changes": 0, "Missed": 0, "Flapping": [],
}  # fmt: skip
WHO = {"Mode": "read", "By": "audit", "Why": "", "Events": 4, "Lost": 0, "Known": 0, "Unknown": 0}


def examined(status, **options):
    return [Link(*found) for found in examine_realtime(AgentOptions(**options), dict({"Running": True}, **status))]


def realtime(**kinds):
    return examined({"Realtime": {kind: dict(FILES, **seen) for kind, seen in kinds.items()}})[0]


def who(mode="read", **seen):
    return examined({"Who": dict(WHO, **seen)}, who=mode)[1]


def test_with_options_that_are_off_nothing_is_wrong():
    for link in examined({}, realtime="off", who="off"):
        assert link.status == "ok" and "because the option %s is off" % link.name in link.message


def test_an_agent_that_does_not_run_or_does_not_say_it_is_unknown():
    for status in ({}, {"Running": False, "Realtime": {"files": FILES}, "Who": WHO}):
        assert [link.status for link in examined(status, who="read")] == ["unknown", "unknown"]


def test_where_all_is_announced():
    link = realtime(files={}, packages={"Watches": 1}, services={"By": "inotify, D-Bus", "Watches": 0})
    assert link.status == "ok" and not link.causes
    assert link.message == "Changes of files, packages and services are collected when they are announced."
    assert link.details == [
        "files: inotify, 3 watched directories", "packages: inotify, 1 watched directory", "services: inotify, D-Bus",
    ]  # fmt: skip


def test_a_kind_that_was_not_collected_yet_is_no_warning():
    kinds = {"files": {}, "packages": {}}
    assert examined({"Realtime": {}, "Kinds": kinds})[0].message == "Nothing is watched before the first collection."
    link = examined({"Realtime": {"files": FILES}, "Kinds": kinds})[0]
    assert link.status == "ok" and link.message == "Changes of files are collected when they are announced."
    assert link.details[1:] == ["packages: after the first collection, which has not ended yet"]


def test_what_is_not_announced_is_named_with_the_reason():
    link = realtime(files={"By": "", "Why": "There are no instances left.", "Watches": 0}, services={})
    assert link.status == "warning" and link.causes == ["files: There are no instances left."]
    assert link.message == "Changes of files are found only as often as the rule says."
    assert link.details[:2] == ["files: no events", "files: There are no instances left."]


def test_what_is_announced_in_part_is_no_warning_but_is_said():
    link = realtime(
        files={
            "Why": "/mnt is nfs.",
            "Unwatched": 1,
            "Overflows": 2,
            "Changes": 5,
            "Missed": 1,
            "Flapping": ["/a", "/b"],
        }
    )
    assert link.status == "ok"
    assert link.details[1:] == [
        "files: /mnt is nfs.",
        "files: 1 directory is not watched, and collected as often as the rule says",
        "files: 5 changes were announced, and 1 found by the schedule alone",
        "files: too many events at once 2 times, each followed by a full collection",
        "files: changes too often to be collected at once: /a, /b",
    ]


def test_who_is_known_in_which_way():
    assert "the audit rules of others" in who().message and "audit rules of the agent" in who("rules").message
    link = who(Known=1, Unknown=2, Lost=3)
    assert link.status == "ok"
    assert link.details == [
        "1 change with an actor, 2 without",
        "3 audit messages were lost, because they came too fast",
    ]


def test_why_it_is_not_known():
    link = who(By="", Why="This kernel has no audit.")
    assert (link.status, link.message) == ("warning", "Changes do not say who made them. This kernel has no audit.")
    link = who("rules", Why="The audit rules are locked.")
    assert (link.status, link.message) == ("warning", "The audit rules are locked.")


def test_where_rules_of_others_cover_nothing_there_is_something_to_do():
    link = who(Unknown=2)
    assert link.status == "warning" and link.message.startswith(
        "No change has had an actor so far. Check that auditing"
    )
    assert who(Unknown=2, Known=1).status == who("rules", Unknown=2).status == "ok"
