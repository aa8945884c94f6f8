# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking AMA for a DCR: out comes a document, the certainty that there is none, or one clear sentence."""

import json
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.ama import config
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import ForwardError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import dcr
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import Unpacker

MODEST = settings(max_examples=50, deadline=None)
TAG = "ChangeTracking-Linux"


def tagged(files=3):
    rules = [
        {"name": "f{0}".format(n), "enabled": True, "destinationPath": "/opt/ä {0}/*.conf".format(n)}
        for n in range(files)
    ]
    settings = {"enableFiles": True, "fileSettings": {"fileCollectionFrequency": 900, "fileInfo": rules}}
    element = {
        "id": "dcr-1:CTDataSource-Linux",
        "originIds": ["/a/b"],
        "extensionSettings": settings,
        "outputStreams": {},
    }
    return {"schemaVersion": 1, "version": "", "extensionName": TAG, "extensionConfigurations": [element]}


def answer(question, **changes):
    reply = {
        "Request": "AgentTaggedData",
        "RequestId": question["RequestId"],
        "Version": "1",
        "Success": True,
        "Description": "",
    }
    reply["TaggedData"] = json.dumps(tagged())
    reply.update(changes)
    return json.dumps(reply).encode()


def ask(respond, deadline=120.0):
    """request() against an AMA that does respond(connection, question)."""
    ours, amas = socket.socketpair()
    questions = []

    def serve():
        unpacker = Unpacker()
        while not questions:
            unpacker.feed(amas.recv(4096))
            questions.extend(json.loads(text) for text in unpacker)
        try:
            respond(amas, questions[0])
        except OSError:  # the client had enough
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        document = config.request(ours, TAG, deadline)
    finally:
        ours.close()
        thread.join()
        amas.close()
    return document, questions[0]


def refused(respond, **options):
    with pytest.raises(ForwardError) as caught:
        ask(respond, **options)
    text = str(caught.value)
    assert "\n" not in text and "azuremonitoragent" in text
    return text


def test_the_question_is_one_json_text_and_the_answer_a_document_the_dcr_reader_takes():
    document, question = ask(lambda ama, question: ama.sendall(answer(question)))
    assert document == tagged()
    assert sorted(question) == ["Request", "RequestId", "Tag", "Version"]
    assert (question["Request"], question["Tag"], question["Version"]) == ("AgentTaggedData", TAG, "1")
    assert len(dcr.load(document, "AMA").file_rules) == 3


def test_every_question_has_an_id_of_its_own():
    ids = {ask(lambda ama, question: ama.sendall(answer(question)))[1]["RequestId"] for _unused in range(3)}
    assert len(ids) == 3


def test_an_answer_in_pieces_of_one_byte_is_put_together():
    def respond(ama, question):
        data = answer(question)
        for at in range(len(data)):
            ama.sendall(data[at : at + 1])

    assert ask(respond)[0] == tagged()


def test_an_answer_of_five_megabytes_is_read():
    document = dict(tagged(), filler='{[\\"' * 700000)

    def respond(ama, question):
        data = answer(question, TaggedData=json.dumps(document))
        assert len(data) > 5 << 20
        ama.sendall(data)

    assert ask(respond)[0] == document


def test_an_answer_without_end_is_refused_at_its_limit():
    def respond(ama, question):
        ama.sendall(b'{"TaggedData":"')
        while True:
            ama.sendall(b"x" * 65536)

    assert "longer than 8388608 bytes" in refused(respond)


def test_what_follows_the_answer_is_not_waited_for():
    assert ask(lambda ama, question: ama.sendall(b" \n" + answer(question) + b"\n{"))[0] == tagged()


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_configuration_is_none_and_no_error(nothing):
    assert ask(lambda ama, question: ama.sendall(answer(question, TaggedData=nothing)))[0] is None


def test_a_truncated_answer_says_how_much_came():
    def respond(ama, question):
        ama.sendall(answer(question)[:50])
        ama.shutdown(socket.SHUT_WR)

    assert "closed the connection after 50 bytes" in refused(respond)


def test_no_answer_at_all_says_so():
    assert "closed the connection after 0 bytes" in refused(lambda ama, question: ama.shutdown(socket.SHUT_WR))


def test_silence_ends_at_the_deadline_however_the_clock_is_set(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert "within 0.2 s" in refused(lambda ama, question: None, deadline=0.2)
    assert "within 0.2 s" in refused(lambda ama, question: ama.sendall(answer(question)[:-1]), deadline=0.2)


def test_a_trickle_does_not_move_the_deadline():
    def respond(ama, question):
        ama.sendall(b"{")
        while True:
            ama.sendall(b" ")
            select_nothing.wait(0.01)

    select_nothing = threading.Event()
    assert "within 0.3 s" in refused(respond, deadline=0.3)


@pytest.mark.parametrize(
    "reply", [b"Not JSON", b"[1]", b"\xd9\x05hello", b"null", b"}", b'{"Success": tru}', b'{"a":\xff}', b"{]"]
)
def test_what_is_no_json_object_is_refused(reply):
    refused(lambda ama, question: ama.sendall(reply))


@pytest.mark.parametrize(
    "reply", [b'{"a":' + b"[" * 100000, b'{"a":' + b"9" * 1000000 + b"}"], ids=["deep", "long integer"]
)
def test_json_made_to_hurt_its_reader_is_refused(reply):
    refused(lambda ama, question: ama.sendall(reply))


@pytest.mark.parametrize("data", ["Not JSON", "[]", "{", "[" * 100000, 7, {}, "\ud800"])
def test_tagged_data_that_is_no_document_is_refused(data):
    assert "TaggedData" in refused(lambda ama, question: ama.sendall(answer(question, TaggedData=data)))


def test_a_refusal_carries_amas_own_words():
    reply = {"Success": False, "Description": "no such\ntag", "TaggedData": None}
    assert "no such tag" in refused(lambda ama, question: ama.sendall(answer(question, **reply)))


@pytest.mark.parametrize("changes", [{"Success": "yes"}, {"Success": None}, {"Success": False, "Description": 7}])
def test_a_refusal_needs_no_words(changes):
    assert "without a reason" in refused(lambda ama, question: ama.sendall(answer(question, **changes)))


def test_the_answer_to_another_question_is_refused():
    assert "another request" in refused(lambda ama, question: ama.sendall(answer(question, RequestId="other")))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\{}[]\né'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a"\\{}[]'), inner, max_size=4),
    max_leaves=10,
)


@MODEST
@given(
    st.dictionaries(st.text(alphabet='b"\\{}'), JSON, max_size=4),
    st.lists(st.integers(1, 9), min_size=1),
    st.booleans(),
)
def test_the_end_of_an_object_is_found_however_it_is_cut(value, sizes, ascii_only):
    text = b" " + json.dumps(value, ensure_ascii=ascii_only).encode()
    end, rest, number = config.JsonEnd(), text + b"}}", 0
    while True:
        size = sizes[number % len(sizes)]
        length = end.find(rest[:size])
        rest, number = rest[size:], number + 1
        if length is not None:
            break
        assert rest
    assert text[:length] == text
