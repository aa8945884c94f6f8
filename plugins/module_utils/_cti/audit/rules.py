# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The agent's own audit rules. They have a key of their own, by which they are found and deleted; other rules are left alone.

The kernel looks up the path of a rule. So a path that is behind a mount which may never answer gets no rule.
"""

import os
import stat
from typing import Callable, Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

from ..text import decode, plural, quoted
from .actors import OWN_KEY
from .netlink import ATTRIBUTES, EXECUTE, WRITE, AuditError, AuditStatus, Control, parse_watch, watch
from .nodes import devices_of

MAX_RULES = 500
MAX_LINKS = 40
_SLOW = (
    "fuse", "nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "lustre", "gpfs", "autofs", "afs", "virtiofs", "ncp", "coda",
)  # fmt: skip
_GENERATED = (b"/proc", b"/sys")


class Root(NamedTuple):
    """What to watch."""

    path: bytes  # absolute
    starts: bool = False  # a program, whose starts are watched; otherwise, a folder or a file whose changes are


class Outcome(NamedTuple):
    """What is watched."""

    folders: Dict[bytes, int]  # path -> inode, see nodes.py
    problems: List[str]  # why not more is: sentences


class BehindMount(Exception):
    """A path leads to a file system that may never answer."""


def refusal(status: AuditStatus) -> str:
    """Why rules cannot be set; empty where they can."""
    if status.enabled == 2:
        return (
            "The audit rules are locked until the next boot (auditctl -s: enabled 2), so the agent cannot add its own."
            " Add them to the rules of auditd with the key %s, or set the option who to read." % OWN_KEY.decode()
        )
    return ""


def state(status: AuditStatus) -> str:
    """Why no change has an actor; empty where the kernel audits."""
    if not status.enabled:
        return "Auditing is off (auditctl -s: enabled 0), so nobody knows who makes changes. Start auditd, or boot with audit=1."
    return ""


def remark(status: AuditStatus) -> str:
    """What auditing costs here, while all works; empty where there is nothing to say."""
    if status.enabled and not status.pid:
        return "No auditd runs, so the kernel prints each audit record to its log as well (journalctl -k). Install auditd to avoid that."
    return ""


def set_rules(control: Control, roots: Sequence[Root], table: bytes) -> Outcome:
    """Let the rules with the agent's key be those for these roots, and no others. `table`: of mounts, as /proc/self/mountinfo has it.

    Raises AuditError.
    """
    chosen, problems = choose(roots, table)
    wanted = {
        (root.path, is_folder, EXECUTE if root.starts else WRITE | ATTRIBUTES, OWN_KEY): inode
        for root, is_folder, inode in chosen
    }
    missing = set(wanted)
    for rule in control.rules():
        if rule.key == OWN_KEY:
            arguments = parse_watch(rule.raw)
            if arguments in missing:
                missing.remove(arguments)
            else:
                control.delete(rule.raw)
    folders = {}
    for arguments, inode in wanted.items():
        try:
            if arguments in missing:
                control.add(watch(*arguments))
        except AuditError as error:
            problems.append("'%s' has no audit rule. %s" % (quoted(decode(arguments[0])), error))
        else:
            if inode and arguments[1]:
                folders[arguments[0]] = inode
    return Outcome(folders, problems)


def known_folders(roots: Sequence[Root], table: bytes) -> Outcome:
    """The folders among the roots, which no rule is set for."""
    chosen, _problems = choose(roots, table)
    return Outcome({root.path: inode for root, is_folder, inode in chosen if is_folder}, [])


def delete_rules(control: Control) -> int:
    """Delete the rules with the agent's key. Returns their number. Raises AuditError."""
    own = [rule for rule in control.rules() if rule.key == OWN_KEY]
    for rule in own:
        control.delete(rule.raw)
    return len(own)


def choose(roots: Iterable[Root], table: bytes) -> Tuple[List[Tuple[Root, bool, int]], List[str]]:
    """The roots to add rules for, each with whether it is a folder and its inode (0: it is not there); and why others get none."""
    found: Dict[Tuple[bytes, bool], Tuple[Root, bool, int]] = {}
    problems = []
    mounts, devices = slow_mounts(table), devices_of(table)
    for root in dict.fromkeys(roots):
        shown = quoted(decode(root.path))
        try:
            path = real_path(root.path, mounts)
            status = os.lstat(path)
            is_folder = stat.S_ISDIR(status.st_mode)
            inode = devices.node(os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
        except BehindMount:
            problems.append(
                "'%s' has no audit rule, because it is on a network or FUSE file system, which the kernel must not wait for."
                % shown
            )
            continue
        except OSError:
            is_folder, inode = False, 0
            if root.starts or not os.path.isdir(os.path.dirname(path)):
                continue  # once it is there, the next time that rules are set
        if path == b"/":
            problems.append(
                "'%s' has no audit rule, because a rule for / would audit every change on the host. Name folders in the rule."
                % shown
            )
        elif not any(path == top or path.startswith(top + b"/") for top in _GENERATED):
            found.setdefault((path, root.starts), (Root(path, root.starts), is_folder, inode))
    covered = {path for (path, _starts), (root, is_folder, _inode) in found.items() if is_folder}
    chosen = [each for each in found.values() if each[0].starts or not _is_below(each[0].path, covered)]
    if len(chosen) > MAX_RULES:
        problems.append(
            "%s no audit rule: the agent adds %d at most. Name fewer folders in the rule."
            % (plural(len(chosen) - MAX_RULES, "path", "has"), MAX_RULES)
        )
    return chosen[:MAX_RULES], problems


def _is_below(path: bytes, folders: Set[bytes]) -> bool:
    while len(path) > 1:
        path = os.path.dirname(path)
        if path in folders:
            return True
    return False


def slow_mounts(table: bytes) -> Set[bytes]:
    """The mount points of file systems that may never answer. `table`: as /proc/self/mountinfo has it, see proc(5)."""
    points = set()
    for line in table.split(b"\n"):
        head, dash, tail = line.partition(b" - ")
        fields = head.split(b" ")
        if dash and len(fields) > 4 and decode(tail).startswith(_SLOW):
            points.add(_unescaped(fields[4]))
    return points


def _unescaped(path: bytes) -> bytes:
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        path = path.replace(code, character)
    return path


def real_path(path: bytes, mounts: Set[bytes], read_link: Callable[[bytes], bytes] = os.readlink) -> bytes:
    """The path without links. What is not there stays as it is. Asks no file system in `mounts`; raises BehindMount instead."""
    rest = [name for name in path.split(b"/") if name not in (b"", b".")][::-1]
    real, links = b"", 0
    while rest:
        name = rest.pop()
        if name == b"..":
            real = os.path.dirname(real).rstrip(b"/")
            continue
        below = real + b"/" + name
        if below in mounts:
            raise BehindMount
        try:
            target = read_link(below)
        except OSError:  # no link, or not there
            real = below
            continue
        links += 1
        if links > MAX_LINKS:
            raise BehindMount
        if target[:1] == b"/":
            real = b""
        rest += [each for each in target.split(b"/") if each not in (b"", b".")][::-1]
    return real or b"/"
