# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test ct_version: compares the version of a package in the order of its package manager."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ..module_utils._cti.errors import CtiError
from ..module_utils._cti.kinds.packages.versions import compare_dpkg, compare_rpm, has_epoch, parse_condition, satisfies

DOCUMENTATION = r"""
name: ct_version
short_description: Compare package versions in the order of dpkg or rpm
version_added: "0.2.0"
description:
  - Whether the version of an installed package meets a condition, in the order of its package manager. The test
    P(ansible.builtin.version#test) does not know this order (C(1.0~rc1) is older than C(1.0), and an epoch comes first).
  - A version without an epoch has epoch 0, so for a package with an epoch give the epoch (C(1:3.0.8) for the OpenSSL of EL 9).
  - For rpm, a release that only one of the two has is not compared.
positional: _input, version, operator
options:
  _input:
    description: The version of the package, as C(CurrentVersion) has it.
    type: str
    required: true
  version:
    description: The version to compare with, as V([EPOCH:]VERSION[-RELEASE]).
    type: str
    required: true
  operator:
    description: How O(_input) must compare.
    type: str
    choices: ["<", "<=", "==", "=", "!=", ">=", ">", lt, le, eq, ne, ge, gt]
    default: "=="
  manager:
    description:
      - Whose order counts.
      - By default, that of rpm for a version that starts with V(0:), which only rpm packages have in this collection, and that of dpkg for one
        without an epoch. For any other epoch, both orders must have the same answer; if they do not, the test fails and asks
        for O(manager).
    type: str
    choices: [dpkg, rpm]
seealso:
  - module: changetracking.inventory.ct_package_facts
    description: Its option O(changetracking.inventory.ct_package_facts#module:version) selects packages on the host.
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Gather the OpenSSL packages
  changetracking.inventory.ct_package_facts:
    name: openssl

- name: Show hosts with an old one
  ansible.builtin.debug:
    msg: "{{ inventory_hostname }} has {{ old | join(', ') }}"
  vars:
    versions: "{{ ansible_facts.ct_packages['items'] | map(attribute='CurrentVersion') }}"
    old: "{{ versions | select('changetracking.inventory.ct_version', '3.0.2', '<') }}"
  when: old | length > 0
"""

RETURN = r"""
_value:
  description: Whether the condition is met.
  type: bool
"""

RELATIONS = {"lt": "<", "le": "<=", "eq": "=", "ne": "!=", "ge": ">=", "gt": ">"}
ORDERS = {"dpkg": compare_dpkg, "rpm": compare_rpm}


def ct_version(value, version, operator="==", manager=None):
    try:
        return _compare(value, version, operator, manager)
    except CtiError as error:
        raise AnsibleFilterError(f"ct_version: {error}") from error


def _compare(value, version, operator, manager):
    if not isinstance(value, str):
        raise CtiError(
            f"the value is {type(value).__name__}, not a text. Give a version, such as CurrentVersion of a package."
        )
    condition = parse_condition(f"{RELATIONS.get(operator, operator)} {version}")
    parse_condition(f"= {value}")
    if manager is not None and manager not in ORDERS:
        raise CtiError(f"manager is {manager!r}. Use dpkg or rpm.")
    managers = [manager] if manager else _managers(value)
    answers = {satisfies(value, condition, ORDERS[name]) for name in managers}
    if len(answers) > 1:
        raise CtiError(
            f"dpkg and rpm do not agree whether {value} {condition.relation} {version}. Set manager to dpkg or rpm."
        )
    return answers.pop()


def _managers(value):
    if has_epoch(value):
        return list(ORDERS)
    return ["rpm" if ":" in value else "dpkg"]


class TestModule:
    def tests(self):
        return {"ct_version": ct_version}
