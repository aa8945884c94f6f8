# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs each target as a play, as a user would, with the ansible-playbook of the environment this runs in.

A target is a role of assertions. It runs on this machine with Pythons that this ansible-core supports on a managed node;
one that is not here is an error under CI.
"""

import os
import subprocess
from pathlib import Path

import pytest
from ansible.release import __version__ as release

TARGETS = Path(__file__).parent / "targets"
ROOT = Path(__file__).parents[2]
# The oldest that each supports but the newest, with which molecule runs the targets on older ones.
MANAGED_PYTHONS = {"2.16": ("3.6",), "2.18": ("3.8",), "2.19": ("3.8",), "2.21": ("3.13",)}
# The way that tasks take: on one version that of any module, see docs/direct.md.
WAYS = {"2.18": "never"}
# The targets of what can run directly, and of ways to gather.
AS_MODULES = ("ct_file_facts", "ct_inventory_info", "ct_package_facts", "ct_service_facts", "gather_facts")
# The targets of what reads files of the controller.
NO_CORE = ("ct_fleet_info", "ct_fleet_mark", "ct_zipapp")

CORE = ".".join(release.split(".")[:2])

PLAY = """
- name: {target}
  hosts: localhost
  gather_facts: false
  vars:
    scratch: {scratch}
    controller_scratch: {scratch}
    ansible_python_interpreter: {interpreter}
    ct_direct: {way}
  roles:
    - role: {targets}/{target}
"""


def managed_python(version):
    found = subprocess.run(
        [ROOT / "tests/tools/find-python", version], stdout=subprocess.PIPE, universal_newlines=True, check=False
    )
    if found.returncode:
        assert not os.environ.get("CI"), "Python %s is not on this machine" % version
        pytest.skip("Python %s is not on this machine" % version)
    return found.stdout.strip()


def marked():
    for name in sorted(path.name for path in TARGETS.iterdir()):
        marks = {"as_modules": name in AS_MODULES, "no_core": name in NO_CORE}
        yield pytest.param(name, marks=[getattr(pytest.mark, mark) for mark, has in marks.items() if has])


@pytest.mark.parametrize("version", MANAGED_PYTHONS.get(CORE, ("3.13",)))
@pytest.mark.parametrize("target", list(marked()))
def test_target(target, version, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    play = tmp_path / "play.yml"
    play.write_text(
        PLAY.format(
            target=target,
            scratch=scratch,
            targets=TARGETS,
            interpreter=managed_python(version),
            way=WAYS.get(CORE, "auto"),
        ),
        encoding="utf-8",
    )
    run = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-c", "local", str(play)],
        cwd=str(tmp_path), env=dict(os.environ, ANSIBLE_FORCE_COLOR="0", ANSIBLE_LOCALHOST_WARNING="0"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert "DEPRECATION" not in run.stdout, run.stdout
