# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The file items of data collection rules during a scan: which directories each one claims, and with which outcome."""

import os
import stat
import sys
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

from ...errors import DcrError
from ...model import Source
from ...text import plural, quoted
from .hashing import LENGTHS, is_allowed
from .notes import Notes
from .scope import FileRule, parse_path
from .statx import mode

_ENCODING = sys.getfilesystemencoding()
UTF8 = _ENCODING.lower() in ("utf-8", "utf8")


def to_text(name: str) -> str:
    """The identity of a file name that the interpreter returned: UTF-8 with surrogateescape, whatever the locale."""
    return name if UTF8 else os.fsencode(name).decode("utf-8", "surrogateescape")


def to_name(text: str) -> str:
    """The file name that to_text() made this text of."""
    return text if UTF8 else os.fsdecode(text.encode("utf-8", "surrogateescape"))


class Target(NamedTuple):
    """The target of a symlink."""

    text: str  # as readlink(2) has it
    real: str  # absolute path without symlinks; empty where it was not reached
    status: Optional[bytes]  # see statx.py; None where the symlink is broken or must not be followed
    linker: str = ""  # on whose account it is followed, see owners.py


class Rule:
    """A file item and what a scan has found for it so far."""

    def __init__(self, number: int, rule: FileRule) -> None:
        self.number = number
        self.path = rule.path
        self.links = rule.links
        self.type = rule.type
        self.checksum = rule.checksum
        self.forbidden = ""  # the checksum that the rule asks for, where the host's policy forbids it
        self.recurse = rule.recurse
        self.matched = 0
        self.reported = 0
        self.absent = ""  # why there is nothing to read
        self.notes = Notes()

    def takes_link(self, target: Optional[Target]) -> bool:
        """Whether a symlink with this target is one of the rule's entries; None: the target was not looked up."""
        if self.links == "manage" or target is None or target.status is None:
            return self.type != "directory"
        kind = stat.S_IFMT(mode(target.status))
        return self.type == "any" or kind == {"file": stat.S_IFREG, "directory": stat.S_IFDIR}[self.type]


class Claim(NamedTuple):
    """A rule's claim on the entries of one directory."""

    rule: Rule
    match: Optional[Callable[[str], Any]]  # name -> true if claimed; None claims every name
    recurse: bool

    def wants(self, name: str) -> bool:
        return self.match is None or bool(self.match(name))


Claimants = Tuple[Claim, ...]


class Claims:
    """All claims on a directory, in the order of the rules. Directories with the same claims share one."""

    def __init__(self, claims: Claimants) -> None:
        self.all = claims
        self.files = tuple(claim for claim in claims if claim.rule.type != "directory")
        self.directories = tuple(claim for claim in claims if claim.rule.type != "file")
        self.others = tuple(claim for claim in claims if claim.rule.type == "any")
        self.links = tuple(claim for claim in claims if claim.rule.links != "ignore")
        self.below = tuple(claim for claim in claims if claim.recurse)
        self.behind = tuple(claim for claim in self.below if claim.rule.links == "follow")
        self.options = ascii(
            [
                (
                    claim.rule.path,
                    claim.rule.links,
                    claim.rule.type,
                    claim.rule.checksum,
                    claim.recurse,
                    claim.match is None,
                )
                for claim in claims
            ]
        ).encode("ascii")

    def note(self, kind: str, path: str, why: str = "") -> None:
        for claim in self.all:
            claim.rule.notes.add(kind, path, why)

    def note_mount(self, prefix: str, name: str, kind: str) -> bool:
        """Note a mount that is not entered. Returns whether it matters to any rule."""
        concerned = [claim for claim in self.all if claim.recurse or (claim.rule.type != "file" and claim.wants(name))]
        for claim in concerned:
            claim.rule.notes.add("mount", prefix + name, kind)
        return bool(concerned)


def source_names(rules: Sequence[FileRule]) -> List[str]:
    """The names of the rules; where several have the same one, with the path, and with a number where the paths are equal too."""
    names: List[str] = []
    for rule in rules:
        shared = [other for other in rules if other.name == rule.name]
        name = base = rule.name if len(shared) == 1 else f"{rule.name} ({rule.path})"
        number = 2
        while name in names:
            name = f"{base} #{number}"
            number += 1
        names.append(name)
    return names


def check(rule: Rule) -> None:
    for key, value, allowed in (
        ("links", rule.links, ("follow", "manage", "ignore")),
        ("type", rule.type, ("file", "directory", "any")),
        ("checksum", rule.checksum, tuple(LENGTHS)),
    ):
        if value not in allowed:
            raise DcrError(
                f"The file item for {quoted(rule.path)} has {key} {value!r}; use one of {', '.join(allowed)}."
            )
    if not is_allowed(rule.checksum):
        rule.forbidden = rule.checksum
        rule.checksum = "none"


def are_valid(rules: Sequence[FileRule]) -> bool:
    """Whether a scan accepts these rules."""
    try:
        for rule in rules:
            parse_path(rule.path)
            check(Rule(0, rule))
    except DcrError:
        return False
    return True


def outcome(rule: Rule, max_files: int) -> Source:
    if rule.absent and not rule.notes.failed:
        return Source("absent", 0, rule.absent)
    message = rule.notes.message(rule.matched)
    if rule.matched > rule.reported:
        files = plural(rule.matched, "file")
        cut = f"{rule.reported} of {files}; raise the limit of {max_files} or narrow the rules"
        message = cut + ("; " + message if message else "")
    if rule.forbidden:
        reason = "without checksums, because this host forbids {0} (FIPS); set the rule's checksum to sha256"
        message = reason.format(rule.forbidden) + ("; " + message if message else "")
    return Source("failed" if rule.notes.failed else "ok", rule.reported, message)
