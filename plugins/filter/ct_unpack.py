# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_unpack: from packed items to lists of items by kind."""

from __future__ import annotations

from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ..module_utils._cti.packed_reader import PackedError, unpack
from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_unpack
short_description: Unpack the packed items of ct_inventory_info
version_added: "0.1.0"
description:
  - Converts the string C(packed) that M(changetracking.inventory.ct_inventory_info) returns into lists of items.
  - The string comes from a managed host, so there are limits, which a real host does not reach. The filter fails for more than 500,000
    items, for more than 256 MiB of JSON, for an item of more than 512 KiB, and for anything other than lists of items.
  - A row with the key C(LeftOut) stands for so many items that M(changetracking.inventory.ct_inventory_info) left out, because the
    host has more than these limits allow. Its first column says whose they are, the others are null.
positional: _input
options:
  _input:
    description: The string C(packed), or a result that contains it.
    type: raw
    required: true
seealso:
  - module: changetracking.inventory.ct_inventory_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Show the names of all packages
  ansible.builtin.debug:
    msg: "{{ (inventory.packed | changetracking.inventory.ct_unpack).packages | map(attribute='SoftwareName') }}"
"""

RETURN = r"""
_value:
  description: The items by kind (C(packages), C(services), C(files)), with the keys that the fact modules return.
  type: dict
"""


def ct_unpack(value):
    packed = value.get("packed", "") if isinstance(value, Mapping) else value
    try:
        return unpack(packed)
    except PackedError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self):
        return {"ct_unpack": untrusted(ct_unpack)}
