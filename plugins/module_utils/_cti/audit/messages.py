# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Parses the records of the kernel's audit, and puts those of one system call together.

A record is `audit(SECONDS.MS:SERIAL): NAME=VALUE ...`. A value that a user may choose is in quotes, or in hex where it holds a
quote, a blank, a control or a byte above 0x7e. A label of a security module (subj, obj) is neither: root of a container that may load
AppArmor profiles chooses its text. It follows who made the call, so the first of two fields with one name counts; and precedes the key and
the type of a name, which the end of the record has. Records of programs (types 1100 to 1299 and 2100 on), which may hold any text, are
skipped: only the kernel sends the types that are read here. Source: linux/audit.h, kernel/audit.c, kernel/auditsc.c.
"""

import re
import stat
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

MAX_OPEN = 256  # events whose last record did not arrive yet
MAX_RECORDS = 80  # of one event
MAX_BYTES = 128 << 10  # of one event
MAX_ARGUMENTS = 256
UNSET = 4294967295  # of auid and ses: no login

_SYSCALL, _PATH, _CWD, _EXECVE, _EOE, _PROCTITLE, _OPENAT2 = 1300, 1302, 1307, 1309, 1320, 1327, 1337
LOGIN, CONFIG_CHANGE = 1006, 1305
_KEPT = frozenset((_PATH, _CWD, _EXECVE, _PROCTITLE, _OPENAT2))

_HEADER: Callable[[bytes], Any] = re.compile(rb"audit\((\d{1,15})\.(\d{3}):(\d{1,20})\):").match
_GLUED = re.compile(rb"( ses=\d{1,10})op=")  # as Linux writes it of a rule for a file whose folder is removed or moved
_FIELDS = re.compile(rb'(?<![^ ])(\w{1,32}(?:\[\d{1,6}\])?)=("[^"]*"|[^ ]*)')
_HEX: Callable[[bytes], Any] = re.compile(rb"(?:[0-9A-F]{2})+\Z").match
_ARGUMENT: Callable[[bytes], Any] = re.compile(rb"a(\d{1,6})(?:\[\d{1,6}\])?\Z").match

# Numbers of system calls by architecture. For those that take descriptors of folders: the arguments that hold them.
_AT_X86_64 = {
    257: (0,), 258: (0,), 259: (0,), 260: (0,), 261: (0,), 263: (0,), 264: (0, 2), 265: (0, 2), 266: (1,), 268: (0,),
    280: (0,), 316: (0, 2), 437: (0,), 452: (0,),
}  # fmt: skip
_AT_GENERIC = {
    33: (0,), 34: (0,), 35: (0,), 36: (1,), 37: (0, 2), 38: (0, 2), 53: (0,), 54: (0,), 56: (0,), 88: (0,), 276: (0, 2),
    437: (0,), 452: (0,),
}  # fmt: skip
# Those that take paths alone.
_PLAIN_X86_64 = frozenset((2, 59, 76, 82, 83, 84, 85, 86, 87, 88, 90, 92, 94, 132, 133, 188, 189, 197, 198, 235))
_PLAIN_GENERIC = frozenset((5, 6, 14, 15, 45, 221))
# Those that change a file that exists, other than by opening it.
_CHANGES_X86_64 = frozenset((
    76, 77, 85, 90, 91, 92, 93, 94, 132, 188, 189, 190, 197, 198, 199, 235, 260, 261, 268, 280, 285, 452,
))  # fmt: skip
_CHANGES_GENERIC = frozenset((5, 6, 7, 14, 15, 16, 45, 46, 47, 52, 53, 54, 55, 88, 452))

# Those of them that change the content.
_CONTENT_X86_64 = frozenset((76, 77, 85, 285))
_CONTENT_GENERIC = frozenset((45, 46, 47))


class _Calls(NamedTuple):
    at: Dict[int, Tuple[int, ...]]
    plain: "frozenset[int]"
    changes: "frozenset[int]"
    content: "frozenset[int]"
    opens: Dict[int, int]  # those that open a file: the argument that holds the flags
    openat2: int


_GENERIC = _Calls(_AT_GENERIC, _PLAIN_GENERIC, _CHANGES_GENERIC, _CONTENT_GENERIC, {56: 2}, 437)
_CALLS = {
    b"c000003e": _Calls(_AT_X86_64, _PLAIN_X86_64, _CHANGES_X86_64, _CONTENT_X86_64, {2: 1, 257: 2}, 437),
    b"c00000b7": _GENERIC,  # aarch64
    b"c00000f3": _GENERIC,  # riscv64
}
_UNKNOWN = _Calls({}, frozenset(), frozenset(), frozenset(), {}, -1)


class Touched(NamedTuple):
    """One file of a system call."""

    name: Optional[bytes]  # as the process gave it; None: not known
    kind: bytes  # NORMAL PARENT CREATE DELETE UNKNOWN
    inode: int  # 0: not known
    device: bytes
    format: int  # of the file's mode, such as stat.S_IFREG; 0: not known

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, for all that is known."""
        return self.format == stat.S_IFDIR


class Event(NamedTuple):
    """One successful system call."""

    seconds: float  # unix seconds
    serial: int
    pid: int
    ppid: int
    auid: int
    uid: int
    session: int
    exe: bytes
    title: bytes  # the command line, its first 128 bytes, with NUL between arguments
    keys: Sequence[bytes]
    folder: bytes  # the current one; empty: not known
    touched: Sequence[Touched]
    by_path: bool  # whether relative names start at the current folder; otherwise, at a folder that is not known
    changes: bool  # whether files that are NORMAL are changed, for all that the call tells
    arguments: Sequence[bytes]  # of a program that was started; the first MAX_ARGUMENTS
    writes: bool = True  # whether the content of files that are NORMAL may be changed, for all that the call tells

    @property
    def started(self) -> bool:
        """Whether a program was started."""
        return bool(self.arguments)


def value(raw: bytes) -> Optional[bytes]:
    """The value of a field that a user may choose. None where there is none."""
    if raw[:1] == b'"':
        return raw[1:-1]
    if raw == b"(null)":
        return None
    return bytes.fromhex(raw.decode("ascii")) if _HEX(raw) else raw


def forged_session(text: bytes) -> Optional[int]:
    """The session of a LOGIN record that a user began in the name of another one. None for any other.

    Whoever has no login, such as a service, may set it once, to any user. Those who log users in run as root.
    """
    fields = _fields(text)
    try:
        uid, auid, session = (int(fields.get(name, b"")) for name in (b"uid", b"auid", b"ses"))
    except ValueError:
        return None
    return session if _last(text, b"res") == b"1" and uid not in (0, auid) else None


def key_of_deleted_rule(text: bytes) -> Optional[bytes]:
    """The key of the rule that a CONFIG_CHANGE record says is deleted, by somebody or with the folder it was for. None for any other."""
    return value(_last(text, b"key")) if _change(text).get(b"op") == b"remove_rule" else None


def ends_messages(text: bytes) -> Optional[float]:
    """When a CONFIG_CHANGE record says that somebody deleted a rule or switched the audit off, in unix seconds. None for any other, such
    as for a rule that the kernel deletes with its folder: every user can remove a folder of his own."""
    header, fields = _HEADER(text), _change(text)
    deleted = fields.get(b"op") == b"remove_rule" and b"auid" in fields and b"path" not in fields
    return _seconds(header.groups()) if header and (deleted or switches_off(text)) else None


def file_of_deleted_rule(text: bytes) -> Optional[Tuple[bytes, float]]:
    """The path of the file whose rule a CONFIG_CHANGE record says is deleted, because its folder is moved or removed, and when, in unix
    seconds. None for any other record."""
    header, fields = _HEADER(text), _change(text)
    path = value(fields.get(b"path", b"(null)"))
    return (path, _seconds(header.groups())) if header and path and fields.get(b"op") == b"remove_rule" else None


def switches_off(text: bytes) -> bool:
    """Whether a CONFIG_CHANGE record says that somebody switched the audit off."""
    return _fields(text).get(b"audit_enabled") == b"0"


def _change(text: bytes) -> Dict[bytes, bytes]:
    """The fields of a CONFIG_CHANGE record."""
    return _fields(_GLUED.sub(rb"\1 op=", text, 1))


class Assembler:
    """Puts the records of events together: add() returns an event when its last record has arrived. `lose`: is called with the time (unix
    seconds) of each event that is incomplete."""

    def __init__(self, lose: Callable[[float], None] = lambda seconds: None) -> None:
        self.incomplete = 0  # events of which records are missing, or that are too large
        self._lose = lose
        self._open: Dict[Tuple[bytes, bytes, bytes], List[Tuple[int, bytes]]] = {}
        self._bytes: Dict[Tuple[bytes, bytes, bytes], int] = {}

    def add(self, type_: int, text: bytes) -> Optional[Event]:
        """Add a record. Never raises, whatever it holds."""
        if type_ not in _KEPT and type_ != _SYSCALL and type_ != _EOE:
            return None
        header = _HEADER(text)
        if header is None:
            return None
        key = header.groups()
        if type_ == _SYSCALL:
            if len(self._open) >= MAX_OPEN:
                self._forget(next(iter(self._open)))
            self._open[key], self._bytes[key] = [(type_, text[header.end() :])], 0  # noqa: E203
            return None
        records = self._open.get(key)
        if records is None:
            return None
        if type_ == _EOE:
            del self._open[key], self._bytes[key]
            try:
                return self._event(key, records)
            except ValueError:
                self._miss(key)
                return None
        if type_ == _EXECVE and sum(len(text) for kind, text in records if kind == _EXECVE) > MAX_BYTES // 4:
            return None
        self._bytes[key] += len(text)
        if len(records) >= MAX_RECORDS or self._bytes[key] > MAX_BYTES:
            self._forget(key)
        else:
            records.append((type_, text[header.end() :]))  # noqa: E203
        return None

    def _forget(self, key: Tuple[bytes, bytes, bytes]) -> None:
        del self._open[key], self._bytes[key]
        self._miss(key)

    def _miss(self, key: Tuple[bytes, bytes, bytes]) -> None:
        self.incomplete += 1
        self._lose(_seconds(key))

    def _event(self, key: Tuple[bytes, bytes, bytes], records: List[Tuple[int, bytes]]) -> Optional[Event]:
        """Raises ValueError."""
        call = _fields(records[0][1])
        if call.get(b"success") != b"yes":
            return None
        folder = title = b""
        arguments: List[bytes] = []
        touched = []
        openat2 = b""
        for type_, text in records[1:]:
            if type_ == _EXECVE:
                _add_arguments(arguments, text)
                continue
            fields = _fields(text)
            if type_ == _PATH:
                touched.append(_touched(fields, _last(text, b"nametype")))
            elif type_ == _CWD:
                folder = value(fields.get(b"cwd", b"")) or b""
            elif type_ == _PROCTITLE:
                title = value(fields.get(b"proctitle", b"")) or b""
            else:
                openat2 = fields.get(b"oflag", b"")
        if len(touched) != int(call.get(b"items", b"0")):
            raise ValueError
        by_path, changes, writes = _judge(call, openat2)
        return Event(
            _seconds(key),
            int(key[2]),
            int(call[b"pid"]) if b"pid" in call else 0,
            int(call.get(b"ppid", b"0")),
            int(call.get(b"auid", b"%d" % UNSET)),
            int(call.get(b"uid", b"0")),
            int(call.get(b"ses", b"%d" % UNSET)),
            value(call.get(b"exe", b"")) or b"",
            title,
            (value(_last(records[0][1], b"key")) or b"").split(b"\1"),
            folder,
            touched,
            by_path,
            changes,
            arguments,
            writes,
        )


def _seconds(key: Tuple[bytes, bytes, bytes]) -> float:
    return int(key[0]) + int(key[1]) / 1000.0


def _fields(text: bytes) -> Dict[bytes, bytes]:
    """The fields of a record; of several with one name, the first one."""
    return dict(reversed(_FIELDS.findall(text)))


def _last(text: bytes, name: bytes) -> bytes:
    """The last field with this name, at the end of a record; empty where there is none."""
    found = _FIELDS.findall(text[text.rfind(b" %s=" % name) :])  # noqa: E203
    return found[0][1] if found and found[0][0] == name else b""


def _touched(fields: Dict[bytes, bytes], kind: bytes) -> Touched:
    """Raises ValueError."""
    name = value(fields.get(b"name", b"(null)"))
    inode = int(fields.get(b"inode", b"0"))
    format_ = stat.S_IFMT(int(fields.get(b"mode", b"0"), 8))
    return Touched(name, kind, inode, fields.get(b"dev", b""), format_)


def _judge(call: Dict[bytes, bytes], openat2: bytes) -> Tuple[bool, bool, bool]:
    """Event.by_path, Event.changes and Event.writes. Raises ValueError."""
    calls = _CALLS.get(call.get(b"arch", b""), _UNKNOWN)
    number = int(call.get(b"syscall", b"-1"))
    where = calls.at.get(number)
    here = number in calls.plain or (
        where is not None and all(call.get(b"a%d" % at, b"").endswith(b"ffffff9c") for at in where)
    )  # AT_FDCWD
    if number in calls.opens:
        writes = _writes(int(call.get(b"a%d" % calls.opens[number], b"0"), 16))
        return here, writes, writes
    if number == calls.openat2:
        writes = bool(openat2) and _writes(int(openat2, 8))
        return here, writes, writes
    return here, number in calls.changes, number in calls.content


def _writes(flags: int) -> bool:
    """Whether open(2) with these flags may change a file: O_WRONLY, O_RDWR or O_TRUNC."""
    return flags & 3 in (1, 2) or bool(flags & 0o1000)


def _add_arguments(arguments: List[bytes], text: bytes) -> None:
    """Add those of an EXECVE record. A long argument is in pieces, as aN[0], aN[1] and so on, maybe in several records."""
    for name, raw in _FIELDS.findall(text):
        match = _ARGUMENT(name)
        if match is None:
            continue
        number = int(match.group(1))
        if number == len(arguments) and number < MAX_ARGUMENTS:
            arguments.append(value(raw) or b"")
        elif number == len(arguments) - 1:
            arguments[number] += value(raw) or b""
