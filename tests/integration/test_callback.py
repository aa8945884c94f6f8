# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback ama_forward, in real runs: whose records arrive, which, and how often."""

import json
import os
import subprocess

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.address import Address
from ansible_collections.changetracking.inventory.tests.helpers.runs import called

HOSTS = """
- hosts: h1,h2
  gather_facts: false
  tasks:
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/plain"}
    - action: "{{ 'changetracking.inventory.' ~ 'ct_file_facts' }}"
      args: {paths: "{{ dir }}/templated"}
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/delegated"}
      delegate_to: "{{ 'h' ~ 3 }}"
      when: inventory_hostname == 'h1'
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/loop-{{ item }}"}
      delegate_to: "{{ item }}"
      delegate_facts: true
      loop: [h2, h3]
      when: inventory_hostname == 'h1'
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/once"}
      run_once: true
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/async"}
      async: 60
      poll: 1
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/polled"}
      async: 60
      poll: 0
      register: job
    - ansible.builtin.async_status: {jid: "{{ job.ansible_job_id }}"}
      register: polled
      until: polled.finished is truthy
      delay: 1
      retries: 60
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/check"}
      check_mode: true
    - ansible.builtin.set_fact: {ct_files: {items: [{FileSystemPath: "{{ dir }}/set"}]}}
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/handler"}
      changed_when: true
      notify: gather
  handlers:
    - name: gather
      changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/handled"}
- hosts: h1,h2
  gather_facts: true
  gather_timeout: 300
  module_defaults:
    changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/gathered"}
  vars:
    ansible_facts_modules: [changetracking.inventory.ct_file_facts, changetracking.inventory.ct_service_facts]
- hosts: h1
  gather_facts: false
  strategy: free
  tasks:
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/free"}
"""


@pytest.mark.each_core
def test_each_record_bears_the_host_that_was_inventoried(place, tmp_path):
    expected = {
        "plain": ["h1", "h2"], "templated": ["h1", "h2"], "delegated": ["h3"], "loop-h2": ["h2"], "loop-h3": ["h3"],
        "once": ["h1"], "async": ["h1", "h2"], "polled": ["h1", "h2"], "handler": ["h1", "h2"], "handled": ["h1", "h2"],
        "gathered": ["h1", "h2"], "free": ["h1"],
    }  # fmt: skip
    for name in (*expected, "check", "set"):
        (tmp_path / name).write_text("")
    place.relay.start()
    run = place.play(HOSTS, "-e", "dir=%s" % tmp_path)
    assert run.status == 0, run.output
    rows = place.arrived("SELECT FileSystemPath, Computer FROM ConfigurationData WHERE ConfigDataType = 'Files'")
    assert sorted(rows) == sorted((str(tmp_path / name), host) for name, hosts in expected.items() for host in hosts)
    assert {row[0] for row in place.arrived("SELECT Computer FROM ConfigurationData WHERE SvcName <> ''")} == {
        "h1",
        "h2",
    }
    assert run.counts == (len(place.arrived("SELECT 1 FROM ConfigurationData")), 0, 0)
    assert list(place.spool.iterdir()) == []


INFO = """
- hosts: h1
  gather_facts: false
  vars: {rule: {extensionConfigurations: {ChangeTracking-Linux: [{extensionSettings: {fileSettings: {fileInfo: [
    {name: all, destinationPath: "{{ dir }}/f*", recurse: false}]}}}]}}}
  tasks:
    - &info
      changetracking.inventory.ct_inventory_info:
        kinds: [packages, files]
        report: full
        state: "{{ dir }}/state.db"
        dcr: "{{ rule }}"
      register: first
    - ansible.builtin.copy: {dest: "{{ dir }}/f2", content: two}
    - <<: *info
      register: second
    - ansible.builtin.copy:
        dest: "{{ dir }}/told.json"
        content: "{{ {'items': first | changetracking.inventory.ct_unpack, 'changes': second.changes} | to_json }}"
"""


@pytest.mark.each_core
def test_an_inventory_and_its_changes_arrive_as_the_module_returned_them(place, tmp_path):
    (tmp_path / "f1").write_text("one")
    place.relay.start()
    run = place.play(INFO, "-e", "dir=%s" % tmp_path)
    assert run.status == 0, run.output
    told = json.loads((tmp_path / "told.json").read_text())
    columns = [
        "SoftwareName",
        "SoftwareType",
        "SoftwareDescription",
        "Publisher",
        "CurrentVersion",
        "Architecture",
        "Size",
    ]
    rows = place.arrived(
        "SELECT %s FROM ConfigurationData WHERE ConfigDataType = 'Software' AND Computer = 'h1' GROUP BY %s"
        % (",".join(columns), ",".join(columns))
    )
    assert sorted(rows, key=repr) == sorted(
        (tuple(item[key] for key in columns) for item in told["items"]["packages"]), key=repr
    )
    rows = place.arrived(
        "SELECT FileSystemPath, FileContentChecksum, Mode, TimeGenerated FROM ConfigurationData WHERE FileSystemPath <> ''"
    )
    assert len(rows) == 3 and all(row[1:3] == ("", "") or row[3] for row in rows)
    (change,) = told["changes"]
    columns = [
        "FileSystemPath",
        "ConfigChangeType",
        "ChangeCategory",
        "FieldsChanged",
        "LastSnapshotAge",
        "TimeGenerated",
        "SourceComputerId",
    ]
    ((more, *row),) = place.arrived(
        "SELECT AdditionalColumns, Computer, %s FROM ConfigurationChange" % ",".join(columns)
    )
    assert row == ["h1", *(change[key] for key in columns)]
    assert json.loads(more)["ReportedComputer"] == change["Computer"] == os.uname().nodename
    assert change["FileSystemPath"] == str(tmp_path / "f2")


@pytest.mark.each_core
def test_the_playbooks_changes_are_forwarded_once(place, tmp_path):
    folder = tmp_path / "tracked"
    folder.mkdir()
    item = {"name": "all", "destinationPath": "%s/*" % folder}
    settings = {"extensionSettings": {"fileSettings": {"fileInfo": [item]}}}
    rule = {"extensionConfigurations": {"ChangeTracking-Linux": [settings]}}
    place.relay.start()
    for number, delivered in enumerate((0, 1, 0)):
        variables = {
            "ct_hosts": "h1", "ct_kinds": ["files"], "ct_dcr": rule, "ct_state": "%s/db" % tmp_path,
            "ct_dest": "%s/fetched" % tmp_path,
        }  # fmt: skip
        run = place.command(
            "ansible-playbook",
            "-i",
            str(place.inventory),
            "changetracking.inventory.inventory",
            "-e",
            json.dumps(variables),
        )
        assert run.counts == (delivered, 0, 0), run.output
        if number == 0:
            (folder / "new").write_text("new")
    rows = place.arrived("SELECT Computer, FileSystemPath, ChangeCategory FROM ConfigurationChange")
    assert rows == [("h1", str(folder / "new"), "Added")]


TROUBLE = """
- hosts: gone
  gather_facts: false
  ignore_unreachable: true
  tasks:
    - changetracking.inventory.ct_file_facts: {paths: /etc/passwd}
- hosts: h1
  gather_facts: false
  tasks:
    - block:
        - changetracking.inventory.ct_package_facts: {version: hush, name: "{{ undefined_secret }}"}
      rescue:
        - changetracking.inventory.ct_package_facts: {version: hush}
          ignore_errors: true
    - changetracking.inventory.ct_inventory_info: {dcr: "/hush/{{ item }}"}
      loop: [a, b]
      ignore_errors: true
    - changetracking.inventory.ct_service_facts:
      no_log: true
      failed_when: true
      ignore_errors: true
    - changetracking.inventory.ct_file_facts: {paths: /etc/passwd}
      failed_when: true
      ignore_errors: true
    - ansible.builtin.command: /bin/false
      ignore_errors: true
- hosts: h2
  module_defaults:
    changetracking.inventory.ct_package_facts: {version: hush}
  gather_facts: true
  gather_timeout: 300
  vars:
    ansible_facts_modules: [changetracking.inventory.ct_file_facts, changetracking.inventory.ct_package_facts]
"""


@pytest.mark.each_core
def test_a_gathering_that_failed_or_did_not_reach_the_host_is_told(place):
    place.relay.start()
    run = place.play(TROUBLE)
    assert run.status != 0
    told = place.statuses()
    assert [row[:3] for row in told] == [
        ["gone", "files", "unreachable"],
        ["h1", "", "failed"],
        ["h1", "", "failed"],
        ["h1", "packages", "failed"],
        ["h1", "packages", "failed"],
        ["h1", "services", "failed"],
        ["h2", "packages", "failed"],
    ]
    messages = {"unreachable": "The host was unreachable.", "failed": "It failed; the output of the run says why."}
    assert all(message == messages[status] for _host, _kind, status, message in told)
    rows = place.arrived("SELECT Computer FROM ConfigurationData WHERE FileSystemPath = '/etc/passwd'")
    assert rows == [("h1",)]


@pytest.mark.each_core
def test_a_host_that_gather_facts_does_not_reach_is_told_for_each_of_our_modules(place):
    place.relay.start()
    modules = "setup,changetracking.inventory.ct_file_facts,changetracking.inventory.ct_package_facts"
    place.play("- hosts: gone\n  tasks: []\n", ANSIBLE_FACTS_MODULES=modules)
    assert [row[:3] for row in place.statuses()] == [
        ["gone", "files", "unreachable"],
        ["gone", "packages", "unreachable"],
    ]


def test_a_source_that_could_not_be_read_is_told_beside_what_could(place):
    place.relay.start()
    too_long = "/tmp/" + "x" * 300
    tasks = "    - changetracking.inventory.ct_file_facts: {paths: [/etc/passwd, %s]}\n" % too_long
    run = place.play("- hosts: h1\n  gather_facts: false\n  tasks:\n" + tasks)
    assert run.counts == (2, 0, 0), run.output
    ((computer, kind, status, message),) = place.statuses()
    assert (computer, kind, status) == ("h1", "files", "failed")
    assert message == "1 source could not be read: File name too long; the output of the run says more."
    assert place.arrived("SELECT FileSystemPath FROM ConfigurationData WHERE FileSystemPath <> ''") == [
        ("/etc/passwd",)
    ]


FILES = """
- hosts: {hosts}
  gather_facts: false
  tasks:
    - changetracking.inventory.ct_file_facts: {{paths: "{folder}"}}
    - changetracking.inventory.ct_file_facts: {{paths: "{folder}/sub"}}
    - ansible.builtin.ping:
"""


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    names = ["%04d" % number for number in range(1200)] + ["sub/x"]
    for name in names:
        (folder / name).write_text(name)
    expected = [(host, str(folder / name)) for host in ("h1", "h2") for name in names]
    expected += [(host, str(folder / "sub/x")) for host in ("h1", "h2")]
    return FILES.format(hosts="h1,h2", folder=folder), sorted(expected)


def all_files(place):
    return sorted(
        place.arrived("SELECT Computer, FileSystemPath FROM ConfigurationData WHERE ConfigDataType = 'Files'")
    )


@pytest.mark.no_core
@pytest.mark.parametrize("temper", ["stalls", "closes", "silent", "dies", "absent"])
def test_what_a_bad_receiver_does_not_take_is_delivered_by_the_next_run(place, files, temper):
    play, expected = files
    good = place.address
    place.relay.start()
    if temper == "absent":
        place.address += ".absent"
    else:
        place.receiver(temper)
    run = place.play(play, acks="require")
    assert run.status == 0, run.output
    assert run.counts == (0, len(expected), 0)
    (warning,) = run.warnings
    assert ". Undelivered records stay in" in warning and warning.endswith("for the next run.")
    place.address = good
    run = place.play("- hosts: h3\n  gather_facts: false\n")
    assert run.counts == (len(expected), 0, 0), run.output
    assert all_files(place) == expected
    assert list(place.spool.iterdir()) == []


@pytest.mark.no_core
def test_the_azure_monitor_agent_is_given_everything_and_asked_for_no_acks(place, files):
    play, expected = files
    receiver = place.receiver("silent")
    place.relay.start()
    with called("mdsd"):
        assert place.play(play).counts == (len(expected), 0, 0)
    assert b"FileSystemPath" in receiver.received and b"chunk" not in receiver.received


@pytest.mark.no_core
def test_another_receiver_that_does_not_acknowledge_has_not_got_anything(place, files):
    play, expected = files
    place.receiver("silent")
    place.relay.start()
    run = place.play(play)
    assert run.counts == (0, len(expected), 0)
    assert "set acks to off" in run.output


def test_what_a_killed_run_had_gathered_is_delivered_by_the_next_one_though_a_worker_lives_on(place, tmp_path):
    good = place.address
    place.address += ".absent"
    flag = tmp_path / "flag"
    flag.write_text("")
    (tmp_path / "play.yml").write_text(
        "- hosts: h1\n  gather_facts: false\n  tasks:\n"
        "    - changetracking.inventory.ct_file_facts: {paths: /etc/passwd}\n"
        "    - ansible.builtin.shell: while [ -e %s ]; do echo >> %s.seen; sleep 0.1; done\n" % (flag, flag)
    )
    command = ["ansible-playbook", "-i", str(place.inventory), str(tmp_path / "play.yml")]
    run = subprocess.Popen(command, env=place.environment(), stdout=subprocess.DEVNULL)
    while not (tmp_path / "flag.seen").exists():
        assert run.poll() is None
    run.kill()
    run.wait()
    place.address = good
    place.relay.start()
    counts = place.play("- hosts: h3\n  gather_facts: false\n").counts
    flag.unlink()
    assert counts == (1, 0, 0)
    assert all_files(place) == [("h1", "/etc/passwd")]


@pytest.mark.no_core
def test_runs_at_once_share_a_spool_and_lose_nothing(place, files, tmp_path):
    play, expected = files
    good = place.address
    place.address += ".absent"
    assert place.play(play).counts == (0, len(expected), 0)
    place.address = good
    place.relay.start()
    command = ["ansible-playbook", "-i", str(place.inventory), str(tmp_path / "play.yml")]
    runs = [
        subprocess.Popen(command, env=place.environment(), stdout=subprocess.PIPE, universal_newlines=True)
        for _run in range(2)
    ]
    outputs = [run.communicate()[0] for run in runs]
    assert all(", spooled 0, dropped 0 records" in output for output in outputs), outputs
    assert all_files(place) == sorted(expected * 3)
    assert list(place.spool.iterdir()) == []


def test_only_the_hosts_kinds_and_records_asked_for_are_sent(place, files):
    play, _expected = files
    place.relay.start()
    play += "    - changetracking.inventory.ct_inventory_info: {report: full}\n"
    query = "ConfigDataType == 'Software' || ends_with(FileSystemPath, '7')"
    run = place.play(play, hosts="h2,h[3-9]", kinds="files", query=query)
    assert run.status == 0, run.output
    rows = place.arrived("SELECT DISTINCT Computer, ConfigDataType FROM ConfigurationData")
    assert rows == [("h2", "Files")]
    names = place.arrived("SELECT FileSystemPath FROM ConfigurationData WHERE Computer = 'h2'")
    assert len(names) == 120 and all(name.endswith("7") for (name,) in names)
    assert "left out by the query" in run.last_line


@pytest.mark.no_core
def test_a_query_leaves_out_records_on_which_it_fails_and_says_so(place):
    place.relay.start()
    tasks = "    - changetracking.inventory.ct_inventory_info: {kinds: [packages, files], report: full}\n"
    run = place.play(
        "- hosts: h1\n  gather_facts: false\n  tasks:\n" + tasks, query="starts_with(SoftwareName, 'dpkg')"
    )
    assert set(place.arrived("SELECT substr(SoftwareName, 1, 4) FROM ConfigurationData")) == {("dpkg",)}
    assert any("The query does not work on all records" in warning for warning in run.warnings), run.output


@pytest.mark.each_core
def test_an_ad_hoc_run_forwards_where_callbacks_are_loaded(place):
    place.relay.start()
    command = ["ansible", "-i", str(place.inventory), "h1,h2", "-m", "changetracking.inventory.ct_file_facts", "-a"]
    run = place.command(*command, "paths=/etc/passwd", ANSIBLE_LOAD_CALLBACK_PLUGINS=1)
    assert run.counts == (2, 0, 0)
    assert all_files(place) == [("h1", "/etc/passwd"), ("h2", "/etc/passwd")]


@pytest.mark.no_core
def test_records_wait_until_a_rule_has_a_tag_for_them(place):
    place.relay.chunks.joinpath("one.json").unlink()
    place.relay.start(wait=None)
    place.relay.expect("The relay is ready")
    play = "- hosts: h1\n  gather_facts: false\n  tasks:\n    - changetracking.inventory.ct_file_facts: {paths: /etc/passwd}\n"
    run = place.play(play)
    assert run.counts == (0, 1, 0)
    assert "AMA has no tag for the stream CONFIG_DATA_BLOB_V2" in str(run.warnings), run.output
    assert place.play(play, data_tag="mine").counts == (0, 1, 0)


@pytest.mark.no_core
def test_a_receiver_over_tcp_gets_the_streams_as_tags(place):
    receiver = place.receiver("good", Address("tcp", "127.0.0.1", 0))
    play = "- hosts: h1\n  gather_facts: false\n  tasks:\n    - changetracking.inventory.ct_file_facts: {paths: /etc/passwd}\n"
    run = place.play(play)
    assert run.counts == (1, 0, 0), run.output
    assert b"CONFIG_DATA_BLOB_V2" in receiver.received and b"/etc/passwd" in receiver.received


@pytest.mark.parametrize(
    "name, value, complaint",
    [
        ("address", "localhost:24224", "is no address"),
        ("config_address", "/" + "x" * 200, "has 1 to 107 bytes"),
        ("query", "[", "The query '[' is not valid JMESPath"),
        ("spool_max_mib", "0", "spool_max_mib is 0 and flush_deadline 10."),
        ("flush_deadline", "nan", "flush_deadline nan. Give"),
        ("acks", "maybe", "maybe"),
        ("kinds", "packages,nonsense", "nonsense"),
        ("tls_ca", "/nonexistent", "/nonexistent: cannot be used for TLS"),
    ],
)
def test_a_wrong_option_is_named_and_the_run_goes_on_without_the_callback(place, name, value, complaint):
    options = dict({name: value}, **({"address": "tls://localhost:24224"} if name == "tls_ca" else {}))
    run = place.play(
        "- hosts: h1\n  gather_facts: false\n  tasks:\n    - changetracking.inventory.ct_file_facts: {paths: /etc/passwd}\n",
        **options,
    )
    assert run.status == 0, run.output
    assert complaint in run.output and "ama_forward: delivered" not in run.output
    assert run.output.count("[WARNING]") == 1, run.output
    assert not place.spool.exists()


@pytest.mark.no_core
def test_a_spool_that_cannot_be_used_costs_the_records_and_not_the_run(place):
    place.relay.start()
    place.spool.write_text("")
    run = place.play(
        "- hosts: h1\n  gather_facts: false\n  tasks:\n    - changetracking.inventory.ct_file_facts: {paths: /etc/passwd}\n"
    )
    assert run.status == 0
    assert run.counts == (0, 0, 1)
    assert "cannot be written" in str(run.warnings), run.output


CANARY = "CanaryBird42"
WHISPER = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"secret": {"type": "str", "no_log": True}})
row = {"SoftwareName": "whispered", "Secret": module.params["secret"] + "!"}
module.exit_json(ansible_facts={"ct_packages": {"items": [row], "count": 1, "collected_at": "now", "sources": {}}})
"""
SECRETS = """
- hosts: h1,h2
  gather_facts: false
  environment: {SECRET: CanaryBird42}
  vars_files: [vault.yml]
  tasks:
    - whisper: {secret: CanaryBird42}
    - changetracking.inventory.ct_package_facts: {name: "CanaryBird42,dpkg"}
      no_log: true
    - changetracking.inventory.ct_package_facts: {version: "CanaryBird42"}
      no_log: true
      ignore_errors: true
    - changetracking.inventory.ct_package_facts: {name: "{{ item.name }}"}
      no_log: "{{ item.hide }}"
      loop: [{name: CanaryBird42, hide: true}, {name: dpkg, hide: false}]
    - changetracking.inventory.ct_inventory_info: {dcr: "{{ item }}"}
      no_log: true
      loop: [/CanaryBird42]
      ignore_errors: true
    - ansible.builtin.set_fact: {vaulted_fact: "{{ vaulted }}", ct_files: {items: [{FileSystemPath: "{{ vaulted }}"}]}}
    - changetracking.inventory.ct_package_facts: {name: "{{ [vaulted_fact, 'dpkg'] }}"}
    - changetracking.inventory.ct_package_facts: {version: "{{ vaulted_fact }}"}
      ignore_errors: true
    - changetracking.inventory.ct_inventory_info: {dcr: "/nonexistent/{{ extra }}"}
      ignore_errors: true
    - changetracking.inventory.ct_inventory_info: {dcr: {extensionConfigurations: "{{ extra }}"}}
      ignore_errors: true
    - changetracking.inventory.ct_inventory_info: {state: "/dev/null/{{ extra }}", report: changes}
      ignore_errors: true
    - changetracking.inventory.ct_service_facts: {fields: "{{ extra }}"}
      ignore_errors: true
    - changetracking.inventory.ct_service_facts: {"{{ extra }}": 1}
      ignore_errors: true
    - changetracking.inventory.ct_service_facts: {name: "{{ (extra | string).nothing.there }}"}
      ignore_errors: true
    - changetracking.inventory.ct_package_facts: {name: dpkg}
      failed_when: extra == 'CanaryBird42'
      ignore_errors: true
    - changetracking.inventory.ct_inventory_info: {report: full, kinds: [packages]}
- hosts: gone
  gather_facts: false
  vars: {ansible_user: CanaryBird42}
  tasks:
    - changetracking.inventory.ct_package_facts: {name: CanaryBird42}
"""


@pytest.mark.each_core
def test_no_secret_is_in_the_spool_or_in_what_is_sent(place, tmp_path):
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "whisper.py").write_text(WHISPER)
    (tmp_path / "password").write_text("password")
    vault = ["ansible-vault", "encrypt_string", "--vault-password-file", "password", CANARY, "-n", "vaulted"]
    encrypted = subprocess.run(
        vault, cwd=str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, universal_newlines=True
    )
    (tmp_path / "vault.yml").write_text(encrypted.stdout)
    arguments = ["--vault-password-file", "password", "-e", "extra=" + CANARY]
    options = {"data_tag": "data", "change_tag": "changes"}
    waiting = place.play(SECRETS, *arguments, **options)
    assert CANARY in waiting.output
    assert waiting.counts[1] > 100, waiting.output
    spooled = b"".join(path.read_bytes() for path in place.spool.iterdir())
    receiver = place.receiver("good")
    run = place.play(SECRETS, *arguments, **options)
    assert run.counts[0] > 200 and run.counts[1:] == (0, 0), run.output
    for text in (spooled, bytes(receiver.received)):
        assert b"dpkg" in text and b"ct_inventory_info" in text
        assert CANARY.encode() not in text and b"whispered" not in text


ONE_FILE = """
- hosts: h1
  gather_facts: false
  tasks:
    - changetracking.inventory.ct_file_facts: {paths: "{{ dir }}/f1"}
"""

JSON_CALLBACK = '''
import json
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: as_json
type: stdout
short_description: One JSON document on stdout
description: As ansible.posix.json does.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "as_json"

    def v2_playbook_on_stats(self, stats):
        print(json.dumps({"hosts": sorted(stats.processed)}))
'''


@pytest.mark.each_core
def test_the_line_at_the_end_is_not_in_the_output_of_a_callback_that_prints_json(place, tmp_path):
    (tmp_path / "as_json.py").write_text(JSON_CALLBACK)
    (tmp_path / "f1").write_text("one")
    play = tmp_path / "play.yml"
    play.write_text(ONE_FILE)
    place.relay.start()
    run = subprocess.run(
        ["ansible-playbook", "-i", str(place.inventory), str(play), "-e", "dir=%s" % tmp_path],
        env=place.environment(ANSIBLE_STDOUT_CALLBACK="as_json", ANSIBLE_CALLBACK_PLUGINS=str(tmp_path)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, check=True,
    )  # fmt: skip
    assert json.loads(run.stdout) == {"hosts": ["h1"]}
    assert "ama_forward: delivered 1, spooled 0, dropped 0 records\n" in run.stderr
