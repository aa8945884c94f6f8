# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The text `packed` of a result: base64 of zlib of JSON, `{"packages": [{...}, ...], "files": [...]}`.

One text costs the controller a fraction of what nested data costs. packed_reader.py reads it; it is a file of its own since
every module that packs would carry it to its host.
"""

import base64
import json
import zlib
from typing import Any, Iterable, List

CHANGES = "changes"  # what ct_inventory_fetch packs, as if it were a kind
LEFT_OUT = "LeftOut"  # column of a row that stands for items that are left out: their number

# Limits of the reader, which bounded.py keeps to.
MAX_BYTES = 256 << 20  # of JSON; 500,000 files are about 200 MiB
MAX_ROWS = 500000  # items of all kinds
MAX_ROW = 512 << 10  # characters of one item

to_json = json.JSONEncoder(separators=(",", ":")).encode


def pack(value: Any) -> str:
    return base64.b64encode(zlib.compress(to_json(value).encode("ascii"), 6)).decode("ascii")


class Packer:
    """Packs items one by one, so that only the compressed text is in memory."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(6)
        self._pieces: List[bytes] = []
        self._before = "{"

    def copy(self) -> "Packer":
        """Another one with the same content so far."""
        other = Packer()
        other._deflate, other._pieces, other._before = self._deflate.copy(), self._pieces[:], self._before
        return other

    def add(self, kind: str, items: Iterable[str]) -> None:
        """Add the items of a kind, each as JSON."""
        self.begin(kind)
        for item in items:
            self.put(item)
        self.end()

    def begin(self, kind: str) -> None:
        self._write('%s"%s":[' % (self._before, kind))
        self._before = ""

    def put(self, item: str) -> None:
        """Add one item, as JSON, to the kind that was begun last."""
        self._write(self._before + item)
        self._before = ","

    def end(self) -> None:
        self._write("]")
        self._before = ","

    def text(self) -> str:
        """All of it, packed. Nothing can be added after that."""
        self._write("{}" if self._before == "{" else "}")
        self._pieces.append(self._deflate.flush())
        return base64.b64encode(b"".join(self._pieces)).decode("ascii")

    def _write(self, text: str) -> None:
        piece = self._deflate.compress(text.encode("ascii"))
        if piece:
            self._pieces.append(piece)
