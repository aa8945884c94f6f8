# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps lines in a folder until they are delivered, also across runs.

Each run appends to its own file, which it keeps locked, and delivers lines from that file and from files that no run has locked. A
delivered line starts with a mark; a file in which all lines have it is removed. Existing files are not trusted: only the current
user may have access, and they may be incomplete, damaged or no regular files.

There is no fsync: what was appended survives the end of the process, but not a power failure.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator

SUFFIX = ".spool"
MAX_LINE = 64 << 20
SMALL = 64  # the part of the spool up to which the records of one host are not compared with what is free
QUARTER = 4
DONE = b"#"
DAMAGED = b""


class SpoolFile:
    """One open and locked file."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.size = os.fstat(descriptor).st_size
        self.records = 0  # appended by this run, and not done
        self._descriptor = descriptor

    def append(self, line: bytes, records: int) -> None:
        """Append a line with this number of records, as a whole or not at all. Raises OSError."""
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.pwrite(self._descriptor, rest, self.size + len(line) - len(rest)) :]  # noqa: E203
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(line)
        self.records += records

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(offset, line) of the lines that are not done, oldest first; DAMAGED for one that is incomplete or too long."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            offset = 0
            for line in iter(lambda: file.readline(MAX_LINE), b""):
                length, end = len(line), line[-1:]
                while end not in (b"\n", b""):
                    rest = file.readline(MAX_LINE)
                    length, end = length + len(rest), rest[-1:]
                if not line.startswith(DONE):
                    yield offset, line if length == len(line) and end else DAMAGED
                offset += length

    def done(self, offset: int, records: int) -> None:
        """Mark the line at this offset, with this number of records, as delivered or undeliverable. Raises OSError."""
        os.pwrite(self._descriptor, DONE, offset)
        self.records -= records

    def close(self) -> None:
        os.close(self._descriptor)


class Spool:
    """A folder of spool files, of `max_bytes` in all. `warn` gets sentences for the operator, and may get one several times."""

    def __init__(self, folder: str, max_bytes: int, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._warn = warn
        self._directory: int | None = None
        self._own: SpoolFile | None = None
        self._bytes = 0
        self._of_host: dict[str, int] = {}  # bytes in the file of this run
        os.register_at_fork(after_in_child=self._close_in_worker)

    @property
    def records(self) -> int:
        """The number of records of this run that are not done."""
        return self._own.records if self._own is not None else 0

    def append(self, line: bytes, records: int, host: str = "") -> bool:
        """Keep a line; False where there is no space for it. Lines that are kept already are never dropped for it.

        A host whose records take more than a 64th of the spool gets no more than a quarter of the space that the others left: the
        answer of one host must not displace the records of the rest.
        """
        try:
            self._open(create=True)
            before = self._of_host.get(host, 0)
            size = before + len(line)
            if host and size > self._max_bytes // SMALL and size * QUARTER > self._max_bytes - self._bytes + before:
                self._warn(
                    f"{host} needs more than a quarter of the free space in the spool {self.folder}. The rest of its records is"
                    " dropped. Check what the host returns, or raise spool_max_mib"
                )
                return False
            if self._bytes + len(line) > self._max_bytes or len(line) > MAX_LINE:
                self._warn(
                    f"The spool {self.folder} is full ({self._max_bytes >> 20} MiB) and takes no more records."
                    " Find out why records are not delivered, or raise spool_max_mib"
                )
                return False
            if self._own is None:
                self._own = self._create()
            self._own.append(line, records)
        except OSError as error:
            self._warn(f"The spool {self.folder} cannot be written ({error.strerror}). New records are dropped")
            return False
        self._bytes += len(line)
        self._of_host[host] = size
        return True

    def own(self) -> Iterator[SpoolFile]:
        """The file of this run, if it has one."""
        if self._own is not None:
            yield self._own

    def files(self) -> Iterator[SpoolFile]:
        """The files of earlier runs, oldest first, each open until the next one is asked for; then the file of this run."""
        for name in self._names():
            file = self._take(name)
            if file is not None:
                try:
                    yield file
                finally:
                    file.close()
        yield from self.own()

    def waiting(self) -> int:
        """The number of files in addition to that of this run."""
        return len(self._names())

    def remove(self, file: SpoolFile) -> None:
        """Remove a file all of whose lines are done."""
        self._bytes -= file.size
        try:
            os.unlink(file.name, dir_fd=self._directory)
        except OSError as error:
            self._warn(f"{self.folder}/{file.name} cannot be removed ({error.strerror})")
        if file is self._own:
            file.close()
            self._own = None
            self._of_host = {}

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of another file in the folder; empty where there is none, or it is not ours, or too large."""
        try:
            directory = self._open(create=False)
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            return b""
        except OSError as error:
            self._warn(f"{self.folder}/{name} cannot be read ({error.strerror}). It is created again")
            return b""
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_size > max_bytes:
                self._warn(
                    f"{self.folder}/{name} is not a regular file of this user of at most {max_bytes >> 20} MiB. It is created again"
                )
                return b""
            return file.read(max_bytes)

    def update(self, name: str, max_bytes: int, change: Callable[[bytes], bytes]) -> None:
        """Replace the content of such a file by what `change` makes of it, while other runs are locked out."""
        temporary = f".{name}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            directory = self._open(create=True)
            fcntl.flock(directory, fcntl.LOCK_EX)
            try:
                content = change(self.read(name, max_bytes))
                with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=directory), "wb") as file:
                    file.write(content)
                os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            finally:
                fcntl.flock(directory, fcntl.LOCK_UN)
        except OSError as error:
            self._warn(f"{self.folder}/{name} cannot be written ({error.strerror})")

    def _close_in_worker(self) -> None:
        """Close the file in a forked worker, which may outlive the run and must not keep its lock."""
        if self._own is not None:
            self._own.close()
            self._own = None

    def _open(self, create: bool) -> int:
        """Raises OSError."""
        if self._directory is not None:
            return self._directory
        if create:
            os.makedirs(self.folder, 0o700, exist_ok=True)
        directory = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(directory)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            os.close(directory)
            raise PermissionError(0, "it must belong to the current user, and others must not be able to write to it")
        self._directory = directory
        for name in self._names():
            try:
                self._bytes += os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
            except FileNotFoundError:  # delivered by another run
                pass
        return directory

    def _create(self) -> SpoolFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            name = f"{time.time_ns():020d}-{os.getpid()}{SUFFIX}"
            descriptor = os.open(name, flags, 0o600, dir_fd=self._directory)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return SpoolFile(name, descriptor)
            os.close(descriptor)  # before we had the lock, another run found the file empty, and removed it

    def _names(self) -> list[str]:
        try:
            names = os.listdir(self._open(create=False))
        except FileNotFoundError:  # nothing was ever spooled
            return []
        except OSError as error:
            self._warn(f"The spool {self.folder} cannot be read ({error.strerror})")
            return []
        own = self._own.name if self._own is not None else ""
        return sorted(name for name in names if name.endswith(SUFFIX) and name != own)

    def _take(self, name: str) -> SpoolFile | None:
        """Open and lock a file; None where another run has it locked, or it cannot be used."""
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:  # delivered by another run
            return None
        except OSError as error:
            self._warn(f"{self.folder}/{name} is skipped ({error.strerror})")
            return None
        status = os.fstat(descriptor)
        reason = ""
        if not stat.S_ISREG(status.st_mode):
            reason = "it is not a regular file"
        elif status.st_uid != os.geteuid() or status.st_mode & 0o077:
            reason = "only the user who runs the playbook may own, read and write it"
        try:
            if not reason:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return SpoolFile(name, descriptor)
        except BlockingIOError:
            pass
        except OSError as error:
            reason = str(error.strerror)
        if reason:
            self._warn(f"{self.folder}/{name} is skipped: {reason}")
        os.close(descriptor)
        return None
