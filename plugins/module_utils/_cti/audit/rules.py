# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The agent's own audit rules. They have a key of their own, by which they are found and deleted; other rules are left alone.

The kernel looks up the path of a rule. So a path that is behind a mount which may never answer gets no rule. Paths are opened as a scan
opens them.

A rule for a folder is one for the folder that has the path when the rule is added, with the mounts that are below it then. A folder
that takes its place later, such as by a mount on it, needs the rule to be added again, and a later mount below it one of its own.
"""

import os
import stat
from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

from ..kinds.files.mounts import PSEUDO, Barred, Mounts, is_remote
from ..kinds.files.opening import Paths
from ..text import decode, plural, quoted
from .actors import OWN_KEY
from .netlink import ATTRIBUTES, EXECUTE, WRITE, AuditError, AuditStatus, Control, parse_watch, watch
from .nodes import Devices

MAX_RULES = 500
_HOME = "/"  # of the walks: they enter no network file system, and no automount


class Root(NamedTuple):
    """What to watch."""

    path: bytes  # absolute
    starts: bool = False  # a program, whose starts are watched; otherwise, a folder or a file whose changes are


class Outcome(NamedTuple):
    """What is watched."""

    folders: Dict[bytes, int]  # path -> inode, see nodes.py
    problems: List[str]  # why not more is: sentences


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


def set_rules(
    control: Control, roots: Sequence[Root], mounts: Mounts, devices: Devices, before: Mapping[bytes, int]
) -> Outcome:
    """Let the rules with the agent's key be those for these roots, and no others. `before`: the folders of the last outcome. The rule
    for a path that another folder has now is added again. Raises AuditError."""
    chosen, problems = choose(roots, mounts, devices)
    wanted = {
        (root.path, is_folder, EXECUTE if root.starts else WRITE | ATTRIBUTES, OWN_KEY): inode
        for root, is_folder, inode in chosen
    }
    missing = set(wanted)
    for rule in control.rules():
        if rule.key == OWN_KEY:
            arguments = parse_watch(rule.raw)
            inode = wanted.get(arguments, 0) if arguments else 0
            if arguments in missing and before.get(arguments[0], inode) == inode:
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


def known_folders(roots: Sequence[Root], mounts: Mounts, devices: Devices) -> Outcome:
    """The folders among the roots, which no rule is set for."""
    chosen, _problems = choose(roots, mounts, devices)
    return Outcome({root.path: inode for root, is_folder, inode in chosen if is_folder}, [])


def delete_rules(control: Control) -> int:
    """Delete the rules with the agent's key. Returns their number. Raises AuditError."""
    own = [rule for rule in control.rules() if rule.key == OWN_KEY]
    for rule in own:
        control.delete(rule.raw)
    return len(own)


def choose(roots: Iterable[Root], mounts: Mounts, devices: Devices) -> Tuple[List[Tuple[Root, bool, int]], List[str]]:
    """The roots to add rules for, each with whether it is a folder and its inode (0: it is not there); and why others get none."""
    found: Dict[Tuple[bytes, bool], Tuple[Root, bool, int]] = {}
    problems = []
    paths = Paths(mounts)
    try:
        for root in dict.fromkeys(roots):
            shown = quoted(decode(root.path))
            try:
                path, is_folder, inode = _look(paths, root.path, devices)
            except Barred as barred:
                if is_remote(barred.kind) or barred.kind == "autofs":  # and not a file system that the kernel generates
                    problems.append(
                        "'%s' has no audit rule, because it is on a network or FUSE file system, which the kernel must not wait for."
                        % shown
                    )
                continue
            except OSError:  # once its folder is there, the next time that rules are set
                continue
            if path == b"/":
                problems.append(
                    "'%s' has no audit rule, because a rule for / would audit every change on the host. Name folders in the rule."
                    % shown
                )
            elif inode or not root.starts:
                found.setdefault((path, root.starts), (Root(path, root.starts), is_folder, inode))
        covered = {path for (path, _starts), (root, is_folder, _inode) in found.items() if is_folder}
        chosen = [each for each in found.values() if each[0].starts or not _is_below(each[0].path, covered)]
        chosen += _mounts_below(covered, paths, devices)
    finally:
        paths.close()
    if len(chosen) > MAX_RULES:
        problems.append(
            "%s no audit rule: the agent adds %d at most. Name fewer folders in the rule."
            % (plural(len(chosen) - MAX_RULES, "path", "has"), MAX_RULES)
        )
    return chosen[:MAX_RULES], problems


def _mounts_below(folders: Set[bytes], paths: Paths, devices: Devices) -> List[Tuple[Root, bool, int]]:
    """The mounts below folders, as choose() returns roots."""
    below = []
    for point, kind in sorted(paths.mounts.kinds.items()):
        if kind in PSEUDO or is_remote(kind) or not _is_below(os.fsencode(point), folders):
            continue
        try:
            path, is_folder, inode = _look(paths, os.fsencode(point), devices)
        except (Barred, OSError):  # below another mount on its path
            continue
        if is_folder and path == os.fsencode(point):
            below.append((Root(path), True, inode))
    return below


def _look(paths: Paths, path: bytes, devices: Devices) -> Tuple[bytes, bool, int]:
    """The path without symlinks, whether it is a folder, and its inode, see nodes.py; 0 for what is not there, in a folder that is.
    Raises Barred and OSError."""
    name = b""
    try:
        step = paths.find(os.fsdecode(path), home=_HOME)
    except FileNotFoundError:
        path, _slash, name = path.rpartition(b"/")
        step = paths.find(os.fsdecode(path) or "/", home=_HOME)
    try:
        status = os.fstat(step.descriptor)
    finally:
        os.close(step.descriptor)
    if name:
        return os.fsencode(step.real.rstrip("/")) + b"/" + name, False, 0
    inode = devices.node(os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
    return os.fsencode(step.real), stat.S_ISDIR(status.st_mode), inode


def _is_below(path: bytes, folders: Set[bytes]) -> bool:
    while len(path) > 1:
        path = os.path.dirname(path)
        if path in folders:
            return True
    return False
