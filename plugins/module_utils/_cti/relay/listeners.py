# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The relay's sockets, and whom it accepts on them."""

import errno
import os
import pwd
import selectors
import socket
from typing import TYPE_CHECKING, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from ..ama import address as addresses
from ..ama.address import CONFIG, DIAGNOSTICS, Address, Tls
from .errors import RelayError

if TYPE_CHECKING:
    import ssl

ACCEPTED_AT_ONCE = 64


class Listener(NamedTuple):
    address: Address
    sock: socket.socket
    config: bool
    tls: "Optional[ssl.SSLContext]"


def socket_address(role: str, folder: Optional[str]) -> Address:
    """Of the role `config`, `MaExtensionDiagnostics`, or of an extension: the abstract name the Azure Monitor Agent
    uses, or a socket file in `folder` (whose name is shorter: a path may have 107 bytes)."""
    if folder is None:
        return addresses.parse(addresses.SOCKET % role)
    return addresses.parse(os.path.join(os.path.abspath(folder), role + ".socket"))


class Listeners:
    """Opens and closes them as the config chunks come and go. Raises RelayError and ForwardError."""

    def __init__(self, selector: selectors.BaseSelector, folder: Optional[str], users: Iterable[str]) -> None:
        self._selector = selector
        self._folder = folder
        self._uids = _uids(users)
        # Others than our own user must be able to connect; who they are is checked then.
        self._mode = 0o600 if self._uids <= {0, os.geteuid()} else 0o666
        self._roles: Dict[str, Listener] = {}
        self._further: List[Listener] = []
        self._paused = False

    def open(self, role: str) -> Address:
        if role not in self._roles:
            if self._folder is not None:
                os.makedirs(self._folder, 0o755, exist_ok=True)
            listener = self._listen(socket_address(role, self._folder), None, role == CONFIG)
            self._roles[role] = listener
        return self._roles[role].address

    def open_further(self, text: str, tls: Tls) -> Address:
        """One for records at an address of the operator's choice."""
        address = addresses.parse(text)
        context = addresses.tls_context(tls, server=True) if address.scheme == "tls" else None
        self._further.append(self._listen(address, context, False))
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

    def accept(self, listener: Listener) -> Tuple[List[Tuple[socket.socket, str]], List[str]]:
        """The clients that wait there, each with a name for the log, and complaints about those turned away."""
        accepted: List[Tuple[socket.socket, str]] = []
        complaints: List[str] = []
        for _unused in range(ACCEPTED_AT_ONCE):
            try:
                sock, peer = listener.sock.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.pause()
                complaints.append("%s: a client could not be accepted (%s)." % (listener.address, error.strerror))
                break
            if sock.family != socket.AF_UNIX:
                name = "%s, client %s port %s" % (listener.address, peer[0], peer[1])
                try:
                    if listener.tls is not None:
                        sock = listener.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                    accepted.append((sock, name))
                except OSError:  # it has gone already
                    sock.close()
                continue
            who = addresses.peer(sock)
            if who.uid in self._uids:
                accepted.append((sock, "%s, process %d of uid %d" % (listener.address, who.pid, who.uid)))
                continue
            sock.close()
            complaints.append(
                "%s: process %d of user %s may not connect; allow its user with --allow-user."
                % (listener.address, who.pid, _user_name(who.uid))
            )
        return accepted, complaints

    def pause(self) -> None:
        """Accept nobody until resume(): there is no room."""
        if not self._paused:
            self._paused = True
            for listener in self._all():
                self._selector.unregister(listener.sock)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            for listener in self._all():
                self._selector.register(listener.sock, selectors.EVENT_READ, listener)

    def _all(self) -> List[Listener]:
        return list(self._roles.values()) + self._further

    def _listen(self, address: Address, tls: "Optional[ssl.SSLContext]", config: bool) -> Listener:
        listener = Listener(address, addresses.listen(address, mode=self._mode), config, tls)
        listener.sock.setblocking(False)
        if not self._paused:
            self._selector.register(listener.sock, selectors.EVENT_READ, listener)
        return listener

    def _shut(self, listener: Listener) -> None:
        if not self._paused:
            self._selector.unregister(listener.sock)
        listener.sock.close()
        if listener.address.scheme == "file":
            try:
                os.unlink(listener.address.name)
            except OSError:
                pass


def _uids(users: Iterable[str]) -> Set[int]:
    uids = {0, os.geteuid()}
    for user in users:
        try:
            uids.add(int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid)
        except KeyError:
            raise RelayError("There is no user %s on this host; correct --allow-user." % user) from None
    return uids


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "uid %d" % uid
