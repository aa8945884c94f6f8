# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback run_log, in real runs: which tasks it records, of which host, and what of them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.run_store import read_tasks
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.runs import Run, Task, from_line

INVENTORY = """
h1
h2
h3
gone ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1
[local]
h1
h2
h3
[local:vars]
ansible_connection=local
[all:vars]
ansible_python_interpreter={python}
"""
PLAY = """
- name: Many forms
  hosts: h1,h2
  gather_facts: true
  gather_subset: [min]
  serial: 1
  tasks:
    - {name: plain, ansible.builtin.copy: {content: "secret-content\\n", dest: "{{ dir }}/{{ inventory_hostname }}-plain", mode: "0600"}}
    - {name: unchanged, ansible.builtin.copy: {content: "secret-content\\n", dest: "{{ dir }}/{{ inventory_hostname }}-plain"}}
    - name: "templated {{ inventory_hostname }}"
      action: "{{ 'ansible.builtin.' ~ 'copy' }}"
      args: {content: x, dest: "{{ dir }}/{{ inventory_hostname }}-t"}
    - {name: loop, ansible.builtin.file: {path: "{{ dir }}/{{ inventory_hostname }}-{{ item }}", state: touch}, loop: [a, b]}
    - {name: delegated, ansible.builtin.copy: {content: x, dest: "{{ dir }}/{{ inventory_hostname }}-d"}, delegate_to: "{{ 'h' ~ 3 }}"}
    - name: delegated loop
      ansible.builtin.copy: {content: x, dest: "{{ dir }}/{{ inventory_hostname }}-{{ item }}"}
      delegate_to: "{{ item }}"
      loop: [h2, h3]
      when: inventory_hostname == 'h1'
    - {name: polled, ansible.builtin.command: {cmd: "touch {{ dir }}/{{ inventory_hostname }}-p"}, async: 60, poll: 1}
    - {name: job, ansible.builtin.command: {cmd: "touch secret-command {{ dir }}/job", chdir: "{{ dir }}"}, async: 60, poll: 0, register: job}
    - name: status
      ansible.builtin.async_status: {jid: "{{ job.ansible_job_id }}"}
      register: polled
      until: polled.finished is truthy
      delay: 1
      retries: 60
    - {name: hidden, ansible.builtin.copy: {content: x, dest: "{{ dir }}/{{ inventory_hostname }}-secret-name"}, no_log: true}
    - {name: check, ansible.builtin.copy: {content: x, dest: "{{ dir }}/{{ inventory_hostname }}-c"}, check_mode: true}
    - {name: once, ansible.builtin.copy: {content: x, dest: "{{ dir }}/once"}, run_once: true, changed_when: true, notify: handler}
    - {name: fact, ansible.builtin.set_fact: {a: b}, changed_when: true}
    - {name: skipped, ansible.builtin.command: "true", when: false}
    - block:
        - {name: fails, ansible.builtin.command: "false"}
      rescue:
        - {name: rescue, ansible.builtin.command: "true"}
  handlers:
    - {name: handler, ansible.builtin.copy: {content: "{{ inventory_hostname }}", dest: "{{ dir }}/{{ inventory_hostname }}-h"}}
- name: Free
  hosts: h1,h2,gone
  gather_facts: false
  strategy: free
  ignore_unreachable: true
  tasks:
    - {name: free, ansible.builtin.command: "true"}
"""
SECRETS = ("secret-content", "secret-command", "secret-name")


class Place:
    def __init__(self, folder):
        self.folder = folder
        self.spool = folder / "spool"
        (folder / "hosts").write_text(INVENTORY.format(python=sys.executable))
        self.environment = dict(
            os.environ,
            ANSIBLE_CALLBACKS_ENABLED="changetracking.inventory.run_log",
            ANSIBLE_LOCALHOST_WARNING="0",
            RUN_LOG_SPOOL=str(self.spool),
            COLUMNS="10000",
        )

    def start(self, text, *arguments, **options):
        (self.folder / "play.yml").write_text(text)
        return subprocess.Popen(
            ["ansible-playbook", "-i", "hosts", "play.yml", "-e", f"dir={self.folder}", *arguments],
            cwd=self.folder, env=dict(self.environment, **options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def play(self, text, *arguments, **options):
        process = self.start(text, *arguments, **options)
        output = process.communicate()[0]
        assert process.returncode in (0, 4), output
        return output

    def text(self):
        return "".join(path.read_text() for path in sorted(self.spool.iterdir()))

    def records(self):
        return [from_line(line.encode()) for line in self.text().splitlines()]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.each_core
def test_each_task_that_changed_a_host_is_recorded_once_with_what_it_named(place):
    before = time.time()
    output = place.play(PLAY)
    assert "[WARNING]: run_log" not in output
    records = place.records()
    tasks = [record for record in records if isinstance(record, Task)]
    # ansible-core shows and keeps the name as it was for the first host
    names = sorted((task.title.replace("h2", "h1"), task.host, task.outcome) for task in tasks)
    both = ["plain", "polled", "job", "hidden", "once", "rescue", "free", "handler"]
    expected = [(title, host, "changed") for title in both for host in ("h1", "h2")]
    expected += [("templated h1", host, "changed") for host in ("h1", "h2")]
    expected += [("loop", host, "changed") for host in ("h1", "h1", "h2", "h2")]
    expected += [("delegated", "h3", "changed")] * 2 + [("delegated loop", host, "changed") for host in ("h2", "h3")]
    expected += [("fails", host, "failed") for host in ("h1", "h2")]
    assert names == sorted(expected)
    assert [task.number for task in tasks] == list(range(1, len(tasks) + 1))
    assert {task.play for task in tasks} == {"Many forms", "Free"}
    assert {task.module for task in tasks} == {f"ansible.builtin.{name}" for name in ("copy", "file", "command")}
    assert all(before <= task.started_at <= task.ended_at <= time.time() for task in tasks)
    assert not [secret for secret in SECRETS if secret in place.text()]
    (hidden, _other) = [task for task in tasks if task.title == "hidden"]
    assert hidden.no_log and hidden.named == {}
    plain = next(task for task in tasks if task.title == "plain")
    assert plain.named["paths"] == [f"{place.folder}/h1-plain"]
    assert (plain.named["left"]["size"], plain.named["left"]["mode"]) == (15, "0600")
    first, second = [task for task in tasks if (task.title, task.host) == ("loop", "h1")]
    assert (first.named["paths"], second.named["paths"]) == ([f"{place.folder}/h1-a"], [f"{place.folder}/h1-b"])
    assert first.ended_at <= second.started_at
    job = next(task for task in tasks if task.title == "job")
    status = next(task for task in tasks if task.title == "hidden")
    assert job.started_at < job.ended_at <= status.started_at
    assert all(
        task.clock[0] <= 0 <= task.clock[1]
        for task in tasks
        if task.host in ("h1", "h2") and task.title != "delegated loop"
    )
    start, end = [record for record in records if isinstance(record, Run)]
    assert (start.ended_at, start.hosts, end._replace(ended_at=None, hosts={})) == (None, {}, start)
    assert (end.playbook, end.check_mode, sorted(end.hosts)) == ("play.yml", False, ["h1", "h2", "h3"])
    assert end.hosts["h1"]["identity"] and all(task.ended_at <= end.ended_at for task in tasks)


def test_check_mode_records_the_run_and_no_task(place):
    place.play(PLAY.partition("- name: Free")[0].partition("    - {name: polled")[0], "--check")
    start, end = place.records()
    assert start.check_mode and end.check_mode and end.ended_at


def test_a_run_that_is_killed_leaves_what_it_did(place):
    play = "- {hosts: h1, gather_facts: false, tasks: [{ansible.builtin.command: 'true'}, {ansible.builtin.pause: {seconds: 600}}]}"
    process = place.start(play)
    try:
        until = time.monotonic() + 120
        while not place.spool.exists() or len(place.records()) < 2:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run, task = place.records()
    assert (run.uuid, run.ended_at, task.host) == (task.run, None, "h1")
    store = str(place.folder / "fleet.db")
    place.play("- {hosts: h2, gather_facts: false, tasks: [{ansible.builtin.command: 'true'}]}", RUN_LOG_STORE=store)
    with open_store(store) as opened:
        assert sorted(task.host for task in read_tasks(opened)) == ["h1", "h2"]
        assert [one.run for one in read_tasks(opened, ["h1"])] == [run.uuid]
        ends = opened.query("SELECT ended_at IS NULL FROM runs ORDER BY run")
    assert [bool(end) for (end,) in ends] == [True, False]
    assert list(place.spool.iterdir()) == []


@pytest.mark.no_core
def test_a_store_that_cannot_be_written_costs_nothing(place):
    output = place.play(
        "- {hosts: h1, gather_facts: false, tasks: [{ansible.builtin.command: 'true'}]}", RUN_LOG_STORE="/proc/fleet.db"
    )
    said = "".join(output.split())  # ansible-core breaks lines, also within words
    assert "[WARNING]:run_log:" in said and f"Therecordsstayin{place.spool}forthenextrun." in said
    assert [type(record) for record in place.records()] == [Run, Task, Run]
