# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files were really opened, as the kernel tells by inotify(7)."""

import ctypes
import os
import struct

IN_OPEN = 0x20
IN_Q_OVERFLOW = 0x4000
IN_ISDIR = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class Opens:
    """The names of files opened in some folders, or the paths of watched files, since the last call of names()."""

    def __init__(self, *paths):
        self._inotify = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watches = {}
        for path in paths:
            watch = _libc.inotify_add_watch(self._inotify, os.fsencode(str(path)), IN_OPEN)
            assert watch >= 0, os.strerror(ctypes.get_errno())
            self._watches[watch] = str(path)

    def names(self):
        found = []
        while True:
            try:
                events = os.read(self._inotify, 1 << 16)
            except BlockingIOError:
                return found
            while events:
                watch, mask, _cookie, length = struct.unpack_from("iIII", events)
                name = events[16 : 16 + length].rstrip(b"\0")
                events = events[16 + length :]
                assert not mask & IN_Q_OVERFLOW
                if not mask & IN_ISDIR:
                    found.append(os.fsdecode(name) or self._watches[watch])

    def close(self):
        os.close(self._inotify)


def exchange(one, other):
    """Swap two names at once, see renameat2(2)."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(str(one)), _AT_FDCWD, os.fsencode(str(other)), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))
