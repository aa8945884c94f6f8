# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The keys and secrets in files that tokens are asked for with. No message has any part of one."""

import base64
import hashlib
import json
import os
import pwd
import re
import socket
import subprocess
import uuid
from typing import Collection, Iterator, NamedTuple, Tuple

from .. import folders
from ..text import quoted
from .errors import AzureError

KEYS = "/var/opt/azcmagent/tokens"  # where the Azure Connected Machine agent puts the keys of its challenges
HIMDS_USER = "himds"  # whom its metadata service runs as
MAX_KEY_BYTES = 4096
MAX_FILE_BYTES = 64 << 10
ASSERTION_SECONDS = 600
OPENSSL_SECONDS = 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}\.key")
_VALUE = re.compile(r"[\x21-\x7e]{1,4096}")  # of a header
_LISTENS, _CONNECTED = "0A", ("01", "03")  # TCP_LISTEN; TCP_ESTABLISHED and TCP_SYN_RECV. See proc(5)
_NOT_ARC = "Check that the Azure Connected Machine agent runs: azcmagent show."


# --- Arc machines


def check_himds(port: int) -> None:
    """Check that nobody but root and the user himds listens at this port of localhost: any user may, while the service is down.

    Raises AzureError. Source: proc(5), /proc/net/tcp.
    """
    uids = [row.uid for row in _rows() if row.state == _LISTENS and row.port == port]
    if not uids:
        raise AzureError("Nobody listens at port %d of localhost. %s" % (port, _NOT_ARC))
    strangers = sorted(set(uids) - set(_owners()))
    if strangers:
        raise AzureError(
            "A process of the user with the uid %d listens at port %d of localhost, in the place of the Azure Connected Machine agent."
            " Nothing was sent. Stop that process." % (strangers[0], port)
        )


def check_peer(sock: socket.socket) -> None:
    """Check that nobody but root and the user himds is at the other end of this connection to localhost. Raises AzureError.

    Any user may have listened until it was made. So the listeners come first: whoever has accepted it by then is its owner, and nobody
    accepts it later but one of them. Source: proc(5), and get_tcp4_sock() of Linux.
    """
    port, own = sock.getpeername()[1], sock.getsockname()[1]
    check_himds(port)
    uids = [row.uid for row in _rows() if row.state in _CONNECTED and (row.port, row.peer_port) == (port, own)]
    if not uids or set(uids) - set(_owners()):
        raise AzureError(
            "Another process than the Azure Connected Machine agent answers at port %d of localhost. Nothing was sent. %s"
            % (port, _NOT_ARC)
        )


class _Row(NamedTuple):
    """A TCP socket of this host."""

    port: int
    peer_port: int
    state: str
    uid: int


def _rows() -> Iterator[_Row]:
    for name in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(name, encoding="ascii", errors="replace") as file:
                rows = [row.split() for row in file]
        except OSError:
            continue
        for row in rows[1:]:
            if len(row) > 7:
                ports = [int(address.rpartition(":")[2], 16) for address in row[1:3]]
                yield _Row(ports[0], ports[1], row[3], int(row[7]))


def _owners() -> Tuple[int, ...]:
    """The uids that may own the keys of challenges."""
    try:
        return 0, pwd.getpwnam(HIMDS_USER).pw_uid
    except KeyError:
        return (0,)


def arc_key(challenge: str) -> str:
    """The key that a challenge names, as it stands in the header Authorization. Raises AzureError.

    A process in the place of the agent may name any file, which is sent to it. So only a file directly in KEYS is read, with the
    form that the agent gives it, and only where root and the agent's user alone control the folder.
    """
    scheme, _blank, parameter = challenge.strip().partition(" ")
    name, _equals, path = parameter.strip().partition("=")
    path = path.strip('"')
    folder, _slash, base = path.rpartition("/")
    if (scheme.lower(), name.lower(), folder) != ("basic", "realm", KEYS) or not _NAME.fullmatch(base):
        raise AzureError(
            "The answer for an Arc machine names '%s' as its key, which is not a .key file in %s. It is not read. %s"
            % (quoted(challenge, 100), KEYS, _NOT_ARC)
        )
    raw = _read(path, MAX_KEY_BYTES, _owners(), 0o022)
    key = raw.decode("ascii", "replace").strip()
    if not _VALUE.fullmatch(key):
        raise AzureError("The key '%s' does not have the form of one. %s" % (path, _NOT_ARC))
    return key


def _read(path: str, limit: int, owners: Collection[int], forbidden: int) -> bytes:
    """A regular file that `owners` alone control, and that is no symlink. `forbidden`: bits that its mode must not have. Raises AzureError."""
    shown = quoted(path)
    try:
        folders.check(os.path.dirname(path), owners)
        raw, status = folders.read(path, limit, follow=False)
    except folders.Controlled as error:
        raise AzureError(
            "The file '%s' can be replaced by others (%s). Make root the owner of that folder."
            % (shown, quoted(error.filename))
        ) from error
    except OSError as error:
        raise AzureError(
            "Cannot read '%s' (%s). %s" % (shown, error.strerror, folders.run_as(os.path.dirname(path)))
        ) from error
    if status.st_uid not in owners or status.st_nlink != 1 or status.st_mode & forbidden:
        raise AzureError(
            "The file '%s' can be changed or read by others. Make root its owner, and restrict it (chmod 640)." % shown
        )
    return raw


# --- applications


def _own(path: str) -> bytes:
    if not path.startswith("/"):
        raise AzureError("azure_credential_file is '%s'. Give an absolute path." % quoted(path))
    return _read(path, MAX_FILE_BYTES, (0, os.geteuid()), 0o027)


def secret(path: str) -> str:
    """The secret of an application in a file. Raises AzureError."""
    text = _own(path).decode("utf-8", "replace").strip()
    if not text or len(text.splitlines()) != 1:
        raise AzureError("The file '%s' does not have one line with the secret." % quoted(path))
    return text


def assertion(path: str, client_id: str, audience: str, now: float) -> str:
    """A token with which an application shows that it has the private key of its certificate. `now`: unix seconds.

    The command openssl signs it. Raises AzureError. Source: "Microsoft identity platform application authentication certificate
    credentials" on learn.microsoft.com.
    """
    import ssl

    pem = _own(path)
    found = re.search(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", pem)
    if not found or b"PRIVATE KEY-----" not in pem:
        raise AzureError("The file '%s' does not have a certificate and its private key as PEM." % quoted(path))
    try:
        der = ssl.PEM_cert_to_DER_cert(found.group().decode("ascii"))
        thumbprint = _thumbprint(der)
    except ValueError as error:
        raise AzureError("The certificate in '%s' is not valid." % quoted(path)) from error
    head = {"alg": "RS256", "typ": "JWT", "x5t": _base64url(thumbprint)}
    claims = {
        "aud": audience, "iss": client_id, "sub": client_id, "jti": str(uuid.uuid4()),
        "nbf": int(now) - 60, "iat": int(now), "exp": int(now) + ASSERTION_SECONDS,
    }  # fmt: skip
    parts = [_base64url(json.dumps(part, separators=(",", ":")).encode("ascii")) for part in (head, claims)]
    signed = ".".join(parts)
    return signed + "." + _base64url(_sign(pem, signed.encode("ascii"), path))


def _thumbprint(der: bytes) -> bytes:
    """SHA-1, which names a certificate here and protects nothing."""
    try:
        return hashlib.sha1(der, usedforsecurity=False).digest()
    except TypeError:  # before Python 3.9
        return hashlib.sha1(der).digest()


def _sign(pem: bytes, data: bytes, path: str) -> bytes:
    """RSA with SHA-256. The key goes through a pipe: it is in no file and in no list of processes."""
    reader, writer = os.pipe()
    try:
        os.write(writer, pem)  # a pipe holds 64 KiB
        os.close(writer)
        writer = -1
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            ["openssl", "dgst", "-sha256", "-sign", "/dev/fd/%d" % reader, "-passin", "pass:"],
            input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=[reader], timeout=OPENSSL_SECONDS,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or "it does not end"
        raise AzureError("Cannot run openssl, which signs with a certificate (%s). Install it." % reason) from None
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if done.returncode or not done.stdout:
        raise AzureError(
            "openssl cannot sign with the key in '%s'. It must be an RSA key without a passphrase." % quoted(path)
        )
    return done.stdout


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
