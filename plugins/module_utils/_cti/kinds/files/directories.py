# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Opens the directories of a file scan: within its limits, and only those mounts that it may enter."""

import errno
import os
import stat
from typing import Any, NamedTuple, Optional, Set, Tuple

from .budget import MAX_DEPTH, MAX_PATH, Budget
from .file_rules import Claimants
from .listing import OpenDirectory
from .mounts import Barred
from .opening import Paths, Step, open_directory_within
from .owners import ROOT
from .statx import device_of

_tuple = tuple.__new__  # what a NamedTuple's own constructor calls, at a third of the cost
_Above = Tuple[int, int, Any]  # device and inode of a directory, and the same of the one above or None


class Frame(NamedTuple):
    """A directory that the walk has yet to enter."""

    path: str  # as the rules name it; natively, see file_rules.to_text
    name: str  # in the directory it was found in; empty where it is the root of a walk or behind a link
    real: str  # without links
    # Mount point of the directory it was found in; of its own where it is the root of a walk or behind a link.
    home: str
    claims: Claimants
    above: Optional[_Above]
    links: int  # followed on the way here
    linker: str  # on whose account these links are, see listing.Behind; ROOT where there is none


class NotEntered(Exception):
    """A directory is not entered, with the kind of the note, its reason, and the owner whose share is used up."""

    def __init__(self, kind: str, why: str = "", owner: str = ROOT) -> None:
        super().__init__(kind, why)
        self.kind = kind
        self.why = why
        self.owner = owner


class Directories:
    """Opens one directory after the other, and counts them for their owners."""

    def __init__(self, paths: Paths, budget: Budget) -> None:
        self.direct = 0  # directories opened without links
        self._paths = paths
        self._budget = budget
        self._visits: Set[Tuple[int, int, str]] = set()  # directories reached by way of links, and on whose account

    def open(self, directory: int, frame: Frame, depth: int) -> OpenDirectory:
        """Open a directory, whose descriptor the caller closes. `directory`: the descriptor of the one above; -1: none. `depth`: number of
        directories that are open so far. Raises NotEntered, SourceFailed, and OSError where it is gone or cannot be opened."""
        # A character is up to 4 bytes.
        if depth > MAX_DEPTH or (len(frame.path) > MAX_PATH // 4 and len(os.fsencode(frame.path)) >= MAX_PATH):
            raise NotEntered("far")
        descriptor, real = self._open(directory, frame)
        try:
            status = os.fstat(descriptor)
            # What is behind a symlink counts to the owner of the symlink, unless that is root.
            owner = frame.linker or self._budget.owners.of_folder(status)
            home = self._admit(frame, real, status, owner)
            if not self._budget.folders.take(owner, 1 if owner == ROOT else weight_of(frame.path)):
                raise NotEntered("folders", owner, owner)
        except BaseException:
            os.close(descriptor)
            raise
        self.direct += not frame.links
        identity = (status.st_dev, status.st_ino)
        holder = None
        if owner and not frame.linker and status.st_mode & stat.S_ISVTX and status.st_mode & 0o022:
            holder = self._budget.owners.of_user(status.st_uid)
        device, status_of = device_of(status.st_dev), self._paths.mounts.status_of(home)
        return _tuple(
            OpenDirectory,
            (descriptor, frame.path, real, home, owner, frame.linker, identity, device, status_of, holder),
        )

    def holder(self, directory: int, frame: Frame) -> str:
        """On whose account a directory is that was not opened: of whoever may write to the one above."""
        return frame.linker or (ROOT if directory < 0 else self._budget.owners.of_folder(os.fstat(directory)))

    def _open(self, directory: int, frame: Frame) -> Tuple[int, str]:
        """Open a directory as the table of mounts has it, which is read again where it has changed on the way."""
        try:
            return self._open_by_table(directory, frame, strictly=True)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        if frame.name:
            self._check_new_mount(frame)
        else:
            self._paths.read_mounts()
        return self._open_by_table(directory, frame, strictly=False)

    def _open_by_table(self, directory: int, frame: Frame, strictly: bool) -> Tuple[int, str]:
        """Raises OSError EXDEV for a mount that the table does not have, and `strictly`, for one that is not there."""
        if frame.name and frame.real not in self._paths.mounts.kinds:
            return open_directory_within(frame.name, directory), frame.real
        try:
            if frame.name:
                step = Step(self._paths.open_mounted(frame.name, directory, frame.real, frame.home), frame.real)
            else:
                step = self._paths.find(frame.real, home=frame.home if frame.links else None)
        except Barred as barred:
            raise NotEntered("mount", barred.kind) from None
        try:
            if strictly and not self._paths.mounts.is_current(step.descriptor, step.real):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), step.real)
            return os.open("/proc/self/fd/%d" % step.descriptor, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), step.real
        finally:
            os.close(step.descriptor)

    def _admit(self, frame: Frame, real: str, status: os.stat_result, owner: str) -> str:
        """The mount point that an open directory is on. Raises NotEntered."""
        identity = (status.st_dev, status.st_ino)
        above = frame.above
        if frame.name and above is not None and above[0] != status.st_dev and real not in self._paths.mounts.kinds:
            # A btrfs subvolume, or a mount that came after the table was read.
            self._check_new_mount(frame)
        if frame.links:
            while above is not None:
                if above[:2] == identity:
                    raise NotEntered("loop")
                above = above[2]
            self._count_linked(identity, owner)
        is_on_home = frame.name and real not in self._paths.mounts.kinds
        return frame.home if is_on_home else self._paths.mounts.of(real)

    def _check_new_mount(self, frame: Frame) -> None:
        """Read the mounts again. Raises NotEntered for a directory that is a mount which is not entered."""
        self._paths.read_mounts()
        try:
            self._paths.mounts.check(frame.real, frame.home)
        except Barred as barred:
            raise NotEntered("mount", barred.kind) from None

    def _count_linked(self, identity: Tuple[int, int], owner: str) -> None:
        visit = (*identity, owner)
        share = self._budget.repeated if visit in self._visits else self._budget.linked
        if not share.take(owner, 1, self.direct):
            raise NotEntered("often", owner, owner)
        self._visits.add(visit)


def weight_of(folder: str) -> int:
    """How much a folder, or a change in it, counts: as much as it takes in memory, where its path is long."""
    return 1 + len(folder) // 256
