# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Finds the roots of rules: the directories from which a scan walks."""

import errno
import os
import stat
from typing import Callable, Dict

from ...text import quoted
from .budget import Budget
from .destination import PathSpec
from .file_rules import UTF8, Claim, Claimants, Rule, to_name, to_text
from .listing import BROKEN
from .mounts import Barred
from .opening import Paths
from .statx import local_status_of, mode

GONE = frozenset((errno.ENOENT, errno.ENOTDIR))


class Roots:
    """The roots of the rules for which place() was called. `hide`: is called with a path that must not, or cannot, be looked at.

    What a rule lacks is in its notes, or its `absent`.
    """

    def __init__(self, paths: Paths, budget: Budget, hide: Callable[[str], None]) -> None:
        self.claims: Dict[str, Claimants] = {}  # path as the rules name it -> claims of the rules that start there
        self.reals: Dict[str, str] = {}  # the same path -> without symlinks
        self._paths = paths
        self._budget = budget
        self._hide = hide

    def place(self, rule: Rule, spec: PathSpec) -> None:
        """Find the directories a rule starts from: its own, or for a literal path to a directory that one."""
        directory, name = to_name(spec.directory), to_name(spec.name)
        path = join(directory, name) if spec.syntax == "literal" else directory
        match = spec.match if UTF8 else lambda name: spec.match(to_text(name))
        if spec.syntax == "regex":
            match = self._budget.matches(match)
        try:
            step = self._paths.find_now(directory)
            try:
                if not stat.S_ISDIR(os.fstat(step.descriptor).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                inside = self._inside(rule, step.descriptor, step.real, name) if spec.syntax == "literal" else ""
            finally:
                os.close(step.descriptor)
        except Barred as barred:
            self._refuse(rule, path, barred)
        except OSError as error:
            if error.errno in GONE:
                rule.absent = f"{quoted(path)} does not exist"
            else:
                rule.notes.add("unseen", path, str(error.strerror))
                self._hide(path)
        else:
            if inside:
                self._claim(path, inside, Claim(rule, None, rule.recurse))
            if name and not (inside and rule.type == "file"):
                self._claim(directory, step.real, Claim(rule, match, rule.recurse and spec.syntax != "literal"))
        if self._paths.mounts.has_automounts:
            self._paths.read_mounts()  # the path may have led to something that was mounted just now

    def _refuse(self, rule: Rule, path: str, barred: Barred) -> None:
        rule.notes.add("refused", path, f"{barred.point} is a file system of type {barred.kind}; name another path")
        self._hide(path)

    def _inside(self, rule: Rule, directory: int, real: str, name: str) -> str:
        """The real directory at a literal path; "" for any other entry. Raises OSError where there is no entry."""
        entry = join(real, name)
        try:
            self._paths.mounts.check(entry)
        except Barred as barred:  # what is known of the entry, from before it was mounted over, stays
            self._refuse(rule, entry, barred)
            return ""
        kind = mode(local_status_of(directory, os.fsencode(name)))
        if stat.S_ISLNK(kind) and rule.links == "follow":
            try:
                step = self._paths.find_now(name, real)
            except Barred:
                return ""
            except OSError as error:
                if error.errno in BROKEN:
                    return ""
                raise
            entry, kind = step.real, os.fstat(step.descriptor).st_mode
            os.close(step.descriptor)
        return entry if stat.S_ISDIR(kind) else ""

    def _claim(self, path: str, real: str, claim: Claim) -> None:
        self.claims[path] = self.claims.get(path, ()) + (claim,)
        self.reals[path] = real


def join(directory: str, name: str) -> str:
    return directory.rstrip("/") + "/" + name
