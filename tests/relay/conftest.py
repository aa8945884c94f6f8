# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from process import Relay

from ansible_collections.changetracking.inventory.plugins.plugin_utils import _zipapp


@pytest.fixture(scope="session")
def zipapp(tmp_path_factory):
    path = tmp_path_factory.mktemp("zipapp") / "relay.pyz"
    _zipapp.write("relay", str(path))
    return path


@pytest.fixture
def place(zipapp):
    """Makes Relay objects, whose sockets' paths are short, and ends what they left running."""
    relays = []

    def make():
        relays.append(Relay(zipapp, Path(tempfile.mkdtemp(prefix="relay"))))
        return relays[-1]

    yield make
    for relay in relays:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()
        shutil.rmtree(str(relay.folder))


@pytest.fixture
def relay(place):
    relay = place()
    relay.put_chunk("one.json", "1")
    return relay
