# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Addresses of receivers: `@name` (an abstract unix socket, unix(7)), `/path` (a socket file), `tcp://host:port` or
`tls://host:port`.
"""

import os
from typing import NamedTuple

from ..errors import ForwardError
from ..text import without_secrets

SUN_PATH = 108  # bytes, unix(7)


class Address(NamedTuple):
    """A parsed address; str() of it is what an operator would write."""

    scheme: str  # abstract file tcp tls
    name: str  # of the socket, of its file, or of the host
    port: int = 0

    @property
    def is_local(self) -> bool:
        """Whether it is a unix socket, as the Azure Monitor Agent and what stands in for it have."""
        return self.scheme in ("abstract", "file")

    def __str__(self) -> str:
        if not self.is_local:
            host = "[" + self.name + "]" if ":" in self.name else self.name
            return f"{self.scheme}://{host}:{self.port}"
        return "@" + self.name if self.scheme == "abstract" else self.name


def parse(text: str) -> Address:
    """Parse an address. Raises ForwardError where it is invalid."""
    scheme, mark, rest = text.partition("://")
    if mark and scheme in ("tcp", "tls"):
        host, _unused, port = rest.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ForwardError(
                f"{without_secrets(text)!r}: write an IPv6 address in brackets, as in {scheme}://[::1]:24224"
            )
        if not host or len(port) > 5 or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ForwardError(f"{without_secrets(text)!r}: write host and port, as in {scheme}://localhost:24224")
        return Address(scheme, host, int(port))
    if text[:1] not in ("@", "/"):
        raise ForwardError(
            f"{without_secrets(text)!r} is no address: write @name, /path, tcp://host:port or tls://host:port"
        )
    address = Address("abstract", text[1:]) if text[0] == "@" else Address("file", text)
    if not address.name or "\0" in text or len(os.fsencode(address.name)) >= SUN_PATH:
        raise ForwardError(f"{text!r}: the name of a unix socket has 1 to {SUN_PATH - 1} bytes")
    return address
