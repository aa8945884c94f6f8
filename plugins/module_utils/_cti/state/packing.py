# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""How the rows of the state database hold values: packed JSON, read within limits."""

import json
import zlib
from typing import Any, List, Sequence

from ..text import check_size

MAX_BYTES = 512 << 20  # of one row's JSON, once unpacked


def pack(values: Sequence[Any]) -> bytes:
    return zlib.compress(json.dumps(values, separators=(",", ":")).encode("ascii"), 1)


def inflate(packed: bytes) -> bytes:
    """The JSON that was packed. Raises ValueError."""
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(packed, MAX_BYTES)
    except (zlib.error, TypeError) as error:
        raise ValueError(str(error)) from error
    if not stream.eof:
        raise ValueError("longer than %d bytes, or cut off" % MAX_BYTES)
    return raw


def json_list(text: str) -> List[Any]:
    """The list that a JSON text holds. Raises ValueError."""
    try:
        check_size(text)
        value = json.loads(text)
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def unpack(packed: bytes) -> List[Any]:
    """The list that was packed. Raises ValueError."""
    return json_list(inflate(packed).decode("ascii"))
