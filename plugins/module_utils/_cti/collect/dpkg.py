# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Installed packages out of dpkg's own database, as dpkg-query(1) would list them.

The format is deb822(5) and deb-control(5). What dpkg's lib/dpkg/parse.c refuses is refused here too, as far as the
syntax and the fields read here go.
"""

import os
import re
import stat
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import SourceAbsent, SourceFailed
from ..model import Known, Package, Part
from ..text import decode

NAME = "dpkg"

_DATABASE = "var/lib/dpkg"
_MAX_BYTES = 256 << 20
_CLOCK_GRAIN = 2  # seconds; a file changed this recently may change again and keep its time stamp
_ATTEMPTS = 10
_NAMED_IN_MESSAGE = 5
_REMEDY = "`dpkg --audit` says more, and /var/backups may hold an earlier copy"

_INSTALLED = "installed"
_NOT_INSTALLED = "not-installed"
_HALF_INSTALLED = "half-installed"
_GONE = (_NOT_INSTALLED, "config-files")
_IN_BETWEEN = (_HALF_INSTALLED, "unpacked", "half-configured", "triggers-awaited", "triggers-pending")
_STATE_OF = {
    " ".join((want, flag, state)): state
    for want in ("unknown", "install", "hold", "deinstall", "purge")
    for flag in ("ok", "reinstreq")
    for state in (_INSTALLED,) + _GONE + _IN_BETWEEN
}

_BLANKS = " \t\r\v\f"  # what dpkg skips around a value; str.strip() would take Unicode's blanks too
_VERSION_SYNTAX = r"(?:[1-9][0-9]{0,8}:|)[0-9][-A-Za-z0-9.+~]*(?<!-)"
_NAME_SYNTAX = r"[a-z0-9][-+._a-z0-9]*"
_VERSION = re.compile(_VERSION_SYNTAX + r"\Z")
_NAME = re.compile(_NAME_SYNTAX + r"\Z")
_EPOCH = re.compile(r"\+?[0-9]{1,10}\Z")
_SIZE = re.compile(r"[0-9]{1,15}\Z")
_JOURNAL = re.compile(r"[0-9]+\Z")
_MULTI_ARCH = ("", "no", "same", "foreign", "allowed")

# A line dpkg does not write: one that neither continues a value, nor begins a capitalised field, nor is the empty
# line before the next package or the end. Nor does the Package field stand anywhere else.
_UNUSUAL = re.compile(
    rb"\n(?! |[A-OQ-Z][A-Za-z0-9-]+:|P(?!ackage:)[A-Za-z0-9-]+:|(?<=\n\n)Package: |\nPackage: |\n?\Z)"
)
_FIRST = b"Package: "
_NEXT = b"\n\n" + _FIRST
_DESCRIPTION = "\nDescription: "
# The head of a stanza, after _FIRST: all the fields that dpkg writes up to the version, in its order.
_HEAD = re.compile(
    r"(%s)\n(?:Essential: .*\n|)(?:Protected: .*\n|)Status: (.*)\n(?:Priority: .*\n|)(?:Section: .*\n|)"
    r"(?:Installed-Size: ([0-9]{1,15})\n|)(?:Origin: .*\n|)Maintainer: (\S.*)(?<=\S)\n(?:Bugs: .*\n|)"
    r"Architecture: (\S+)\n(?:Multi-Arch: (same|foreign|allowed)\n|)(?:Source: .*\n|)Version: (%s)\n(?! )"
    % (_NAME_SYNTAX, _VERSION_SYNTAX)
)


class Stanza(NamedTuple):
    """What the database says of a package, whatever its state."""

    name: str
    architecture: str
    version: str
    state: str  # the third word of Status
    same: bool  # Multi-Arch: same, so that it may be installed for several architectures
    summary: str
    publisher: str
    size: Optional[int]  # bytes


def collect(known: Known, root: str = "/") -> Part:
    """The part "dpkg": every package whose state is `installed`, one item for each name and architecture.

    installed_on is when dpkg last wrote the package's list of files, so an upgrade counts as an installation.
    SourceAbsent where there is no database, SourceFailed where it cannot be read in full.
    """
    base = os.path.join(root, _DATABASE)
    try:
        for _attempt in range(_ATTEMPTS):
            stamp, settled = _stamp(base)
            if settled and stamp == known.signature(NAME):
                return Part(NAME, stamp, None)
            try:
                stanzas = _read_database(base)
                items = _items(os.path.join(base, "info"), stanzas)
            except FileNotFoundError:
                if _stamp(base)[0] == stamp:
                    raise
                continue
            if _stamp(base)[0] == stamp:
                return _part(items, stanzas, stamp if settled else None)
    except OSError as error:
        raise SourceFailed(
            "the dpkg database cannot be read: %s: %s" % (error.filename or base, error.strerror or error)
        ) from error
    raise SourceFailed("the dpkg database %s kept changing while it was read: run again when dpkg is done" % base)


def _part(items: List[Package], stanzas: Sequence[Stanza], signature: Optional[str]) -> Part:
    unsure = [stanza for stanza in stanzas if stanza.state in _IN_BETWEEN]
    if not unsure:
        return Part(NAME, signature, items)
    named = ", ".join("%s (%s)" % (stanza.name, stanza.state) for stanza in unsure[:_NAMED_IN_MESSAGE])
    more = len(unsure) - _NAMED_IN_MESSAGE
    message = "%d %s not fully installed and not counted: %s%s" % (
        len(unsure),
        "package is" if len(unsure) == 1 else "packages are",
        named,
        " and %d more" % more if more > 0 else "",
    )
    # No signature: the next run reads again, so that it can say this again.
    return Part(NAME, None, items, frozenset((stanza.name, stanza.architecture) for stanza in unsure), message)


def _items(info: str, stanzas: Sequence[Stanza]) -> List[Package]:
    items = []
    try:
        # Names relative to a descriptor spare the kernel the walk down the path for each package.
        folder: Optional[int] = os.open(info, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        folder = None
    try:
        for name, architecture, version, state, same, summary, publisher, size in stanzas:
            if state == _INSTALLED:
                written = None if folder is None else _written(folder, name, architecture, same)
                items.append(Package(name, architecture, version, summary, publisher, size, written))
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


def _stamp(base: str) -> Tuple[str, bool]:
    """What changes whenever the database does, and whether all of it is old enough to rely on that."""
    paths = [os.path.join(base, name) for name in ("status", "info", "updates", "status.d")]
    for folder in paths[2:]:
        paths.extend(os.path.join(folder, name) for name in _names(folder))
    marks = []
    newest = 0.0
    for path in paths:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            marks.append("-")
        else:
            marks.append("%x.%x.%x.%x.%x" % (
                found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns,
            ))  # fmt: skip
            newest = max(newest, found.st_mtime)
    return " ".join(marks), time.time() - newest >= _CLOCK_GRAIN


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _read_database(base: str) -> List[Stanza]:
    """All stanzas that count: status.d, status over it, and dpkg's journal over both."""
    found: Dict[Tuple[str, str], Stanza] = {}
    folder = os.path.join(base, "status.d")
    for name in _names(folder):
        if not name.endswith(".md5sums"):
            path = os.path.join(folder, name)
            found.update({stanza[:2]: stanza for stanza in parse(_read(path), path, _INSTALLED)})
    path = os.path.join(base, "status")
    data = _read(path) if os.path.lexists(path) else b""
    stanzas = parse(data, path)
    if not stanzas and not found:
        if any(name.endswith(".list") for name in _names(os.path.join(base, "info"))):
            raise SourceFailed("%s names no package although packages are installed; %s" % (path, _REMEDY))
        raise SourceAbsent("dpkg never installed a package here: %s names none" % path)
    _refuse_what_is_cut(data, stanzas, path)
    _refuse_rivals(stanzas, path)
    found.update({stanza[:2]: stanza for stanza in stanzas})
    folder = os.path.join(base, "updates")
    for name in sorted(filter(_JOURNAL.match, _names(folder)), key=lambda name: (len(name), name)):
        path = os.path.join(folder, name)
        for stanza in parse(_read(path), path):
            _overlay(found, stanza)
    return list(found.values())


def _read(path: str) -> bytes:
    # Non-blocking, so that a fifo in the place of the file cannot hold us up.
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
    """dpkg takes a last package without a description, but it writes none, and ends each with an empty line."""
    if stanzas and not data.endswith(b"\n\n"):
        last = stanzas[-1]
        if not last.summary and last.state not in (_NOT_INSTALLED, _HALF_INSTALLED):
            raise SourceFailed("%s is cut short in the middle of package %s; %s" % (path, last.name, _REMEDY))


def _refuse_rivals(stanzas: Sequence[Stanza], path: str) -> None:
    """One name may stand several times only where each is Multi-Arch: same."""
    present = [stanza for stanza in stanzas if stanza.state != _NOT_INSTALLED]
    if len({stanza.name for stanza in present}) == len(present):
        return
    same: Dict[str, bool] = {}
    for stanza in present:
        if not (stanza.same and same.get(stanza.name, True)) and stanza.name in same:
            raise SourceFailed(
                "%s holds package %s more than once although it is not Multi-Arch: same; %s"
                % (path, stanza.name, _REMEDY)
            )
        same[stanza.name] = stanza.same


def _overlay(found: Dict[Tuple[str, str], Stanza], stanza: Stanza) -> None:
    """A package's new state takes the place of its old one, which may have been of another architecture."""
    old = [key for key, other in found.items() if key[0] == stanza.name and other.state != _NOT_INSTALLED]
    if len(old) == 1 and not (stanza.same and found[old[0]].same):
        del found[old[0]]
    found[stanza[:2]] = stanza


def parse(data: bytes, origin: str, default_state: str = _NOT_INSTALLED) -> List[Stanza]:
    """The stanzas of a status file in their order; SourceFailed names `origin` and the line dpkg would refuse.

    default_state: the state of a package without a Status field.
    """
    if data and not data.endswith(b"\n"):
        raise SourceFailed("%s is cut short: its last line does not end; %s" % (origin, _REMEDY))
    if data.startswith(_FIRST) and not _UNUSUAL.search(data):
        chunks = data.split(_NEXT)
        chunks[0] = chunks[0][len(_FIRST) :]
        chunks[-1] = chunks[-1].rstrip(b"\n")
        try:
            return [
                _quick_stanza(text) or _stanza(next(_fields("Package: " + text, origin)), origin, default_state)
                for text in map(decode, chunks)
            ]
        except SourceFailed:
            pass  # the way below knows the line
    return [_stanza(fields, origin, default_state) for fields in _fields(decode(data), origin)]


def _quick_stanza(text: str) -> Optional[Stanza]:
    """A stanza as dpkg writes it, four times as fast as looking at every line; None where that has to be done."""
    head = _HEAD.match(text)
    if head is None:
        return None
    name, status, size, publisher, architecture, multi_arch, version = head.groups()
    state = _STATE_OF.get(status)
    start = text.find(_DESCRIPTION, head.end() - 1)
    if start < 0 or state is None or (architecture == "all" and multi_arch == "same"):
        return None
    start += len(_DESCRIPTION)
    end = text.find("\n", start)
    summary = text[start:end] if end >= 0 else text[start:]
    if summary[:1].isspace() or (summary[-1:].isspace() and text[end + 1 : end + 2] != " "):
        return None
    return Stanza(
        name, architecture, version, state, multi_arch == "same", summary, publisher, int(size) * 1024 if size else None
    )


def _fields(text: str, origin: str) -> Iterator[Tuple[int, Dict[str, str]]]:
    """Each stanza, with the line it begins on, as its values by field name in lower case."""
    fields: Dict[str, str] = {}
    first, name = 1, ""
    for number, row in enumerate(text.split("\n"), 1):
        if not row:
            if fields:
                yield first, _trimmed(fields)
            fields, name = {}, ""
        elif name and row[0] in _BLANKS:
            fields[name] += "\n" + row
        else:
            name, colon, value = row.partition(":")
            name = name.rstrip(_BLANKS).lower()
            if not colon or len(name) < 2 or name[0] == "-" or any(blank in name for blank in _BLANKS):
                raise SourceFailed("%s, line %d, is not a field and its value; %s" % (origin, number, _REMEDY))
            if name in fields:
                raise SourceFailed("%s, line %d, repeats the field %.60r; %s" % (origin, number, name, _REMEDY))
            first = first if fields else number
            fields[name] = value.lstrip(_BLANKS)
    if fields:
        yield first, _trimmed(fields)


def _trimmed(fields: Dict[str, str]) -> Dict[str, str]:
    return {name: value.rstrip(_BLANKS + "\n") for name, value in fields.items()}


def _stanza(numbered_fields: Tuple[int, Dict[str, str]], origin: str, default_state: str) -> Stanza:
    line, fields = numbered_fields
    get = fields.get
    name, version, architecture = get("package", "").lower(), get("version", ""), get("architecture", "")
    multi_arch = get("multi-arch", "").lower()
    status = " ".join(get("status", "unknown ok " + default_state).lower().split())
    state = _STATE_OF.get(status, "")
    if not _NAME.match(name):
        wrong = "the Package field is missing or invalid: %.60r" % name
    elif not state:
        wrong = "the Status of package %s is none dpkg knows: %.60r" % (name, status)
    elif "version" in fields or state not in (_NOT_INSTALLED, _HALF_INSTALLED):
        version, wrong = _checked_version(version)
        wrong = wrong and "the Version of package %s %s" % (name, wrong)
    else:
        wrong = ""
    if not wrong and (multi_arch not in _MULTI_ARCH or (multi_arch == "same" and architecture in ("", "all"))):
        wrong = "package %s of architecture %.60r cannot be Multi-Arch: %.60r" % (name, architecture, multi_arch)
    if wrong:
        raise SourceFailed("%s, in the package from line %d on: %s; %s" % (origin, line, wrong, _REMEDY))
    size = get("installed-size", "")
    return Stanza(
        name, architecture, version, state, multi_arch == "same", get("description", "").split("\n", 1)[0],
        get("maintainer", ""), int(size) * 1024 if _SIZE.match(size) else None,
    )  # fmt: skip


def _checked_version(text: str) -> Tuple[str, str]:
    """A version as dpkg prints it, and what dpkg's parseversion() has against it (it only warns of odd characters)."""
    if not text:
        return text, "is missing or empty"
    if _VERSION.match(text):
        return text, ""
    if " " in text or "\t" in text:
        return text, "%.60r has blanks in it" % text
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = "0", text
    if not _EPOCH.match(epoch) or int(epoch) > 0x7FFFFFFF:
        return text, "%.60r has an epoch that is no number" % text
    upstream, hyphen, revision = rest.rpartition("-")
    if not (upstream if hyphen else rest) or (hyphen and not revision):
        return text, "%.60r is incomplete" % text
    return rest if int(epoch) == 0 and ":" not in rest else "%d:%s" % (int(epoch), rest), ""
