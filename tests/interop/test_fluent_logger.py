# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PyPI's fluent-logger sends, and we decode; it neither asks for acks nor speaks TLS."""

import uuid

import pytest
from fluent.sender import FluentSender

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.address import Address
from ansible_collections.changetracking.inventory.tests.helpers.receiver import Receiver

RECORDS = [{"RecordId": str(number), "text": "Ünï" * number, "Size": number} for number in range(100)]


@pytest.mark.parametrize("event_time", [False, True])
@pytest.mark.parametrize("scheme", ["tcp", "file"])
def test_what_it_sends_is_decoded(tmp_path, scheme, event_time):
    where = Address("tcp", "127.0.0.1", 0) if scheme == "tcp" else Address("file", str(tmp_path / uuid.uuid4().hex))
    receiver = Receiver(where)
    host = "127.0.0.1" if scheme == "tcp" else "unix://" + where.name
    sender = FluentSender("app", host=host, port=receiver.port, nanosecond_precision=event_time)
    for record in RECORDS:
        assert sender.emit_with_time("label", 1700000000.25 if event_time else 1700000000, record)
    sender.close()
    assert receiver.end() == [("app.label", [(1700000000, record)], {}) for record in RECORDS]
