# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import socket
import subprocess

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import statx

BIRTH = slice(32, 44)  # bytes of a status


@pytest.fixture(params=["file", "directory", "link", "fifo", "socket", "/dev/null", "/proc/version"])
def entry(request, tmp_path):
    path = tmp_path / "entry"
    if request.param.startswith("/"):
        return request.param
    if request.param == "file":
        path.write_bytes(b"x" * 5000)
        os.utime(str(path), ns=(1, -1))
    elif request.param == "directory":
        path.mkdir()
    elif request.param == "link":
        path.symlink_to("nowhere")
    elif request.param == "fifo":
        os.mkfifo(str(path))
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    return str(path)


def test_the_status_is_the_same_without_statx_but_for_the_birth(entry):
    ours, without = statx.status_of(-1, os.fsencode(entry)), statx._without_birth(-1, os.fsencode(entry))
    assert ours[: BIRTH.start] == without[: BIRTH.start]
    assert ours[BIRTH.stop :] == without[BIRTH.stop :]
    assert without[BIRTH] == bytes(12)


def test_the_numbers_are_those_of_stat(entry):
    told = subprocess.run(
        ["stat", "-c", "%h %u %g %f %i %s %W %Z %Y", entry], stdout=subprocess.PIPE, check=True
    ).stdout
    expected = [int(number, 16 if at == 3 else 10) for at, number in enumerate(told.split())]
    links, uid, gid, mode, inode, size, born, ctime, _ns, mtime, _ns, _device = statx.unpack(
        statx.status_of(-1, os.fsencode(entry))
    )
    assert [links, uid, gid, mode, inode, size, born, ctime, mtime] == expected


def test_an_open_file_and_its_name_have_one_status(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    folder = os.open(str(tmp_path), os.O_RDONLY)
    file = os.open("f", os.O_RDONLY, dir_fd=folder)
    try:
        found = statx.status_of(folder, b"f")
        assert found == statx.status_of(file, b"")
        assert statx.mode(found) == os.stat(file).st_mode
        assert statx.size(found) == 1
        assert list(statx.seconds(found)) == [int(os.stat(file).st_ctime), int(os.stat(file).st_mtime)]
    finally:
        os.close(file)
        os.close(folder)


def test_reading_changes_no_status(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x")
    os.utime(str(path), (0, 0))
    before = statx.status_of(-1, os.fsencode(str(path)))
    path.read_bytes()
    assert statx.status_of(-1, os.fsencode(str(path))) == before


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        statx.status_of(-1, os.fsencode(str(tmp_path / "none")))


def test_a_large_inode_number_has_a_status():
    assert statx.unpack(statx._pack(1, 0, 0, 0, 2**64 - 1, 2**63, 0, 0, *[0] * 8))[4:6] == (2**64 - 1, 2**63)
    assert len(statx._pack(*[0] * 16)) == 96
