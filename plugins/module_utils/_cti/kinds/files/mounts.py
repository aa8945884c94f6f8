# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The mounts that a scan does not enter: pseudo file systems, network file systems, automounts. A rule may name a path on the last two.

Source: proc(5), /proc/pid/mountinfo.
"""

import os
import re
from typing import Dict, Mapping, Optional, Tuple

from ...errors import SourceFailed
from .statx import StatusOf, local_status_of, status_of

PSEUDO = frozenset(
    (
        "autofs",
        "bdev",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "cpuset",
        "debugfs",
        "devpts",
        "efivarfs",
        "fusectl",
        "functionfs",
        "mqueue",
        "nfsd",
        "nsfs",
        "pipefs",
        "proc",
        "pstore",
        "resctrl",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "smackfs",
        "sockfs",
        "sysfs",
        "tracefs",
    )
)
REMOTE = frozenset(
    (
        "9p",
        "acfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse",
        "gfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "panfs",
        "prl_fs",
        "pvfs2",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "vmhgfs",
        "wekafs",
    )
)

_SERVER = " of uid "  # no type has a space
_TABLE = "/proc/self/mountinfo"
_TABLE_LIMIT = 64 * 1024 * 1024  # bytes; the kernel allows 100,000 mounts


class Barred(Exception):
    """A path leads to a mount that must not be accessed."""

    def __init__(self, point: str, kind: str) -> None:
        super().__init__(point, kind)
        self.point = point
        self.kind = kind


def is_remote(kind: str) -> bool:
    """Whether another host, or a process of a user, serves this type of file system, so that it may never answer."""
    return kind in REMOTE or kind.startswith(("fuse.", "fuse" + _SERVER))


def parse(table: bytes) -> Dict[bytes, Tuple[str, str]]:
    """mountinfo -> {mount id: (mount point as os.fsdecode gives it, file system type)}; of mounts on one point the topmost."""
    rows = []
    for line in table.split(b"\n"):
        before, separator, after = line.partition(b" - ")
        fields = before.split(b" ")
        if separator and len(fields) > 4:
            rows.append((fields[0], fields[1], os.fsdecode(_unescape(fields[4])), _kind(after)))
    points = {mount: point for mount, _parent, point, _kind in rows}
    covered = {parent for _mount, parent, point, _kind in rows if points.get(parent) == point}
    return {mount: (point, kind) for mount, _parent, point, kind in rows if mount not in covered}


def _kind(after: bytes) -> str:
    """The file system type, and of a FUSE file system that another user serves, this user. The user chooses the source, in the middle."""
    fields = after.split(b" ")
    kind = os.fsdecode(fields[0])
    if not kind.startswith("fuse"):
        return kind
    user = re.search(rb"(?:^|,)user_id=(\d+)", fields[-1])
    return kind if user is None or int(user.group(1)) in (0, os.geteuid()) else kind + _SERVER + user.group(1).decode()


def mount_id(descriptor: int) -> bytes:
    """On which mount an open entry is. Asks no file system. Source: proc(5)."""
    with open("/proc/self/fdinfo/%d" % descriptor, "rb") as info:
        for line in info:
            if line.startswith(b"mnt_id:"):
                return line[7:].strip()
    return b""  # before Linux 3.15


def _unescape(field: bytes) -> bytes:
    for escape, plain in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(escape, plain)
    return field


class Mounts:
    """The mount table at one moment. `kinds`: {mount point: file system type}, `points`: {mount id: mount point}."""

    def __init__(self, kinds: Mapping[str, str], points: Mapping[bytes, str]) -> None:
        self.kinds = kinds
        self.points = points
        self._barred: Dict[str, Dict[str, str]] = {}  # directory -> {name in it: type}
        self._automounts = tuple(point for point, kind in kinds.items() if kind == "autofs")
        self.has_automounts = bool(self._automounts)
        for point, kind in kinds.items():
            if kind in PSEUDO or is_remote(kind):
                directory, _slash, name = point.rpartition("/")
                self._barred.setdefault(directory or "/", {})[name] = kind

    @classmethod
    def read(cls) -> "Mounts":
        """The present table. Raises SourceFailed where it cannot be read."""
        try:
            with open(_TABLE, "rb") as table:
                content = table.read(_TABLE_LIMIT)
        except OSError as error:
            raise SourceFailed(
                f"Cannot read '{_TABLE}' ({error.strerror}), which is needed to skip network and pseudo file systems. Mount /proc."
            ) from error
        mounts = parse(content)
        return cls(dict(mounts.values()), {mount: point for mount, (point, _kind) in mounts.items()})

    def barred_in(self, directory: str) -> Mapping[str, str]:
        """{name: file system type} of the mounts in this real directory whose status must not even be read."""
        return self._barred.get(directory, {})

    def is_automount(self, directory: str, step: str) -> bool:
        """Whether an automount may have to serve the step from this real directory."""
        below = step.startswith(self._automounts)  # of most steps, this says it all
        return below and "autofs" in (self.kinds.get(step), self.kinds[self.of(directory)])

    def of(self, real: str) -> str:
        """The mount point that a real path is on."""
        while real not in self.kinds and len(real) > 1:
            real = real.rpartition("/")[0] or "/"
        return real

    def has(self, descriptor: int, real: str) -> bool:
        """Whether the open entry with this real path is on the mount that the table has there, or on the one of the directory above,
        and on none that came later."""
        return self.points.get(mount_id(descriptor)) in (self.of(real), self.of(real.rpartition("/")[0] or "/"))

    def is_current(self, descriptor: int, real: str) -> bool:
        """Whether the open entry with this real path is on the mount that the table has there: nothing was mounted or unmounted since."""
        return self.points.get(mount_id(descriptor)) == self.of(real)

    def status_of(self, point: str) -> StatusOf:
        """What gives the status of an entry on this mount, unless another one was mounted on the entry."""
        kind = self.kinds.get(point, "")
        return status_of if is_remote(kind) or kind.startswith("fuse") else local_status_of

    def check(self, step: str, home: Optional[str] = None) -> None:
        """Raise Barred for a mount point that must not be accessed: by a walk on the mount `home`, or, without it, by any path of a
        rule."""
        kind = self.kinds.get(step)
        if kind is None:
            return
        if _SERVER in kind:  # whoever serves it decides whether it ever answers
            raise Barred(step, kind)
        if kind in PSEUDO and not (kind == "autofs" and home is None):
            raise Barred(step, kind)
        if is_remote(kind) and home is not None and not (home + "/").startswith(step + "/"):
            raise Barred(step, kind)
