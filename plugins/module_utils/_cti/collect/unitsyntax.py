# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Unit names and the text of unit files. No I/O.

Source: systemd.unit(5), systemd.syntax(7), systemd.service(5), and systemd's own reader (src/shared/conf-parser.c,
src/basic/unit-name.c, src/core/service.c) where the manual pages leave a question open.
"""

import string
from typing import Dict, List, Optional, Tuple

from ..text import decode, printable

SUFFIX = ".service"
_NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + ":-_.\\@")
_LONGEST_NAME = 255
_NO_SPECIFIERS = "eFkKQxXzZ0123456789"  # what systemd refuses after a percent sign


def is_service(name: str) -> bool:
    """Whether this is a valid name of a service, a template or an instance."""
    return (
        name.endswith(SUFFIX)
        and len(SUFFIX) < len(name) <= _LONGEST_NAME
        and name[0] != "@"
        and _NAME_CHARACTERS.issuperset(name)
    )


def instance(name: str) -> Optional[str]:
    """What is between the first @ and the suffix: None for a plain unit, empty for a template."""
    _unused, at, rest = name[: -len(SUFFIX)].partition("@")
    return rest if at else None


def template(name: str) -> str:
    """foo@.service of foo@bar.service."""
    return name[: name.index("@") + 1] + SUFFIX


def instantiate(name: str, inst: str) -> str:
    """foo@bar.service of foo@.service and bar."""
    return name[: name.index("@") + 1] + inst + SUFFIX


def may_alias(alias: str, target: str) -> bool:
    """Whether a symlink of one name to the other is an alias that systemd accepts; one to itself has no effect."""
    if alias == target or not is_service(target):
        return False
    mine, other = instance(alias), instance(target)
    return mine == other or (bool(mine) and other == "")


Settings = Dict[Tuple[str, str], List[str]]  # what was assigned to (section, key), in order


def parse(raw: bytes, settings: Settings) -> bool:
    """Add the assignments of a unit file. False: at a malformed section header, or a line that is not UTF-8, systemd
    gives a file up, and so does this."""
    text = _text(raw)
    odd = printable(text) != text
    section = pending = ""
    for line in text.split("\n"):
        if line.lstrip()[:1] in ("#", ";"):
            continue
        if pending or line.endswith("\\"):
            line = pending + line
            if (len(line) - len(line.rstrip("\\"))) % 2:
                pending = line[:-1] + " "
                continue
            pending = ""
        line = line.strip(" \t")
        if odd and printable(line) != line:
            return False
        if line[:1] == "[":
            if line[-1] != "]":
                return False
            section = line[1:-1]
        elif section:
            key, equals, value = line.partition("=")
            if equals and key:
                settings.setdefault((section, key.rstrip()), []).append(value.lstrip())
    return True


def _text(raw: bytes) -> str:
    for end in (b"\r\n", b"\r", b"\0"):
        if end in raw:
            raw = raw.replace(end, b"\n")
    # The end of the file ends a continued line too.
    return raw.decode("utf-8-sig", "surrogateescape") + "\n"


def last(settings: Settings, section: str, key: str) -> str:
    """The value of a setting that holds one; empty where it is not set or was reset."""
    values = settings.get((section, key))
    return values[-1] if values else ""


def listed(settings: Settings, section: str, key: str) -> List[str]:
    """The values of a setting that accumulates; an empty one starts the list again."""
    out: List[str] = []
    for value in settings.get((section, key), ()):
        out = out + [value] if value else []
    return out


def words(settings: Settings, section: str, key: str) -> List[str]:
    """The same for settings that hold several words a line."""
    return [word.strip("\"'") for value in listed(settings, section, key) for word in value.split()]


def description(settings: Settings, name: str, host: str) -> str:
    """Description= as systemd shows it: the last that resolves, or the unit's name where there is none."""
    current = ""
    for value in settings.get(("Unit", "Description"), ()):
        resolved = expand(value, name, host)
        current = current if resolved is None else resolved
    return current or name


def expand(text: str, name: str, host: str) -> Optional[str]:
    """Specifiers that follow from the name, %H and %%; others stay as written. None: systemd ignores such a setting."""
    if "%" not in text:
        return text
    table = _specifiers(name, host)
    out = []
    at = 0
    while at < len(text):
        pair = text[at : at + 2]
        if pair[0] == "%" and len(pair) == 2:
            value = table.get(pair[1], None if pair[1] in _NO_SPECIFIERS else pair)
            if value is None:
                return None
            out.append(value)
            at += 2
        else:
            out.append(pair[0])
            at += 1
    return "".join(out)


def _specifiers(name: str, host: str) -> Dict[str, Optional[str]]:
    stem = name[: -len(SUFFIX)]
    prefix = stem.partition("@")[0]
    inst = instance(name) or ""
    component = prefix.rpartition("-")[2]
    path = unescape(inst or prefix)
    return {
        "%": "%",
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
    }


def unescape(text: str) -> Optional[str]:
    """systemd-escape(1) backwards: - is /, \\xNN a byte. None: not an escaped text."""
    raw = text.replace("-", "/").encode("utf-8")
    first, *rest = raw.split(b"\\x")
    out = first
    for piece in rest:
        digits = decode(piece[:2])
        if len(digits) != 2 or not set(digits).issubset(string.hexdigits):
            return None
        out += bytes((int(digits, 16),)) + piece[2:]
    return None if b"\\" in first + b"".join(rest) or b"\0" in out else decode(out)


def can_run(settings: Settings) -> bool:
    """Whether service_verify() in src/core/service.c would pass it; else its load state is bad-setting."""
    starts = listed(settings, "Service", "ExecStart")
    stops = listed(settings, "Service", "ExecStop")
    bus_name = last(settings, "Service", "BusName")
    acts = last(settings, "Unit", "SuccessAction") not in ("", "none")
    kind = last(settings, "Service", "Type") or ("dbus" if bus_name else "simple" if starts else "oneshot")
    if kind == "dbus" and not bus_name:
        return False
    if kind != "oneshot":
        return len(starts) == 1
    stays = last(settings, "Service", "RemainAfterExit").lower() in ("1", "yes", "y", "true", "t", "on")
    return bool(starts) or acts or (bool(stops) and stays)
