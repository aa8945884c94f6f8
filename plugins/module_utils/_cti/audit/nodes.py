# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Numbers that tell files apart across file systems: the inode, and above its 64 bits the device, where that is known and unique.

The kernel's audit has the device of the file system, as /proc/self/mountinfo has it. Some file systems use an inode number several
times, and stat(2) has other devices for them. There the number alone is compared: one that differs says that it is another file,
and the same one says nothing.
"""

from typing import FrozenSet, NamedTuple, Optional, Set

_BITS = 64
_INODE = (1 << _BITS) - 1
_MANY = frozenset((b"btrfs", b"bcachefs", b"overlay", b"aufs"))  # use a number several times


class Devices(NamedTuple):
    """The devices of the mounts at one moment, as the kernel's audit writes them."""

    unique: FrozenSet[bytes]
    shared: FrozenSet[bytes]  # of file systems that use an inode number several times

    def node(self, major: int, minor: int, inode: int) -> int:
        """Of a file that stat(2) has this device and inode for."""
        device = b"%02x:%02x" % (major, minor)
        return node(device, inode) if device in self.unique else inode


NO_DEVICES = Devices(frozenset(), frozenset())


def devices_of(table: bytes) -> Devices:
    """`table`: of mounts, as /proc/self/mountinfo has it, see proc(5)."""
    unique: Set[bytes] = set()
    shared: Set[bytes] = set()
    for line in table.split(b"\n"):
        head, _dash, tail = line.partition(b" - ")
        fields = head.split(b" ")
        major, colon, minor = fields[2].partition(b":") if len(fields) > 4 else (b"", b"", b"")
        if colon and major.isdigit() and minor.isdigit():
            device = b"%02x:%02x" % (int(major), int(minor))
            (shared if tail.split(b" ")[0] in _MANY else unique).add(device)
    return Devices(frozenset(unique - shared), frozenset(shared))


def read_devices() -> Devices:
    """Of the present mounts. Raises OSError."""
    with open("/proc/self/mountinfo", "rb") as table:
        return devices_of(table.read())


def node(device: bytes, inode: int) -> int:
    """`device`: as a record of the kernel's audit has it; empty: not known."""
    if not inode or not device:
        return inode
    try:
        major, _colon, minor = device.partition(b":")
        return inode | ((int(major, 16) << 32 | int(minor, 16)) + 1) << _BITS
    except ValueError:
        return inode


def is_unique(number: int) -> bool:
    """Whether no other file has this number."""
    return number > _INODE


def may_be(one: Optional[int], other: Optional[int]) -> bool:
    """Whether the two numbers may be those of one file. None and 0: not known."""
    if not one or not other or (one > _INODE and other > _INODE):
        return one == other or not one or not other
    return one & _INODE == other & _INODE
