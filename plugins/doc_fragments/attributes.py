# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes of the modules. Most modules only read; one that differs overrides the attribute in its own documentation."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
attributes:
  action_group:
    support: full
    description: Use C(group/changetracking.inventory.ct) in C(module_defaults) to set defaults for this module.
    membership: [changetracking.inventory.ct]
  check_mode:
    support: full
    description: Can run in C(check_mode) and returns the same as without it.
  diff_mode:
    support: none
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  platform:
    support: full
    platforms: linux
    description: Target OS/families that can be operated against.
"""

    DIRECT = r"""
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
notes:
  - Runs directly where that is possible, in one call and without a file on the host, and as any module where it is not. The variable
    C(ct_direct) decides. With V(auto), the default, the module takes over where a task cannot run directly. With V(never) it always
    runs as a module. With V(require) the task fails instead. C(-vvv) shows which way a task takes, and why.
"""

    ACTION = r"""
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
"""

    AZURE = r"""
options:
  credentials:
    description:
      - How to sign in to Azure, as options of the modules of C(azure.azcollection), for example C(tenant), C(client_id) and C(secret).
      - By default, they take the environment variables C(AZURE_*), C(~/.azure/credentials), or the login of C(az login).
    type: dict
    default: {}
  timeout:
    description: Seconds within which a resource must be ready, including repeated requests while Azure is busy.
    type: float
    default: 1800
  delay:
    description: Seconds until a request is repeated. Each delay is twice the one before, up to 60 seconds.
    type: float
    default: 5
"""
