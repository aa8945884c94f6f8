# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Remembers recently stored messages, so that one that arrives again is acknowledged and not stored again.

A sender that got no acknowledgement in time sends the same records again. The chunk of a message does not say that it is
the same one, as some clients number theirs from 1 in each connection. Its records do: each of ours has a RecordId.
"""

import hashlib
from typing import Any, Dict, Iterable, List, Tuple

from ..records import RECORD_ID

REMEMBERED = 1 << 15  # messages; of some 150 bytes each


class KnownMessages:
    def __init__(self) -> None:
        self._messages: Dict[bytes, None] = {}  # oldest first

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._messages

    def add(self, mark: bytes) -> None:
        """The message is safe. The mark may be empty, which says that the message cannot be known again."""
        if mark:
            self._messages[mark] = None
            if len(self._messages) > REMEMBERED:
                del self._messages[next(iter(self._messages))]


def mark(tag: str, entries: Iterable[Tuple[Any, Dict[str, Any]]], lines: List[bytes]) -> bytes:
    """What tells a message from every other: a digest of its tag and its records, without the times they were sent at.

    `lines` are the entries as they are stored. Empty where a record has no RecordId, or the entries can be read only once.
    """
    if not isinstance(entries, list) or len(entries) != len(lines):
        return b""
    for _time, record in entries:
        own = record.get(RECORD_ID)
        if not own or not isinstance(own, str):
            return b""
    digest = hashlib.sha256(tag.encode("utf-8", "surrogatepass") + b"\0")
    for line in lines:
        digest.update(line[line.index(b",") :])  # noqa: E203
    return digest.digest() if lines else b""
