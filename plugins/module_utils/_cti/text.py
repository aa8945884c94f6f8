# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Bytes of unknown origin as text that any JSON reader takes."""


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
