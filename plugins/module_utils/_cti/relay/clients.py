# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The connected clients, and what each may use: connections, memory, turns and time.

The three kinds of clients do not share: clients from the network take neither connections nor memory from local clients
at a Unix socket, nor from those that request configuration. Within a kind, peers take turns, and when a resource is short,
the peer that uses most of it loses a connection.
"""

import collections
import heapq
import itertools
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from .connection import Connection

CONFIG = "config"  # requests configuration
LOCAL = "local"  # sends records to a Unix socket
NETWORK = "network"  # sends records over tcp or tls
KINDS = (CONFIG, LOCAL, NETWORK)

HELD_BYTES = (
    12 << 20
)  # of incomplete messages of one kind; above this, memory is short and only READ_ON large ones are read further
WORK_BYTES = (
    4 << 20
)  # of messages of one kind that are being decoded; above this, none is started and only the oldest goes on
LEAST_BYTES = WORK_BYTES // 16  # minimum that counts for a message being decoded, which also limits their number
LARGE_BYTES = 2 << 20  # messages larger than this also wait for those of the other kinds
RECORD_BYTES = 16 << 10  # of a TLS record, for which OpenSSL makes room when its first byte comes
HALF_RECORDS = HELD_BYTES // RECORD_BYTES  # TLS records that are incomplete at the same time
READ_ON = 3  # messages, each of another peer
SMALL_BYTES = 4 << 10  # smaller messages are read even if memory is short
READ_BYTES = 256 << 10  # read from one connection in one turn
CROWD = 16  # active connections; if there are more, CROWD_BYTES are read from each
CROWD_BYTES = 32 << 10
HANDSHAKES = 256  # of TLS at the same time: each may take 200 KiB, and nothing is known of its client
HANDSHAKE_SECONDS = 10
FIRST_SECONDS = 60  # for the first message
IDLE_SECONDS = 300  # without a message; senders reconnect
PATIENCE_SECONDS = 60  # for the rest of a message, and for the client to read an answer
SHORT_PATIENCE_SECONDS = 2  # while memory is short: time for each SHORT_BYTES of a message
SHORT_BYTES = 8 << 10
GIVE_WAY_SECONDS = 1  # a client that was idle for this time can lose its connection to a new client
# Or a client that was slower than SLOW_BYTES per second for SLOW_SECONDS, or silent in a handshake for that time.
SLOW_SECONDS, SLOW_BYTES = 5, 1 << 10


class Turn(NamedTuple):
    """While memory is short: when a connection was last fast enough, and how many bytes it had sent by then."""

    began: float
    held: int


class Clients:
    """All connections. `places`: the maximum number for each kind."""

    def __init__(self, places: Dict[str, int]) -> None:
        self._places = places
        self._by_peer: Dict[str, Dict[str, Set[Connection]]] = {kind: {} for kind in KINDS}
        self._number = dict.fromkeys(KINDS, 0)
        self._handshakes: Set[Connection] = set()
        self._half_records: Dict[Connection, None] = {}  # in the order in which they began
        self._held = dict.fromkeys(KINDS, 0)
        self._short = dict.fromkeys(KINDS, False)
        self._read_on: Dict[str, Dict[Connection, Turn]] = {kind: {} for kind in KINDS}
        self._works: Dict[str, Dict[Connection, None]] = {
            kind: {} for kind in KINDS
        }  # in the order in which they started
        self._served = 0  # number of turns so far
        self._before: Tuple[int, Dict[Tuple[str, ...], int]] = (0, {})  # what in_turn() changed last
        # The number of the last turn of each group of _paths().
        self._turns: Dict[Tuple[str, ...], int] = {(kind,): 0 for kind in KINDS}
        self._sharing: Dict[Tuple[str, ...], int] = collections.Counter()  # connections of each of them

    def __iter__(self) -> Iterator[Connection]:
        for kind in KINDS:
            for connections in list(self._by_peer[kind].values()):
                yield from list(connections)

    def __len__(self) -> int:
        return sum(self._number.values())

    def full(self, kind: str) -> bool:
        return self._number[kind] >= self._places[kind] or self.handshakes_full(kind)

    def handshakes_full(self, kind: str) -> bool:
        """Whether the number of TLS handshakes keeps further clients of a kind from connecting."""
        return kind == NETWORK and len(self._handshakes) >= HANDSHAKES

    def add(self, connection: Connection) -> None:
        connection.served = self._served
        for path in _paths(connection):
            self._sharing[path] += 1
            self._turns.setdefault(path, self._served)
        self._by_peer[connection.kind].setdefault(connection.peer[0], set()).add(connection)
        self._number[connection.kind] += 1
        if connection.handshaking:
            self._handshakes.add(connection)

    def remove(self, connection: Connection) -> None:
        """Remove a connection that is closed. May be called again."""
        connections = self._by_peer[connection.kind].get(connection.peer[0], set())
        if connection not in connections:
            return
        connections.remove(connection)
        self._handshakes.discard(connection)
        self._half_records.pop(connection, None)
        for path in _paths(connection):
            self._sharing[path] -= 1
            if not self._sharing[path] and path[1:]:
                del self._sharing[path], self._turns[path]
        if not connections:
            del self._by_peer[connection.kind][connection.peer[0]]
        self._number[connection.kind] -= 1
        self._held[connection.kind] -= connection.held
        connection.held = 0
        self._read_on[connection.kind].pop(connection, None)
        self._works[connection.kind].pop(connection, None)

    def to_give_way(self, kind: str, peer: Tuple[str, ...], now: float) -> Optional[Connection]:
        """The connection to close for a new one of `peer`; None if all places are in use, and shared fairly.

        That is the connection that was idle for longest of the user, process or address with the most connections, if
        `peer` has fewer. Otherwise, it is one that is idle between two messages or before its first, or very slow. Where only
        further handshakes have no place, it is one of the handshakes.
        """
        connections = self._competing(kind)
        for depth in range(1, len(peer) + 1):
            number = collections.Counter(connection.peer[:depth] for connection in connections)
            largest, most = max(number.items(), key=lambda item: item[1])
            if most > number[peer[:depth]] + 1:
                theirs = (connection for connection in connections if connection.peer[:depth] == largest)
                return min(theirs, key=lambda connection: connection.heard)
        silent = [connection for connection in connections if _gives_way(connection, now)]
        return min(silent, key=lambda connection: connection.heard) if silent else None

    def may_be_taken(self, kind: str, now: float) -> bool:
        """Whether there is, or can be made, a place for one more client of any peer."""
        return not self.full(kind) or any(_gives_way(connection, now) for connection in self._competing(kind))

    def in_turn(self, connections: Iterable[Connection]) -> Iterator[Connection]:
        """The connections in the order in which to serve them: kinds and peers take turns, the last served come last.

        Within a peer, connections in the middle of a message or a handshake come first. A connection counts as served
        when it is yielded, see keep_turn(). One connection of each kind that may go on with its message comes before all others, so that
        those who wait can start theirs.
        """
        wanting = list(connections)
        begun = [set(filter(self.may_work, self._works[kind])).intersection(wanting) for kind in KINDS]
        first = [min(works, key=lambda connection: connection.served) for works in begun if works]
        rest = [connection for connection in wanting if connection not in first]
        for connection in itertools.chain(first, self._take_turns(rest, 0)):
            paths = [path for path in _paths(connection) if path in self._turns]
            self._before = connection.served, {path: self._turns[path] for path in paths}
            self._served += 1
            connection.served = self._served
            self._turns.update(dict.fromkeys(paths, self._served))
            yield connection

    def keep_turn(self, connection: Connection) -> None:
        """Do not count the turn of the connection that was yielded last, if there was no memory to start its message. It comes first when
        there is some, before those that go on with a large one and would use it up again."""
        if all(connection.peer != other.peer for other in self._works[connection.kind]):
            connection.served, turns = self._before
            self._turns.update(turns)

    def _take_turns(self, connections: List[Connection], depth: int) -> Iterator[Connection]:
        groups: Dict[Tuple[str, ...], List[Connection]] = {}
        for connection in connections:
            path = (connection.kind, *connection.peer)
            if depth == len(path):
                yield from sorted(connections, key=_rank)
                return
            groups.setdefault(path[: depth + 1], []).append(connection)
        order = sorted(groups, key=lambda path: self._turns.get(path, 0))
        waiting = collections.deque(self._take_turns(groups[path], depth + 1) for path in order)
        while waiting:
            following = next(waiting[0], None)
            if following is None:
                waiting.popleft()
            else:
                yield following
                waiting.rotate(-1)

    def limit(self, connection: Connection, crowd: int) -> int:
        """How many bytes to read from a connection now, if `crowd` connections are active."""
        if self._short[connection.kind] and connection not in self._read_on[connection.kind]:
            return SMALL_BYTES
        return READ_BYTES if crowd <= CROWD else CROWD_BYTES

    def may_work(self, connection: Connection) -> bool:
        """Whether to decode the message of a connection now: one per peer at a time, and within the memory limits.

        A small message can decode to a large one, so the next one starts only while those in progress are small. Local
        clients do not wait for clients of the network.
        """
        works = self._works[connection.kind]
        size = sum(map(_work_bytes, works))
        if connection in works:
            return next(iter(works)) is connection or size <= WORK_BYTES
        if connection.kind == NETWORK or len(connection.unpacker) > LARGE_BYTES:
            size = sum(sum(map(_work_bytes, others)) for others in self._works.values())
        return size <= WORK_BYTES and all(connection.peer != other.peer for other in works)

    def count_work(self, connection: Connection) -> None:
        """Update the memory that counts for a connection, after its message was decoded in part or as a whole."""
        if connection.work is not None:
            self._works[connection.kind][connection] = None
        else:
            self._works[connection.kind].pop(connection, None)

    def count_held(self, connection: Connection) -> None:
        """Update what counts for a connection after it was read: the bytes of an incomplete message, its handshake, and its TLS record."""
        held = len(connection.unpacker)
        self._held[connection.kind] += held - connection.held
        connection.held = held
        if not connection.handshaking:
            self._handshakes.discard(connection)
        if connection.in_record:
            self._half_records[connection] = None
        else:
            self._half_records.pop(connection, None)

    def surplus_record(self) -> Optional[Connection]:
        """The connection to close where too many have an incomplete TLS record: the oldest one of the peer with the most of them."""
        if len(self._half_records) <= HALF_RECORDS:
            return None
        number = collections.Counter(connection.peer for connection in self._half_records)
        most = max(number.values())
        return next(connection for connection in self._half_records if number[connection.peer] == most)

    def share_memory(self, now: float) -> List[Connection]:
        """Pause reading of most large messages while incomplete messages use too much memory.

        Returns the connections whose state changed. Messages of the peer that uses least memory are read first, so that
        a peer with many messages cannot block the others.
        """
        changed: List[Connection] = []
        for kind in KINDS:
            short = self._held[kind] > (HELD_BYTES // 2 if self._short[kind] else HELD_BYTES)
            if not short and not self._short[kind]:
                continue
            self._short[kind] = short
            large = [connection for connection in self._of(kind) if connection.held >= SMALL_BYTES]
            read_on = self._read_on[kind]
            if short:
                self._choose(large, read_on, now)
            else:
                read_on.clear()
            for connection in large:
                paused = short and connection not in read_on
                if paused != connection.paused:
                    connection.paused = paused
                    if not paused:
                        connection.heard = now
                        connection.since = now
                    changed.append(connection)
        return changed

    def overdue(self, now: float) -> Iterator[Tuple[Connection, str]]:
        """The connections to close because of a timeout, and why; the reason is empty for a client that is only idle."""
        for connection in self:
            why = _overdue(connection, now)
            if why is None:
                why = self._too_slow(connection, now)
            if why is not None:
                yield connection, why

    def _too_slow(self, connection: Connection, now: float) -> Optional[str]:
        """Why to close a connection that is too slow while memory is short and others wait for it; None if it is not."""
        read_on = self._read_on[connection.kind]
        turn = read_on.get(connection)
        if turn is None or now - turn.began < SHORT_PATIENCE_SECONDS:
            return None
        received = connection.held - turn.held
        if received >= SHORT_BYTES:
            read_on[connection] = Turn(now, connection.held)
            return None
        return "memory is short, and only %d bytes of its message came in %d s" % (received, now - turn.began)

    def _of(self, kind: str) -> Iterator[Connection]:
        return itertools.chain.from_iterable(self._by_peer[kind].values())

    def _competing(self, kind: str) -> List[Connection]:
        """The connections of which one can give way to a new one."""
        return list(self._handshakes if self.handshakes_full(kind) else self._of(kind))

    def _choose(self, large: List[Connection], read_on: Dict[Connection, Turn], now: float) -> None:
        for connection in [connection for connection in read_on if connection.held < SMALL_BYTES]:
            del read_on[connection]  # its message is complete
        by_peer: Dict[Tuple[str, ...], int] = collections.Counter()
        for connection in large:
            for depth in range(len(connection.peer)):
                by_peer[connection.peer[: depth + 1]] += connection.held
        taken = {connection.peer for connection in read_on}

        def rank(connection: Connection) -> Tuple[float, ...]:
            peer = connection.peer
            return (
                *(by_peer[peer[: depth + 1]] for depth in range(len(peer))),
                now if connection.since is None else connection.since,
            )

        waiting = (connection for connection in large if connection.peer not in taken)
        for connection in heapq.nsmallest(READ_ON, waiting, key=rank):
            if len(read_on) < READ_ON and connection.peer not in taken:
                taken.add(connection.peer)
                read_on[connection] = Turn(now, connection.held)


def _work_bytes(connection: Connection) -> int:
    return (
        max(connection.work.weight, LEAST_BYTES) + connection.work.encoder.bytes if connection.work is not None else 0
    )


def _paths(connection: Connection) -> List[Tuple[str, ...]]:
    """The groups a connection belongs to, from its kind to its peer."""
    path = (connection.kind, *connection.peer)
    return [path[: depth + 1] for depth in range(len(path))]


def _rank(connection: Connection) -> Tuple[bool, int]:
    return not (connection.held or connection.handshaking), connection.served


def _gives_way(connection: Connection, now: float) -> bool:
    if connection.handshaking:
        return now - connection.heard >= SLOW_SECONDS
    if not connection.owes or connection.since is None:
        return now - connection.heard >= GIVE_WAY_SECONDS
    seconds = now - connection.since
    most = GIVE_WAY_SECONDS if connection.kind == CONFIG else SLOW_SECONDS  # a request is a few bytes
    slow = seconds >= most and connection.held < seconds * SLOW_BYTES
    return not connection.paused and (slow or now - connection.heard >= most)


def _overdue(connection: Connection, now: float) -> Optional[str]:
    if connection.handshaking:
        if now - connection.opened > HANDSHAKE_SECONDS:
            return "no TLS handshake within %d s" % HANDSHAKE_SECONDS
    elif connection.since is not None:
        if now - connection.since > PATIENCE_SECONDS and not connection.paused:
            owed = "the rest of a message" if connection.drained else "reading an answer"
            return "%s is overdue by %d s" % (owed, PATIENCE_SECONDS)
    elif not connection.spoken and now - connection.heard > FIRST_SECONDS:
        return "it sent nothing within %d s" % FIRST_SECONDS
    elif now - connection.heard > IDLE_SECONDS:
        return ""
    return None
