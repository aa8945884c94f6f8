# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Stores records that the destination does not accept in a file of their own, so that they do not block others."""

import json
import os
import threading
from typing import Any, Dict

from .errors import SinkError
from .segments import Entry

NAME = ".refused.jsonl"  # no sink's folder starts with a dot
FILE_BYTES = 16 << 20  # after which it is renamed to .old and replaces the previous one
SHOWN_KEYS = 50
SHOWN_CHARACTERS = 200  # of a key, and of a value


class Refused:
    """Keeps at least the newest FILE_BYTES of them, in two files. add() may be called from any thread."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, NAME)
        self._lock = threading.Lock()

    def add(self, stream: str, entry: Entry, reason: str) -> None:
        """Store a record on disk with the reason. Raises SinkError."""
        record = {"tag": stream, "time": entry[0], "reason": reason, "record": entry[1]}
        data = json.dumps(record).encode("ascii") + b"\n"
        with self._lock:
            try:
                file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                try:
                    before = os.fstat(file).st_size
                    if os.write(file, data) != len(data):
                        os.ftruncate(file, before)
                        raise OSError(28, os.strerror(28))
                    os.fdatasync(file)
                finally:
                    os.close(file)
                if before + len(data) > FILE_BYTES:
                    os.replace(self.path, self.path + ".old")
            except OSError as error:
                raise SinkError("Cannot write '%s' (%s)." % (self.path, error.strerror)) from error


def outline(record: Dict[str, Any]) -> Dict[str, Any]:
    """A short form of a record that is too large to store: some of its keys and values, cut, and the number of keys."""
    shown: Dict[str, Any] = {}
    for key, value in record.items():
        if len(shown) >= SHOWN_KEYS:
            break
        text = value if isinstance(value, str) else type(value).__name__
        cut = "%s... (%d characters)" % (text[:SHOWN_CHARACTERS], len(text))
        shown[key[:SHOWN_CHARACTERS]] = text if len(text) <= SHOWN_CHARACTERS else cut
    if len(record) > len(shown):
        shown["..."] = "%d of %d keys are shown" % (len(shown), len(record))
    return shown
