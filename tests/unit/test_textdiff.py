# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The difference of two texts: right whatever they hold, and small whatever was changed."""

import os
import random
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import textdiff
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.textdiff import unified

# Few different lines, so that most texts have some in common; and what other tools take for the end of a line.
LINES = st.sampled_from(["", "a", "b", "-", "+c", "\\ d", "@@ -1 +1 @@", "\r", "\x0c", "\u2028", "\x85", "ü"])
TEXTS = st.builds(lambda lines, end: "\n".join(lines) + end, st.lists(LINES, max_size=30), st.sampled_from(["", "\n"]))


def applied(diff, old):
    """What `patch` makes of it, as far as it has to be known for whole differences."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", old)
    new, position, mark = [], 0, ""
    for piece in re.findall(r"[^\n]*\n", diff)[2:]:
        hunk = re.match(r"@@ -(\d+)(?:,(\d+))? \+", piece)
        if hunk:
            start, size = int(hunk.group(1)), int(hunk.group(2) or 1)
            start -= size > 0
            new += lines[position:start]
            position = start
        elif piece == "\\ No newline at end of file\n":
            if mark != "-":
                new[-1] = new[-1][:-1]
            continue
        else:
            mark = piece[0]
            assert mark in " +-"
            if mark != "+":
                assert lines[position].rstrip("\n") == piece[1:].rstrip("\n")
                position += 1
            if mark != "-":
                new.append(piece[1:])
    return "".join(new + lines[position:])


@given(TEXTS, TEXTS)
def test_applied_to_the_old_text_it_gives_the_new_one(old, new):
    diff = unified(old, new)
    assert applied(diff, old) == new
    assert bool(diff) == (old != new)


@pytest.mark.parametrize(
    ("old", "new"),
    [("a\nb\n", "a\nc\n"), ("", "a\n"), ("a\n", ""), ("a", "a\n"), ("a\n" * 9 + "x", "a\n" * 9 + "y"), ("\r\n", "\n")],
)
def test_git_takes_it_once_it_has_the_files_name(old, new, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(old.encode())
    diff = unified(old, new).replace("--- before\n+++ after\n", "--- a/file\n+++ b/file\n", 1)
    alone = dict(os.environ, GIT_CEILING_DIRECTORIES=str(tmp_path.parent), GIT_CONFIG_NOSYSTEM="1", HOME=str(tmp_path))
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn"], input=diff.encode(), cwd=str(tmp_path), env=alone, check=True
    )
    assert path.read_bytes().decode() == new


def test_it_reads_as_expected():
    old = "".join("%d\n" % number for number in range(1, 10))
    assert unified(old, old.replace("5\n", "five\n") + "ten") == (
        "--- before\n+++ after\n@@ -2,8 +2,9 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n+ten\n\\ No newline at end of file\n"
    )


def test_two_small_changes_far_apart_are_told_as_such_in_a_large_text():
    lines = ["[section %d]\n" % (number // 10) if number % 10 == 0 else "\n" for number in range(20000)]
    new = list(lines)
    new[3], new[19990] = "first\n", "last\n"
    diff = unified("".join(lines), "".join(new))
    assert len(diff) < 200 and diff.count("\n+") == 3  # and the header


@pytest.mark.parametrize("different", [2, 100, 300, 1000, 10**9])
def test_hostile_texts_cost_no_more_than_was_set_aside_for_them(different, monkeypatch):
    generator = random.Random(different)
    old, new = ("".join("%d\n" % generator.randrange(different) for _line in range(13000)) for _text in "12")
    spent = []
    find = textdiff._Base.find_longest_match

    def counted(matcher, alo, ahi, blo, bhi):
        spent.append(matcher._steps[ahi] - matcher._steps[alo])
        return find(matcher, alo, ahi, blo, bhi)

    monkeypatch.setattr(textdiff._Base, "find_longest_match", counted)
    monkeypatch.setattr(textdiff, "MAX_BYTES", 1 << 20)
    assert applied(unified(old, new), old) == new
    assert 0 < sum(spent) <= textdiff.MAX_STEPS
    assert different != 300 or sum(spent) > textdiff.MAX_STEPS // 2  # the limit was needed


@pytest.mark.parametrize("size", [1000, 60000])
def test_a_long_difference_is_cut_and_says_of_how_many_lines(size):
    diff = unified("", "ü" * 50 + "\n" + "x\n" * size)
    assert len(diff.encode()) <= textdiff.MAX_BYTES
    lines = diff.splitlines()
    if size == 1000:
        assert "\\" not in diff
    else:
        assert lines[-1] == "\\ %d of %d lines of the difference" % (len(lines) - 3, size + 2)


def test_one_line_that_is_too_long_is_left_out_whole():
    assert (
        unified("a\n", "b" * 60000 + "\n")
        == "--- before\n+++ after\n@@ -1 +1 @@\n-a\n\\ 2 of 3 lines of the difference\n"
    )
