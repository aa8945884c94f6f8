# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses how much of what a scan may cost, and on whose account it is."""

import grp
import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.budget import (
    FILE_SECONDS,
    MATCH_SECONDS,
    RUN_SECONDS,
    Budget,
    Share,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.owners import ROOT, Owners

FOLDER, OPEN = 0o040755, 0o041777


def test_one_owner_has_at_most_half_and_each_further_one_half_of_the_rest():
    share = Share(1000)
    taken = []
    for owner in ("a", "b", "c", "d"):
        while share.take(owner):
            pass
        taken.append(1000 - sum(taken) - 2 * share.left("new"))
    assert taken == [500, 250, 125, 62]
    assert share.left(ROOT) == 1000


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(0, 3000))))
def test_however_much_others_use_an_owner_has_its_share(uses):
    """Also where more is used at once than was left, as one folder with very many changes does."""
    share = Share(1000)
    for owner, amount in uses:
        if share.left(owner):
            share.spend(owner, amount)
    assert share.left("honest") >= 1000 / 2**4
    assert share.left(ROOT) == 1000 or any(owner == ROOT and amount for owner, amount in uses)


def test_very_many_owners_come_to_an_end_and_leave_root_its_own():
    share = Share(50000)
    used = 0
    for number in range(70000):
        while share.left(str(number)):
            share.spend(str(number), 1000000)
            used += 1
    assert used < 20 and share.left(ROOT) == 50000


def test_an_amount_that_grows_is_shared_as_it_is_now():
    share = Share(10)
    assert share.take("a", 5) and not share.take("a", 5) and share.take("a", 5, more=20)
    assert share.left("b", more=20) == 10


def test_large_files_of_many_users_leave_time_for_those_of_root():
    budget = Budget(lambda: 0.0)
    for number in range(1000):
        for _file in range(5):
            budget.spend("uid=%d" % number, budget.seconds("uid=%d" % number))
    assert budget.seconds(ROOT) == FILE_SECONDS and not budget.seconds("uid=1")
    spent = 0.0
    while budget.seconds(ROOT):
        spent += budget.seconds(ROOT)
        budget.spend(ROOT, budget.seconds(ROOT))
    assert spent == RUN_SECONDS


def of_folder(owners, mode, uid, gid=0):
    return owners.of_folder(os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0)))


def test_what_root_lets_others_write_to_is_not_on_the_account_of_root(tmp_path):
    owners = Owners(str(tmp_path / "none"))
    assert of_folder(owners, FOLDER, 0) == of_folder(owners, FOLDER, os.geteuid()) == owners.of_user(0) == ROOT
    assert of_folder(owners, OPEN, 0) == "everyone"
    assert of_folder(owners, 0o042775, 0, 50) == "gid=50"
    assert of_folder(owners, OPEN, 4321) == "everyone" and of_folder(owners, 0o042775, 4321, 50) == "gid=50"
    assert of_folder(owners, FOLDER, 4321) == owners.of_user(4321) == "uid=4321"


def test_a_folder_that_the_private_group_of_a_user_may_write_to_is_on_the_account_of_the_user(tmp_path, monkeypatch):
    users = {
        1: pwd.struct_passwd(("ada", "x", 1, 10, "", "/", "/bin/sh")),
        2: pwd.struct_passwd(("bob", "x", 2, 20, "", "/", "/bin/sh")),
    }
    groups = {10: grp.struct_group(("ada", "x", 10, ["ada"])), 20: grp.struct_group(("bob", "x", 20, ["ada"]))}
    monkeypatch.setattr(pwd, "getpwuid", users.__getitem__)
    monkeypatch.setattr(grp, "getgrgid", groups.__getitem__)
    owners = Owners(str(tmp_path / "none"))
    assert of_folder(owners, 0o040775, 1, 10) == "uid=1" and of_folder(owners, 0o040775, 1, 20) == "gid=20"
    assert of_folder(owners, 0o040775, 2, 20) == "gid=20" and of_folder(owners, 0o040775, 3, 10) == "gid=10"


@pytest.mark.parametrize(
    ("uid", "mode", "links", "owner"),
    [
        (4321, 0o100644, 1, "uid=4321"),
        (4321, 0o100664, 2, "everyone"),  # a link that another user may have made
        (4321, 0o040755, 5, "uid=4321"),
        (0, 0o100644, 1, ROOT),
        (0, 0o100666, 1, "everyone"),
        (0, 0o120777, 1, ROOT),
    ],
)
def test_an_entry_counts_to_its_owner_unless_others_can_give_it_more_names(tmp_path, uid, mode, links, owner):
    owners = Owners(str(tmp_path / "none"))
    assert owners.of_entry(uid, mode, links, "everyone") == owner
    assert owners.of_entry(uid, mode, links, ROOT) == owners.of_user(uid)


@pytest.mark.parametrize(
    ("uid", "owner"),
    [
        (99999, "uid=99999"),
        (100000, "uid=4321"),
        (165535, "uid=4321"),
        (165536, "uid=65534"),
        (231072, "uid=231072"),
        (1000000, "uid=1000000"),
        (1234567, "uid=1000000"),  # of a container that root started
        (5000001, "uid=5000000"),  # of nobody there is
    ],
)
def test_the_subordinate_ids_of_a_user_are_on_its_account(tmp_path, uid, owner):
    path = tmp_path / "subuid"
    path.write_bytes(
        b"nobody:165536:65536\n4321:100000:65536\nroot:1000000:1000000\nno-such-user-here:5000000:10\n"
        b"# a remark\n\nroot:x:1\nroot:1\n:5:5\nroot:" + b"9" * 5000 + b":1\n\xff:\xff:\xff\n"
    )
    assert Owners(str(path)).of_user(uid) == owner


@pytest.mark.parametrize(
    ("uid", "owner"),
    [
        (999999, "uid=999999"),
        (1000000, "uid=1000000"),
        (1999999, "uid=1000000"),
        (2000000, "uid=4002"),
        (2000010, "uid=4003"),
        (2000020, "uid=4002"),
        (2065535, "uid=4002"),
        (2065536, "uid=1000000"),
        (2070001, "uid=1000000"),
        (1000999999, "uid=1000000"),
        (1001000000, "uid=1001000000"),
    ],
)
def test_where_ranges_of_subordinate_ids_overlap_the_narrowest_counts(tmp_path, uid, owner):
    path = tmp_path / "subuid"
    path.write_bytes(b"root:1000000:1000000000\n4002:2000000:65536\n4003:2000010:10\n")
    owners = Owners(str(path))
    owners.of_user(2000015)
    assert owners.of_user(uid) == owner


def test_the_time_for_names_of_20_characters_is_counted():
    now = [0.0]

    def match(_name):
        now[0] += MATCH_SECONDS / 10
        return True

    limited = Budget(lambda: now[0]).matches(match)
    with pytest.raises(OSError):
        for _time in range(20):
            limited("a" * 20)
    assert limited("a" * 16)
