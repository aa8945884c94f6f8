# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_claimed: from the facts of a host to a sentence about variables of the operator that they set."""

from __future__ import annotations

from ..module_utils._cti.text import line
from ..plugin_utils._untrusted import untrusted
from .ct_misspelled import ct_misspelled

DOCUMENTATION = r"""
name: ct_claimed
short_description: Refuse variables that a managed host returned as facts
version_added: "0.2.0"
description:
  - Returns one sentence if the facts contain the name of an option or a similar name, and an empty list otherwise.
  - The result of any module may contain facts, and facts take precedence over inventory and group variables. A hostile host could use
    them to choose which file of the controller is read and sent to it, or where files are written.
  - The roles and playbooks of this collection use it for their own variables.
positional: _input, options, host
options:
  _input:
    description: The facts of the host, which are the variable C(ansible_facts).
    type: dict
    required: true
  options:
    description: Names of the options, which all have the same prefix, such as C(ct_).
    type: list
    elements: str
    required: true
  host:
    description: Name of the host, for the sentence.
    type: str
    required: true
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Refuse variables that the host returned as facts
  ansible.builtin.assert:
    that: claimed == []
    fail_msg: "{{ claimed | join(' ') }}"
  vars:
    claimed: "{{ ansible_facts | changetracking.inventory.ct_claimed(['ct_dcr'], inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The sentence, in a list.
  type: list
  elements: str
  sample:
    - The facts of web01 set ct_dcr, which only the operator may set. Clear its facts (--flush-cache), and set the variables in the
      inventory or with -e.
"""

SHOWN = 5  # names


def ct_claimed(facts, options, host):
    prefix = options[0].partition("_")[0] + "_"
    names = [str(name) for name in facts if str(name).startswith(prefix)]
    claimed = sorted(name for name in names if name in options or ct_misspelled([name], options))
    if not claimed:
        return []
    shown = ", ".join(line(name, 100) for name in claimed[:SHOWN])
    more = f" ({SHOWN} of {len(claimed)})" if len(claimed) > SHOWN else ""
    return [
        f"The facts of {line(host, 300)} set {shown}{more}, which only the operator may set."
        " Clear its facts (--flush-cache), and set the variables in the inventory or with -e."
    ]


class FilterModule:
    def filters(self):
        return {"ct_claimed": untrusted(ct_claimed)}
