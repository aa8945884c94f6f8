# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with an agent and a relay, torn down whatever the test did."""

import shutil
import tempfile
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.agent_process import Host


@pytest.fixture
def host(programs):
    """A folder that is tracked, an agent for it, and a relay that hands out the rule; none of them runs yet."""
    host = Host(programs, Path(tempfile.mkdtemp(prefix="agent")))
    yield host
    host.end()
    shutil.rmtree(str(host.folder))
