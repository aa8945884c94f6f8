# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Installed packages out of rpm's database, field for field what `rpm -qa` says of them.

An SQLite database is read directly; its headers are laid out as rpm's docs/manual/format_header.md has it.
Berkeley DB and ndb are read through one `rpm -qa`.
"""

import os
import re
import struct
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..errors import SourceAbsent, SourceFailed
from ..model import Known, Package, Part
from ..text import decode

NAME = "rpm"

_FOLDERS = ("usr/lib/sysimage/rpm", "var/lib/rpm")
_SQLITE = "rpmdb.sqlite"
_NDB = "Packages.db"
_FILES = (_SQLITE, _NDB, "Packages")  # the last is Berkeley DB's
_CLOCK_GRAIN = 2  # seconds; a file changed this recently may change again and keep its time stamp
_ATTEMPTS = 10
_LOCK_WAIT = 2.0  # seconds
_QUERY_DEADLINE = 120  # seconds
_REMEDY = "check it with `rpmdb --verifydb`, and rebuild it with `rpmdb --rebuilddb` if need be"
_GPG_KEY = "gpg-pubkey"  # rpm keeps the keys it trusts as packages of this name

# rpm's tags, in the order _package() takes their values, each with the types rpm allows it.
_INT32, _INT64, _STRING, _I18N_STRING = 4, 5, 6, 9
_TAGS = (
    (1000, "NAME", (_STRING,)),
    (1022, "ARCH", (_STRING,)),
    (1003, "EPOCH", (_INT32,)),
    (1001, "VERSION", (_STRING,)),
    (1002, "RELEASE", (_STRING,)),
    (1004, "SUMMARY", (_STRING, _I18N_STRING)),
    (1015, "PACKAGER", (_STRING, _I18N_STRING)),
    (1009, "SIZE", (_INT32,)),
    (5009, "LONGSIZE", (_INT64,)),
    (1008, "INSTALLTIME", (_INT32,)),
)
_NUMBERS = {_INT32: struct.Struct(">I"), _INT64: struct.Struct(">Q")}
_INTRO = struct.Struct(">II")
_ENTRY = struct.Struct(">IIII")  # tag, type, offset, count

_Layout = Tuple[struct.Struct, Sequence[Tuple[int, Optional[struct.Struct]]]]


def collect(known: Known, root: str = "/", gpg_keys: bool = False) -> Part:
    """The part "rpm": every installed package, one item for each version of each name and architecture.

    gpg_keys: count the imported keys (gpg-pubkey) too. SourceAbsent where there is no database, SourceFailed where
    it cannot be read in full.
    """
    path = _find(root)
    try:
        for _attempt in range(_ATTEMPTS):
            stamp, settled = _stamp(path, gpg_keys)
            if settled and stamp == known.signature(NAME):
                return Part(NAME, stamp, None)
            packages = _read(path, root)
            if _stamp(path, gpg_keys)[0] == stamp:
                items = [package for package in packages if gpg_keys or package.name != _GPG_KEY]
                items.sort(key=lambda package: package[:5])  # the rest may be None, which has no order
                return Part(NAME, stamp if settled else None, items)
    except OSError as error:
        raise SourceFailed(
            "the rpm database cannot be read: %s: %s" % (error.filename or path, error.strerror or error)
        ) from error
    raise SourceFailed("the rpm database %s kept changing while it was read: run again when rpm is done" % path)


def _find(root: str) -> str:
    for folder in _FOLDERS:
        for name in _FILES:
            path = os.path.join(root, folder, name)
            if os.path.lexists(path):
                return path
    raise SourceAbsent("there is no rpm database in %s" % " or ".join(os.path.join(root, name) for name in _FOLDERS))


def _stamp(path: str, gpg_keys: bool) -> Tuple[str, bool]:
    """What changes whenever the database does, and whether all of it is old enough to rely on that."""
    marks = ["keys" if gpg_keys else "nokeys"]
    newest = 0.0
    for name in (path, path + "-wal"):
        try:
            found = os.stat(name)
        except FileNotFoundError:
            if name == path:
                raise
            continue
        # SQLite leaves an empty write-ahead log or none, as it happens, and as root touches its ctime by reading it.
        if name == path:
            marks.append("%x.%x.%x" % (found.st_dev, found.st_ino, found.st_ctime_ns))
        elif not found.st_size:
            continue
        marks.append("%x.%x" % (found.st_size, found.st_mtime_ns))
        newest = max(newest, found.st_mtime)
    return " ".join(marks), time.time() - newest >= _CLOCK_GRAIN


def _read(path: str, root: str) -> List[Package]:
    if os.path.basename(path) == _SQLITE:
        try:
            import sqlite3
        except ImportError:
            pass  # a Python built without it
        else:
            try:
                return _read_sqlite(path, sqlite3)
            except sqlite3.Error as error:
                raise SourceFailed("the rpm database %s cannot be read: %s; %s" % (path, error, _REMEDY)) from error
    return _query(path, root)


def _read_sqlite(path: str, sqlite3: Any) -> List[Package]:
    with open(path, "rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            raise SourceFailed("the rpm database %s is not an SQLite database; %s" % (path, _REMEDY))
    uri = "file:%s?mode=ro" % path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        return _packages(path, sqlite3, uri)
    except sqlite3.OperationalError as error:
        # Without leave to write beside it, SQLite opens a database with a write-ahead log only if told that nobody
        # writes to it: right as long as that log is empty, and collect() looks again afterwards.
        if "unable to open" not in str(error) and "readonly" not in str(error):
            raise
        if any(os.path.exists(path + log) and os.path.getsize(path + log) for log in ("-wal", "-journal")):
            raise
        return _packages(path, sqlite3, uri + "&immutable=1")


def _packages(path: str, sqlite3: Any, uri: str) -> List[Package]:
    connection = sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT)
    try:
        layouts: Dict[bytes, _Layout] = {}
        packages = []
        for number, blob in connection.execute("SELECT hnum, blob FROM Packages"):
            try:
                packages.append(parse_header(blob, layouts))
            except ValueError as error:
                raise SourceFailed(
                    "header %s of the rpm database %s %s; %s" % (number, path, error, _REMEDY)
                ) from error
        return packages
    finally:
        connection.close()


def parse_header(blob: Any, layouts: Dict[bytes, _Layout]) -> Package:
    """A package out of its header; ValueError says what is wrong with it.

    layouts: what was learnt of earlier headers. Most have one of few sets of tags, and looking up where each tag
    stands would take most of the time.
    """
    if not isinstance(blob, bytes) or len(blob) < _INTRO.size:
        raise ValueError("is no header")
    entries, length = _INTRO.unpack_from(blob)
    data = _INTRO.size + entries * _ENTRY.size
    if data + length != len(blob):
        raise ValueError("is %d bytes long instead of %d" % (len(blob), data + length))
    index = blob[_INTRO.size : data]
    shape = memoryview(index).cast("Q")[::2].tobytes()  # tag and type of each entry
    layout = layouts.get(shape)
    if layout is None:
        layout = layouts[shape] = _layout(index)
    offsets, slots = layout
    values: List[Any] = [None] * len(_TAGS)
    try:
        for (slot, number), offset in zip(slots, offsets.unpack_from(index)):
            start = data + offset
            if number is None:
                values[slot] = decode(blob[start : blob.index(b"\0", start)])
            else:
                (values[slot],) = number.unpack_from(blob, start)
    except (struct.error, ValueError):
        raise ValueError("has a tag whose value is not inside it") from None
    return _package(*values)


def _layout(index: bytes) -> _Layout:
    """Where an index of this shape has the offsets of the tags of interest, and what to make of each."""
    slots = {tag: (slot, types) for slot, (tag, _name, types) in enumerate(_TAGS)}
    found: Dict[int, Tuple[int, int]] = {}
    for position, (tag, kind, _offset, _count) in enumerate(_ENTRY.iter_unpack(index)):
        if tag in slots:
            slot, types = slots[tag]
            if kind not in types:
                raise ValueError("has tag %d with a value of type %d" % (tag, kind))
            found[slot] = position, kind  # what rpm added on installation stands last, and counts
    wanted = sorted((position, slot, kind) for slot, (position, kind) in found.items())
    columns = ">"
    at = 0
    for position, _slot, _kind in wanted:
        columns += "%dxI" % (position * _ENTRY.size + 8 - at)
        at = position * _ENTRY.size + 12
    return struct.Struct(columns), [(slot, _NUMBERS.get(kind)) for _position, slot, kind in wanted]


def _package(*values: Any) -> Package:
    """values: as in _TAGS, None for what is absent."""
    name, architecture, epoch, version, release, summary, publisher, size, long_size, installed_on = values
    if not name or version is None or release is None:
        raise ValueError("has no name, version or release")
    return Package(
        name, architecture or "", "%d:%s-%s" % (epoch or 0, version, release), summary or "", publisher or "",
        size if long_size is None else long_size, installed_on,
    )  # fmt: skip


_QUERY = (
    " ".join(
        "%%|%s?{%%{%s%s}}:{-}|" % (name, name, ":shescape" if _STRING in types else "") for _tag, name, types in _TAGS
    )
    + "\\n"
)
_TEXT = r"(-|'[^']*'(?:\\''[^']*')*)"
_ROW = re.compile(" ".join(_TEXT if _STRING in types else "(-|[0-9]+)" for _tag, _name, types in _TAGS) + "\n")


def _query(path: str, root: str) -> List[Package]:
    """Everything through one process; rpm's own message where it finds anything wrong, for it exits with 0 even so."""
    folder = os.path.dirname(path)
    command = ["rpm", "--dbpath", "/" + os.path.relpath(folder, root)]
    if os.path.abspath(root) != "/":
        command += ["--root", os.path.abspath(root)]
    if os.path.basename(path) == _NDB:
        command += ["--define", "_db_backend ndb"]  # an rpm without it would make an empty database of its own
    command += ["-qa", "--queryformat", _QUERY]
    output, messages, code = _run(command)
    wrong = [line for line in decode(messages).splitlines() if line.startswith("error:")]
    if wrong or code:
        raise SourceFailed(
            "`rpm -qa` failed on the database in %s (exit code %d): %s; %s"
            % (folder, code, wrong[0] if wrong else "it does not say why", _REMEDY)
        )
    packages = list(parse_query(output, folder))
    if not packages:
        # So says, without an error, an rpm that was built without this kind of database.
        raise SourceFailed("`rpm -qa` sees no package in %s; %s with an rpm that can read it" % (path, _REMEDY))
    return packages


def parse_query(output: bytes, folder: str) -> Iterator[Package]:
    """The packages in what rpm printed for _QUERY; SourceFailed where that is anything else."""
    text = decode(output)
    at = 0
    while at < len(text):
        row = _ROW.match(text, at)
        if row is None:
            raise SourceFailed(
                "`rpm -qa` on the database in %s printed what cannot be read after %d characters: %.80r; %s"
                % (folder, at, text[at : at + 80], _REMEDY)
            )
        values = [
            None if value == "-" else int(value) if value[0] != "'" else value[1:-1].replace("'\\''", "'")
            for value in row.groups()
        ]
        try:
            yield _package(*values)
        except ValueError as error:
            raise SourceFailed("a package in the rpm database in %s %s; %s" % (folder, error, _REMEDY)) from error
        at = row.end()


def _run(command: List[str]) -> Tuple[bytes, bytes, int]:
    """Standard output, standard error and exit code of a command that gets no input, bounded in time."""
    import subprocess

    environment = {key: value for key, value in os.environ.items() if key not in ("LANGUAGE", "LANG")}
    environment["LC_ALL"] = "C.UTF-8"
    try:
        # The library knows no AnsibleModule, whose run_command the gates would have.
        process = subprocess.run(  # pylint: disable=ansible-bad-function
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=_QUERY_DEADLINE,
            check=False,
        )
    except FileNotFoundError:
        raise SourceFailed(
            "the rpm database can only be read with rpm, which is not to be found: install rpm"
        ) from None
    except subprocess.TimeoutExpired:
        raise SourceFailed("`rpm -qa` took longer than %d seconds and was stopped" % _QUERY_DEADLINE) from None
    return process.stdout, process.stderr, process.returncode
