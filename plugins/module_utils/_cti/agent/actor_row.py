# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The columns of a change that say who made it, records.ACTOR_COLUMNS."""

import os
from typing import Dict

from ..audit.messages import UNSET
from ..audit.touches import Found
from ..kinds.kind import Row
from ..text import decode_printable, timestamp

COMMAND_BYTES = 256


def actor_row(found: Found, arguments: bool, names: Dict[int, str]) -> Row:
    """The columns that are known. `arguments`: whether those of the command are one of them. `names`: those of users by uid, which
    are added to."""
    actor = found.actor
    if actor.user not in names:
        names[actor.user] = _login_name(actor.user)
    whole = int(found.seconds)
    row: Row = {
        "ChangedAt": "%s.%03dZ" % ((timestamp(whole) or "")[:-1], round((found.seconds - whole) * 1000)),
        "ChangedBy": names[actor.user],
        "ChangedByUid": actor.user,
        "ChangedByProcess": decode_printable(actor.exe),
    }
    command = _command(actor.command, arguments)
    if command:
        row["ChangedByCommand"] = command
    if actor.session != UNSET:
        row["ChangedBySession"] = actor.session
    if actor.module:
        row["ChangedByModule"] = actor.module
    if found.count > 1:
        row["ChangedByCount"] = found.count
    return row


def _login_name(uid: int) -> str:
    import pwd  # loaded only if it is used

    try:
        return decode_printable(os.fsencode(pwd.getpwuid(uid).pw_name))
    except (KeyError, OverflowError, ValueError):
        return str(uid)


def _command(title: bytes, arguments: bool) -> str:
    """A command line; without `arguments` its program alone, since the rest may hold secrets."""
    if not arguments:
        title = title.partition(b"\0")[0].partition(b" ")[0]
    return decode_printable(title.replace(b"\0", b" ").strip()[:COMMAND_BYTES])
