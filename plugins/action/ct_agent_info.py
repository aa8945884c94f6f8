# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ct_agent_info: runs the module directly where it can, see docs/direct.md."""

from __future__ import annotations

from ..modules.ct_agent_info import OPTIONS
from ..plugin_utils._direct.action import DirectAction, Module

RETURNS = {"installed": bool, "SourceComputerId": (str, type(None)), "status": object, "doctor": object}


class ActionModule(DirectAction):
    module = Module("ct_agent_info", OPTIONS, RETURNS)
