# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The text `packed` of a result: base64 of zlib of JSON, `{"packages": [{...}, ...], "files": [...]}`.

One text costs the controller a fraction of what nested data costs. packed_reader.py reads it; it is a file of its own since
every module that packs would carry it to its host.
"""

import base64
import json
import zlib
from typing import Any

CHANGES = "changes"  # what ct_inventory_fetch packs, as if it were a kind


def pack(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")
