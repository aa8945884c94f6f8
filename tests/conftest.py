# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs, as `make programs` builds them."""

import subprocess
import sys
from pathlib import Path

import pytest

BUILDER = Path(__file__).parents[1] / "plugins" / "plugin_utils" / "_zipapp.py"


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """A folder with agent.pyz and relay.pyz."""
    folder = tmp_path_factory.mktemp("programs")
    for name in ("agent", "relay"):
        subprocess.run([sys.executable, str(BUILDER), name, str(folder / (name + ".pyz"))], check=True)
    return folder
