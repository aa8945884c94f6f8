# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: a text of a managed host -> the text as one line that is safe to show in a terminal."""

from __future__ import annotations

from ..plugin_utils._bounded import calm
from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_line
short_description: Show a text of a managed host on one line
version_added: "0.2.0"
description:
  - Returns the text with its control characters, and the marks that change the direction of writing, replaced by escapes. Lines
    are joined, and of a text of more than 4,096 characters the rest is left out.
  - What is not a text is returned as C(?).
positional: _input
options:
  _input:
    description: The text.
    type: raw
    required: true
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Show what is broken, and what to do
  ansible.builtin.debug:
    msg: "{{ agent.doctor.Remedy | changetracking.inventory.ct_line }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
"""


def ct_line(value):
    return calm(value) if isinstance(value, str) else "?"


class FilterModule:
    def filters(self):
        return {"ct_line": untrusted(ct_line)}
