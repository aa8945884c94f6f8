#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: arguments, one call, exit_json."""

DOCUMENTATION = r"""
module: ct_service_facts
short_description: systemd services as facts in Change Tracking & Inventory format
version_added: "0.1.0"
description:
  - Returns every systemd service unit of the host as the fact C(ct_services), with systemd's own states and in CT&I's words.
  - A unit appears once, under its own name, whatever aliases it has. An instance of a template is included if it is enabled
    or running. Units that come and go with logins and connections are included only if O(transient=true).
  - Units that other units name but that the host does not have are left out.
  - Where systemd is not running, in a container or an image, the unit files are still returned; their states are V(unknown).
options:
  templates:
    description: Whether unit files such as C(getty@.service), which are services only as instances, are returned too.
    type: bool
    default: false
  transient:
    description:
      - Whether to return the units too that exist only while they run. These are transient units (C(systemd-run)), the units
        that a login starts (C(user@1000.service), C(user-runtime-dir@1000.service), a getty on another console), the
        instances that a socket starts for each connection, and instances that something has loaded but that do not run.
      - They are not part of the inventory, as a login or a status command changes them.
    type: bool
    default: false
  fields:
    description:
      - Keep only these keys of each item.
      - Ansible keeps the facts of every host in memory for the whole run, so on a fleet it pays to name the keys that are used.
    type: list
    elements: str
    default: []
    choices: [SvcName, SvcDescription, SvcState, SvcStartupType, SvcRunlevels, SvcController, SvcPath, LoadState, ActiveState, SubState, UnitFileState]
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.facts
seealso:
  - module: ansible.builtin.service_facts
  - module: changetracking.inventory.ct_inventory_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Gather all services
  changetracking.inventory.ct_service_facts:

- name: Gather the state of the ssh services alone
  changetracking.inventory.ct_service_facts:
    name: ["ssh", "sshd"]
    fields: [SvcName, SvcState, SvcStartupType]
"""

RETURN = r"""
ansible_facts:
  description: The fact this module adds.
  returned: always
  type: dict
  contains:
    ct_services:
      description: The service units.
      returned: always
      type: dict
      contains:
        item:
          description:
            - One of the elements of the list C(items), which holds the units sorted by name.
            - In a template, write C(['items']); C(.items) is a method of every dictionary.
          returned: as the elements of C(items)
          type: dict
          contains:
            SvcName:
              description: Name of the unit, without C(.service).
              type: str
              sample: ssh
            SvcDescription:
              description: Description of the unit.
              type: str
              sample: OpenBSD Secure Shell server
            SvcState:
              description:
                - V(Running), V(Stopped), or V(Unknown) where systemd is not running. A service that reloads its
                  configuration is running.
              type: str
              sample: Running
            SvcStartupType:
              description: V(Enabled) or V(Disabled).
              type: str
              sample: Enabled
            SvcRunlevels:
              description:
                - The units that start this one, sorted, separated by blanks. These are the units with a link to it in their
                  C(.wants), C(.requires) or C(.upholds) directory, and the targets whose unit files name it.
              type: str
              sample: multi-user.target
            SvcController:
              description: Always V(systemd).
              type: str
              sample: systemd
            SvcPath:
              description: Path of the unit file.
              type: str
              sample: /lib/systemd/system/ssh.service
            LoadState:
              description: systemd's own word.
              type: str
              sample: loaded
            ActiveState:
              description: systemd's own word.
              type: str
              sample: active
            SubState:
              description: systemd's own word.
              type: str
              sample: running
            UnitFileState:
              description: systemd's own word.
              type: str
              sample: enabled
        count:
          description: Number of items returned.
          type: int
          returned: always
        digest:
          description:
            - Equal digests mean equal items. C(LoadState), C(ActiveState) and C(SubState) are left out, and the C(SvcState) of
              services that systemd starts when they are needed.
          type: str
          returned: always
          sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        sources:
          description:
            - How the service manager fared, by its name (V(systemd)).
            - C(status) is V(ok), V(absent) (the host has no systemd) or V(failed) (there is no data, which does not mean that there
              are no managers); C(count) is the number of units read, before any filter; C(message) says why.
          type: dict
          returned: always
          sample: {systemd: {status: ok, count: 119}}
        collected_at:
          description: When the services were read, in UTC.
          type: str
          returned: always
          sample: "2026-01-09T08:00:01Z"
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cti.kinds.services import managers
from ..module_utils._cti.model import Known
from ..module_utils._module import fact_arguments, facts, run


def main():
    module = AnsibleModule(
        argument_spec=dict(
            fact_arguments("services"),
            templates={"type": "bool", "default": False},
            transient={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )

    def collected():
        return managers.collect(Known(), module.params["templates"], module.params["transient"])

    run(module, lambda: facts(module, "services", collected()))


if __name__ == "__main__":
    main()
