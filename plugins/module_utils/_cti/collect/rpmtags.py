# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What rpm keeps of a package: the tags read here, and the package they make."""

from typing import Any

from ..model import Package

REMEDY = "check it with `rpmdb --verifydb`, and rebuild it with `rpmdb --rebuilddb` if need be"

# rpm's tags, in the order package() takes their values, each with the types rpm allows it.
INT32, INT64, STRING, I18N_STRING = 4, 5, 6, 9
TAGS = (
    (1000, "NAME", (STRING,)),
    (1022, "ARCH", (STRING,)),
    (1003, "EPOCH", (INT32,)),
    (1001, "VERSION", (STRING,)),
    (1002, "RELEASE", (STRING,)),
    (1004, "SUMMARY", (STRING, I18N_STRING)),
    (1015, "PACKAGER", (STRING, I18N_STRING)),
    (1009, "SIZE", (INT32,)),
    (5009, "LONGSIZE", (INT64,)),
    (1008, "INSTALLTIME", (INT32,)),
)


def package(*values: Any) -> Package:
    """values: as in TAGS, None for what is absent."""
    name, architecture, epoch, version, release, summary, publisher, size, long_size, installed_on = values
    if not name or version is None or release is None:
        raise ValueError("has no name, version or release")
    return Package(
        name, architecture or "", "%d:%s-%s" % (epoch or 0, version, release), summary or "", publisher or "",
        size if long_size is None else long_size, installed_on,
    )  # fmt: skip
