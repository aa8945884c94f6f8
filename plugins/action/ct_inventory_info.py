# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_inventory_info: runs the module directly where it can, see docs/direct.md."""

from __future__ import annotations

from ..modules.ct_inventory_info import OPTIONS
from ..plugin_utils._direct.action import DirectAction
from ..plugin_utils._direct.inventory import inventory_info


class ActionModule(DirectAction):
    module = inventory_info(OPTIONS)
