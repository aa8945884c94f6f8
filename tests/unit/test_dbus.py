# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import gzip
import os
import socket
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import SourceFailed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services import dbus
from ansible_collections.changetracking.inventory.tests.helpers.buses import SIZES, put, split

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "systemd")
GREETING = b"OK 0123456789abcdef0123456789abcdef\r\n"
PING = dbus.Method("org.example", "org.example.Peer", "Ping")
ECHO = dbus.Method("org.example", "org.example.Peer", "Echo", "sas", ("text", ("a", "bc")))


def captured(suite, name):
    """What a booted host sent: the line that ends authentication, then messages."""
    with gzip.open(os.path.join(FIXTURES, suite, name + ".stream.gz")) as file:
        return file.read()


class Peer(threading.Thread):
    """Accepts one client, sends it fixed bytes, and keeps what it said until it hangs up."""

    def __init__(self, path, answer, hang_up=True):
        super().__init__(daemon=True)
        self.path, self.heard = str(path), b""
        self._answer, self._hang_up = answer, hang_up
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen(1)
        self.start()

    def run(self):
        client, _unused = self._listening.accept()
        with client, self._listening:
            try:
                client.sendall(self._answer)
                if self._hang_up:
                    client.shutdown(socket.SHUT_WR)
                while True:
                    data = client.recv(65536)
                    if not data:
                        return
                    self.heard += data
            except OSError:
                return


def end_of_reply(stream, serial):
    at = stream.index(b"\r\n") + 2
    while True:
        end = at + dbus.message_length(stream[at : at + 16])
        if dbus.parse_message(stream[at:end]).reply_serial == serial:
            return end
        at = end


def ask(path, answer, calls=1, hang_up=True, seconds=10.0):
    Peer(path, answer, hang_up)
    with dbus.DBusConnection(str(path), seconds) as connection:
        return connection.calls([("/", PING)] * calls)


def bare(signature, value):
    """What the reader makes of a value: variants lose their wrapping."""
    kind = signature[0]
    if kind == "v":
        return bare(*value)
    if kind == "a":
        return [bare(signature[1:], item) for item in value]
    if kind in "({":
        return tuple(bare(member, item) for member, item in zip(split(signature[1:-1]), value))
    return value


TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=8)
BASIC = st.sampled_from("ybnqiuxtdso")
TYPES = st.recursive(
    BASIC,
    lambda inner: st.one_of(
        st.just("v"),
        inner.map(lambda element: "a" + element),
        st.lists(inner, min_size=1, max_size=3).map(lambda members: "(" + "".join(members) + ")"),
        st.tuples(BASIC, inner).map(lambda pair: "a{" + "".join(pair) + "}"),
    ),
    max_leaves=5,
)


def values_of(signature):
    kind = signature[0]
    if kind in "so":
        return TEXT
    if kind == "b":
        return st.booleans()
    if kind == "d":
        return st.floats(allow_nan=False)
    if kind in SIZES:
        bits = 8 * struct.calcsize(SIZES[kind])
        signed = SIZES[kind].islower()
        return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if signed else st.integers(0, (1 << bits) - 1)
    if kind == "v":
        return BASIC.flatmap(lambda inner: st.tuples(st.just(inner), values_of(inner)))
    if kind == "a":
        return st.lists(values_of(signature[1:]), max_size=3)
    return st.tuples(*[values_of(member) for member in split(signature[1:-1])])


@settings(max_examples=150, deadline=None)
@given(TYPES.flatmap(lambda kind: st.tuples(st.just(kind), values_of(kind))), st.sampled_from("<>"))
def test_every_value_is_read_in_both_byte_orders(typed, order):
    body = bytearray()
    put(body, order, *typed)
    assert dbus.unmarshal(typed[0], bytes(body), order) == [bare(*typed)]


@settings(max_examples=50, deadline=None)
@given(TEXT, st.lists(TEXT, max_size=4))
def test_what_is_written_is_read_back(text, texts):
    assert dbus.unmarshal("sas", dbus.marshal("sas", (text, texts))) == [text, texts]


@settings(max_examples=200, deadline=None)
@given(st.text("asvog(){}bunixtd", max_size=12), st.binary(max_size=64), st.sampled_from("<>"))
def test_no_body_does_more_than_fail(signature, body, order):
    try:
        dbus.unmarshal(signature, body, order)
    except ValueError:
        pass


@pytest.mark.parametrize("signature", ["(", ")", "a", "()", "{", "z", "a" * 40 + "s", "(" * 40 + "s" + ")" * 40])
def test_an_invalid_signature_is_refused(signature):
    with pytest.raises(ValueError):
        dbus.unmarshal(signature, b"\0" * 64)


def test_variants_within_variants_are_bounded():
    with pytest.raises(ValueError):
        dbus.unmarshal("v", b"\1v\0" * 200)


def test_the_greeting_goes_out_whole_before_the_first_call(tmp_path):
    peer = Peer(tmp_path / "s", captured("bookworm", "private"), hang_up=False)
    with dbus.DBusConnection(peer.path) as connection:
        connection.calls([("/unit", ECHO)])
    peer.join()
    user = str(os.geteuid()).encode().hex().encode()
    greeting, begin, call = peer.heard.partition(b"BEGIN\r\n")
    assert (greeting, begin) == (b"\0AUTH EXTERNAL " + user + b"\r\n", b"BEGIN\r\n")
    assert dbus.message_length(call[:16]) == len(call)
    assert dbus.unmarshal("sas", call[-len(dbus.marshal("sas", ("text", ("a", "bc")))) :]) == ["text", ["a", "bc"]]


def test_signals_between_replies_are_passed_over(tmp_path):
    replies = ask(tmp_path / "s", captured("bookworm", "bus"), calls=4)
    assert replies[0][0].startswith(":")  # the name that Hello gives
    assert any(entry[0] == "dbus.service" for entry in replies[1][0])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_stream_cut_anywhere_is_a_failure(tmp_path_factory, data):
    stream = captured("bookworm", "private")
    cut = data.draw(st.integers(0, end_of_reply(stream, 60) - 1))
    with pytest.raises(SourceFailed):
        ask(tmp_path_factory.mktemp("p") / "s", stream[:cut], calls=60)


def test_the_same_stream_uncut_is_read(tmp_path):
    stream = captured("bookworm", "private")
    assert len(ask(tmp_path / "s", stream[: end_of_reply(stream, 60)], calls=60)) == 60


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120))
def test_garbage_is_a_failure(tmp_path_factory, garbage):
    with pytest.raises(SourceFailed):
        ask(tmp_path_factory.mktemp("p") / "s", GREETING + garbage)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 255))
def test_one_wrong_byte_is_a_failure_or_harmless(tmp_path_factory, position, byte):
    stream = bytearray(captured("bookworm", "private")[:60000])
    stream[len(GREETING) + position] = byte
    try:
        ask(tmp_path_factory.mktemp("p") / "s", bytes(stream))
    except SourceFailed:
        pass


@pytest.mark.parametrize("lengths", [(0xFFFFFFFF, 0), (0, 0xFFFFFFFF), (dbus.LARGEST_MESSAGE, 8)])
def test_a_huge_length_is_refused_before_it_is_read(tmp_path, lengths):
    head = struct.pack("<cBBBIII", b"l", 2, 0, 1, lengths[0], 1, lengths[1])
    with pytest.raises(SourceFailed, match="a message of"):
        ask(tmp_path / "s", GREETING + head, hang_up=False)


@pytest.mark.parametrize("answer", [b"REJECTED EXTERNAL\r\n", b"\r\n", b"x" * 20000])
def test_a_refused_greeting_is_a_failure(tmp_path, answer):
    with pytest.raises(SourceFailed):
        ask(tmp_path / "s", answer)


def test_silence_ends_with_the_deadline(tmp_path):
    with pytest.raises(SourceFailed, match="in time"):
        ask(tmp_path / "s", GREETING, hang_up=False, seconds=0.05)


def test_a_reply_of_another_type_than_expected_is_a_failure(tmp_path):
    typed = dbus.Method("org.example", "org.example.Peer", "Ping", returns="as")
    Peer(tmp_path / "s", captured("bookworm", "bus"), hang_up=False)
    with dbus.DBusConnection(str(tmp_path / "s")) as connection, pytest.raises(
        SourceFailed, match="a reply of type 's'"
    ):
        connection.calls([("/", typed)])


def test_no_socket_is_told_apart_from_a_failure(tmp_path):
    with pytest.raises(dbus.Disconnected):
        dbus.DBusConnection(str(tmp_path / "none"))
