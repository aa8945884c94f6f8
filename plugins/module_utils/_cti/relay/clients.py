# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The connected clients, and what each may use: connections, memory, turns and time.

The three kinds of listeners do not share: strangers at a network port take neither a place nor memory from the host's
own clients at a unix socket, nor from those that ask for configuration. Within a kind, peers take turns, and where
something is short the peer that has most of it gives way.
"""

import collections
import heapq
import itertools
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from .connection import Connection

CONFIG = "config"  # asks for configuration
LOCAL = "local"  # brings records to a unix socket
NETWORK = "network"  # brings records over tcp or tls
KINDS = (CONFIG, LOCAL, NETWORK)

HELD_BYTES = 12 << 20  # of half messages of one kind; with more, memory is short: only few large ones are read on
WORK_BYTES = (
    4 << 20
)  # of messages of one kind that are being read; with more, none is begun and only the oldest read on
LEAST_BYTES = WORK_BYTES // 16  # of a message that is being read: what its decoder takes, and a bound for their number
LARGE_BYTES = 2 << 20  # before a message that may be that large is begun, those of the other kinds count as well
READ_ON = 3  # so many of them, each of another peer
SMALL_BYTES = 4 << 10  # a message smaller than that gets through all the same
READ_BYTES = 256 << 10  # of one connection in one turn
CROWD = 16  # with more connections that have something to say, each says less at a time:
CROWD_BYTES = 32 << 10
HANDSHAKE_SECONDS = 10
FIRST_SECONDS = 60  # until a client says anything
IDLE_SECONDS = 300  # between two messages; senders connect again
PATIENCE_SECONDS = 60  # for the rest of a message, and for an answer to be taken
SHORT_PATIENCE_SECONDS = 2  # while memory is short, for each further SHORT_BYTES of those that are read on
SHORT_BYTES = 8 << 10
GIVE_WAY_SECONDS = 1  # so long a client was silent that gives its place to one that comes
SLOW_SECONDS, SLOW_BYTES = 5, 1 << 10  # or slower than that many bytes a second, for so long


class Turn(NamedTuple):
    """When a connection was last seen to be quick enough, while memory is short, and what it had sent by then."""

    began: float
    held: int


class Clients:
    """All connections. `places`: how many there may be of each kind."""

    def __init__(self, places: Dict[str, int]) -> None:
        self._places = places
        self._by_peer: Dict[str, Dict[str, Set[Connection]]] = {kind: {} for kind in KINDS}
        self._number = dict.fromkeys(KINDS, 0)
        self._held = dict.fromkeys(KINDS, 0)
        self._short = dict.fromkeys(KINDS, False)
        self._read_on: Dict[str, Dict[Connection, Turn]] = {kind: {} for kind in KINDS}
        self._works: Dict[str, Dict[Connection, None]] = {kind: {} for kind in KINDS}  # in the order they began
        self._served = 0  # rises with each connection that gets its turn
        # When each group of _paths() had its last turn.
        self._turns: Dict[Tuple[str, ...], int] = {(kind,): 0 for kind in KINDS}
        self._sharing: Dict[Tuple[str, ...], int] = collections.Counter()  # connections of each of them

    def __iter__(self) -> Iterator[Connection]:
        for kind in KINDS:
            for connections in list(self._by_peer[kind].values()):
                yield from list(connections)

    def __len__(self) -> int:
        return sum(self._number.values())

    def full(self, kind: str) -> bool:
        return self._number[kind] >= self._places[kind]

    def add(self, connection: Connection) -> None:
        connection.served = self._served
        for path in _paths(connection):
            self._sharing[path] += 1
            self._turns.setdefault(path, self._served)
        self._by_peer[connection.kind].setdefault(connection.peer[0], set()).add(connection)
        self._number[connection.kind] += 1

    def remove(self, connection: Connection) -> None:
        """It is closed. May be called again."""
        connections = self._by_peer[connection.kind].get(connection.peer[0], set())
        if connection not in connections:
            return
        connections.remove(connection)
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
        """The connection that makes place for one more of `peer`, or None: all places are in use, and fairly.

        That is the longest silent one of the peer with the most connections, if that is another user, process or address;
        else one that is silent between two messages or before its first, or very slow with one.
        """
        for depth in range(1, len(peer) + 1):
            number = collections.Counter(connection.peer[:depth] for connection in self._of(kind))
            largest, most = max(number.items(), key=lambda item: item[1])
            if most > number[peer[:depth]] + 1:
                theirs = (connection for connection in self._of(kind) if connection.peer[:depth] == largest)
                return min(theirs, key=lambda connection: connection.heard)
        silent = [connection for connection in self._of(kind) if _gives_way(connection, now)]
        return min(silent, key=lambda connection: connection.heard) if silent else None

    def may_be_taken(self, kind: str, now: float) -> bool:
        """Whether there is a place for one more client, whoever that is."""
        return not self.full(kind) or any(_gives_way(connection, now) for connection in self._of(kind))

    def in_turn(self, connections: Iterable[Connection]) -> Iterator[Connection]:
        """Kind by kind, in each peer by peer, beginning with those that had their last turn longest ago.

        Of one peer those come first that are in the middle of a message or of a handshake: what was begun gets done.
        A connection counts as served when it is yielded. Before all others, of each kind one goes on whose message is
        being read: when that is done, it is for those who waited to begin the next one, not for its own peer.
        """
        wanting = list(connections)
        begun = [works for works in (set(self._works[kind]).intersection(wanting) for kind in KINDS) if works]
        first = [min(works, key=lambda connection: connection.served) for works in begun]
        rest = [connection for connection in wanting if connection not in first]
        for connection in itertools.chain(first, self._take_turns(rest, 0)):
            self._served += 1
            connection.served = self._served
            self._turns.update((path, self._served) for path in _paths(connection) if path in self._turns)
            yield connection

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
        """How many bytes may be read from it now, where `crowd` connections have something to say."""
        if self._short[connection.kind] and connection not in self._read_on[connection.kind]:
            return SMALL_BYTES
        return READ_BYTES if crowd <= CROWD else CROWD_BYTES

    def may_work(self, connection: Connection) -> bool:
        """Whether it is the turn of its message: of a peer one is read at a time, and all take limited memory.

        A small message may become a large one, so the next one is begun only where those under way are small. Local
        clients do not wait for those of the network.
        """
        works = self._works[connection.kind]
        size = sum(map(_work_bytes, works))
        if connection in works:
            return next(iter(works)) is connection or size <= WORK_BYTES
        if connection.kind == NETWORK or len(connection.unpacker) > LARGE_BYTES:
            size = sum(sum(map(_work_bytes, others)) for others in self._works.values())
        return size <= WORK_BYTES and all(connection.peer != other.peer for other in works)

    def count_work(self, connection: Connection) -> None:
        """After a part of a message was read, or all of it."""
        if connection.work is not None:
            self._works[connection.kind][connection] = None
        else:
            self._works[connection.kind].pop(connection, None)

    def count_held(self, connection: Connection) -> None:
        held = len(connection.unpacker)
        self._held[connection.kind] += held - connection.held
        connection.held = held

    def share_memory(self, now: float) -> List[Connection]:
        """Where half messages take too much memory, read on only few of the large ones; the connections to watch anew.

        Those of the peer that holds least come first, so that a peer with many cannot keep the others waiting.
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
        """The connections whose time is over, and why: empty where a client merely had nothing more to say."""
        for connection in self:
            why = _overdue(connection, now)
            if why is None:
                why = self._too_slow(connection, now)
            if why is not None:
                yield connection, why

    def _too_slow(self, connection: Connection, now: float) -> Optional[str]:
        """Of those that are read on while memory is short, for which others wait."""
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
