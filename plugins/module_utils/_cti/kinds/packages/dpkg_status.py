# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Reads dpkg's status file in the form in which dpkg writes it, four times as fast as line by line.

The format is deb822(5) and deb-control(5); deb822.py reads files in any other form.
"""

import re
from typing import Iterator, List, Optional

from ...errors import SourceFailed
from ...text import decode
from .dpkg_stanza import NAME_SYNTAX, NOT_INSTALLED, REMEDY, STATE_OF, VERSION_SYNTAX, Stanza

# A line dpkg does not write: one that neither continues a value, nor begins a capitalised field, nor is the empty
# line before the next package or the end. Nor does the Package field stand anywhere else.
_UNUSUAL = re.compile(
    rb"\n(?! |[A-OQ-Z][A-Za-z0-9-]+:|P(?!ackage:)[A-Za-z0-9-]+:|(?<=\n\n)Package: |\nPackage: |\n?\Z)"
)
_FIRST = b"Package: "
_DESCRIPTION = "\nDescription: "
_new = tuple.__new__  # what a NamedTuple's own constructor calls, at a third of the cost
# The head of a stanza: all the fields that dpkg writes up to the version, in its order.
_HEAD = re.compile(
    r"Package: (%s)\n(?:Essential: .*\n|)(?:Protected: .*\n|)Status: (.*)\n(?:Priority: .*\n|)(?:Section: .*\n|)"
    r"(?:Installed-Size: ([0-9]{1,15})\n|)(?:Origin: .*\n|)Maintainer: (\S.*)(?<=\S)\n(?:Bugs: .*\n|)"
    r"Architecture: (\S+)\n(?:Multi-Arch: (same|foreign|allowed)\n|)(?:Source: (\S.*)(?<=\S)\n|)Version: (%s)\n(?! )"
    % (NAME_SYNTAX, VERSION_SYNTAX)
)


def parse(data: bytes, origin: str, default_state: str = NOT_INSTALLED) -> List[Stanza]:
    """The stanzas of a status file in their order; SourceFailed names `origin` and the line dpkg would refuse.

    default_state: the state of a package without a Status field.
    """
    if data and not data.endswith(b"\n"):
        raise SourceFailed("%s is cut short: its last line does not end; %s" % (origin, REMEDY))
    if data.startswith(_FIRST) and not _UNUSUAL.search(data):
        texts = [chunk.decode("utf-8", "surrogateescape") for chunk in data.rstrip(b"\n").split(b"\n\n")]
        try:
            return [_quick_stanza(text) or next(_exact(text, origin, default_state)) for text in texts]
        except SourceFailed:
            pass  # the call below names the line
    return list(_exact(decode(data), origin, default_state))


def _exact(text: str, origin: str, default_state: str) -> Iterator[Stanza]:
    from .deb822 import stanzas  # to compile it anew on every run would take longer than everything else here

    return stanzas(text, origin, default_state)


def _quick_stanza(text: str) -> Optional[Stanza]:
    """A stanza in the form in which dpkg writes it; None where it has another form and must be read line by line."""
    head = _HEAD.match(text)
    if head is None:
        return None
    name, status, size, publisher, architecture, multi_arch, source, version = head.groups()
    state = STATE_OF.get(status)
    start = text.find(_DESCRIPTION, head.end() - 1)
    if start < 0 or state is None or (architecture == "all" and multi_arch == "same"):
        return None
    start += len(_DESCRIPTION)
    end = text.find("\n", start)
    summary = text[start:end] if end >= 0 else text[start:]
    if summary.strip() != summary and (summary[:1].isspace() or text[end + 1 : end + 2] != " "):  # noqa: E203
        return None
    return _new(
        Stanza,
        (
            name,
            architecture,
            version,
            state,
            multi_arch == "same",
            summary,
            publisher,
            size and int(size) * 1024,
            source or "",
        ),
    )
