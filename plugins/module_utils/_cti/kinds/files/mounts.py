# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The mounts that a scan does not enter: pseudo file systems, network file systems, automounts. A rule may name a path on the last two.

Source: proc(5), /proc/pid/mountinfo.
"""

import os
from typing import Dict, Mapping, Optional

from ...errors import SourceFailed

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
    return kind in REMOTE or kind.startswith("fuse.")


def parse(table: bytes) -> Dict[str, str]:
    """mountinfo -> {mount point as os.fsdecode gives it: file system type}; of mounts on one point the topmost."""
    rows = []
    for line in table.split(b"\n"):
        before, separator, after = line.partition(b" - ")
        fields = before.split(b" ")
        if separator and len(fields) > 4:
            rows.append((fields[0], fields[1], os.fsdecode(_unescape(fields[4])), os.fsdecode(after.split(b" ", 1)[0])))
    points = {mount: point for mount, _parent, point, _kind in rows}
    covered = {parent for _mount, parent, point, _kind in rows if points.get(parent) == point}
    return {point: kind for mount, _parent, point, kind in rows if mount not in covered}


def _unescape(field: bytes) -> bytes:
    for escape, plain in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(escape, plain)
    return field


class Mounts:
    """The mount table at one moment."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self.kinds = kinds
        self._barred: Dict[str, Dict[str, str]] = {}  # directory -> {name in it: type}
        self.has_automounts = "autofs" in kinds.values()
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
        return cls(parse(content))

    def barred_in(self, directory: str) -> Mapping[str, str]:
        """{name: file system type} of the mounts in this real directory whose status must not even be read."""
        return self._barred.get(directory, {})

    def is_automount(self, directory: str, step: str) -> bool:
        """Whether an automount may have to serve the step from this real directory."""
        return self.has_automounts and "autofs" in (self.kinds.get(step), self.kinds[self.of(directory)])

    def of(self, real: str) -> str:
        """The mount point that a real path is on."""
        while real not in self.kinds and len(real) > 1:
            real = real.rpartition("/")[0] or "/"
        return real

    def check(self, step: str, home: Optional[str] = None) -> None:
        """Raise Barred for a mount point that must not be accessed: by a walk on the mount `home`, or, without it, by any path of a
        rule."""
        kind = self.kinds.get(step, "")
        if kind in PSEUDO and not (kind == "autofs" and home is None):
            raise Barred(step, kind)
        if is_remote(kind) and home is not None and not (home + "/").startswith(step + "/"):
            raise Barred(step, kind)
