# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What the config chunks say: the sockets of extensions, the streams they name, and the answers to requests."""

import os
from typing import Any, List, Set

from ..ama.chunks import Chunks
from ..daemon import Log
from ..errors import CtiError
from ..wire.ama import CONFIG, DIAGNOSTICS
from .errors import RelayError
from .listeners import Listeners
from .sinks import MAX_NAMED, Sinks


def open_chunks(folder: str, log: Log) -> Chunks:
    """The chunks in a folder, not read yet. Raises RelayError where there is no such folder."""
    if not os.path.isdir(folder):
        raise RelayError("The folder of config chunks %s is not there; make it, or give another --chunks." % folder)
    return Chunks(folder, log.warning, log)


class Configuration:
    """Keeps the sockets and the sinks as the chunks say."""

    def __init__(self, chunks: Chunks, listeners: Listeners, sinks: Sinks, log: Log) -> None:
        self._chunks = chunks
        self._listeners = listeners
        self._sinks = sinks
        self._log = log

    @property
    def extensions(self) -> List[str]:
        return self._chunks.extensions

    def refresh(self) -> bool:
        """Read the chunks that changed; whether there are any."""
        return self._chunks.refresh()

    def answer(self, request: Any) -> List[bytes]:
        """The pieces of the answer to a request for configuration."""
        return self._chunks.answer(request)

    def follow(self) -> None:
        """The sockets of the extensions that the chunks name, no more and no fewer."""
        for extension in self._listeners.extensions():
            if extension not in self._chunks.extensions:
                self._listeners.close(extension)
                self._log("No config chunk names %s any more; its socket is closed." % extension)
        for extension in self._chunks.extensions:
            if extension in (CONFIG, DIAGNOSTICS) or extension in self._listeners.extensions():
                continue
            try:
                self._log("Listening on %s" % str(self._listeners.open(extension)))
            except CtiError as error:
                self._log.error(str(error))
        self._sinks.named = frozenset(sorted(self._streams())[:MAX_NAMED])

    def _streams(self) -> Set[str]:
        """The streams that the chunks name."""
        documents = [self._chunks.document(extension) or {} for extension in self._chunks.extensions]
        elements = [element for document in documents for element in document.get("extensionConfigurations", [])]
        return {stream for element in elements for stream in element["outputStreams"].values()}
