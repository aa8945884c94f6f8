# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one-liners of docs/adhoc.md run on this ansible-core; tests/docs runs them on booted hosts, with their output."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/adhoc.md").read_text(encoding="utf-8")
ASK = re.search(r"^ask\(\) .*$", PAGE, re.MULTILINE).group()
LINES = list(dict.fromkeys(re.findall(r"^\$ (ask .*)$", PAGE, re.MULTILINE)))
STATE = "~/.local/state/changetracking/"


def test_there_are_one_liners():
    assert len(LINES) > 4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an inventory of this machine, and the state of an earlier look."""
    folder = tmp_path_factory.mktemp("readme")
    variables = "ansible_connection=local ansible_become=false ansible_python_interpreter=" + sys.executable
    (folder / "hosts").write_text("localhost %s\n" % variables)
    assert run_line("ask ct_inventory_info -a state=%sinventory.db" % STATE, folder).returncode == 0
    return folder


def run_line(line, folder):
    line = line.replace(STATE, str(folder) + "/")
    return subprocess.run(
        ["bash", "-c", ASK + "\n" + line],
        cwd=str(folder), env=dict(os.environ, ANSIBLE_FORCE_COLOR="0"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
    )  # fmt: skip


@pytest.mark.no_core
@pytest.mark.parametrize("line", LINES)
def test_a_one_liner_runs(line, place):
    run = run_line(line, place)
    assert run.returncode == 0, run.stdout
    assert "localhost | SUCCESS" in run.stdout
