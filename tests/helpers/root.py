# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that need root."""

import os

import pytest


def need_root(why="this test"):
    """Skip the test without root, and fail it under CI, where nothing may be skipped for that. `why`: what needs root."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail(why + " needs root")
        pytest.skip(why + " needs root")
