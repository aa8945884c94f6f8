# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module, with every option: run directly and as a module, it returns the same."""

import json
import os
import re
import subprocess

import pytest
import yaml

from ansible_collections.changetracking.inventory.plugins.action import (
    ct_agent_info,
    ct_file_facts,
    ct_inventory_info,
    ct_package_facts,
    ct_service_facts,
    ct_state_info,
)
from ansible_collections.changetracking.inventory.tests.integration.test_targets import (
    CORE,
    MANAGED_PYTHONS,
    ROOT,
    managed_python,
)

COLLECTION = "changetracking.inventory."
ACTIONS = (ct_agent_info, ct_file_facts, ct_inventory_info, ct_package_facts, ct_service_facts, ct_state_info)
WAYS = ("require", "never")
MICROSOFT = ROOT / "tests/unit/fixtures/bolt/microsoft.db.gz"
RULE = {
    "dataSources": {"extensions": [{"extensionName": "ChangeTracking-Linux", "extensionSettings": {
        "enableFiles": True, "enableSoftware": True, "enableServices": False, "unknown": 1,
        "fileSettings": {"fileCollectionFrequency": 900, "fileInfo": [
            {"name": "tree", "enabled": True, "destinationPath": "{tree}/*", "recurse": True, "pathType": "File"}]}}}]},
}  # fmt: skip
NO_FILES = {"enableFiles": False, "enableSoftware": True, "enableServices": False}
NO_FILES = {"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "dcr", "extensionSettings": NO_FILES}]}}
BAD_ITEMS = {"enableFiles": True, "fileSettings": {"fileInfo": [
    {"name": "bad", "destinationPath": "no/path"}, {"name": "good", "destinationPath": "{tree}/a"}]}}  # fmt: skip
BAD_ITEMS = {"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "dcr", "extensionSettings": BAD_ITEMS}]}}
AGENT = """import json, sys
print(json.dumps({"Ok": True, "Arguments": sys.argv[1:]}) if sys.argv[1] == "doctor" else "no JSON")
print("caf\\u00e9 is closed", file=sys.stderr)
"""
# Values that say when, or in which run, something was seen.
OF_A_RUN = {"RecordId", "TimeGenerated", "LastSnapshotAge", "collected_at", "state", "place", "path"}

# Module, and its options; {tree}, {state} and {scratch} are replaced. A name alone runs a command on the host between two tasks.
CASES = [
    ("ct_package_facts", {}),
    ("ct_package_facts", {"name": "bash,lib*", "fields": ["SoftwareName", "CurrentVersion"]}),
    ("ct_package_facts", {"version": ["> 0", "< 99"], "gpg_keys": True}),
    ("ct_package_facts", {"name": "bash,lib*", "fields": ["SoftwareName", "Source"]}),
    ("ct_package_facts", {"version": "foo"}),
    ("ct_package_facts", {"version": ["> 1"], "name": ["login", "bsdutils"]}),
    ("ct_package_facts", {"no_such_option": 1}),
    ("ct_package_facts", {"fields": ["NoSuchField"]}),
    ("ct_service_facts", {}),
    ("ct_service_facts", {"templates": "yes", "transient": True, "name": ["*ssh*", "get*"], "fields": ["SvcName"]}),
    ("ct_service_facts", {"templates": "perhaps"}),
    ("ct_file_facts", {"paths": ["{tree}/*"]}),
    ("ct_file_facts", {"paths": ["{tree}/*"], "recurse": False, "checksum": "md5", "type": "any", "links": "manage"}),
    ("ct_file_facts", {"paths": ["{tree}/*"], "checksum": "none", "links": "ignore", "max_files": 3, "name": ["*b*"]}),
    ("ct_file_facts", {"paths": ["/nowhere/*"], "type": "directory"}),
    ("ct_file_facts", {"dcr": RULE, "fields": ["FileSystemPath"]}),
    ("ct_file_facts", {"dcr": "{scratch}/rule.json"}),
    ("ct_file_facts", {"dcr": "recommended", "name": ["*ssh*"]}),
    ("ct_file_facts", {"dcr": "{}"}),
    ("ct_file_facts", {"dcr": RULE, "paths": ["/etc"]}),
    ("ct_inventory_info", {}),
    ("ct_inventory_info", {"kinds": "packages", "report": "full"}),
    ("ct_inventory_info", {"kinds": ["services", "files"], "report": "full", "dcr": RULE}),
    ("ct_inventory_info", {"kinds": "packages", "report": "full", "source_packages": True}),
    ("ct_inventory_info", {"kinds": "files", "report": "full", "dcr": "recommended"}),
    ("ct_inventory_info", {"report": "changes"}),
    ("ct_inventory_info", {"dcr": RULE, "state": "{state}", "report": "full", "since": 0}),
    ("printf %s changed > {tree}/a; rm {tree}/b; printf '\\377' > {tree}/new", {}),
    ("ct_inventory_info", {"dcr": RULE, "state": "{state}", "report": "changes"}, {"check_mode": True}),
    ("ct_inventory_info", {"dcr": RULE, "state": "{state}", "report": "changes"}, {"diff": True}),
    ("ct_inventory_info", {"dcr": RULE, "state": "{state}", "report": "full", "since": "1d", "history_days": "2.5",
                           "history_mib": 1, "rehash_days": 0, "known": {"files": "0" * 64}}),
    ("ct_inventory_info", {"state": "{state}", "since": "2000-01-01", "kinds": ["packages", "files", "services"]}),
    ("ct_inventory_info", {"state": "{state}", "dcr": NO_FILES, "kinds": ["packages"], "report": "changes"}),
    ("ct_inventory_info", {"dcr": BAD_ITEMS, "kinds": ["files"]}),
    ("ct_inventory_info", {"dcr": BAD_ITEMS, "kinds": ["files"], "state": "{state}", "report": "full"}),
    ("ct_inventory_info", {"state": "{state}", "since": "yesterday"}),
    ("ct_inventory_info", {"state": "relative"}),
    ("ct_inventory_info", {"state": "{state}", "history_days": 0}),
    ("ct_inventory_info", {"dcr": RULE, "state": "{state}", "forward": {"address": "tcp://127.0.0.1:1"}}),
    ("ct_inventory_info", {"dcr": RULE, "state": "{state}", "forward": {"address": "nonsense"}}),
    ("ct_inventory_info", {"dcr": RULE, "state": "{state}", "forward": {}}),
    ("ct_inventory_info", {"dcr": RULE, "state": "{state}", "forward": {"acks": "off", "address": "tls://127.0.0.1:1",
                           "tls_ca": "~/none.pem", "data_tag": "a", "change_tag": "b"}}),
    ("ct_state_info", {}),
    ("ct_state_info", {"path": "{state}"}),
    ("ct_state_info", {"path": "{state}", "report": "full", "kinds": ["files"], "since": 0}),
    ("ct_state_info", {"path": "{state}", "report": "changes"}),
    ("ct_state_info", {"path": "{scratch}", "since": 1}),
    ("ct_state_info", {"path": "~nobody_at_all/x"}),
    ("gzip -dc %s > {scratch}/microsoft.db" % MICROSOFT, {}),
    ("ct_state_info", {"path": "{scratch}/microsoft.db", "report": "full"}),
    ("ct_state_info", {"path": "{scratch}/microsoft.db", "since": 1}),
    ("ct_agent_info", {}),
    ("ct_agent_info", {"program": "{scratch}/agent.py", "config": "{scratch}/$CT_UNSET/agent.json"}),
    ("ct_agent_info", {"program": "/bin/true"}),
    ("ct_agent_info", {"program": "bin/true"}),
]  # fmt: skip


def filled(value, names):
    text = json.dumps(value)
    for name, path in names.items():
        text = text.replace("{%s}" % name, str(path))
    return json.loads(text)


def play(folder):
    """Runs each case both ways, one after the other. Each way has a state of its own."""
    names = {"tree": folder / "tree", "scratch": folder}
    tasks = [{"ansible.builtin.shell": "mkdir -p tree/below; cd tree; touch a b; echo {} > below/c; ln -s a link"}]
    for number, (module, options, *keywords) in enumerate(CASES):
        if " " in module:
            tasks.append({"ansible.builtin.shell": filled(module, names)})
            continue
        for way in WAYS:
            given = filled(options, dict(names, state=folder / ("state-%s.db" % way)))
            task = {COLLECTION + module: given, "register": "%s_%d" % (way, number), "ignore_errors": True}
            tasks.append({**task, **(keywords[0] if keywords else {}), "vars": {"ct_direct": way}})
    for way in WAYS:
        results = ", ".join("%s_%d" % (way, n) for n, case in enumerate(CASES) if " " not in case[0])
        content = {"content": "{{ [%s] | to_json }}" % results, "dest": str(folder / way)}
        tasks.append({"ansible.builtin.copy": content})
    return [{"hosts": "all", "gather_facts": False, "tasks": tasks}]


def without_run(value, names):
    if isinstance(value, dict):
        return {key: without_run(inner, names) for key, inner in value.items() if key not in OF_A_RUN}
    if isinstance(value, list):
        return [without_run(inner, names) for inner in value]
    return re.sub(r"state-(require|never)\.db", "state.db", value) if isinstance(value, str) else value


def comparable(result):
    """A result without Ansible's own keys."""
    own = ("invocation", "exception", "ansible_facts") if result.get("failed") else ("invocation",)
    kept = without_run({key: value for key, value in result.items() if key not in own}, {})
    if "warnings" in kept:
        kept["warnings"] = [re.sub(r"[\d-]{10}T[\d:]{8}Z", "TIME", text) for text in kept["warnings"]]
    return kept


@pytest.mark.parametrize("version", MANAGED_PYTHONS.get(CORE, ("3.13",)))
def test_a_module_returns_the_same_both_ways(version, tmp_path):
    (tmp_path / "rule.json").write_text(json.dumps(filled(RULE, {"tree": tmp_path / "tree"})))
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(tmp_path)))
    interpreter = "ansible_python_interpreter=" + managed_python(version)
    run = subprocess.run(
        ["ansible-playbook", "-vvv", "-i", "h,", "-c", "local", "-e", interpreter, "play.yml"],
        cwd=str(tmp_path), env=dict(os.environ, ANSIBLE_PIPELINING="1", ANSIBLE_NOCOLOR="1"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-5000:]
    cases = [case for case in CASES if " " not in case[0]]
    directly, as_module = (json.loads((tmp_path / way).read_text()) for way in WAYS)
    refused = 0
    for case, ours, theirs in zip(cases, directly, as_module):
        if "cannot run directly: its options are not valid" in ours.get("msg", ""):
            refused += 1
            assert theirs["failed"], case
        else:
            assert json.dumps(comparable(ours)) == json.dumps(comparable(theirs)), case
    assert refused == 5
    assert run.stdout.count("runs directly") >= len(cases) - refused


def test_the_cases_give_every_option():
    for action in ACTIONS:
        module = action.ActionModule.module
        given = {option for case in CASES if case[0] == module.name for option in case[1]}
        assert set(module.options["argument_spec"]) <= given, module.name
