# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What rpm keeps of a package: the tags read here, and the package they make."""

import re
from typing import Any, List, NamedTuple, Optional, Sequence

from .kind import Package

REMEDY = "check it with `rpmdb --verifydb`, and rebuild it with `rpmdb --rebuilddb` if need be"

# rpm's tags, in the order package() takes their values, each with whether it is a text. rpm takes any type of value for any
# tag, and of an array its first; so do the two readers.
TAGS = (
    (1000, "NAME", True),
    (1022, "ARCH", True),
    (1003, "EPOCH", False),
    (1001, "VERSION", True),
    (1002, "RELEASE", True),
    (1004, "SUMMARY", True),
    (1015, "PACKAGER", True),
    (1009, "SIZE", False),
    (5009, "LONGSIZE", False),
    (1008, "INSTALLTIME", False),
    (1044, "SOURCERPM", True),
)


_DIGITS = "[0-9]{1,20}\\Z"


class Found(NamedTuple):
    """What is in a database."""

    packages: List[Package]
    damaged: List[
        str
    ]  # the name of each package that is there and cannot be read; empty where that is not known either


def package(*values: Any) -> Package:
    """values: as in TAGS, None for what is absent. ValueError: it is no package."""
    name, architecture, epoch, version, release, summary, publisher, size, long_size, installed_on, source = values
    if not name or version is None or release is None:
        raise ValueError("has no name, version or release")
    return Package(
        name, architecture or "", "%s:%s-%s" % (epoch or 0, version, release), summary or "", publisher or "",
        size if long_size is None else long_size, installed_on, source or "",
    )  # fmt: skip


def usual(values: Sequence[Any]) -> List[Any]:
    """Values of any type as package() takes them: texts where TAGS has a text, numbers or None elsewhere."""
    return [
        None if value is None else str(value) if is_text else _number(value)
        for (_tag, _name, is_text), value in zip(TAGS, values)
    ]


def _number(value: Any) -> Optional[int]:
    if isinstance(value, int):
        return value
    return int(value) if re.match(_DIGITS, value) else None
