# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each client of the relay may use: places, memory, turns and time. Time is a number here."""

import itertools
import selectors
import socket
import ssl

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay import clients
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.clients import (
    CONFIG,
    HALF_RECORDS,
    HANDSHAKES,
    HELD_BYTES,
    KINDS,
    LARGE_BYTES,
    LEAST_BYTES,
    LOCAL,
    NETWORK,
    READ_ON,
    SMALL_BYTES,
    WORK_BYTES,
    Clients,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.connection import (
    Client,
    Connection,
    Work,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay.listeners import _network
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import Unpacker

MESSAGE = b"\xc6\x00\x90\x00\x00"  # the head of nine mebibytes, of which as much comes as a test wants


class Place:
    def __init__(self, most=4):
        self.clients = Clients(dict.fromkeys(KINDS, most))
        self.ends = []

    def connect(self, *peer, kind=NETWORK, now=0.0, handshaking=False):
        ours, theirs = socket.socketpair()
        self.ends.append(theirs)
        connection = Connection(Client(ours, "name", kind, peer), Unpacker())
        connection.handshaking = handshaking
        connection.opened = connection.heard = now
        self.clients.add(connection)
        return connection

    def hold(self, connection, size, now=0.0):
        connection.unpacker.feed(b"x" * size if len(connection.unpacker) else (MESSAGE + b"x" * size)[:size])
        connection.heard = now
        if connection.since is None:
            connection.since = now
        self.clients.count_held(connection)

    def order(self, wanting):
        return list(self.clients.in_turn(wanting))

    def overdue(self, now):
        return dict(self.clients.overdue(now))

    def close(self):
        for connection in self.clients:
            connection.sock.close()
        for end in self.ends:
            end.close()


@pytest.fixture
def place():
    place = Place()
    yield place
    place.close()


# --- turns


def test_kinds_users_and_processes_take_turns_whatever_number_of_connections_each_has(place):
    strangers = [place.connect("10.0.0.%d" % n, kind=NETWORK) for n in range(50)]
    flood = [place.connect("1000", "7", kind=LOCAL) for _unused in range(50)]
    same_user = place.connect("1000", "8", kind=LOCAL)
    agent = place.connect("0", "9", kind=LOCAL)
    question = place.connect("1000", "7", kind=CONFIG)
    order = place.order(strangers + flood + [same_user, agent, question])
    assert len(order) == 103
    assert order.index(question) <= 2 and order.index(agent) <= 5 and order.index(same_user) <= 11


def test_who_was_not_served_comes_first_in_the_next_turn(place):
    connections = [place.connect("one") for _unused in range(10)]
    seen = []
    while len(seen) < 10:
        for connection in itertools.islice(place.clients.in_turn(connections), 3):
            assert connection not in seen or len(seen) == 10
            seen += [connection] if connection not in seen else []
    assert set(seen) == set(connections)


def test_a_peer_in_the_middle_of_messages_does_not_come_before_other_kinds_and_peers(place):
    stranger = place.connect("10.0.0.9", kind=NETWORK)
    other = place.connect("10.0.0.8", kind=NETWORK)
    agent = place.connect("0", "1", kind=LOCAL)
    question = place.connect("0", "1", kind=CONFIG)
    firsts = []
    for _turn in range(9):  # in each of which there is time for one only
        place.hold(stranger, 100)
        firsts.append(next(place.clients.in_turn([stranger, other, agent, question])))
    assert sorted(map(firsts.count, (stranger, other, agent, question))) == [1, 2, 3, 3]
    assert {firsts[n].kind for n in range(3)} == {firsts[n].kind for n in range(3, 6)} == set(KINDS)


def test_who_connects_anew_does_not_come_before_those_who_wait(place):
    waiting = place.connect("10.0.0.1")
    list(place.clients.in_turn([waiting]))
    for number in range(3):
        place.order([place.connect("10.0.1.%d" % number)])
    assert place.order([place.connect("10.0.0.2"), waiting])[0] is waiting


# --- places


def test_kinds_have_places_of_their_own(place):
    for number in range(4):
        place.connect("10.0.0.%d" % number, kind=NETWORK)
    assert [place.clients.full(kind) for kind in (CONFIG, LOCAL, NETWORK)] == [False, False, True]


def test_the_peer_with_the_most_connections_gives_way_with_the_longest_silent_one(place):
    many = [place.connect("many", now=0.0) for _unused in range(3)]
    other = place.connect("other", now=-100.0)
    for connection in many:
        place.hold(connection, 100, now=0.4)
    many[1].heard = 0.1
    assert place.clients.to_give_way(NETWORK, ("new",), 0.5) is many[1]
    place.clients.remove(many[1])
    place.connect("new")
    assert place.clients.to_give_way(NETWORK, ("many",), 0.5) is other  # not one of two that are at work


def test_of_one_user_the_process_with_the_most_connections_gives_way(place):
    flood = [place.connect("0", "1", kind=CONFIG) for _unused in range(3)]
    place.hold(place.connect("0", "2", kind=CONFIG), 100, now=9.0)
    for connection in flood:
        place.hold(connection, 60000)
    assert place.clients.to_give_way(CONFIG, ("0", "3"), 0.5) in flood
    assert place.clients.to_give_way(CONFIG, ("0", "1"), 0.5) is None
    assert place.clients.to_give_way(CONFIG, ("0", "1"), 1.5) in flood  # half a request, and no more


def test_nobody_who_is_at_work_gives_way_where_peers_have_the_same_number(place):
    working = [place.connect("10.0.0.%d" % number) for number in range(4)]
    for connection in working:
        place.hold(connection, 60000)
    assert place.clients.to_give_way(NETWORK, ("new",), 0.5) is None
    for connection in working:
        place.hold(connection, 10000, now=6.5)
        connection.since = 0.0
    assert place.clients.to_give_way(NETWORK, ("new",), 7.0) is None
    assert place.clients.to_give_way(NETWORK, ("new",), 12.0) in working  # silent in the middle of a message
    place.hold(working[2], 100, now=200.0)
    assert place.clients.to_give_way(NETWORK, ("new",), 200.0) in working  # a few bytes a second are no work


def test_who_is_silent_between_messages_gives_way(place):
    silent = [place.connect("10.0.0.%d" % number, now=float(number)) for number in range(4)]
    assert place.clients.to_give_way(NETWORK, ("new",), 0.5) is None
    assert place.clients.to_give_way(NETWORK, ("new",), 2.5) is silent[0]


def test_few_tls_handshakes_go_on_at_a_time_and_those_of_one_peer_or_silent_ones_give_way():
    place = Place(10 * HANDSHAKES)
    idle = place.connect("idle", now=-100.0)
    handshakes = [place.connect("10.0.0.%d" % number, handshaking=True) for number in range(HANDSHAKES - 2)]
    many = [place.connect("many", now=at, handshaking=True) for at in (0.5, 0.6)]
    assert [place.clients.full(kind) for kind in KINDS] == [False, False, True]
    assert place.clients.to_give_way(NETWORK, ("new",), 1.0) is many[0]
    place.clients.remove(many[0])
    assert not place.clients.full(NETWORK)
    place.connect("new", now=1.0, handshaking=True)
    assert place.clients.to_give_way(NETWORK, ("newer",), 4.0) is None and not place.clients.may_be_taken(NETWORK, 4.0)
    handshakes[7].heard = -1.0
    assert place.clients.to_give_way(NETWORK, ("newer",), 4.5) is handshakes[7]
    handshakes[3].handshaking = False  # it has ended
    place.clients.count_held(handshakes[3])
    assert not place.clients.full(NETWORK) and idle in place.clients
    place.close()


def test_few_tls_records_are_incomplete_at_a_time_and_those_of_one_peer_are_closed():
    place = Place(2 * HALF_RECORDS)

    def begin(*peer):
        connection = place.connect(*peer)
        connection.in_record = True
        place.clients.count_held(connection)
        return connection

    honest = begin("honest")
    many = [begin("many") for _unused in range(HALF_RECORDS - 1)]
    assert place.clients.surplus_record() is None
    place.clients.count_held(many[0])  # it has another part, and is no newer for it
    other = begin("other")
    assert place.clients.surplus_record() is many[0]
    place.clients.remove(many[0])
    assert place.clients.surplus_record() is None
    begin("many")
    assert place.clients.surplus_record() is many[1]
    honest.in_record = False
    place.clients.count_held(honest)
    assert place.clients.surplus_record() is None and other in place.clients
    place.close()


def test_the_addresses_of_one_ipv6_network_are_one_peer():
    v6 = socket.AF_INET6
    assert _network(v6, "2001:db8::1") == _network(v6, "2001:db8::ffff:1") != _network(v6, "2001:db8:0:1::1")
    assert _network(v6, "fe80::1%eth0") == _network(v6, "fe80::2")
    assert _network(v6, "::ffff:10.0.0.1") != _network(v6, "::ffff:10.0.0.2")
    assert _network(socket.AF_INET, "10.0.0.1") == "10.0.0.1"


# --- memory


def test_half_messages_of_one_kind_leave_the_others_theirs(place):
    for number in range(20):
        place.hold(place.connect("10.0.0.%d" % number), 1 << 20)
    agent = place.connect("0", "9", kind=LOCAL)
    place.hold(agent, 1 << 20)
    place.clients.share_memory(0.0)
    assert not agent.paused and place.clients.limit(agent, 1) > SMALL_BYTES
    stranger = place.connect("10.0.1.1")
    assert place.clients.limit(stranger, 1) == SMALL_BYTES


def test_where_memory_is_short_few_are_read_on_each_of_another_peer_and_all_come_to_it(place):
    flood = [place.connect("flood") for _unused in range(20)]
    honest = [place.connect("10.0.0.%d" % number) for number in range(4)]
    for connection in flood:
        place.hold(connection, 1 << 20)
    for connection in honest:
        place.hold(connection, 200000)
    changed = place.clients.share_memory(0.0)
    read_on = [connection for connection in flood + honest if not connection.paused]
    assert len(read_on) == READ_ON and set(read_on) <= set(honest)  # who holds least comes first
    assert set(changed) == set(flood + honest) - set(read_on)
    done = []
    while len(done) < 4:
        for connection in [connection for connection in honest if not connection.paused and connection not in done]:
            done.append(connection)
            connection.unpacker = Unpacker()  # its message was complete, and taken
            connection.since = None
            place.clients.count_held(connection)
        place.clients.share_memory(0.0)
    assert [connection.paused for connection in flood].count(False) == 1


def test_memory_that_is_free_again_is_for_all(place):
    flood = [place.connect("flood") for _unused in range(20)]
    for connection in flood:
        place.hold(connection, 1 << 20)
    place.clients.share_memory(0.0)
    for connection in flood[:15]:
        place.clients.remove(connection)
    changed = place.clients.share_memory(5.0)
    assert not any(connection.paused for connection in flood[15:]) and changed
    assert all(connection.since == 5.0 for connection in changed)  # what we made it wait is not held against it
    assert place.clients.limit(flood[15], 1) > SMALL_BYTES


def test_what_small_messages_hold_is_bounded_too():
    assert SMALL_BYTES * 4096 * 2 + HELD_BYTES <= 64 << 20


# --- messages that take more than one turn to read


class Encoder:
    def __init__(self, size):
        self.bytes = size


def begin(place, connection, size, weight=0):
    connection.work = Work("t", "c", [], Encoder(size), weight)
    place.clients.count_work(connection)


def test_one_message_of_a_peer_is_read_at_a_time_and_those_of_others_meanwhile(place):
    first, second = [place.connect("0", "1", kind=LOCAL) for _unused in range(2)]
    other = place.connect("0", "2", kind=LOCAL)
    begin(place, first, 100)
    assert [place.clients.may_work(connection) for connection in (first, second, other)] == [True, False, True]
    first.work = None
    place.clients.count_work(first)
    assert place.clients.may_work(second)


def test_few_messages_of_a_user_are_read_at_a_time_however_many_processes_it_has(place):
    processes = [place.connect("1000", str(number), kind=LOCAL) for number in range(60)]
    for connection in processes:
        if place.clients.may_work(connection):
            begin(place, connection, 0)
    assert len([connection for connection in processes if connection.work]) == WORK_BYTES // LEAST_BYTES + 1


def test_no_further_message_is_begun_where_those_under_way_are_large(place):
    strangers = [place.connect("10.0.0.%d" % number, kind=NETWORK) for number in range(60)]
    agent = place.connect("0", "9", kind=LOCAL)
    for connection in strangers:
        if place.clients.may_work(connection):
            begin(place, connection, 1 << 20)
    works = [connection.work for connection in strangers if connection.work]
    assert sum(work.encoder.bytes for work in works) <= WORK_BYTES + (1 << 20)
    assert place.clients.may_work(agent)  # local clients do not wait for strangers
    place.hold(agent, LARGE_BYTES + 1)
    assert not place.clients.may_work(agent)  # but where their message is large


def test_what_a_message_takes_besides_its_lines_counts(place):
    first, second = (place.connect("10.0.0.%d" % number, kind=NETWORK) for number in range(2))
    begin(place, first, 0, weight=WORK_BYTES + 1)
    assert place.clients.may_work(first) and not place.clients.may_work(second)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_who_waited_begins_the_next_message_before_the_peer_whose_message_is_done(place, turns):
    """However many connections that peer has, and however many turns its message takes."""
    flood = [place.connect("0", "1", kind=LOCAL) for _unused in range(20)]
    agent = place.connect("0", "2", kind=LOCAL)
    begin(place, flood[7], WORK_BYTES + 1)
    for turn in range(turns):
        for connection in place.clients.in_turn([agent] + flood):
            if not place.clients.may_work(connection):
                continue
            if connection.work is None:
                assert connection is agent and turn == turns - 1
                return
            if turn == turns - 1:
                connection.work = None
                place.clients.count_work(connection)
    pytest.fail("nobody began another message")


def test_who_finds_no_memory_to_begin_keeps_its_turn(place):
    """Else those whose messages are under way use up the memory again before it is served."""
    flood = [place.connect("0", str(number), kind=LOCAL) for number in range(3)]
    agent = place.connect("0", "9", kind=LOCAL)
    for connection, size in zip(flood, (WORK_BYTES + 1, 0, 0)):
        begin(place, connection, size)
    for _turn in range(3):
        for connection in place.clients.in_turn([*flood, agent]):
            if not place.clients.may_work(connection) and connection.work is None:
                place.clients.keep_turn(connection)
    flood[0].work = None
    place.clients.count_work(flood[0])
    begun, following = itertools.islice(place.clients.in_turn([*flood, agent]), 2)
    assert begun.work is not None and following is agent and place.clients.may_work(agent)


def test_a_peer_whose_message_is_under_way_keeps_no_turn_for_another(place):
    first, second = (place.connect("0", "1", kind=LOCAL) for _unused in range(2))
    begin(place, first, 0)
    place.order([first])
    for connection in place.clients.in_turn([second]):
        served = connection.served
        place.clients.keep_turn(connection)
    assert second.served == served


def test_where_memory_is_short_the_message_that_may_go_on_comes_first(place):
    works = [place.connect("0", str(number), kind=LOCAL) for number in range(4)]
    for connection in works:
        begin(place, connection, WORK_BYTES)
    place.order(works[1:])
    for _turn in range(5):
        assert next(place.clients.in_turn(works)) is works[0]


def test_messages_that_are_read_take_limited_memory_and_the_oldest_gets_done(place):
    first, second = place.connect("0", "1", kind=LOCAL), place.connect("0", "2", kind=LOCAL)
    stranger = place.connect("10.0.0.1", kind=NETWORK)
    for connection in (first, second, stranger):
        begin(place, connection, WORK_BYTES * 2 // 3)
    assert [place.clients.may_work(connection) for connection in (first, second, stranger)] == [True, False, True]
    place.clients.remove(first)
    assert place.clients.may_work(second)


# --- time


def test_silence_ends(place):
    new, old, half, paused, deaf, shaking = [place.connect("10.0.0.%d" % number) for number in range(6)]
    old.spoken = True
    place.hold(half, 100)
    place.hold(paused, 100)
    paused.paused = True
    deaf.spoken = True
    deaf.send(b"answer")
    deaf.since = 0.0
    shaking.handshaking = True
    assert place.overdue(clients.HANDSHAKE_SECONDS) == {}
    assert "handshake" in place.overdue(clients.HANDSHAKE_SECONDS + 1)[shaking]
    place.clients.remove(shaking)
    assert place.overdue(60.0) == {}
    found = place.overdue(61.0)
    assert set(found) == {new, half, deaf}
    assert "sent nothing" in found[new] and "rest of a message" in found[half] and "reading an answer" in found[deaf]
    assert old in place.overdue(301.0) and place.overdue(301.0)[old] == "" and paused not in place.overdue(200.0)


class Answering:
    """A TLS socket that reads on only once the client has taken what TLS answered: a change of keys, say."""

    def __init__(self, sock):
        self._sock = sock
        self.blocked = True

    def recv(self, _limit):
        raise ssl.SSLWantWriteError() if self.blocked else ssl.SSLWantReadError()

    def __getattr__(self, name):
        return getattr(self._sock, name)


def test_who_does_not_take_what_tls_answers_costs_no_turns_and_ends(place):
    connection = place.connect("deaf")
    connection.sock = sock = Answering(connection.sock)
    with selectors.DefaultSelector() as selector:
        assert connection.receive(10) == 0 and connection.owes
        connection.watch(selector)
        assert [key.events for key in selector.get_map().values()] == [selectors.EVENT_WRITE]
        connection.since = 1.0
        assert connection in place.overdue(62.0)
        sock.blocked = False
        assert connection.receive(10) == 0 and not connection.owes and connection.since is None
        connection.watch(selector)
        assert [key.events for key in selector.get_map().values()] == [selectors.EVENT_READ]


class Records:
    """A TLS socket that has these."""

    def __init__(self, sock, *records):
        self._sock = sock
        self._records = list(records)

    def do_handshake(self):
        pass

    def pending(self):
        return 0

    def recv(self, _limit):
        record = self._records.pop(0)
        if record is None:
            raise ssl.SSLWantReadError()
        return record

    def __getattr__(self, name):
        return getattr(self._sock, name)


def test_a_record_of_tls_is_incomplete_if_something_came_and_nothing_can_be_read(place):
    connection = place.connect("slow", handshaking=True)
    connection.sock = Records(connection.sock, None, MESSAGE, None, None, b"x")
    found = []
    for _unused in range(6):
        connection.receive(10)
        found.append((connection.handshaking, connection.in_record))
    assert found == [(False, False), (False, True), (False, False), (False, True), (False, True), (False, False)]


def test_single_bytes_do_not_prolong_the_time_for_a_message(place):
    drip = place.connect("10.0.0.1")
    for second in range(0, 62, 2):
        place.hold(drip, 10, now=float(second))
    assert "overdue" in place.overdue(61.0)[drip]


def test_where_memory_is_short_a_message_that_does_not_get_on_ends(place):
    flood = [place.connect("10.0.0.%d" % number) for number in range(20)]
    for connection in flood:
        place.hold(connection, 1 << 20)
    place.clients.share_memory(0.0)
    slow, quick, silent = [connection for connection in flood if not connection.paused]
    assert place.overdue(1.0) == {}
    for connection, size in ((slow, 100), (quick, 20000)):
        place.hold(connection, size, now=1.5)
    assert set(place.overdue(2.0)) == {slow, silent}
    assert set(place.overdue(3.5)) == {slow, silent} and quick in place.overdue(4.0)


def test_of_one_peer_what_was_begun_is_read_on_first(place):
    """A herd would otherwise fill the memory with half messages, none of which gets done."""
    one, two, three = [place.connect("peer") for _unused in range(3)]
    assert place.order([one, two, three]) == [one, two, three]
    place.hold(three, 100)
    assert place.order([one, two, three]) == [three, one, two]
    three.handshaking = False
    two.handshaking = True
    assert set(place.order([one, two, three])[:2]) == {two, three}


def test_who_waits_for_the_relay_to_read_the_first_message_is_not_silent(place):
    waiting, silent = place.connect("a"), place.connect("b")
    waiting.heard = 100.0  # as the relay notes when there is something to read
    assert list(place.overdue(clients.FIRST_SECONDS + 1.0)) == [silent]
    assert place.clients.to_give_way(NETWORK, "c", 100.5) is silent
