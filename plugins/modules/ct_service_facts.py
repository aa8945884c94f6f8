#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ct_service_facts: options, one call of the library, and the result."""

DOCUMENTATION = r"""
module: ct_service_facts
short_description: Gather systemd services as facts in Change Tracking & Inventory format
version_added: "0.1.0"
description:
  - Returns every systemd service unit of the host as the fact C(ct_services), with systemd's own states and those of Azure Change
    Tracking & Inventory.
  - A unit is returned once, under its own name, even if it has aliases. An instance of a template is returned if it is enabled or
    running. Units that come and go with logins and connections are returned only with O(transient=true).
  - Units that other units refer to, but that do not exist on the host, are not returned.
  - If systemd is not running, as in a container or an image, the unit files are still returned, and C(SvcState) is V(Unknown).
options:
  templates:
    description: Whether to return template unit files such as C(getty@.service), which run only as instances.
    type: bool
    default: false
  transient:
    description:
      - Whether to return units that exist only while they run. These are transient units (C(systemd-run)), the units
        that a login starts (C(user@1000.service), C(user-runtime-dir@1000.service), a getty on another console), the
        instances that a socket starts for each connection, and instances that are loaded but do not run.
      - They are not part of the inventory, because a login or a status command changes them.
    type: bool
    default: false
  fields:
    description:
      - Return only these keys of each item.
      - Ansible keeps the facts of every host in memory for the whole run. On a large fleet, select the keys that you use.
    type: list
    elements: str
    default: []
    choices: [SvcName, SvcDescription, SvcState, SvcStartupType, SvcRunlevels, SvcController, SvcPath, LoadState, ActiveState, SubState, UnitFileState]
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.direct
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

- name: Gather the state of the ssh services only
  changetracking.inventory.ct_service_facts:
    name: ["ssh", "sshd"]
    fields: [SvcName, SvcState, SvcStartupType]
"""

RETURN = r"""
ansible_facts:
  description: The facts that the module adds.
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
            - An element of the list C(items), which is sorted by name.
            - In a template, write C(ct_services['items']), because C(.items) is a method of every dictionary.
          returned: as an element of C(items)
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
                - V(Running) or V(Stopped). A service that reloads its configuration is V(Running).
                - V(Unknown) if systemd is not running.
              type: str
              sample: Running
            SvcStartupType:
              description: V(Enabled) or V(Disabled).
              type: str
              sample: Enabled
            SvcRunlevels:
              description:
                - The units that start this unit, sorted and separated by spaces. These are the units with a symlink to it in their
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
              description: systemd's property of this name, which is whether the unit file was loaded.
              type: str
              sample: loaded
            ActiveState:
              description: systemd's property of this name, which is the state that all types of units have.
              type: str
              sample: active
            SubState:
              description: systemd's property of this name, which is the detailed state of a service.
              type: str
              sample: running
            UnitFileState:
              description: systemd's property of this name, which is whether the unit file is enabled.
              type: str
              sample: enabled
        count:
          description: Number of items returned.
          type: int
          returned: always
        digest:
          description:
            - Checksum over the items. Two results with the same digest have the same items.
            - C(LoadState), C(ActiveState) and C(SubState) are left out, and so is C(SvcState) for services that systemd starts on demand.
          type: str
          returned: always
          sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        sources:
          description:
            - Status of the service manager, by its name (V(systemd)).
            - C(status) is V(ok), V(absent) (the host has no systemd) or V(failed) (the services could not be read). After V(failed),
              services may exist that are not returned.
            - C(count) is the number of units read, before any filter. C(message) has the reason for a status other than V(ok).
          type: dict
          returned: always
          sample: {systemd: {status: ok, count: 119}}
        collected_at:
          description: Time at which the services were read, in UTC.
          type: str
          returned: always
          sample: "2026-01-09T08:00:01Z"
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _compile_once  # noqa: F401  # pylint: disable=unused-import
from ..module_utils._cti.kinds.services import managers
from ..module_utils._cti.kinds.services.kind import SERVICES
from ..module_utils._cti.model import Collection, Known
from ..module_utils._facts import fact_arguments, facts
from ..module_utils._module import run

SUFFIX = ".service"  # which the names of the items do not have
OPTIONS: Dict[str, Any] = dict(
    argument_spec=dict(
        fact_arguments(SERVICES),
        templates={"type": "bool", "default": False},
        transient={"type": "bool", "default": False},
    ),
    supports_check_mode=True,
)


def main() -> None:
    module = AnsibleModule(**OPTIONS)

    names = module.params["name"]
    module.params["name"] = [name[: -len(SUFFIX)] if name.endswith(SUFFIX) else name for name in names]

    def collected() -> Collection:
        return managers.collect(Known(), module.params["templates"], module.params["transient"])

    run(module, lambda: facts(module, SERVICES, collected()))


if __name__ == "__main__":
    main()
