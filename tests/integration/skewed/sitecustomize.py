# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clock that is CT_SKEW seconds ahead, for every Python that starts with this folder on its PYTHONPATH: booted hosts share the
clock of this machine, so the controller's is set instead."""

import os
import time

_time = time.time
_SKEW = float(os.environ.get("CT_SKEW", "0"))

if _SKEW:
    time.time = lambda: _time() + _SKEW
