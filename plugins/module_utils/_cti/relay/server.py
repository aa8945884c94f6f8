# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The relay: the Azure Monitor Agent's side of its sockets, in one thread that never waits for a client.

One turn of the loop reads what has arrived, writes it to the sinks, syncs each of them once, and only then
acknowledges. Memory is bounded whatever clients do: so much is read a turn, so much of half messages is held, and a
client is not read from while it owes us the taking of an answer.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..ama import forward
from ..ama.address import CONFIG, DIAGNOSTICS, Tls
from ..ama.chunks import Chunks
from ..ama.msgpack import Unpacker
from ..daemon import Log, Notifier
from ..errors import CtiError, FormatError
from . import segments
from .connection import Connection
from .errors import RelayError, SinkError
from .listeners import Listener, Listeners
from .sinks import MAX_SINKS, Limits, LocalSink, Sinks
from .uploaders import open_uploader
from .uploading import Uploading

TICK_SECONDS = 1.0
TURN_BYTES = 8 << 20  # of records, before they are written and synced
READ_BYTES = 256 << 10  # of one connection in one turn
HELD_BYTES = 32 << 20  # of half messages; with more, memory is short: only the oldest large ones are read on
READ_ON = 8  # so many of them
SMALL_BYTES = 16 << 10  # a message smaller than that gets through all the same
SHORT_PATIENCE_SECONDS = 5  # for those read on, when memory is short
REQUEST_BYTES = 64 << 10
PATIENCE_SECONDS = 60  # for the rest of a message, and for an answer to be taken
STOP_SECONDS = 5  # for an upload under way
SWITCH_SECONDS = 0.0005  # an upload that is being prepared yields to the clients that often
SPARE_DESCRIPTORS = MAX_SINKS + 128  # for all that is no connection
MAX_CONNECTIONS = 4096


class Options(NamedTuple):
    chunks: str
    events: str
    upload: str
    sockets: Optional[str] = None  # folder of socket files instead of abstract names
    listen: Sequence[str] = ()  # further addresses for records
    tls: Tls = Tls()
    allow_users: Sequence[str] = ()
    interval: float = 10.0  # seconds between two uploads of a sink
    limits: Limits = Limits()


class Relay:
    """run() until SIGTERM or SIGINT. Both raise CtiError when it cannot even start."""

    def __init__(self, options: Options, log: Log) -> None:
        self._options = options
        self._log = log
        uploader = open_uploader(options.upload, options.allow_users, options.tls)
        if not os.path.isdir(options.chunks):
            raise RelayError(
                "The folder of config chunks %s is not there; make it, or give another --chunks." % options.chunks
            )
        self._chunks = Chunks(options.chunks, log)
        self._selector = selectors.DefaultSelector()
        self._listeners = Listeners(self._selector, options.sockets, options.allow_users)
        self._sinks = Sinks(options.events, options.limits, log)
        self._notifier = Notifier(os.environ)
        self._waker = _Waker(self._selector)
        self._uploading = Uploading(self._sinks, uploader, options.interval, log, self._waker.wake)
        self._connections: Set[Connection] = set()
        self._max_connections = min(MAX_CONNECTIONS, _descriptors() - SPARE_DESCRIPTORS)
        self._unfinished: Set[Connection] = set()  # have whole messages that were not looked at yet
        self._ended: List[Connection] = []
        self._arrived: Dict[LocalSink, List[Tuple[Connection, str]]] = {}
        self._arrived_bytes = 0
        self._throttled = False  # memory is short
        self._read_on: Set[Connection] = set()
        self._held = 0  # bytes of half messages
        self._turns = 0
        self._stopping = False
        self._started = time.monotonic()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.set_wakeup_fd(self._waker.writer.fileno())
        sys.setswitchinterval(SWITCH_SECONDS)
        self._chunks.refresh()
        for address in [self._listeners.open(role) for role in (CONFIG, DIAGNOSTICS)]:
            self._log("Listening on %s" % str(address))
        for text in self._options.listen:
            self._log("Listening on %s" % str(self._listeners.open_further(text, self._options.tls)))
        self._follow_chunks()
        self._notifier.tell("READY=1")
        self._log("The relay is ready.")
        next_tick = time.monotonic()
        while not self._stopping:
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + min(TICK_SECONDS, self._options.interval)
                self._tick(now)
            self._turn(0 if self._unfinished else max(0.0, next_tick - time.monotonic()))
        self._shut_down()

    # --- one turn

    def _turn(self, timeout: float) -> None:
        ready = self._selector.select(timeout)
        for connection in list(self._unfinished):
            self._guarded(connection, self._messages)
        self._turns += 1
        first = self._turns % len(ready) if ready else 0  # nobody is always the last, whom the turn's limit hits
        for key, mask in ready[first:] + ready[:first]:
            if isinstance(key.data, Listener):
                self._accept(key.data)
            elif isinstance(key.data, _Waker):
                key.data.drain()
                self._uploading.tick()
            elif mask & selectors.EVENT_WRITE:
                self._guarded(key.data, self._write)
            elif self._arrived_bytes < TURN_BYTES and key.data not in self._unfinished:
                self._guarded(key.data, self._read)
        self._commit()
        self._part_with_ended()
        self._throttle()

    def _guarded(self, connection: Connection, action: Any) -> None:
        """Whatever is wrong with one client ends its connection and nothing else."""
        if connection.closed:
            return
        try:
            action(connection)
        except (FormatError, SinkError) as error:
            self._drop(connection, str(error))
        except OSError as error:
            self._drop(connection, error.strerror or str(error))
        except Exception as error:  # a defect of ours that this client has met must not end the others' connections
            self._drop(connection, "%s: %s" % (type(error).__name__, error))
        else:
            self._look_again(connection)

    def _read(self, connection: Connection) -> None:
        limit = SMALL_BYTES if self._throttled and connection not in self._read_on else READ_BYTES
        received = connection.receive(limit)
        if received:
            connection.heard = time.monotonic()
        self._arrived_bytes += received
        if connection.ended:
            self._ended.append(connection)
        self._messages(connection)

    def _messages(self, connection: Connection) -> None:
        """Take the messages that are complete, up to the turn's limit."""
        self._unfinished.discard(connection)
        before = len(connection.unpacker)
        for message in connection.unpacker:
            if connection.config:
                self._answer(connection, message)
            elif message is not None:  # a heartbeat is
                self._store(connection, forward.decode_lazily(message))
            if self._arrived_bytes >= TURN_BYTES:
                self._unfinished.add(connection)
                break
        if len(connection.unpacker) != before:
            connection.since = None

    def _store(self, connection: Connection, batch: forward.Batch) -> None:
        lines = segments.encode(batch.entries)
        sink = self._sinks.sink(batch.tag)
        sink.append(lines)
        self._arrived.setdefault(sink, []).append((connection, batch.chunk))
        self._arrived_bytes += sum(map(len, lines))

    def _commit(self) -> None:
        """The group commit: what arrived in this turn is made safe, then acknowledged."""
        arrived, self._arrived, self._arrived_bytes = self._arrived, {}, 0
        for sink, messages in arrived.items():
            try:
                sink.commit()
            except SinkError as error:
                self._log.complaint("LocalSink %s: %s" % (sink.stream, error))
                for connection, _chunk in messages:
                    if not connection.closed:
                        self._drop(connection, "")
                continue
            for connection, chunk in messages:
                if chunk and not connection.closed:
                    connection.send(forward.ack(chunk))
            for connection in {connection for connection, _chunk in messages}:
                self._guarded(connection, self._write)

    def _write(self, connection: Connection) -> None:
        connection.flush()
        connection.since = None

    def _answer(self, connection: Connection, message: Any) -> None:
        if not isinstance(message, str):
            raise FormatError("a request is one msgpack str that holds JSON")
        try:
            request = json.loads(message)
        except (ValueError, RecursionError):
            request = None
        if isinstance(request, dict) and request.get("Request") == "RelayStatus":
            pieces = [json.dumps(self._status()).encode("ascii")]
        else:
            pieces = self._chunks.answer(request)
        for piece in pieces:
            connection.send(piece)
        connection.flush()

    # --- clients coming and going

    def _accept(self, listener: Listener) -> None:
        accepted, complaints = self._listeners.accept(listener)
        for complaint in complaints:
            self._log.complaint(complaint)
        for sock, name in accepted:
            unpacker = Unpacker(max_bytes=REQUEST_BYTES, max_items=1, max_depth=1) if listener.config else Unpacker()
            connection = Connection(sock, name, unpacker, listener.config)
            self._connections.add(connection)
            connection.watch(self._selector)
        if len(self._connections) >= self._max_connections:
            self._log.complaint("There are %d connections; others wait until some have ended." % len(self._connections))
            self._listeners.pause()

    def _look_again(self, connection: Connection) -> None:
        held = len(connection.unpacker)
        self._held += held - connection.held
        connection.held = held
        if connection.owes and connection.since is None:
            connection.since = time.monotonic()
        connection.watch(self._selector)

    def _part_with_ended(self) -> None:
        """A client that has said all it had to say still gets its answers."""
        staying = []
        for connection in self._ended:
            if connection in self._unfinished or not connection.drained:
                staying.append(connection)
            elif not connection.closed:
                self._drop(connection, "it closed in the middle of a message" if len(connection.unpacker) else "")
        self._ended = [connection for connection in staying if not connection.closed]

    def _drop(self, connection: Connection, why: str) -> None:
        if why:
            self._log.complaint("%s: disconnected: %s" % (connection.name, why))
        for group in (self._unfinished, self._connections, self._read_on):
            group.discard(connection)
        self._held -= connection.held
        connection.held = 0
        connection.close(self._selector)

    def _throttle(self) -> None:
        """When half messages take too much memory, read on only those that began first: each ends, or its time does."""
        if self._held <= HELD_BYTES and not self._throttled:
            return
        self._throttled = self._held > (HELD_BYTES // 2 if self._throttled else HELD_BYTES)
        large = [connection for connection in self._connections if connection.held > SMALL_BYTES]
        self._read_on = set(sorted(large, key=lambda connection: connection.since or 0.0)[:READ_ON])
        for connection in large:
            paused = self._throttled and connection not in self._read_on
            if connection.paused and not paused:
                connection.heard = time.monotonic()
            connection.paused = paused
            connection.watch(self._selector)

    # --- now and then

    def _tick(self, now: float) -> None:
        if self._notifier.watchdog_seconds is not None:
            self._notifier.tell("WATCHDOG=1")
        if self._chunks.refresh():
            self._follow_chunks()
        self._uploading.tick()
        self._end_waiting(now)
        if len(self._connections) < self._max_connections:
            self._listeners.resume()

    def _end_waiting(self, now: float) -> None:
        """Part with clients that owe us something for too long."""
        if self._throttled:
            for connection in list(self._read_on):
                if now - connection.heard > SHORT_PATIENCE_SECONDS:
                    self._drop(connection, "half a message and then silence, while memory is short")
        for connection in list(self._connections):
            if connection.since is not None and now - connection.since > PATIENCE_SECONDS:
                owed = "the rest of a message" if connection.drained else "the taking of an answer"
                self._drop(connection, "%s is overdue by %d s" % (owed, PATIENCE_SECONDS))

    def _follow_chunks(self) -> None:
        """The sockets of the extensions that the chunks name, no more and no fewer."""
        for extension in self._listeners.extensions():
            if extension not in self._chunks.extensions:
                self._listeners.close(extension)
                self._log("No config chunk names %s any more; its socket is closed." % extension)
        for extension in self._chunks.extensions:
            if extension in (CONFIG, DIAGNOSTICS) or extension in self._listeners.extensions():
                continue
            try:
                self._log("Listening on %s" % str(self._listeners.open(extension)))
            except CtiError as error:
                self._log(str(error))

    def _status(self) -> Dict[str, Any]:
        return {
            "Request": "RelayStatus",
            "Success": True,
            "Pid": os.getpid(),
            "UptimeSeconds": int(time.monotonic() - self._started),
            "Connections": len(self._connections),
            "Extensions": self._chunks.extensions,
            "Upload": self._options.upload,
            "Sinks": [
                {
                    "Stream": sink.stream,
                    "Rows": sink.rows,
                    "Bytes": sink.size,
                    "Received": sink.received,
                    "Delivered": sink.delivered,
                    "Dropped": sink.dropped,
                    "Refused": sink.refused,
                    "UploadError": self._uploading.error(sink.stream),
                }
                for sink in self._sinks
            ],
        }

    def _stop(self, *_signal: Any) -> None:
        self._stopping = True

    def _shut_down(self) -> None:
        self._notifier.tell("STOPPING=1")
        self._listeners.close_all()
        for connection in list(self._connections):
            self._drop(connection, "")
        self._uploading.stop(STOP_SECONDS)
        self._sinks.close()
        signal.set_wakeup_fd(-1)
        self._log("The relay has stopped; %d rows wait for the next start." % sum(sink.rows for sink in self._sinks))


class _Waker:
    """Ends the selector's wait, from another thread or a signal handler."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._reader, self.writer = socket.socketpair()
        self._reader.setblocking(False)
        self.writer.setblocking(False)
        selector.register(self._reader, selectors.EVENT_READ, self)

    def wake(self) -> None:
        try:
            self.writer.send(b"\0")
        except BlockingIOError:  # it is being woken already
            pass

    def drain(self) -> None:
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass


def _descriptors() -> int:
    """How many files this process may have open, after asking for as many as it may ask for."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + SPARE_DESCRIPTORS
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
