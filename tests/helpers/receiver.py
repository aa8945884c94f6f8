# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our half of the protocol, for a peer to send to."""

import threading

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import forward, sockets
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import Unpacker
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.tls import tls_context


class Receiver:
    """Takes one connection, decodes what comes over it and acknowledges what asks for it."""

    def __init__(self, where, tls=None):
        self.batches = []
        self._listener = sockets.listen(where)
        self.port = self._listener.getsockname()[1] if where.scheme == "tcp" else 0
        self._context = tls_context(tls, server=True) if tls else None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        connection = self._listener.accept()[0]
        if self._context:
            connection = self._context.wrap_socket(connection, server_side=True)
        unpacker = Unpacker()
        with connection, self._listener:
            for data in iter(lambda: connection.recv(65536), b""):
                unpacker.feed(data)
                for value in unpacker:
                    batch = forward.decode(value)
                    self.batches.append(batch)
                    if batch.chunk:
                        connection.sendall(forward.ack(batch.chunk))

    def end(self):
        self._thread.join()
        return self.batches
