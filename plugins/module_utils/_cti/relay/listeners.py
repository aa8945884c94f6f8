# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The sockets of the relay, and which clients may connect to them."""

import errno
import os
import pwd
import selectors
import socket
import time
from typing import TYPE_CHECKING, Callable, Dict, Iterable, List, NamedTuple, Optional, Set

from ..wire import address as addresses
from ..wire import sockets
from ..wire.address import Address
from ..wire.ama import CONFIG, DIAGNOSTICS, SOCKET
from ..wire.tls import Tls, tls_context
from . import clients
from .connection import Client

if TYPE_CHECKING:
    import ssl


REFUSED_AT_ONCE = 64
LOOK_SECONDS = 1.0  # between two lookups of users who did not exist
IPV6_NETWORK_BYTES = 8  # of an address that identify the client: it controls all addresses of that network


class Listener(NamedTuple):
    address: Address
    sock: socket.socket
    kind: str  # of clients: one of clients.KINDS
    tls: "Optional[ssl.SSLContext]"


def socket_address(role: str, folder: Optional[str]) -> Address:
    """The address of the role `config`, `MaExtensionDiagnostics`, or of an extension: the abstract name that the Azure
    Monitor Agent uses, or a socket file in `folder`, whose name is shorter because a path may have only 107 bytes."""
    if folder is None:
        return addresses.parse(SOCKET % role)
    return addresses.parse(os.path.join(os.path.abspath(folder), role + ".socket"))


class Listeners:
    """All listening sockets, which open and close with the config chunks. Raises ForwardError.

    `complain` logs each of `users` who does not exist. The relay looks up such a user again when it is about to refuse
    a client, at most every LOOK_SECONDS.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        folder: Optional[str],
        users: Iterable[str],
        complain: Callable[[str], None],
    ) -> None:
        self._selector = selector
        self._folder = folder
        self._uids = {0, os.geteuid()}
        self._absent = list(users)  # users without a uid yet
        self._look_at = 0.0  # the monotonic time from which on they may be looked up again
        self._find_users()
        for user in self._absent:
            complain(
                "The user '%s' in --allow-user does not exist on this host. Create the user, or correct the option."
                % user
            )
        # Other users must be able to connect; accept() checks who they are.
        self._mode = 0o600 if self._uids <= {0, os.geteuid()} and not self._absent else 0o666
        self._roles: Dict[str, Listener] = {}
        self._further: List[Listener] = []
        self._paused: Set[str] = set()  # kinds of listeners that accept no clients now

    def open(self, role: str) -> Address:
        if role not in self._roles:
            if self._folder is not None:
                os.makedirs(self._folder, 0o755, exist_ok=True)
            kind = clients.CONFIG if role == CONFIG else clients.LOCAL
            self._roles[role] = self._listen(socket_address(role, self._folder), None, kind)
        return self._roles[role].address

    def open_further(self, text: str, tls: Tls) -> Address:
        """Open a listener for records at an additional address."""
        address = addresses.parse(text)
        context = None
        if address.scheme == "tls":
            context = tls_context(tls, server=True)
            context.options |= _no_renegotiation()
        kind = clients.LOCAL if address.is_local else clients.NETWORK
        self._further.append(self._listen(address, context, kind))
        return address

    def close(self, role: str) -> None:
        self._shut(self._roles.pop(role))

    def close_all(self) -> None:
        for role in list(self._roles):
            self.close(role)
        while self._further:
            self._shut(self._further.pop())

    def extensions(self) -> List[str]:
        return [role for role in self._roles if role not in (CONFIG, DIAGNOSTICS)]

    def accept(self, listener: Listener, complain: Callable[[str], None]) -> Optional[Client]:
        """Accept the client that has waited longest; None: no client waits, or it cannot be accepted now.

        `complain` logs clients that may not connect.
        """
        for _unused in range(REFUSED_AT_ONCE):
            try:
                sock, address = listener.sock.accept()
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    for kind in clients.KINDS:
                        self.pause(kind)
                complain("Cannot accept a client at %s (%s)." % (listener.address, error.strerror))
                return None
            if sock.family == socket.AF_UNIX:
                who = sockets.peer(sock)
                if self._admits(who.uid):
                    name = "%s, process %d of uid %d" % (listener.address, who.pid, who.uid)
                    return Client(sock, name, listener.kind, (str(who.uid), str(who.pid)))
                complain(
                    "Refused a client at %s: process %d of user '%s'. To allow this user, add it to --allow-user."
                    % (listener.address, who.pid, _user_name(who.uid))
                )
            else:
                try:
                    if listener.tls is not None:
                        sock = listener.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                    name = "%s, client %s port %s" % (listener.address, address[0], address[1])
                    return Client(sock, name, listener.kind, (_network(sock.family, address[0]),))
                except OSError:  # the client has disconnected
                    pass
            sock.close()
        return None

    def pause(self, kind: str) -> None:
        """Do not accept clients of a kind until resume() is called."""
        if kind not in self._paused:
            self._paused.add(kind)
            for listener in self._all():
                if listener.kind == kind:
                    self._selector.unregister(listener.sock)

    def resume(self, kind: str) -> None:
        if kind in self._paused:
            self._paused.remove(kind)
            for listener in self._all():
                if listener.kind == kind:
                    self._selector.register(listener.sock, selectors.EVENT_READ, listener)

    def _admits(self, uid: int) -> bool:
        if uid not in self._uids and self._absent and time.monotonic() >= self._look_at:
            self._find_users()
        return uid in self._uids

    def _find_users(self) -> None:
        """Look up the users who have no uid yet. Not for every client, because a directory service can be slow."""
        uids = {user: _uid(user) for user in self._absent}
        self._uids.update(uid for uid in uids.values() if uid is not None)
        self._absent = [user for user, uid in uids.items() if uid is None]
        self._look_at = time.monotonic() + LOOK_SECONDS

    def _all(self) -> List[Listener]:
        return list(self._roles.values()) + self._further

    def _listen(self, address: Address, tls: "Optional[ssl.SSLContext]", kind: str) -> Listener:
        listener = Listener(address, sockets.listen(address, mode=self._mode), kind, tls)
        listener.sock.setblocking(False)
        if kind not in self._paused:
            self._selector.register(listener.sock, selectors.EVENT_READ, listener)
        return listener

    def _shut(self, listener: Listener) -> None:
        if listener.kind not in self._paused:
            self._selector.unregister(listener.sock)
        listener.sock.close()
        if listener.address.scheme == "file":
            try:
                os.unlink(listener.address.name)
            except OSError:
                pass


def _network(family: int, host: str) -> str:
    """The part of an address that identifies a client."""
    if family == socket.AF_INET6 and "." not in host:
        return socket.inet_pton(family, host.partition("%")[0])[:IPV6_NETWORK_BYTES].hex()
    return host


def _no_renegotiation() -> int:
    """The TLS option that forbids renegotiation, which costs CPU time. Python 3.6 has no name for it; OpenSSL has it from 1.1.1 on."""
    import ssl

    return getattr(ssl, "OP_NO_RENEGOTIATION", 1 << 30 if ssl.OPENSSL_VERSION_INFO >= (1, 1, 1) else 0)


def _uid(user: str) -> Optional[int]:
    """The uid of a user name, or of a uid as text; None if there is no such user."""
    try:
        return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "uid %d" % uid
