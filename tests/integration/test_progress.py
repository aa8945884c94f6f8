# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook `inventory` says how far it is, on a run that takes long, in the output of any callback."""

import os
import re
import subprocess
import sys

import pytest

PLAYBOOK = "changetracking.inventory.inventory"
LINE = re.compile(r"Inventory: (\d+) of (\d+) hosts done, (\d+) of them changed, (\d+) failed\.")
# A Python on the host that makes the run look older than it is: what was said last, was said a minute ago.
AGING_PYTHON = """#!/bin/sh
find {temporary} -name 'ct_progress_*' -exec touch -d '1 minute ago' {{}} +
exec {python} "$@"
"""


def run(folder, hosts, callback="default"):
    temporary = folder / "temporary"
    temporary.mkdir()
    aging = folder / "python"
    aging.write_text(AGING_PYTHON.format(temporary=temporary, python=sys.executable))
    aging.chmod(0o755)
    inventory = folder / "hosts"
    # The first does not answer, and the second makes the run old.
    names = ["h%d" % number for number in range(1, hosts - 1)]
    inventory.write_text(
        "[all:vars]\nansible_connection=local\nansible_python_interpreter=%s\nct_state=%s/{{ inventory_hostname }}.db\n"
        % (sys.executable, folder)
        + "[all]\ngone ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1\n"
        + "old ansible_python_interpreter=%s\n%s\n" % (aging, "\n".join(names))
    )
    done = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), PLAYBOOK, "-f", "1", "-e", '{"ct_kinds": ["packages"]}'],
        cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
        env=dict(os.environ, ANSIBLE_LOCAL_TEMP=str(temporary), ANSIBLE_STDOUT_CALLBACK=callback),
    )  # fmt: skip
    assert "unreachable" in done.stdout.lower()
    assert not list(temporary.iterdir())
    return [tuple(map(int, found)) for found in LINE.findall(done.stdout)]


@pytest.mark.parametrize(
    "callback", ["default", *(pytest.param(name, marks=pytest.mark.no_core) for name in ("minimal", "oneline"))]
)
def test_a_long_run_says_how_many_hosts_are_done_changed_and_failed(callback, tmp_path):
    assert (2, 12, 1, 1) in run(tmp_path, 12, callback)


@pytest.mark.no_core
def test_a_few_hosts_say_nothing(tmp_path):
    assert run(tmp_path, 10) == []
