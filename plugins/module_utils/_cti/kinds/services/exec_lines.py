# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Which services systemd refuses to run, with the load state bad-setting. No I/O.

Source: systemd.service(5), "Command lines"; config_parse_exec() in src/core/load-fragment.c, extract_first_word() in
src/basic/extract-word.c and service_verify() in src/core/service.c where the manual page leaves a question open.
"""

import re
from functools import lru_cache
from typing import Collection, Optional, Set, Tuple

from . import unit_syntax as syntax

_EXEC = ("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost")
_PLAIN = re.compile(r"[-:+]?/[\w./-]{,200}\w(?: +[\w./=,:$@{}+~-]+)*\Z", re.ASCII)  # one command, as most lines have it
_BLANKS = " \t\n\r"
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_ESCAPES.update({character: character for character in "\\\"'"})
_NUMERIC = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-3][0-7]{2})")
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
_TYPES = ("simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle")
_RESTARTS = ("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always")
_EXIT_TYPES = ("main", "cgroup")
_KILL_MODES = ("control-group", "mixed", "process", "none")
_TRUE, _FALSE = ("1", "yes", "y", "true", "t", "on"), ("0", "no", "n", "false", "f", "off")
_ACTIONS = tuple(action + how for action in ("reboot", "poweroff") for how in ("", "-force", "-immediate"))
_ACTIONS += ("none", "exit", "exit-force")
_LATER_ACTIONS = ("soft-reboot", "soft-reboot-force", "kexec", "kexec-force", "halt", "halt-force", "halt-immediate")
_LATER = 254  # the version of systemd that has these, and lets a oneshot have RestartForceExitStatus=
_EXIT_TYPE = 250  # the version that has ExitType=
_BUS_NAME = re.compile(r"[A-Za-z_-][\w-]*(?:\.[A-Za-z_-][\w-]*)+\Z", re.ASCII)


def is_fatal(section: str, key: str, value: str, name: str, host: str) -> bool:
    """Whether systemd gives up the file of the unit `name` at this assignment."""
    return section == "Service" and key in _EXEC and _commands(value, name, host) is None


def can_run(settings: syntax.Settings, name: str, host: str, version: int) -> bool:
    """Whether service_verify() of that version would accept what was read without a fatal assignment."""
    starts = _count(settings, "ExecStart", name, host)
    kind = _last(settings, "Type", _TYPES)
    bus_name = _bus_name(settings, name, host) if not kind or kind == "dbus" else ""
    kind = kind or ("dbus" if bus_name else "simple" if starts else "oneshot")
    if kind == "dbus" and not bus_name:
        return False
    if syntax.last(settings, "Service", "PAMName") and _last(settings, "KillMode", _KILL_MODES) in ("process", "none"):
        return False
    if kind != "oneshot":
        return starts == 1
    if _last(settings, "Restart", _RESTARTS) in ("always", "on-success"):
        return False
    if version >= _EXIT_TYPE and _last(settings, "ExitType", _EXIT_TYPES) == "cgroup":
        return False
    if version < _LATER and syntax.last(settings, "Service", "RestartForceExitStatus"):
        return False
    return starts > 0 or _acts(settings, version) or (_stays(settings) and _count(settings, "ExecStop", name, host) > 0)


def _acts(settings: syntax.Settings, version: int) -> bool:
    actions = _ACTIONS + (_LATER_ACTIONS if version >= _LATER else ())
    return _last(settings, "SuccessAction", actions, "Unit") not in ("", "none")


def _stays(settings: syntax.Settings) -> bool:
    """RemainAfterExit=, where a value that is no boolean is passed over."""
    values = [value.lower() for value in settings.get(("Service", "RemainAfterExit"), ())]
    return [value in _TRUE for value in values if value in _TRUE + _FALSE][-1:] == [True]


def _last(settings: syntax.Settings, key: str, valid: Collection[str], section: str = "Service") -> str:
    """The last value that systemd takes; empty where there is none."""
    for value in reversed(settings.get((section, key), [])):
        if value in valid:
            return value
    return ""


def _count(settings: syntax.Settings, key: str, name: str, host: str) -> int:
    return sum(_commands(value, name, host) or 0 for value in syntax.listed(settings, "Service", key))


def _bus_name(settings: syntax.Settings, name: str, host: str) -> str:
    valid = ""
    for value in settings.get(("Service", "BusName"), ()):
        text = syntax.expand(value, name, host) or ""
        valid = text if _BUS_NAME.match(text) else valid
    return valid


@lru_cache(maxsize=8)  # a unit's lines are counted once as they are read, and once more when the unit is judged
def _commands(line: str, name: str, host: str) -> Optional[int]:
    """The number of commands of a line; None: systemd refuses the unit for it."""
    if _PLAIN.match(line):
        return 1
    count = at = 0
    while True:
        try:
            word, at = _word(line, at)
        except ValueError:
            return count
        if word is None:
            return count
        if word == ";":
            continue
        path, ignore, named = _without_prefixes(word)
        complete = _is_program(syntax.expand(path, name, host))
        arguments = 0
        more = False
        while complete and at < len(line):
            if line[at] == ";" and line[at + 1 : at + 2] in ("", *_BLANKS):  # noqa: E203
                at, more = _past_blanks(line, at + 1), True
                break
            try:
                word, at = _word(line, at)
            except ValueError:
                complete = False
                break
            if word is None:
                break
            arguments += 1
            complete = syntax.expand(word, name, host) is not None
        if not complete or (named and not arguments):
            return count if ignore else None
        count += 1
        if not more:
            return count


def _without_prefixes(word: str) -> Tuple[str, bool, bool]:
    """The path, whether a failure is ignored (-), whether the first argument is the program's name (@)."""
    given: Set[str] = set()
    at = 0
    for character in word:
        if character == "!" and "!" in given and not given & {"+", "!!"}:
            given.add("!!")
        elif character not in "-@:+!" or character in given or (character in "+!" and given & {"+", "!"}):
            break
        given.add(character)
        at += 1
    return word[at:], "-" in given, "@" in given


def _is_program(path: Optional[str]) -> bool:
    """Whether this is an absolute path, or a name to be looked for; None, for what does not resolve, is neither."""
    if not path or path.endswith("/") or any(c < " " or c in "\"'\\\x7f" for c in path):
        return False
    if not path.startswith("/") and ("/" in path or path in (".", "..")):
        return False
    longest = max(len(part.encode("utf-8", "surrogateescape")) for part in path.split("/"))
    return longest <= _LONGEST_NAME and len(path.encode("utf-8", "surrogateescape")) <= _LONGEST_PATH


def _past_blanks(text: str, at: int) -> int:
    while text[at : at + 1] in _BLANKS and at < len(text):  # noqa: E203
        at += 1
    return at


def _unescape(text: str, at: int) -> Tuple[str, int]:
    """What a backslash before `at` stands for, and where the text goes on; one that stands for nothing stays."""
    number = _NUMERIC.match(text, at)
    if number:
        octal = number.group(4)
        code = int(octal, 8) if octal else int(number.group(number.lastindex or 1), 16)
        if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000:
            return chr(code), number.end()
    following = text[at : at + 1]  # noqa: E203
    return _ESCAPES.get(following, "\\" + following), at + 1


def _word(text: str, at: int) -> Tuple[Optional[str], int]:
    """The next word without its quotes, and where the one after it starts; None: there is none. ValueError: a quote
    is not closed."""
    at = _past_blanks(text, at)
    if at == len(text):
        return None, at
    out = []
    quote = ""
    while at < len(text):
        character = text[at]
        at += 1
        if character == "\\":
            if at == len(text) and quote:
                break
            unescaped, at = _unescape(text, at)
            out.append(unescaped)
        elif quote:
            if character == quote:
                quote = ""
            else:
                out.append(character)
        elif character in "\"'":
            quote = character
        elif character in _BLANKS:
            break
        else:
            out.append(character)
    if quote:
        raise ValueError(text)
    return "".join(out), _past_blanks(text, at)
