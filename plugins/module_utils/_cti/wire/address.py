# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""How an address is written: `@name` (an abstract unix socket, unix(7)), `/path` (a socket file), `tcp://host:port` or
`tls://host:port`.
"""

import os
from typing import NamedTuple

from ..errors import ForwardError

AMA_USERS = ("root", "syslog", "azuremonitoragent")  # whom the Azure Monitor Agent (AMA) runs as
SOCKET = "@CAgentStream_CloudAgentInfo_%s_default_fluent.socket"  # AMA's, of an extension or of one of these:
CONFIG = "config"
DIAGNOSTICS = "MaExtensionDiagnostics"
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
            return "{0}://{1}:{2}".format(self.scheme, host, self.port)
        return "@" + self.name if self.scheme == "abstract" else self.name


def parse(text: str) -> Address:
    """ForwardError: that is no address."""
    scheme, mark, rest = text.partition("://")
    if mark and scheme in ("tcp", "tls"):
        host, _unused, port = rest.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ForwardError("{0!r}: write an IPv6 address in brackets, as in {1}://[::1]:24224".format(text, scheme))
        if not host or len(port) > 5 or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ForwardError("{0!r}: write host and port, as in {1}://localhost:24224".format(text, scheme))
        return Address(scheme, host, int(port))
    if text[:1] not in ("@", "/"):
        raise ForwardError("{0!r} is no address: write @name, /path, tcp://host:port or tls://host:port".format(text))
    address = Address("abstract", text[1:]) if text[0] == "@" else Address("file", text)
    if not address.name or "\0" in text or len(os.fsencode(address.name)) >= SUN_PATH:
        raise ForwardError("{0!r}: the name of a unix socket has 1 to {1} bytes".format(text, SUN_PATH - 1))
    return address
