# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a destinationPath means. Referees: Python's fnmatch and re."""

import fnmatch
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import DcrError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import scope
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.pathspec import parse

NAMES = st.text(st.sampled_from("ab.[]!-^\\*?c\n\udcff"), max_size=12)


def matches(path, name):
    return bool(parse(path).match(name))


@pytest.mark.parametrize(
    "path, directory, syntax, name",
    [
        ("/etc/.*.conf", "/etc", "regex", ".*.conf"),
        ("/etc/*.conf", "/etc", "glob", "*.conf"),
        ("/etc/*.*", "/etc", "glob", "*.*"),
        ("/etc/*", "/etc", "glob", "*"),
        ("/etc/host?", "/etc", "glob", "host?"),
        ("/etc/[!a-f]*.conf", "/etc", "glob", "[!a-f]*.conf"),
        ("/etc/[[]", "/etc", "glob", "[[]"),
        ("/etc/passwd", "/etc", "literal", "passwd"),
        ("/etc/passwd-", "/etc", "literal", "passwd-"),
        ("/usr/bin/g++", "/usr/bin", "literal", "g++"),
        ("/srv/notes (1).txt", "/srv", "literal", "notes (1).txt"),
        ("/etc/dev-disk-by\\x2dlabel.swap", "/etc", "literal", "dev-disk-by\\x2dlabel.swap"),
        ("/etc/ssh.*_config", "/etc", "regex", "ssh.*_config"),
        ("/etc/sshd?_config\\.d", "/etc", "regex", "sshd?_config\\.d"),
        ("/etc/^host", "/etc", "regex", "^host"),
        ("/etc/hosts$", "/etc", "regex", "hosts$"),
        ("/etc/passwd|group", "/etc", "regex", "passwd|group"),
        ("/etc/[^.]+", "/etc", "regex", "[^.]+"),
        ("/etc/rc\\d", "/etc", "regex", "rc\\d"),
        ("/etc/rc[0-9]{1,2}", "/etc", "regex", "rc[0-9]{1,2}"),
    ],
)
def test_the_last_segment_tells_the_syntax(path, directory, syntax, name):
    assert parse(path)[:3] == (directory, syntax, name)


def test_the_path_is_normalised():
    assert parse("//etc/./apt//")[:3] == ("/etc", "literal", "apt")
    assert parse("/")[:3] == ("/", "literal", "")


@pytest.mark.parametrize(
    "path, problem",
    [
        ("", "not an absolute path"),
        ("etc/passwd", "not an absolute path"),
        ("/etc/../shadow", 'contains ".."'),
        ("/etc/a\0b", "NUL"),
        ("/etc/\ud800", "surrogate"),
        ("/" + "a" * 5000, "longer than"),
        ("/etc/*/passwd", "before its last segment"),
        ("/etc/[^/]*.conf", "before its last segment"),
        ("/etc/*.{conf,ini}", "{a,b}"),
        ("/etc/[", "has a [ without its ]"),
        ("/etc/a[!]*", "has a [ without its ]"),
        ("/etc/[a][]", "has a [ without its ]"),
        ("/etc/*.conf|*.ini", "not a valid regular expression"),
        ("/etc/.*(", "not a valid regular expression"),
        ("/etc/.*)|(", "not a valid regular expression"),
        ("/etc/(a|b)+.*", "repeats a group"),
        ("/etc/(.*a){2}", "repeats a group"),
        ("/etc/(?:.*a)*", "repeats a group"),
        ("/etc/(.+)\\1", "refers back"),
        ("/etc/(?P<x>a).*(?P=x)", "extension"),
        ("/etc/(?=a).*", "extension"),
        ("/etc/.*a.*b.*c.*", "too many repeats"),
        ("/etc/" + "a?" * 40 + "a.*", "too many repeats"),
        ("/etc/" + "(a|b|ab)" * 30, "too many repeats"),
        ("/etc/" + "a{1,200}" * 5, "too many repeats"),
        ("/etc/a{1,99999}", "more often than a name has characters"),
        ("/etc/" + "(" * 2000 + "|" + ")" * 2000, ""),
    ],
)
def test_a_path_that_cannot_be_used_is_refused_in_one_sentence(path, problem):
    with pytest.raises(DcrError) as refusal:
        parse(path)
    text = str(refusal.value)
    assert problem in text
    assert text.startswith("destinationPath ") and text.endswith(".")
    assert "; " in text, "no remedy"
    assert "\n" not in text and len(text) < 600


def test_a_regular_expression_is_anchored_at_both_ends_of_the_base_name():
    assert matches("/etc/.*.conf", "a.conf")
    assert matches("/etc/.*.conf", "20apt-esm-hook.conf")
    assert not matches("/etc/.*.conf", "a.conf.bak")
    assert not matches("/etc/.*.conf", "a.conf\n")
    assert not matches("/etc/a|bc", "bcd")
    assert not matches("/etc/^a.*x$", "a x\n")


def test_matching_is_case_sensitive():
    assert not matches("/etc/*.conf", "A.CONF")
    assert not matches("/etc/.*.conf", "A.CONF")
    assert not matches("/etc/passwd", "Passwd")


@pytest.mark.parametrize("path", ["/d/*.conf", "/d/.*.conf", "/d/[!x]?*.conf", "/d/[^x].*conf"])
def test_names_that_are_not_utf_8_or_hold_newlines_match(path):
    assert matches(path, os.fsencode("\udcff\udcfe.conf").decode("utf-8", "surrogateescape"))
    assert matches(path, "a\nb.conf")


@pytest.mark.parametrize("path", ["/d/.*a.*a.*b", "/d/" + "*a" * 60 + "*b", "/d/" + "*?" * 60 + "b"])
def test_a_hostile_name_does_not_run_away_with_a_pattern(path):
    assert not matches(path, "a" * 255)


def glob_as_fnmatch_has_it(glob, name):
    return re.match(fnmatch.translate(glob), name) is not None


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from("ab.*?"), min_size=1, max_size=8), NAMES)
def test_a_glob_matches_what_fnmatch_matches(glob, name):
    spec = parse("/d/x" + glob) if not re.search(r"\.[*]", glob) else None
    if spec is not None and spec.syntax == "glob":
        assert bool(spec.match("x" + name)) == glob_as_fnmatch_has_it("x" + glob, "x" + name)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["", "!"]), st.text(st.sampled_from("abc-]"), max_size=6), st.sampled_from("abc-!]\udcff"))
def test_a_set_matches_what_fnmatch_matches(negation, content, character):
    glob = "x[" + negation + content + "]*"
    try:
        said = glob_as_fnmatch_has_it(glob, "x" + character)
    except re.error:  # older ones stumble over a range in the wrong order
        said = None
    try:
        spec = parse("/d/" + glob)
    except DcrError:
        assert r"\[" in fnmatch.translate(glob)  # which has no set then
    else:
        assert said in (bool(spec.match("x" + character)), None)


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_with_one_sentence(text):
    try:
        spec = parse("/" + text)
    except DcrError as refusal:
        assert str(refusal).startswith("destinationPath ")
        str(refusal).encode("utf-8")
    else:
        assert spec.directory.startswith("/") and "/" not in spec.name
        spec.match("a" * 255)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab.*+?(|)[]^${}1,\\"), min_size=1, max_size=14))
def test_no_accepted_pattern_runs_away(pattern):
    try:
        spec = parse("/d/" + pattern)
    except DcrError:
        return
    spec.match("a" * 255)
    spec.match("ab." * 85)


def test_the_path_of_the_template_is_parsed_as_any_other():
    known, parsed = scope.parse_path(scope.TEMPLATE), parse(scope.TEMPLATE)
    assert known[:3] == parsed[:3]
    assert known.match.__self__ == parsed.match.__self__
