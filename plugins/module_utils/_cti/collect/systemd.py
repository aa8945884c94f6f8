# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Every service unit of a host: from the service manager what it has loaded, from disk the rest.

Source: org.freedesktop.systemd1(5) for the calls, systemctl(1) for what the answers mean.
"""

import os
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, TypeVar

from ..errors import SourceAbsent, SourceFailed
from ..model import Known, Part, Service
from ..text import printable
from . import unitsyntax as syntax
from .dbus import Connection, Disconnected, Method, Refusal, Reply
from .rootfs import Unreadable
from .unitfiles import DEFAULT_PATH, GENERATED, UnitFile, UnitFiles

_Answer = TypeVar("_Answer")
NAME = "systemd"
_MANAGER = "/org/freedesktop/systemd1"
_FIRST_BY_SOURCE = 248  # the version from which a link's own path is the FragmentPath, not its target's
_GONE = ("org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.systemd1.NoSuchUnit")
_BUSY = ("org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected")
_NAMED = 10  # units named in a message
_ATTEMPTS = 5
_ENABLED = ("etc/systemd/system", "run/systemd/system")  # where systemctl makes links
_LOOKS = 20  # at the most, until a reload has followed a link
_PAUSE = 0.25  # seconds between two
_PATIENCE = 30  # seconds after which a link is not expected to be followed by a reload any more


def _method(interface: str, member: str, signature: str = "", arguments: Sequence[Any] = ()) -> Method:
    return Method("org.freedesktop.systemd1", interface, member, signature, arguments)


def _property(interface: str, name: str) -> Method:
    return _method("org.freedesktop.DBus.Properties", "Get", "ss", ("org.freedesktop.systemd1." + interface, name))


_LIST = _method(
    "org.freedesktop.systemd1.Manager", "ListUnitsByPatterns", "asas", ((), ("*" + syntax.SUFFIX, "*.target"))
)
_UNIT_PATH = _property("Manager", "UnitPath")
_VERSION = _property("Manager", "Version")
# Properties.GetAll costs PID 1 two to fourteen times as much as these three Gets, most of it for what nobody reads.
_PER_UNIT = (_property("Unit", "FragmentPath"), _property("Unit", "UnitFileState"), _property("Unit", "WantedBy"))


class _Loaded(NamedTuple):
    """What the manager says."""

    services: Dict[str, Service]  # by Id
    unsure: Set[str]  # Ids
    targets: Set[str]  # Ids
    search_path: List[str]
    by_target: bool


def collect(known: Known, root: str = "/", templates: bool = False) -> Part:
    """All service units with their instances, sorted by name; with `templates` those too. `known` is of no use here.

    SourceAbsent: no folder of unit files. SourceFailed: systemd runs and does not answer, or a folder cannot be read.
    """
    if os.path.isdir(os.path.join(root, "run/systemd/system")):
        services, unsure = _with_manager(root, templates)
        note = ""
    else:
        services, unsure = _on_disk(root, None, templates)
        note = "systemd is not running here, so the states of services are unknown and only unit files were read."
    names = sorted(unit[: -len(syntax.SUFFIX)] for unit in unsure)
    return Part(NAME, None, sorted(services.values()), frozenset((name,) for name in names), _message(note, names))


def _with_manager(root: str, templates: bool) -> Tuple[Dict[str, Service], Set[str]]:
    """`systemctl enable` makes a link and then has the manager reload: in between a unit is enabled and nothing wants
    it. So what was found before the reload is looked at again; a link that none follows in time counts as it is."""
    for attempt in range(_LOOKS):
        reloaded = _reloaded_at(root)
        loaded = _insist(lambda: _ask(root))
        services, unsure = _settled(root, loaded, templates)
        services.update(loaded.services)
        linked = _linked_at(root)
        if linked <= reloaded or not 0 <= time.time() - linked <= _PATIENCE or attempt == _LOOKS - 1:
            break
        time.sleep(_PAUSE)
    return services, unsure


def _reloaded_at(root: str) -> float:
    """When the manager last ran the generators, which it does at each reload; they have their folders made anew."""
    moments = [0.0]
    for folder in ("/run/systemd", *GENERATED):
        try:
            moments.append(os.stat(os.path.join(root, folder[1:])).st_mtime)
        except OSError:
            continue
    return max(moments)


def _linked_at(root: str) -> float:
    """When systemctl last made or removed a link that enables a unit."""
    moments = [0.0]
    for folder in _ENABLED:
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                wants = [entry for entry in entries if entry.name.endswith((".wants", ".requires"))]
                moments += [entry.stat().st_mtime for entry in wants]
        except OSError:  # there is none, or what was in it is gone
            continue
    return max(moments)


def _settled(root: str, loaded: _Loaded, templates: bool) -> Tuple[Dict[str, Service], Set[str]]:
    """What is on disk while no daemon-reload is under way, which removes what generators wrote and runs them again.

    The manager answers nothing meanwhile. So once it has answered, unchanged folders mean that none ran in between.
    """
    for _unused in range(_ATTEMPTS):
        before = _generated(root)
        found = _on_disk(root, loaded, templates)
        _insist(lambda: _wait(root))
        if _generated(root) == before:
            return found
    raise SourceFailed("systemd reloads its units again and again; collect when no `systemctl daemon-reload` runs.")


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


def _on_disk(root: str, loaded: Optional[_Loaded], templates: bool) -> Tuple[Dict[str, Service], Set[str]]:
    """The services that are not loaded, by Id, and the Ids of those that cannot be told; without a manager, of all."""
    known = loaded or _Loaded({}, set(), set(), list(DEFAULT_PATH), False)
    files = UnitFiles(root, known.search_path, known.by_target)
    if not files.found:
        raise SourceAbsent("{0}: there are no folders of systemd unit files below it.".format(root))
    services = {}
    unsure = set(known.unsure)
    memory = known.targets.union(known.services, known.unsure)
    for unit in _not_loaded(files, known.services, unsure, templates):
        services[unit.name] = _at_rest(unit, files.wanted_when_loaded(unit, memory)) if loaded else _unknown(unit)
    return services, unsure


def _not_loaded(files: UnitFiles, services: Dict[str, Service], unsure: Set[str], templates: bool) -> List[UnitFile]:
    """The units that only the disk knows of; one that cannot be read is added to `unsure`."""
    out = []
    seen = set(services).union(unsure)
    for name in sorted(files.names()):
        if name in seen or (syntax.instance(name) == "" and not templates):
            continue
        found = files.identify(name)
        if found is None or found[0] in seen:
            continue
        seen.add(found[0])
        try:
            unit = files.read(*found)
        except Unreadable:
            unsure.add(found[0])
            continue
        if unit is not None:
            out.append(unit)
    return out


def _at_rest(unit: UnitFile, wanted_by: Sequence[str]) -> Service:
    return _service(unit, unit.load_state, "inactive", "dead", wanted_by)


def _unknown(unit: UnitFile) -> Service:
    return _service(unit, "unknown", "unknown", "unknown", unit.wanted_by)


def _service(unit: UnitFile, load_state: str, active_state: str, sub_state: str, wanted_by: Sequence[str]) -> Service:
    name, path = unit.name[: -len(syntax.SUFFIX)], printable(unit.path)
    wanting = printable(" ".join(wanted_by))
    return Service(name, unit.description, load_state, active_state, sub_state, unit.state, wanting, path)


def _message(note: str, unsure: List[str]) -> str:
    if not unsure:
        return note
    more = " and {0} more".format(len(unsure) - _NAMED) if len(unsure) > _NAMED else ""
    missing = "Could not be read: {0}{1}; run as root to see all.".format(", ".join(unsure[:_NAMED]), more)
    return (note + " " + missing).lstrip()


def _insist(question: Callable[[], _Answer]) -> _Answer:
    """A manager that re-executes itself drops its connections: that is tried once more."""
    failure = ""
    for _unused in range(2):
        try:
            return question()
        except Disconnected as error:
            failure = str(error)
        except SourceFailed as error:
            failure = str(error)
            break
    raise SourceFailed(
        "systemd does not answer ({0}); check `systemctl is-system-running` on the host.".format(failure)
    )


def _wait(root: str) -> None:
    with _connect(root) as connection:
        connection.calls([(_MANAGER, _VERSION)])


def _ask(root: str) -> _Loaded:
    with _connect(root) as connection:
        listing, path, version = connection.calls([(_MANAGER, _LIST), (_MANAGER, _UNIT_PATH), (_MANAGER, _VERSION)])
        units, targets = _listed(listing)
        search_path = _texts(path)
        by_target = _version(_expected(version, str)) < _FIRST_BY_SOURCE
        calls = [(object_path, method) for _unused, object_path in units for method in _PER_UNIT]
        replies = connection.calls(calls)
    services: Dict[str, Service] = {}
    unsure: Set[str] = set()
    for number, (service, _unused) in enumerate(units):
        unit = service.name + syntax.SUFFIX
        fragment, state, wanted_by = replies[3 * number : 3 * number + 3]
        if any(isinstance(reply, Refusal) and reply.name in _GONE for reply in (fragment, state, wanted_by)):
            continue
        try:
            full = service._replace(
                path=_expected(fragment, str),
                unit_file_state=_expected(state, str),
                wanted_by=" ".join(sorted(_texts(wanted_by))),
            )
        except Disconnected:
            raise
        except SourceFailed:
            unsure.add(unit)
            continue
        # A loaded service has a file: without one, it was unloaded after it was listed.
        if full.path or full.load_state != "loaded":
            services[unit] = full
    return _Loaded(services, unsure, targets, search_path, by_target)


def _connect(root: str) -> Connection:
    """systemd's own socket, which takes root only and needs no message bus; else the system bus."""
    if os.geteuid() == 0:
        try:
            return Connection(os.path.join(root, "run/systemd/private"))
        except Disconnected:
            pass
    return Connection(os.path.join(root, "run/dbus/system_bus_socket"), bus=True)


def _listed(reply: Reply) -> Tuple[List[Tuple[Service, str]], Set[str]]:
    """Of ListUnits' a(ssssssouso): the services that are more than a name, with their object paths; the targets."""
    out = []
    targets = set()
    for entry in _expected(reply, list):
        if not isinstance(entry, tuple) or len(entry) != 10 or not all(isinstance(entry[n], str) for n in range(7)):
            raise SourceFailed("systemd answered with something that is no list of units.")
        name, description, load_state, active_state, sub_state, _unused, path = entry[:7]
        if not name.endswith(syntax.SUFFIX):
            targets.add(name)
        elif load_state != "not-found" or active_state != "inactive":
            short = name[: -len(syntax.SUFFIX)]
            out.append((Service(short, description, load_state, active_state, sub_state, "", "", ""), path))
    return out, targets


def _expected(reply: Reply, kind: type) -> Any:
    """The one value of a reply. SourceFailed: it is an error, or of another type."""
    if isinstance(reply, Refusal):
        failure = Disconnected if reply.name in _BUSY else SourceFailed
        raise failure("systemd refused a question ({0}: {1})".format(reply.name, reply.message[:200]))
    if len(reply) != 1 or not isinstance(reply[0], kind):
        raise SourceFailed("systemd answered with something that was not asked for.")
    return reply[0]


def _texts(reply: Reply) -> List[str]:
    return [value for value in _expected(reply, list) if isinstance(value, str)]


def _version(text: str) -> int:
    """The number in "257.8-1~deb13u1"; that of a recent systemd where there is none."""
    digits = text.lstrip("v").partition(".")[0].partition(" ")[0].partition("-")[0].partition("~")[0]
    return int(digits) if digits.isdigit() else _FIRST_BY_SOURCE
