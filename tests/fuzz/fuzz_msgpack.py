# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds the Unpacker and the forward decoder what atheris makes up, with libFuzzer's arguments:

    fuzz_msgpack.py CORPUS -max_total_time=600

Every stream ends in values or in a FormatError, the same however it is cut, and every value survives its own packing;
a forward message that is taken is one which JSON can hold.
"""

import gzip
import json
import os
import sys

import atheris

with atheris.instrument_imports(include=["ansible_collections.changetracking.inventory"]):
    from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import FormatError
    from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import forward, msgpack

msgpack._c_pack = None  # ours is to be tried, whatever is installed
RECORD = {
    "SvcName": "ssh",
    "Size": 1,
    "Ratio": 0.5,
    "None": None,
    "Flag": True,
    "raw": b"\xff",
    "nested": {"a": [1, -200]},
}
ENTRIES = [
    [1700000000, RECORD],
    [msgpack.ExtType(0, b"\0" * 8), {}],
    [msgpack.ExtType(-1, b"\1" * 12), {"k": "v" * 40}],
]
PACKED = b"".join(map(msgpack.pack, ENTRIES))
SEEDS = (
    ["tag", 1700000000, RECORD],
    ["tag", 1700000000, RECORD, {"chunk": "p8n9gmxTQVC8/nh2wlKKeQ=="}],
    ["tag", ENTRIES, {"chunk": "p8n9gmxTQVC8/nh2wlKKeQ==", "size": 3}],
    ["tag", PACKED, {"size": 3}],
    ["tag", gzip.compress(PACKED), {"compressed": "gzip"}],
)


def values(pieces):
    """(values, whether the stream ended in an error)"""
    unpacker = msgpack.Unpacker(max_bytes=1 << 16, max_items=1 << 12)
    found = []
    try:
        for piece in pieces:
            unpacker.feed(piece)
            found += unpacker
    except FormatError:
        return found, True
    return found, False


def one(data):
    width, stream = data[:1], data[1:]
    whole, failed = values([stream])
    step = 1 + (width[0] if width else 0)
    in_pieces, failed_in_pieces = values(stream[at : at + step] for at in range(0, len(stream), step))
    assert repr(in_pieces) == repr(whole), (in_pieces, whole)
    assert failed == failed_in_pieces
    for value in whole:
        assert repr(values([msgpack.pack(value)])[0]) == repr([value]), value
        try:
            batch = forward.decode(value)
        except FormatError:
            continue
        json.dumps(batch, allow_nan=False)
        again = values([msgpack.pack_entries(batch.entries)])[0]
        assert not again or again == [[list(entry) for entry in batch.entries]], batch


if __name__ == "__main__":
    folder = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if folder is not None:
        os.makedirs(folder, exist_ok=True)
        for number, seed in enumerate(SEEDS):
            with open(os.path.join(folder, "seed{0}".format(number)), "wb") as file:
                file.write(b"\x07" + msgpack.pack(seed))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
