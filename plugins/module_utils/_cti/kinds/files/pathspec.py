# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Parses the destinationPath of a data collection rule.

Azure's documentation writes a glob in the last segment (`/etc/*.conf`), its template a regular expression
(`/etc/.*.conf`). Both are accepted. A last segment with a construct that only regular expressions have is a regular expression,
anchored at both ends of the base name; `*.*`, which is not a valid one, is a glob. A glob is case-sensitive, has
`*`, `?`, `[ab]` and `[!a]` (see glob(7)), and its `*` also matches a leading dot.
"""

import os
import re
import warnings
from typing import Any, Callable, List, Tuple

from ...errors import DcrError
from ...text import printable
from .destination import PathSpec

MAX_PATH = 4096  # bytes, PATH_MAX of linux/limits.h
MAX_NAME = 255  # bytes, NAME_MAX
MAX_WORK = MAX_NAME**3  # ways in which a regular expression may try a hostile name; three times .* is allowed

# What a glob or a plain name hardly ever holds: .* .+ \. \d [^ ]+ )+ {2} (?: a|b, a leading ^, a trailing $
_REGEX_ONLY = re.compile(r"\.[*+]|\\[.\\dDwWsS*+?\[\](){}|^$]|\[\^|[\])]\+|.\{\d+,?\d*\}|\(\?|\||^\^|\$\Z", re.S)
_DOT_STAR = re.compile(r"\.[*+]")
_BRACES = re.compile(r"\{[^{}]*,[^{}]*\}", re.S)
_WILDCARDS = re.compile(r"[*?\[]")
_GLOB_TOKENS = re.compile(
    r"\[(?:!.|[^!])[^\]]*\]|.", re.S
)  # a set, in which a first ] stands for itself; or one character


def parse(path: str) -> PathSpec:
    """Parse a destinationPath. Raises DcrError, which says what is wrong with the path and what to write instead."""
    directory, name = _split(path)
    if _WILDCARDS.search(directory):
        raise _refusal(
            path,
            "has a wildcard before its last segment; write the directory before the wildcard, a last segment that is a pattern, and set "
            "recurse, such as /home/authorized_key[s] for /home/*/.ssh/authorized_keys",
        )
    if _is_regex(name):
        return PathSpec(directory, "regex", name, _compile(path, name))
    if not _WILDCARDS.search(name):
        return PathSpec(directory, "literal", name, name.__eq__)
    if _BRACES.search(name):
        raise _refusal(
            path,
            "mixes a glob with {a,b}, which is not expanded; write one item for each, or a regular "
            r"expression such as .*\.(conf|ini)",
        )
    if "[" in _GLOB_TOKENS.findall(name):
        raise _refusal(path, "has a [ without its ]; add the ], or write [[] for the character [")
    return PathSpec(directory, "glob", name, re.compile(_translate(name)).match)


def normal(path: str) -> str:
    """A destinationPath in normal form, for comparisons: `/x/`, `//x` and `/./x` become `/x`. Raises DcrError."""
    spec = parse(path)
    return spec.directory.rstrip("/") + "/" + spec.name


def expand(path: str) -> str:
    """The normal form of a path that a user of this host gave: a leading `~` is a home directory. Raises DcrError."""
    return normal(os.path.expanduser(path))


def _refusal(path: str, problem: str) -> DcrError:
    shown = path if len(path) <= 300 else path[:300] + "..."
    shown = printable(shown.replace("\0", "\\0"))
    return DcrError(f"destinationPath '{shown}' {problem}.")


def _split(path: str) -> Tuple[str, str]:
    if "\0" in path:
        raise _refusal(path, "contains a NUL character; remove it")
    try:
        size = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise DcrError(
            f"destinationPath {path[:300]!a} contains half of a surrogate pair; write the character in full."
        ) from None
    if size > MAX_PATH:
        raise _refusal(path, f"is longer than {MAX_PATH} bytes, the limit for a path; shorten it")
    if not path.startswith("/"):
        raise _refusal(path, "is not an absolute path; start it with /")
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise _refusal(path, 'contains ".."; write the directory that it stands for')
    return "/" + "/".join(segments[:-1]), segments[-1] if segments else ""


def _is_regex(name: str) -> bool:
    if name.startswith(("*", "?")):
        # No regular expression starts with a repeat: *.* is a glob. An invalid one is refused when it is compiled.
        name = _DOT_STAR.sub("", name)
    return bool(_REGEX_ONLY.search(name))


def _translate(glob: str) -> str:
    """A regular expression with the meaning of the glob, which matches in linear time: what stands between two stars stays where
    it first matches, so that nothing is tried again."""
    pieces = [""]  # regular expressions of what the stars separate
    for token in _GLOB_TOKENS.findall(glob):
        if token == "*":
            pieces.append("")
        elif token == "?":
            pieces[-1] += "."
        elif len(token) > 1:
            pieces[-1] += _translate_set(token[1:-1])
        else:
            pieces[-1] += re.escape(token)
    if len(pieces) == 1:
        return "(?s)" + pieces[0] + r"\Z"
    first, *between, last = pieces
    # A lookahead is not entered again once it has matched, as an atomic group is not, which Python has since 3.11.
    middle = "".join(
        r"(?=(.*?%s))\%d" % (piece, number) for number, piece in enumerate([piece for piece in between if piece], 1)
    )
    return "(?s)" + first + middle + ".*" + last + r"\Z"


def _translate_set(content: str) -> str:
    """A regular expression for what is between the brackets of a set. As in glob(7), a range whose ends are in the wrong order
    matches nothing."""
    negated = content.startswith("!")
    content = content[1:] if negated else content
    members: List[str] = []
    position = 0
    while position < len(content):
        first = content[position]
        if content[position + 1 : position + 2] == "-" and position + 2 < len(content):  # noqa: E203
            last = content[position + 2]
            position += 3
            if first <= last:
                members.append(re.escape(first) + "-" + re.escape(last))
        else:
            members.append(re.escape(first))
            position += 1
    if not members:
        return "." if negated else "(?!)"
    return "[{0}{1}]".format("^" if negated else "", "".join(members))


def _compile(path: str, name: str) -> Callable[[str], Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of meanings that may change in a later Python
            re.compile(name)  # alone first, or a lone ")" would close the group below
            pattern = re.compile("(?s)(?:" + name + r")\Z")
    except (re.error, OverflowError, RecursionError) as error:
        raise _refusal(
            path, f"is not a valid regular expression ({error}); correct it, or write a glob such as *.conf"
        ) from None
    problem = _runaway(name)
    if problem:
        raise _refusal(
            path,
            f"could take forever to match, because it {problem}; write at most three plain repeats such as .* or [a-z]+",
        )
    return pattern.match


def _runaway(pattern: str) -> str:
    """Why a valid regular expression is refused; empty where it is not. Judged by its text, and so a little too strict."""
    if any(escape.group()[1] in "123456789" for escape in re.finditer(r"\\.", pattern, re.S)):
        return "refers back to a group"
    bare = re.sub(r"\\.", "x", pattern, flags=re.S)
    bare = re.sub(r"\[\^?\]?[^\]]*\]", "x", bare)
    if "(?" in bare.replace("(?:", ""):
        return "contains an extension of the form (?...)"
    bare = bare.replace("(?:", "(")
    if re.search(r"\)(?:[*+?]|\{\d*,?\d*\})", bare):
        return "repeats a group"
    work = _alternatives(bare)
    for repeat in re.finditer(r"([*+])\??|\{(\d*)(,?)(\d*)\}\??|\?", bare):
        unbounded, least, comma, most = repeat.groups()
        if max(len(least or ""), len(most or "")) > 3:
            return "repeats something more often than a name has characters"
        if unbounded or (comma and not most):
            work *= MAX_NAME
        elif comma:
            work *= max(1, int(most) - int(least or 0) + 1)
        elif least is None:
            work *= 2
    return "has too many repeats and alternatives" if work > MAX_WORK else ""


def _alternatives(bare: str) -> int:
    """The number of combinations of the groups' alternatives."""
    total, groups = 1, [1]
    for character in bare:
        if character == "(":
            groups.append(1)
        elif character == "|":
            groups[-1] += 1
        elif character == ")":
            total *= groups.pop()
    return total * groups[0]
