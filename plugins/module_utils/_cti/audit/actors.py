# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The recent events by file and by unit, and who changed one: the last one to do so, and how many others.

A name that a process gave is not always a path of this host: it may start at a folder that the process holds open, or be that of
a container. So the inode of an event has to be that of the file, where both are known; and a name in a folder that is held open
is looked up by the inode of that folder. Inodes are compared with their devices, see nodes.py. What is not certain is not known: no actor is
better than a wrong one.
"""

import os
import threading
from collections import OrderedDict
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from .messages import Event, Touched
from .nodes import NO_DEVICES, Devices, is_unique, may_be, node
from .processes import Actor, Processes, read_process
from .systemctl import units_of_call
from .touches import Found, Touch, Window, is_in, is_of, is_systemd, lacks_write, last, unit_of, until_removed

MAX_BYTES = 16 << 20  # estimated; what was touched longest ago is dropped first
MAX_TOUCHES = 64  # of one file
MAX_FOLDERS = 8192
MAX_LEVELS = 64
MAX_GAPS = 64
_COST = 400  # bytes of memory of an entry, in addition to its name
OWN_KEY = b"ctagent"


class _Binding(NamedTuple):
    """A name of a folder."""

    serial: int
    kind: bytes  # of the event; CREATE: of a new folder
    path: bytes  # empty: `name` in the folder with the inode `parent`
    parent: int
    name: bytes


Key = Tuple[str, object]


class Actors:
    """The recent events. Its methods may be called from any thread. `own`: the process whose events do not count.

    `folders`: the inodes of known folders by their path, such as those that are watched. `accept`: which paths are worth remembering.
    """

    def __init__(
        self,
        own: int,
        processes: Optional[Processes] = None,
        accept: Callable[[bytes], bool] = lambda path: True,
        limit: int = MAX_BYTES,
    ) -> None:
        self.events = 0
        self._own = own
        self._accept = accept
        self._limit = limit
        self._processes = processes or Processes(read_process)
        self._lock = threading.Lock()
        self._touches: "OrderedDict[Key, List[Touch]]" = OrderedDict()
        # By the inode of a folder, and a name in it.
        self._unresolved: "OrderedDict[Tuple[int, bytes], List[Touch]]" = OrderedDict()
        self._folders: "OrderedDict[int, List[_Binding]]" = OrderedDict()
        self._roots: Dict[bytes, int] = {}
        self._root_inodes: Set[int] = set()
        self._devices = NO_DEVICES
        self._bytes = 0
        self._actors: Dict[Actor, Actor] = {}
        self._gaps: List[Tuple[float, float]] = []  # see lose()
        self._lost_files: "OrderedDict[bytes, float]" = OrderedDict()  # see lose_file()

    def know(self, folders: Dict[bytes, int], devices: Devices = NO_DEVICES) -> None:
        """Set the nodes of folders, by their path. Names below such a path count in a folder of this node alone."""
        with self._lock:
            self._devices = devices
            self._roots, self._root_inodes = dict(folders), set(folders.values())
            for path, inode in folders.items():
                if is_unique(inode):
                    self._bind(inode, _Binding(0, b"NORMAL", path, 0, b""))

    def lose(self, since: float, until: float) -> None:
        """Events of this time (unix seconds) are lost, for all that is known. One of the same beginning again: it has another end."""
        with self._lock:
            self._gaps = [gap for gap in self._gaps if gap[0] != since] + [(since, until)]
            if len(self._gaps) > MAX_GAPS:
                (first, end), (second, other) = self._gaps[:2]
                self._gaps[:2] = [(min(first, second), max(end, other))]

    def lose_file(self, path: bytes, since: float) -> None:
        """Events of this file from then on (unix seconds) may be lost."""
        with self._lock:
            self._lost_files[path] = since
            self._lost_files.move_to_end(path)
            if len(self._lost_files) > MAX_FOLDERS:
                self._lost_files.popitem(last=False)

    def _sure(self, found: Optional[Found], until: float) -> Optional[Found]:
        """None where a later event, up to this time, may be lost: it can be one of somebody else."""
        if found is not None and any(begin <= until and found.seconds <= end for begin, end in self._gaps):
            return None
        return found

    def distrust(self, session: int) -> None:
        """See Processes. To be called by the thread that calls add()."""
        self._processes.distrust(session)

    def add(self, event: Event) -> None:
        """To be called by one thread alone."""
        actor = self._processes.actor(event)  # without the lock, since it reads of other processes
        with self._lock:
            self.events += 1
            if event.pid == self._own:
                return
            if len(self._actors) > 4096:
                self._actors.clear()
            actor = self._actors.setdefault(actor, actor)
            if event.started:
                self._add_start(event, actor)
            else:
                self._add_touched(event, actor)
            self._drop_oldest()

    def _add_start(self, event: Event, actor: Actor) -> None:
        """Remember who called systemctl to change which units."""
        touch = Touch(event.seconds, event.serial, b"NORMAL", 0, False, actor)
        for word in units_of_call(event):
            unit = word.rpartition(b"/")[2]
            self._add(("systemctl", unit[:-8] if unit.endswith(b".service") else unit), touch, len(unit))

    def _add_touched(self, event: Event, actor: Actor) -> None:
        event = event._replace(touched=[each._replace(inode=self._node(each)) for each in event.touched])
        parents = [each for each in event.touched if each.kind == b"PARENT"]
        names = [each.kind for each in event.touched]
        ours = OWN_KEY in event.keys
        for each in event.touched:
            if each.kind == b"UNKNOWN" or (each.kind == b"NORMAL" and not (ours or event.changes)):
                continue
            moved = each.is_folder and b"DELETE" in names and b"CREATE" in names
            writes = each.kind != b"NORMAL" or event.writes
            touch = Touch(
                event.seconds, event.serial, each.kind, each.inode, moved and ours, actor, writes, each.format
            )
            path = self._path(event, each)
            if each.kind == b"PARENT":
                self._learn(event, each, path, None)
                self._add_path(path, touch)
                continue
            parent = self._parent(event, each, parents)
            touch = touch._replace(folder=parent.inode if parent is not None else 0)
            if each.is_folder:
                self._learn(event, each, path, parent)
            if path and parent is not None and self._is_elsewhere(os.path.dirname(path), parent.inode):
                path = b""  # a path of this name on another root
            self._add_path(path, touch, ours)
            unit = unit_of(path) if ours or os.path.dirname(path) in self._roots else b""
            if unit and self._accept(path):
                self._add(("unit", unit), touch, len(unit))
            if each.kind != b"NORMAL" and parent is not None and is_unique(parent.inode) and each.name:
                self._add_by_parent(parent.inode, os.path.basename(each.name.rstrip(b"/")), path, touch)

    def _node(self, touched: Touched) -> int:
        return touched.inode if touched.device in self._devices.shared else node(touched.device, touched.inode)

    def _is_elsewhere(self, path: bytes, folder: int) -> bool:
        """Whether a folder with this path and this node is not the one that is known by the path, but in another root."""
        known = self._roots.get(path)
        return known is not None and not (folder and may_be(known, folder))

    def _add_by_parent(self, parent: int, name: bytes, path: bytes, touch: Touch) -> None:
        """Remember an event by the inode of the folder. `path`: by which it is remembered already, maybe one through a link."""
        folder = self._resolve(parent, touch.serial, 0) if path else b""
        if not path:
            self._add_unresolved((parent, name), touch)
        elif folder and folder != os.path.dirname(path):
            self._add_path(os.path.join(folder, name), touch)

    def _path(self, event: Event, touched: Touched) -> bytes:
        """The path, for all that the names tell; empty where they do not tell it."""
        name = touched.name
        if not name or (name[:1] != b"/" and not (event.by_path and event.folder[:1] == b"/")):
            return b""
        if touched.kind == b"PARENT" and name == event.folder and not event.by_path:
            return b""  # in truth, a folder that is held open
        path = os.path.normpath(os.path.join(event.folder, name))
        if b".." in name.split(b"/"):
            return b""  # which may lead through a link
        return path[1:] if path[:2] == b"//" else path

    def _parent(self, event: Event, touched: Touched, parents: Sequence[Touched]) -> Optional[Touched]:
        """The folder that the name is in; None where more than one may be meant."""
        name = (touched.name or b"").rstrip(b"/")
        folder = name[: len(name) - len(os.path.basename(name))] or event.folder
        meant = [parent for parent in parents if parent.name == folder] or parents
        return meant[0] if len({parent.inode for parent in meant}) == 1 else None

    def _learn(self, event: Event, folder: Touched, path: bytes, parent: Optional[Touched]) -> None:
        """Remember the name of a folder by its inode."""
        has_place = path or (parent is not None and is_unique(parent.inode) and folder.name)
        if not has_place or not is_unique(folder.inode) or folder.inode in self._root_inodes:
            return
        if path and self._is_elsewhere(path, folder.inode):
            return  # a path of this name on another root
        inside = parent.inode if parent is not None and is_unique(parent.inode) else 0
        name = os.path.basename((folder.name or b"").rstrip(b"/")) if inside else b""
        renamed = any(each.kind == b"DELETE" and each.inode == folder.inode for each in event.touched)
        kind = b"NORMAL" if folder.kind == b"CREATE" and renamed else folder.kind
        self._bind(folder.inode, _Binding(event.serial, kind, path, inside, name))

    def _bind(self, inode: int, binding: _Binding) -> None:
        bindings = self._folders.setdefault(inode, [])
        if not bindings or bindings[-1][1:] != binding[1:]:
            bindings.append(binding)
            del bindings[:-8]
        self._folders.move_to_end(inode)
        if len(self._folders) > MAX_FOLDERS:
            self._folders.popitem(last=False)

    def _add_path(self, path: bytes, touch: Touch, ours: bool = False) -> None:
        """Remember an event by its path, and by its inode, since the file may have other names, or the path may not be known. `ours`:
        of a rule of the agent. So it is of a file that is tracked, whatever path a container has for it."""
        known = path and self._accept(path)
        by_inode = not path or (touch.kind == b"NORMAL" and (known or ours))
        if by_inode and is_unique(touch.inode) and touch.kind != b"DELETE":
            self._add(("inode", touch.inode), touch, 8)
        if known:
            self._add(("path", path), touch, len(path))

    def _add(self, key: Key, touch: Touch, size: int) -> None:
        touches = self._touches.setdefault(key, [])
        self._touches.move_to_end(key)
        if not touches:
            self._bytes += size + _COST
        elif touches[-1] == touch:
            return
        touches.append(touch)
        self._bytes += _COST
        if len(touches) > MAX_TOUCHES:
            del touches[0]
            self._bytes -= _COST

    def _add_unresolved(self, key: Tuple[int, bytes], touch: Touch) -> None:
        touches = self._unresolved.setdefault(key, [])
        touches.append(touch)
        self._bytes += len(key[1]) + 2 * _COST
        if len(touches) > MAX_TOUCHES:
            del touches[0]
            self._bytes -= len(key[1]) + 2 * _COST

    def _drop_oldest(self) -> None:
        while self._bytes > self._limit:
            if self._unresolved:
                (_inode, name), touches = self._unresolved.popitem(last=False)
                self._bytes -= (len(name) + 2 * _COST) * len(touches)
            elif self._touches:
                key, touches = self._touches.popitem(last=False)
                size = 8 if isinstance(key[1], int) else len(key[1])  # type: ignore[arg-type]
                self._bytes -= size + _COST * (len(touches) + 1)
            else:
                self._bytes = 0

    # --- the join

    def resolve(self) -> None:
        """Give names in folders that were held open their paths, as far as later events tell them. To be called before a join."""
        with self._lock:
            for (inode, name), touches in list(self._unresolved.items()):
                folders = {self._resolve(inode, touch.serial, 0) for touch in touches}
                if b"" in folders:
                    continue
                del self._unresolved[(inode, name)]
                self._bytes -= (len(name) + 2 * _COST) * len(touches)
                for touch in touches:
                    self._insert(os.path.join(self._resolve(inode, touch.serial, 0), name), touch)
            self._drop_oldest()

    def _insert(self, path: bytes, touch: Touch) -> None:
        """Add an event that is older than others of the path, unless it is there already."""
        if not self._accept(path):
            return
        touches = self._touches.get(("path", path), [])
        if any(each.serial == touch.serial for each in touches):
            return
        self._add(("path", path), touch, len(path))
        self._touches[("path", path)].sort(key=lambda each: each.serial)

    def _resolve(self, inode: int, serial: int, level: int) -> bytes:
        """The path of the folder that had this inode at the event with this number; empty: not known."""
        bindings = self._folders.get(inode, ())
        before = [each for each in bindings if each.serial <= serial]
        after = [each for each in bindings if each.serial > serial]
        binding = before[-1] if before and before[-1].kind != b"DELETE" else None
        if binding is None and after and not before and after[0].kind != b"CREATE":
            binding = after[0]
        if binding is None or level > MAX_LEVELS:
            return b""
        if binding.path:
            return binding.path
        folder = self._resolve(binding.parent, binding.serial, level + 1)
        return os.path.join(folder, binding.name) if folder else b""

    def of_file(
        self,
        path: bytes,
        window: Window,
        old: Optional[Tuple[int, float]],
        new: Optional[Tuple[int, float]],
        category: str = "Modified",
        written: bool = False,
        is_tracked: Callable[[int], bool] = lambda format_: True,
    ) -> Optional[Found]:
        """Who changed a file between two runs. `category`: Added, Removed or Modified. `written`: whether
        it is modified and its content differs. `is_tracked`: whether a file with this path is tracked if it has this format (see Touch).

        `old`, `new`: its node and the time of its last change (ctime, unix seconds) in each of the runs; None where it was not there
        or that is not known. An event before the old time or after the new one did not lead from the one state to the other. Nor did one
        of the old node lead to another node that is there now.
        """
        begin = window.since if old is None else old[1]
        end = window.until if new is None else new[1]
        with self._lock:
            named = [each for each in self._of([("path", path)], window.after) if is_tracked(each.format)]
            if category == "Removed":
                touches = until_removed([each for each in named if each.seconds > begin], old and old[0], window.until)
            else:
                known = [state[0] for state in (old, new) if state is not None]
                named = [each for each in named if new is None or any(may_be(each.inode, one) for one in known)]
                touches = named if new is None else [*named, *self._of_inode(old, new, named, window.after)]
                touches = [each for each in touches if begin < each.seconds <= end]
            if not named and not touches and category != "Modified":
                moves = self._moved_with(path, b"CREATE" if category == "Added" else b"DELETE", window)
                return self._sure(last(moves), end)  # of a folder, whose node is not that of the file
            found = None if written and lacks_write(touches, end) else last(touches)
            if new is not None and found is not None and not is_of(new[0], found.serial, touches):
                return None
            if category != "Removed" and found is not None and found.seconds <= self._lost_files.get(path, 0.0) <= end:
                return None
            return self._sure(found, end)

    def _of(self, keys: Iterable[Key], after: int) -> List[Touch]:
        return [each for key in keys for each in self._touches.get(key, ()) if each.serial > after]

    def _of_inode(
        self, old: Optional[Tuple[int, float]], new: Tuple[int, float], named: List[Touch], after: int
    ) -> List[Touch]:
        """Events that give the file's inode, by another name or by none, while it had this name for all that the others tell."""
        touches = self._of([("inode", new[0])], after) if is_unique(new[0]) else []
        if old is not None and old[0] == new[0]:
            starts = [0, *(each.serial for each in named if each.kind in (b"CREATE", b"DELETE"))]
        else:
            starts = [each.serial for each in named if each.kind == b"CREATE" and each.inode == new[0]]
            starts += [each.serial - 1 for each in touches if each.kind == b"CREATE"]
        return [each for each in touches if starts and each.serial > max(starts)]

    def _moved_with(self, path: bytes, kind: bytes, window: Window) -> List[Touch]:
        """The events that gave a folder above the path its name, or took it away, with all that is in it."""
        for _level in range(MAX_LEVELS):
            path = os.path.dirname(path)
            if len(path) <= 1:
                break
            touches = self._of([("path", path)], window.after)
            moves = [each for each in touches if each.moved and each.kind == kind and is_in(window, each)]
            if moves:  # a folder in another one had this path for the process, if they differ
                return moves if all(may_be(moves[0].folder, each.folder) for each in moves) else []
        return []

    def of_paths(self, paths: Iterable[bytes], window: Window) -> Optional[Found]:
        """Who changed any of these files between two runs."""
        with self._lock:
            touches = self._of([("path", path) for path in paths], window.after)
            return self._sure(
                last([each for each in touches if each.kind != b"PARENT" and is_in(window, each)]), window.until
            )

    def of_unit(self, unit: bytes, window: Window) -> Optional[Found]:
        """Who changed the files of a unit between two runs, or told systemctl to change it. `unit`: the name of a service, without
        `.service`. What systemd itself changes, it does for others."""
        with self._lock:
            files, calls = self._of([("unit", unit)], window.after), self._of([("systemctl", unit)], window.after)
            files = [each for each in files if not is_systemd(each.actor)]
            found = last([each for each in files if is_in(window, each)]) or last(
                [each for each in calls if is_in(window, each)]
            )
            return self._sure(found, window.until)
