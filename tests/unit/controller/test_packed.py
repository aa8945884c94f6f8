# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a managed host packed is read item by item, within limits."""

import base64
import itertools
import json
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import packed_reader
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed import pack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed_reader import (
    PackedError,
    kinds,
    unpack,
)
from ansible_collections.changetracking.inventory.tests.helpers.child import importing

pytestmark = pytest.mark.no_core

NUMBERS = st.integers(-(1 << 63), 1 << 63) | st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(
    st.dictionaries(st.text(), st.none() | st.booleans() | NUMBERS | st.text() | st.lists(st.text()), max_size=4)
)
ITEMS = st.dictionaries(st.sampled_from(["packages", "services", "files", "changes"]), ROWS)


def packed(text):
    return base64.b64encode(zlib.compress(text if isinstance(text, bytes) else text.encode())).decode()


@given(ITEMS, st.sampled_from([None, 1, "\t"]), st.booleans(), st.sampled_from([4, 64, 65536]))
def test_what_is_read_does_not_depend_on_where_the_pieces_end(items, indent, ascii_only, piece):
    before, packed_reader.PIECE = packed_reader.PIECE, piece
    try:
        assert unpack(packed(json.dumps(items, indent=indent, ensure_ascii=ascii_only))) == items
    finally:
        packed_reader.PIECE = before


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "it is not items by kind"),
        ("[]", "it is not items by kind"),
        ('{"packages":5}', "it is not items by kind"),
        ('{"packages":[5]}', "it is not items by kind"),
        ('{"packages":[{},]}', "it is not items by kind"),
        ('{"packages":[{}}', "it is not items by kind"),
        ('{"passwords":[]}', "it is not items by kind"),
        ('{"packages":[],"packages":[]}', "it is not items by kind"),
        ('{"packages":[]}{', "something follows its end"),
        ('{"packages":[{"a":1,"a":2}]}', "an item has one column twice"),
        ('{"packages":[{"a":{"b":1,"b":2}}]}', "an item has one column twice"),
        ('{"packages":[{"a":NaN}]}', "a number is too large, or none"),
        ('{"packages":[{"a":-Infinity}]}', "a number is too large, or none"),
        ('{"packages":[{"a":1e999}]}', "a number is too large, or none"),
        ('{"packages":[{"a":%s}]}' % ("9" * 100000), "a number is too large"),
        ('{"packages":[{"a":0.%s}]}' % ("9" * 100000), "a number is too large, or none"),
        ('{"packages":[{"a":%s}]}' % ("[" * 8 + "]" * 8), ""),
        ('{"packages":[{"a":%s}]}' % ("[" * 9 + "]" * 9), "an item is nested too deeply"),
        ('{"packages":[{"a":%s' % ("[" * 100000), "an item is nested too deeply"),
        ('{"packages":[%s' % ('{"a":' * 100000), "an item is nested too deeply"),
        ('{"packages":[{"a":"%s"}]}' % ("x" * 1200000), "an item is damaged, or too large"),
        ('{"packages":[{"a":"%s"}]}' % ("x" * 500000), ""),
        ('{"packages":[{"a":"x', "it is no JSON"),
        (b'{"packages":[{"a":"\xff"}]}', "it is not UTF-8"),
        (b'{"packages":[{"a":"\xed\xa0\x80"}]}', "it is not UTF-8"),
        (b'{"packages":[]}\xc3', "it is not UTF-8"),
    ],
)
def test_what_a_real_host_does_not_pack_is_refused_with_the_reason(text, reason):
    if not reason:
        assert len(unpack(packed(text))["packages"]) == 1
        return
    with pytest.raises(PackedError, match=r"This is not what ct_inventory_info returns as packed \(%s\)" % reason):
        unpack(packed(text))


@pytest.mark.parametrize(
    "text, reason",
    [
        (None, "it is no text"),
        (b"eJw=", "it is no text"),
        ("\u00e4", "it is no base64 of zlib"),
        ("not base64", "it is no base64 of zlib"),
        (base64.b64encode(b"not zlib").decode(), "it is no base64 of zlib"),
        (pack({"files": []})[:-8], "it is"),
        (packed("{}") + packed("{}"), "it is no"),
        (base64.b64encode(zlib.compress(b"{}") + b"more").decode(), "something follows its end"),
    ],
)
def test_what_is_not_even_compressed_json_is_refused(text, reason):
    with pytest.raises(PackedError, match=reason):
        unpack(text)


@pytest.mark.parametrize(
    "limit, value, reason",
    [("MAX_ROWS", 2, "more than 2 items"), ("MAX_VALUES", 5, "more than 5 values"), ("MAX_BYTES", 1 << 20, "1 MiB")],
)
def test_each_limit_is_named(monkeypatch, limit, value, reason):
    text = '{"packages":[{},{"a":[1,2]}],"files":[{"b":1,"c":[2]},%s{}]}' % (" " * (2 << 20))
    assert len(unpack(packed(text))["files"]) == 2
    monkeypatch.setattr(packed_reader, limit, value)
    with pytest.raises(PackedError, match=reason):
        unpack(packed(text))


def test_half_a_character_is_written_out_so_that_the_text_can_be_stored():
    (row,) = unpack(packed(r'{"files":[{"a\ud800":"x\uDC80","b":["\ud83d\ude00","\\xff"]}]}'))["files"]
    assert row["b"] == ["\U0001f600", r"\xff"]  # as the host has them
    json.dumps(row, ensure_ascii=False).encode()


def test_an_item_is_read_when_it_is_asked_for():
    reading = kinds(packed('{"packages":[{"a":1},{"a":2}],"files":[{"a":3},damaged'))
    _kind, rows = next(reading)
    assert next(rows) == {"a": 1}
    kind, rows = next(reading)  # those of packages that were not taken are skipped
    assert (kind, next(rows)) == ("files", {"a": 3})
    with pytest.raises(PackedError):
        next(rows)


STREAM = """
import base64, resource, sys, zlib
from ansible_collections.changetracking.inventory.plugins.module_utils._cti import packed_reader
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed_reader import PackedError, kinds
packed_reader.MAX_BYTES, packed_reader.MAX_ROWS, packed_reader.MAX_VALUES = 64 << 20, 100000, 1000000  # all of them are soon reached
head, unit, times = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
compress = zlib.compressobj(9)
data = compress.compress(head.encode()) + b"".join(compress.compress(unit * 1000) for _time in range(times // 1000))
text = base64.b64encode(data + compress.flush()).decode()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
try:
    for _kind, rows in kinds(text):
        for _row in rows:
            pass
    print("read")
except PackedError as error:
    print(error)
"""
BOMBS = {
    "items": ('{"packages":[', "{},", 10000000),
    "lists": ('{"packages":[', '{"a":[%s]},' % ",".join(["[]"] * 1000), 2000),
    "columns": ('{"packages":[', "{%s}," % ",".join('"%d":""' % name for name in range(1000)), 2000),
    "text": ('{"packages":[{"a":"', "x", 100000000),
    "wide text": ('{"packages":[{"a":"', "\U0001f600", 20000000),
    "blanks": ("", " ", 100000000),
    "depth": ('{"packages":[{"a":', "[", 100000000),
    "digits": ('{"packages":[{"a":', "9", 100000000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_within_64_mib_of_memory(bomb):
    head, unit, times = BOMBS[bomb]
    run = subprocess.run(
        [sys.executable, "-c", STREAM, head, unit, str(times)], env=importing(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
    )  # fmt: skip
    assert run.stdout.startswith("This is not what ct_inventory_info returns as packed ("), run.stdout


def test_a_large_real_host_is_within_the_limits():
    row = dict.fromkeys(("FileContentChecksum", "Owner", "Group", "Mode", "DateModified", "FileType"), "x" * 20)
    files = (json.dumps(dict(row, FileSystemPath="/srv/%d" % number, Size=number)) for number in itertools.count())
    text = '{"packages":[],"files":[' + ",".join(itertools.islice(files, 300000)) + "]}"
    assert [(kind, sum(1 for _row in rows)) for kind, rows in kinds(packed(text))] == [
        ("packages", 0),
        ("files", 300000),
    ]
