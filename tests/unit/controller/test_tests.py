# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test ct_version, on this ansible-core; the referees are dpkg and rpm themselves."""

import os
import random
import shutil
import subprocess

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.changetracking.inventory.plugins.test.ct_version import ct_version

PAIRS = 3000
OPERATORS = {"lt": "<", "le": "<=", "eq": "==", "ne": "!=", "ge": ">=", "gt": ">"}


def versions(seed, alphabet, separators):
    """Versions like those of packages, many of which differ in one place only."""
    choose = random.Random(seed)
    upstream = ["1", "1.0", "1.0.1", "1.10", "1.9", "3.0.2", "3.0.11", "20240101", "1.01", "5.14.0"]
    while True:
        text = choose.choice(upstream)
        for _part in range(choose.randrange(3)):
            text += choose.choice(separators) + "".join(choose.choices(alphabet, k=choose.randrange(1, 4)))
        revision = choose.choice(["", "-1", "-2", "-10", "-1" + choose.choice(separators) + choose.choice(alphabet)])
        yield choose.choice(["", "", "", "0:", "1:", "2:"]) + text + revision


def pairs(*arguments):
    endless = versions(*arguments)
    return [(next(endless), next(endless)) for _pair in range(PAIRS)]


def need(tool):
    if shutil.which(tool) is None:
        if os.environ.get("CI"):
            pytest.fail("%s is needed for this test, and it is not installed" % tool)
        pytest.skip("%s is needed for this test: install it, or run where it is" % tool)


@pytest.mark.no_core
def test_thousands_of_pairs_compare_as_dpkg_says():
    need("dpkg")
    found = pairs(1, "0019aZ", ".+~")
    compare = "dpkg --compare-versions '{0}' lt '{1}' && echo lt || {{ dpkg --compare-versions '{0}' eq '{1}' && echo eq || echo gt; }}\n"
    script = "".join(compare.format(*pair) for pair in found)
    output = subprocess.run(["sh"], input=script, stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
    assert_compare("dpkg", found, output.split())


@pytest.mark.no_core
def test_thousands_of_pairs_compare_as_rpm_says():
    need("rpm")
    # rpm.vercmp() gives a version without a release a place of its own; a dependency without one is met by every release.
    found = [pair for pair in pairs(2, "0019aZ", "._+~^") if all("-" in version for version in pair)]
    said = []
    for start in range(0, len(found), 500):
        script = "".join('print(rpm.vercmp("%s", "%s"), "")' % pair for pair in found[start : start + 500])
        said += subprocess.check_output(["rpm", "--eval", "%%{lua: %s}" % script], universal_newlines=True).split()
    assert_compare("rpm", found, [{"-1": "lt", "0": "eq", "1": "gt"}[sign] for sign in said])


def assert_compare(manager, found, said):
    assert len(said) == len(found) >= 1000 and {"lt", "eq", "gt"} == set(said)
    for (a, b), word in zip(found, said):
        right = {"lt": {"lt", "le", "ne"}, "eq": {"le", "eq", "ge"}, "gt": {"gt", "ge", "ne"}}[word]
        for name, operator in OPERATORS.items():
            assert ct_version(a, b, operator, manager) is ct_version(a, b, name, manager) is (name in right), (
                a,
                name,
                b,
            )


@pytest.mark.parametrize(
    ("value", "version", "operator", "expected"),
    [
        ("3.0.11-1~deb12u2", "3.0.2", "<", False),
        ("3.0.1-1~deb12u2", "3.0.2", "<", True),
        ("3.0.2-1", "3.0.2", "<=", False),  # dpkg: a revision makes it newer
        ("0:3.0.2-1.el9", "3.0.2", "<=", True),  # rpm: any release of 3.0.2
        ("0:3.0.2-1.el9", "3.0.2", "==", True),
        ("1:3.0.7-27.el9", "3.0.8", "<", False),  # both: an epoch comes first
        ("1:3.0.7-27.el9", "1:3.0.8", "<", True),
        ("1.0~rc1-1", "1.0", "<", True),
    ],
)
def test_the_order_is_the_one_of_the_package_manager_that_writes_such_a_version(value, version, operator, expected):
    assert ct_version(value, version, operator) is expected


def test_where_the_orders_differ_it_asks_for_the_manager():
    with pytest.raises(
        AnsibleFilterError, match=r"do not agree whether 1:3.0.7-27.el9 <= 1:3.0.7. Set manager to dpkg or rpm"
    ):
        ct_version("1:3.0.7-27.el9", "1:3.0.7", "<=")
    assert ct_version("1:3.0.7-27.el9", "1:3.0.7", "<=", manager="rpm")
    assert not ct_version("1:3.0.7-27.el9", "1:3.0.7", "<=", manager="dpkg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("1.0", "foo"), "has no valid version"),
        (("", "1.0"), "version condition '= ' is not understood"),
        (("1.0", "1.0", "~"), "version condition '~ 1.0' is not understood"),
        ((None, "1.0"), "the value is NoneType, not a text"),
        ((["1.0"], "1.0"), "the value is list, not a text"),
        (("1.0", "1.0", "<", "apk"), "manager is 'apk'. Use dpkg or rpm."),
        (("x" * 10000, "1"), "no valid version"),
    ],
)
def test_what_cannot_be_compared_gets_one_sentence(arguments, words):
    with pytest.raises(AnsibleFilterError, match=words) as caught:
        ct_version(*arguments)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
