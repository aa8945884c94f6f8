# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Contexts for TLS, from paths of PEM files."""

from typing import TYPE_CHECKING, NamedTuple

from ..errors import ForwardError

if TYPE_CHECKING:
    import ssl


class Tls(NamedTuple):
    """Paths of PEM files; empty: the system's authorities, no certificate of our own. `ca` replaces the system's."""

    ca: str = ""
    cert: str = ""
    key: str = ""  # empty: in the file of the certificate
    verify: bool = True


def tls_context(tls: Tls, server: bool = False) -> "ssl.SSLContext":
    """TLS 1.2 or newer. With a `ca`, that one alone is trusted, and a server wants certificates that it signed.

    ForwardError: an unusable file.
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
            "{0}: no use for TLS ({1}); it must be a readable PEM file, its key without a passphrase".format(
                path, reason
            )
        ) from error
    return context
