# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Makes TLS contexts from PEM files."""

from typing import TYPE_CHECKING, NamedTuple

from ..errors import ForwardError

if TYPE_CHECKING:
    import ssl


class Tls(NamedTuple):
    """Paths of PEM files. Without `ca`, the system's authorities are trusted; without `cert`, no certificate is sent."""

    ca: str = ""
    cert: str = ""
    key: str = ""  # empty: in the file of the certificate
    verify: bool = True


def tls_context(tls: Tls, server: bool = False) -> "ssl.SSLContext":
    """A context for TLS 1.2 or newer. With a `ca`, only that authority is trusted, and a server requires a certificate signed by
    it from its clients. Raises ForwardError where a file cannot be used.
    """
    import ssl

    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    path = tls.ca
    try:
        # Only the argument replaces the system's authorities; load_verify_locations() adds to them.
        context = ssl.create_default_context(purpose, cafile=tls.ca or None)
        if hasattr(context, "minimum_version"):  # Python 3.7
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        else:
            context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
        if server and tls.ca:
            context.verify_mode = ssl.CERT_REQUIRED
        if not server and not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert:
            path = tls.cert
            context.load_cert_chain(path, tls.key or None, password="")  # an encrypted key fails; it must not prompt
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ForwardError(
            f"{path}: cannot be used for TLS ({reason}); it must be a readable PEM file, and its key without a passphrase"
        ) from error
    return context
