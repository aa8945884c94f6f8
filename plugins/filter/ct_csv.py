# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_csv: an answer about the fleet as a table for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_csv
short_description: Make CSV of an answer of ct_fleet_info
version_added: "0.2.0"
description:
  - Returns a list of mappings as CSV (RFC 4180) with a heading. It is made for C(changes), C(found), C(hosts) and C(marks) of
    M(changetracking.inventory.ct_fleet_info).
  - Of C(found), each variant is a row. Lists and mappings are one text in their cell.
  - A text that a spreadsheet would take for a formula, because it starts with C(=), C(+), C(-) or C(@), gets an apostrophe before it. What hosts
    report is in these texts.
positional: _input
options:
  _input:
    description: The rows.
    type: list
    elements: dict
    required: true
seealso:
  - module: changetracking.inventory.ct_fleet_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Get the drift of the last week
  changetracking.inventory.ct_fleet_info:
    since: 7d
    levels: [drift]
  delegate_to: localhost
  run_once: true
  register: answer

- name: Write it for a spreadsheet
  ansible.builtin.copy:
    content: "{{ answer.changes | changetracking.inventory.ct_csv }}"
    dest: drift.csv
    mode: "0600"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description: The table.
  type: str
"""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
VARIANTS = "variants"
NOT_OF_A_VARIANT = (VARIANTS, "more", "expected")


def ct_csv(rows):
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise AnsibleFilterError("ct_csv needs a list of mappings, such as changes, found or hosts of ct_fleet_info.")
    every = [row for whole in rows for row in _rows(whole)]
    columns = list(dict.fromkeys(str(name) for row in every for name in row))
    text = io.StringIO()
    # Quoted, so that no text is split where a semicolon separates the cells.
    writer = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(map(_cell, columns))
    for row in every:
        writer.writerow(_cell(row.get(name)) for name in columns)
    return text.getvalue()


def _rows(row: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The row, or one for each of its variants."""
    if not isinstance(row.get(VARIANTS), list):
        return [row]
    about = {name: value for name, value in row.items() if name not in NOT_OF_A_VARIANT}
    return [{**about, **variant} for variant in row[VARIANTS] if isinstance(variant, Mapping)]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return value
    text = _text(value)
    return "'" + text if text.startswith(FORMULA) else text


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}={_text(element)}" for name, element in value.items() if element not in (None, ""))
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_text, value))
    return str(value)


class FilterModule:
    def filters(self):
        return {"ct_csv": untrusted(ct_csv)}
