# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BoltDB files that the real library made (fixtures/bolt/generate.go), whole, torn, hostile, and while they are written."""

import gzip
import hashlib
import json
import os
import random
import struct
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import bolt
from ansible_collections.changetracking.inventory.tests.helpers import bolt as maker
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

pytestmark = pytest.mark.no_python  # it is about the file format
FIXTURES = Path(__file__).parent / "fixtures/bolt"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
OWNERS = (os.geteuid(),)
USER = 65533


def unpacked(name):
    with gzip.open(str(FIXTURES / (name + ".gz"))) as file:
        return file.read()


@pytest.fixture(scope="module", autouse=True)
def hurry():
    before, bolt.PAUSE_SECONDS = bolt.PAUSE_SECONDS, 0
    yield
    bolt.PAUSE_SECONDS = before


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "changetracking.db")


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o600)
    return path


def read(path):
    return bolt.read(path, (0, *OWNERS))


def digests(content):
    """As generate.go has them."""
    found = {}
    for bucket in content.buckets:
        digest = hashlib.sha256()
        for key, value in bucket.values:
            digest.update(struct.pack("<II", len(key), len(value)) + key + value)
        found["/".join(name.hex() for name in bucket.name)] = [len(bucket.values), digest.hexdigest()]
    return found


def refused(path):
    with pytest.raises(bolt.BoltError) as error:
        read(path)
    text = str(error.value)
    assert "\n" not in text and text.endswith("."), text
    return text


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_all_that_the_library_reads_is_read(path, name):
    assert digests(read(write(path, unpacked(name)))) == EXPECTED[name]
    assert bolt.is_bolt(path)


def test_a_file_that_the_helper_of_the_tests_makes_is_read(path):
    buckets = {b"a": {b"%d" % number: b"x" * number for number in range(100)}, b"b": {}}
    maker.write(path, buckets)
    assert {bucket.name[0]: dict(bucket.values) for bucket in read(path).buckets} == buckets


def test_the_time_is_the_one_of_the_last_write(path):
    maker.write(path, {}, at=1000)
    assert read(path).written_at == 1000


# --- torn, cut and damaged


@pytest.mark.parametrize("name", ["features.db", "features-1k.db", "features-64k.db"])
def test_the_older_meta_page_counts_where_the_newer_one_is_torn(path, name):
    data = bytearray(unpacked(name))
    size = struct.unpack_from("<I", data, 24)[0]
    transactions = [struct.unpack_from("<Q", data, place + 16 + 48)[0] for place in (0, size)]
    newer = transactions.index(max(transactions)) * size
    data[newer + 16 + 48] ^= 1
    assert set(digests(read(write(path, data)))) == set(EXPECTED[name])
    data[size - newer + 16 + 40] ^= 1
    assert "is damaged: neither of its meta pages is valid" in refused(write(path, data))


def test_a_file_that_was_cut_is_refused(path):
    data = unpacked("features-1k.db")
    pages = max(struct.unpack_from("<Q", data, place + 16 + 40)[0] for place in (0, 1024))
    outcomes = set()
    for length in range(0, pages * 1024, 40 * 1024 + 300):
        outcomes.add(refused(write(path, data[:length])).partition(": ")[2])
    assert outcomes == {"it is damaged: neither of its meta pages is valid.", "the file is truncated."}


@pytest.fixture(scope="module")
def mutated():
    with tempfile.TemporaryDirectory() as folder:
        yield folder + "/changetracking.db", {name: unpacked(name) for name in ("features-1k.db", "microsoft.db")}


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["features-1k.db", "microsoft.db"]),
    changes=st.lists(st.tuples(st.integers(0, 1 << 30), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4),
    in_header=st.booleans(),
)
def test_a_changed_file_is_read_or_refused_and_no_more(mutated, name, changes, in_header):
    path, originals = mutated
    data = bytearray(originals[name])
    for place, new in changes:
        place %= len(data)
        if in_header:  # of a page, with its first elements
            place = place - place % 1024 + place % 64
        data[place : place + len(new)] = new
    started = time.monotonic()
    try:
        content = read(write(path, data))
    except bolt.BoltError as error:
        assert str(error).startswith("The database ")
    else:
        values = [pair for bucket in content.buckets for pair in bucket.values]
        assert sum(len(key) + len(value) for key, value in values) <= len(data)
    assert time.monotonic() - started < 5


# --- hostile


def hostile(path, root, *pages):
    """A database with these pages from number 3 on."""
    number = 3 + sum(len(page) for page in pages) // maker.PAGE
    head = (
        maker.meta(0, 2, root, number)
        + maker.meta(1, 1, root, number)
        + maker.header(2, 16, 0).ljust(maker.PAGE, b"\0")
    )
    return write(path, head + b"".join(pages))


def bucket(root):
    return struct.pack("<QQ", root, 0)


def inline(*elements):
    return bucket(0) + maker.leaf(0, elements, 1 << 16).rstrip(b"\0").ljust(32, b"\0")


def test_pages_that_lead_back_are_refused(path):
    assert "page 3 is in two places" in refused(hostile(path, 3, maker.branch(3, [(b"a", 3)])))
    assert "page 3 is in two places" in refused(hostile(path, 3, maker.leaf(3, [(1, b"a", bucket(3))])))
    pages = [maker.branch(3, [(b"a", 4), (b"b", 4)]), maker.leaf(4, [(1, b"a", inline())])]
    assert "page 4 is in two places" in refused(hostile(path, 3, *pages))


def test_buckets_in_buckets_are_refused_where_they_are_too_deep(path):
    value = inline((0, b"key", b"value"))
    for _level in range(bolt.MAX_DEPTH - 1):
        value = inline((1, b"in", value))
    assert len(read(hostile(path, 3, maker.leaf(3, [(1, b"in", value)]))).buckets) == bolt.MAX_DEPTH
    assert "nested more than 16 deep" in refused(
        hostile(path, 3, maker.leaf(3, [(1, b"in", inline((1, b"in", value)))]))
    )


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (maker.leaf(3, [(0, b"a", b"b")]), "has values outside of buckets"),
        (maker.leaf(3, [(2, b"a", b"b")]), "a form that is not known"),
        (maker.leaf(3, [(1, b"a", b"short")]), "a bucket has no header"),
        (maker.leaf(3, [(1, b"a", bucket(0))]), "a bucket has no page"),
        (maker.leaf(3, [(1, b"a", bucket(0) + maker.header(0, 1, 0))]), "something else than a leaf page"),
        (maker.leaf(3, [(1, b"a", bucket(1))]), "page 1 is not one of its pages"),
        (maker.leaf(3, [(1, b"a", bucket(1 << 63))]), "page 9223372036854775808 is not one of its pages"),
        (maker.leaf(3, [(1, b"a", bucket(2))]), "page 2 is not what it should be"),
        (maker.leaf(3, [(1, b"b", inline()), (1, b"a", inline())]), "keys are not in order"),
        (maker.leaf(3, [(1, b"a", inline()), (1, b"a", inline())]), "keys are not in order"),
        (maker.branch(3, []), "page 3 does not lead on"),
        (maker.header(3, 2, 1, 1 << 31).ljust(4096, b"\0"), "page 3 is not what it should be"),
        (maker.header(3, 2, 65535).ljust(4096, b"\0"), "outside of its page"),
        (maker.header(3, 1, 65535).ljust(4096, b"\0"), "outside of its page"),
        (maker.header(3, 2, 1).ljust(4096, b"\xff"), "outside of its page"),
        (maker.header(4, 2, 0).ljust(4096, b"\0"), "page 3 is not what it should be"),
    ],
    ids=range(16),
)
def test_a_page_that_makes_no_sense_is_one_sentence(path, page, words):
    assert words in refused(hostile(path, 3, page))


def test_one_value_for_many_keys_takes_no_memory(path):
    """Elements that share one large value: 2,000 times 100 KB."""
    count = 2000
    page = bytearray(
        maker.leaf(3, [(0, b"%04d" % number, b"") for number in range(count)] + [(0, b"z", b"x" * 100000)])
    )
    for at in range(count):
        struct.pack_into("<I", page, 16 + 16 * at + 12, 100000 - 4 * count)
    started = time.monotonic()
    assert "a form that is not known" in refused(hostile(path, 3, bytes(page)))
    assert time.monotonic() - started < 1


def test_one_key_for_many_children_takes_no_memory(path):
    """Elements of a branch page that share one large key: 2,000 times 100 KB."""
    count, length = 2000, 100000
    page = bytearray(maker.leaf(3, [(0, b"", b"")] * count + [(0, b"z" * length, b"")]))
    struct.pack_into("<H", page, 8, maker.BRANCH)
    for at in range(count):
        struct.pack_into("<IIQ", page, 16 + 16 * at, 16 * (count + 1 - at), length, 3)
    tracemalloc.start()
    assert "a form that is not known" in refused(hostile(path, 3, bytes(page)))
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_what_is_too_large_is_refused(path, monkeypatch):
    monkeypatch.setattr(bolt, "MAX_BYTES", 100000)
    assert "the pages in use have more than 0 MiB" in refused(write(path, unpacked("features.db")))
    monkeypatch.undo()
    monkeypatch.setattr(bolt, "MAX_VALUES", 500)
    assert "has more than 500 values" in refused(path)
    monkeypatch.undo()
    monkeypatch.setattr(bolt, "SECONDS", -1.0)
    assert "takes more than" in refused(path)


def test_a_sparse_file_of_a_terabyte_is_read_as_far_as_it_is_in_use(path):
    write(path, unpacked("microsoft.db"))
    os.truncate(path, 1 << 40)
    assert digests(read(path)) == EXPECTED["microsoft.db"]


# --- files of somebody else


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "There is no database"),
        (os.mkdir, "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: os.symlink(write(path + "2", unpacked("new.db")), path), "Too many levels of symbolic links"),
        (lambda path: os.chmod(write(path, unpacked("new.db")), 0o602), "can be written by others"),
        (lambda path: write(path, b""), "is damaged"),
        (lambda path: write(path, b"SQLite format 3\0" * 1000), "is damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(path, make, words):
    make(path)
    assert words in refused(path)


def test_a_file_of_another_user_is_read_only_where_that_user_may_control_it(path, tmp_path):
    need_root("giving a file away")
    os.chown(write(path, unpacked("new.db")), USER, USER)
    assert "can be written by others" in refused(path)
    assert bolt.read(path, (0, USER)).buckets == []
    os.chown(path, 0, USER)
    os.chmod(path, 0o660)
    assert "can be written by others" in refused(path)
    os.chown(path, 0, 0)
    assert read(path).buckets == []
    os.chown(str(tmp_path), USER, USER)
    assert "in a folder controlled by others" in refused(path)


@pytest.mark.parametrize("data", [b"", b"SQLite format 3\0" * 1000, b"\0" * 100000, b"\xed\x0c\xda\xed" * 1000])
def test_other_files_are_not_taken_for_one(path, data):
    assert not bolt.is_bolt(write(path, data))


# --- written at the same time


def trace():
    """What the library wrote: (offset, data), first the whole file."""
    data, at, found = unpacked("trace"), 0, []
    while at < len(data):
        offset, length = struct.unpack_from("<II", data, at)
        found.append((offset, data[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


TRACE = trace()


def generation(content):
    """The number of the transaction that all values of the database say. Checks that none is missing, and none is of another one."""
    said = set()
    for found in content.buckets:
        values = dict(found.values)
        number, count = values.pop(b"count").split(b";")
        said.add(number)
        said.update(value.partition(b";")[0] for value in values.values())
        assert sum(key.startswith(found.name[0] + b"-") for key in values) == int(count)
    assert len(said) == 1 and len(content.buckets) == 3, said
    return int(said.pop())


def test_after_every_write_even_a_torn_one_the_last_whole_transaction_is_read(path):
    first, *writes = TRACE
    write(path, first[1])
    whole = 1
    choose = random.Random(1)
    with open(path, "r+b", buffering=0) as file:
        for offset, data in writes:
            torn = choose.randrange(len(data))
            os.pwrite(file.fileno(), data[:torn], offset)
            found = generation(read(path))
            # The last bytes of a meta page are zeros: it may be whole already.
            assert found == whole or (offset < 2048 and found == whole + 1)
            os.pwrite(file.fileno(), data, offset)
            whole += offset < 2048
            assert generation(read(path)) == whole
    assert whole == 81


def test_what_is_read_while_transactions_are_written_is_one_of_them_or_refused(path, monkeypatch):
    """Between two reads, the program writes any number of pages, and a part of one more. 500 times."""
    choose = random.Random(2)
    outcomes = {"read": 0, "refused": 0}
    really_read = os.pread
    writes, written = [], 0

    def pread(file, size, offset):
        nonlocal written
        for _number in range(choose.choice(pace)):
            if written < len(writes):
                offset_, data = writes[written]
                os.pwrite(writer, data, offset_)
                written += 1
        if written < len(writes) and choose.random() < 0.5:
            offset_, data = writes[written]
            os.pwrite(writer, data[: choose.randrange(len(data))], offset_)
        return really_read(file, size, offset)

    for _number in range(500):
        pace = choose.choice([(0, 0, 0, 0, 1), (0, 1), (0, 1, 5), (0, 30)])
        write(path, TRACE[0][1])
        writes, written = TRACE[1:], 0
        writer = os.open(path, os.O_WRONLY)
        monkeypatch.setattr(bolt.os, "pread", pread)
        try:
            generation(read(path))
            outcomes["read"] += 1
        except bolt.BoltError as error:
            assert "another program wrote to it during each of 10 attempts" in str(error) or "meta pages" in str(error)
            outcomes["refused"] += 1
        finally:
            monkeypatch.setattr(bolt.os, "pread", really_read)
            os.close(writer)
    assert outcomes["read"] > 100 and outcomes["refused"] > 10, outcomes


def test_a_program_that_pauses_is_read_while_it_writes(path):
    """The same in another thread, without control over the moments."""
    write(path, TRACE[0][1])
    ended = threading.Event()

    def replay():
        with open(path, "r+b", buffering=0) as file:
            for offset, data in TRACE[1:]:
                os.pwrite(file.fileno(), data, offset)
                if offset < 2048:
                    time.sleep(0.01)
        ended.set()

    writer = threading.Thread(target=replay)
    writer.start()
    found = []
    bolt.PAUSE_SECONDS = 0.003
    while not ended.is_set():
        found.append(generation(read(path)))
    bolt.PAUSE_SECONDS = 0
    writer.join()
    found.append(generation(read(path)))
    assert found == sorted(found) and found[-1] == 81 and len(set(found)) > 5
