# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The msgpack codec: equal to the PyPI package msgpack, and bounded whatever comes."""

import os
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import FormatError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import msgpack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import ExtType, Unpacker, pack

MODEST = settings(max_examples=50, deadline=None)
# -1 is left out: the package makes a Timestamp of it.
EXTENSIONS = st.builds(ExtType, st.integers(0, 127), st.binary(max_size=40))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | EXTENSIONS
)
LONG = st.integers(240, 270).map(lambda length: "ä" + "a" * length)
KEYS = st.text(max_size=40) | st.integers(-100, 300) | st.binary(max_size=4)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=10
)
RECORDS = st.dictionaries(st.text(max_size=40), st.text() | LONG | SCALARS, max_size=5)
ENTRIES = st.lists(st.tuples(st.integers(0, 1 << 40), RECORDS), max_size=5)


@pytest.fixture(scope="module")
def package():
    """The PyPI package."""
    if os.environ.get("CI"):
        import msgpack as package
    else:
        package = pytest.importorskip("msgpack")
    return package


@pytest.fixture(scope="module", params=["ours", "package"])
def packer(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "ours":
            patch.setattr(msgpack, "_c_pack", None)
        else:
            request.getfixturevalue("package")
            assert msgpack._c_pack is not None
        yield


def values(*pieces, **limits):
    unpacker = Unpacker(**limits)
    found = []
    for piece in pieces:
        unpacker.feed(piece)
        found += unpacker
    return found


def refused(*pieces, **limits):
    with pytest.raises(FormatError) as caught:
        values(*pieces, **limits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def theirs(package, value):
    """The package has an ExtType of its own."""
    if isinstance(value, ExtType):
        return package.ExtType(value.code, value.data)
    if isinstance(value, list):
        return [theirs(package, one) for one in value]
    if isinstance(value, dict):
        return {key: theirs(package, one) for key, one in value.items()}
    return value


# --- equal to the package


@MODEST
@given(value=VALUES)
def test_bytes_are_those_of_the_package(package, value):
    assert pack(value) == package.packb(theirs(package, value), use_bin_type=True)


@MODEST
@given(value=VALUES)
def test_what_the_package_packs_is_read_as_the_package_reads_it(package, value):
    data = package.packb(theirs(package, value), use_bin_type=True)
    assert values(data, max_depth=100) == [value]
    assert theirs(package, value) == package.unpackb(data, raw=False, strict_map_key=False)


INTEGERS = (
    0, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1,
    -1, -32, -33, -128, -129, -32768, -32769, -(1 << 31), -(1 << 31) - 1, -(1 << 63),
)  # fmt: skip
LENGTHS = (0, 1, 2, 4, 5, 8, 9, 15, 16, 17, 31, 32, 255, 256, 65535, 65536)
OF_LENGTH = {
    "str": lambda length: "a" * length,
    "bin": lambda length: b"a" * length,
    "array": lambda length: [0] * length,
    "map": lambda length: {str(n): n for n in range(length)},
    "ext": lambda length: ExtType(5, b"a" * length),
}


@pytest.mark.parametrize("value", INTEGERS)
def test_every_integer_is_in_its_shortest_form(package, value):
    assert pack(value) == package.packb(value)
    assert values(pack(value)) == [value]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", sorted(OF_LENGTH))
def test_every_length_is_in_its_shortest_form(package, kind, length):
    value = OF_LENGTH[kind](length)
    data = pack(value)
    assert data == package.packb(theirs(package, value), use_bin_type=True)
    assert values(data) == [value]


def test_a_float_of_32_bits_is_read():
    assert values(b"\xca" + struct.pack(">f", 1.5)) == [1.5]


@MODEST
@given(entries=ENTRIES)
def test_entries_are_packed_as_the_list_they_are(packer, entries):
    try:
        expected = pack(entries)
    except FormatError:
        with pytest.raises(FormatError):
            msgpack.pack_entries(entries)
    else:
        if not any(isinstance(one, ExtType) for _unused, record in entries for one in record.values()):
            assert msgpack.pack_entries(entries) == expected


@pytest.mark.parametrize("value", [object(), 1 << 64, -(1 << 63) - 1, {1, 2}, 1j])
def test_what_msgpack_has_no_form_for_is_refused(packer, value):
    with pytest.raises(FormatError):
        pack([value])
    with pytest.raises(FormatError):
        msgpack.pack_entries([(0, {"key": value})])


def test_a_lone_surrogate_fails_no_batch(packer):
    assert values(msgpack.pack_entries([(0, {"k": "a\udcffb"}), (1, {"k%s\ud800": "%s"})])) == [
        [[0, {"k": "a\\udcffb"}], [1, {"k%s\\ud800": "%s"}]]
    ]


# --- a stream


@MODEST
@given(found=st.lists(VALUES, max_size=3), sizes=st.lists(st.integers(1, 30), min_size=1))
def test_a_stream_is_read_the_same_however_it_is_cut(found, sizes):
    stream = b"".join(map(pack, found))
    pieces = []
    while stream:
        for size in sizes:
            pieces.append(stream[:size])
            stream = stream[size:]
    assert values(*pieces, max_depth=100) == found


def test_a_value_is_given_as_soon_as_its_last_byte_is_there():
    unpacker = Unpacker()
    stream = pack({"key": ["value", 1 << 40]})
    for at in range(len(stream)):
        assert list(unpacker) == []
        unpacker.feed(stream[at : at + 1])
    assert list(unpacker) == [{"key": ["value", 1 << 40]}]
    assert len(unpacker) == 0


def test_half_a_message_and_silence_holds_its_bytes_and_nothing_more():
    unpacker = Unpacker()
    unpacker.feed(pack([["text"] * 1000])[:3000])
    assert list(unpacker) == []
    assert len(unpacker) == 3000


def test_a_text_that_is_not_utf_8_is_kept_as_bytes():
    assert values(b"\x83\xa1k\xa1\xff\xa2\xc3\x28\xa1v\xa1l\xd9\x02\xc3\x28") == [
        {"k": b"\xff", b"\xc3\x28": "v", "l": b"\xc3\x28"}
    ]


# --- what is refused


@pytest.mark.parametrize(
    "head",
    [b"\xc6", b"\xdb", b"\xc9", b"\xdd", b"\xdf"],
    ids=["bin", "str", "ext", "array", "map"],
)
def test_a_length_of_4_gib_is_refused_before_any_of_it_comes(head):
    refused(head + b"\xff\xff\xff\xff")
    refused(b"\x91" + head, b"\xff\xff\xff\xff")
    refused(b"\x81\xa1k" + head + b"\xff", b"\xff\xff\xff")


def test_ten_million_empty_maps_are_refused_before_any_is_made():
    tracemalloc.start()
    try:
        refused(b"\xdd" + struct.pack(">I", 10000000), b"\x80" * 10000000)
        refused(*[b"\xdc\xff\xff" + b"\x80" * 65534] * 2, max_items=100000)  # each but one in the array before it
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


def test_parts_of_one_message_share_its_limit():
    part = b"\x92\x00\x80"
    assert len(values(part * 300, max_items=1000)) == 300
    assert len(values(part * 300, max_items=1000, one=True)) == 300
    assert "more than 1000 values" in refused(part * 400, max_items=1000, one=True)
    assert "more than 1000 values" in refused(b"\x00" * 1001, max_items=1000, one=True)


def test_nesting_is_refused_beyond_its_limit():
    assert values(b"\x91" * 10 + b"\x00") == [[[[[[[[[[[0]]]]]]]]]]]
    assert "deeper than 10" in refused(b"\x91" * 11 + b"\x00")
    assert "deeper than 10" in refused(b"\x81\xa1k" * 11)
    refused(b"\x91" * 1000000)


def test_a_message_is_refused_beyond_its_length_and_a_stream_is_not():
    assert values(*[b"\xd9\x60" + b"a" * 96] * 50, max_bytes=98) == ["a" * 96] * 50
    assert "longer than 98 bytes" in refused(b"\xd9\x61", b"", max_bytes=98)
    assert "longer than 98 bytes" in refused(*[b"\xdc\x00\xff"] + [b"\x00"] * 100, max_bytes=98)


@pytest.mark.parametrize("stream", [b"\xc1", b"\x91\xc1", b"\x81\x90\x00", b"\x81\x80\x00", b"\x81\x91\x01\x02"])
def test_what_is_no_msgpack_is_refused(stream):
    refused(stream)


@MODEST
@given(st.binary(max_size=200))
def test_garbage_is_values_or_refused(stream):
    try:
        values(stream)
    except FormatError:
        pass


def test_remembered_keys_are_few_and_shared_and_what_one_sent_does_not_stay_for_all():
    keys = {}
    first, second = Unpacker(keys=keys), Unpacker(keys=keys)
    first.feed(pack({"%d" % number: 0 for number in range(5000)}))
    assert len(next(iter(first))) == 5000 and 0 < len(keys) <= 1000
    second.feed(pack({"SvcName": "ssh", "x" * 40: 1}))
    assert list(second) == [{"SvcName": "ssh", "x" * 40: 1}]
    assert pack("SvcName") in keys and pack("x" * 40) not in keys
