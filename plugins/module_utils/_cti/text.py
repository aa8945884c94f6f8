# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Bytes of unknown origin as text that any JSON reader takes, and JSON of unknown origin as data."""

import json
from typing import Any, Union

_MAX_DIGITS = 20  # of an integer: int() takes time by the square of them


def decode(raw: bytes) -> str:
    """UTF-8; a byte that is not becomes \\xNN, so nothing is lost and nothing fails."""
    return raw.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """The same for text from os.fsdecode, whose odd bytes are lone surrogates."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        pass
    try:
        return decode(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # half of a surrogate pair, which no name on this host holds
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def load_json(raw: Union[str, bytes]) -> Any:
    """The value of a JSON text, in linear time. Raises ValueError, or RecursionError where it is nested too deeply."""
    return json.loads(raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw, parse_int=_integer)


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("an integer of %d digits" % len(digits))
    return int(digits)
