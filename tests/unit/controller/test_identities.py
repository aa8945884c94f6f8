# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No host sends records under the identity of another one."""

import json
import os

import pytest

from ansible_collections.changetracking.inventory.plugins.plugin_utils._ama_forward import identities
from ansible_collections.changetracking.inventory.plugins.plugin_utils._ama_forward.identities import Identities
from ansible_collections.changetracking.inventory.plugins.plugin_utils._spool import Spool

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"

pytestmark = pytest.mark.no_core


class Run:
    """One run of a playbook, with the spool's folder that all runs share."""

    def __init__(self, folder):
        self.warnings = []
        self._identities = Identities(Spool(str(folder), 1 << 20, self.warnings.append), self.warnings.append)

    def believed(self, host, **claims):
        """The columns of a record of the host, without its inventory name."""
        columns = self._identities.believed(host, dict(claims, Computer=host))
        assert columns.pop("Computer") == host
        return columns

    def expect(self, *hosts):
        self._identities.expect(hosts)

    def end(self):
        self._identities.close()
        return self.warnings


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


def test_a_host_that_answers_as_another_one_is_named_and_not_believed(folder):
    run = Run(folder)
    good = {"ReportedComputer": "db01.bank", "SourceComputerId": ONE, "VMUUID": TWO}
    assert run.believed("db01", **good) == good
    assert run.believed("web1", **good) == {}
    assert run.believed("web1", **good) == {}
    assert run.believed("db01", **good) == good
    warnings = run.end()
    assert len(warnings) == 3
    assert all(
        warning.startswith("web1 reported the ") and "which db01 reported first" in warning for warning in warnings
    )


def test_what_a_host_said_in_an_earlier_run_is_remembered(folder):
    run = Run(folder)
    run.believed("db01", SourceComputerId=ONE)
    assert run.end() == []
    run = Run(folder)
    assert run.believed("web1", SourceComputerId=ONE.upper()) == {}
    assert len(run.end()) == 1


def test_clones_are_named_in_one_warning_and_each_keeps_its_records(folder):
    run = Run(folder)
    for number in range(10):
        run.believed("clone%d" % number, SourceComputerId=ONE)
    (warning,) = run.end()
    assert warning.startswith("clone1, clone2, clone3, clone4, clone5 and 4 more reported the SourceComputerId")
    assert run.end() == [warning]  # once


def test_a_host_that_was_installed_again_is_named_once_and_believed(folder):
    run = Run(folder)
    run.believed("web1", SourceComputerId=ONE)
    run.end()
    run = Run(folder)
    for value in (TWO, ONE, TWO):
        assert run.believed("web1", SourceComputerId=value) == {"SourceComputerId": value}
    (warning,) = run.end()
    assert warning.startswith("web1 reported the SourceComputerId '%s', before that '%s'" % (TWO, ONE))
    run = Run(folder)
    assert run.believed("web2", SourceComputerId=ONE) == {"SourceComputerId": ONE}


@pytest.mark.parametrize("value", ["", "db01", 5, True, "x" * 36, ONE + "\n", "{{ evil }}", {"a": 1}])
def test_an_identity_that_is_none_is_left_out(folder, value):
    run = Run(folder)
    assert run.believed("web1", SourceComputerId=value, VMUUID=value) == {}
    assert run.believed("web1", ReportedComputer="a\x1b[31m") == {}
    assert run.end() == [] and not folder.exists()


def test_runs_at_once_do_not_forget_what_the_other_learnt(folder):
    first, second = Run(folder), Run(folder)
    first.believed("web1", SourceComputerId=ONE)
    second.believed("web2", SourceComputerId=TWO)
    assert first.end() == second.end() == []
    assert json.loads((folder / "identities.json").read_text()) == {
        "web1": {"SourceComputerId": ONE},
        "web2": {"SourceComputerId": TWO},
    }


@pytest.mark.parametrize("content", ["", "[]", '{"web1": 5, "web2": {"x": "y", "VMUUID": 5}}', "[" * 100000, "garbage"])
def test_a_damaged_memory_is_written_anew(folder, content):
    folder.mkdir(mode=0o700)
    (folder / "identities.json").write_text(content)
    run = Run(folder)
    assert run.believed("web1", SourceComputerId=ONE) == {"SourceComputerId": ONE}
    assert run.end() == []
    assert json.loads((folder / "identities.json").read_text())["web1"] == {"SourceComputerId": ONE}


def test_a_memory_that_is_no_file_of_ours_is_not_read(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    os.mkfifo(str(folder / "identities.json"))
    run = Run(folder)
    run.believed("web1", SourceComputerId=ONE)
    assert "It is created again" in run.end()[0]
    monkeypatch.setattr(identities, "MAX_BYTES", 10)
    run = Run(folder)
    run.believed("web2", SourceComputerId=ONE)
    assert "is not a regular file of this user of at most 0 MiB" in run.end()[0]


def test_no_host_is_called_like_another_host_of_the_inventory(folder):
    run = Run(folder)
    assert run.believed("evil", ReportedComputer="db01") == {"ReportedComputer": "db01"}  # an inventory without db01
    run.end()
    run = Run(folder)
    run.expect("DB01", "evil")
    for name in ("db01", "DB01"):
        assert run.believed("evil", ReportedComputer=name) == {}
        assert run.believed("DB01", ReportedComputer=name) == {"ReportedComputer": name}
    assert run.believed("DB01", ReportedComputer="other") and run.believed("evil", ReportedComputer="db01") == {}
    assert "evil reported the ReportedComputer 'db01', which is the inventory name of DB01" in "".join(run.end())
