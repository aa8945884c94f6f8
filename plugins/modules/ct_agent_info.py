#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the agent's own program on the host and return its answers."""

DOCUMENTATION = r"""
module: ct_agent_info
short_description: Get the status of the agent on a host
version_added: "0.1.0"
description:
  - Runs C(agent.pyz status) and C(agent.pyz doctor) on the host and returns their output as data.
  - The task succeeds even if the agent is missing or unhealthy.
options:
  program:
    description: Path of the agent's program. The default is where the role P(changetracking.inventory.agent#role) installs it.
    type: path
    default: /usr/local/lib/ctagent/agent.pyz
  config:
    description: Path of the agent's configuration file. By default, the program reads C(/etc/ctagent/agent.json).
    type: path
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.direct
notes:
  - Only the user of the agent and root can read the state, so the module needs C(become) or that user.
seealso:
  - module: changetracking.inventory.ct_state_info
  - plugin: changetracking.inventory.ct_checks
    plugin_type: filter
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Get the status of the agents
  changetracking.inventory.ct_agent_info:
  become: true
  register: agent

- name: Show the first failed check and what to do
  ansible.builtin.debug:
    msg: "{{ agent.doctor.Remedy }}"
  when: agent.installed and not agent.doctor.Ok
"""

RETURN = r"""
installed:
  description: Whether the program exists on the host.
  returned: success
  type: bool
  sample: true
SourceComputerId:
  description:
    - An id of the host that does not disclose its machine-id, as in its records.
    - The callback P(changetracking.inventory.run_log#callback) stores it, so that the tasks of a host are known under each of its names.
    - Null if the host has no machine-id.
  returned: success
  type: str
  sample: 5e3a2b7c-6f0d-4c1a-9b1e-1f2a3b4c5d6e
status:
  description:
    - The status of the agent. C(Running) is whether it runs. C(Pid), C(Version) and C(StartedAt) are those of the process that runs,
      or that ran last.
    - C(Rule) has the C(Origin), C(Ids) and C(Warnings) of the data collection rule in use.
    - C(Kinds) has, for each kind, C(CollectedAt), C(Count), C(Changes), the C(Failed) sources and C(Error). C(Kept) is how many of the
      items an earlier run recorded and the last one could not read. While a long run lasts, C(Progress) is the number of items collected so far.
    - C(Delivery) is the state of the delivery. C(Outbox) has the number of C(Records) that are not delivered yet, their C(Bytes), and
      the time of the C(Oldest). If it cannot be read, for example on a full disk, these are null, and C(Error) is the reason.
    - C(Uploads) is there if contents of files are uploaded. C(Texts) is how many were since the start, C(Waiting) how many wait, and
      C(Error) why.
    - Null if the program gives no status. RV(doctor) then has the reason.
  returned: when the agent is installed
  type: dict
  sample: {Running: true, Pid: 812, Version: 0.1.0, Outbox: {Records: 0, Bytes: 0, Oldest: null}}
doctor:
  description:
    - The result of the agent's checks, from the rule to the delivery of records.
    - C(Links) has the checks in order, each with C(Name), C(Status) (V(ok), V(warning), V(broken), V(unknown)), C(Message), C(Remedy)
      and C(Details).
    - C(Ok) is V(true) if no check is V(broken). C(Broken) is the name of the first failed check, C(Remedy) what is wrong and what to do.
    - C(Summary) is the result in one line. C(Warnings) has one sentence for each cause of a warning, and for each check whose result
      is unknown. The filter P(changetracking.inventory.ct_checks#filter) groups both by cause.
  returned: when the agent is installed
  type: dict
  sample:
    Ok: false
    Broken: service
    Remedy: "No agent runs with the state in /var/lib/ctagent. Start it: systemctl start ctagent"
    Summary: "First failed check: service. No agent runs with the state in /var/lib/ctagent. Start it: systemctl start ctagent"
    Warnings: []
    Links: []
"""

import json
import os
import sys
from typing import Any, Dict, Tuple

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _compile_once  # noqa: F401  # pylint: disable=unused-import
from ..module_utils._cti import host
from ..module_utils._cti.errors import CtiError
from ..module_utils._module import check_path

OPTIONS: Dict[str, Any] = dict(
    argument_spec={
        "program": {"type": "path", "default": "/usr/local/lib/ctagent/agent.pyz"},
        "config": {"type": "path"},
    },
    supports_check_mode=True,
)


def main() -> None:
    module = AnsibleModule(**OPTIONS)
    try:
        check_path("program", module.params["program"])
        if module.params["config"] is not None:
            check_path("config", module.params["config"])
    except CtiError as error:
        module.fail_json(msg=str(error))
    if not os.path.exists(module.params["program"]):
        module.exit_json(installed=False, SourceComputerId=host.identity()["SourceComputerId"])
    doctor, complaint = ask(module, "doctor")
    if doctor is None:
        module.fail_json(
            msg="The program '%s' does not answer: %s Correct the option program, or deploy the agent again."
            % (module.params["program"], complaint.rstrip(".") + ".")
        )
    status, complaint = ask(module, "status")
    if complaint:
        module.warn(complaint)
    module.exit_json(installed=True, status=status, doctor=doctor, SourceComputerId=host.identity()["SourceComputerId"])


def ask(module: AnsibleModule, question: str) -> Tuple[Any, str]:
    """Return the answer and no text; without an answer, None and the last line of its messages."""
    command = [sys.executable, module.params["program"], question, "--json"]
    if module.params["config"]:
        command += ["--config", module.params["config"]]
    code, output, complaint = module.run_command(command)
    try:
        return json.loads(output), ""
    except ValueError:
        silence = "it ended with status %d and without an answer" % code
        return None, (complaint.strip().splitlines() or [silence])[-1]


if __name__ == "__main__":
    main()
