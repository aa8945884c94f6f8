# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ct_inventory_fetch writes, apart from the run on a host."""

import hashlib
import os

import pytest

from ansible_collections.changetracking.inventory.plugins.action import ct_inventory_fetch as fetch
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.report import text

OK = {"dpkg": {"status": "ok", "count": 1}}
FAILED = {"dpkg": {"status": "failed", "count": 0, "message": "locked"}}


def contents(rows, sources, changes=None, baseline=True):
    seen = {"sources": sources, "baseline": baseline, "count": len(rows)}
    return fetch._contents({"packages": rows}, {"packages": seen}, changes, {})


def unchanged(count, sources):
    seen = {"sources": sources, "baseline": False, "count": count}
    return fetch._contents({}, {"packages": seen}, None, {"packages": "digest"})


def test_a_file_of_which_nothing_could_be_collected_is_left_as_it_is():
    assert contents([], FAILED) == {}
    assert contents([], OK) == {"Packages.json": []}
    assert contents([{"a": 1}], FAILED) == {"Packages.json": [{"a": 1}]}


def test_a_kind_that_did_not_travel_keeps_its_file_and_is_named_as_if_it_had():
    assert unchanged(1, OK) == unchanged(1, FAILED) == unchanged(0, OK) == {"Packages.json": None}
    assert unchanged(0, FAILED) == {}


def test_a_host_cannot_leave_out_what_the_controller_does_not_have():
    with pytest.raises(KeyError):
        fetch._contents({}, {"packages": {"sources": OK, "count": 1}}, None, {})


def test_what_is_known_is_the_bytes_of_a_file(tmp_path):
    (tmp_path / "Packages.json").write_bytes(b"[]\r\n\xff")
    (tmp_path / "File.json").mkdir()
    assert fetch._known(str(tmp_path)) == {"packages": hashlib.sha256(b"[]\r\n\xff").hexdigest()}


def test_the_baseline_has_no_changes_and_a_later_run_may_have_none():
    assert "Changes.json" not in contents([], OK, changes=[])
    assert contents([], OK, changes=[], baseline=False)["Changes.json"] == []


@pytest.mark.parametrize("host", ["..", ".", "../../etc", "a/b", "web01", "10.0.0.1:22", "\u00e4"])
def test_a_hosts_folder_is_one_segment_below_the_destination(host):
    name = fetch._folder_name(host)
    assert os.path.dirname(os.path.normpath(os.path.join("/dest", name))) == "/dest"


def test_a_file_holds_one_item_a_line():
    assert text([{"a": 1}, {"b": "\u00e4"}]) == '[\n{"a": 1},\n{"b": "\u00e4"}\n]\n'
    assert text([]) == "[]\n"
