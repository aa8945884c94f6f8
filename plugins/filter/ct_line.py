# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_line: from a text of a managed host to one line that is safe to show in a terminal."""

from __future__ import annotations

from ..plugin_utils._bounded import calm
from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_line
short_description: Show a text of a managed host on one line
version_added: "0.2.0"
description:
  - Returns the text as one line. Control characters, and characters that change the writing direction, are replaced by escapes. A text
    of more than 4,096 characters is cut.
  - A value that is not text is returned as C(?).
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
- name: Show the first failed check and what to do
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
