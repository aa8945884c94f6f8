# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Further processes that read small files, where a scan reads many of them for the first time.

A reader is a fork of the scan. It goes on with the same walk ahead of the scan, reads the files of some of the directories, and sends their
status and checksums through a pipe. The scan uses these as if it had read them itself, and reads on its own what no reader has
sent: a reader that fails, or sees another tree than the scan, costs time and changes nothing. All else is the scan's alone: the
limits, the notes, and the order of the parts. A reader that comes to a directory with too many entries for one listing ends there, so that
it needs no more memory than the scan.

Scan and readers number the directories in the order in which they enter them. An array that they share has the number of the directory that
the scan has reached; and for each reader twice the number of the last one that it took or left, plus 1 when it is done with it, and
how many messages it has sent.
"""

import marshal
import mmap
import os
import select
import signal
import time
from fcntl import fcntl
from struct import Struct
from typing import Any, Iterator, List, NamedTuple, NoReturn, Optional, Tuple

from .file_rules import Claims
from .listing import NOTHING_READ, Lister, OpenDirectory, Read, Subdirectories

_PIPE_BYTES = 1 << 20  # the most that an unprivileged user may have; a reader is ahead by no more than that
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of fcntl(2)
_PATIENCE = 60  # seconds for a reader to send something, until the scan goes on alone
_LENGTH = Struct("=I")
_SCAN, _PLACE, _SENT = 0, 1, 2  # indexes in the array; the latter two are those of the first reader


class _Message(NamedTuple):
    """What a reader has read of one directory."""

    number: int  # of the directory
    identity: Tuple[int, int]  # likewise
    read: Read


class Reader:
    """A reader, in its own process. `numbers`: the shared array."""

    def __init__(self, pipe: int, numbers: Any, index: int, count: int) -> None:
        self._pipe = pipe
        self._numbers = numbers
        self._index = index
        self._count = count
        self._left = 0  # number of the last directory that was left to the scan

    def run(self, walk: Iterator[Any]) -> NoReturn:
        """Go on with the walk of the scan, to its end. Does not return."""
        try:
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            for _part in walk:
                pass
        finally:
            os._exit(0)

    def visit(self, lister: Lister, place: OpenDirectory, claims: Claims, number: int) -> Subdirectories:
        """Read the files of a directory, or leave them to the scan. Returns the subdirectories, without those behind symlinks.

        `number`: of the directory; 0 for one whose files the scan does not read at once.
        """
        if not number or number % self._count != self._index:
            return _few_subdirectories(lister, place)
        scan = self._numbers[_SCAN]
        # The scan has a directory ahead of it that it reads itself. One reader sees to that; with more, the scan has enough to do.
        if number <= scan or (self._index == 0 and self._left <= scan):
            self._left = number
            self._numbers[_PLACE + 2 * self._index] = 2 * number + 1
            return _few_subdirectories(lister, place)
        self._numbers[_PLACE + 2 * self._index] = 2 * number
        listing = lister.list_whole(place, claims, NOTHING_READ)
        if listing is None:
            os._exit(0)
        checksums = listing.checksums
        files = {name: (status, checksums[name]) for name, status, _claims in listing.found if name in checksums}
        self._send(marshal.dumps((number, place.identity, (listing.begin, files))))
        self._numbers[_SENT + 2 * self._index] += 1
        self._numbers[_PLACE + 2 * self._index] = 2 * number + 1
        return [(name, behind) for name, behind in listing.subdirectories if behind is None]

    def _send(self, message: bytes) -> None:
        """Raises BrokenPipeError where the scan has ended."""
        view = memoryview(_LENGTH.pack(len(message)) + message)
        while view:
            view = view[os.write(self._pipe, view) :]  # noqa: E203


def _few_subdirectories(lister: Lister, place: OpenDirectory) -> Subdirectories:
    subdirectories = lister.subdirectories(place)
    if subdirectories is None:
        os._exit(0)
    return subdirectories


class _Link:
    """A reader, as the scan sees it."""

    def __init__(self, process: int, pipe: int, numbers: Any, index: int) -> None:
        self._process = process
        self.pipe = pipe
        self._numbers = numbers
        self._index = index
        self._arrived = bytearray()
        self._ended = False  # or silent for too long
        self._received = 0  # messages
        self._next: Optional[_Message] = None  # received, and not yet used

    def take(self, number: int, identity: Tuple[int, int]) -> Read:
        """What the reader has read of a directory. Waits for a reader that is reading it."""
        place = self._numbers[_PLACE + 2 * self._index]
        sent = self._numbers[_SENT + 2 * self._index]
        while place >= 2 * number and (self._next is None or self._next.number < number):
            if (place > 2 * number and self._received == sent) or not self._receive():
                return NOTHING_READ
        message = self._next
        if message is None or message.number != number or message.identity != identity:
            return NOTHING_READ
        self._next = None
        return message.read

    def _receive(self) -> bool:
        """Receive a message. False where the reader has ended, or sends nothing for a minute."""
        if self._ended:
            return False
        try:
            number, identity, read = marshal.loads(self._read(_LENGTH.unpack(self._read(_LENGTH.size))[0]))
        except (EOFError, ValueError, TypeError):
            self._ended = True
            return False
        self._next = _Message(number, identity, Read(*read))
        self._received += 1
        return True

    def _read(self, length: int) -> bytes:
        """Raises EOFError."""
        while len(self._arrived) < length:
            ready = select.poll()  # unlike select(), for any descriptor
            ready.register(self.pipe, select.POLLIN)
            piece = os.read(self.pipe, _PIPE_BYTES) if ready.poll(1000 * _PATIENCE) else b""
            if not piece:
                raise EOFError
            self._arrived += piece
        read = bytes(self._arrived[:length])
        del self._arrived[:length]
        return read

    def end(self) -> None:
        """Kill the reader. Does not wait for one that hangs in the kernel."""
        os.close(self.pipe)
        try:
            os.kill(self._process, signal.SIGKILL)
            end = time.monotonic() + 1
            while not os.waitpid(self._process, os.WNOHANG)[0] and time.monotonic() < end:
                time.sleep(0.001)
        except (ProcessLookupError, ChildProcessError):  # this process ignores SIGCHLD
            pass


class Readers:
    """The readers of a scan."""

    def __init__(self) -> None:
        self._links: List[_Link] = []

    def start(self, count: int) -> Optional[Reader]:
        """Start up to so many readers: fewer where the system allows no more. Returns None in the scan, and a Reader in each of them."""
        self._count = max(0, count)
        try:
            self._numbers = memoryview(mmap.mmap(-1, 8 * (1 + 2 * self._count))).cast("Q")
            for index in range(self._count):
                pipe, end = os.pipe()
                try:
                    process = os.fork()
                except OSError:
                    os.close(pipe)
                    os.close(end)
                    raise
                if not process:
                    os.close(pipe)
                    for link in self._links:
                        os.close(link.pipe)
                    return Reader(end, self._numbers, index, self._count)
                os.close(end)
                self._links.append(_Link(process, pipe, self._numbers, index))
                fcntl(pipe, _SET_PIPE_SIZE, _PIPE_BYTES)
        except OSError:  # too many processes, descriptors, or pipes of this user
            pass
        return None

    def take(self, number: int, identity: Tuple[int, int]) -> Read:
        """What has been read of the directory with this number."""
        if not self._links:
            return NOTHING_READ
        self._numbers[_SCAN] = number
        index = number % self._count
        return self._links[index].take(number, identity) if index < len(self._links) else NOTHING_READ

    def end(self) -> None:
        for link in self._links:
            link.end()
