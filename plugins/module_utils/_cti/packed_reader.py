# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Reads what packed.py writes, on the controller.

The host is not trusted, and the controller's main process reads this, too. So only one item at a time is in memory, and
there are limits, which a real host does not reach, to bytes, items, values, and to the size and the depth of one item.
"""

import base64
import binascii
import codecs
import json
import math
import re
import zlib
from typing import Any, Callable, Dict, Iterator, List, Tuple

from .kinds.registry import all_kinds
from .packed import CHANGES, MAX_BYTES, MAX_ROW, MAX_ROWS, to_json
from .text import is_utf8, printable

MAX_VALUES = 8_000_000  # of all items; an item has 8 to 12
MAX_DEPTH = 8  # of the lists and objects in one item
MAX_DIGITS = 20
MAX_INTEGER = 10 ** (MAX_DIGITS - 1)  # which has a sign, too
PIECE = 64 << 10  # characters that are read at once; a multiple of 4, the unit of base64
_BLANKS: Callable[[str, int], Any] = re.compile(r"[ \t\r\n]*").match

Row = Dict[str, Any]


class PackedError(ValueError):
    """The text is damaged, or beyond a limit. The message quotes nothing that is the host's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This is not what ct_inventory_info returns as packed ({reason}).")


def unpack(packed: Any) -> Dict[str, List[Row]]:
    """All items by kind. Raises PackedError."""
    names: Dict[str, str] = {}  # of columns: each is in memory once
    return {
        kind: [{names.setdefault(name, name): value for name, value in row.items()} for row in rows]
        for kind, rows in kinds(packed)
    }


def kinds(packed: Any) -> Iterator[Tuple[str, Iterator[Row]]]:
    """Each kind with its items, which are read when they are asked for; those not taken are skipped. Raises PackedError."""
    if not isinstance(packed, str):
        raise PackedError("it is no text")
    text = _Text(str.__str__(packed))  # Ansible has types of text of its own
    seen: List[str] = []
    text.expect("{")
    end = text.expect("}", "") if text.peek() == "}" else ""
    while not end:
        kind = text.value('"')
        if kind in seen or kind not in (*all_kinds(), CHANGES):
            raise PackedError("it is not items by kind")
        seen.append(kind)
        text.expect(":")
        rows = _rows(text)
        yield kind, rows
        for _row in rows:
            pass
        end = text.expect(",", "}").replace(",", "")
    if text.peek():
        raise PackedError("something follows its end")


def _rows(text: "_Text") -> Iterator[Row]:
    text.expect("[")
    end = text.expect("]") if text.peek() == "]" else ""
    while not end:
        yield text.value("{")
        end = text.expect(",", "]").replace(",", "")


class _Text:
    """The JSON text, of which no more is kept than one item needs."""

    def __init__(self, packed: str) -> None:
        self._pieces = _inflate(packed)
        self._text = ""
        self._at = 0
        self._rows = self._values = 0

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            self._at = _BLANKS(self._text, self._at).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def expect(self, *allowed: str) -> str:
        """Take the next character, which must be one of these."""
        found = self.peek()
        if not found or found not in allowed:
            raise PackedError("it is not items by kind")
        self._at += 1
        return found

    def value(self, opening: str) -> Any:
        """Take the next value, a text or an item, which must start so."""
        if self.peek() != opening:
            raise PackedError("it is not items by kind")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                break
            except json.JSONDecodeError:  # it may go on in the next pieces
                self._read_twice_as_much()
            except RecursionError:
                raise PackedError("an item is nested too deeply") from None
        if opening == "{":
            value = self._checked(value, self._at, end)
        self._at = end
        return value

    def _checked(self, row: Row, start: int, end: int) -> Row:
        find = self._text.find
        self._rows += 1
        flat = find("[", start, end) < 0 and find("{", start + 1, end) < 0
        self._values += len(row) if flat else _count(row)
        if self._rows > MAX_ROWS:
            raise PackedError(f"it has more than {MAX_ROWS} items")
        if self._values > MAX_VALUES:
            raise PackedError(f"it has more than {MAX_VALUES} values")
        if find("\\ud", start, end) >= 0 or find("\\uD", start, end) >= 0:
            row = storable(row)
        return row

    def _more(self) -> bool:
        piece = next(self._pieces, "")
        self._text = self._text[self._at :] + piece  # noqa: E203
        self._at = 0
        return bool(piece)

    def _read_twice_as_much(self) -> None:
        """Of the value that is not complete, so that a large one costs no more than twice its size."""
        rest = len(self._text) - self._at
        if rest > MAX_ROW:
            raise PackedError("an item is damaged, or too large")
        if not self._more():
            raise PackedError("it is no JSON")
        while len(self._text) < 2 * rest and self._more():
            pass


def accepted(row: Row) -> Tuple[Row, int, int]:
    """An item of a host as it can be packed, its number of values, and that of the characters of its JSON.

    Raises PackedError where unpack() would refuse the item.
    """
    values = _count(row)
    row = storable(row)
    size = len(to_json(row))
    if size > MAX_ROW:
        raise PackedError("an item is too large")
    return row, values, size


def storable(value: Any) -> Any:
    """The value with each lone surrogate written out: such a text can be neither printed nor stored. Raises RecursionError."""
    if isinstance(value, str):
        return value if is_utf8(value) else printable(value)  # an honest host has made it printable
    if isinstance(value, list):
        return [storable(element) for element in value]
    if isinstance(value, dict):
        return {storable(name): storable(element) for name, element in value.items()}
    return value


def _inflate(packed: str) -> Iterator[str]:
    """The text in pieces of up to PIECE, none of them empty."""
    inflate = zlib.decompressobj()
    decoder = codecs.getincrementaldecoder("utf-8")()
    size = 0
    try:
        for start in range(0, len(packed), PIECE):
            data = base64.b64decode(packed[start : start + PIECE], validate=True)  # noqa: E203
            full = True
            while data or full:
                raw = inflate.decompress(data, PIECE)
                data, full = inflate.unconsumed_tail, len(raw) == PIECE
                size += len(raw)
                if size > MAX_BYTES:
                    raise PackedError(f"it is more than {MAX_BYTES >> 20} MiB")
                text = decoder.decode(raw)
                if text:
                    yield text
            if inflate.unused_data:
                raise PackedError("something follows its end")
        decoder.decode(b"", final=True)
    except UnicodeError:
        raise PackedError("it is not UTF-8") from None
    except (binascii.Error, zlib.error, ValueError) as error:
        if isinstance(error, PackedError):
            raise
        raise PackedError("it is no base64 of zlib") from None
    if not inflate.eof:
        raise PackedError("it is cut off")


def _count(value: Any, depth: int = 0) -> int:
    """The values in a value, with itself."""
    if not (math.isfinite(value) if isinstance(value, float) else _is_short(value)):
        raise PackedError("a number is too large, or none")
    if not isinstance(value, (dict, list)):
        return 1
    if depth > MAX_DEPTH:
        raise PackedError("an item is nested too deeply")
    inner = value.values() if isinstance(value, dict) else value
    return 1 + sum(_count(element, depth + 1) for element in inner)


def _is_short(value: Any) -> bool:
    return not isinstance(value, int) or -MAX_INTEGER < value < MAX_INTEGER


def _object(pairs: List[Tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise PackedError("an item has one column twice")
    return row


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise PackedError("a number is too large")
    return int(digits)


def _number(text: str) -> float:
    number = float(text) if len(text) <= 2 * MAX_DIGITS else math.inf
    if not math.isfinite(number):
        raise PackedError("a number is too large, or none")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_number)
