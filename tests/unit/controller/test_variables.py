# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles and playbooks know their variables, and refuse what resembles one of them and what matches no host."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.changetracking.inventory.plugins.filter import ct_claimed
from ansible_collections.changetracking.inventory.plugins.filter.ct_matching import ct_matching
from ansible_collections.changetracking.inventory.plugins.filter.ct_misspelled import ct_misspelled
from ansible_collections.changetracking.inventory.plugins.filter.ct_mistyped import ct_mistyped
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.last_known import PLAYBOOK_STATE

ROOT = Path(__file__).parents[3]
PLUGINS = {path.stem for path in (ROOT / "plugins").glob("*/ct_*.py")}


def variables_of_role(role):
    specification = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    return list(specification["argument_specs"]["main"]["options"])


def variables_of_playbooks():
    return yaml.safe_load((ROOT / "playbooks" / "vars" / "variables.yml").read_text())["ct_variables"]


@pytest.mark.parametrize("role", ["agent", "azure", "relay"])
def test_a_role_specifies_all_its_options(role):
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    assert set(defaults) == set(variables_of_role(role))


@pytest.mark.parametrize("role", ["agent", "azure", "relay"])
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


def test_the_documentation_and_the_message_about_no_state_name_the_state_of_the_playbook():
    assert "ct_state | default('%s')" % PLAYBOOK_STATE in (ROOT / "playbooks" / "inventory.yml").read_text()
    for page in ("adhoc", "fleet"):
        text = (ROOT / "docs" / (page + ".md")).read_text()
        assert set(re.findall(r"\b(?:state|path)[=:] ?([^\s\"]+\.db)", text.replace("ct_state", ""))) == {
            PLAYBOOK_STATE
        }, page


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
    assert ct_misspelled([slip, meant], options) == ["Unknown variable '%s'. Did you mean %s?" % (slip, meant)]


@pytest.mark.parametrize("name", ["agent_version", "agent_port", "agent_package", "agent_enabled", "agent_hostname"])
def test_a_variable_of_another_role_is_left_alone(name):
    assert ct_misspelled([name], variables_of_role("agent")) == []


@pytest.mark.parametrize(("name", "nearest"), [("ct_dir", "ct_dcr"), ("ct_folder", "ct_hosts"), ("ct_x", "ct_dcr")])
def test_any_unknown_variable_that_was_given_with_e_is_named_with_the_known_ones(monkeypatch, name, nearest):
    options = variables_of_playbooks()
    monkeypatch.setattr(
        "ansible.utils.vars.load_extra_vars.extra_vars", {name: 1, "ct_dcr": 1, "other": 1}, raising=False
    )
    (sentence,) = ct_misspelled([name, "ct_dcr", "ct_register"], options, extra=True)
    start = "Unknown variable '%s'. Did you mean one of " % name
    assert sentence.startswith(start)
    assert sorted(sentence[len(start) : -1].split(", ")) == sorted(options)
    assert ct_misspelled([name], options) == []


@pytest.mark.parametrize("name", ["cthosts", "ct-hosts", "CT_HOSTS", "ctHosts", "Ct-host", "ct.hosts", "ct_Hosts"])
@pytest.mark.parametrize("extra", [True, False])
def test_a_variable_of_the_command_line_is_named_however_its_words_are_joined(monkeypatch, name, extra):
    given = {name: 1, "connection": 1, "octohosts": 1}
    monkeypatch.setattr("ansible.utils.vars.load_extra_vars.extra_vars", given, raising=False)
    assert ct_misspelled([], variables_of_playbooks(), extra) == [f"Unknown variable '{name}'. Did you mean ct_hosts?"]


def test_hosts_is_named_by_the_playbooks_unless_their_own_variable_is_set(monkeypatch):
    monkeypatch.setattr("ansible.utils.vars.load_extra_vars.extra_vars", {"hosts": "web01"}, raising=False)
    options = variables_of_playbooks()
    assert ct_misspelled([], options, extra=True) == ["Unknown variable 'hosts'. Did you mean ct_hosts?"]
    assert ct_misspelled(["ct_hosts"], options, extra=True) == ct_misspelled([], options) == []


@pytest.mark.parametrize("name", ["agentaddress", "agent-address", "AGENT_ADDRESS", "agent_ADDRESS"])
def test_a_role_names_such_a_variable_too(monkeypatch, name):
    monkeypatch.setattr("ansible.utils.vars.load_extra_vars.extra_vars", {name: 1}, raising=False)
    (sentence,) = ct_misspelled([], variables_of_role("agent"))
    assert sentence.endswith("Did you mean agent_address?")


@pytest.mark.parametrize("name", ["CT_FOLDER", "ct-folder"])
def test_a_playbook_names_an_unknown_variable_with_its_prefix_in_any_case(monkeypatch, name):
    monkeypatch.setattr("ansible.utils.vars.load_extra_vars.extra_vars", {name: 1}, raising=False)
    assert "Did you mean one of " in ct_misspelled([], variables_of_playbooks(), extra=True)[0]
    assert ct_misspelled([], variables_of_playbooks()) == []


def claimed(facts, options=("ct_dcr", "ct_dest")):
    return ct_claimed.ct_claimed(facts, list(options), "web01")


def test_a_fact_named_like_an_option_is_refused_and_others_are_not():
    assert claimed({"ct_packages": {}, "ct_services": {}, "ct_files": {}, "dcr": 1, "distribution": "x"}) == []
    (sentence,) = claimed({"ct_dest": "/x", "ct_dcr": "/y", "ct_packages": {}})
    assert sentence.startswith(
        "The facts of web01 set ct_dcr, ct_dest, which only the operator may set. Clear its facts"
    )
    assert "set ct_dst\\x1b, which" in claimed({"ct_dst\x1b": 1})[0]
    assert "(5 of 900)" in claimed({"ct_dest%d" % number: 1 for number in range(900)})[0]


@pytest.mark.parametrize("name", ["azure_deploy", "azure_remove", "deploy", "doctor", "inventory", "uninstall"])
def test_a_playbook_refuses_such_facts_before_anything_else_and_for_each_host(name):
    (play,) = yaml.safe_load((ROOT / "playbooks" / (name + ".yml")).read_text())
    first = (play.get("pre_tasks") or play["tasks"])[0]
    assert first["ansible.builtin.assert"]["that"] == "ct_claimed == []" and "run_once" not in first


@pytest.mark.parametrize("role", ["agent", "azure", "relay"])
def test_a_role_refuses_such_facts_before_anything_else(role):
    first = yaml.safe_load((ROOT / "roles" / role / "tasks/main.yml").read_text())[0]
    assert first["ansible.builtin.assert"]["that"] == role + "_claimed == []"


GROUPS = {"all": ["a", "b"], "ungrouped": [], "web": ["b"]}


@pytest.fixture
def mismatches_are_warnings(monkeypatch):
    """Ansible's default, which ansible-test sets to errors."""
    monkeypatch.setattr("ansible.constants.HOST_PATTERN_MISMATCH", "warning")


@pytest.mark.parametrize("pattern", ["all", "web", "a:b", "all:!web", "b*", "localhost"])
def test_a_pattern_that_matches_is_returned(pattern):
    assert ct_matching(pattern, GROUPS) == pattern


def test_a_pattern_that_matches_within_the_limit_is_returned(mismatches_are_warnings):
    assert ct_matching("web", GROUPS, "b,c") == "web"
    assert ct_matching("localhost", GROUPS, "localhost") == "localhost"


@pytest.mark.parametrize(
    ("pattern", "limit", "words"),
    [
        (
            "wbe",
            "",
            "The host pattern 'wbe' matches no host in the inventory. Give another pattern with -e ct_hosts=PATTERN",
        ),
        ("web:!b", "", "matches no host in the inventory"),
        ("web", "a", "matches no host within --limit 'a'"),
        ("localhost", "a", "matches no host within --limit 'a'"),
    ],
)
def test_a_pattern_that_matches_no_host_is_refused(mismatches_are_warnings, pattern, limit, words):
    with pytest.raises(AnsibleFilterError, match=re.escape(words)):
        ct_matching(pattern, GROUPS, limit)


def test_an_inventory_without_hosts_is_refused():
    with pytest.raises(AnsibleFilterError, match="or another inventory with -i"):
        ct_matching("all", {"all": [], "ungrouped": []})


OPTIONS = {
    "a_list": {"type": "list"},
    "a_dict": {"type": "dict", "options": {"files": {"type": "list"}, "every": {"type": "int"}}},
    "a_number": {"type": "int"},
    "anything": {"type": "raw"},
    "a_text": {},
    "a_choice": {"choices": ["auto", "off"]},
    "a_fraction": {"type": "float", "description": ["Seconds between A and B. More.", "Even more."]},
    "a_switch": {"type": "bool", "description": "Whether to"},
}


def test_values_of_the_right_type_are_accepted():
    values = {
        "a_list": ["x"],
        "a_dict": {"files": [], "every": "5"},
        "a_number": "1",
        "anything": "{}",
        "a_text": "['x']",
    }
    assert ct_mistyped(values, OPTIONS) == []
    assert ct_mistyped({"a_list": [], "a_dict": {}}, OPTIONS) == []
    for values in ({"a_fraction": 5}, {"a_fraction": "0.5"}, {"a_switch": "yes"}, {"a_switch": 1}, {"a_choice": "off"}):
        assert ct_mistyped(values, OPTIONS) == []
    assert ct_mistyped({"a_choice": False}, OPTIONS) == []  # `off` in YAML, which Ansible accepts


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "a_list",
            "me",
            "a_list is 'me', which is not a list. Write it in YAML or JSON; with -e, write -e '{\"a_list\": [...]}'.",
        ),
        ("a_list", {"me": 1}, "a_list is '{'me': 1}', which is not a list. "),
        ("a_list", None, "a_list is null, which is not a list. "),
        ("a_dict", "{'files': ['/etc']}", "a_dict is '{'files': ['/etc']}', which is not a dictionary. "),
        ("a_dict", "x" * 200, "a_dict is '%s...', which is not a dictionary. " % ("x" * 80)),
        (
            "a_dict",
            {"files": "/etc"},
            "a_dict.files is '/etc', which is not a list. Write it in YAML or JSON; with -e, write -e '{\"a_dict\": {...}}'.",
        ),
        (
            "a_fraction",
            "5m",
            "a_fraction is '5m', which is not a number. Give one without a unit. Meaning: Seconds between A and B.",
        ),
        ("a_dict", {"every": "5m"}, "a_dict.every is '5m', which is not a whole number. Give one without a unit."),
        ("a_dict", {"evry": 5}, "a_dict has the unknown key 'evry'. Known keys: files, every."),
        ("a_switch", "maybe", "a_switch is 'maybe', which is not a boolean. Give true or false. Meaning: Whether to."),
        ("a_choice", "on", "a_choice is 'on'. Use one of auto, off."),
    ],
)
def test_a_value_of_another_type_is_named_with_what_to_write(name, value, sentence):
    (found,) = ct_mistyped({name: value}, OPTIONS)
    assert found.startswith(sentence)


def test_a_meaning_is_shown_without_the_markup_of_the_documentation():
    option = {"type": "bool", "description": ["With O(agent_who), as V(auto) of C(audit). More."]}
    (found,) = ct_mistyped({"a_switch": "maybe"}, {"a_switch": option})
    assert found.endswith("Meaning: With agent_who, as auto of audit.")


def test_the_files_of_agent_track_keep_their_order(tmp_path):
    """The first item that matches a file decides how it is tracked."""
    given = ["/a", {"destinationPath": "/b", "checksum": "Md5"}, 'c"\\ \u00e4\n', 5, "/a"]
    paths = [{"name": path, "destinationPath": path} for path in given if isinstance(path, str)]
    command = [
        shutil.which("ansible", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])),
        "localhost", "-m", "ansible.builtin.copy", "-a", "content={{ agent_rule_of_track | to_json }} dest=%s" % (tmp_path / "rule"),
        "-e", "@%s" % (ROOT / "roles/agent/vars/main.yml"), "-e", json.dumps({"agent_track": {"files": given}}),
    ]  # fmt: skip
    subprocess.run(command, check=True, env=dict(os.environ, ANSIBLE_HOME=str(tmp_path)), timeout=300)
    (rule,) = json.loads((tmp_path / "rule").read_text())["extensionConfigurations"]["ChangeTracking-Linux"]
    items = rule["extensionSettings"]["fileSettings"]["fileInfo"]
    assert items == [paths[0], given[1], paths[1], 5, paths[2]]


def run_playbook(tmp_path, playbook, given):
    """The output of ansible-playbook on this machine, which fails before it does anything."""
    command = [
        shutil.which("ansible-playbook", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])),
        "-i",
        "localhost,",
        "-c",
        "local",
        str(playbook),
    ]
    environment = dict(os.environ, ANSIBLE_HOME=str(tmp_path), ANSIBLE_NOCOLOR="1")
    done = subprocess.run(
        [*command, "-e", given],
        check=False,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    assert done.returncode == 2
    return " ".join(done.stdout.decode().split())


def run_role(tmp_path, role, given):
    play = [{"hosts": "localhost", "gather_facts": False, "roles": ["changetracking.inventory." + role]}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    return run_playbook(tmp_path, tmp_path / "play.yml", given)


@pytest.mark.parametrize("name", ["azure_deploy", "azure_remove", "deploy", "doctor", "inventory", "uninstall"])
def test_a_playbook_refuses_a_variable_that_it_does_not_know_before_it_does_anything(tmp_path, name):
    output = run_playbook(tmp_path, "changetracking.inventory." + name, "ct_dir=/srv ansible_become=false")
    assert "Unknown variable 'ct_dir'. Did you mean one of ct_" in output.replace("\\'", "'")
    assert "changed=0" in output


@pytest.mark.parametrize(
    ("role", "given", "sentence"),
    [
        (
            "agent",
            "agent_track={'files':['/etc/ssh'],'files_every':300}",
            "agent_track is '{'files':['/etc/ssh'],'files_every':300}', which is not a dictionary.",
        ),
        ("agent", "agent_allow_users=ctrelay", "agent_allow_users is 'ctrelay', which is not a list."),
        ("agent", '{"agent_track": {"files": "/etc/ssh"}}', "agent_track.files is '/etc/ssh', which is not a list."),
        (
            "relay",
            "relay_chunks={'inventory':'dcr.json'}",
            "relay_chunks is '{'inventory':'dcr.json'}', which is not a dictionary.",
        ),
        (
            "relay",
            '{"relay_chunks": {"inventory.json": "dcr.json"}}',
            "Give file names without / and without .json.",
        ),
    ],
)
def test_a_role_refuses_such_a_value_before_it_does_anything(tmp_path, role, given, sentence):
    output = run_role(tmp_path, role, given)
    assert sentence in output.replace("\\'", "'").replace('\\"', '"')
    assert "changed=0" in output


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("agent_refresh=5m", "agent_refresh is '5m', which is not a number. Give one without a unit."),
        ("agent_acks=on", "agent_acks is 'on'. Use one of auto, require, off."),
        ("relay_listn=tcp://0.0.0.0:24224", "Unknown variable 'relay_listn'. Did you mean relay_listen?"),
    ],
)
def test_deploy_refuses_such_a_value_in_one_sentence(tmp_path, given, sentence):
    output = run_playbook(tmp_path, "changetracking.inventory.deploy", given + " ansible_become=false")
    assert sentence in output.replace("\\'", "'")
    assert "changed=0" in output and "argument_spec_data" not in output
