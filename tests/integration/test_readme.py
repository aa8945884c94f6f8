# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's one-liners do what they say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PREFIX = re.search(r'^One-liners \(`(ct=".*")`\):$', README, re.M).group(1)
LINES = re.findall(r"^ansible \$ct.*$", README, re.M)
RULE = {"extensionConfigurations": {"ChangeTracking-Linux": [{"extensionSettings": {}}]}}


def test_there_are_one_liners():
    assert len(LINES) > 4


@pytest.mark.parametrize("line", LINES)
def test_a_one_liner_runs(line, tmp_path):
    variables = "ansible_connection=local ansible_become=false ansible_python_interpreter=" + sys.executable
    (tmp_path / "hosts").write_text("localhost %s\n" % variables)
    (tmp_path / "dcr.json").write_text(json.dumps(RULE))
    line = line.replace("/var/lib/changetracking/", str(tmp_path) + "/").replace("/etc/ct/", str(tmp_path) + "/")
    run = subprocess.run(
        ["bash", "-c", PREFIX + "\n" + line],
        cwd=str(tmp_path), env=dict(os.environ, ANSIBLE_FORCE_COLOR="0"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert "localhost | SUCCESS" in run.stdout
