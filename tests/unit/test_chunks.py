# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Config chunks on disk, and answers of them."""

import json
import os

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.ama.chunks import MAX_FILE_BYTES, Chunks

LINUX = "ChangeTracking-Linux"


class Folder:
    def __init__(self, path):
        self.path = path
        self.log = []
        self.chunks = Chunks(str(path), self.log.append)

    def put(self, name, text):
        (self.path / name).write_text(text)

    def refresh(self):
        return self.chunks.refresh()

    def ids(self, extension=LINUX):
        reply = json.loads(
            b"".join(self.chunks.answer({"Request": "AgentTaggedData", "RequestId": "r", "Tag": extension})).decode()
        )
        assert reply["Success"] is True and reply["RequestId"] == "r"
        if reply["TaggedData"] is None:
            assert self.chunks.document(extension) is None
            return None
        document = json.loads(reply["TaggedData"])
        assert document == self.chunks.document(extension)
        return [element["id"] for element in document["extensionConfigurations"]]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def element(name, settings=None):
    return {"id": name, "extensionSettings": settings or {}, "outputStreams": {"A": name + ":A"}}


def chunk(*elements, **others):
    return json.dumps({"extensionConfigurations": dict({LINUX: list(elements)}, **others)})


def test_all_chunks_count_and_their_order_is_that_of_the_ids(folder):
    folder.put("a.json", chunk(element("2"), element("3")))
    folder.put("b.json", chunk(element("1")))
    folder.put("c.txt", "not a chunk")
    assert folder.refresh()
    assert folder.ids() == ["1", "2", "3"]
    assert folder.chunks.extensions == [LINUX]
    assert not folder.refresh()
    assert folder.log == []


def test_a_chunk_without_extensions_is_none_of_our_business(folder):
    folder.put("perf.json", '{"dataSources":[],"channels":[]}')
    assert not folder.refresh()
    assert (folder.chunks.extensions, folder.ids(), folder.log) == ([], None, [])


def test_the_same_dcr_in_two_chunks_counts_once_and_the_newest_wins(folder):
    for name, mtime, settings in (("z.json", 1000, {"a": 1}), ("a.json", 2000, {"a": 2}), ("c.json", 1500, {"a": 1})):
        folder.put(name, chunk(element("1", settings)))
        os.utime(str(folder.path / name), (mtime, mtime))
    folder.refresh()
    assert folder.ids() == ["1"]
    tagged = json.loads(b"".join(folder.chunks.answer({"Request": "AgentTaggedData", "Tag": LINUX})).decode())[
        "TaggedData"
    ]
    assert json.loads(tagged)["extensionConfigurations"][0]["extensionSettings"] == {"a": 2}
    assert folder.log == ["1 is in several config chunks that differ; the newest, a.json, is used."]


def test_a_half_written_chunk_counts_as_it_was_until_it_is_whole(folder):
    whole = chunk(element("1"))
    folder.put("a.json", whole)
    folder.refresh()
    folder.put("a.json", whole[:40])
    assert not folder.refresh() and not folder.refresh()
    assert folder.ids() == ["1"]
    (line,) = folder.log
    assert "cannot be used" in line and line.endswith("it counts as it was before.")
    folder.put("a.json", chunk(element("1"), element("2")))
    assert folder.refresh()
    assert folder.ids() == ["1", "2"]
    assert "is read again" in folder.log[-1]


def test_a_chunk_that_goes_takes_its_dcr_along_and_a_folder_that_goes_does_not(folder):
    folder.put("a.json", chunk(element("1")))
    folder.put("b.json", chunk(element("2")))
    folder.refresh()
    os.unlink(str(folder.path / "b.json"))
    assert folder.refresh()
    assert folder.ids() == ["1"]
    os.rename(str(folder.path), str(folder.path) + ".away")
    assert not folder.refresh() and not folder.refresh()
    assert folder.ids() == ["1"]
    (line,) = folder.log
    assert "what it held stays in force" in line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"extensionConfigurations":[]' + "}",
        '{"extensionConfigurations":{"ChangeTracking-Linux":5}}',
        "[" * 100000,
        "\x00\x01",
        " " * (MAX_FILE_BYTES + 1),
    ],
    ids=["empty", "array", "list of extensions", "number", "deep", "binary", "too large"],
)
def test_a_file_that_is_no_chunk_is_told_once_and_harms_no_other(folder, text):
    folder.put("a.json", chunk(element("1")))
    folder.put("bad.json", text)
    folder.refresh()
    folder.refresh()
    assert folder.ids() == ["1"]
    assert len(folder.log) == 1


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\0b", "x" * 51, ".hidden", "ä"])
def test_an_extension_whose_name_no_socket_can_bear_is_told_and_ignored(folder, name):
    folder.put("a.json", chunk(element("1"), **{name: [element("2")]}))
    folder.refresh()
    assert folder.chunks.extensions == [LINUX]
    assert "is ignored" in folder.log[0]


def test_what_is_no_file_is_no_chunk_and_is_not_opened(folder):
    folder.put("a.json", chunk(element("1")))
    os.symlink("nowhere", str(folder.path / "b.json"))
    os.mkfifo(str(folder.path / "c.json"))
    (folder.path / "d.json").mkdir()
    folder.refresh()
    assert (folder.ids(), folder.log) == (["1"], [])


def test_an_element_without_an_id_or_streams_is_told_and_ignored(folder):
    folder.put("a.json", chunk(element("1"), {"id": 5}, "x", {"id": "2", "outputStreams": {"A": 1}}))
    folder.refresh()
    assert folder.ids() == ["1"]
    assert "3 of 4 configurations" in folder.log[0]


@pytest.mark.parametrize(
    "request_", [None, [], {}, {"Request": "AgentTaggedData", "Tag": 5}, {"Request": ["x"] * 1000}]
)
def test_a_request_that_makes_no_sense_gets_a_reply_that_says_so(folder, request_):
    raw = b"".join(folder.chunks.answer(request_))
    reply = json.loads(raw.decode())
    assert reply["Success"] is False and reply["Description"] and len(raw) < 1000
