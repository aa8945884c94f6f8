# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What identifies a record that the relay received, whatever its sender left out."""

import hashlib
import json

from ..records import RECORD_ID, TIME
from ..text import timestamp
from .segments import Entry


def generated(entry: Entry) -> str:
    """The TimeGenerated of a record: its own, or the time it was sent with."""
    seconds, record = entry
    own = record.get(TIME)
    if own is None or own == "":
        return timestamp(seconds) or str(seconds)
    return own if isinstance(own, str) else json.dumps(own)


def record_id(stream: str, entry: Entry) -> str:
    """The RecordId of a record, or a hash of its content, which is the same if the record is delivered again."""
    own = entry[1].get(RECORD_ID)
    if isinstance(own, str) and own:
        return own
    text = json.dumps([stream, entry], sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()
