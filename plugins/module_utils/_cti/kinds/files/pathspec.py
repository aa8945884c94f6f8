# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What the destinationPath of a data collection rule means.

Azure's documentation writes a glob in the last segment (`/etc/*.conf`), its template a regular expression
(`/etc/.*.conf`). Both are understood: a last segment that holds a construct which only a regular expression has is
one, anchored at both ends of the base name; `*.*`, which could be none, is a glob. A glob is case-sensitive, knows
`*`, `?`, `[ab]`, `[!a]` (see glob(7)), and its `*` matches a leading dot as well.
"""

import os
import re
import warnings
from typing import Any, Callable, List, NamedTuple, Tuple

from ...errors import DcrError
from ...text import printable

MAX_PATH = 4096  # bytes, PATH_MAX of linux/limits.h
MAX_NAME = 255  # bytes, NAME_MAX
MAX_WORK = MAX_NAME**3  # ways in which a regular expression may try a hostile name; three times .* is allowed

# What a glob or a plain name hardly ever holds: .* .+ \. \d [^ ]+ )+ {2} (?: a|b, a leading ^, a trailing $
_REGEX_ONLY = re.compile(r"\.[*+]|\\[.\\dDwWsS*+?\[\](){}|^$]|\[\^|[\])]\+|.\{\d+,?\d*\}|\(\?|\||^\^|\$\Z", re.S)
_DOT_STAR = re.compile(r"\.[*+]")
_BRACES = re.compile(r"\{[^{}]*,[^{}]*\}", re.S)
_WILDCARDS = re.compile(r"[*?\[]")


class PathSpec(NamedTuple):
    """A destinationPath taken apart."""

    directory: str  # absolute and normalised
    syntax: str  # literal glob regex
    name: str  # the last segment as written; empty for "/" itself
    match: Callable[[str], Any]  # base name (os.fsdecode text) -> true if it matches


def parse(path: str) -> PathSpec:
    """Read a destinationPath; DcrError says what is wrong with it and what to write instead."""
    directory, name = _split(path)
    if _WILDCARDS.search(directory):
        raise _refusal(path, "has a wildcard before its last segment; name the directory in full and set recurse")
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
    return PathSpec(directory, "glob", name, re.compile(_translate(name)).match)


def normal(path: str) -> str:
    """A destinationPath in the one form in which it is compared: `/x/`, `//x` and `/./x` are `/x`. Raises DcrError."""
    spec = parse(path)
    return spec.directory.rstrip("/") + "/" + spec.name


def expand(path: str) -> str:
    """`path` as a user of this host writes it, in normal form: a leading `~` is a home directory. Raises DcrError."""
    return normal(os.path.expanduser(path))


def _refusal(path: str, problem: str) -> DcrError:
    shown = path if len(path) <= 300 else path[:300] + "..."
    return DcrError("destinationPath '{0}' {1}.".format(printable(shown.replace("\0", "\\0")), problem))


def _split(path: str) -> Tuple[str, str]:
    if "\0" in path:
        raise _refusal(path, "holds a NUL character, which no path can hold; remove it")
    try:
        size = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise DcrError(
            "destinationPath {0} holds half of a surrogate pair, which no path can hold; write the "
            "character in full.".format(ascii(path[:300]))
        ) from None
    if size > MAX_PATH:
        raise _refusal(path, "is longer than {0} bytes, which no path can be; shorten it".format(MAX_PATH))
    if not path.startswith("/"):
        raise _refusal(path, "is not an absolute path; start it with /")
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise _refusal(path, 'holds ".."; write the directory that is meant')
    return "/" + "/".join(segments[:-1]), segments[-1] if segments else ""


def _is_regex(name: str) -> bool:
    if name.startswith(("*", "?")):
        # No regular expression starts with a repeat: *.* is a glob. What is plainly none is refused when compiled.
        name = _DOT_STAR.sub("", name)
    return bool(_REGEX_ONLY.search(name))


def _translate(glob: str) -> str:
    """A regular expression that never backtracks far: a piece between two stars stays where it first fits."""
    pieces: List[str] = [""]
    position = 0
    while position < len(glob):
        character = glob[position]
        position += 1
        if character == "*":
            pieces.append("")
        elif character == "?":
            pieces[-1] += "."
        elif character == "[":
            end = glob.find("]", position + (2 if glob[position : position + 1] == "!" else 1))  # noqa: E203
            if end < 0:
                pieces[-1] += r"\["
            else:
                pieces[-1] += _translate_set(glob[position:end])
                position = end + 1
        else:
            pieces[-1] += re.escape(character)
    if len(pieces) == 1:
        return "(?s)" + pieces[0] + r"\Z"
    middle = "".join(
        r"(?=(.*?{0}))\{1}".format(piece, number)
        for number, piece in enumerate((piece for piece in pieces[1:-1] if piece), 1)
    )
    return "(?s)" + pieces[0] + middle + ".*" + pieces[-1] + r"\Z"


def _translate_set(content: str) -> str:
    """glob(7): a range whose ends are in the wrong order matches nothing."""
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
            path, "is not a valid regular expression ({0}); correct it, or write a glob such as *.conf".format(error)
        ) from None
    problem = _runaway(name)
    if problem:
        raise _refusal(
            path,
            "could take for ever to match, as it {0}; write at most three plain repeats such as .* or [a-z]+".format(
                problem
            ),
        )
    return pattern.match


def _runaway(pattern: str) -> str:
    """Why a valid regular expression is refused. Judged by how it is written, so a little stricter than need be."""
    if any(escape.group()[1] in "123456789" for escape in re.finditer(r"\\.", pattern, re.S)):
        return "refers back to a group"
    bare = re.sub(r"\\.", "x", pattern, flags=re.S)
    bare = re.sub(r"\[\^?\]?[^\]]*\]", "x", bare)
    if "(?" in bare.replace("(?:", ""):
        return "holds an extension of the form (?...)"
    bare = bare.replace("(?:", "(")
    if re.search(r"\)(?:[*+?]|\{\d*,?\d*\})", bare):
        return "repeats a group"
    work = _alternatives(bare)
    for repeat in re.finditer(r"([*+])\??|\{(\d*)(,?)(\d*)\}\??|\?", bare):
        unbounded, least, comma, most = repeat.groups()
        if max(len(least or ""), len(most or "")) > 3:
            return "repeats more often than a name is long"
        if unbounded or (comma and not most):
            work *= MAX_NAME
        elif comma:
            work *= max(1, int(most) - int(least or 0) + 1)
        elif least is None:
            work *= 2
    return "has too many repeats and alternatives" if work > MAX_WORK else ""


def _alternatives(bare: str) -> int:
    """In how many ways the groups can be taken together."""
    total, groups = 1, [1]
    for character in bare:
        if character == "(":
            groups.append(1)
        elif character == "|":
            groups[-1] += 1
        elif character == ")":
            total *= groups.pop()
    return total * groups[0]
