# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_mistyped: from values of options to a sentence for each that has the wrong type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ansible.module_utils.common.validation import check_type_bool, check_type_float, check_type_int

DOCUMENTATION = r"""
name: ct_mistyped
short_description: Find options whose values have the wrong type
version_added: "0.2.0"
description:
  - Returns a sentence for each value that is not the list, the dictionary or the number, or none of the choices, that its option needs.
  - C(-e name=value) turns every value into text. Ansible accepts such text for a list or a dictionary when it validates the arguments of
    a role, and does not convert it. It does refuse other wrong values, but prints all options of the role with the refusal.
  - The roles of this collection and the playbook C(deploy) refuse such values.
positional: _input, options
options:
  _input:
    description: Values of the options, by name.
    type: dict
    required: true
  options:
    description: The options, in the format of a role's argument specification.
    type: dict
    required: true
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Refuse text
  ansible.builtin.assert:
    that: mistyped == []
    fail_msg: "{{ mistyped | join(' ') }}"
  vars:
    mistyped: "{{ {'agent_allow_users': 'me'} | changetracking.inventory.ct_mistyped({'agent_allow_users': {'type': 'list'}}) }}"
"""

RETURN = r"""
_value:
  description: One sentence for each value of a wrong type.
  type: list
  elements: str
  sample: ["agent_allow_users is 'me', which is not a list. Write it in YAML or JSON; with -e, write -e '{\"agent_allow_users\": [...]}'."]
"""

MARKUP = re.compile(r"\b[BCIMOV]\(([^()]*)\)")  # of Ansible's documentation
SHOWN = 80  # characters of a value
FORMS = {"list": "[...]", "dict": "{...}"}
SCALARS = {
    "int": (check_type_int, "a whole number. Give one without a unit"),
    "float": (check_type_float, "a number. Give one without a unit"),
    "bool": (check_type_bool, "a boolean. Give true or false"),
}


def ct_mistyped(values, options):
    return [sentence for name in sorted(values) for sentence in _sentences(name, name, values[name], options[name])]


def _sentences(variable, name, value, option):
    """Yield a sentence if the value has another type than the option; for a dictionary, also for its suboptions."""
    kind = option.get("type")
    choices = option.get("choices") if kind != "list" else None  # of a list, Ansible checks each element
    if (
        choices and not isinstance(value, bool) and str(value) not in choices
    ):  # YAML reads `off` as a boolean; Ansible accepts it
        yield f"{name} is {_shown(value)}. Use one of {', '.join(choices)}."
    if kind in SCALARS:
        check, needed = SCALARS[kind]
        try:
            check(value)
        except TypeError:
            yield f"{name} is {_shown(value)}, which is not {needed}. Meaning: {_meaning(option)}"
    if kind not in FORMS:
        return
    if not _is(kind, value):
        noun = "list" if kind == "list" else "dictionary"
        form = FORMS[kind if name == variable else "dict"]
        yield (
            f"{name} is {_shown(value)}, which is not a {noun}. Write it in YAML or JSON; with -e, write -e '{{\"{variable}\": {form}}}'."
        )
    elif kind == "dict":
        known = option.get("options", {})
        for unknown in sorted(map(str, set(value) - set(known))) if known else ():
            yield f"{name} has the unknown key {_shown(unknown)}. Known keys: {', '.join(known)}."
        for suboption, specification in known.items():
            if suboption in value:
                yield from _sentences(variable, f"{name}.{suboption}", value[suboption], specification)


def _meaning(option):
    """Return the first sentence of the description of an option."""
    described = option.get("description", "")
    first = described if isinstance(described, str) else described[0]
    return MARKUP.sub(r"\1", first.partition(". ")[0].rstrip(".")) + "."


def _is(kind, value):
    return (
        isinstance(value, Mapping)
        if kind == "dict"
        else isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    )


def _shown(value):
    if value is None:
        return "null"
    text = str(value)
    return f"'{text[:SHOWN]}{'...' if len(text) > SHOWN else ''}'"


class FilterModule:
    def filters(self):
        return {"ct_mistyped": ct_mistyped}
