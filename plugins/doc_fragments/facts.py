# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option and the attribute that all fact modules have."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  name:
    description:
      - Return only items whose name matches one of these shell patterns. The name of a tracked file is its path.
      - The name of a package is without version and architecture, that of a service without C(.service), which may be written all the same.
      - A name that no item has is no error. C(count) is then 0. An empty name is refused.
      - Patterns are case-sensitive and support C(*), C(?), C([seq]) and C([!seq]). A C(*) also matches a slash.
    type: list
    elements: str
    default: []
attributes:
  facts:
    support: full
    description: Action returns an C(ansible_facts) dictionary that will update existing host facts.
"""
