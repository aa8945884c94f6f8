# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_package_facts: runs the module directly where it can, see docs/direct.md."""

from __future__ import annotations

from ..modules.ct_package_facts import OPTIONS
from ..plugin_utils._direct.action import DirectAction, Module


class ActionModule(DirectAction):
    module = Module("ct_package_facts", OPTIONS, {"ansible_facts": dict}, fact="ct_packages")
