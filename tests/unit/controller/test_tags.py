# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that send records choose the same tags."""

import os

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils import _forward
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.agent import Agent
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.doctor import _Examination
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.rule import ActiveRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import (
    CHANGE_STREAM,
    DATA_STREAM,
    default,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.address import parse
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.tls import Tls
from ansible_collections.changetracking.inventory.plugins.plugin_utils._ama_forward.delivery import Delivery, Receiver
from ansible_collections.changetracking.inventory.tests.helpers.log_lines import LogLines

OF_RULE = {CHANGE_STREAM: ("a:change", "b:change"), DATA_STREAM: ("a:data",)}
NAMES = {CHANGE_STREAM: (CHANGE_STREAM,), DATA_STREAM: (DATA_STREAM,)}
NONE = {CHANGE_STREAM: (), DATA_STREAM: ()}
GIVEN = {CHANGE_STREAM: "mine"}
LOCAL, REMOTE = ("@name", "/path"), ("tcp://localhost:1", "tls://localhost:1")


def of_agent(address, of_rule, _given, state):
    agent = Agent(AgentOptions(state=state, address=address), LogLines())
    agent._source.rule = ActiveRule("a test", {}, default()._replace(streams=of_rule))
    return agent._delivery.tags(agent._source.rule)


def of_doctor(address, of_rule, _given, state):
    examination = _Examination(AgentOptions(state=state, address=address), None)
    link = examination._streams(ActiveRule("a test", {}, default()._replace(streams=of_rule)))
    if link.status == "broken":
        assert CHANGE_STREAM in link.message and DATA_STREAM in link.message
        return NONE
    found = link.message[len("Records are sent with the tags ") : -1].split(", ")
    return {CHANGE_STREAM: tuple(found[:-1]), DATA_STREAM: tuple(found[-1:])}


def of_forward(address, of_rule, given, _state):
    option = {"address": address, "config_address": "/nowhere"}
    option.update(change_tag=given.get(CHANGE_STREAM), data_tag=given.get(DATA_STREAM))
    forward = _forward.Forward(option)
    forward._asked = default()  # AMA has a rule without tags
    return forward.tags(default()._replace(streams=of_rule))


def of_callback(address, of_rule, given, _state):
    receiver = Receiver(parse(address), parse("/nowhere"), [str(os.geteuid())], given, "auto", Tls())
    delivery = Delivery(receiver, 1)
    delivery._ask_for_tags = lambda: of_rule
    found = {}
    for stream in (CHANGE_STREAM, DATA_STREAM):
        try:
            found[stream] = delivery._tags_of(stream)
        except Exception as error:
            assert "AMA has no tag for the stream" in str(error)
            found[stream] = ()
    return found


@pytest.mark.parametrize(
    "addresses, of_rule, given, expected",
    [
        (LOCAL, OF_RULE, {}, OF_RULE),
        (LOCAL, {}, {}, NONE),
        (LOCAL, OF_RULE, GIVEN, {CHANGE_STREAM: ("mine",), DATA_STREAM: ("a:data",)}),
        (LOCAL, {}, GIVEN, {CHANGE_STREAM: ("mine",), DATA_STREAM: ()}),
        (REMOTE, OF_RULE, {}, NAMES),
        (REMOTE, {}, {}, NAMES),
        (REMOTE, OF_RULE, GIVEN, {CHANGE_STREAM: ("mine",), DATA_STREAM: (DATA_STREAM,)}),
    ],
)
@pytest.mark.parametrize("sender", [of_agent, of_doctor, of_forward, of_callback])
def test_every_sender_chooses_the_same_tags(sender, addresses, of_rule, given, expected, tmp_path):
    if given and sender in (of_agent, of_doctor):
        given, expected = {}, (of_rule or NONE) if addresses is LOCAL else NAMES  # these are given no tags
    for address in addresses:
        found = sender(address, of_rule, given, str(tmp_path / address.strip("@/").partition(":")[0]))
        assert {stream: tuple(tags) for stream, tags in found.items()} == expected
