# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is soon full. Property tests try the same examples on every machine under CI, and new ones elsewhere."""

import os
import subprocess

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB. Needs root."""
    folder = str(tmp_path / "small")
    os.mkdir(folder)
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), "mounting a small file system needs root"
        pytest.skip("mounting a small file system needs root")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", folder])
    yield folder
    subprocess.check_call(["umount", folder])
