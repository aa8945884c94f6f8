#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin ct_zipapp."""

DOCUMENTATION = r"""
module: ct_zipapp
short_description: Install the program of the agent or the relay as one file
version_added: "0.1.0"
description:
  - Builds the agent or the relay on the controller as one file and copies it to the host. The file needs Python 3.6 or later on the
    host, and nothing else.
  - The same version of the collection builds the same bytes on every controller. The task reports a change only if the file on the
    host differs.
  - The file is replaced atomically. It belongs to root, and every user can run it.
  - The roles P(changetracking.inventory.agent#role) and P(changetracking.inventory.relay#role) use this module and run the program as
    a service.
options:
  program:
    description: The program to build.
    type: str
    choices: [agent, relay]
    required: true
  dest:
    description:
      - Absolute path of the file on the host. The parent directory must exist.
      - If it is not given, nothing is copied. Either O(dest) or O(check) is required.
    type: path
  check:
    description:
      - Arguments for the program's command C(check), which validates them on the controller before anything is copied.
      - If an argument is not valid, the task fails with the program's message.
    type: list
    elements: str
  stdin:
    description: Text for the standard input of the program's command C(check).
    type: str
    default: ""
  validate:
    description:
      - A command to run on the host before the file replaces the one at O(dest). C(%s) in it is the path of the new file.
      - If the command fails, the task fails with the last line of its standard error, and the file at O(dest) is unchanged.
    type: str
attributes:
  check_mode:
    description: Can run in C(check_mode); reports whether the file on the host differs.
  diff_mode:
    support: partial
    description: Shows the names of the files. The program is not text.
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
seealso:
  - module: ansible.builtin.copy
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Install the relay without a systemd service
  changetracking.inventory.ct_zipapp:
    program: relay
    dest: /usr/local/bin/relay.pyz

- name: Validate a configuration of the agent on the controller
  changetracking.inventory.ct_zipapp:
    program: agent
    check: [--config, /dev/stdin]
    stdin: "{{ {'address': 'tcp://collector.example.org:24224'} | to_json }}"

- name: Install the agent, unless a newer version wrote its state
  changetracking.inventory.ct_zipapp:
    program: agent
    dest: /usr/local/bin/agent.pyz
    validate: python3 %s check --config= --state=/var/lib/ctagent
"""

RETURN = r"""
dest:
  description: Path of the file on the host.
  returned: when O(dest) is given
  type: str
  sample: /usr/local/bin/relay.pyz
checksum:
  description: SHA-1 checksum of the file.
  returned: when O(dest) is given
  type: str
  sample: 6e642bb8dd5c2e027bf21dd923337cbb4214f827
mode:
  description: Permissions of the file.
  returned: when O(dest) is given, outside of check mode
  type: str
  sample: "0755"
owner:
  description: Owner of the file.
  returned: when O(dest) is given, outside of check mode
  type: str
  sample: root
group:
  description: Group of the file.
  returned: when O(dest) is given, outside of check mode
  type: str
  sample: root
uid:
  description: Number of the owner.
  returned: when O(dest) is given, outside of check mode
  type: int
  sample: 0
gid:
  description: Number of the group.
  returned: when O(dest) is given, outside of check mode
  type: int
  sample: 0
size:
  description: Size of the file in bytes.
  returned: when O(dest) is given, outside of check mode
  type: int
  sample: 183204
state:
  description: Type of the entry at O(dest).
  returned: when O(dest) is given, outside of check mode
  type: str
  sample: file
"""
