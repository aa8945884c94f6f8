# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Reads deb822(5) line by line. Refuses what dpkg's lib/dpkg/parse.c refuses, as far as syntax and fields are concerned."""

import re
from typing import Dict, Iterator, Tuple

from ...errors import SourceFailed
from .dpkg_stanza import HALF_INSTALLED, NAME_SYNTAX, NOT_INSTALLED, REMEDY, STATE_OF, VERSION_SYNTAX, Stanza

_BLANKS = " \t\r\v\f"  # what dpkg skips around a value; str.strip() would take Unicode's blanks too
_VERSION = re.compile(VERSION_SYNTAX + r"\Z")
_NAME = re.compile(NAME_SYNTAX + r"\Z")
_EPOCH = re.compile(r"\+?[0-9]{1,10}\Z")
_SIZE = re.compile(r"[0-9]{1,15}\Z")
_MULTI_ARCH = ("", "no", "same", "foreign", "allowed")


def stanzas(text: str, origin: str, default_state: str) -> Iterator[Stanza]:
    """The stanzas of a status file. See dpkg_status.parse()."""
    return (_stanza(fields, origin, default_state) for fields in _fields(text, origin))


def _fields(text: str, origin: str) -> Iterator[Tuple[int, Dict[str, str]]]:
    """Each stanza, with the line it begins on, as its values by field name in lower case."""
    fields: Dict[str, str] = {}
    first, name = 1, ""
    for number, row in enumerate(text.split("\n"), 1):
        if not row:
            if fields:
                yield first, _trimmed(fields)
            fields, name = {}, ""
        elif name and row[0] in _BLANKS:
            fields[name] += "\n" + row
        else:
            name, colon, value = row.partition(":")
            name = name.rstrip(_BLANKS).lower()
            if not colon or len(name) < 2 or name[0] == "-" or any(blank in name for blank in _BLANKS):
                raise SourceFailed("%s, line %d, is not a field and its value; %s" % (origin, number, REMEDY))
            if name in fields:
                raise SourceFailed("%s, line %d, repeats the field %.60r; %s" % (origin, number, name, REMEDY))
            first = first if fields else number
            fields[name] = value.lstrip(_BLANKS)
    if fields:
        yield first, _trimmed(fields)


def _trimmed(fields: Dict[str, str]) -> Dict[str, str]:
    return {name: value.rstrip(_BLANKS + "\n") for name, value in fields.items()}


def _stanza(numbered_fields: Tuple[int, Dict[str, str]], origin: str, default_state: str) -> Stanza:
    line, fields = numbered_fields
    get = fields.get
    name, version, architecture = get("package", "").lower(), get("version", ""), get("architecture", "")
    multi_arch = get("multi-arch", "").lower()
    status = " ".join(get("status", "unknown ok " + default_state).lower().split())
    state = STATE_OF.get(status, "")
    if not _NAME.match(name):
        wrong = "the Package field is missing or invalid: %.60r" % name
    elif not state:
        wrong = "the Status of package %s is none dpkg knows: %.60r" % (name, status)
    elif "version" in fields or state not in (NOT_INSTALLED, HALF_INSTALLED):
        version, wrong = _checked_version(version)
        wrong = wrong and "the Version of package %s %s" % (name, wrong)
    else:
        wrong = ""
    if not wrong and (multi_arch not in _MULTI_ARCH or (multi_arch == "same" and architecture in ("", "all"))):
        wrong = "package %s of architecture %.60r cannot be Multi-Arch: %.60r" % (name, architecture, multi_arch)
    if wrong:
        raise SourceFailed("%s, in the package from line %d on: %s; %s" % (origin, line, wrong, REMEDY))
    size = get("installed-size", "")
    return Stanza(
        name, architecture, version, state, multi_arch == "same", get("description", "").split("\n", 1)[0],
        get("maintainer", ""), int(size) * 1024 if _SIZE.match(size) else None, get("source", ""),
    )  # fmt: skip


def _checked_version(text: str) -> Tuple[str, str]:
    """A version as dpkg prints it, and why dpkg's parseversion() refuses it; it only warns of unusual characters."""
    if not text:
        return text, "is missing or empty"
    if _VERSION.match(text):
        return text, ""
    if " " in text or "\t" in text:
        return text, "%.60r has blanks in it" % text
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = "0", text
    if not _EPOCH.match(epoch) or int(epoch) > 0x7FFFFFFF:
        return text, "%.60r has an epoch that is no number" % text
    upstream, hyphen, revision = rest.rpartition("-")
    if not (upstream if hyphen else rest) or (hyphen and not revision):
        return text, "%.60r is incomplete" % text
    return rest if int(epoch) == 0 and ":" not in rest else "%d:%s" % (int(epoch), rest), ""
