# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Asks systemd's service manager for the states of services, and for those that it starts on demand.

Source: org.freedesktop.systemd1(5). No call makes the manager load a unit.
"""

import os
import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple, TypeVar

from ...errors import SourceFailed
from . import unit_syntax as syntax
from .dbus import DBusConnection, Disconnected, Method, Refusal, Reply
from .unit_files import UNKNOWN_VERSION

_Answer = TypeVar("_Answer")
_MANAGER = "/org/freedesktop/systemd1"
_GONE = ("org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.systemd1.NoSuchUnit")
_BUSY = ("org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected")
_ATTEMPTS = 4
_PAUSE = 0.25  # seconds between two; a manager that re-executes itself needs less
_TRIGGERS = (".socket", ".timer", ".path")


def _method(interface: str, member: str, returns: str, signature: str = "", arguments: Sequence[Any] = ()) -> Method:
    return Method("org.freedesktop.systemd1", interface, member, signature, arguments, returns)


def _property(interface: str, name: str) -> Method:
    arguments = ("org.freedesktop.systemd1." + interface, name)
    return _method("org.freedesktop.DBus.Properties", "Get", "v", "ss", arguments)


def _list(patterns: Iterable[str]) -> Method:
    """Lists the loaded units whose Ids match a pattern. A name matches itself: no character of one is special in a pattern."""
    return _method(
        "org.freedesktop.systemd1.Manager", "ListUnitsByPatterns", "a(ssssssouso)", "asas", ((), tuple(patterns))
    )


_LIST = _list("*" + suffix for suffix in (syntax.SUFFIX, *_TRIGGERS))
_UNIT_PATH = _property("Manager", "UnitPath")
_VERSION = _property("Manager", "Version")
_UNITS_TRIGGERED = _property("Unit", "Triggers")
_EXIT = (_property("Service", "ExecMainExitTimestampMonotonic"), _property("Unit", "ActiveExitTimestampMonotonic"))


class Unit(NamedTuple):
    """One service that the manager has loaded."""

    description: str
    load_state: str
    active_state: str
    sub_state: str
    object_path: str


class Loaded(NamedTuple):
    """The answers of the manager."""

    services: Dict[str, Unit]  # by Id; without those that are no more than a name
    triggered: Set[str]  # Ids of the services that an active socket, timer or path unit starts
    search_path: List[str]
    version: int


def loaded(root: str) -> Loaded:
    """What the manager has loaded. Raises SourceFailed where it does not answer."""
    return _retry(lambda: _ask(root))


def remaining(root: str, names: Iterable[str]) -> Set[str]:
    """Those of the services with these Ids that the manager still has loaded, and that are more than a name."""
    return _retry(lambda: _ask_again(root, names))


def ended_by_themselves(root: str, object_paths: Dict[str, str]) -> Set[str]:
    """Those of the inactive services {Id: object path} that ended without being stopped, or never ran.

    A service that is stopped leaves the active state before its main process ends; one that ends by itself, after.
    The manager answers nothing while it reloads, so whatever was seen before it was asked this is from before a reload.
    """
    return _retry(lambda: _ask_ends(root, object_paths))


def _ask(root: str) -> Loaded:
    with _connect(root) as connection:
        listing, path, version = connection.calls([(_MANAGER, _LIST), (_MANAGER, _UNIT_PATH), (_MANAGER, _VERSION)])
        services, triggers = _listed(listing)
        replies = connection.calls([(object_path, _UNITS_TRIGGERED) for object_path in triggers])
    triggered = {name for reply in replies if not _is_gone(reply) for name in _texts(reply)}
    return Loaded(services, triggered, _texts(path), _number(_expected(version, str)))


def _ask_again(root: str, names: Iterable[str]) -> Set[str]:
    with _connect(root) as connection:
        (listing,) = connection.calls([(_MANAGER, _list(names))])
    return set(_listed(listing)[0])


def _ask_ends(root: str, object_paths: Dict[str, str]) -> Set[str]:
    with _connect(root) as connection:
        calls = [(path, method) for path in object_paths.values() for method in _EXIT]
        replies = connection.calls([(_MANAGER, _VERSION), *calls])
    out = set()
    for number, name in enumerate(object_paths):
        process, unit = replies[1 + 2 * number : 3 + 2 * number]  # noqa: E203
        if _is_gone(process) or _is_gone(unit) or _expected(process, int) <= _expected(unit, int):
            out.add(name)
    return out


def _retry(question: Callable[[], _Answer]) -> _Answer:
    """A manager that re-executes itself drops its connections, and takes new ones a moment later."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return question()
        except SourceFailed as error:
            if not isinstance(error, Disconnected) or attempt == _ATTEMPTS:
                raise SourceFailed(
                    f"systemd does not answer ({error}). Check `systemctl is-system-running` on the host."
                ) from error
        time.sleep(_PAUSE)
    raise AssertionError("unreachable")


def _connect(root: str) -> DBusConnection:
    """systemd's own socket, which takes root only and needs no message bus; else the system bus."""
    if os.geteuid() == 0:
        try:
            return DBusConnection(os.path.join(root, "run/systemd/private"))
        except Disconnected:
            pass
    return DBusConnection(os.path.join(root, "run/dbus/system_bus_socket"), bus=True)


def _listed(reply: Reply) -> Tuple[Dict[str, Unit], List[str]]:
    """The services that are more than a name; the object paths of the active units that start others."""
    services = {}
    triggers = []
    for name, description, load_state, active_state, sub_state, _unused, path, *_job in _expected(reply, list):
        if not name.endswith(syntax.SUFFIX):
            if active_state == "active":
                triggers.append(path)
        elif load_state != "not-found" or active_state != "inactive":
            services[name] = Unit(description, load_state, active_state, sub_state, path)
    return services, triggers


def _is_gone(reply: Reply) -> bool:
    return isinstance(reply, Refusal) and reply.name in _GONE


def _expected(reply: Reply, kind: type) -> Any:
    """The one value of a reply. SourceFailed: it is an error, or of another type."""
    if isinstance(reply, Refusal):
        failure = Disconnected if reply.name in _BUSY else SourceFailed
        raise failure(f"systemd refused a call ({reply.name}: {reply.message[:200]})")
    if len(reply) != 1 or not isinstance(reply[0], kind):
        raise SourceFailed("systemd sent a reply of another type than expected")
    return reply[0]


def _texts(reply: Reply) -> List[str]:
    return [value for value in _expected(reply, list) if isinstance(value, str)]


def _number(version: str) -> int:
    """The number in "257.8-1~deb13u1"; that of a recent systemd where there is none."""
    digits = version.lstrip("v").partition(".")[0].partition(" ")[0].partition("-")[0].partition("~")[0]
    return int(digits) if digits.isdecimal() else UNKNOWN_VERSION
