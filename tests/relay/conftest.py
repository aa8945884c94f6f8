# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import shutil
import tempfile
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.relay_process import Relay


@pytest.fixture
def place(programs):
    """Makes Relay objects, whose sockets' paths are short, and ends what they left running."""
    relays = []

    def make():
        relays.append(Relay(programs / "relay.pyz", Path(tempfile.mkdtemp(prefix="relay"))))
        return relays[-1]

    yield make
    for relay in relays:
        relay.end()
        shutil.rmtree(str(relay.folder))


@pytest.fixture
def relay(place):
    relay = place()
    relay.put_chunk("one.json", "1")
    return relay
