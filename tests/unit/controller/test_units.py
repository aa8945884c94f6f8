# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit of the agent has the network, and capabilities, only where it needs them."""

import re
import shlex
from pathlib import Path

import jinja2
import pytest

UNIT = Path(__file__).resolve().parents[3] / "roles/agent/templates/ctagent.service.j2"
SOCKET = "@CAgentStream_CloudAgentInfo_ChangeTracking-Linux_default_fluent.socket"
VARIABLES = {
    "ansible_managed": "managed", "agent_item_files": {"own": ""}, "agent_layout": "own", "agent_python": "/usr/bin/python3",
    "agent_program": "/usr/local/lib/ctagent/agent.pyz", "agent_user": "ctagent", "agent_memory_max": "512M", "agent_cpu_quota": "50%",
    "agent_address": SOCKET, "agent_config_address": "", "agent_upload_contents": False,
    "agent_who": "off",
}  # fmt: skip


def settings(**variables):
    """The settings of the unit: the words of each."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.tests["search"] = lambda text, pattern: re.search(pattern, text)
    environment.filters.update(bool=bool, quote=shlex.quote)
    text = environment.from_string(UNIT.read_text(encoding="utf-8")).render(dict(VARIABLES, **variables))
    return {name: value.split() for name, value in re.findall("^([A-Za-z]+)=(.*)$", text, re.MULTILINE)}


@pytest.mark.no_core
@pytest.mark.parametrize(
    "variables, network",
    [
        ({}, False),
        ({"agent_config_address": SOCKET}, False),
        ({"agent_address": "/run/tcp://x"}, False),
        ({"agent_address": "tcp://relay:24224"}, True),
        ({"agent_address": "tls://relay:24224"}, True),
        ({"agent_address": "azure:https://a.ingest.monitor.azure.com/dcr-1"}, True),
        ({"agent_upload_contents": True}, True),
    ],
)
def test_the_network_is_open_where_an_address_or_an_upload_needs_it(variables, network):
    assert settings(**variables)["RestrictAddressFamilies"] == ["AF_UNIX"] + ["AF_INET", "AF_INET6"] * network


@pytest.mark.no_core
@pytest.mark.parametrize(
    "who, socket, more, families",
    [
        ("off", None, [], ["AF_UNIX"]),
        (False, None, [], ["AF_UNIX"]),  # off, as YAML reads it
        ("read", ["ctagent-audit.socket"], [], ["AF_UNIX"]),
        ("rules", ["ctagent-audit.socket"], ["CAP_AUDIT_CONTROL"], ["AF_UNIX", "AF_NETLINK"]),
    ],
)
def test_only_rules_of_its_own_take_a_capability_more(who, socket, more, families):
    unit = settings(agent_who=who)
    assert unit.get("Sockets") == socket
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ["CAP_DAC_READ_SEARCH", *more]
    assert unit["RestrictAddressFamilies"] == families and ("ProtectProc" in unit) == (socket is None)
    as_root = settings(agent_who=who, agent_user="root")
    assert as_root["CapabilityBoundingSet"] == unit["CapabilityBoundingSet"] and "AmbientCapabilities" not in as_root
