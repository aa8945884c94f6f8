# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the recent events made a change, and by whom."""

import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit import actors as module
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit import processes as processes_module
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.actors import Actors
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.messages import (
    UNSET,
    Event,
    Touched,
    forged_session,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.nodes import devices_of, may_be, node
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.processes import (
    CommandLines,
    Processes,
    module_of,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.touches import Window
from ansible_collections.changetracking.inventory.tests.helpers.audit_records import FOLDER, events

ALICE, BOB = 1001, 1002
ALL = Window(0, 2e9)
NOBODY = Processes(lambda pid, session, seconds: None)


def recorded():
    actors = Actors(1, NOBODY)
    actors.know({b"/srv/w": on(FOLDER)})
    for event in events():
        actors.add(event)
    actors.resolve()
    return actors


def on(inode, device=b"fe:00"):
    return node(device, inode)


def event(second, *touched, auid=ALICE, keys=(b"ctagent",), **fields):
    """An event at this second, which is its number too. `touched`: kind, name, inode."""
    files = [Touched(name, kind, inode, b"fe:00", stat.S_IFREG) for kind, name, inode in touched]
    values = dict(
        seconds=float(second), serial=second, pid=100 + auid, ppid=99, auid=auid, uid=0, session=auid, exe=b"/bin/sh",
        title=b"sh", keys=keys, folder=b"/w", touched=files, by_path=True, changes=True, arguments=[],
    )  # fmt: skip
    values.update(fields)
    return Event(**values)


def known(*found):
    actors = Actors(1, NOBODY)
    actors.know({b"/w": on(1)})
    for each in found:
        actors.add(each)
    actors.resolve()
    return actors


def write(second, auid=ALICE, inode=7, name=b"f", **fields):
    return event(second, (b"NORMAL", name, inode), auid=auid, **fields)


def create(second, auid=ALICE, inode=7, name=b"f"):
    return event(second, (b"PARENT", b"/w", 1), (b"CREATE", name, inode), auid=auid)


def delete(second, auid=ALICE, inode=7, name=b"f"):
    return event(second, (b"PARENT", b"/w", 1), (b"DELETE", name, inode), auid=auid)


def who(found):
    return found and found.actor.user


def test_the_events_of_real_users_name_them():
    actors = recorded()
    assert who(actors.of_file(b"/srv/w/sub dir/viafd2", ALL, None, None, "Removed")) == ALICE
    for path in (b"d/e/f/x", b"d/e/y", b"d/e/f", b"d", b"hard", b"soft", b"q"):
        found = actors.of_file(b"/srv/w/" + path, ALL, None, None, "Removed")
        assert (who(found), found.actor.exe) == (BOB, b"/usr/bin/rmdir" if path == b"q" else b"/usr/bin/rm")
    for path in ('new\nline é "q'.encode(), b"sub dir/t", b"t16/b", b"t2", b"t3", b"su", b"cron"):
        assert who(actors.of_file(b"/srv/w/" + path, ALL, None, None, "Added")) == ALICE
    assert (
        actors.of_file(b"/viafd2", ALL, None, None, "Removed") is None
    )  # the current folder has nothing to do with it
    assert who(actors.of_unit(b"nginx", ALL)) == who(actors.of_unit(b"sshd", ALL)) == BOB
    assert actors.of_unit(b"x" * 60 + b"7", ALL) is None  # is-active changes nothing


def test_a_module_of_ansible_is_named_by_itself_and_by_what_it_starts():
    actors = recorded()
    for name in (b"t2", b"t3"):
        assert actors.of_file(b"/srv/w/" + name, ALL, None, None, "Added").actor.module == "copy"
    assert actors.of_file(b"/srv/w/cron", ALL, None, None, "Added").actor.module == ""


@pytest.mark.parametrize(
    ("title", "name"),
    [
        (b"/usr/bin/python3\0/root/.ansible/tmp/ansible-tmp-1-2-3/AnsiballZ_apt.py", "apt"),
        (b"python3\0/var/tmp/ansible-tmp-1-2-3/AnsiballZ_ansible_test.py\0x", "ansible_test"),
        (b"/bin/sh\0-c\0/usr/bin/python3 /h/AnsiballZ_copy.py && sleep 0", ""),
        (b"python3", ""),
        (b"vi\0notes\0AnsiballZ_copy.py", ""),
        (b"python3\0/x/AnsiballZ_copy.pyc", ""),
        (b"python3\0/x/AnsiballZ_cop", ""),
    ],
)
def test_the_name_of_a_module_is_that_of_the_script_that_runs(title, name):
    assert module_of(title) == name


def test_a_parent_of_another_session_is_not_asked():
    asked = []
    processes = Processes(lambda pid, session, seconds: asked.append((pid, session)))
    assert processes.actor(write(1)).module == "" and asked == [(99, ALICE)]
    assert processes.actor(write(2, session=UNSET)).module == "" and len(asked) == 1
    named = Processes(lambda pid, session, seconds: (1, b"python3\0/x/AnsiballZ_file.py"))
    assert named.actor(write(1)).module == "file"


def test_the_command_line_of_the_program_before_is_none():
    processes = Processes(lambda pid, session, seconds: None)
    assert processes.actor(write(1)).command == b"sh"
    for second in (2, 3):
        assert processes.actor(write(second, exe=b"/bin/cat")).command == b""
    assert processes.actor(write(4, exe=b"/bin/cat", title=b"cat")).command == b"cat"


@pytest.mark.parametrize(
    "uid, auid, result, forged",
    [
        (0, ALICE, 1, False),  # sshd, login, cron
        (33, ALICE, 1, True),
        (33, 0, 1, True),
        (33, 33, 1, False),
        (33, ALICE, 0, False),
    ],
)
def test_a_login_that_a_service_gave_itself_is_none(uid, auid, result, forged):
    record = b"audit(1700000000.670:29563): pid=7681 uid=%d old-auid=4294967295 auid=%d tty=(none) old-ses=4294967295 ses=2166 res=%d"
    session = forged_session(record % (uid, auid, result))
    assert session == (2166 if forged else None)
    actors = Actors(1, Processes(lambda pid, session, seconds: None))
    if session is not None:
        actors.distrust(session)
    actors.add(write(1, auid, uid=uid, session=2166, name=b"/w/f"))
    found = actors.of_file(b"/w/f", ALL, (on(7), 0.0), (on(7), 25.0)).actor
    assert (found.user, found.session) == ((uid, UNSET) if forged else (auid, 2166))


@pytest.mark.parametrize("text", (b"", b"audit(1.000:1): uid=33 auid=x ses=1 res=1", b"uid=1 auid=2", b"\xff" * 99))
def test_a_login_record_that_makes_no_sense_is_none(text):
    assert forged_session(text) is None


def test_forged_sessions_are_bounded(monkeypatch):
    monkeypatch.setattr(processes_module, "MAX_FORGED", 10)
    processes = Processes(lambda pid, session, seconds: None)
    for session in range(100):
        processes.distrust(session)
    assert len(processes._forged) == 10 and processes.actor(write(1, session=99)).auid == UNSET


def test_a_process_whose_command_line_can_not_be_read_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(processes_module, "READ_SECONDS", 0.05)
    released, asked = threading.Event(), []
    logins = {}
    monkeypatch.setattr(processes_module, "_read", lambda path, limit: logins.get(path, b"1001"))

    def read(pid):
        asked.append(pid)
        if pid < 100:
            released.wait()
        return b"title %d" % pid

    lines = CommandLines(read)
    try:
        for pid in (1, 2, 101):  # of one user
            with pytest.raises(TimeoutError):
                lines.of(pid)
        assert asked == [1]
        logins.update(("/proc/%d/loginuid" % pid, b"%d" % pid) for pid in range(10, 102))
        assert lines.of(101) == b"title 101"
        for pid in range(10, 30):
            with pytest.raises(TimeoutError):
                lines.of(pid)
        assert len(asked) == processes_module.MAX_SLOW + 1
    finally:
        released.set()


def test_a_process_that_has_ended_has_no_command_line():
    assert CommandLines().of(os.getpid())
    lines = CommandLines(lambda pid: processes_module._read("/nowhere", 1))
    for _attempt in range(2):  # which is no reason to read no other one of the user
        with pytest.raises(OSError):
            lines.of(os.getpid())
    assert not lines._slow


def test_only_events_between_two_states_count():
    actors = known(write(10), write(20, BOB), write(30))
    assert who(actors.of_file(b"/w/f", ALL, (on(7), 15.0), (on(7), 25.0))) == BOB
    assert actors.of_file(b"/w/f", ALL, (on(7), 20.0), (on(7), 25.0)) is None
    found = actors.of_file(b"/w/f", ALL, (on(7), 5.0), (on(7), 25.0))
    assert (who(found), found.count, found.seconds) == (BOB, 2, 20.0)
    assert actors.of_file(b"/w/f", Window(0, 2e9, after=30), (on(7), 5.0), None) is None


def test_a_path_of_another_root_is_another_file():
    assert known(write(10, inode=8)).of_file(b"/w/f", ALL, (on(7), 5.0), (on(7), 15.0)) is None
    elsewhere = event(10, (b"PARENT", b"/w", 5), (b"CREATE", b"f", 9))
    assert known(elsewhere).of_paths([b"/w/f"], ALL) is None


def test_a_file_that_was_replaced_and_removed_was_removed_by_the_last_one():
    actors = known(delete(10), create(11, inode=8), delete(20, BOB, inode=8))
    assert who(actors.of_file(b"/w/f", ALL, (on(7), 5.0), None, "Removed")) == BOB
    assert actors.of_file(b"/w/f", ALL, (on(6), 5.0), None, "Removed") is None


def test_who_removes_a_folder_in_the_place_of_a_file_that_is_tracked_removed_no_file():
    def folder(found):
        return found._replace(touched=[each._replace(format=stat.S_IFDIR) for each in found.touched])

    actors = known(delete(10), folder(create(11, inode=8)), folder(delete(20, BOB, inode=8)))
    assert who(actors.of_file(b"/w/f", ALL, (on(7), 5.0), None, "Removed", is_tracked=stat.S_ISREG)) == ALICE
    found = actors.of_file(b"/w/f", ALL, (on(7), 5.0), None, "Removed")
    assert (who(found), found.count) == (BOB, 2)


def test_who_moves_a_folder_adds_and_removes_what_is_in_it():
    move = event(10, (b"PARENT", b"/w", 1), (b"DELETE", b"old", 5), (b"CREATE", b"new", 5), auid=BOB)
    folders = [each._replace(format=stat.S_IFDIR) for each in move.touched]
    actors = known(move._replace(touched=folders))
    assert who(actors.of_file(b"/w/new/f", ALL, None, (on(7), 5.0), "Added")) == BOB
    assert who(actors.of_file(b"/w/old/f", ALL, (on(7), 5.0), None, "Removed")) == BOB


def test_what_came_after_the_start_of_the_run_removes_only_what_was_still_there():
    actors = known(delete(10), create(20, BOB), delete(21, BOB))
    assert who(actors.of_file(b"/w/f", Window(0, 15), None, None, "Removed")) == ALICE
    assert who(actors.of_file(b"/w/f", Window(15, 16), None, None, "Removed")) == BOB


def test_a_descriptor_and_another_name_lead_to_the_file_by_its_inode_while_it_had_it():
    by_descriptor = event(20, (b"NORMAL", None, 7), auid=BOB, by_path=False)
    assert who(known(create(10), by_descriptor).of_file(b"/w/f", ALL, None, (on(7), 25.0), "Added")) == BOB
    assert who(known(by_descriptor, create(21)).of_file(b"/w/f", ALL, None, (on(7), 25.0), "Added")) == ALICE
    assert who(known(write(20, BOB, name=b"other")).of_file(b"/w/f", ALL, (on(7), 15.0), (on(7), 25.0))) == BOB
    assert known(by_descriptor).of_file(b"/w/f", ALL, (on(6), 15.0), (on(7), 25.0)) is None


TABLE = b"""\
22 1 254:0 / / rw - ext4 /dev/vda rw
23 22 0:35 /@home /home rw - btrfs /dev/vdb rw
24 22 254:1 / /w rw - xfs /dev/vdc rw
x
"""


def test_a_file_that_a_container_has_at_another_path_is_known_by_its_inode():
    def actors(key):
        actors = Actors(1, NOBODY, accept=lambda path: path.startswith(b"/w/"))
        actors.know({b"/w": on(1)})
        actors.add(event(10, (b"PARENT", b"/mnt/", 1), (b"NORMAL", b"/mnt/f", 7), keys=(key,)))
        return actors.of_file(b"/w/f", ALL, (on(7), 5.0), (on(7), 15.0))

    assert who(actors(b"ctagent")) == ALICE
    assert actors(b"theirs") is None  # too many other files


def test_the_same_inode_of_another_file_system_is_another_file():
    boot = b"fe:01"
    elsewhere = event(20)._replace(touched=[Touched(None, b"NORMAL", 7, boot, stat.S_IFREG)], by_path=False)
    assert known(elsewhere).of_file(b"/w/f", ALL, (on(7), 15.0), (on(7), 25.0)) is None
    assert who(known(elsewhere).of_file(b"/w/f", ALL, (on(7, boot), 15.0), (on(7, boot), 25.0))) == ALICE
    by_path = event(20)._replace(touched=[Touched(b"/w/f", b"NORMAL", 7, boot, stat.S_IFREG)])
    assert known(by_path).of_file(b"/w/f", ALL, (on(7), 15.0), (on(7), 25.0)) is None
    gone = event(20)._replace(touched=[Touched(b"/w/f", b"DELETE", 7, boot, stat.S_IFREG)])
    assert known(gone).of_file(b"/w/f", ALL, (on(7), 15.0), None, "Removed") is None


def test_a_folder_that_is_held_open_is_not_that_with_the_same_inode_of_another_file_system():
    for device, found in ((b"fe:00", ALICE), (b"fe:01", None)):
        held = [Touched(None, b"PARENT", 1, device, stat.S_IFDIR), Touched(b"f", b"CREATE", 7, device, stat.S_IFREG)]
        actors = known(event(20)._replace(touched=held, by_path=False))
        assert who(actors.of_file(b"/w/f", ALL, None, None, "Added")) == found


def test_where_inodes_are_used_several_times_an_event_counts_by_its_path_alone():
    devices = devices_of(TABLE)
    assert (devices.unique, devices.shared) == ({b"fe:00", b"fe:01"}, {b"00:23"})
    assert devices.node(254, 0, 7) == on(7) and devices.node(0, 36, 7) == 7  # a subvolume, as stat(2) has it
    actors = Actors(1, NOBODY)
    actors.know({b"/w": 256}, devices)
    for second, name in ((10, None), (20, b"/w/f")):
        files = [
            Touched(b"/w", b"PARENT", 256, b"00:23", stat.S_IFDIR),
            Touched(name, b"NORMAL", 7, b"00:23", stat.S_IFREG),
        ]
        actors.add(event(second, auid=ALICE if name else BOB)._replace(touched=files, by_path=bool(name)))
    assert who(actors.of_file(b"/w/f", ALL, (7, 5.0), (7, 25.0))) == ALICE
    assert actors.of_file(b"/w/f", ALL, (7, 5.0), (7, 15.0)) is None
    assert actors.of_file(b"/w/f", ALL, (8, 5.0), (8, 25.0)) is None


def test_numbers_of_files_are_compared_as_far_as_they_are_known():
    assert may_be(on(7), on(7)) and may_be(on(7), 7) and may_be(0, 7) and may_be(None, on(7))
    assert not may_be(on(7), on(7, b"fe:01")) and not may_be(on(7), 8) and not may_be(7, 8)
    assert node(b"", 7) == node(b"x", 7) == 7 and node(b"fe:00", 0) == 0


def test_who_touches_a_file_is_not_named_for_its_content():
    """It was written through a descriptor that was opened before the earlier run."""

    def found(end, *events, written=True):
        return who(known(*events).of_file(b"/w/f", ALL, (on(7), 5.0), (on(7), end), "Modified", written))

    touched = write(20, BOB, writes=False)
    assert found(20.004, touched) is None and found(20.5, touched) is None
    assert found(20.004, touched, written=False) == BOB
    assert found(20.004, write(10), touched) == BOB  # of two
    assert found(20.5, write(10), touched) is None
    assert found(21.5, touched, write(21)) == ALICE
    assert found(21.5, touched, create(21)) == ALICE


def test_own_events_and_those_that_read_do_not_count():
    actors = Actors(100 + ALICE, NOBODY)
    actors.add(write(10))
    assert actors.of_file(b"/w/f", ALL, None, None) is None
    for keys, changes, counts in (((b"",), False, None), ((b"",), True, BOB), ((b"ctagent",), False, BOB)):
        actors = known(write(10, BOB, keys=keys, changes=changes))
        assert who(actors.of_file(b"/w/f", ALL, None, None)) == counts


def test_units_are_changed_by_their_files_and_by_systemctl_but_not_by_systemd_for_others():
    path = b"/etc/systemd/system/multi-user.target.wants/web.service"
    by_systemd = write(30, UNSET, name=path, exe=b"/usr/lib/systemd/systemd")
    told = event(20, auid=BOB, exe=b"/usr/bin/systemctl", arguments=[b"systemctl", b"--now", b"enable", b"web.service"])
    assert who(known(told, by_systemd).of_unit(b"web", ALL)) == BOB
    drop_in = write(10, name=b"/etc/systemd/system/web.service.d/a.conf")
    assert who(known(drop_in, told).of_unit(b"web", ALL)) == ALICE
    asked = told._replace(arguments=[b"systemctl", b"status", b"web"])
    assert known(asked).of_unit(b"web", ALL) is None


@pytest.mark.parametrize(
    "fields, counts",
    [
        ({}, True),
        ({"exe": b"/bin/systemctl"}, True),  # where /bin is no link
        ({"uid": BOB}, False),  # polkit may have refused it
        ({"exe": b"/home/bob/systemctl"}, False),
        ({"exe": b"/usr/bin/systemctl (deleted)"}, False),
        ({"options": b"--user"}, False),  # another service manager
        ({"options": b"--mach=c1"}, False),
        ({"options": b"--root=/mnt"}, False),
        ({"options": b"-qH"}, False),
        ({"options": b"-qsHUP"}, True),
        ({"options": b"--"}, True),
        ({"options": b"--no-block"}, True),
    ],
)
def test_a_call_of_systemctl_counts_where_the_service_manager_of_the_host_obeys_it(fields, counts):
    fields = {"exe": b"/usr/bin/systemctl", **fields}
    arguments = [b"systemctl", fields.pop("options", b"-q"), b"restart", b"web"]
    called = event(20, auid=BOB, arguments=arguments, **fields)
    assert who(known(called).of_unit(b"web", ALL)) == (BOB if counts else None)


def test_memory_is_bounded():
    actors = Actors(1, NOBODY, limit=1 << 20)
    for number in range(20000):
        actors.add(create(number + 1, inode=number + 10, name=b"%d" % number))
        actors.add(event(number + 1, (b"PARENT", b"/w", number), (b"DELETE", b"g%d" % number, 1), by_path=False))
    assert len(actors._touches) + len(actors._unresolved) < 4000 and actors._bytes <= 1 << 20
    assert len(actors._folders) <= module.MAX_FOLDERS
    for number in range(1000):
        actors.add(write(30000 + number))
    assert len(actors._touches["path", b"/w/f"]) == module.MAX_TOUCHES


names = st.sampled_from([b"f", b"./f", b"/w/f", b"d/f", b"../f", b"", b"/", b"d/", None])
kinds = st.sampled_from([b"NORMAL", b"PARENT", b"CREATE", b"DELETE", b"UNKNOWN", b""])
touched = st.builds(Touched, names, kinds, st.integers(0, 4), st.just(b"fe:00"), st.booleans())


@given(
    st.lists(st.tuples(st.lists(touched, max_size=5), st.booleans(), st.sampled_from([b"/w", b"/", b""])), max_size=12)
)
def test_any_events_are_joined_or_not(several):
    actors = known(
        *(
            event(at + 1)._replace(touched=files, by_path=by_path, folder=folder)
            for at, (files, by_path, folder) in enumerate(several)
        )
    )
    for category in ("Added", "Removed", "Modified"):
        for state in (None, (on(1), 5.0)):
            actors.of_file(b"/w/d/f", ALL, state, state, category)
    actors.resolve()


# --- what another user does so that somebody else is named


def folder_event(second, *touched, auid=ALICE):
    files = [Touched(name, kind, inode, b"fe:00", stat.S_IFDIR) for kind, name, inode in touched]
    return event(second, auid=auid)._replace(touched=files)


def test_who_wrote_to_the_file_before_is_not_who_put_another_one_in_its_place():
    replaced = (on(7), 1.0), (on(8), 9.0)
    assert known(write(5)).of_file(b"/w/f", ALL, *replaced) is None  # by io_uring, which audit rules do not see
    assert who(known(write(5), create(6, BOB, 8)).of_file(b"/w/f", ALL, *replaced)) == BOB
    renamed = event(6, (b"DELETE", b"f", 7), (b"CREATE", b"f", 8), auid=BOB)
    assert who(known(write(5), renamed).of_file(b"/w/f", ALL, *replaced)) == BOB


def test_who_removed_a_file_is_not_known_where_it_came_back_since():
    removed = ALL, (on(7), 1.0), None, "Removed"
    assert known(delete(5), create(6, inode=8)).of_file(b"/w/f", *removed) is None
    assert who(known(delete(5), create(6, inode=8), delete(7, BOB, 8)).of_file(b"/w/f", *removed)) == BOB


def test_a_file_that_has_the_path_of_a_removed_one_for_a_process_of_a_container_is_another_one():
    removed = delete(5, BOB)
    elsewhere = [
        event(second, (b"PARENT", b"/w", 2), (kind, b"f", 8)) for second, kind in ((6, b"CREATE"), (7, b"DELETE"))
    ]
    actors = Actors(1, NOBODY)
    for each in (removed, *elsewhere):
        actors.add(each)
    assert who(actors.of_file(b"/w/f", ALL, (on(7), 1.0), None, "Removed")) == BOB


def test_a_folder_that_has_the_path_of_a_moved_one_for_a_process_of_a_container_is_another_one():
    def move(second, parent, inode, auid):
        return folder_event(
            second, (b"PARENT", b"/w/", parent), (b"PARENT", b"/x/", 3), (b"DELETE", b"/w/d", inode),
            (b"CREATE", b"/x/d", inode), auid=auid,
        )  # fmt: skip

    def found(*moves):
        actors = Actors(1, NOBODY)
        for each in moves:
            actors.add(each)
        return actors.of_file(b"/w/d/f", ALL, (on(7), 1.0), None, "Removed")

    assert who(found(move(5, 1, 10, BOB))) == BOB
    assert found(move(5, 1, 10, BOB), move(6, 2, 11, ALICE)) is None


def test_nobody_is_named_where_the_event_of_another_user_may_be_lost():
    for lost, alice in (((2.0, 4.0), True), ((6.0, 6.0), False), ((4.0, 7.0), False), ((10.0, 12.0), True)):
        actors = known(write(5), event(5, (b"NORMAL", b"/w/x.service", 9)))
        actors.lose(*lost)
        assert (who(actors.of_file(b"/w/f", ALL, (on(7), 1.0), (on(7), 9.0))) == ALICE) == alice
        assert (who(actors.of_paths([b"/w/f"], Window(0, 9.0))) == ALICE) == alice
    actors = known(write(5))
    actors.lose(6.0, float("inf"))
    actors.lose(6.0, 6.5)
    assert actors._gaps == [(6.0, 6.5)]
    for second in range(1000):
        actors.lose(second, second)
    assert len(actors._gaps) == module.MAX_GAPS and actors._gaps[0][0] == 0
