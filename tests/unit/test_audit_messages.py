# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of the kernel's audit as events. fixtures/audit/records.txt is what Linux 6.18 wrote, by what was done."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit import messages
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.messages import (
    Assembler,
    Touched,
    ends_messages,
    key_of_deleted_rule,
)
from ansible_collections.changetracking.inventory.tests.helpers.audit_records import RECORDS, events

SYSCALL = b'arch=c000003e syscall=257 success=yes a0=ffffff9c a2=241 items=%d ppid=1 pid=2 auid=1000 uid=0 ses=3 exe="/bin/x" key="k"'


def record(text, serial=1):
    return b"audit(1700000000.123:%d): %s" % (serial, text)


def test_a_change_has_its_time_its_user_and_its_files():
    (event,) = events("create", keys=[b"ctagent"])
    assert (event.seconds, event.serial, event.pid, event.ppid) == (1795764631.722, 5, 2245, 2187)
    assert (event.auid, event.uid, event.session, event.exe) == (1001, 0, 26, b"/usr/bin/dash")
    assert (event.folder, event.by_path, event.changes) == (b"/srv/w", True, True)
    assert event.touched == [
        Touched(b"/srv/w/", b"PARENT", 2155350, b"fe:00", stat.S_IFDIR),
        Touched(b"/srv/w/a", b"CREATE", 2155353, b"fe:00", stat.S_IFREG),
    ]


def test_names_are_as_the_host_has_them_whatever_they_hold():
    (event,) = events("newline", keys=[b"ctagent"])
    assert event.touched[1].name == 'new\nline é "q'.encode()
    last = events("rename-into", keys=[b"ctagent"])[-1]
    assert [each.name for each in last.touched] == [b"sub dir/", b"/srv/w", b"b", b"sub dir/b"]
    assert events("su", keys=[b"ctagent"])[-1].title.startswith(b"/usr/bin/python3\0-c\0")


def test_a_name_that_starts_at_an_open_folder_does_not_start_at_the_current_one():
    found = events("dirfd", keys=[b"ctagent"])
    assert [event.by_path for event in found] == [False] * 4
    assert found[2].touched == [Touched(b"viafd2", b"NORMAL", 2155371, b"fe:00", stat.S_IFREG)]
    assert [each.name for event in events("py-fchmod", keys=[b"ctagent"])[1:] for each in event.touched] == [None, None]


def test_what_failed_is_no_event():
    assert len(events("rename-over", keys=[b"ctagent"])) == 1  # mv tries without replacing first


def test_arguments_of_a_program_are_read_up_to_a_limit():
    assert [event.arguments for event in events("systemctl")] == [
        [b"systemctl", b"restart", b"nginx", b"a b.service"],
        [b"systemctl", b"--no-block", b"stop", b"sshd.service"],
    ]
    (event,) = events("longexec")
    assert len(event.arguments) == messages.MAX_ARGUMENTS and event.arguments[-1] == b"x" * 60 + b"253"


def test_reading_is_no_change_and_writing_is():
    for flags, changes in (
        (b"0", False),
        (b"80000", False),
        (b"1", True),
        (b"2", True),
        (b"200", True),
        (b"40", False),
    ):
        assembler = Assembler()
        assembler.add(1300, record((SYSCALL % 0).replace(b"a2=241", b"a2=" + flags)))
        event = assembler.add(1320, record(b""))
        assert event.changes is event.writes is changes
    assert not messages._judge({b"arch": b"c000003e", b"syscall": b"262"}, b"")[1]  # newfstatat


@pytest.mark.parametrize(
    "architecture, attributes, content",
    [(b"c000003e", b"90 91 92 132 188 260 268 280", b"76 77 85 285"), (b"c00000b7", b"5 52 53 54 88", b"45 46 47")],
)
def test_a_change_of_attributes_writes_no_content(architecture, attributes, content):
    for numbers, writes in ((attributes, False), (content, True)):
        for number in numbers.split():
            assert messages._judge({b"arch": architecture, b"syscall": number}, b"")[1:] == (True, writes)


def test_records_of_programs_are_not_read():
    assembler = Assembler()
    assembler.add(1300, record(SYSCALL % 1))
    for kind in (1100, 1112, 1199, 2100, 1305):
        assert assembler.add(kind, record(b'item=0 name="/etc/passwd" inode=1 nametype=CREATE')) is None
    assert assembler.add(1320, record(b"")) is None and assembler.incomplete == 1


def test_an_event_that_lacks_a_record_is_counted_and_dropped():
    assembler = Assembler()
    assembler.add(1302, record(b'item=0 name="/x" nametype=CREATE'))  # before its first one
    assembler.add(1300, record(SYSCALL % 2))
    assembler.add(1302, record(b'item=0 name="/x" nametype=CREATE'))
    assert assembler.add(1320, record(b"")) is None
    assert assembler.incomplete == 1


def test_open_events_and_their_records_and_bytes_are_bounded():
    assembler = Assembler()
    for serial in range(5000):
        assembler.add(1300, record(SYSCALL % 1, serial))
    assert len(assembler._open) == messages.MAX_OPEN and assembler.incomplete == 5000 - messages.MAX_OPEN
    serial = 4999
    for _path in range(200):
        assembler.add(1302, record(b'item=0 name="/x" nametype=NORMAL', serial))
    assert len(assembler._open) == messages.MAX_OPEN - 1
    for _argument in range(1000):
        assembler.add(1309, record(b'a0="%s"' % (b"x" * 8000), 4998))
    assert sum(map(len, (text for _kind, text in assembler._open[b"1700000000", b"123", b"4998"]))) < 1 << 16


@given(
    st.lists(
        st.tuples(st.sampled_from([1300, 1302, 1307, 1309, 1320, 1327, 1337, 1100, 0]), st.binary(max_size=300)),
        max_size=30,
    )
)
def test_any_bytes_are_an_event_or_nothing(records):
    assembler = Assembler()
    for kind, text in records:
        assembler.add(kind, text)
        assembler.add(kind, record(text))


@given(st.data())
def test_a_record_that_is_cut_or_changed_does_no_harm(data):
    assembler = Assembler()
    lines = data.draw(st.lists(st.sampled_from(RECORDS), max_size=20))
    for _label, kind, text in lines:
        at = data.draw(st.integers(0, len(text)))
        assembler.add(kind, text[:at] + data.draw(st.binary(max_size=5)) + text[at + data.draw(st.integers(0, 5)) :])


def test_a_deleted_rule_is_known_by_its_key():
    # As Linux 6.18 writes them, with auditctl -D, -A, when a watched folder is removed, and when that of a watched file is moved.
    deleted = [
        b'audit(1795780000.123:9): auid=1000 ses=3 op=remove_rule key="ctagent" list=4 res=1',
        b'audit(1795780000.123:9): op=remove_rule dir="/srv" key="ctagent" list=4 res=1',
        b'audit(1795780000.123:9): auid=1000 ses=3op=remove_rule path="/srv/f" key="ctagent" list=4 res=1',
    ]
    assert [key_of_deleted_rule(text) for text in deleted] == [b"ctagent"] * 3
    assert key_of_deleted_rule(deleted[0].replace(b"remove", b"add")) is None
    assert key_of_deleted_rule(deleted[0].replace(b'"ctagent"', b"(null)")) is None
    assert key_of_deleted_rule(b"audit(1.123:9): op=remove_rule key=" + b"ctagent".hex().encode().upper()) == b"ctagent"


def test_messages_end_when_somebody_deletes_a_rule_or_switches_the_audit_off():
    # As Linux 6.18 writes them, with auditctl -D, and -e.
    head = b"audit(1795780000.123:9): "
    deleted = head + b'auid=1000 ses=3 op=remove_rule key="ctagent" list=4 res=1'
    off = head + b"op=set audit_enabled=0 old=1 auid=1000 ses=3 res=1"
    assert [ends_messages(text) for text in (deleted, off)] == [1795780000.123] * 2
    by_the_kernel = head + b'op=remove_rule dir="/srv" key="ctagent" list=4 res=1'
    of_a_file = (
        head + b'auid=1000 ses=3%sop=remove_rule path="/srv/f" key="ctagent" list=4 res=1'
    )  # any user may cause it
    others = [
        *(of_a_file % between for between in (b"", b" ")),
        deleted.replace(b"remove", b"add"),
        off.replace(b"=0 old=1", b"=1 old=0"),
        by_the_kernel,
        b"op=remove_rule auid=0",
    ]
    assert [ends_messages(text) for text in others] == [None] * 6


def test_the_label_of_a_security_module_is_no_other_field():
    label = b' subj=x auid=0 uid=33 ses=9 exe="/bin/y" key="ctagent" (enforce) key="k"'
    assembler = Assembler()
    assembler.add(1300, record((SYSCALL % 1).replace(b' key="k"', label)))
    path = (
        b' item=0 name="/w/f" inode=7 dev=fe:00 mode=0100644 obj=x name="/w/g" inode=8 nametype=CREATE nametype=NORMAL'
    )
    assembler.add(1302, record(path))
    event = assembler.add(1320, record(b""))
    assert (event.auid, event.uid, event.session, event.exe, event.keys) == (1000, 0, 3, b"/bin/x", [b"k"])
    assert event.touched == [Touched(b"/w/f", b"NORMAL", 7, b"fe:00", stat.S_IFREG)]
    login = b" pid=1 uid=33 subj=x uid=0 res=0 old-auid=4294967295 auid=1000 ses=3 res=1"
    assert messages.forged_session(record(login)) == 3


def test_the_time_of_an_incomplete_event_is_reported():
    lost = []
    assembler = Assembler(lost.append)
    assembler.add(1300, record(SYSCALL % 1))
    assert assembler.add(1320, record(b"")) is None
    assert lost == [1700000000.123] and assembler.incomplete == 1
