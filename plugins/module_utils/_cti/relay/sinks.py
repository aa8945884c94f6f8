# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""LocalSinks: records that are not uploaded yet, in one directory per stream, on disk before they are acknowledged.

The age limit counts only time while the relay runs, so that setting the clock drops nothing.
"""

import collections
import fcntl
import os
import time
from typing import Callable, Deque, Dict, FrozenSet, Iterator, List, NamedTuple, Optional
from urllib.parse import quote, unquote

from ..folders import remedy
from ..text import plural
from .errors import RelayError, SinkError, StorageError
from .segments import SUFFIX, Segment, found, number

MAX_SINKS = 256  # in addition to those that the config chunks name
MAX_NAMED = 256
OF_A_PEER = 64  # for one client, so that it cannot use up MAX_SINKS
EMPTY_SECONDS = 3600  # an empty sink is removed after this time without records
COMMIT_BYTES = 1 << 20  # per write(2)
MAX_NAME_BYTES = 255  # of a file, on all file systems of note
SEGMENT_BYTES = 8 << 20


class Limits(NamedTuple):
    """Limits of one sink: size at which it accepts no more, and age at which records are dropped."""

    bytes: int = 256 << 20
    seconds: float = 7 * 86400


class LocalSink:
    """The records of one stream. append() them, then commit(): they are on disk, or with SinkError none of them is stored."""

    def __init__(
        self,
        folder: str,
        stream: str,
        limits: Limits,
        log: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
        peer: str = "",
    ) -> None:
        self.stream = stream
        self.peer = peer  # whose records created it; empty if an earlier process did
        self.received = self.delivered = self.dropped = self.refused = self.set_aside = self.known = 0  # rows
        self._folder = folder
        self._limits = limits
        self._log = log
        self._monotonic = monotonic
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
            _sync_folder(os.path.dirname(folder))
            self._sealed: Deque[Segment] = collections.deque(found(folder, monotonic()))
        except OSError as error:
            raise StorageError(_cannot_store(folder, error)) from error
        self._number = number(self._sealed[-1]) if self._sealed else 0
        self._pending: List[bytes] = []
        self._pending_bytes = self._pending_foreign = 0
        self._file: Optional[int] = None
        self._path = ""
        self._rows = self._bytes = self._foreign = 0  # of the segment being written
        self._since = 0.0
        self.used = monotonic()

    @property
    def empty(self) -> bool:
        """Whether the sink holds no records."""
        return not (self._sealed or self._pending or self._file is not None)

    @property
    def rows(self) -> int:
        return self._rows + sum(segment.rows for segment in self._sealed)

    @property
    def size(self) -> int:
        return self._bytes + sum(segment.bytes for segment in self._sealed)

    @property
    def foreign(self) -> int:
        """Bytes from clients of the network, and of all records that an earlier process left."""
        return self._foreign + sum(segment.foreign for segment in self._sealed)

    @property
    def full(self) -> bool:
        """Whether the sink accepts no more records, at least from clients of the network."""
        return self.size >= self._limits.bytes or self.foreign >= self._limits.bytes // 2

    def check_space(self, size: int, network: bool) -> None:
        """Raise SinkError if there is no space for a message of `size` bytes. Acknowledged records are never dropped for it.

        Clients of the network can use half of the space, so that some remains for the agent on the same host. The last
        message of a local client may exceed the limit; otherwise, a message larger than the limit would never be accepted.
        """
        foreign = self.foreign + self._pending_foreign
        if self.size + self._pending_bytes >= self._limits.bytes:
            raise SinkError(_FULL % (self.stream, self._limits.bytes))
        if network and foreign and foreign + max(size, 1) > self._limits.bytes // 2:
            raise SinkError(_FULL % (self.stream, self._limits.bytes // 2) + " Local clients can use the other half.")

    def append(self, lines: List[bytes], network: bool = False) -> None:
        """Add the lines of a message. `network`: from a client of the network. Raises SinkError if there is no space."""
        size = sum(map(len, lines))
        try:
            self.check_space(size, network)
        except SinkError:
            self.refused += len(lines)
            raise
        self._pending.extend(lines)
        self._pending_bytes += size
        self._pending_foreign += size if network else 0

    def commit(self) -> None:
        lines, self._pending = self._pending, []
        foreign, self._pending_bytes, self._pending_foreign = self._pending_foreign, 0, 0
        self.used = self._monotonic()
        if not lines:
            return
        try:
            file = self._start() if self._file is None else self._file
            size = 0
            for data in _joined(lines):
                size += len(data)
                while data:
                    data = data[os.write(file, data) :]  # noqa: E203
            os.fdatasync(file)
        except OSError as error:
            self.refused += len(lines)
            self._give_up()
            raise StorageError(_cannot_store(self._folder, error)) from error
        self._rows += len(lines)
        self._bytes += size
        self._foreign += foreign
        self.received += len(lines)
        if self._bytes >= min(SEGMENT_BYTES, self._limits.bytes // 4):
            self.seal()

    def seal(self) -> None:
        """Close the current segment, so that it can be uploaded."""
        if self._file is None:
            return
        os.close(self._file)
        self._file = None
        self._sealed.append(Segment(self._path, self._rows, self._bytes, self._since, self._foreign))
        self._rows = self._bytes = self._foreign = 0

    def oldest(self) -> Optional[Segment]:
        return self._sealed[0] if self._sealed else None

    def after(self, segment: Segment) -> Optional[Segment]:
        """The segment that follows this one; None if there is none."""
        at = self._sealed.index(segment) + 1
        return self._sealed[at] if at < len(self._sealed) else None

    def taken(self, segment: Segment, set_aside: int) -> None:
        """Remove a segment that was uploaded, except for `set_aside` rows that the destination does not accept."""
        self.delivered += segment.rows - set_aside
        self.set_aside += set_aside
        self._remove(segment)

    def leave(self) -> None:
        """Remove the directory of an empty sink, which must not be used afterwards."""
        try:
            os.rmdir(self._folder)
        except OSError:  # another file is in it, which does no harm
            pass

    def trim(self, in_flight: Optional[Segment]) -> None:
        """Drop segments that are too old, except the one that is being uploaded."""
        overdue = self._monotonic() - self._limits.seconds
        for segment in list(self._sealed):
            if segment.since > overdue:
                break
            if segment is in_flight:
                continue
            self.dropped += segment.rows
            self._log(
                "LocalSink %s dropped %s, the oldest of it, which could not be uploaded within %d s."
                % (self.stream, plural(segment.rows, "row"), self._limits.seconds)
            )
            self._remove(segment)

    def _start(self) -> int:
        self._number += 1
        self._path = os.path.join(self._folder, "%012d%s" % (self._number, SUFFIX))
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._file = file
        self._rows = self._bytes = self._foreign = 0
        self._since = self._monotonic()
        _sync_folder(self._folder)
        return file

    def _give_up(self) -> None:
        """After a failed write, end the segment where the last commit ended. The next commit starts a new segment."""
        if self._file is None:
            return
        try:
            os.ftruncate(self._file, self._bytes)
        except OSError:
            pass  # what follows was not acknowledged; it may be uploaded, and an incomplete line is skipped
        self.seal()
        if not self._sealed[-1].rows:
            self._remove(self._sealed[-1])

    def _remove(self, segment: Segment) -> None:
        self._sealed.remove(segment)
        try:
            os.unlink(segment.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._log(
                "Cannot remove '%s' (%s). After a restart, it is uploaded again." % (segment.path, error.strerror)
            )


class Sinks:
    """All sinks below `folder`, which one relay at a time can use. Raises RelayError.

    A sink is created for the first record of its stream. It is removed when it was empty for EMPTY_SECONDS, or when
    another stream needs its place. `named`: the streams that the config chunks name, whose sinks are kept.
    """

    def __init__(
        self,
        folder: str,
        limits: Limits,
        log: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = os.path.abspath(folder)
        self.named: FrozenSet[str] = frozenset()
        self._limits = limits
        self._log = log
        self._monotonic = monotonic
        self._sinks: Dict[str, LocalSink] = {}
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            self._lock = os.open(os.path.join(self.folder, ".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in sorted(os.listdir(self.folder)):
                if os.path.isdir(os.path.join(self.folder, name)):
                    self._find(unquote(name), name)
        except BlockingIOError:
            raise RelayError(
                "Another relay uses the events directory '%s'. Stop it, or give another --events." % folder
            ) from None
        except OSError as error:
            raise RelayError(
                "The events directory '%s' cannot be used (%s). %s"
                % (
                    folder,
                    error.strerror,
                    remedy(error, folder, "Give a directory that the current user can write.", root=False),
                )
            ) from error

    def __iter__(self) -> Iterator[LocalSink]:
        return iter(list(self._sinks.values()))

    def sink(self, stream: str, peer: str) -> LocalSink:
        """The sink of a stream, created if it does not exist. `peer`: the client whose records need it. Raises SinkError."""
        sink = self._sinks.get(stream)
        if sink is None:
            name = folder_name(stream)
            if stream not in self.named:
                self._make_place(peer)
            path = os.path.join(self.folder, name)
            sink = LocalSink(path, stream, self._limits, self._log, self._monotonic, peer)
            self._sinks[stream] = sink
        return sink

    def get(self, stream: str) -> Optional[LocalSink]:
        return self._sinks.get(stream)

    def remove_unused(self) -> None:
        overdue = self._monotonic() - EMPTY_SECONDS
        for sink in self:
            if sink.used < overdue and sink.empty and sink.stream not in self.named:
                self._remove(sink)

    def _find(self, stream: str, name: str) -> None:
        sink = LocalSink(os.path.join(self.folder, name), stream, self._limits, self._log, self._monotonic)
        if sink.empty:
            sink.leave()
        else:
            self._sinks[stream] = sink

    def _make_place(self, peer: str) -> None:
        others = [sink for sink in self if sink.stream not in self.named]
        theirs = [sink for sink in others if sink.peer == peer]
        for sinks, most, whose in ((theirs, OF_A_PEER, "of this client"), (others, MAX_SINKS, "of all clients")):
            if len(sinks) < most:
                continue
            unused = [sink for sink in sinks if sink.empty]
            if not unused:
                raise SinkError(
                    "Records of %d tags wait for their upload (%s). Another tag is accepted when some of them are uploaded."
                    % (len(sinks), whose)
                )
            self._remove(min(unused, key=lambda sink: sink.used))
            return

    def _remove(self, sink: LocalSink) -> None:
        del self._sinks[sink.stream]
        sink.leave()

    def close(self) -> None:
        for sink in self:
            sink.seal()
        os.close(self._lock)


_FULL = (
    "The stream %s is full: %d bytes wait for their upload. Senders keep further records until some are uploaded. See the"
    " error of the upload, or give a larger --max-mib."
)


def _joined(lines: List[bytes]) -> Iterator[memoryview]:
    """All lines in few pieces of about COMMIT_BYTES."""
    start = size = 0
    for end, line in enumerate(lines):
        if size and size + len(line) > COMMIT_BYTES:
            yield memoryview(b"".join(lines[start:end]))
            start, size = end, 0
        size += len(line)
    yield memoryview(b"".join(lines[start:]))


def folder_name(stream: str) -> str:
    """A file name for a stream. For the ids that Azure uses, that is the id itself. Raises SinkError."""
    name = quote(stream, safe=" :@+,=~[]()", errors="backslashreplace")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if not 0 < len(name) <= MAX_NAME_BYTES - len(".jsonl"):
        raise SinkError(
            "A tag has %d characters. Send tags of 1 to %d characters." % (len(stream), MAX_NAME_BYTES - len(".jsonl"))
        )
    return name


def _sync_folder(path: str) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _cannot_store(folder: str, error: OSError) -> str:
    return "Cannot write '%s' (%s). Records are not acknowledged until that works." % (folder, error.strerror)
