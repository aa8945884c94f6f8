# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several fact modules through gather_facts, as the documentation has it: none runs as a job, which is killed after 5 s."""

import os
import subprocess
import sys

PYTHON = """#!/bin/sh
echo "$*" >> {log}
exec {python} "$@"
"""
PLAY = """
- hosts: all
  vars:
    ansible_facts_modules: [changetracking.inventory.ct_package_facts, changetracking.inventory.ct_service_facts]
    ansible_facts_parallel: false
  tasks:
    - ansible.builtin.assert: {that: [ansible_facts.ct_packages.count > 0, ansible_facts.ct_services is defined]}
"""


def test_modules_that_run_one_after_the_other_are_not_jobs(tmp_path):
    log, python, play = tmp_path / "log", tmp_path / "python", tmp_path / "play.yml"
    python.write_text(PYTHON.format(log=log, python=sys.executable))
    python.chmod(0o755)
    play.write_text(PLAY)
    run = subprocess.run(
        ["ansible-playbook", "-i", "h1,h2,", "-c", "local", "-e", "ansible_python_interpreter=%s" % python, str(play)],
        cwd=str(tmp_path), env=dict(os.environ, ANSIBLE_PIPELINING="0"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert "ct_service_facts" in log.read_text() and "async_wrapper" not in log.read_text()
