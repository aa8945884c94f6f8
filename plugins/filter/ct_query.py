# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: JMESPath over facts and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ..plugin_utils._packed import unpack

try:
    import jmespath
except ImportError:
    jmespath = None

DOCUMENTATION = r"""
name: ct_query
short_description: Select from facts and results with JMESPath
version_added: "0.1.0"
description:
  - Applies a JMESPath expression to a fact such as C(ct_packages), to a result of M(changetracking.inventory.ct_inventory_info),
    or to any other data.
  - In a result that holds C(packed) items, these are found under C(packages), C(services) and C(files).
requirements:
  - jmespath on the controller
positional: _input, expression
options:
  _input:
    description: The data to select from.
    type: raw
    required: true
  expression:
    description: The JMESPath expression.
    type: str
    required: true
seealso:
  - name: JMESPath specification
    description: The query language.
    link: https://jmespath.org/specification.html
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Show services that are enabled and do not run
  ansible.builtin.debug:
    msg: "{{ ansible_facts.ct_services | changetracking.inventory.ct_query(expression) }}"
  vars:
    expression: "items[?SvcStartupType=='Enabled' && SvcState!='Running'].SvcName"

- name: Show the packages of one publisher
  ansible.builtin.debug:
    msg: "{{ inventory | changetracking.inventory.ct_query(expression) }}"
  vars:
    expression: "packages[?contains(Publisher, 'Debian')].{name: SoftwareName, version: CurrentVersion}"
"""

RETURN = r"""
_value:
  description: What the expression selects; null where it selects nothing.
  type: raw
"""


def ct_query(data, expression):
    if jmespath is None:
        raise AnsibleFilterError(
            "ct_query needs the Python package jmespath on the controller; install it beside ansible-core."
        )
    plain = _plain(data)
    try:
        if isinstance(plain, dict) and "packed" in plain:
            plain.update(unpack(plain.pop("packed")))
        return jmespath.search(str(expression), plain)
    except jmespath.exceptions.JMESPathError as error:
        raise AnsibleFilterError(f"The JMESPath expression {str(expression)!r} does not work here: {error}") from None
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from None


def _plain(value):
    """Without Ansible's own string and container types: jmespath looks at the exact type's name."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(element) for key, element in value.items()}
    if isinstance(value, str):
        return str.__str__(value)  # str(value) would leave the type to the type
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(element) for element in value]
    return value


class FilterModule:
    def filters(self):
        return {"ct_query": ct_query}
