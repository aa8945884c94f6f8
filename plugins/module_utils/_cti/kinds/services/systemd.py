# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Collects the service units of a host.

The units and their settings are read from disk, whether systemd has them loaded or not: so a login, a status command or a reload,
which load and unload units, are no changes. The service manager reports the state of each, and services that run but are not on disk.
"""

import os
from typing import AbstractSet, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from ...errors import SourceAbsent, SourceFailed
from ...model import Known, Part
from . import service_manager
from . import unit_syntax as syntax
from .activation import bus_activated
from .enablement import GENERATED
from .kind import Service
from .root_fs import Unreadable
from .unit_files import DEFAULT_PATH, UNKNOWN_VERSION, UnitFile, UnitFiles

NAME = "systemd"
_ATTEMPTS = 5
_NAMED = 10  # units named in a message
_UNKNOWN = service_manager.Unit("", "unknown", "unknown", "unknown", "")
_AT_REST = service_manager.Unit("", "", "inactive", "dead", "")
_UP = ("active", "reloading", "refreshing", "failed")
# What logind and PAM start for a login. Of an instance with a link on disk, such as getty@tty1, that does not hold.
_OF_LOGINS = ("user@", "user-runtime-dir@", "getty@", "autovt@")
_LIBRARIES = ("usr/lib/systemd", "lib/systemd", "usr/lib64/systemd", "usr/lib/*/systemd")


class _Found(NamedTuple):
    """The service units of a host by Id, and those that are left out."""

    services: Dict[str, Service]
    unread: Dict[str, str]  # Id -> reason why it was not read
    unwritten: Set[str]  # Ids of the services that only the manager knows
    in_transition: Set[str]  # Ids of others that only the manager knows, which are just starting or ending
    left_out: Set[str]  # Ids of others that only the manager knows, which come and go with logins and connections


def collect(known: Known, root: str = "/", templates: bool = False, transient: bool = False) -> Part:
    """All service units with their instances, sorted by name.

    `templates`: include template units. `transient`: include units that systemd has only while they run: transient units, the
    instances that logins and connections start, and instances that are not running.
    Raises SourceAbsent where there is no folder of unit files, and SourceFailed where systemd runs and does not answer, or a folder
    cannot be read.
    """
    before = {item.name + syntax.SUFFIX: item for item in known.items(NAME) if isinstance(item, Service)}
    if os.path.isdir(os.path.join(root, "run/systemd/system")):
        found = _with_manager(root, templates, transient)
        gone = before.keys() - found.services.keys() - found.unread.keys() - found.in_transition
        uncompared = {name for name in gone if _does_not_count(before[name], name, found)}
        if before and all(item.sub_state == "unknown" for item in before.values()):
            # The run before had no manager to know these from, and perhaps nothing in /run.
            in_run = {name for name, item in found.services.items() if _is_in_run(item.path)}
            uncompared |= found.unwritten.union(in_run).difference(before)
        unsure = found.in_transition.union(found.unread)
        note = ""
    else:
        files, found = _without_manager(root, templates)
        uncompared = set()
        gone = before.keys() - found.services.keys()
        # Only a manager knows instances that were started by hand, and services whose files were removed since.
        unsure = {name for name in gone if _is_in_run(before[name].path) or files.identify(name)}
        unsure.update(found.unread)
        note = "systemd is not running here: only unit files were read, and the states of services are unknown."
    message = _message(note, found.unread, len(found.services) + len(found.unread))
    services = sorted(found.services.values())
    return Part(NAME, None, services, _identities(unsure), message, _identities(uncompared))


def _identities(names: AbstractSet[str]) -> AbstractSet[Tuple[str, ...]]:
    return frozenset((name[: -len(syntax.SUFFIX)],) for name in names)


def _is_in_run(path: str) -> bool:
    return not path or path.startswith("/run/")


def _does_not_count(item: Service, name: str, found: _Found) -> bool:
    """Whether a unit is no longer collected because of which units are collected, and not because the host changed."""
    if item.on_demand is not None:
        return name in found.left_out and not item.wanted_by
    # Stored by a version that counted whatever systemd had loaded.
    return name in found.left_out or bool(syntax.instance(name)) or item.unit_file_state == "transient"


def _is_of_login(name: str) -> bool:
    return name.startswith(_OF_LOGINS)


def _with_manager(root: str, templates: bool, transient: bool) -> _Found:
    """Read the units while no daemon-reload is running, which removes what generators wrote and runs them again.

    The manager does not answer during a reload. So if the folders of the generators are unchanged when it has answered, no reload
    ran in between.
    """
    for _unused in range(_ATTEMPTS):
        loaded = service_manager.loaded(root)
        before = _generated(root)
        files = _unit_files(root, loaded.search_path, loaded.version)
        found = _on_disk(files, loaded.services, templates)
        startable = loaded.triggered | bus_activated(files)
        _add_unwritten(root, files, loaded, found, startable, transient)
        waiting = _at_rest(found.services, loaded.services, startable)
        ended = service_manager.ended_by_themselves(root, waiting)
        if _generated(root) == before:
            for name in startable.intersection(found.services):
                item = found.services[name]
                if not item.is_enabled or name in ended:
                    found.services[name] = item._replace(on_demand=True)
            return found
    raise SourceFailed("systemd keeps reloading its units. Run again when no `systemctl daemon-reload` is running.")


def _at_rest(
    services: Dict[str, Service], loaded: Dict[str, service_manager.Unit], startable: AbstractSet[str]
) -> Dict[str, str]:
    """The object paths of the services that are enabled and inactive, and that something starts on demand."""
    names = [name for name in startable if name in loaded and name in services and services[name].is_enabled]
    return {name: loaded[name].object_path for name in names if loaded[name].active_state == "inactive"}


def _without_manager(root: str, templates: bool) -> Tuple[UnitFiles, _Found]:
    files = _unit_files(root, DEFAULT_PATH, _version_on_disk(root))
    return files, _on_disk(files, None, templates)


def _unit_files(root: str, search_path: Sequence[str], version: int) -> UnitFiles:
    files = UnitFiles(root, search_path, version)
    if not files.found:
        raise SourceAbsent(f"There are no folders of systemd unit files below '{root}'.")
    return files


def _version_on_disk(root: str) -> int:
    """The version of the systemd that is installed, by the name of its library."""
    from glob import escape, glob  # where systemd runs, it is not needed

    for folder in _LIBRARIES:
        for path in sorted(glob(os.path.join(escape(root), folder, "libsystemd-shared-[0-9]*"))):
            digits = os.path.basename(path).split("-")[2].partition(".")[0]
            if digits.isdecimal():
                return int(digits)
    return UNKNOWN_VERSION


def _generated(root: str) -> List[Tuple[int, int]]:
    out = []
    for folder in GENERATED:
        try:
            status = os.stat(os.path.join(root, folder[1:]))
        except OSError:
            out.append((0, 0))
        else:
            out.append((status.st_ino, status.st_mtime_ns))
    return out


def _on_disk(files: UnitFiles, loaded: Optional[Dict[str, service_manager.Unit]], templates: bool) -> _Found:
    """The services that have a name on disk, with the state that the manager reports; of unknown state without a manager."""
    found = _Found({}, {}, set(), set(), set())
    for name in sorted(files.names()):
        if syntax.instance(name) == "" and not templates:
            continue
        unit = files.identify(name)
        if unit is None or unit[0] in found.services or unit[0] in found.unread:
            continue
        state = _UNKNOWN if loaded is None else loaded.get(unit[0], _AT_REST)
        _add(files, unit, state, found)
    return found


def _add(files: UnitFiles, unit: Tuple[str, str], state: service_manager.Unit, found: _Found) -> None:
    name, path = unit
    try:
        read = files.read(name, path)
    except Unreadable as error:
        found.unread[name] = error.reason
        return
    if read is not None:
        found.services[name] = _service(read, state)
    elif state.active_state in _UP:
        found.services[name] = _in_memory(name, False, state)


def _add_unwritten(
    root: str,
    files: UnitFiles,
    loaded: service_manager.Loaded,
    found: _Found,
    startable: AbstractSet[str],
    transient: bool,
) -> None:
    """Add the loaded services that have no name of their own on disk: instances that were started by hand, services
    whose files were removed; with `transient` all others too."""
    names = loaded.services.keys() - found.services.keys() - found.unread.keys()
    on_demand = {name for name in names if name in files.transient or name in startable or _is_of_login(name)}
    # A transient unit that ended since it was listed took its file with it, and looks like a service whose file was removed.
    remaining = service_manager.remaining(root, names) if names - on_demand else names
    for name in names:
        state = loaded.services[name]
        unit = files.identify(name)
        if unit and unit[0] != name:  # an alias that was made since it was loaded
            continue
        if name not in remaining or (name in on_demand and not transient):
            found.left_out.add(name)
        elif transient or state.active_state in _UP:
            found.unwritten.add(name)
            if unit and name not in files.transient:
                _add(files, unit, state, found)
            else:
                found.services[name] = _in_memory(name, name in files.transient, state)
        elif state.active_state != "inactive":
            found.in_transition.add(name)


def _in_memory(name: str, is_transient: bool, state: service_manager.Unit) -> Service:
    path, unit_file_state = ("/run/systemd/transient/" + name, "transient") if is_transient else ("", "")
    return _service(UnitFile(name, path, "", unit_file_state, state.description, ()), state)


def _service(unit: UnitFile, state: service_manager.Unit) -> Service:
    name, path = unit.name[: -len(syntax.SUFFIX)], unit.path
    load_state = state.load_state or unit.load_state
    wanted_by = " ".join(unit.wanted_by)
    return Service(
        name, unit.description, load_state, state.active_state, state.sub_state, unit.state, wanted_by, path, False
    )


def _message(note: str, unread: Dict[str, str], count: int) -> str:
    sentences = [note] if note else []
    for reason in sorted(set(unread.values())):
        names = sorted(name[: -len(syntax.SUFFIX)] for name in unread if unread[name] == reason)
        more = ", ..." if len(names) > _NAMED else ""
        sentences.append(
            f"{len(names)} of {count} units were not read, since {reason}: {', '.join(names[:_NAMED])}{more}."
        )
    return " ".join(sentences)
