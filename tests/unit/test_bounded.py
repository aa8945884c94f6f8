# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result is never too large for the controller: what is left out is that of the owner who made it, and it is named."""

import hashlib
import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import packed, packed_reader
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.marks import Mark
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.owners import ROOT
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed import Packer, pack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed_reader import unpack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import (
    default as default_settings,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import (
    bounded,
    item_file,
    last_known,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.host_run import run_host
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.report import text
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

FILES = all_kinds()["files"]
USER = 54321  # an id that no user of the machine has


def row(path, length=0):
    return FILES.row(File(path, "x" * length, 1, "root", "root", 0o644, 1, 1, "file", ""))


@pytest.fixture
def limits(monkeypatch):
    """64 KiB for all kinds, and so 52 KiB for the files; an item counts 100 bytes at the least."""
    monkeypatch.setattr(bounded, "MAX_BYTES", 64 << 10)
    monkeypatch.setattr(bounded, "_SMALL", 4 << 10)
    monkeypatch.setattr(bounded, "_LEAST", 100)
    monkeypatch.setattr(bounded, "MAX_ROW", 2000)
    monkeypatch.setattr(packed_reader, "MAX_BYTES", 64 << 10)
    monkeypatch.setattr(packed_reader, "MAX_ROW", 2000)


def returned(known=None, **kinds):
    """What the controller reads, and the warnings. `kinds`: the rows of each owner."""
    warned = []
    summaries = {kind: {} for kind in kinds}
    items = {
        kind: bounded.Items(
            [(owner, row) for owner, rows in owned for row in rows], lambda one: one[1], lambda one: one[0]
        )
        for kind, owned in kinds.items()
    }
    found = unpack(bounded.pack_items(items, known or {}, "web01", warned.append, summaries))
    for kind, rows in found.items():
        assert summaries[kind].get("left_out", 0) == sum(one.get(bounded.LEFT_OUT, 0) for one in rows)
    return found, warned


def test_the_limits_of_the_sender_are_those_of_the_receiver():
    for name in ("MAX_BYTES", "MAX_ROWS", "MAX_ROW"):
        assert getattr(packed, name) == getattr(packed_reader, name)
    spaces = [bounded.space(kind) for kind in all_kinds().values()]
    assert sum(spaces) <= packed.MAX_BYTES - (8 << 20)  # for the rows about what is left out
    assert sum(space // bounded._LEAST for space in spaces) <= packed.MAX_ROWS - 3 * bounded._MARKED


@given(
    st.dictionaries(st.sampled_from(["packages", "services", "files"]), st.lists(st.dictionaries(st.text(), st.text())))
)
def test_what_is_packed_item_by_item_is_what_is_packed_at_once(items):
    packer = Packer()
    for kind, rows in items.items():
        packer.add(kind, map(packed.to_json, rows))
        packer.copy().add(kind, ["{}"])  # and has no effect
    assert packer.text() == pack(items)


def test_what_is_within_the_limits_is_returned_whole(limits):
    rows = [row("/etc/%d" % number) for number in range(50)]
    assert returned(files=[("", rows)], packages=[("", [])]) == ({"files": rows, "packages": []}, [])


def test_items_beyond_a_users_share_are_left_out_and_nothing_else(limits):
    roots, bobs = (
        [row("/etc/%d" % number) for number in range(20)],
        [row("/home/bob/%d" % number) for number in range(20)],
    )
    alices = [row("/home/alice/%05d" % number, 300) for number in range(2000)]
    found, warned = returned(
        files=[("uid=%d" % USER, alices), ("", roots), ("uid=2", bobs)], packages=[("", [{"SoftwareName": "a"}])]
    )
    assert found["packages"] == [{"SoftwareName": "a"}]
    kept = [one for one in found["files"] if one in alices]
    assert [one for one in found["files"] if one in roots or one in bobs] == roots + bobs
    assert kept == alices[: len(kept)] and len(kept) > 50
    (marker,) = [one for one in found["files"] if bounded.LEFT_OUT in one]
    assert marker[bounded.LEFT_OUT] == 2000 - len(kept) and list(marker)[:-1] == list(FILES.columns)
    named = "%d of 2000 items in folders of uid=%d left out, the first is %s" % (
        2000 - len(kept), USER, alices[len(kept)]["FileSystemPath"],
    )  # fmt: skip
    assert marker["FileSystemPath"] == "(%s)" % named
    (warning,) = warned
    assert warning.startswith("web01 has more files than a result can hold") and named in warning
    assert "Remove the items, or narrow the rule" in warning


def test_many_small_items_are_too_many_too(limits):
    found, warned = returned(files=[("uid=1", [{"FileSystemPath": "/%d" % number} for number in range(600)])])
    assert len(found["files"]) == (52 << 10) // 100 + 1 and len(warned) == 1


def test_an_item_that_is_too_large_alone_is_left_out_alone(limits):
    small = row("/etc/a")
    found, warned = returned(files=[("", [row("/etc/0", 3000), small])])
    assert found["files"][0] == small and found["files"][1][bounded.LEFT_OUT] == 1 and len(found["files"]) == 2
    assert "1 of 2 items in folders of root left out, the first is /etc/0" in warned[0]


def test_packages_that_are_too_many_leave_the_files_alone(limits):
    packages = [{"SoftwareName": "%d" % number, "Publisher": "x" * 100} for number in range(100)]
    files = [row("/etc/%d" % number) for number in range(50)]
    found, warned = returned(packages=[("", packages)], files=[("", files)])
    assert found["files"] == files and found["packages"][-1][bounded.LEFT_OUT] > 50
    assert "has more packages than" in warned[0] and "folders" not in warned[0]


def test_what_the_caller_has_of_it_is_not_sent_again_and_named_again(limits):
    flood = [("uid=1", [row("/home/alice/%05d" % number, 300) for number in range(500)])]
    found, warned = returned(files=flood)
    known = {"files": hashlib.sha256(text(found["files"]).encode()).hexdigest(), "packages": None}
    assert returned(known, files=flood) == ({}, warned)


SIZES = st.dictionaries(st.sampled_from(["", *"abcdefgh"]), st.integers(0, 1000))


@given(SIZES, st.integers(0, 2000))
def test_each_owner_has_a_share_that_no_other_owner_can_make_smaller_than_an_equal_one(sizes, limit):
    shares = bounded.divide(sizes, limit)
    assert sum(shares.values()) <= limit
    assert all(shares[owner] <= size for owner, size in sizes.items())
    root = min(sizes.get("", 0), limit * 3 // 4)
    assert shares[""] >= root
    others = [owner for owner in sizes if owner]
    for owner in others:
        assert shares[owner] >= min(sizes[owner], (limit - shares[""]) // len(others))
    if sum(sizes.values()) > limit:
        assert sum(shares.values()) >= limit - len(sizes)


@pytest.mark.parametrize("count", [400, 3])
def test_a_user_with_too_many_files_costs_no_other_item_and_no_change(limits, tmp_path, count):
    need_root("giving folders to a user")
    for name, owner in (("alice", USER), ("bob", USER + 1), ("root", 0)):
        folder = tmp_path / "home" / name
        folder.mkdir(parents=True)
        for number in range(count if owner == USER else 5):
            (folder / ("%s%03d" % ("x" * 120, number))).write_text("")
        os.chown(str(folder), owner, owner)
    settings = default_settings()._replace(
        file_rules=[FileRule("home", str(tmp_path / "home" / "*"))], kinds=("files",)
    )

    def run(read_only=False):
        warned = []
        with Store(str(tmp_path / "s.db"), read_only=read_only) as store:
            result = run_host(["files"], settings, "full", store, warned.append)
        rows = unpack(result.pop("packed"))["files"]
        by = {
            name: sum("/%s/" % name in one["FileSystemPath"] and bounded.LEFT_OUT not in one for one in rows)
            for name in ("alice", "bob", "root")
        }
        left = [one[bounded.LEFT_OUT] for one in rows if bounded.LEFT_OUT in one]
        return result, by, left, warned

    result, by, left, warned = run()
    assert (by["bob"], by["root"], result["inventory"]["files"]["count"]) == (5, 5, count + 10)
    assert by["alice"] + sum(left) == count and bool(left) == (count == 400) == bool(warned)
    assert result["inventory"]["files"].get("left_out", 0) == sum(left)
    assert all(re.search("of 400 items in folders of uid=%d left out" % USER, text) for text in warned)
    (tmp_path / "home" / "root" / ("x" * 120 + "000")).unlink()
    (tmp_path / "home" / "alice" / ("x" * 120 + "%03d" % (count - 1))).unlink()
    result, by, left, warned = run()
    removed = sorted(change["FileSystemPath"].split("/")[-2] for change in result["changes"])
    assert removed == ["alice", "root"] and by["root"] == 4 and by["alice"] + sum(left) == count - 1
    warned = []
    again = last_known.from_database(str(tmp_path / "s.db"), ["files"], "full", None, None, warned.append)
    rows = unpack(again["packed"])["files"]
    assert sum(bounded.LEFT_OUT not in one for one in rows) == by["alice"] + 9
    assert [one[bounded.LEFT_OUT] for one in rows if bounded.LEFT_OUT in one] == left and len(warned) == len(left)


def test_the_item_files_of_an_agent_are_returned_within_the_limits_too(limits, tmp_path):
    items = [{"CollectionName": "/%s/%d" % (owner, number), "Owner": owner, "More": "x" * 100}
             for owner, count in (("alice", 1000), ("root", 10)) for number in range(count)]  # fmt: skip
    (tmp_path / "File.json").write_text(json.dumps(items))
    os.chmod(str(tmp_path / "File.json"), 0o600)
    warned = []
    rows = unpack(last_known.from_item_files(str(tmp_path), ["files"], "full", warned.append)["packed"])["files"]
    assert sum(one["Owner"] == "root" for one in rows) == 10 and list(rows[-1]) == [
        "CollectionName",
        "Owner",
        "More",
        "LeftOut",
    ]
    assert "in folders of alice" in warned[0]


def test_items_of_one_user_do_not_fill_the_disk_and_those_of_others_are_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(item_file, "OTHERS_BYTES", 100 * 620)

    def write(*amounts):
        """Write so many items of root, of a user and of another one; how many of each are in the file, and the sentence."""
        items = [
            File("/{0}/{1:07}".format(folder, number), "", 1, "root", "root", 0o644, 1, 1, "file", "")
            for folder, amount in zip("rab", amounts)
            for number in range(amount)
        ]
        with Store(str(tmp_path / "state.db")) as store:
            for folder, owner in (("r", ROOT), ("a", "uid=1001"), ("b", "uid=1002")):
                part = [item for item in items if item.path.startswith("/" + folder)]
                store.put(FILES, "/" + folder, str(Mark("", 0, "", False, owner)), "", part)
        with Store(str(tmp_path / "state.db"), read_only=True) as store:
            sentence = item_file.write(str(tmp_path), FILES, store, {})
        paths = [item["FileSystemPath"] for item in json.loads((tmp_path / "File.json").read_text())]
        return [sum(path.startswith("/" + folder) for path in paths) for folder in "rab"], sentence

    assert write(200, 60, 40) == ([200, 60, 40], "")
    found, sentence = write(200, 1000, 30)
    assert found == [200, 70, 30] and "930 of 1000 items in folders of uid=1001. Narrow" in sentence
    found, sentence = write(3, 200, 100)
    assert (
        found == [3, 50, 50]
        and "150 of 200 items in folders of uid=1001, 50 of 100 items in folders of uid=1002." in sentence
    )
    assert sorted(os.listdir(str(tmp_path))) == ["File.json", "state.db"]
