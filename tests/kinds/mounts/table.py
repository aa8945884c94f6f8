# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Collects what is mounted, as proc_mounts(5) lists it."""

import os
import re

from ...errors import SourceFailed
from ...model import Collection, Known, Part
from ..sources import Sources
from .kind import Mount

_PATH = "/proc/self/mounts"


def collect(known: Known) -> Collection:
    """Every mount; of several at one path the last one, which hides the others."""
    return Sources([("proc", _read)], known)


def _read(_known: Known) -> Part:
    try:
        with open(_PATH, "rb") as file:
            lines = os.fsdecode(file.read()).splitlines()
    except OSError as error:
        raise SourceFailed("%s cannot be read: %s" % (_PATH, error.strerror)) from error
    mounts = {}
    for line in lines:
        device, path, type_, options, *_numbers = line.split(" ")
        mounts[path] = Mount(_unescaped(path), _unescaped(device), type_, options)
    return Part("proc", None, sorted(mounts.values()))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), text)
