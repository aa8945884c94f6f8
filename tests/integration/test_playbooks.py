# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks refuse what would do nothing, and would look like success."""

import json
import subprocess
import sys

import pytest

HOSTS = "web01 ansible_connection=local ansible_python_interpreter=%s ct_state=%s/state.db ct_kinds=services\n"


@pytest.fixture
def play(tmp_path):
    (tmp_path / "hosts").write_text(HOSTS % (sys.executable, tmp_path))

    def play(name, *arguments):
        return subprocess.run(
            ["ansible-playbook", "-i", "hosts", "changetracking.inventory." + name, *arguments],
            cwd=str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
        )  # fmt: skip

    return play


@pytest.mark.parametrize("query", ["Drift", "never", "change[?kind=='files']"])
def test_a_query_that_no_answer_can_fulfil_is_refused_before_anything_is_collected(play, tmp_path, query):
    done = play("inventory", "-e", "ct_fail_on=" + query)
    assert done.returncode == 2
    assert "Give drift, or a JMESPath query on changes or totals" in done.stdout
    assert not (tmp_path / "inventory").exists()


def test_a_query_of_the_answer_is_taken(play):
    done = play("inventory", "-e", json.dumps({"ct_fail_on": "totals.unknown > `5`"}))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("ct_kinds=package,files", "The value of ct_kinds has package. Give some of packages, services, files."),
        ('{"ct_kinds": ["services", 1]}', "The value of ct_kinds has 1. Give some of"),
        ("ct_kinds=", "The value of ct_kinds has no kind. Give some of"),
        (
            "ct_dest=~nobody_has_this_name/x",
            "The value of ct_dest is '~nobody_has_this_name/x'. Give the path of a folder",
        ),
        ('{"ct_dest": " "}', "The value of ct_dest is ' '. Give the path of a folder"),
    ],
)
def test_a_mistake_in_a_variable_is_printed_once_whatever_the_number_of_hosts(play, tmp_path, wrong, message):
    (tmp_path / "hosts").write_text((HOSTS % (sys.executable, tmp_path)).replace("web01", "web[01:03]"))
    done = play("inventory", "-e", wrong)
    assert done.returncode != 0 and not (tmp_path / "inventory").exists()
    said = " ".join(done.stdout.split())
    assert said.count("fatal:") == 1 and said.count(message) <= 2  # ansible-core 2.19 prints an error as well


def test_one_host_is_one_host(play):
    assert play("inventory").returncode == 0
    done = play("report")
    assert 'report.html: 1 host, 0 changes"' in done.stdout, done.stdout


def test_a_limit_that_leaves_out_this_machine_is_refused_by_the_report(play):
    done = play("report", "--limit", "web01")
    assert done.returncode != 0
    assert "matches no host within --limit 'web01'" in done.stdout
