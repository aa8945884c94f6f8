# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose records the reader of the kernel's audit takes, on sockets of other protocols, which need no privileges."""

import socket
import struct

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit import netlink

ROUTE, USERSOCK = 0, 2  # NETLINK_ROUTE, NETLINK_USERSOCK: users may send to each other
ERROR, NOOP = 2, 1
HEADER = struct.Struct("=IHHII")


@pytest.fixture
def opened():
    sockets = []

    def open_(protocol):
        sockets.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol))
        sockets[-1].bind((0, 0))
        sockets[-1].settimeout(60)
        return sockets[-1]

    yield open_
    for each in sockets:
        each.close()


def test_a_record_that_another_process_sends_is_none(opened):
    text = b"audit(1700000000.123:1): arch=c000003e syscall=82 success=yes auid=1001"
    reader, forger = opened(USERSOCK), opened(USERSOCK)
    forger.sendto(HEADER.pack(HEADER.size + len(text), 1300, 0, 0, 0) + text, reader.getsockname())
    assert netlink.receive(reader) == (0, b"")


def test_a_record_of_the_kernel_has_its_type(opened):
    reader = opened(ROUTE)
    reader.sendto(HEADER.pack(HEADER.size, NOOP, 5, 7, 0), (0, 0))  # NLM_F_REQUEST | NLM_F_ACK
    assert netlink.receive(reader)[0] == ERROR
    reader.setblocking(False)
    with pytest.raises(BlockingIOError):
        netlink.receive(reader)
