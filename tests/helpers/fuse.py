# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A FUSE file system of a user that never answers, and calls that end although something in them hangs."""

import ctypes
import os
import pickle
import select
import signal
import stat
import struct
import time

import pytest

USER = 54321
SECONDS = 60  # until a file system ends
_INIT = 26  # of linux/fuse.h, as is the answer
_ANSWER = struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0)
_DETACH = 2  # MNT_DETACH of sys/mount.h
_libc = ctypes.CDLL(None, use_errno=True)


class Silent:
    """A FUSE file system over a directory or a file, which answers how it was mounted and nothing else.

    It ends by itself after a time: a process that waits for it may not end before.
    """

    def __init__(self, path, user=USER):
        self._path = os.fsencode(str(path))
        options = "rootmode=%o,user_id=%d,group_id=%d" % (stat.S_IFMT(os.stat(self._path).st_mode), user, user)
        reader, writer = os.pipe()
        self._server = os.fork()
        if not self._server:
            os.closerange(3, writer)  # others wait for the end of these
            os.closerange(writer + 1, 1024)
            try:
                self._serve(options, writer)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            error = answer.read()
        if error:
            os.waitpid(self._server, 0)
            raise OSError(int(error), os.strerror(int(error)), self._path)

    def _serve(self, options, writer):
        fuse = os.open("/dev/fuse", os.O_RDWR)
        options = "fd=%d,allow_other,%s" % (fuse, options)
        if _libc.mount(b"silent", self._path, b"fuse", 0, options.encode()):
            os.write(writer, b"%d" % ctypes.get_errno())
            return
        os.close(writer)
        end = time.monotonic() + SECONDS
        while select.select([fuse], [], [], max(0, end - time.monotonic()))[0]:
            request = os.read(fuse, 1 << 17)
            _length, operation, unique = struct.unpack("=IIQ", request[:16])
            if operation == _INIT:
                os.write(fuse, struct.pack("=IiQ", 16 + len(_ANSWER), 0, unique) + _ANSWER)

    def end(self):
        os.kill(self._server, signal.SIGKILL)
        os.waitpid(self._server, 0)
        _libc.umount2(self._path, _DETACH)


def need_fuse(folder):
    """Skip the test where nothing can be mounted."""
    try:
        Silent(folder).end()
    except OSError as error:
        pytest.skip("needs to mount FUSE file systems: %s" % error)


def in_child(work, seconds=SECONDS / 2):
    """What `work` returns, in a process of its own. Fails if it takes longer, or raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            with os.fdopen(writer, "wb") as out:
                pickle.dump(work(), out)
        except BaseException as error:
            print(repr(error))
        os._exit(0)
    os.close(writer)
    end = time.monotonic() + seconds
    with os.fdopen(reader, "rb") as answer:
        raw = b""
        while select.select([answer], [], [], max(0, end - time.monotonic()))[0]:
            piece = os.read(answer.fileno(), 1 << 16)
            if not piece:
                os.waitpid(child, 0)
                return pickle.loads(raw)
            raw += piece
    os.kill(child, signal.SIGKILL)  # it may not end before the file system does
    pytest.fail("hangs")
