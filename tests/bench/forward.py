# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forward protocol: our sender beside PyPI's fluent-logger, our encoder beside msgpack's own, and the relay."""

import json
import os
import re

from core import COLLECTIONS, HERE, ROOT, Cost, Row

DEBIAN_PACKAGES = ()
PYTHON = os.environ["CT_INTEROP_PYTHON"]  # of an environment with fluent-logger and msgpack
SENDER = (
    "To a receiver that reads and, where asked, acknowledges, and decodes nothing. Both encode with msgpack's C extension; ours sends "
    "1,000 records a message and waits for the acknowledgements, fluent-logger a message a record. The wall time is the "
    "receiver's, which runs beside it in Python, and of our CPU time 0.6 µs a record is the C extension's packing."
)
ENCODER = (
    "Turning ten texts into bytes, measuring them, and putting all into the record's template is done in one loop over the "
    "values; the same by map() and slices, or with one text a record, took 10 to 25 % longer."
)
RELAY = (
    "tests/relay/bench.py: records of some 420 bytes over a unix socket, 1,000 a message, the relay on one core. The tables have indexes, and "
    "a newer inventory replaces the one before; SQLite's cache of 16 MiB, by which large tables are as fast as small ones, is in the memory."
)


def rows(bench):
    environment = dict(bench.environment, PYTHONPATH=str(COLLECTIONS))

    def timed(what):
        def run():
            wall, cpu = json.loads(bench.output([PYTHON, str(HERE / "senders.py"), what], env=environment))
            return Cost(wall, cpu)

        return run

    for what, target, ours, peer, by, note in (
        (
            "forward sender with acks / fluent-logger without, a record",
            1 / 11,
            "sender",
            "fluent-logger",
            "wall",
            SENDER,
        ),
        (
            "our encoder, pure Python / msgpack's pure Python one, a record, bytes identical",
            1 / 7,
            "encoder",
            "fallback",
            "cpu",
            ENCODER,
        ),
    ):
        yield bench.compare(what, target, timed(ours), timed(peer), by=by, unit="µs", note=note)
    told = bench.output([PYTHON, str(ROOT / "tests/relay/bench.py")], env=environment)
    for what, pattern in (
        ("relay, records a second safe on disk and acknowledged", r"acknowledged +(\d+) records/s"),
        ("relay, records a second in its tables", r"in the sqlite tables +(\d+) records/s"),
        ("relay, most memory while it takes 100,000 records, MiB", r"most memory +([\d.]+) MiB"),
        ("relay, memory with 1,000 clients and half a message of each, MiB", r"with half a message each: ([\d.]+) MiB"),
    ):
        yield Row(what, re.search(pattern, told).group(1), note=RELAY)
