# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions in their package manager's order; the referees are dpkg and rpm themselves."""

import itertools
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import CtiError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.versions import (
    Condition,
    compare_dpkg,
    compare_rpm,
    has_epoch,
    parse_condition,
    satisfies,
)

COMPARE = {"dpkg": compare_dpkg, "rpm": compare_rpm}
# Each line rises from left to right.
RISING = {
    "dpkg": [
        "1.0~~ 1.0~rc1 1.0~rc1+b1 1.0 1.0-1 1.0-1a 1.0a 1.0+b1 1.0.1 1.9 1.10 0:2 1:0.1",
        "2-1~deb12u1 2-1 2-1+deb12u1",
    ],
    "rpm": ["1.0~rc1 1.0 1.0^git1 1.0a 1.0.1 1.9 1.10 0:2 1:0.1", "1-1.el9 1-1.el9_1 1-2.el9 1-10.el9", "1.a 1.1"],
}
EQUAL = {
    "dpkg": ["1.0 0:1.0", "1.01 1.1", "1.0-0 1.0"],
    "rpm": ["1.0 0:1.0", "1.01 1.1", "1.0 1.0-5.el9", "1.0 1_0", ":1 1"],
}


def need(tool):
    if shutil.which(tool) is None:
        if os.environ.get("CI"):
            pytest.fail("%s is needed for this test, and it is not installed" % tool)
        pytest.skip("%s is needed for this test: install it, or run where it is" % tool)


@pytest.mark.parametrize("order", ["dpkg", "rpm"])
def test_versions_rise_as_the_package_manager_says(order):
    for line in RISING[order]:
        for older, newer in itertools.combinations(line.split(), 2):
            assert COMPARE[order](older, newer) == -1, (older, newer)
            assert COMPARE[order](newer, older) == 1, (older, newer)


@pytest.mark.parametrize("order", ["dpkg", "rpm"])
def test_versions_written_differently_can_be_equal(order):
    for line in EQUAL[order]:
        one, other = line.split()
        assert COMPARE[order](one, other) == COMPARE[order](other, one) == 0


@pytest.mark.parametrize("order", ["dpkg", "rpm"])
def test_a_version_of_ten_thousand_digits_has_its_place(order):
    assert COMPARE[order]("9" * 10000, "1" + "0" * 10000) == -1


@given(st.lists(st.text("0019aZ~.+-", min_size=1, max_size=8), min_size=2, max_size=6))
@settings(max_examples=8, deadline=None)
def test_dpkg_itself_agrees(texts):
    need("dpkg")
    versions = ["1" + text.rstrip("-") for text in texts]
    for a, b in zip(versions, versions[1:]):
        relation = {-1: "lt", 0: "eq", 1: "gt"}[compare_dpkg(a, b)]
        assert subprocess.call(["dpkg", "--compare-versions", a, relation, b]) == 0, (a, b)


@given(st.lists(st.text("0019aZb~^.+_", min_size=1, max_size=8), min_size=2, max_size=40))
@settings(max_examples=6, deadline=None)
def test_rpm_itself_agrees(versions):
    need("rpm")
    pairs = list(zip(versions, versions[1:]))
    script = "".join('print(rpm.vercmp("%s", "%s"), "")' % pair for pair in pairs)
    output = subprocess.check_output(["rpm", "--eval", "%%{lua: %s}" % script], universal_newlines=True)
    assert [int(word) for word in output.split()] == [compare_rpm(a, b) for a, b in pairs]


@pytest.mark.parametrize(
    "text, condition",
    [
        ("< 3.0.2", Condition("<", "3.0.2")),
        (">=1:2.3", Condition(">=", "1:2.3")),
        (" == 1.0 ", Condition("=", "1.0")),
        ("!= 1~rc1^2+b-3", Condition("!=", "1~rc1^2+b-3")),
    ],
)
def test_a_condition_is_a_relation_and_a_version(text, condition):
    assert parse_condition(text) == condition


@pytest.mark.parametrize("text", ["", "3.0", "<", "< 1 2", "<< 1", "=> 1", "< 1, > 2", "~ 1", "<\n"])
def test_a_bad_condition_gets_one_sentence(text):
    with pytest.raises(CtiError, match=r"^version condition .* is not understood: write one of ") as caught:
        parse_condition(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "relation, holds", [("<", "100"), ("<=", "110"), ("=", "010"), ("!=", "101"), (">=", "011"), (">", "001")]
)
def test_every_relation_holds_where_it_should(relation, holds):
    condition = parse_condition(relation + " 2")
    for order in COMPARE:
        assert [satisfies(version, condition, COMPARE[order]) for version in "123"] == [digit == "1" for digit in holds]


def test_a_condition_without_a_release_covers_every_release_of_rpm():
    condition = parse_condition("= 3.0.2")
    assert satisfies("0:3.0.2-5.el9", condition, compare_rpm)
    assert not satisfies("1:3.0.2-5.el9", condition, compare_rpm)
    assert not satisfies("3.0.2-5", condition, compare_dpkg)


def test_an_epoch_that_is_no_number_gets_one_sentence():
    with pytest.raises(CtiError, match="epoch that is no number"):
        compare_dpkg("1.0", "a:1")


@pytest.mark.parametrize(
    "version",
    ["foo", "latest", "x.y.z", "-", "1:", "1:foo", "a:1", ":1", "1,0", "3.0;", "1.0'", "1/2", "v\u0661", "3.0\u00b2"],
)
def test_what_can_be_no_version_is_refused_and_not_compared(version):
    with pytest.raises(CtiError, match=r"^version condition .* has no valid version: write ") as caught:
        parse_condition("< " + version)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "version",
    ["3", "1:3.0.7-5.el9", "svn15878", "git20240101.abc", "2:1:0-1", "1.0~rc1+b1", "1.0^git1", "a1", "0:0", "1%2"],
)
def test_every_version_that_dpkg_or_rpm_lets_a_package_have_is_accepted(version):
    assert parse_condition("< " + version) == Condition("<", version)


@pytest.mark.parametrize(
    ("version", "epoch"),
    [
        ("1:3.0.7-27.el9", True),
        ("10:1", True),
        ("0:3.0.7", False),
        ("00:1", False),
        ("3.0.7", False),
        (":1", False),
        ("a1:2", False),
    ],
)
def test_an_epoch_above_zero_is_seen(version, epoch):
    assert has_epoch(version) is epoch
