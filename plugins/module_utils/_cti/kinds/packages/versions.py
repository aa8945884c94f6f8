# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Versions in the order their package manager gives them, and conditions on them.

deb-version(7), dpkg's lib/dpkg/version.c; rpm-version(7), rpm's rpmio/rpmvercmp.c.
"""

import re
from itertools import zip_longest
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from ...errors import CtiError

_Number = Tuple[int, str]
_DPKG_PART = re.compile(r"([^0-9]*)([0-9]*)")
_RPM_SEGMENT = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")
_DIGITS = re.compile(r"[0-9]+\Z")
_RPM_EPOCH = re.compile(r"([0-9]*):")
_CONDITION = re.compile(r"\s*(<=|>=|==|!=|<|>|=)\s*([^\s<>=!]+)\s*\Z")
_VERSION = re.compile(r"(?=[^0-9]*[0-9])[0-9A-Za-z.+~^_%:-]+\Z")  # of dpkg or rpm, without the epoch
_HOLDS: Dict[str, Callable[[int], bool]] = {
    "<": lambda sign: sign < 0,
    "<=": lambda sign: sign <= 0,
    "=": lambda sign: sign == 0,
    "!=": lambda sign: sign != 0,
    ">=": lambda sign: sign >= 0,
    ">": lambda sign: sign > 0,
}


class Condition(NamedTuple):
    """What a version is held against."""

    relation: str  # < <= = != >= >
    version: str


def parse_condition(text: str) -> Condition:
    """A condition as a user writes it: "< 3.0.2", ">= 1:2.3", "= 1.0" (also "=="), "!= 1"; CtiError for all else.

    A version without a digit is refused: dpkg allows none, and a slip would be compared as if it were one.
    """
    match = _CONDITION.match(text)
    if match is None:
        raise CtiError(
            "version condition %.80r is not understood: write one of < <= = != >= > and a version, as '< 3.0'" % text
        )
    relation, version = match.groups()
    epoch, colon, rest = version.partition(":")
    if not _VERSION.match(rest if colon else version) or (colon and not _DIGITS.match(epoch)):
        raise CtiError(
            "version condition %.80r has no valid version: write [EPOCH:]VERSION with a digit in it, of letters, digits and"
            " . + - ~ ^ _ %%, such as '< 1:3.0'" % text
        )
    return Condition("=" if relation == "==" else relation, version)


def satisfies(version: str, condition: Condition, compare: Callable[[str, str], int]) -> bool:
    """Whether a version meets a condition. compare(version, other): negative, zero or positive, as the package manager orders."""
    return _HOLDS[condition.relation](compare(version, condition.version))


def has_epoch(version: str) -> bool:
    """Whether a version of dpkg or rpm has an epoch above 0."""
    match = _RPM_EPOCH.match(version)
    return match is not None and match.group(1).strip("0") != ""


def compare_dpkg(a: str, b: str) -> int:
    """-1, 0 or 1, as `dpkg --compare-versions` has it; CtiError for an epoch that is no number."""
    a_epoch, a_version, a_revision = _split_dpkg(a)
    b_epoch, b_version, b_revision = _split_dpkg(b)
    return _sign(a_epoch, b_epoch) or _verrevcmp(a_version, b_version) or _verrevcmp(a_revision, b_revision)


def compare_rpm(a: str, b: str) -> int:
    """-1, 0 or 1 for two [EPOCH:]VERSION[-RELEASE], as rpm compares what a dependency names with what is installed:
    no epoch is epoch 0, and a release only one of the two has does not count."""
    a_epoch, a_version, a_release = _split_rpm(a)
    b_epoch, b_version, b_release = _split_rpm(b)
    sign = _sign(a_epoch, b_epoch) or _rpmvercmp(a_version, b_version)
    if sign or a_release is None or b_release is None:
        return sign
    return _rpmvercmp(a_release, b_release)


def _sign(a: _Number, b: _Number) -> int:
    return (a > b) - (a < b)


def _number(digits: str) -> _Number:
    # Python refuses to make an int of very many digits; a version may have as many as it likes.
    digits = digits.lstrip("0")
    return len(digits), digits


def _split_dpkg(text: str) -> Tuple[_Number, str, str]:
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = "0", text
    elif not _DIGITS.match(epoch):
        raise CtiError("version '%s' has an epoch that is no number: write it as digits before the colon" % text)
    version, hyphen, revision = rest.rpartition("-")
    return (_number(epoch), version, revision) if hyphen else (_number(epoch), rest, "")


def _weight(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() and char < "\x80" else ord(char) + 256


def _dpkg_parts(text: str) -> List[Tuple[List[int], _Number]]:
    # The 0 stands for the end of the letters: above a tilde, below all else.
    return [
        ([_weight(char) for char in letters] + [0], _number(digits)) for letters, digits in _DPKG_PART.findall(text)
    ]


def _verrevcmp(a: str, b: str) -> int:
    if a == b:
        return 0
    for a_part, b_part in zip_longest(_dpkg_parts(a), _dpkg_parts(b), fillvalue=([0], (0, ""))):
        if a_part != b_part:
            return 1 if a_part > b_part else -1
    return 0


def _split_rpm(text: str) -> Tuple[_Number, str, Optional[str]]:
    match = _RPM_EPOCH.match(text)
    epoch = _number(match.group(1) if match else "")
    rest = text[match.end() :] if match else text  # noqa: E203
    version, hyphen, release = rest.rpartition("-")
    return (epoch, version, release) if hyphen else (epoch, rest, None)


def _rpmvercmp(a: str, b: str) -> int:
    for a_segment, b_segment in zip_longest(_RPM_SEGMENT.findall(a), _RPM_SEGMENT.findall(b)):
        a_rank, b_rank = _rank(a_segment), _rank(b_segment)
        if a_rank != b_rank:
            return 1 if a_rank > b_rank else -1
    return 0


def _rank(segment: Optional[str]) -> Tuple[int, _Number]:
    """Where a segment stands among all others at its place; None is the end of the version."""
    if segment is None:
        return 1, (0, "")
    if segment in "~^":
        return "~ ^".index(segment), (0, "")
    return (4, _number(segment)) if segment.isdecimal() else (3, (0, segment))
