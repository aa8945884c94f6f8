# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles and playbooks know their variables, and refuse what resembles one of them and what matches no host."""

import re
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.changetracking.inventory.plugins.filter.ct_matching import ct_matching
from ansible_collections.changetracking.inventory.plugins.filter.ct_misspelled import ct_misspelled

ROOT = Path(__file__).parents[3]
PLUGINS = {path.stem for path in (ROOT / "plugins").glob("*/ct_*.py")}


def variables_of_role(role):
    specification = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    return list(specification["argument_specs"]["main"]["options"])


def variables_of_playbooks():
    return yaml.safe_load((ROOT / "playbooks" / "vars" / "variables.yml").read_text())["ct_variables"]


@pytest.mark.parametrize("role", ["agent", "relay"])
def test_a_role_specifies_all_its_options(role):
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    assert set(defaults) == set(variables_of_role(role))


@pytest.mark.parametrize("role", ["agent", "relay"])
def test_no_variable_that_a_role_sets_itself_resembles_an_option(role):
    texts = [path.read_text() for path in (ROOT / "roles" / role).rglob("*") if path.suffix in (".yml", ".j2")]
    own = set(re.findall(r"\b%s_\w+" % role, "\n".join(texts)))
    assert len(own) > len(variables_of_role(role)) and ct_misspelled(own, variables_of_role(role)) == []


def test_the_playbooks_know_all_their_variables():
    texts = [path.read_text() for path in (ROOT / "playbooks").glob("*.yml")]
    used = set(re.findall(r"(?<![\w.])ct_\w+", "\n".join(texts))) - PLUGINS
    assert ct_misspelled(used, variables_of_playbooks()) == []
    defaulted = set(re.findall(r"\b(ct_\w+) \| default", "\n".join(texts)))
    assert defaulted <= set(variables_of_playbooks())


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("agent_adress", "agent_address"),
        ("agent_adresss", "agent_address"),
        ("agent_config_adress", "agent_config_address"),
        ("agent_allow_user", "agent_allow_users"),
        ("agent_track_files", "agent_track"),
        ("agent_refesh", "agent_refresh"),
        ("agent_users", "agent_user"),
        ("relay_chunk", "relay_chunks"),
        ("relay_uploads", "relay_upload"),
        ("relay_max_mb", "relay_max_mib"),
        ("ct_destination", "ct_dest"),
        ("ct_dst", "ct_dest"),
        ("ct_host", "ct_hosts"),
        ("ct_kind", "ct_kinds"),
        ("ct_dcr_file", "ct_dcr"),
    ],
)
def test_a_slip_is_named_with_what_was_meant(slip, meant):
    options = variables_of_playbooks() if slip.startswith("ct_") else variables_of_role(slip.partition("_")[0])
    assert ct_misspelled([slip, meant], options) == ["There is no variable %s; did you mean %s?" % (slip, meant)]


@pytest.mark.parametrize("name", ["agent_version", "agent_port", "agent_package", "agent_enabled", "agent_hostname"])
def test_a_variable_of_another_role_is_left_alone(name):
    assert ct_misspelled([name], variables_of_role("agent")) == []


GROUPS = {"all": ["a", "b"], "ungrouped": [], "web": ["b"]}


@pytest.mark.parametrize("pattern", ["all", "web", "a:b", "all:!web", "b*", "localhost"])
def test_a_pattern_that_matches_is_returned(pattern):
    assert ct_matching(pattern, GROUPS) == pattern


def test_a_pattern_that_matches_within_the_limit_is_returned():
    assert ct_matching("web", GROUPS, "b,c") == "web"


@pytest.mark.parametrize(
    ("pattern", "limit", "words"),
    [
        ("wbe", "", "The pattern 'wbe' matches no host of the inventory; give another one with -e ct_hosts=PATTERN"),
        ("web:!b", "", "matches no host of the inventory"),
        ("web", "a", "matches no host within --limit 'a'"),
    ],
)
def test_a_pattern_that_matches_no_host_is_refused(pattern, limit, words):
    with pytest.raises(AnsibleFilterError, match=re.escape(words)):
        ct_matching(pattern, GROUPS, limit)


def test_an_inventory_without_hosts_is_refused():
    with pytest.raises(AnsibleFilterError, match="or the inventory with -i"):
        ct_matching("all", {"all": [], "ungrouped": []})
