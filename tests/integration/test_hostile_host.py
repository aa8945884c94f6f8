# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that answer with anything, in real runs: nothing of theirs is evaluated, the honest host is served, the run ends.

The Python interpreter of a hostile host is a script that prints an answer, whichever module is to run.
"""

import base64
import json
import re
import sqlite3
import sys
import zlib

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import forward
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import Unpacker

MEMORY = 1536 << 10  # KiB of address space, for each process of a run; 100 MB of output alone cost Ansible some 600 MiB
CONTROLS = "\x1b]0;owned\x07\x1b[2J\u009b2J\u202e\u2067\r\n"
HONEST_ID = "5e3a2b7c-6f0d-4c1a-9b1e-1f2a3b4c5d6e"


def pack(text):
    return base64.b64encode(zlib.compress(text if isinstance(text, bytes) else json.dumps(text).encode(), 9)).decode()


def answer(packed=None, changes=(), **more):
    """What an honest ct_inventory_info returns, and then some."""
    summary = {"count": 1, "digest": "sha256:0", "collected_at": "2026-01-01T00:00:00Z", "baseline": False}
    summary.update(added=1, removed=0, modified=0, sources={"dpkg": {"status": "ok", "count": 1}})
    packed = pack({"packages": [{"SoftwareName": "a"}]}) if packed is None else packed
    result = {"Computer": "h", "inventory": {"packages": summary}, "packed": packed, "changes": list(changes)}
    result["history"] = {
        "place": HONEST_ID.replace("-", "") + ":1:",
        "path": "/var/lib/state.db",
        "first": 1,
        "last": 1,
        "missed": 0,
    }
    return json.dumps(dict(result, **more))


def everywhere(text):
    """An answer to any module with this text wherever there may be one, keys included."""
    row = {"SoftwareName": text, "CurrentVersion": text, "ConfigChangeType": "Software", text: text}
    sources = {text: {"status": "failed", "message": text}, "dpkg": {"status": "failed", "message": text}}
    summary = {"count": 1, "digest": text, "collected_at": text, "sources": sources, "baseline": False, "added": 1}
    summary.update(removed=text, modified=0, items=[row])
    return json.dumps({
        "Computer": text, "SourceComputerId": text, "VMUUID": text, "inventory": {"packages": summary, text: summary},
        "packed": pack({"packages": [row], "files": [{"FileSystemPath": text}]}), "changes": [row], "files": [text],
        "msg": text, "warnings": [text], "deprecations": [{"msg": text, "version": "99.0"}], "diff": {"before": text},
        "ansible_facts": {"ct_packages": summary, text: text}, text: text, "stdout": text, "invocation": text,
        "installed": True, "status": {text: text},
        "doctor": {"Remedy": text, "Summary": text, "Warnings": [text], "Links": [text], text: text},
        "history": {"state": text, "first": text, "last": text}, "add_host": {"host_name": "added"}, "_ansible_x": text,
    })  # fmt: skip


def template(canary):
    lookup = "lookup('ansible.builtin.pipe', 'touch %s')" % canary
    return "{{ %s }}{%% if %s %%}{%% endif %%}" % (lookup, lookup)


# Each of them has one sentence in the end, and is failed.
SHAPES = {
    "nothing": "",
    "text": "hello",
    "list": "[]",
    "empty": "{}",
    "depth": '{"inventory": %s' % ("[" * 100000),
    "digits": '{"inventory": {"packages": {"count": %s, "sources": {}}}}' % ("9" * 100000),
    "items": answer(packed=pack(b'{"packages":[' + b"{}," * 44000000 + b"{}]}")),
    "size": answer(packed=pack(b'{"packages":[{"a":"' + b"x" * 300000000)),
    "nested": answer(packed=pack(b'{"packages":[{"a":' + b"[" * 1000000)),
    "cut": answer()[:-30],
    "damaged": answer(packed=pack({"packages": [{}]})[:-8]),
    "kinds": answer(packed=pack({"../../x": [{}]}), inventory={"../../x": {"count": 1, "sources": {}}}),
    "summary": answer(inventory={"packages": [1, 2]}),
    "changes": answer(changes=[1, "x"]),
    "many": answer(changes=[[]] * 300000),
}
# These are within what an honest host might return.
ODD = {
    "surrogates": answer(packed=pack(b'{"packages":[{"SoftwareName":"\\ud800"}]}'), changes=[{"SvcName": "\ud800"}]),
    "controls": answer(
        changes=[{"ConfigChangeType": "Software", "SoftwareName": CONTROLS, "ChangeCategory": CONTROLS}],
        Computer=CONTROLS,
        SourceComputerId=CONTROLS,
        msg=CONTROLS,
        warnings=[CONTROLS],
        deprecations=[{"msg": CONTROLS, "version": "99.0"}],
        diff={"before": CONTROLS, "after": ""},
        packed=pack({"packages": [{"SoftwareName": CONTROLS}]}),
        inventory={"packages": {"count": 1, "sources": {CONTROLS: {"status": "failed", "message": CONTROLS}}}},
    ),
    "db01": answer(
        Computer="honest", SourceComputerId=HONEST_ID, VMUUID=HONEST_ID, changes=[{"ConfigChangeType": "Software"}]
    ),
    "failing": answer(failed=True, msg=CONTROLS, exception=CONTROLS, module_stdout=CONTROLS, warnings=[CONTROLS]),
    "junk": answer() + "\n" + CONTROLS + "\n",
    "acts": answer(
        ansible_stats={"data": "x"}, ansible_facts={"ct_dest": "/nonexistent/x"}, add_host={"host_name": "x"}
    ),
    "large": "x" * 100000000,
}

# Hosts are named by the module that is to run on them.
FILTERS = """
- hosts: strangers
  gather_facts: false
  tasks:
    - action: "changetracking.inventory.{{ inventory_hostname }}"
      args: "{{ arguments[inventory_hostname] | default({}) }}"
      register: r
      ignore_errors: true
    - ansible.builtin.set_fact:
        k1: "{{ r }}"
        k2: "{{ hostvars[inventory_hostname].r }}"
        k3: "{{ r | changetracking.inventory.ct_query('[Computer, changes, packages, *]') }}"
        k4: "{{ hostvars[inventory_hostname].r | changetracking.inventory.ct_query('packages[0]') }}"
        k5: "{{ [inventory_hostname] | changetracking.inventory.ct_table(hostvars, 'r') }}"
        k6: "{{ [inventory_hostname] | changetracking.inventory.ct_table(hostvars, 'r') | join(', ') }}"
        k7: "{{ (r.packed | default(nothing)) | changetracking.inventory.ct_unpack }}"
        k8: "{{ [hostvars[inventory_hostname].r.packed | default(nothing)] | map('changetracking.inventory.ct_unpack') }}"
        k9: "{{ hostvars[inventory_hostname].ansible_facts }}"
        k10: "{{ [inventory_hostname] | changetracking.inventory.ct_checks(hostvars, 'r') }}"
    - ansible.builtin.set_fact: {again: "{{ [k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k10 | list] }}"}
    - ansible.builtin.debug: {msg: "{{ again }} {{ again | to_json }} {{ k6 ~ k5[1] }}"}
    - ansible.builtin.debug: {msg: "{{ item }}"}
      loop: "{{ again + k5 }}"
      when: k6 != item
    - ansible.builtin.assert: {that: ["k5 | length > 0", "k6 != ''"], success_msg: "{{ k6 }}"}
    - ansible.builtin.copy: {content: "{{ again }}{{ k6 }}", dest: "{{ scratch }}/{{ inventory_hostname }}.txt"}
      delegate_to: honest
    - ansible.builtin.debug: {msg: "{{ r | changetracking.inventory.ct_query('abs(Computer)') }}"}
      register: r
      ignore_errors: true
    - ansible.builtin.debug: {msg: "{{ r.msg }} {{ hostvars[inventory_hostname].r }}"}
"""
MODULES = (
    "ct_inventory_fetch", "ct_inventory_info", "ct_state_info", "ct_agent_info", "ct_package_facts", "ct_service_facts",
    "ct_file_facts", "ct_dcr_info",
)  # fmt: skip
ARGUMENTS = {
    "ct_inventory_fetch": {"dest": "{{ scratch }}/fetched"},
    "ct_inventory_info": {"report": "full"},
    "ct_state_info": {"state": "/nonexistent"},
    "ct_file_facts": {"paths": "/etc/passwd"},
    "ct_dcr_info": {"dcr": "{}"},
}


class Fleet:
    """An honest host, which is this machine, and hostile ones, each with its answer."""

    def __init__(self, place, answers):
        self._place = place
        lines = ["honest ansible_python_interpreter=" + sys.executable]
        for host, text in answers.items():
            folder = place.folder / "hostile" / host
            folder.mkdir(parents=True)
            (folder / "answer").write_bytes(text.encode("utf-8", "surrogatepass"))
            (folder / "python").write_text('#!/bin/sh\ncat "$1" >> %s/sent 2>&1\ncat %s/answer\n' % (folder, folder))
            (folder / "python").chmod(0o755)
            lines.append("%s ansible_python_interpreter=%s/python" % (host, folder))
        variables = ["ansible_connection=local", "scratch=%s" % place.folder, "ct_dest=%s/fetched" % place.folder]
        text = "[all]\n%s\n[strangers]\n%s\n[all:vars]\n%s\n"
        place.inventory.write_text(text % ("\n".join(lines), "\n".join(answers), "\n".join(variables)))
        self.receiver = place.receiver("good")

    def run(self, *arguments, **options):
        """In bounded memory, and with the callback."""
        command = 'ulimit -v %d; exec ansible-playbook -i %s "$@"' % (MEMORY, self._place.inventory)
        options = dict({"data_tag": "data", "change_tag": "changes"}, **options)
        run = self._place.command("sh", "-c", command, "sh", *map(str, arguments), **options)
        assert "MemoryError" not in run.output and "ama_forward: delivered " in run.output, run.output[-5000:]
        assert " failed (" not in str(run.warnings), run.warnings  # the callback's own hooks
        return run

    def play(self, text, *arguments):
        path = self._place.folder / "play.yml"
        path.write_text(text)
        return self.run(path, *arguments)

    def records(self):
        unpacker = Unpacker()
        unpacker.feed(bytes(self.receiver.received))
        return [record for value in unpacker for _time, record in forward.decode(value).entries]


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.mark.each_core
def test_no_text_of_a_host_is_evaluated_on_the_controller(place, canary):
    fleet = Fleet(place, dict.fromkeys(MODULES, everywhere(template(canary))))
    run = fleet.play(FILTERS, "-e", json.dumps({"arguments": ARGUMENTS, "nothing": pack({})}))
    assert not canary.exists(), run.output
    for host in MODULES:  # went all the way
        assert (place.folder / (host + ".txt")).exists(), run.output


@pytest.mark.each_core
def test_a_template_of_the_operator_is_evaluated_so_that_the_canary_sings(place, canary):
    fleet = Fleet(place, {})
    fleet.play("- hosts: honest\n  gather_facts: false\n  tasks: [{debug: {msg: %s}}]" % json.dumps(template(canary)))
    assert canary.exists()


@pytest.mark.each_core
def test_the_playbooks_evaluate_nothing_and_the_inventory_keeps_the_terminal_in_peace(place, canary):
    arguments = ["-e", '{"ct_kinds": ["packages"], "ansible_become": false}']
    fleet = Fleet(place, {"hostile": everywhere(template(canary)), "controls": ODD["controls"]})
    for playbook in ("doctor", "inventory"):
        run = fleet.run("changetracking.inventory." + playbook, *arguments)
        assert not canary.exists(), run.output


def steering(text):
    """The characters in a run's output that steer a terminal."""
    return set(text) & {"\x1b", "\x07", "\u009b", "\u202e", "\u2067"}


def test_no_text_of_a_host_steers_the_terminal(place):
    well = {"Ok": True, "Summary": "All checks passed.", "Warnings": []}
    warned = dict(well, Summary="Checks passed, with 1 warning: state.", Warnings=["state: Full."])
    failed = dict(warned, Ok=False, Summary="Mend " + CONTROLS, Warnings=["state: Full.", CONTROLS])
    answers = {"healthy": well, "fine": well, "warned": warned, "remedy": failed}
    answers = {host: json.dumps({"installed": True, "doctor": doctor}) for host, doctor in answers.items()}
    other = json.dumps({"installed": True, "doctor": 5, "ansible_facts": {"ct_doctor": {"a": 1}}})
    hosts = {name: ODD[name] for name in ("controls", "failing", "junk")}
    fleet = Fleet(place, {**hosts, **answers, "other": other})
    arguments = ["-e", '{"ct_kinds": ["packages"], "ct_state": "%s"}' % (place.folder / "db")]
    run = fleet.run("changetracking.inventory.inventory", "--diff", *arguments, "-l", ",".join([*hosts, "honest"]))
    for host in hosts:
        assert '"%s ' % host in run.output
    assert not steering(run.output), run.output
    assert json.loads((place.folder / "fetched/controls/Packages.json").read_text()) == [{"SoftwareName": CONTROLS}]
    arguments = ["-e", '{"ansible_become": false}', "-l", ",".join([*answers, "other"])]
    run = fleet.run("changetracking.inventory.doctor", *arguments)
    assert '"All checks passed.": "fine, healthy"' in run.output and '": "remedy"' in run.output, run.output
    assert '"Checks passed, with 1 warning: state.": "warned"' in run.output, run.output
    assert '"Warning: state: Full.": "remedy, warned"' in run.output, run.output
    assert '"No answer.": "other"' in run.output, run.output
    recap = dict(re.findall(r"^(\w+) +: .*\bfailed=(\d+)", run.output, re.MULTILINE))
    assert recap == {host: str(int(host in ("remedy", "other"))) for host in [*answers, "other"]}, run.output
    assert not steering(run.output), run.output


def test_no_fact_of_a_host_chooses_what_is_read_or_where_it_is_written(place):
    secret = place.folder / "id_ed25519"
    secret.write_text("SECRET-OF-THE-CONTROLLER")
    elsewhere = place.folder / "elsewhere"
    facts = {
        "ct_dcr": str(secret),
        "ct_dest": str(elsewhere),
        "ct_kindss": "x",
        "ansible_facts": {},
        "ct_variables": [],
    }
    fleet = Fleet(place, {"hostile": answer(ansible_facts=facts), "slip": answer(ansible_facts={"ct_kindss": "x"})})
    play = "- hosts: all\n  gather_facts: false\n  tasks: [{ansible.builtin.ping: }]\n"
    site = play + "- import_playbook: changetracking.inventory.inventory\n"
    variables = {"ct_kinds": ["packages"], "ct_state": str(place.folder / "db"), "ct_hosts": "strangers:honest"}
    run = fleet.play(site, "-e", json.dumps(variables))
    assert "The facts of hostile set ct_dcr, ct_dest, ct_kindss, which only the operator may set." in run.output
    assert "The facts of slip set ct_kindss, which only" in run.output
    assert (place.folder / "fetched/honest/Packages.json").exists(), run.output
    assert not elsewhere.exists() and not (place.folder / "fetched/hostile").exists()
    for host in ("hostile", "slip"):
        sent = (place.folder / "hostile" / host / "sent").read_text("utf-8", "replace")
        assert "AnsiballZ" in sent.replace("ANSIBALLZ", "AnsiballZ") and secret.read_text() not in sent
    role = "- hosts: all\n  gather_facts: false\n  tasks: [{ansible.builtin.ping: }]\n  roles: [changetracking.inventory.%s]\n"
    for name, option in (("agent", "agent_dcr"), ("relay", "relay_chunks")):
        value = str(secret) if name == "agent" else {"x": str(secret)}
        path = place.folder / "hostile/hostile/answer"
        path.write_text(answer(ansible_facts={option: value}))
        run = fleet.play(play + role % name, "-l", "hostile")
        assert "The facts of hostile set %s, which only the operator may set." % option in run.output, run.output


def test_a_fact_that_the_operator_sets_is_used(place):
    """A set_fact that is not cacheable is no fact of the host."""
    fleet = Fleet(place, {})
    play = "- hosts: all\n  gather_facts: false\n  tasks: [{ansible.builtin.set_fact: {ct_dest: %s}}]\n" % (
        place.folder / "mine"
    )
    variables = {"ct_kinds": ["packages"], "ct_state": str(place.folder / "db")}
    run = fleet.play(play + "- import_playbook: changetracking.inventory.inventory\n", "-e", json.dumps(variables))
    assert (place.folder / "mine/honest/Packages.json").exists(), run.output


def test_whatever_hosts_answer_the_honest_one_is_served_and_each_has_its_sentence(place):
    fleet = Fleet(place, {**SHAPES, **ODD})
    run = fleet.run(
        "changetracking.inventory.inventory",
        "-e",
        '{"ct_kinds": ["packages"], "ct_state": "%s"}' % (place.folder / "db"),
    )
    fetched = place.folder / "fetched"
    folders = {path.name for path in fetched.iterdir() if not path.name.startswith("fleet.db")}
    assert folders <= {"honest", *SHAPES, *ODD}
    with sqlite3.connect(fetched / "fleet.db") as store:
        assert dict(store.execute("SELECT Host, count(*) > 100 FROM ConfigurationData GROUP BY Host"))["honest"]
        assert {name for (name,) in store.execute("SELECT name FROM hosts")} <= {"honest", *SHAPES, *ODD}
    assert len(json.loads((fetched / "honest" / "Packages.json").read_text())) > 100
    for host in SHAPES:
        assert not (fetched / host).exists() or not list((fetched / host).iterdir()), host
    table = [line for line in run.output.splitlines() if '"' in line]
    for host in SHAPES:
        (line,) = [line for line in table if line.strip().startswith('"%s ' % host)]
        assert len(line) < 500, line
    for host in ("items", "size", "nested", "damaged", "kinds", "summary", "changes", "many"):
        assert '"%s ' % host in run.output
        (line,) = [line for line in table if line.strip().startswith('"%s ' % host)]
        assert "The host did not return an inventory" in line, line


def test_a_host_sends_no_records_as_another_one(place):
    first = answer(Computer="a-name", SourceComputerId=HONEST_ID, changes=[{"ConfigChangeType": "Software"}])
    fleet = Fleet(place, {"first": first, "db01": ODD["db01"]})
    tasks = "  tasks: [{changetracking.inventory.ct_inventory_info: {report: changes, state: /x}}]\n"
    play = "- hosts: first,db01\n  serial: 1\n  gather_facts: false\n" + tasks
    run = fleet.play(play)
    records = fleet.records()
    assert {record["Computer"] for record in records} == {"first", "db01"}
    assert {record.get("SourceComputerId") for record in records if record["Computer"] == "db01"} == {None}
    assert {record.get("SourceComputerId") for record in records if record["Computer"] == "first"} == {HONEST_ID}
    assert {record.get("ReportedComputer") for record in records if record["Computer"] == "db01"} == {None}
    name = "db01 reported the ReportedComputer 'honest', which is the inventory name of honest"
    assert any(name in warning for warning in run.warnings), run.output
    assert any("db01 reported the SourceComputerId" in warning for warning in run.warnings), run.output
