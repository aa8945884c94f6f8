# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Connects and listens at an Address, and checks who is at the other end of a unix socket."""

import errno
import os
import socket
import stat
import struct
import time
from typing import Any, Iterable, List, NamedTuple, Optional

from ..errors import ForwardError
from .address import SUN_PATH, Address
from .ama import AMA_USERS, CONFIG
from .tls import Tls, tls_context

AMA_PROCESSES = ("mdsd", "amacoreagent")  # the programs of the Azure Monitor Agent (AMA) that open sockets
AMA_FOLDER = "/opt/microsoft/azuremonitoragent"  # where AMA is installed
RELAY_FILES = (CONFIG + ".socket", "ChangeTracking-Linux.socket")  # the relay's, with --sockets DIR
RELAY_UNIT = "/etc/systemd/system/ctrelay.service"  # where the relay's role installs it
_CHECK_AMA = (
    "check that the service azuremonitoragent runs and that a DCR is associated with this machine (AMA opens an"
    " extension's socket only after it has loaded a DCR that names the extension)"
)
_CHECK_RELAY = "start it with 'systemctl start ctrelay'; if it does not start, see 'journalctl -u ctrelay'"
_CHECK_RECEIVER = (
    "check that the receiver runs (a relay: 'systemctl status ctrelay' on its host, with this address in relay_listen),"
    " and that no firewall blocks the connection"
)


class Peer(NamedTuple):
    """The process at the other end of a unix socket, or the one which called listen() there."""

    pid: int
    uid: int


class Deadline:
    """A point in time that changes of the wall clock do not move. With `silence`, it comes earlier: that many seconds
    after the last progress()."""

    def __init__(self, seconds: float, silence: Optional[float] = None) -> None:
        self._end = time.monotonic() + seconds
        self._silence = seconds if silence is None else silence
        self.progress()

    def progress(self) -> None:
        """Count the seconds of silence from now on."""
        self._silent_end = time.monotonic() + self._silence

    def left(self) -> float:
        """Seconds until then; never negative."""
        return max(0.0, min(self._end, self._silent_end) - time.monotonic())

    def shorten(self, seconds: float) -> None:
        """End after so many seconds at the latest, whatever the progress."""
        self._silence = min(self.left(), seconds)
        self._end = time.monotonic() + self._silence
        self.progress()

    def limit(self, sock: socket.socket) -> None:
        """Set the socket's timeout to what is left. Raises socket.timeout where nothing is."""
        left = self.left()
        if not left:
            raise socket.timeout("timed out")
        sock.settimeout(left)


def connect(
    address: Address,
    deadline_seconds: float = 10.0,
    allowed_users: Iterable[str] = AMA_USERS,
    tls: Optional[Tls] = None,
) -> socket.socket:
    """A connected stream socket, over which nothing has been sent yet but what TLS needs.

    `allowed_users`: names or numeric uids of the users that may be at the other end of a unix socket; the current user is not
    implied. Raises ForwardError where nobody listens, the deadline passes, or another user listens. The time to resolve a host
    name is not limited.
    """
    deadline = Deadline(deadline_seconds)
    try:
        if address.scheme in ("tcp", "tls"):
            return _connect_tcp(address, deadline, tls or Tls())
        sock = _connect_unix(address, deadline)
    except socket.timeout:
        advice = (
            _CHECK_RECEIVER if address.scheme in ("tcp", "tls") else "see the log of what listens there, or restart it"
        )
        raise ForwardError(f"{address}: no connection within {deadline_seconds:g} s; {advice}") from None
    except (OSError, ValueError) as error:  # Python 3.6 has ssl.CertificateError as a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ForwardError(f"{address}: no connection ({reason}); {_advice(address, error)}") from error
    try:
        check_peer(sock, address, allowed_users)
    except BaseException:
        sock.close()
        raise
    return sock


def _advice(address: Address, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if address.scheme == "tls" and (isinstance(error, ValueError) or "ssl" in type(error).__module__):
        return "check the certificates of both sides, and that the receiver speaks TLS"
    if isinstance(error, socket.gaierror):
        return "check the host name, which cannot be resolved here"
    if address.scheme in ("tcp", "tls"):
        return _CHECK_RECEIVER
    if number in (errno.ECONNREFUSED, errno.ENOENT):
        return _local_advice(address)
    return "check who may use the socket"


def _local_advice(address: Address) -> str:
    """The remedy where nobody listens at a unix socket: that for AMA, that for the relay, or both where it can be either."""
    if address.scheme == "file" and os.path.basename(address.name) in RELAY_FILES:
        return f"start the relay that listens there (relay.pyz run --sockets {os.path.dirname(address.name)})"
    ama, relay = os.path.isdir(AMA_FOLDER), os.path.exists(RELAY_UNIT)
    if ama == relay:
        return f"if AMA should listen there, {_CHECK_AMA}; if the relay should, {_CHECK_RELAY}"
    return _CHECK_AMA if ama else "the relay is installed here: " + _CHECK_RELAY


def _connect_unix(address: Address, deadline: Deadline) -> socket.socket:
    names = _abstract_names(address.name) if address.scheme == "abstract" else [os.fsencode(address.name)]
    for name in names:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A non-blocking connect(2) fails at once where the backlog is full; a blocking one waits as long as this.
            seconds = max(deadline.left(), 0.001)
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(seconds % 1 * 1000000))
            )
            sock.connect(name)
        except BlockingIOError:
            sock.close()
            raise socket.timeout("timed out") from None
        except ConnectionRefusedError:
            sock.close()
            if name is names[-1]:
                raise
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise AssertionError("unreachable")


def _abstract_names(name: str) -> List[bytes]:
    """Both forms of an abstract name: padded to the whole sun_path, as AMA binds it, and plain, as others do."""
    plain = b"\0" + os.fsencode(name)
    return [plain.ljust(SUN_PATH, b"\0"), plain]


def _connect_tcp(address: Address, deadline: Deadline, tls: Tls) -> socket.socket:
    context = tls_context(tls) if address.scheme == "tls" else None  # before the network: its files may be wrong
    targets = socket.getaddrinfo(address.name, address.port, 0, socket.SOCK_STREAM)
    for number, (family, kind, protocol, _unused, target) in enumerate(targets, 1):
        sock = socket.socket(family, kind, protocol)
        try:
            deadline.limit(sock)
            sock.connect(target)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            deadline.limit(sock)
            return context.wrap_socket(sock, server_hostname=address.name) if context else sock
        except BaseException as error:
            sock.close()
            if number == len(targets) or not isinstance(error, OSError):
                raise
    raise AssertionError("getaddrinfo names an address or raises")


def peer(sock: socket.socket) -> Peer:
    """Who is at the other end of a unix socket (SO_PEERCRED, unix(7))."""
    pid, uid, _gid = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(pid, uid)


def is_ama(sock: socket.socket) -> bool:
    """Whether the Azure Monitor Agent (AMA) is at the other end of a unix socket, as far as that can be determined.

    True if the process has the name of one of AMA's programs. Where /proc hides the process, as for a service with
    ProtectProc=invisible: if its user is one that only AMA uses, and AMA is installed here.
    """
    import pwd

    who = peer(sock)
    try:
        with open(f"/proc/{who.pid}/comm", "rb") as file:
            return os.fsdecode(file.read(64)).rstrip("\n") in AMA_PROCESSES
    except OSError:
        pass
    try:
        return pwd.getpwuid(who.uid).pw_name in AMA_USERS[1:] and os.path.isdir(AMA_FOLDER)
    except KeyError:
        return False


def check_peer(sock: socket.socket, address: Address, allowed_users: Iterable[str]) -> None:
    """Raise ForwardError unless one of the users (names or numeric uids) is at the other end.

    An abstract name has no permissions: any user can listen there first.
    """
    import pwd

    users = list(allowed_users)
    found = peer(sock)
    for user in users:
        try:
            if found.uid == (int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid):
                return
        except KeyError:  # no such user on this host
            pass
    try:
        name = pwd.getpwuid(found.uid).pw_name
    except KeyError:
        name = f"uid {found.uid}"
    raise ForwardError(
        f"{address}: process {found.pid} of user {name} listens there, but only {', '.join(users) or 'nobody'} may. Nothing was sent."
        " Stop that process, or add its user to the allowed users"
    )


def listen(address: Address, mode: int = 0o600, backlog: int = 4096) -> socket.socket:
    """A listening stream socket. `mode`: of a socket file. For tls, wrap the accepted sockets with tls_context().

    The socket file of a process that has ended is replaced. Raises ForwardError where the address is in use or not permitted.
    """
    try:
        if address.scheme == "file":
            return _listen_file(address.name, mode, backlog)
        if address.scheme == "abstract":
            return _listen_at(socket.AF_UNIX, _abstract_names(address.name)[0], backlog)
        family, _kind, _protocol, _canonical, name = socket.getaddrinfo(
            address.name, address.port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE
        )[0]
        return _listen_at(family, name, backlog)
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.EADDRINUSE:
            reason = "another process listens there, such as AMA or a relay; stop it, or use another address"
        raise ForwardError(f"cannot listen on {address}: {reason}") from error


def _listen_at(family: int, name: Any, backlog: int, mode: Optional[int] = None) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if mode is not None:
            os.fchmod(sock.fileno(), mode)  # bind creates the file with it, less the umask: at no time too open
        sock.bind(name)
        if mode is not None:
            os.chmod(name, mode)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_file(path: str, mode: int, backlog: int) -> socket.socket:
    import fcntl

    # Two processes that start at once must not both find the file stale and remove each other's.
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.lexists(path):
            _remove_stale(path)
        return _listen_at(socket.AF_UNIX, os.fsencode(path), backlog, mode)
    finally:
        os.close(lock)


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ForwardError(f"cannot listen on {path}: it is a file and not a socket; remove it, or use another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fsencode(path))
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # a full backlog: a process listens
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
