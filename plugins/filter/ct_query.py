# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_query: a JMESPath query on facts and results."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence, Set

from ansible.errors import AnsibleFilterError

from ..module_utils._cti.packed_reader import PackedError, unpack
from ..plugin_utils._query import MISSING, jmespath, search
from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_query
short_description: Select from facts and results with JMESPath
version_added: "0.1.0"
description:
  - Applies a JMESPath expression to a fact such as C(ct_packages), to a result of M(changetracking.inventory.ct_inventory_info),
    or to any other data.
  - If a result contains C(packed), the expression sees its contents as C(packages), C(services), C(files) and C(changes).
  - JMESPath has the types of JSON. Dates and times are text in ISO 8601.
requirements:
  - jmespath on the controller
positional: _input, expression
options:
  _input:
    description: The data to query.
    type: raw
    required: true
  expression:
    description: The JMESPath expression.
    type: str
    required: true
seealso:
  - name: JMESPath specification
    description: Description of the query language.
    link: https://jmespath.org/specification.html
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Show services that are enabled but not running
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
  description: The result of the expression. Null if it selects nothing.
  type: raw
"""


def ct_query(data, expression):
    if jmespath is None:
        raise AnsibleFilterError(f"ct_query {MISSING}.")
    expression = str.__str__(str(expression))
    try:
        plain = _plain(data)
    except RecursionError:
        raise AnsibleFilterError("The data is nested too deeply for ct_query.") from None
    try:
        if isinstance(plain, dict) and "packed" in plain:
            plain.update(unpack(plain.pop("packed")))
        return search(expression, plain)
    except PackedError as error:
        raise AnsibleFilterError(str(error)) from None
    except ValueError as error:
        raise AnsibleFilterError(f"The JMESPath expression {expression!r} cannot be evaluated: {error}") from None


def _plain(value):
    """Return the value in the types of JSON. jmespath accepts no others: it compares the exact names of types.

    Ansible has types of its own for text, numbers, dates and containers: tagged, lazy, unsafe or encrypted ones.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(element) for key, element in value.items()}
    if isinstance(value, str):
        return str.__str__(value)  # str(value) would leave the type to the type
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return str.__str__(value.isoformat())
    if getattr(value, "__ENCRYPTED__", False):  # vaulted text, before ansible-core 2.19
        return str.__str__(str(value))
    if isinstance(value, (Sequence, Set)) and not isinstance(value, (bytes, bytearray)):
        return [_plain(element) for element in value]
    return value


class FilterModule:
    def filters(self):
        return {"ct_query": untrusted(ct_query)}
