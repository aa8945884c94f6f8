# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Unit names and the text of unit files. No I/O.

Source: systemd.unit(5), systemd.syntax(7), systemd.service(5), and systemd's own reader (src/shared/conf-parser.c,
src/basic/unit-name.c, src/core/service.c) where the manual pages leave a question open.
"""

from typing import Callable, Dict, List, Optional, Tuple

from ...text import decode, is_utf8

SUFFIX = ".service"
TARGET = ".target"
_DIGITS = "0123456789"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # importing string takes 1 ms
_HEX_DIGITS = _DIGITS + "abcdefABCDEF"
_NAME_CHARACTERS = frozenset(_LETTERS + _DIGITS + ":-_.\\@")
_BOM = b"\xef\xbb\xbf"
_LONGEST_NAME = 255
_LONGEST_VALUE = 1 << 20  # characters, once its specifiers are resolved: systemd's LONG_LINE_MAX
_NO_SPECIFIERS = "eFkKOQxXzZ0123456789"  # what systemd refuses after a percent sign
# Those of the system's manager that are the same on every host.
_CONSTANTS: Dict[str, Optional[str]] = {
    "%": "%", "u": "root", "U": "0", "g": "root", "G": "0", "h": "/root", "t": "/run", "S": "/var/lib", "C": "/var/cache",
    "L": "/var/log", "E": "/etc", "T": "/tmp", "V": "/var/tmp",
}  # fmt: skip


def is_service(name: str) -> bool:
    """Whether this is a valid name of a service, a template or an instance."""
    return is_unit(name, SUFFIX)


def is_unit(name: str, suffix: str) -> bool:
    """Whether this is a valid name of a unit of that type, a template or an instance."""
    return (
        name.endswith(suffix)
        and len(suffix) < len(name) <= _LONGEST_NAME  # noqa: W503
        and name[0] != "@"  # noqa: W503
        and _NAME_CHARACTERS.issuperset(name)  # noqa: W503
    )


def suffix_of(name: str) -> str:
    """ ".service" of a service's name; empty where there is no dot."""
    return name[name.rfind(".") :] if "." in name else ""  # noqa: E203


def instance(name: str) -> Optional[str]:
    """What is between the first @ and the suffix: None for a plain unit, empty for a template."""
    at = name.find("@")
    return None if at < 0 else name[at + 1 : len(name) - len(suffix_of(name))]  # noqa: E203


def template(name: str) -> str:
    """foo@.service of foo@bar.service."""
    return name[: name.index("@") + 1] + suffix_of(name)


def instantiate(name: str, inst: str) -> str:
    """foo@bar.service of foo@.service and bar."""
    return name[: name.index("@") + 1] + inst + suffix_of(name)


def may_alias(alias: str, target: str) -> bool:
    """Whether a symlink of one name to the other is an alias that systemd accepts; one to itself has no effect."""
    if alias == target or not is_unit(target, suffix_of(alias)):
        return False
    mine, other = instance(alias), instance(target)
    return mine == other or (bool(mine) and other == "")


Settings = Dict[Tuple[str, str], List[str]]  # what was assigned to (section, key), in order


Fatal = Callable[[str, str, str], bool]  # (section, key, value) -> whether systemd stops at this assignment


def parse(raw: bytes, settings: Settings, is_fatal: Optional[Fatal] = None) -> str:
    """Add the assignments of a unit file or a drop-in. Returns the load state that results: loaded, error or bad-setting.

    Like systemd, this stops at a malformed section header or a line that is not UTF-8 (error), and at a command line that
    systemd refuses (bad-setting). After a refused one, it still reads [Install], which `systemctl` does.
    """
    text, odd = _text(raw)
    section, load_state = "", "loaded"
    pending: List[str] = []  # the lines so far of one that is continued
    for line in text.split("\n"):
        if not line[:1].isalnum() and (line.lstrip()[:1] in ("#", ";") or not (line or pending)):
            continue
        if line.endswith("\\") and (len(line) - len(line.rstrip("\\"))) % 2:
            pending.append(line[:-1] + " ")
            continue
        if pending:
            line = "".join(pending) + line
            pending = []
        line = line.strip(" \t")
        if odd and not is_utf8(line):
            return "error"
        if line[:1] == "[":
            if line[-1] != "]":
                return "error"
            section = line[1:-1]
        elif section and (load_state == "loaded" or section == "Install"):
            key, equals, value = line.partition("=")
            if equals and key:
                key, value = key.rstrip(), value.lstrip()
                if is_fatal and key[:4] == "Exec" and is_fatal(section, key, value):  # no other key is asked about
                    load_state = "bad-setting"
                else:
                    settings.setdefault((section, key), []).append(value)
    return load_state


def _text(raw: bytes) -> Tuple[str, bool]:
    """The text, and whether some of it is not UTF-8."""
    for end in (b"\r\n", b"\r", b"\0"):
        if end in raw:
            raw = raw.replace(end, b"\n")
    if raw.startswith(_BOM):  # which the codec utf-8-sig, a function in Python, does at a higher cost
        raw = raw[len(_BOM) :]  # noqa: E203
    raw += b"\n"  # the end of the file ends a continued line too
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        return decode(raw), True


def last(settings: Settings, section: str, key: str) -> str:
    """The value of a setting that holds one; empty where it is not set or was reset."""
    values = settings.get((section, key))
    return values[-1] if values else ""


def listed(settings: Settings, section: str, key: str) -> List[str]:
    """The values of a setting that accumulates; an empty one starts the list again."""
    out: List[str] = []
    for value in settings.get((section, key), ()):
        if value:
            out.append(value)
        else:
            out.clear()
    return out


def words(settings: Settings, section: str, key: str) -> List[str]:
    """The words of a setting that accumulates and has several words in a line."""
    return [word.strip("\"'") for value in listed(settings, section, key) for word in value.split()]


def description(settings: Settings, name: str, host: str) -> str:
    """Description= as systemd shows it: the last that resolves, or the unit's name where there is none."""
    current = ""
    for value in settings.get(("Unit", "Description"), ()):
        resolved = expand(value, name, host)
        current = current if resolved is None else resolved
    return current or name


def expand(text: str, name: str, host: str) -> Optional[str]:
    """The text with the specifiers that depend on the name, the host name or nothing; others stay as written, so that no boot and
    no new kernel changes a description. None where systemd ignores the setting."""
    if "%" not in text:
        return text
    table = _specifiers(name, host)
    out = []
    at = size = 0
    while at < len(text):
        pair = text[at : at + 2]  # noqa: E203
        if pair[0] == "%" and len(pair) == 2:
            value = table.get(pair[1], None if pair[1] in _NO_SPECIFIERS else pair)
            size += len(value or "")
            if value is None or size > _LONGEST_VALUE:
                return None
            out.append(value)
            at += 2
        else:
            out.append(pair[0])
            at += 1
    return "".join(out)


def _specifiers(name: str, host: str) -> Dict[str, Optional[str]]:
    stem = name[: len(name) - len(suffix_of(name))]
    prefix = stem.partition("@")[0]
    inst = instance(name) or ""
    component = prefix.rpartition("-")[2]
    path = unescape(inst or prefix)
    return {
        **_CONSTANTS,
        "n": name,
        "N": stem,
        "p": prefix,
        "P": unescape(prefix),
        "i": inst,
        "I": unescape(inst),
        "j": component,
        "J": unescape(component),
        "f": path if path is None else "/" + path.strip("/"),
        "H": host,
        "l": host.partition(".")[0],
    }


def unescape(text: str) -> Optional[str]:
    """systemd-escape(1) backwards: - is /, \\xNN a byte. None: not an escaped text."""
    raw = text.replace("-", "/").encode("utf-8")
    first, *rest = raw.split(b"\\x")
    out = first
    for piece in rest:
        digits = decode(piece[:2])
        if len(digits) != 2 or not set(digits).issubset(_HEX_DIGITS):
            return None
        out += bytes((int(digits, 16),)) + piece[2:]
    return None if b"\\" in first + b"".join(rest) or b"\0" in out else decode(out)
