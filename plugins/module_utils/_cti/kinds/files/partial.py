# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A scan of files that looks only where something may have changed, and takes the rest as the state has it."""

import os
import time
from typing import AbstractSet, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set

from ...model import Known, Part
from ...text import printable
from .budget import REHASH_DAYS, Budget
from .directories import Frame
from .file_rules import Claims, to_name
from .listing import OpenDirectory, Subdirectories
from .mounts import Barred
from .scan import Scan, Watch
from .scope import FileRule


class Named(NamedTuple):
    """Where something may have changed, by the paths that Scan's `watch` gets.

    A directory that was made, moved or removed is one of the trees, and the directory above it one of the folders. What several
    paths lead to is named by each of them.
    """

    folders: AbstractSet[str]  # directories whose entries may have changed
    trees: AbstractSet[str]  # directories that may differ with all that is below them


class Partial(Scan):
    """Yields what Scan yields where only what is named has changed since the last run, which saw everything by the same rules.

    It walks from the roots of the rules down to what is named, and lists nothing else, except a directory that has one of the named
    directories as an item. All other known parts are yielded without items. The source of a rule is the one of the last run, unless
    it is, or was, absent, or fails now. Where a symlink or a mount is on the way to what is named, this is a full scan; `partial`
    tells. Users and groups that were renamed show in the next full scan.
    """

    def __init__(
        self,
        rules: Sequence[FileRule],
        known: Known,
        named: Named,
        clock: Callable[[], float] = time.time,
        rehash_days: float = REHASH_DAYS,
        budget: Optional[Budget] = None,
        watch: Optional[Watch] = None,
    ) -> None:
        super().__init__(rules, known, 0, clock, rehash_days, budget, watch)
        self._folders = set(named.folders)
        self._trees = set(named.trees)
        self._steps: Dict[str, Set[str]] = {}  # directory -> names in it that are on the way to what is named, or named
        # Named folder -> names of the directories in it, without those behind symlinks.
        self._listed: Dict[str, Set[str]] = {}
        self._last = known.sources()

    def _scan(self) -> Iterator[Part]:
        yield from super()._scan()
        for name in self.sources if self.partial else ():
            now, last = self.sources[name], self._last.get(printable(name))
            if last is not None and last.status != "absent" and now.status != "absent":
                self.sources[name] = last if now.status == "ok" else now._replace(count=last.count)

    def _all_parts(self) -> Iterator[Part]:
        self._name_appeared()
        for path in self._folders | self._trees:
            self._add_steps(path)
        if not all(self._is_direct(path) for path in self._folders | self._trees):
            yield from super()._all_parts()
            return
        self.partial = True
        for path in sorted(self._roots):
            if path in self._pending and (path in self._steps or path in self._folders or self._is_in_tree(path)):
                yield from self._walk(path, self._roots[path])
        for name in self._known.names():
            if name not in self._seen and name not in self.replaced and self._is_kept(name):
                yield Part(name, self._known.signature(name), None)

    def _is_kept(self, name: str) -> bool:
        """Whether a known part is neither in what this scan looks at, nor in what it could not see."""
        path = to_name(name.partition("//")[0] or "/")
        return not (path in self._folders or self._is_in_tree(path) or self._unseen.has(name))

    def _name_appeared(self) -> None:
        """Name all that belongs to a rule which starts from what was absent in the last run, or is absent now."""
        for name, rule, spec in self._rules:
            last = self._last.get(printable(name))
            if last is None or (last.status == "absent") != bool(rule.absent):
                self._folders.add(to_name(spec.directory))
                self._trees.add(
                    to_name(os.path.join(spec.directory, spec.name) if spec.syntax == "literal" else spec.directory)
                )

    def _add_steps(self, path: str) -> None:
        for above in _above(path):
            names, name = self._steps.setdefault(above, set()), path.rpartition("/")[2]
            if name in names:
                break
            names.add(name)
            path = above

    def _is_direct(self, path: str) -> bool:
        """Whether neither a symlink nor a mount that is not entered is on the way from a root to what is named; what is gone is not."""
        for root in _above(path):
            if any(claim.recurse for claim in self._pending.get(root, ())):
                real = self._roots[root]
                expected = real.rstrip("/") + path[len(root.rstrip("/")) :]  # noqa: E203
                try:
                    step = self._paths.find_now(expected, home=self._paths.mounts.of(real))
                except Barred:
                    return False
                except OSError:
                    continue
                os.close(step.descriptor)
                if step.real != expected:
                    return False
        return True

    def _is_in_tree(self, path: str) -> bool:
        """Whether a directory is in a named tree, or behind what is no directory in a named folder: a symlink, or nothing any more."""
        if path in self._trees:
            return True
        for above in _above(path):
            listed = self._listed.get(above)
            if above in self._trees or (listed is not None and path.rpartition("/")[2] not in listed):
                return True
            path = above
        return False

    def _visit(
        self, place: OpenDirectory, frame: Frame, claims: Claims, listings: List[Subdirectories]
    ) -> Iterator[Part]:
        path = place.path
        steps = self._steps.get(path, set())
        is_named = path in self._folders
        if not self.partial or self._is_in_tree(path):
            yield from super()._visit(place, frame, claims, listings)
        elif is_named or (claims.directories and self._has_named(path, steps)):
            yield from super()._visit(place, frame, claims, listings)
            if is_named:
                self._listed[path] = {name for found in listings for name, behind in found if behind is None}
            for found in listings:
                found[:] = [
                    (name, behind) for name, behind in found if name in steps or (behind is not None and is_named)
                ]
        else:
            listings.append([(name, None) for name in sorted(steps)])

    def _has_named(self, path: str, names: AbstractSet[str]) -> bool:
        below = [path.rstrip("/") + "/" + name for name in names]
        return any(one in self._folders or one in self._trees for one in below)


def _above(path: str) -> Iterator[str]:
    """The directories above a path, the nearest first."""
    while len(path) > 1:
        path = path.rpartition("/")[0] or "/"
        yield path
