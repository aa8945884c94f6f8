# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes of the modules. Most modules only read; one that differs overrides the attribute in its own documentation."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
attributes:
  action_group:
    support: full
    description: Use C(group/changetracking.inventory.ct) in C(module_defaults) to set defaults for this module.
    membership: [changetracking.inventory.ct]
  check_mode:
    support: full
    description: Can run in C(check_mode) and returns the same as without it.
  diff_mode:
    support: none
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  platform:
    support: full
    platforms: linux
    description: Target OS/families that can be operated against.
"""

    ACTION = r"""
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
"""
