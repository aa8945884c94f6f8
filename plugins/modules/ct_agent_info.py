#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the agent's own program, which knows best."""

DOCUMENTATION = r"""
module: ct_agent_info
short_description: Get the status of the agent on a host
version_added: "0.1.0"
description:
  - Returns what C(agent.pyz status) and C(agent.pyz doctor) say on the host, as data.
  - The task succeeds even if the agent is missing or unhealthy.
options:
  program:
    description: The agent's program. The default is that of the role P(changetracking.inventory.agent#role).
    type: path
    default: /usr/local/lib/ctagent/agent.pyz
  config:
    description: Its configuration, where that is not C(/etc/ctagent/agent.json).
    type: path
extends_documentation_fragment:
  - changetracking.inventory.attributes
notes:
  - The state belongs to the agent's user, so this needs that user or root.
seealso:
  - module: changetracking.inventory.ct_state_info
  - plugin: changetracking.inventory.ct_checks
    plugin_type: filter
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Ask the agents
  changetracking.inventory.ct_agent_info:
  become: true
  register: agent

- name: Show what is broken, and what to do
  ansible.builtin.debug:
    msg: "{{ agent.doctor.Remedy }}"
  when: agent.installed and not agent.doctor.Ok
"""

RETURN = r"""
installed:
  description: Whether the program is there.
  returned: success
  type: bool
  sample: true
status:
  description:
    - How the agent fares. C(Running); C(Pid), C(Version), C(StartedAt) of the one that runs or last did; C(Rule) with its C(Origin),
      C(Ids) and C(Warnings); C(Kinds), each with C(CollectedAt), C(Count), C(Changes), C(Failed) sources, C(Error) and, during a long run,
      C(Progress), the items so far; C(Delivery);
      and the C(Outbox) with the number of C(Records) that wait.
    - Null where its state cannot be read; RV(doctor) tells why.
  returned: when it is installed
  type: dict
  sample: {Running: true, Pid: 812, Version: 0.1.0, Outbox: {Records: 0, Bytes: 0, Oldest: null}}
doctor:
  description:
    - C(Links) are the checks from the rule to the records, each with its C(Name), C(Status) (V(ok), V(warning), V(broken), V(unknown)),
      C(Message), C(Remedy) and C(Details).
    - C(Ok) is whether no check failed (V(broken)). C(Broken) is the name of the first that did, C(Remedy) what is wrong and what to do.
    - C(Summary) is the result in one line. C(Warnings) has a sentence for each cause of a warning, and for each check whose result
      is unknown. The filter P(changetracking.inventory.ct_checks#filter) groups both by host.
  returned: when it is installed
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cti.errors import CtiError
from ..module_utils._module import check_path


def main():
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "default": "/usr/local/lib/ctagent/agent.pyz"},
            "config": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        check_path("program", module.params["program"])
        if module.params["config"] is not None:
            check_path("config", module.params["config"])
    except CtiError as error:
        module.fail_json(msg=str(error))
    if not os.path.exists(module.params["program"]):
        module.exit_json(installed=False)
    doctor, complaint = ask(module, "doctor")
    if doctor is None:
        module.fail_json(
            msg="The program '%s' does not answer: %s Correct the option program, or deploy the agent again."
            % (module.params["program"], complaint.rstrip(".") + ".")
        )
    status, complaint = ask(module, "status")
    if complaint:
        module.warn(complaint)
    module.exit_json(installed=True, status=status, doctor=doctor)


def ask(module, question):
    """The answer; or None, and what it said instead."""
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
