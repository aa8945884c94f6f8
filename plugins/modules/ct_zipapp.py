#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: ct_zipapp
short_description: The agent or the relay on a host, as one file
version_added: "0.1.0"
description:
  - Builds a program of this collection on the controller and copies it to the host, where a Python of 3.6 or later runs it.
  - The same version of the collection gives the same bytes on every controller, so that a task is changed only where the host has another program.
  - The file is replaced at once, belongs to root, and everybody may run it.
  - The roles C(agent) and C(relay) use this module, and make a service of the program.
options:
  program:
    description: Which one.
    type: str
    choices: [agent, relay]
    required: true
  dest:
    description:
      - Path of the file on the host, in a folder that exists.
      - Required, unless O(check) is given. Without it nothing is copied.
    type: path
  check:
    description:
      - Arguments of the program's command C(check), which is run on the controller before anything is copied.
      - The task fails with the program's message where its options are not valid.
    type: list
    elements: str
  stdin:
    description: What that command reads from its standard input.
    type: str
    default: ""
attributes:
  check_mode:
    description: Can run in C(check_mode); says whether the host has another program.
  diff_mode:
    support: partial
    description: Names the files. The program is not text.
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
seealso:
  - module: ansible.builtin.copy
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Install the relay, to be run by other means than systemd
  changetracking.inventory.ct_zipapp:
    program: relay
    dest: /usr/local/bin/relay.pyz

- name: Validate a configuration of the agent on the controller
  changetracking.inventory.ct_zipapp:
    program: agent
    check: [--config, /dev/stdin]
    stdin: "{{ {'address': 'tcp://collector.example.org:24224'} | to_json }}"
"""

RETURN = r"""
dest:
  description: Path of the file on the host.
  returned: when O(dest) is given
  type: str
  sample: /usr/local/bin/relay.pyz
checksum:
  description: SHA-1 of the program.
  returned: when O(dest) is given
  type: str
  sample: 6e642bb8dd5c2e027bf21dd923337cbb4214f827
"""
