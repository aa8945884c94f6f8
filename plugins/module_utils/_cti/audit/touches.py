# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The events of one file or unit, and which of them led from what one run saw to what the next one saw."""

from typing import List, NamedTuple, Optional, Sequence

from .messages import UNSET
from .nodes import may_be
from .processes import Actor

WRITE_SECONDS = 0.01  # by which the time of an event and the ctime that it set may differ


class Touch(NamedTuple):
    """An event of one file."""

    seconds: float  # unix seconds
    serial: int
    kind: bytes  # NORMAL PARENT CREATE DELETE
    inode: int  # see nodes.py; 0: not known
    moved: bool  # whether a folder got or lost this name with all that is in it
    actor: Actor
    writes: bool = True  # whether it may have changed the content; otherwise, attributes alone
    format: int = 0  # of the file's mode, such as stat.S_IFREG; 0: not known
    folder: int = 0  # the node of the folder that it is in; 0: not known


class Found(NamedTuple):
    """Who changed an item."""

    seconds: float  # unix seconds
    serial: int
    actor: Actor
    count: int  # type: ignore[assignment]  # of different users; nobody counts the fields of this tuple


class Window(NamedTuple):
    """Between two runs: only events in there count."""

    since: float  # unix seconds; when the earlier run started
    until: float  # when the later one did
    after: int = 0  # the number of the last event that explained an earlier change of the item


def is_in(window: Window, touch: Touch) -> bool:
    """Whether the event is between the two runs."""
    return window.since < touch.seconds <= window.until


def is_of(inode: int, serial: int, touches: Sequence[Touch]) -> bool:
    """Whether the event with this number may be of the file with this node."""
    return any(each.serial == serial and may_be(each.inode, inode) for each in touches)


def is_systemd(actor: Actor) -> bool:
    """Whether it is the service manager of the host or of a user, for whom nobody logged in."""
    return actor.auid == UNSET and actor.exe.rpartition(b"/")[2] == b"systemd"


def unit_of(path: bytes) -> bytes:
    """The service that a file below a folder of unit files belongs to, or that a link there starts; empty: none."""
    if b"/systemd/system" in path:
        for name in reversed(path.split(b"/")[-2:]):
            for end in (b".service", b".service.d"):
                if name.endswith(end):
                    return name[: -len(end)]
    return b""


def until_removed(touches: Sequence[Touch], inode: Optional[int], until: float) -> List[Touch]:
    """The events up to the one that removed the file before a run; where none did, up to the first one that did so during the run. None
    where the file came back after the removals that are known. `inode`: that the file had before them; None: not known."""
    sure: List[Touch] = []
    known = [inode]
    for each in touches:
        # For a process of a container, the path can be one of another folder.
        again = each.kind == b"CREATE" and sure and sure[-1].kind == b"DELETE"
        if again and may_be(each.folder, sure[-1].folder):
            known.append(each.inode)
        if inode is None or any(each.inode and one and may_be(each.inode, one) for one in known):
            sure.append(each)
    names = [each for each in sure if each.kind in (b"CREATE", b"DELETE")]
    before = [each for each in names if each.seconds <= until]
    is_gone = before and before[-1].kind == b"DELETE"
    end = before[-1] if is_gone else next((each for each in names[len(before) :] if each.kind == b"DELETE"), None)  # noqa: E203
    return [each for each in sure if end is not None and each.serial <= end.serial]


def lacks_write(touches: Sequence[Touch], end: float) -> bool:
    """Whether the content was changed by someone who has no event among these: through a descriptor that was opened before them.
    `end`: when the file changed last (ctime, unix seconds)."""
    if not any(each.writes for each in touches):
        return True
    newest = max(touches, key=lambda each: each.serial)
    return not newest.writes and end - newest.seconds > WRITE_SECONDS


def last(touches: Sequence[Touch]) -> Optional[Found]:
    """The last event, and how many users the events are of. None where there is none."""
    if not touches:
        return None
    newest = max(touches, key=lambda each: each.serial)
    return Found(newest.seconds, newest.serial, newest.actor, len({each.actor.user for each in touches}))
