# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rule holds, where there are several places it may come from."""

import json
import os
import socket
import threading

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import rule as source_module
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.rule import RuleSource
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.ama.chunks import Chunks
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import Unpacker


def chunk(name, every=300):
    settings = {"softwareSettings": {"softwareCollectionFrequency": every}}
    element = {"id": name, "extensionSettings": settings, "outputStreams": {}}
    return {"extensionConfigurations": {"ChangeTracking-Linux": [element]}}


class Places:
    """The places a rule may come from, and an agent's look at them."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("state", "chunks", "served"):
            (folder / name).mkdir()
        self.log = []
        self.options = AgentOptions(
            state=str(folder / "state"), chunks=str(folder / "chunks"), dcr=str(folder / "dcr.json"),
            config_address=str(folder / "c"), allow_users=(str(os.geteuid()),),
        )  # fmt: skip
        self.source = RuleSource(self.options, self.log.append)
        self.listener = None

    def put(self, name, document):
        (self.folder / name).write_text(document if isinstance(document, str) else json.dumps(document))

    def answer(self, document):
        """Let the agent's config socket answer with this from now on; None: it has no rule."""
        served = Chunks(str(self.folder / "served"), self.log.append)
        if document is not None:
            self.put("served/a.json", document)
            served.refresh()
        self.silence()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.folder / "c"))
        self.listener.listen(5)
        threading.Thread(target=self._serve, args=(self.listener, served), daemon=True).start()

    def silence(self):
        if self.listener is not None:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            os.unlink(str(self.folder / "c"))
            self.listener = None

    def _serve(self, listener, served):
        try:
            while True:
                sock, _peer = listener.accept()
                unpacker = Unpacker()
                unpacker.feed(sock.recv(65536))
                for request in unpacker:
                    for piece in served.answer(json.loads(request)):
                        sock.sendall(piece)
                sock.close()
        except OSError:
            pass

    def restarted(self):
        """The look of an agent that was just started."""
        return RuleSource(self.options, self.log.append)

    def found(self):
        rule = self.source.find()
        return None if rule is None else rule.settings.rules[0]


@pytest.fixture
def places(tmp_path):
    places = Places(tmp_path)
    yield places
    places.silence()


def test_the_agent_comes_first_then_its_chunks_then_the_file(places):
    places.put("dcr.json", chunk("file"))
    places.put("chunks/a.json", chunk("chunk"))
    places.answer(chunk("socket"))
    assert places.found() == "socket"
    places.silence()
    assert places.found() == "chunk"
    os.unlink(str(places.folder / "chunks/a.json"))
    assert places.found() == "file"


def test_the_last_good_rule_holds_while_the_agent_is_silent(places):
    places.answer(chunk("socket"))
    assert places.found() == "socket"
    places.silence()
    assert places.found() == "socket"
    assert places.source.rule.origin.startswith("the last good rule")
    assert places.restarted().find().settings.rules == ("socket",)


@pytest.mark.parametrize("stale", [False, True], ids=["no chunk", "a chunk that AMA left"])
@pytest.mark.parametrize("file", [False, True])
def test_what_the_agent_withdrew_is_not_used_again_when_it_is_silent(places, stale, file):
    if stale:
        places.put("chunks/a.json", chunk("socket"))
    places.answer(chunk("socket"))
    assert places.found() == "socket"
    if file:
        places.put("dcr.json", chunk("file"))
    expected = "file" if file else None
    places.answer(None)
    assert places.found() == expected
    places.silence()
    for source in (places.source, places.restarted(), places.source):
        found = source.find()
        assert (found and found.settings.rules[0]) == expected
    assert not (places.folder / "state" / "dcr.json").read_bytes().count(b"socket")


def test_a_chunk_that_was_overruled_counts_again_once_it_is_another_or_the_agent_has_it_again(places):
    places.put("chunks/a.json", chunk("old"))
    places.answer(None)
    assert places.found() is None
    places.silence()
    assert places.found() is None
    assert "AMA has withdrawn it" in places.source.reasons[-1]
    places.put("chunks/a.json", chunk("new rule"))
    assert places.found() == "new rule"
    places.answer(None)
    assert places.found() is None
    places.answer(chunk("new rule"))
    assert places.found() == "new rule"
    places.silence()
    assert places.found() == "new rule"
    assert places.source.rule.origin.startswith("the config chunks")


@pytest.mark.parametrize("place", ["dcr.json", "chunks/a.json"])
def test_a_rule_whose_file_was_removed_is_withdrawn_also_after_a_restart(places, place):
    places.put(place, chunk("here"))
    assert places.found() == "here"
    os.unlink(str(places.folder / place))
    assert places.found() is None
    assert places.log[-1].startswith("The data collection rule is withdrawn")
    assert places.restarted().find() is None


NO_STREAMS = '{"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "x"}]}}'


@pytest.mark.parametrize("broken", ["{", "[]", b"\xff\xff", NO_STREAMS])
def test_a_chunk_that_cannot_be_read_leaves_its_last_good_rule_in_force_also_after_a_restart(places, broken):
    places.put("chunks/a.json", chunk("good"))
    assert places.found() == "good"
    path = places.folder / "chunks" / "a.json"
    path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    for source in (places.source, places.restarted()):
        assert source.find().settings.rules == ("good",)


def test_a_folder_of_chunks_that_cannot_be_read_leaves_its_last_good_rule_in_force(places):
    places.put("chunks/a.json", chunk("good"))
    assert places.found() == "good"
    os.rename(str(places.folder / "chunks"), str(places.folder / "aside"))
    (places.folder / "chunks").write_text("")  # in the way of a folder: it is there, and cannot be listed
    assert places.restarted().find().settings.rules == ("good",)
    os.unlink(str(places.folder / "chunks"))
    assert places.restarted().find() is None


def test_a_place_that_is_switched_off_has_no_rule(places):
    places.answer(chunk("socket"))
    assert places.found() == "socket"
    places.options = places.options._replace(config_address="")
    assert places.restarted().find() is None


def test_a_withdrawn_rule_does_not_come_back_because_the_disk_was_full(places, monkeypatch):
    places.answer(chunk("socket"))
    assert places.found() == "socket"

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(source_module, "replace", full)
    places.answer(None)
    assert places.found() is None
    places.silence()
    assert places.restarted().find() is None


def test_while_there_is_no_rule_the_next_look_is_soon_and_later_less_so(places):
    assert places.source.retry_seconds is None
    waits = []
    for _look in range(5):
        assert places.found() is None
        waits.append(places.source.retry_seconds)
    assert waits == [5, 10, 20, 30, 30]
    assert [line for line in places.log if "no data collection rule yet" in line] == places.log[-1:]
    places.put("dcr.json", chunk("file"))
    assert (places.found(), places.source.retry_seconds) == ("file", None)
    os.unlink(str(places.folder / "dcr.json"))
    assert (places.found(), places.source.retry_seconds) == (None, 5)


def test_the_rule_that_an_earlier_version_kept_is_known(places):
    places.put("state/dcr.json", chunk("old"))
    places.silence()
    assert places.found() == "old"


@pytest.mark.parametrize(
    "broken", ["{", "[]", "5", {"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "x"}]}}]
)
def test_a_broken_file_leaves_the_last_good_rule_in_force(places, broken):
    places.put("dcr.json", chunk("good"))
    assert places.found() == "good"
    kept = places.folder / "state" / "dcr.json"
    written = kept.stat().st_ino  # another file takes its place when it is written
    places.put("dcr.json", broken)
    assert places.found() == "good"
    assert "dcr.json" in places.source.reasons[-1]
    assert kept.stat().st_ino == written


def files(name, every=300, **section):
    document = chunk(name, every)
    element = document["extensionConfigurations"]["ChangeTracking-Linux"][0]
    element["extensionSettings"]["fileSettings"] = section
    element["outputStreams"] = {"CONFIG_CHANGE_BLOB_V2": name}
    return document


GOOD = {"fileInfo": [{"name": "app", "destinationPath": "/etc/app.conf", "uploadContent": True}]}
UNUSABLE = [
    {"fileinfo": GOOD["fileInfo"]},
    {"fileInfo": [{"destinationPath": "etc"}]},
    {"fileInfo": [{"destinationPath": "/etc/**/*.conf"}]},
]


@pytest.mark.parametrize("section", UNUSABLE, ids=["fileinfo", "relative", "wildcard"])
@pytest.mark.parametrize("place", ["socket", "chunk", "file"])
def test_a_rule_without_usable_file_items_is_used_with_those_of_the_last_good_one(places, section, place):
    put = {
        "socket": places.answer,
        "chunk": lambda document: places.put("chunks/a.json", document),
        "file": lambda document: places.put("dcr.json", document),
    }[place]
    put(files("good", **GOOD))
    good = places.source.find().settings
    put(files("new", every=60, **section))
    for source in (places.source, places.source, places.restarted(), places.restarted()):
        found = source.find().settings
        assert (found.rules, found.every("packages")) == (("new",), 60)
        assert found.streams == {"CONFIG_CHANGE_BLOB_V2": ("new",)}
        assert found.file_rules == good.file_rules and "files" in found.kinds
        assert list(found.errors) == ["files"] and "last good rule" in found.warnings[1]
    put(files("newer", fileInfo=[{"destinationPath": "/etc/other.conf"}]))
    found = places.restarted().find().settings
    assert [rule.path for rule in found.file_rules] == ["/etc/other.conf"] and not found.warnings


def test_the_first_rule_may_be_without_usable_file_items_and_the_rest_of_it_is_used(places):
    places.answer(files("first", **UNUSABLE[0]))
    assert places.found() == "first"
    places.answer(files("second", **UNUSABLE[1]))
    assert places.found() == "second"
    assert places.source.rule.settings.file_rules == []
    places.silence()
    assert places.found() == "second"


def test_file_items_of_a_withdrawn_rule_are_not_used_again(places):
    places.answer(files("good", **GOOD))
    places.found()
    places.answer(None)
    places.found()
    places.answer(files("new", **UNUSABLE[0]))
    assert places.source.find().settings.file_rules == []


def test_a_last_good_rule_that_is_broken_too_is_one_more_reason(places):
    places.put("dcr.json", "{")
    places.put("state/dcr.json", "{")
    assert places.found() is None
    assert ["is not JSON" in reason for reason in places.source.reasons] == [False, True, True]


def test_a_broken_file_leaves_the_last_good_rule_in_force_where_the_agent_has_none_too(places):
    places.put("dcr.json", chunk("good"))
    assert places.found() == "good"
    places.answer(None)
    places.put("dcr.json", "{")
    places.put("chunks/a.json", chunk("chunk"))
    assert places.found() == "good"


def test_what_is_wrong_and_what_is_new_is_said_once(places):
    places.put("dcr.json", chunk("file"))
    places.found()
    said = len(places.log)
    places.found()
    assert len(places.log) == said
    places.put("dcr.json", chunk("file", every=60))
    places.found()
    assert len(places.log) == said + 1
    assert "packages every 60 s instead of 300 s" in places.log[-1]


def test_an_item_that_is_the_same_but_for_its_contents_is_neither_new_nor_gone(places):
    document = chunk("file")
    settings = document["extensionConfigurations"]["ChangeTracking-Linux"][0]["extensionSettings"]
    item = {"name": "app", "destinationPath": "/etc/app.conf"}
    settings["fileSettings"] = {"fileInfo": [item]}
    for upload in (False, True, False):
        item["uploadContent"] = upload
        places.put("dcr.json", document)
        places.found()
    assert places.log[-2].endswith("Changed: /etc/app.conf with contents.")
    assert places.log[-1].endswith("Changed: /etc/app.conf without contents.")


def test_a_state_folder_that_cannot_be_written_keeps_no_rule_and_says_so(places):
    places.put("dcr.json", chunk("file"))
    os.mkdir(str(places.folder / "state" / "dcr.json"))
    assert places.found() == "file"
    assert "Cannot save the rule" in places.log[-1]
