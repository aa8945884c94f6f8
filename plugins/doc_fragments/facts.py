# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fact modules have in common."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  name:
    description:
      - Keep only items whose name (for files, whose path) matches one of these shell patterns.
      - Patterns are case-sensitive and know C(*), C(?), C([seq]) and C([!seq]). A C(*) also matches a slash.
    type: list
    elements: str
    default: []
attributes:
  facts:
    support: full
    description: Action returns an C(ansible_facts) dictionary that will update existing host facts.
"""
