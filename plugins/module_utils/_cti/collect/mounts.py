# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Where a walk must not go: pseudo file systems, network ones, automounts. Source: proc(5), /proc/pid/mountinfo."""

import errno
import os
from typing import Dict, Mapping, Optional, Tuple

from ..errors import SourceFailed

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
_MAX_LINKS = 40  # in one path, as path_resolution(7) has it
_MAX_REMEMBERED = 4096  # directories


class Barred(Exception):
    """A path leads onto a mount that is not to be touched."""

    def __init__(self, point: str, kind: str) -> None:
        super().__init__(point, kind)
        self.point = point
        self.kind = kind


def is_remote(kind: str) -> bool:
    """Whether another host, or a process of some user, answers for this type, and may never do so."""
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
        self._real: Dict[Tuple[str, str], str] = {}  # (home, directory) -> real directory
        for point, kind in kinds.items():
            if kind in PSEUDO or is_remote(kind):
                directory, _slash, name = point.rpartition("/")
                self._barred.setdefault(directory or "/", {})[name] = kind

    @classmethod
    def read(cls) -> "Mounts":
        """The table as it is now; SourceFailed where it cannot be read."""
        try:
            with open(_TABLE, "rb") as table:
                content = table.read(_TABLE_LIMIT)
        except OSError as error:
            raise SourceFailed(
                "{0} cannot be read ({1}), so that network and pseudo file systems could not be told from others; "
                "mount /proc.".format(_TABLE, error.strerror)
            ) from error
        return cls(parse(content))

    def barred_in(self, directory: str) -> Mapping[str, str]:
        """{name: file system type} of what must not even be asked for its status in this real directory."""
        return self._barred.get(directory, {})

    def of(self, real: str) -> str:
        """The mount point a real path lies on."""
        while real not in self.kinds and len(real) > 1:
            real = real.rpartition("/")[0] or "/"
        return real

    def resolve(self, path: str, base: str = "/", home: Optional[str] = None) -> str:
        """The real path, found link by link so that no automount is triggered and no dead server is asked.

        base is the real directory a relative path starts from. home is the mount point the walk is on; without it
        network file systems are allowed. The last segment need not exist. Raises Barred and OSError.
        """
        if not path.startswith("/"):
            path = base.rstrip("/") + "/" + path
        directory, _slash, name = path.rpartition("/")
        if home is None or name in ("", ".", ".."):
            return self._follow(path, home)
        real = self._real.get((home, directory))
        if real is None:
            real = self._follow(directory, home)
            if len(self._real) >= _MAX_REMEMBERED:
                self._real.clear()
            self._real[home, directory] = real
        return self._follow(name, home, real)

    def _follow(self, path: str, home: Optional[str], done: str = "/") -> str:
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            segment = todo.pop()
            if segment in ("", "."):
                continue
            if segment == "..":
                done = done.rpartition("/")[0] or "/"
                continue
            step = done.rstrip("/") + "/" + segment
            self.check(step, home)
            try:
                target = os.readlink(step)
            except OSError as error:
                if error.errno != errno.EINVAL and (todo or error.errno != errno.ENOENT):
                    raise
                done = step
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done = "/"
            todo.extend(target.split("/")[::-1])
        return done

    def check(self, step: str, home: Optional[str] = None) -> None:
        """Raise Barred for a mount point that a walk on the mount `home`, or a rule itself, must not touch."""
        kind = self.kinds.get(step, "")
        if kind in PSEUDO:
            raise Barred(step, kind)
        if is_remote(kind) and home is not None and not (home + "/").startswith(step + "/"):
            raise Barred(step, kind)
