# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Text of unknown origin: how it is kept, how it leaves the library, and how it is shown in a message. And JSON as data.

Inside the library, text is as os.fsdecode returns it: UTF-8, where each invalid byte is a lone surrogate from U+DC80 to
U+DCFF. Neither JSON nor Ansible takes these, so each text is made printable when a row, a record or the name of a source is
made of it: see Kind.row, report.py and snapshot.py.
"""

import re
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

_PLURAL_VERBS = {"is": "are", "was": "were", "has": "have"}
MAX_VALUES = 32 << 20  # in one JSON text; each costs up to 64 bytes of memory
_MAX_DIGITS = 20  # of an integer: int() takes time by the square of them

_CODE = r"x[89a-f][0-9a-f]|ud[89a-f][0-9a-f]{2}"  # of a byte, or of any other lone surrogate, after the backslash
_ODD = "(?<!\\\\)(\\\\*)([\ud800-\udfff])|(?<!\\\\)(\\\\+)(?=%s)" % _CODE
_ESCAPED = r"(?<!\\)(\\+)(%s)" % _CODE
# Controls (C0 without the blanks of JSON, C1), line ends of Unicode, and marks that change the direction of writing: a fixed
# set, as str.isprintable() differs between versions of Python. json.dumps() with ensure_ascii=False leaves some of them raw.
_STEERING = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


def decode(raw: bytes) -> str:
    """Bytes as text, which printable() makes fit to leave the library."""
    return raw.decode("utf-8", "surrogateescape")


def is_utf8(text: str) -> bool:
    """Whether the text holds no lone surrogate, so that the bytes it was made of were UTF-8."""
    try:
        text.encode("utf-8")
        return True
    except UnicodeEncodeError:
        return False


def printable(text: str) -> str:
    r"""The text without lone surrogates: a byte that is not UTF-8 becomes \xNN, any other surrogate \uNNNN, in lower case.

    Backslashes directly before such a code are doubled, whether the code stands for a byte or is written like that in the
    text itself. So an odd number of backslashes before it means the byte, an even number the letters, and different texts
    stay different; original() is the inverse. All other texts, such as systemd's names with \x2d, stay as they are. To be
    applied once: a second time, it doubles the backslashes of the first.
    """
    if "\\" not in text and is_utf8(text):
        return text
    return str(re.sub(_ODD, _escape, text))


def decode_printable(raw: bytes) -> str:
    """Bytes as text that is printable()."""
    return printable(decode(raw))


def printable_values(row: Dict[str, Any]) -> Dict[str, Any]:
    """The same columns, in the same order, with every text in them made printable."""
    texts = "".join([value for value in row.values() if value.__class__ is str])
    if "\\" not in texts and is_utf8(texts):  # one check for all texts: nearly every row is printable as it is
        return row
    return {column: printable(value) if isinstance(value, str) else value for column, value in row.items()}


def _escape(match: Any) -> str:
    backslashes, surrogate, before_code = match.groups()
    if before_code:
        return str(before_code * 2)
    code = ord(surrogate)
    return str(backslashes * 2) + ("\\x%02x" % (code - 0xDC00) if 0xDC80 <= code <= 0xDCFF else "\\u%04x" % code)


def original(text: str) -> str:
    """The text that printable() made this one from."""
    return re.sub(_ESCAPED, _unescape, text) if "\\" in text else text


def _unescape(match: Any) -> str:
    backslashes, code = match.groups()
    half = "\\" * (len(backslashes) // 2)
    if len(backslashes) % 2 == 0:
        return half + str(code)
    return half + chr(int(code[1:], 16) + (0xDC00 if code[0] == "x" else 0))


def line(text: str, limit: int = 0) -> str:
    """Text as one line that is safe to show in a terminal or a log: controls, line ends, marks that change the direction
    of writing, and lone surrogates are replaced by escapes. It may be applied again, which changes nothing.

    limit: characters; of a longer text the middle is left out, and their number is given. 0: no limit.
    """
    if 0 < limit < len(text):
        half = limit // 2
        text = "%s...(%d characters)...%s" % (text[:half], len(text), text[len(text) - half :])  # noqa: E203
    return text if text.isprintable() else "".join(c if c.isprintable() else _shown(c) for c in text)


def quoted(name: str, limit: int = 300) -> str:
    """A name of unknown origin (a path, a package, a unit) as it stands in a message: printable(), and on one line."""
    return line(printable(name), limit)


def without_secrets(url: str) -> str:
    """What of a URL may be in a message: nothing of a user, of a query, such as a shared access signature, or of a fragment."""
    start, mark, secret = re.fullmatch(r"([^?#]*)([?#]?)(.*)", url, re.DOTALL).groups()  # type: ignore[union-attr]
    if "@" in secret:  # so all of it may be a password
        start = ""
    elif "@" in start:
        start = "...@" + start.rpartition("@")[2]
    return start + (mark + "..." if mark else "")


def plural(count: int, noun: str, verb: str = "") -> str:
    """A number and what it is of: `1 file`, `2 files`, `2 directories`. With a verb: `1 file is`, `2 files are`, `2 files wait`."""
    if count != 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
        verb = _PLURAL_VERBS.get(verb, verb[:-1])
    return ("%d %s %s" % (count, noun, verb)).rstrip()


def calm_json(text: str) -> str:
    """A JSON text with every character that controls a terminal written as an escape that any JSON reader reads back."""
    return text if text.isprintable() else re.sub(_STEERING, lambda match: "\\u%04x" % ord(match.group()), text)


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return "\\x%02x" % (code - 0xDC00)
    return ("\\x%02x" if code < 0x80 else "\\u%04x" if code < 0x10000 else "\\U%08x") % code


def timestamp(seconds: Optional[float]) -> Optional[str]:
    """Unix seconds as ISO 8601 UTC with whole seconds, such as 2026-01-09T08:00:01Z; None stays None.

    A year before 0 or after 9999 has ISO 8601's expanded form, a sign and at least six digits: +012026. None where the
    C library knows no such year.
    """
    if seconds is None:
        return None
    try:
        year, *rest = time.gmtime(seconds)[:6]
    except (ValueError, OverflowError, OSError):
        return None
    return ("%04d" if 0 <= year <= 9999 else "%+07d") % year + "-%02d-%02dT%02d:%02d:%02dZ" % tuple(rest)


def check_size(text: Any) -> None:
    """Raise ValueError for a JSON text (str or bytes) with more values than there is memory for."""
    signs = ",[{" if isinstance(text, str) else (b",", b"[", b"{")
    if sum(text.count(sign) for sign in signs) > MAX_VALUES:
        raise ValueError("more than %d values" % MAX_VALUES)


def load_json(raw: Union[str, bytes], make_object: Optional[Callable[[List[Tuple[str, Any]]], Any]] = None) -> Any:
    """The value of a JSON text, in linear time. Raises ValueError, or RecursionError where it is nested too deeply.

    `make_object` makes an object of its keys and values, instead of dict.
    """
    import json  # a scan of files does without it

    return json.loads(
        raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw, parse_int=_integer, object_pairs_hook=make_object
    )


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("an integer of %d digits" % len(digits))
    return int(digits)
