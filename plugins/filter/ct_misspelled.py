# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_misspelled: from names of variables to a sentence for each that resembles an option."""

from __future__ import annotations

import difflib
import re

from ansible.utils.vars import load_extra_vars

from ..module_utils._cti.text import line

DOCUMENTATION = r"""
name: ct_misspelled
short_description: Find misspelled variables
version_added: "0.2.0"
description:
  - Compares names of variables with names of options. Returns a sentence for each variable that resembles an option but is not one.
  - Variables that were given on the command line (C(-e)) are compared too, without regard to case, C(_) and C(-), so that
    C(agentaddress) and C(AGENT_ADDRESS) resemble C(agent_address).
  - The roles and playbooks of this collection refuse such variables, which Ansible itself ignores.
positional: _input, options, extra
options:
  _input:
    description: Names of variables that have the prefix of the options, such as C(agent_).
    type: list
    elements: str
    required: true
  options:
    description: Names of the options.
    type: list
    elements: str
    required: true
  extra:
    description:
      - Whether to return a sentence also for each unknown variable that was given on the command line (C(-e)), whatever its name is.
      - Then a variable C(hosts) counts as misspelled, unless C(ct_hosts) is set. Otherwise the playbook would run on all hosts.
      - The playbooks of this collection do so, because the prefix C(ct_) is theirs. The prefix of a role may be another role's as well.
    type: bool
    default: false
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Refuse misspelled options
  ansible.builtin.assert:
    that: misspelled == []
    fail_msg: "{{ misspelled | join(' ') }}"
  vars:
    misspelled: "{{ query('ansible.builtin.varnames', '^agent_') | changetracking.inventory.ct_misspelled(['agent_address']) }}"
"""

RETURN = r"""
_value:
  description: One sentence for each misspelled variable.
  type: list
  elements: str
  sample: ["Unknown variable 'agent_adress'. Did you mean agent_address?"]
"""

ALIKE = 0.75  # of 1; difflib's ratio
SHORTEST = 3  # characters of an option whose name may be continued: `ct_destination` is meant for `ct_dest`


def ct_misspelled(names, options, extra=False):
    given = load_extra_vars(None)  # which Ansible loaded when it started, so this reads nothing
    prefix = next(iter(options)).partition("_")[0]
    known = {option.partition("_")[2]: option for option in options}
    folded = {_folded(word): option for word, option in known.items()}
    found = {name: _meant(name.partition("_")[2], known) for name in set(names) - set(options)}
    for name in set(map(str, given)) - set(options):
        if (
            extra and _folded(name) in ("host", "hosts") and prefix + "_hosts" not in names
        ):  # it would be the whole fleet
            found[name] = prefix + "_hosts"
        elif _folded(name).startswith(prefix):
            unknown = extra and re.match(prefix + "[_-]", name, re.IGNORECASE)
            rest = _folded(name)[len(prefix) :]  # noqa: E203
            similar = found.get(name) or _meant(rest, folded)
            found[name] = similar or (unknown and _any_of(name, options))
    return [
        f"Unknown variable '{line(name, 80)}'. Did you mean {meant}?" for name, meant in sorted(found.items()) if meant
    ]


def _folded(name):
    """Return a name in lower case without separators: ct-hosts, CT_HOSTS and cthosts are one name."""
    return re.sub(r"[\W_]", "", name.lower())


def _meant(word, known):
    """Return the option that a word resembles, or None. Both are without the common prefix of all options."""
    near = difflib.get_close_matches(word, known, 1, ALIKE)
    if near:
        return known[near[0]]
    return next((known[option] for option in known if len(option) >= SHORTEST and word.startswith(option)), None)


def _any_of(name, options):
    """Return all options, the most similar one first."""
    return "one of " + ", ".join(difflib.get_close_matches(name, options, len(options), 0))


class FilterModule:
    def filters(self):
        return {"ct_misspelled": ct_misspelled}
