# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's audit over netlink: the records that it sends to all readers, and its rules.

Reading needs CAP_AUDIT_READ, and no more than that: a running auditd keeps getting its records. Rules need CAP_AUDIT_CONTROL.
Source: linux/audit.h, linux/netlink.h, kernel/audit.c.
"""

import errno
import os
import socket
import struct
import time
from typing import Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..errors import CtiError

BUFFER = 32 << 20  # bytes of the socket; with the kernel's own 208 KiB, bursts of some thousand operations are lost
RECORD_BYTES = 16 << 10  # MAX_AUDIT_MESSAGE_LENGTH is 8,970
MAX_RULES = 10000  # to read
ANSWER_SECONDS = 5.0

PROTOCOL = 9  # NETLINK_AUDIT
_READLOG = 1  # AUDIT_NLGRP_READLOG
_ADD_MEMBERSHIP = 1
_SOL_NETLINK = 270
_SO_RCVBUFFORCE = 33
_SO_PROTOCOL, _SO_DOMAIN = 38, 39
_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_GET, _ADD_RULE, _DEL_RULE, _LIST_RULES = 1000, 1011, 1012, 1013
_ERROR, _DONE = 2, 3
_REQUEST, _ACK = 1, 4
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_STATUS = struct.Struct("=8I")  # audit_status: mask, enabled, failure, pid, rate_limit, backlog_limit, lost, backlog

# struct audit_rule_data: flags, action, field_count, mask[64], fields[64], values[64], fieldflags[64], buflen, buf
_RULE = struct.Struct("=3I64I64I64I64II")
_FILTER_EXIT, _ALWAYS, _EQUAL = 4, 2, 0x40000000
WATCH, PERM, DIR, FILTERKEY = 105, 106, 107, 210
_TEXTS = (13, 14, 15, 16, 17, 19, 20, 21, 22, 23, WATCH, DIR, 112, FILTERKEY)  # fields whose value is a text in buf
EXECUTE, WRITE, ATTRIBUTES = 1, 2, 8


class AuditError(CtiError):
    """The kernel's audit cannot be used."""


class AuditStatus(NamedTuple):
    enabled: int  # 0: off; 1: on; 2: on, and the rules cannot be changed until the next boot
    pid: int  # of auditd; 0: none runs, and the kernel prints the records to its log
    lost: int  # records that the kernel dropped since the boot
    backlog: int  # records that it did not send yet


def passed_socket(environment: Mapping[str, str]) -> Optional[int]:
    """The descriptor of the audit socket that systemd opened for this process, see sd_listen_fds(3)."""
    try:
        if int(environment.get("LISTEN_PID", "0")) != os.getpid():
            return None
        count = int(environment.get("LISTEN_FDS", "0"))
    except ValueError:
        return None
    for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + min(max(count, 0), 64)):
        try:
            with socket.socket(fileno=os.dup(descriptor)) as passed:
                family = passed.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN)
                protocol = passed.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL)
        except OSError:
            continue
        if family == socket.AF_NETLINK and protocol == PROTOCOL:
            return descriptor
    return None


def open_reader(descriptor: Optional[int] = None) -> socket.socket:
    """A socket that gets each record of the kernel, one a datagram. `descriptor`: of such a socket, which systemd opened.

    Raises AuditError.
    """
    try:
        if descriptor is not None:
            reader = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, PROTOCOL, fileno=descriptor)
            os.set_inheritable(descriptor, False)
        else:
            reader = _open()
            reader.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _READLOG)
            try:
                reader.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
            except PermissionError:  # the kernel then gives what net.core.rmem_max allows
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    except OSError as error:
        raise AuditError(_why(error, "read the records of the kernel's audit", "CAP_AUDIT_READ")) from error
    reader.setblocking(False)
    return reader


def receive(reader: socket.socket) -> Tuple[int, bytes]:
    """The type and the text of the next record. Type 0 for what is none, or not from the kernel: a process with CAP_NET_ADMIN, such as one
    of a container in the host's network, can send to this socket. Raises OSError: BlockingIOError where none waits."""
    datagram, (port, _groups) = reader.recvfrom(RECORD_BYTES)
    return parse_datagram(datagram) if port == 0 else (0, b"")


def parse_datagram(datagram: bytes) -> Tuple[int, bytes]:
    """The type and the text of a record; type 0 where it is too short to be one. The kernel's length in it may leave out the header."""
    if len(datagram) < _HEADER.size:
        return 0, b""
    return _HEADER.unpack_from(datagram)[1], datagram[_HEADER.size :].rstrip(b"\0")  # noqa: E203


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, PROTOCOL)
    try:
        opened.bind((0, 0))
    except OSError:
        opened.close()
        raise
    return opened


def _why(error: OSError, what: str, capability: str) -> str:
    if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
        return (
            "Cannot %s: this kernel has no audit, or the service may not open its socket. In a container, audit works on its host only."
            % what
        )
    if error.errno in (errno.EPERM, errno.EACCES, errno.ECONNREFUSED):
        return "Cannot %s: not permitted. It needs %s in the host's own namespaces, which a container does not have." % (
            what, capability,
        )  # fmt: skip
    return "Cannot %s (%s). Set the option who to off if this host has no audit." % (what, error.strerror)


class Rule(NamedTuple):
    """A rule as the kernel has it."""

    raw: bytes  # struct audit_rule_data, to delete it by
    key: bytes


class Control:
    """A connection to the kernel to read and change its rules. To be closed. Raises AuditError."""

    def __init__(self) -> None:
        try:
            self._socket = _open()
        except OSError as error:
            raise AuditError(_why(error, "reach the kernel's audit", "CAP_AUDIT_CONTROL")) from error
        self._socket.settimeout(ANSWER_SECONDS)
        self._sequence = 0

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def status(self) -> AuditStatus:
        for kind, payload in self._ask(_GET, b"", "read the status of the kernel's audit"):
            if kind == _GET and len(payload) >= _STATUS.size:
                _mask, enabled, _failure, pid, _rate, _limit, lost, backlog = _STATUS.unpack_from(payload)
                return AuditStatus(enabled, pid, lost, backlog)
        raise AuditError("The kernel's audit does not tell its status. Restart the agent.")

    def rules(self) -> List[Rule]:
        """All rules, whoever made them."""
        answers = self._ask(_LIST_RULES, b"", "read the audit rules")
        return [
            Rule(payload, key_of(payload))
            for kind, payload in answers
            if kind == _LIST_RULES and len(payload) >= _RULE.size
        ]

    def add(self, rule: bytes) -> None:
        """Add a rule of watch(). One that is there already is no error."""
        try:
            list(self._ask(_ADD_RULE, rule, "add an audit rule"))
        except AuditError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise

    def delete(self, rule: bytes) -> None:
        """Delete a rule of rules(). One that is gone is no error."""
        try:
            list(self._ask(_DEL_RULE, rule, "delete an audit rule"))
        except AuditError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise

    def _ask(self, kind: int, payload: bytes, what: str) -> Iterator[Tuple[int, bytes]]:
        """The answers to a request, as type and content."""
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(payload), kind, _REQUEST | _ACK, self._sequence, 0)
        end = time.monotonic() + ANSWER_SECONDS
        acknowledged = done = False
        try:
            self._socket.sendto(header + payload, (0, 0))
            for _number in range(MAX_RULES + 2):
                if time.monotonic() > end or (acknowledged and (done or kind in (_ADD_RULE, _DEL_RULE))):
                    return
                answer, (port, _groups) = self._socket.recvfrom(RECORD_BYTES + 4096)
                _length, type_, _flags, sequence, _port = _HEADER.unpack_from(answer)
                content = answer[_HEADER.size :]  # noqa: E203
                if port != 0 or sequence != self._sequence:
                    continue
                if type_ == _ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    acknowledged = True
                elif type_ == _DONE:
                    done = True
                else:
                    done = done or kind == _GET
                    yield type_, content
        except (OSError, struct.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise AuditError(_why(error, what, "CAP_AUDIT_CONTROL")) from error
            raise AuditError("Cannot %s: the kernel does not answer. Restart the agent." % what) from error


def watch(path: bytes, folder: bool, permissions: int, key: bytes) -> bytes:
    """The rule of `auditctl -w PATH -p ... -k KEY`. `folder`: with all below it; `path` must then exist."""
    rest = [0] * 61
    numbers = [DIR if folder else WATCH, PERM, FILTERKEY, *rest]
    values = [len(path), permissions, len(key), *rest]
    flags = [_EQUAL, _EQUAL, _EQUAL, *rest]
    every = [0xFFFFFFFF] * 64  # system calls
    size = len(path) + len(key)
    return _RULE.pack(_FILTER_EXIT, _ALWAYS, 3, *every, *numbers, *values, *flags, size) + path + key


def key_of(rule: bytes) -> bytes:
    """The key of a rule; empty where it has none or is not valid. Several keys are one, with \\x01 between them."""
    return _text_of(rule, (FILTERKEY,))


def parse_watch(rule: bytes) -> Optional[Tuple[bytes, bool, int, bytes]]:
    """The arguments of watch() that make this rule, which the kernel gives back in a slightly different form; None for another rule."""
    head = _RULE.unpack_from(rule)
    numbers, values = head[67:131], head[131:195]
    if head[:3] != (_FILTER_EXIT, _ALWAYS, 3) or numbers[0] not in (WATCH, DIR) or numbers[1:3] != (PERM, FILTERKEY):
        return None
    return _text_of(rule, (WATCH, DIR)), numbers[0] == DIR, values[1], key_of(rule)


def _text_of(rule: bytes, wanted: Sequence[int]) -> bytes:
    values = _RULE.unpack_from(rule)
    count, numbers, lengths = min(values[2], 64), values[67:131], values[131:195]
    at = _RULE.size
    for number, length in list(zip(numbers, lengths))[:count]:
        if number in _TEXTS:
            if number in wanted:
                return rule[at : at + length]  # noqa: E203
            at += length
    return b""
