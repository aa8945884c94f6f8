# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Reads dpkg's database. A module of its own, since a run of a module that finds the database unchanged does not compile it."""

import os
import stat
from typing import Dict, List, Optional, Sequence, Tuple

from ...errors import SourceAbsent, SourceFailed
from .absence import is_there
from .dpkg_stanza import HALF_INSTALLED, IN_BETWEEN, INSTALLED, NOT_INSTALLED, PRESENT, REMEDY, Stanza
from .dpkg_status import parse
from .kind import Package
from .unchanged import Installed, names

_MAX_BYTES = 256 << 20
_NAMED_IN_MESSAGE = 5


def read_installed(base: str) -> Installed:
    stanzas = _read_database(base)
    items = _items(os.path.join(base, "info"), stanzas)
    unsure = [stanza for stanza in stanzas if stanza.state in IN_BETWEEN]
    if not unsure:
        return Installed(items)
    named = ", ".join("%s (%s)" % (stanza.name, stanza.state) for stanza in unsure[:_NAMED_IN_MESSAGE])
    more = len(unsure) - _NAMED_IN_MESSAGE
    message = "%d %s not fully installed and not counted: %s%s" % (
        len(unsure),
        "package is" if len(unsure) == 1 else "packages are",
        named,
        " and %d more" % more if more > 0 else "",
    )
    return Installed(items, {(stanza.name, stanza.architecture) for stanza in unsure}, message, final=False)


def _items(info: str, stanzas: Sequence[Stanza]) -> List[Package]:
    items = []
    try:
        # With names relative to a descriptor, the kernel does not walk the whole path for each package.
        folder: Optional[int] = os.open(info, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        folder = None
    try:
        for name, architecture, version, state, same, summary, publisher, size, source in stanzas:
            if state in PRESENT:
                written = None if folder is None else _written(folder, name, architecture, same)
                items.append(Package(name, architecture, version, summary, publisher, size, written, source))
    finally:
        if folder is not None:
            os.close(folder)
    items.sort()
    return items


def _written(folder: int, name: str, architecture: str, same: bool) -> Optional[int]:
    qualified = name + ":" + architecture if same else name
    try:
        return int(os.stat(qualified + ".list", dir_fd=folder)[stat.ST_MTIME])
    except (FileNotFoundError, ValueError):  # ValueError: dpkg minds no NUL in an architecture, the kernel does
        # A database from before dpkg knew multi-arch.
        return _written(folder, name, architecture, False) if same else None


def _read_database(base: str) -> List[Stanza]:
    """The present stanza of each package: that of dpkg's journal before that of status, and that before one of status.d."""
    found: Dict[Tuple[str, str], Stanza] = {}
    folder = os.path.join(base, "status.d")
    for name in names(folder):
        if not name.endswith(".md5sums"):
            path = os.path.join(folder, name)
            found.update({stanza[:2]: stanza for stanza in parse(_read(path), path, INSTALLED)})
    path = os.path.join(base, "status")
    data = _read(path) if is_there(path) else b""
    stanzas = parse(data, path)
    if not stanzas and not found:
        if any(name.endswith(".list") for name in names(os.path.join(base, "info"))):
            raise SourceFailed("%s names no package although packages are installed; %s" % (path, REMEDY))
        raise SourceAbsent("dpkg never installed a package here: %s names none" % path)
    _refuse_what_is_cut(data, stanzas, path)
    _refuse_rivals(stanzas, path)
    found.update({stanza[:2]: stanza for stanza in stanzas})
    folder = os.path.join(base, "updates")
    for name in sorted(filter(_is_journal, names(folder)), key=lambda name: (len(name), name)):
        path = os.path.join(folder, name)
        for stanza in parse(_read(path), path):
            _overlay(found, stanza)
    return list(found.values())


def _is_journal(name: str) -> bool:
    return not name.strip("0123456789")


def _read(path: str) -> bytes:
    # Non-blocking, so that a fifo in the place of the file cannot block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SourceFailed("%s is not a regular file, so it is not dpkg's" % path)
        if found.st_size > _MAX_BYTES:
            raise SourceFailed("%s is larger than %d MiB, so it is not dpkg's" % (path, _MAX_BYTES >> 20))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(found.st_size)
    finally:
        os.close(descriptor)


def _refuse_what_is_cut(data: bytes, stanzas: Sequence[Stanza], path: str) -> None:
    """Raise SourceFailed where the last package is incomplete. dpkg accepts one without a description, but does not write it, and
    writes an empty line after each package."""
    if stanzas and not data.endswith(b"\n\n"):
        last = stanzas[-1]
        if not last.summary and last.state not in (NOT_INSTALLED, HALF_INSTALLED):
            raise SourceFailed("%s is cut short in the middle of package %s; %s" % (path, last.name, REMEDY))


def _refuse_rivals(stanzas: Sequence[Stanza], path: str) -> None:
    """Raise SourceFailed where a name occurs several times and not each of them is Multi-Arch: same."""
    present = [stanza for stanza in stanzas if stanza.state != NOT_INSTALLED]
    if len({stanza.name for stanza in present}) == len(present):
        return
    same: Dict[str, bool] = {}
    for stanza in present:
        if not (stanza.same and same.get(stanza.name, True)) and stanza.name in same:
            raise SourceFailed(
                "%s holds package %s more than once although it is not Multi-Arch: same; %s"
                % (path, stanza.name, REMEDY)
            )
        same[stanza.name] = stanza.same


def _overlay(found: Dict[Tuple[str, str], Stanza], stanza: Stanza) -> None:
    """Replace the old stanza of a package, which may have another architecture, by a new one."""
    old = [key for key, other in found.items() if key[0] == stanza.name and other.state != NOT_INSTALLED]
    if len(old) == 1 and not (stanza.same and found[old[0]].same):
        del found[old[0]]
    found[stanza[:2]] = stanza
