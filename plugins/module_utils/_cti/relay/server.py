# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The relay: the Azure Monitor Agent's side of its sockets, in one thread that never waits for a client.

One turn of the loop reads what has arrived, writes it to the sinks, syncs each sink once, and only then acknowledges.
Memory is limited whatever clients do: there are limits for what is read per turn and for incomplete messages, and nothing
is read from a client that has not read its answers. The time of a turn is limited, too: clients that were not served come
first in the next turn. `clients` decides whose turn it is.
"""

import json
import os
import selectors
import signal
import sys
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ..daemon import ERROR, Log, Notifier
from ..errors import FormatError
from ..fleet.retention import KEEP_DAYS
from ..fleet.store import shown
from ..text import load_json, plural
from ..wire import forward
from ..wire.ama import CONFIG, DIAGNOSTICS
from ..wire.msgpack import Unpacker
from ..wire.tls import Tls
from . import clients, known, segments
from .clients import Clients
from .configuration import Configuration, open_chunks
from .connection import Client, Connection, Work
from .destinations import open_uploader
from .errors import SinkError, StorageError
from .known import KnownMessages
from .listeners import Listener, Listeners
from .refused import Refused, outline
from .sinks import MAX_NAMED, MAX_SINKS, Limits, LocalSink, Sinks
from .uploads import Uploading
from .waker import Waker

TICK_SECONDS = 1.0
TURN_BYTES = 4 << 20  # of records, after which they are written and synced
TURN_SECONDS = 0.05  # of reading, after which records are written and acknowledged
SLICE_SECONDS = 0.02  # of a turn for one client
ACKS_BYTES = 4 << 10  # that wait for one client, above which no more of its messages are processed
ACCEPTED_AT_ONCE = 64  # by one listener in one turn
REQUEST_BYTES = 4 << 10  # of a request for configuration, which has about 200
MESSAGE_VALUES = 1 << 17  # of a message that is not packed; a value of one byte takes VALUE_BYTES in memory
VALUE_BYTES = 100
DECODED_BYTES = 40 << 20  # of a message that is not packed: it may be all text, and a character takes up to four bytes
STOP_SECONDS = 5  # to wait for a running upload
SWITCH_SECONDS = 0.0005  # interval at which the thread of the upload yields to the clients
SPARE_DESCRIPTORS = MAX_SINKS + MAX_NAMED + 64  # for files other than connections
MAX_CONNECTIONS = 4096
MIN_CONNECTIONS = 64
ACK_BYTES = 16  # of an acknowledgement, besides its chunk
SHOWN_TAG = 200  # characters of a tag in a log message


class RelayOptions(NamedTuple):
    chunks: str
    events: str
    upload: str
    sockets: Optional[str] = None  # directory of socket files, instead of abstract names
    listen: Sequence[str] = ()  # additional addresses for records
    tls: Tls = Tls()
    allow_users: Sequence[str] = ()
    interval: float = 10.0  # seconds between two uploads of a sink
    limits: Limits = Limits()
    keep_days: int = KEEP_DAYS  # of changes in SQLite tables
    azure: Optional[Mapping[str, str]] = None  # fields of the Identity for azure:...


class Relay:
    """The relay as a service: run() returns after SIGTERM or SIGINT. Raises CtiError if it cannot start."""

    def __init__(self, options: RelayOptions, log: Log) -> None:
        self._options = options
        self._log = log
        uploader = open_uploader(options.upload, options.allow_users, options.tls, options.keep_days, options.azure)
        chunks = open_chunks(options.chunks, log)
        self._selector = selectors.DefaultSelector()
        self._listeners = Listeners(self._selector, options.sockets, options.allow_users, log.warning)
        self._sinks = Sinks(options.events, options.limits, log.error)
        self._configuration = Configuration(chunks, self._listeners, self._sinks, log)
        self._refused = Refused(self._sinks.folder)
        self._notifier = Notifier(os.environ)
        self._waker = Waker(self._selector)
        self._uploading = Uploading(self._sinks, uploader, self._refused, options.interval, log, self._waker.wake)
        self._clients = Clients(_places())
        self._storage_error = ""  # why records were not stored, until some are
        self._keys: Dict[bytes, Any] = {}  # of records, for all connections
        self._unfinished: Set[Connection] = set()  # have complete messages that were not processed yet
        self._ended: List[Connection] = []
        self._arrived: Dict[Optional[LocalSink], List[Tuple[Connection, str, bytes]]] = {}
        self._arrived_bytes = 0
        self._known = KnownMessages()
        self._awaits_handshakes = False  # whether clients of the network wait until TLS handshakes end
        self._stopping = False
        self._started = time.monotonic()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.set_wakeup_fd(self._waker.writer.fileno())
        sys.setswitchinterval(SWITCH_SECONDS)
        self._configuration.refresh()
        for address in [self._listeners.open(role) for role in (CONFIG, DIAGNOSTICS)]:
            self._log("Listening on %s" % str(address))
        for text in self._options.listen:
            self._log("Listening on %s" % str(self._listeners.open_further(text, self._options.tls)))
        self._configuration.follow()
        self._notifier.notify("READY=1")
        self._log("The relay is ready.")
        next_tick = time.monotonic()
        while not self._stopping:
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + min(TICK_SECONDS, self._options.interval)
                self._tick(now)
            self._turn(0 if self._waits_for_us() else max(0.0, next_tick - time.monotonic()))
        self._shut_down()

    # --- one turn

    def _waits_for_us(self) -> bool:
        return any(_can_go_on(connection) for connection in self._unfinished)

    def _turn(self, timeout: float) -> None:
        ready = self._selector.select(timeout)
        wanting = set(filter(_can_go_on, self._unfinished))
        for key, mask in ready:
            if isinstance(key.data, Listener):
                self._accept(key.data)
            elif isinstance(key.data, Waker):
                key.data.drain()
                self._uploading.tick()
            elif mask & selectors.EVENT_WRITE and not (key.data.handshaking or key.data.wants_write):
                self._guarded(key.data, self._write)
            else:
                wanting.add(key.data)
        now = time.monotonic()
        for connection in wanting:
            connection.heard = now  # it waits for the relay, so it is not idle
        end = now + TURN_SECONDS
        kinds = {connection.kind for connection in wanting}  # that had no turn yet
        for connection in self._clients.in_turn(wanting):
            self._guarded(connection, self._messages if connection in self._unfinished else self._read, len(wanting))
            kinds.discard(connection.kind)
            if self._arrived_bytes >= TURN_BYTES:
                self._commit()
            if not kinds and time.monotonic() >= end:
                break
        self._commit()
        self._close_ended()
        for connection in self._clients.share_memory(time.monotonic()):
            connection.watch(self._selector)
        if self._awaits_handshakes and not self._clients.full(clients.NETWORK):
            self._awaits_handshakes = False
            self._listeners.resume(clients.NETWORK)

    def _guarded(self, connection: Connection, action: Callable[..., None], *arguments: Any) -> None:
        """Run an action for a client. An error ends the connection of this client and affects no other."""
        if connection.closed:
            return
        try:
            action(connection, *arguments)
        except (FormatError, SinkError) as error:
            if isinstance(error, StorageError):
                self._storage_error = str(error)
            self._drop(connection, str(error))
        except OSError as error:
            self._drop(connection, error.strerror or str(error))
        except Exception as error:  # a defect that one client triggers must not end the other connections
            self._drop(connection, "%s: %s" % (type(error).__name__, error))
        else:
            self._clients.count_held(connection)
            if connection.owes and connection.since is None:
                connection.since = time.monotonic()
            connection.watch(self._selector)
            surplus = self._clients.surplus_record()
            if surplus is not None:
                self._drop(
                    surplus, "%d TLS records are incomplete, and this one for the longest time" % clients.HALF_RECORDS
                )

    def _read(self, connection: Connection, crowd: int) -> None:
        received = connection.receive(self._clients.limit(connection, crowd))
        if received:
            connection.heard = time.monotonic()
        self._arrived_bytes += received
        if connection.ended:
            self._ended.append(connection)
        self._messages(connection, crowd)

    def _messages(self, connection: Connection, _crowd: int) -> None:
        """Process complete messages, up to the limits of the turn and of the client."""
        self._unfinished.discard(connection)
        unacknowledged = 0
        end = time.monotonic() + SLICE_SECONDS
        if connection.work is None and not self._clients.may_work(connection):
            self._clients.keep_turn(connection)
        while self._clients.may_work(connection):
            if connection.work is None and not self._next_message(connection):
                return
            if connection.work is not None:
                done = connection.work.encoder.advance(end)
                unacknowledged += self._store(connection, connection.work) if done else 0
                self._clients.count_work(connection)
            enough = self._arrived_bytes >= TURN_BYTES or unacknowledged >= ACKS_BYTES or not connection.drained
            if enough or time.monotonic() >= end:
                break
        self._unfinished.add(connection)

    def _next_message(self, connection: Connection) -> bool:
        """Start with the next complete message. Returns whether there is one."""
        before = len(connection.unpacker)
        for message in connection.unpacker:
            connection.since = None
            connection.spoken = True
            if connection.kind == clients.CONFIG:
                self._answer(connection, message)
            elif message is not None:  # None is a heartbeat
                batch = forward.decode_lazily(message)
                sink = self._sinks.get(batch.tag)
                if sink is not None:
                    sink.check_space(0, connection.kind == clients.NETWORK)
                encoder = segments.Encoder(batch.entries, self._set_aside(connection, batch.tag))
                size = before - len(connection.unpacker)
                weight = min(size * VALUE_BYTES, DECODED_BYTES) if isinstance(batch.entries, list) else size
                connection.work = Work(batch.tag, batch.chunk, batch.entries, encoder, weight)
            return True
        return False

    def _set_aside(self, connection: Connection, tag: str) -> Callable[[segments.Entry, str], None]:
        def set_aside(entry: segments.Entry, reason: str) -> None:
            self._refused.add(tag, (entry[0], outline(entry[1])), reason)
            self._sinks.sink(tag, connection.peer[0]).set_aside += 1
            self._log.about_client(
                "%s: a record with the tag %s was set aside in %s: %s"
                % (connection.name, tag[:SHOWN_TAG], self._refused.path, reason)
            )

        return set_aside

    def _store(self, connection: Connection, work: Work) -> int:
        """Pass a message that was read to its sink. Returns the size of its acknowledgement in bytes."""
        connection.work = None
        lines = work.encoder.lines
        mark = known.mark(work.tag, work.entries, lines)
        sink = None
        if mark in self._known:
            self._sinks.sink(work.tag, connection.peer[0]).known += len(lines)
        elif lines:
            sink = self._sinks.sink(work.tag, connection.peer[0])
            sink.append(lines, connection.kind == clients.NETWORK)
        self._arrived.setdefault(sink, []).append((connection, work.chunk, mark))
        self._arrived_bytes += work.encoder.bytes
        return len(work.chunk) + ACK_BYTES if work.chunk else 0

    def _commit(self) -> None:
        """Write and sync what arrived in this turn, then acknowledge it."""
        arrived, self._arrived, self._arrived_bytes = self._arrived, {}, 0
        for sink, messages in arrived.items():
            try:
                if sink is not None:
                    sink.commit()
                    self._storage_error = ""
            except SinkError as error:
                self._storage_error = str(error)
                self._log.about_client("LocalSink %s: %s" % (sink.stream if sink else "", error), ERROR)
                for connection, _chunk, _mark in messages:
                    if not connection.closed:
                        self._drop(connection, "")
                continue
            acks: Dict[Connection, List[bytes]] = {}
            for connection, chunk, mark in messages:
                self._known.add(mark)
                acks.setdefault(connection, []).append(forward.ack(chunk) if chunk else b"")
            for connection, answers in acks.items():
                if not connection.closed:
                    connection.send(b"".join(answers))
                    self._guarded(connection, self._write)

    def _write(self, connection: Connection) -> None:
        connection.flush()
        if connection.drained:
            connection.since = None

    def _answer(self, connection: Connection, message: Any) -> None:
        if not isinstance(message, str):
            raise FormatError("a request is one msgpack str that holds JSON")
        try:
            request = load_json(message)
        except (ValueError, RecursionError):
            request = None
        if isinstance(request, dict) and request.get("Request") == "RelayStatus":
            pieces = [json.dumps(self._status()).encode("ascii")]
        else:
            pieces = self._configuration.answer(request)
        for piece in pieces:
            connection.send(piece)
        connection.flush()

    # --- clients coming and going

    def _accept(self, listener: Listener) -> None:
        for _unused in range(ACCEPTED_AT_ONCE):
            client = self._listeners.accept(listener, self._log.about_client)
            if client is None:
                return
            placed = not self._clients.full(client.kind) or self._make_place(client)
            unpacker = (
                Unpacker(max_bytes=REQUEST_BYTES, max_items=1, max_depth=1)
                if client.kind == clients.CONFIG
                else Unpacker(max_items=MESSAGE_VALUES, keys=self._keys)
            )
            connection = Connection(client, unpacker)
            self._clients.add(connection)
            connection.watch(self._selector)
            if not placed:
                self._awaits_handshakes |= self._clients.handshakes_full(client.kind)
                self._listeners.pause(client.kind)
                return

    def _make_place(self, client: Client) -> bool:
        other = self._clients.to_give_way(client.kind, client.peer, time.monotonic())
        used = "All connections for %s clients are in use" % client.kind
        if self._clients.handshakes_full(client.kind):
            used = "All %d TLS handshakes at the same time are in use" % clients.HANDSHAKES
        if other is None:
            self._log.about_client(used + ". Further clients wait until some end.")
            return False
        self._drop(other, "%s, and this one was idle for the longest time" % used)
        return True

    def _close_ended(self) -> None:
        """Close connections whose clients have closed their side, once all answers are sent."""
        staying = []
        for connection in self._ended:
            if connection in self._unfinished or not connection.drained:
                staying.append(connection)
            elif not connection.closed:
                self._drop(
                    connection,
                    "it closed the connection in the middle of a message" if len(connection.unpacker) else "",
                )
        self._ended = [connection for connection in staying if not connection.closed]

    def _drop(self, connection: Connection, why: str) -> None:
        if why:
            self._log.about_client("%s: disconnected: %s" % (connection.name, why))
        self._unfinished.discard(connection)
        self._clients.remove(connection)
        connection.close(self._selector)

    # --- now and then

    def _tick(self, now: float) -> None:
        if self._notifier.watchdog_seconds is not None:
            self._notifier.notify("WATCHDOG=1")
        if self._configuration.refresh():
            self._configuration.follow()
        self._uploading.tick()
        self._sinks.remove_unused()
        for connection, why in list(self._clients.overdue(now)):
            self._drop(connection, why)
        for kind in clients.KINDS:
            if self._clients.may_be_taken(kind, now):
                self._listeners.resume(kind)

    def _status(self) -> Dict[str, Any]:
        return {
            "Request": "RelayStatus",
            "Success": True,
            "Pid": os.getpid(),
            "UptimeSeconds": int(time.monotonic() - self._started),
            "Connections": len(self._clients),
            "Extensions": self._configuration.extensions,
            "Upload": shown(self._options.upload),
            "StorageError": self._storage_error,
            "Sinks": [
                {
                    "Stream": sink.stream,
                    "Rows": sink.rows,
                    "Bytes": sink.size,
                    "Received": sink.received,
                    "Known": sink.known,
                    "Delivered": sink.delivered,
                    "Dropped": sink.dropped,
                    "Refused": sink.refused,
                    "Full": sink.full,
                    "SetAside": sink.set_aside,
                    "UploadError": self._uploading.error(sink.stream),
                }
                for sink in self._sinks
            ],
        }

    def _stop(self, *_signal: Any) -> None:
        self._stopping = True

    def _shut_down(self) -> None:
        self._notifier.notify("STOPPING=1")
        self._listeners.close_all()
        for connection in self._clients:
            self._drop(connection, "")
        self._uploading.stop(STOP_SECONDS)
        self._sinks.close()
        signal.set_wakeup_fd(-1)
        rows = sum(sink.rows for sink in self._sinks)
        self._log("The relay has stopped. %s for the next start." % plural(rows, "row", "waits"))


def _can_go_on(connection: Connection) -> bool:
    """Whether to serve a client: not if it takes no answers, unless its message is being read, which holds memory."""
    return connection.drained or connection.work is not None


def _places() -> Dict[str, int]:
    """How many clients of each kind may be connected, after raising the limit of open files."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + SPARE_DESCRIPTORS
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, soft - SPARE_DESCRIPTORS))
    return {clients.CONFIG: most // 16, clients.LOCAL: most * 3 // 8, clients.NETWORK: most * 9 // 16}
