# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Event source for Event-Driven Ansible: one event for each change in the fleet store."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import json
import logging
import os
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
---
short_description: Receive an event for each change of a host that the fleet store gets.
description:
  - Reads the changes of packages, services and files that the playbook C(changetracking.inventory.inventory) or a relay writes to the fleet store.
    In an SQLite file, new ones are noticed within a second; a PostgreSQL database notifies.
  - Needs ansible-core in the Python environment of ansible-rulebook, and psycopg for PostgreSQL.
  - An event has C(change) and C(meta). C(meta.hosts) is the inventory name of the host, so that C(run_playbook) is limited to it. C(meta.uuid)
    is the C(RecordId) of the change.
  - C(change) has C(level) (C(task), C(run), C(drift), or C(unknown) if no run of Ansible was ever recorded), C(reason), C(kind) (C(packages),
    C(services) or C(files)), C(category) (C(Added), C(Removed) or C(Modified)), C(item), C(fields), C(before), C(after), C(host), C(time) and
    C(record). It has C(task) only if a task of Ansible is known, C(mark) only if a mark covers the change, and C(architecture) of packages.
  - C(change.actor) is who made the change, as the host says, with those of C(login), C(uid), C(process), C(command), C(session), C(module), C(at) and
    C(count) that are known. C(change.witness) is C(confirmed), C(differs) or C(named). Both are there only if the host names an actor.
  - A space is inserted in C({{), C({%), C({#), and in C(#jinja2:) at the beginning of a text, in all texts, because Ansible evaluates templates
    in variables that a rulebook passes to a playbook.
options:
  store:
    description: The fleet store, as the path of an SQLite file or a PostgreSQL URL.
    type: str
    required: true
  place:
    description:
      - Path of a file in which the source keeps how far it has read. A rulebook that is started again then continues there. Each source needs
        a file of its own.
      - Without it, each start begins with O(since).
    type: str
  since:
    description: Where to begin without a place. V(now), V(all), or a time, a date or an age (V(3d)) of changes.
    type: str
    default: now
  via:
    description:
      - Changes of which hosts to read, by what stored them. V(playbook), V(relay), or a list of both.
      - A host that sends to a relay chooses its name, which is C(meta.hosts). So it can choose the host of your inventory on which a playbook runs.
    type: list
    elements: str
    default: [playbook]
  marks:
    description:
      - Path of a YAML file with marks of changes, or a list. The marks in the store count too. Their form is that of the module
        C(changetracking.inventory.ct_fleet_info).
      - Hosts in a mark are names or patterns, not groups.
    type: raw
  feedback:
    description:
      - Whether O(place) moves only when the engine of rules has taken an event. Then no event is lost if the rulebook is killed, and
        an event may come twice, with the same C(meta.uuid).
      - Needs a C(name) of the source, and the option C(--persistence-id) of ansible-rulebook.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Restore what was changed by hand
  hosts: all
  sources:
    - name: changes
      changetracking.inventory.changes:
        store: /srv/inventory/fleet.db
        place: /var/lib/eda/changes.place
  rules:
    - name: sshd_config was changed by hand
      condition: >-
        event.change.item == "/etc/ssh/sshd_config" and event.change.level == "drift" and event.change.mark is not defined
      action:
        run_playbook:
          name: restore.yml
"""

LOG = logging.getLogger("changetracking.inventory.changes")
OPTIONS = {"store", "place", "since", "via", "marks", "feedback", "eda_feedback_queue"}
RETRY_SECONDS = (1, 60)  # the first pause after an error, and the longest one
WRITE_SECONDS = 1.0  # between two writes of the place, while events come


def library(module: str) -> Any:
    """A module of the collection. ansible-rulebook runs this file alone, without Ansible's import of collections."""
    package = "_changetracking_inventory"
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(Path(__file__).parents[4] / "plugins")]
    try:
        return importlib.import_module(f"{package}.{module}")
    except ImportError as error:
        raise ValueError(
            f"The event source needs ansible-core in the Python environment of ansible-rulebook ({error}). Install it: pip install"
            " ansible-core"
        ) from error


class Place:
    """How far the source has read: the number of a change. In a file, if there is a path."""

    def __init__(self, path: str | None, store: str) -> None:
        self._path = path and os.path.abspath(os.path.expanduser(path))
        self._store = store
        self._written: int | None = None
        self._written_at = 0.0
        self.reached = self._kept() if self._path else None

    def _kept(self) -> int | None:
        """Raises ValueError: the file cannot be used."""
        try:
            self._lock = open(f"{self._path}.lock", "a")  # noqa: SIM115
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(self._path, encoding="utf-8") as file:
                kept = json.load(file)
            if kept["store"] != self._store:
                raise ValueError(
                    f"The place '{self._path}' is one in the store '{kept['store']}'. Give another file for the store '{self._store}'."
                )
            return int(kept["seq"])
        except FileNotFoundError:
            if os.path.isdir(os.path.dirname(self._path)):
                return None
            raise ValueError(f"There is no directory for the place '{self._path}'. Create it.") from None
        except BlockingIOError:
            raise ValueError(
                f"The place '{self._path}' is in use by another event source. Give each its own file."
            ) from None
        except OSError as error:
            raise ValueError(
                f"Cannot use the place '{self._path}' ({error.strerror}). Change its permissions, or give another path."
            ) from None
        except (KeyError, TypeError, json.JSONDecodeError):
            raise ValueError(
                f"The place '{self._path}' is damaged. Delete it; the source then begins with since."
            ) from None

    def move(self, reached: int, now: bool) -> None:
        """Note how far the source has read; `now`: whether to write it even if that was done a moment ago."""
        self.reached = reached
        if self._path is None or reached == self._written:
            return
        if now or time.monotonic() - self._written_at > WRITE_SECONDS:
            text = json.dumps({"store": self._store, "seq": reached}) + "\n"
            try:
                library("module_utils._cti.replace").replace(self._path, [text.encode()])
            except OSError as error:
                LOG.warning(
                    "Cannot write the place '%s' (%s). After a restart, events may come twice.",
                    self._path,
                    error.strerror,
                )
            self._written, self._written_at = reached, time.monotonic()


class Unacknowledged:
    """The events that the engine has not given back yet, in their order."""

    def __init__(self) -> None:
        self._events: list[Any] = []

    def add(self, event: Any) -> None:
        self._events.append(event)

    def remove(self, uuid: str) -> None:
        found = next((event for event in self._events if event.uuid == uuid), None)
        if found is not None:
            self._events.remove(found)

    def place(self, reached: int) -> int:
        return self._events[0].seq - 1 if self._events else reached


class Source:
    def __init__(self, queue: Any, args: dict[str, Any]) -> None:
        unknown = sorted(set(args) - OPTIONS)
        if unknown or not isinstance(args.get("store"), str) or not args["store"].strip():
            what = f"has the unknown option {unknown[0]!r}" if unknown else "needs the option store"
            raise ValueError(
                f"The event source {what}. Its options are {', '.join(sorted(OPTIONS - {'eda_feedback_queue'}))}."
            )
        events, stores = library("plugin_utils._fleet.events"), library("module_utils._cti.fleet.store")
        store = stores.located(args["store"].strip())
        via = library("plugin_utils._fleet.names").check_via(args.get("via", ["playbook"]))
        self._since = str(args.get("since", events.NOW))
        if self._since not in (events.NOW, events.EVERYTHING):
            library("plugin_utils._fleet.selection").moment(self._since, "since")
        library("plugin_utils._fleet.marks").from_option(args.get("marks"), {})  # so that a mistake ends it at once
        self._error = stores.FleetError
        self._events = events.Events(store, via, args.get("marks"))
        self._place = Place(args.get("place"), stores.shown(store))
        self._queue = queue
        self._feedback = args.get("eda_feedback_queue")
        self._pending = Unacknowledged()
        self._read = 0  # the number of the last change that was put
        self._skipped: set[str] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="changes")  # in which all of the store happens

    async def run(self) -> None:
        reader = asyncio.create_task(self._take_feedback()) if self._feedback is not None else None
        try:
            self._read = await self._begin()
            self._place.move(self._read, now=True)
            while True:
                batch = await self._try(self._events.after, self._read)
                # Without feedback, the engine has had the time to take the last event by now.
                self._place.move(self._pending.place(self._read), now=True)
                await self._put(batch)
        finally:
            if reader is not None:
                reader.cancel()
            if self._place.reached is not None:
                taken = self._feedback is not None or getattr(self._queue, "queue", self._queue).empty()
                self._place.move(self._pending.place(self._read) if taken else self._place.reached, now=True)
            self._thread.submit(self._events.close)
            self._thread.shutdown(wait=False)

    async def _begin(self) -> int:
        if self._place.reached is not None:
            return self._place.reached
        return int(await self._try(self._events.start, self._since))

    async def _put(self, batch: Any) -> None:
        if batch.reached < self._read:
            self._read = 0
            LOG.warning("The fleet store is a new one. All changes in it become events.")
        for name in set(batch.skipped) - self._skipped:
            LOG.warning(
                "Changes of a host are skipped, because Ansible would not take its name for that of one host: %s",
                ascii(name)[:100],
            )
            self._skipped.add(name)
        for warning in batch.warnings:
            if warning not in self._skipped:
                LOG.warning("%s", warning)
        self._skipped.update(batch.warnings)
        for event in batch.events:
            if self._feedback is not None:
                self._pending.add(event)
            await self._queue.put(event.data)
            await asyncio.sleep(0)
            if self._feedback is None:
                self._place.move(
                    self._read, now=False
                )  # the queue has room for one event, so the engine has the one before
            self._read = event.seq
        self._read = batch.reached

    async def _take_feedback(self) -> None:
        while True:
            event = await self._feedback.get()
            self._pending.remove(event["meta"]["uuid"])
            self._place.move(self._pending.place(self._read), now=False)

    async def _try(self, method: Any, *arguments: Any) -> Any:
        """What a method returns, in the thread of the store. While the store cannot be used, it is tried again and again."""
        pause, longest = RETRY_SECONDS
        said = ""
        while True:
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._thread, method, *arguments)
            except (self._error, ValueError) as error:
                if str(error) != said:
                    LOG.warning("%s The event source tries again.", error)
                said = str(error)
                with contextlib.suppress(self._error):
                    await asyncio.get_running_loop().run_in_executor(self._thread, self._events.close)
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
                continue
            if said:
                LOG.warning("The fleet store can be used again.")
            return result


async def main(queue: asyncio.Queue, args: dict[str, Any]) -> None:
    """Put an event for each change on the queue, until it is cancelled."""
    await Source(queue, args).run()
