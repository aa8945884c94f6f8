# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spool of ama_forward on a disk that is full, forbidden, torn and full of strangers' files."""

import fcntl
import os
import resource
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.plugin_utils import _spool as spools
from ansible_collections.changetracking.inventory.plugins.plugin_utils._spool import DAMAGED, Spool
from ansible_collections.changetracking.inventory.tests.helpers.child import importing
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

pytestmark = pytest.mark.no_core

MIB = 1 << 20


@pytest.fixture
def said():
    return []


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


def make(folder, said, max_bytes=MIB):
    return Spool(str(folder), max_bytes, said.append)


def waiting(spool):
    """All lines that are not done."""
    return [line for file in spool.files() for _offset, line in file.lines()]


def abandon(spool):
    """As the end of a run's process does."""
    for file in spool.own():
        file.close()


def leave(folder, content, name="0-1.spool", mode=0o600):
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_what_a_run_leaves_the_next_one_finds_in_order_and_for_its_owner_alone(folder, said):
    first = make(folder, said)
    assert all(first.append(b"%d\n" % number, 1) for number in range(3))
    assert first.records == 3
    (path,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    second = make(folder, said)
    assert waiting(second) == []  # it has an owner
    abandon(first)
    assert second.append(b"3\n", 1)
    assert waiting(second) == [b"0\n", b"1\n", b"2\n", b"3\n"]
    assert said == []


def test_what_is_done_is_not_seen_again_and_a_file_that_is_done_goes(folder, said):
    spool = make(folder, said)
    for number in range(3):
        spool.append(b"%d\n" % number, 10)
    (file,) = spool.own()
    (first, _line), *_more = file.lines()
    file.done(first, 10)
    assert (waiting(spool), spool.records) == ([b"1\n", b"2\n"], 20)
    spool.remove(file)
    assert (list(folder.iterdir()), spool.records, list(spool.own())) == ([], 0, [])
    assert spool.append(b"4\n", 1)
    assert waiting(spool) == [b"4\n"]


def test_a_file_that_another_run_took_for_done_before_it_was_locked_is_not_used(folder, said, monkeypatch):
    others = [make(folder, said)]
    flock = fcntl.flock

    def late(descriptor, operation):
        if operation == fcntl.LOCK_EX:
            while others:
                other = others.pop()
                for file in other.files():
                    other.remove(file)
        flock(descriptor, operation)

    monkeypatch.setattr(spools.fcntl, "flock", late)
    spool = make(folder, said)
    assert spool.append(b"kept\n", 1)
    abandon(spool)
    assert waiting(make(folder, said)) == [b"kept\n"]


def test_a_torn_last_line_and_one_that_is_too_long_are_damaged_and_the_others_whole(folder, said, monkeypatch):
    monkeypatch.setattr(spools, "MAX_LINE", 8)
    leave(folder, b"one\n#done\n" + b"x" * 8 + b"\n1234567\n" + b"y" * 100 + b"\ntorn")
    assert waiting(make(folder, said)) == [b"one\n", DAMAGED, b"1234567\n", DAMAGED, DAMAGED]
    leave(folder, b"z" * 8)
    assert waiting(make(folder, said)) == [DAMAGED]


@given(st.lists(st.binary(max_size=20)))
def test_every_line_of_any_file_is_seen_unless_it_is_done(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("spool")
    content = b"\n".join(pieces)
    leave(folder, content)
    *whole, torn = content.split(b"\n")
    expected = [line + b"\n" for line in whole if not line.startswith(b"#")]
    expected += [DAMAGED] if torn and not torn.startswith(b"#") else []
    assert waiting(make(folder, [])) == expected


STRANGE = {
    "readable by others": lambda folder: leave(folder, b"x\n", mode=0o644),
    "writable by the group": lambda folder: leave(folder, b"x\n", mode=0o660),
    "somebody else's": lambda folder: os.chown(str(leave(folder, b"x\n")), 65534, 65534),
    "a link": lambda folder: os.symlink("/etc/passwd", str(folder / "0.spool")),
    "a link to nowhere": lambda folder: os.symlink("/nonexistent", str(folder / "0.spool")),
    "a folder": lambda folder: (folder / "0.spool").mkdir(),
    "a pipe": lambda folder: os.mkfifo(str(folder / "0.spool"), 0o600),
    "a socket": lambda folder: socket.socket(socket.AF_UNIX).bind(str(folder / "0.spool")),
}


@pytest.mark.parametrize("name", sorted(STRANGE))
def test_a_file_that_is_not_ours_alone_is_named_and_left_alone(folder, said, name, monkeypatch):
    if name == "somebody else's":
        need_root("giving a file away")
    folder.mkdir(mode=0o700)
    monkeypatch.chdir(folder)  # a socket's path is short
    STRANGE[name](folder)
    before = [(path.name, path.lstat()) for path in folder.iterdir()]
    spool = make(folder, said)
    assert spool.append(b"own\n", 1)
    assert waiting(spool) == [b"own\n"]
    (complaint,) = set(said)
    assert complaint.startswith("%s/0" % folder) and " is skipped" in complaint
    after = [(path.name, path.lstat()) for path in folder.iterdir() if path.name.startswith(("0-1", "0.spool"))]
    assert [(name, status[:2]) for name, status in after] == [(name, status[:2]) for name, status in before]


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(folder, said, mode):
    leave(folder, b"x\n")
    folder.chmod(mode)
    spool = make(folder, said)
    assert waiting(spool) == []
    assert not spool.append(b"x\n", 1)
    assert all(
        "it must belong to the current user, and others must not be able to write to it" in text for text in said
    )


def test_a_link_in_place_of_the_folder_is_refused(folder, said):
    folder.parent.joinpath("elsewhere").mkdir()
    folder.symlink_to("elsewhere")
    assert not make(folder, said).append(b"x\n", 1)
    assert list(folder.iterdir()) == []
    assert "cannot be written" in said[0]


def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path, said):
    (tmp_path / "file").write_text("")
    spool = make(tmp_path / "file" / "spool", said)
    assert not spool.append(b"x\n", 1)
    assert waiting(spool) == []
    assert "cannot be written (Not a directory)" in said[0]


def test_nothing_is_made_where_nothing_is_spooled(folder, said):
    spool = make(folder, said)
    assert (waiting(spool), spool.waiting(), said) == ([], 0, [])
    assert not folder.exists()


def test_the_spool_keeps_what_it_has_when_it_is_full_and_says_so(folder, said):
    leave(folder, b"x" * 400 + b"\n")
    spool = make(folder, said, max_bytes=1000)
    assert spool.append(b"y" * 500 + b"\n", 1)
    assert not spool.append(b"z" * 500 + b"\n", 1)
    assert "takes no more records" in said[0]
    assert [line[:1] for line in waiting(spool)] == [b"x", b"y"]
    for file in list(spool.own()):
        spool.remove(file)
    assert spool.append(b"z" * 500 + b"\n", 1)


def test_one_host_leaves_room_for_the_others_and_is_named(folder, said):
    spool = make(folder, said, max_bytes=64000)
    greedy = [spool.append(b"x" * 999 + b"\n", 1, "greedy") for _line in range(100)]
    assert sum(greedy) == 16 and len(said) == 84 and set(said) == {said[0]}
    assert said[0].startswith("greedy needs more than a quarter of the free space in the spool")
    second = [spool.append(b"x" * 999 + b"\n", 1, "second") for _line in range(100)]
    assert sum(second) == 12  # a quarter of the rest
    assert all(spool.append(b"x" * 999 + b"\n", 1, "web%d" % number) for number in range(36))
    assert not spool.append(b"x" * 999 + b"\n", 1, "late") and "takes no more records" in said[-1]
    for file in list(spool.own()):
        spool.remove(file)  # it was delivered
    assert spool.append(b"x" * 999 + b"\n", 1, "greedy")


FULL = """
import sys
from ansible_collections.changetracking.inventory.plugins.plugin_utils._spool import Spool
spool = Spool(sys.argv[1], 1 << 20, print)
print([spool.append(b"x" * 4000 + b"\\n", 1) for _line in range(5)])
print([len(line) for file in spool.files() for _offset, line in file.lines()])
"""


def test_a_full_disk_tears_no_line(folder):
    """RLIMIT_FSIZE stands in for the full disk: write(2) takes a part, then fails."""
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)],
        env=importing(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000)),
        stdout=subprocess.PIPE,
        check=True,
        universal_newlines=True,
    )
    lines = run.stdout.splitlines()
    assert lines[-2:] == ["[True, True, False, False, False]", "[4001, 4001]"]
    assert "cannot be written (File too large). New records are dropped" in lines[0]
