# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile clients of the relay, as a process of their own: python floods.py NAME ADDRESS [COUNT].

Prints a line once the flood is on, and goes on until it is killed. ADDRESS: a socket file, or host:port of a port of
this machine. Each flood is a function of a Target.
"""

import ctypes
import gzip
import itertools
import os
import resource
import signal
import socket
import ssl
import struct
import sys
import time

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import pack

COUNT = 400  # connections, where a flood is one of connections
MIB = 1 << 20
EMPTY_MEMBER = gzip.compress(b"", 9)[:10] + b"\x03\x00" + b"\0" * 8
ENTRY = [1700000000, {"k": "v"}]


class Target:
    def __init__(self, text, count):
        host, colon, port = text.rpartition(":")
        self.address = (host, int(port)) if colon else text
        self.count = count

    def connect(self):
        while True:
            sock = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
            sock.settimeout(30)
            try:
                sock.connect(self.address)
                return sock
            except OSError:  # its queue is full
                sock.close()
                time.sleep(0.01)

    def crowd(self):
        return [self.connect() for _unused in range(self.count)]


def is_on():
    sys.stdout.write("on\n")
    sys.stdout.flush()


def offer(sock, data):
    """Send what fits; how much, or None where the connection is gone."""
    sock.setblocking(False)
    try:
        return sock.send(data)
    except (BlockingIOError, InterruptedError):
        return 0
    except OSError:
        return None


def push(target, socks, messages):
    """Each connection sends one message after the other, and reads nothing; who is disconnected comes again."""
    rest = {}
    while True:
        busy = False
        for at, sock in enumerate(socks):
            data = rest.get(at) or memoryview(next(messages))
            sent = offer(sock, data)
            if sent is None:
                sock.close()
                socks[at] = target.connect()
                rest.pop(at, None)
                continue
            busy = busy or sent > 0
            rest[at] = data[sent:]
        is_on_once()
        if not busy:
            time.sleep(0.005)


_said = []


def is_on_once():
    if not _said:
        _said.append(True)
        is_on()


def stay(socks):
    is_on()
    while True:
        time.sleep(60)
        len(socks)


# --- connections


def silent(target):
    stay(target.crowd())


def reconnecting(target):
    for number in itertools.count():
        sock = target.connect()
        if number == 300:
            is_on()
        if number % 2:
            offer(sock, b"\x93\xa1t")
        sock.close()


def handshakes(target):
    """TLS handshakes that are begun and never ended."""
    socks = target.crowd()
    context = ssl.create_default_context()
    for sock in socks:
        outgoing = ssl.MemoryBIO()
        client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            offer(sock, outgoing.read())
    stay(socks)


def hellos(target):
    """TLS handshakes of which only the head comes. It announces as much as OpenSSL takes, which makes room for that at once."""
    target.count *= 5
    socks = target.crowd()
    for sock in socks:
        offer(sock, b"\x16\x03\x01\x00\x04" + b"\x01" + struct.pack(">I", 128 << 10)[1:])
    stay(socks)


def handshake_storm(target):
    """TLS handshakes, one after the other, each made whole."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for number in itertools.count():
        sock = target.connect()
        try:
            context.wrap_socket(sock).close()
        except OSError:
            sock.close()
        if number == 20:
            is_on()


def half_records(target):
    """TLS records of which the end never comes, after whole handshakes."""
    target.count = target.count * 5 // 2
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    socks = []
    for _unused in range(target.count):
        sock = context.wrap_socket(target.connect())
        socks.append(sock)
        raw = socket.socket(fileno=os.dup(sock.fileno()))
        offer(raw, b"\x17\x03\x03\x40\x00" + b"x" * 16000)
        raw.close()
    stay(socks)


# --- half messages


def halves(target):
    """A thousandth of all that was announced never comes."""
    push(target, target.crowd(), itertools.repeat(b"\x92\xa1t\xc6" + struct.pack(">I", MIB) + b"x" * (MIB - 1000)))


def small_halves(target):
    socks = target.crowd()
    for sock in socks:
        offer(sock, b"\x92\xa1t\xc6" + struct.pack(">I", MIB) + b"x" * 4000)
    stay(socks)


def dripping(target):
    socks = target.crowd()
    for sock in socks:
        offer(sock, b"\x92\xa1t\xc6" + struct.pack(">I", MIB))
    is_on()
    while True:
        for at, sock in enumerate(socks):
            if offer(sock, b"x") is None:
                sock.close()
                socks[at] = target.connect()
        time.sleep(0.05)


# --- whole messages, and answers that nobody takes


def deaf(target):
    push(target, target.crowd(), itertools.repeat(pack(["t", [], {"chunk": "c" * 1000}]) * 100))


def heartbeats(target):
    push(target, [target.connect() for _unused in range(20)], itertools.repeat(b"\xc0" * MIB))


def empty(target):
    push(target, [target.connect() for _unused in range(20)], itertools.repeat(pack(["t", []]) * 1000))


def garbage(target):
    push(target, [target.connect() for _unused in range(50)], (os.urandom(1000) for _unused in itertools.count()))


def values(target):
    """As many values as a message may have, each of one byte."""
    body = pack([0, {"k": [None] * 65000}]) * 2
    whole = pack(["t", [[0, {"k": [{}] * 60000}] for _unused in range(2)]])
    push(target, [target.connect() for _unused in range(20)], itertools.cycle([pack(["t", body]), whole]))


def packed_values(target):
    body = gzip.compress(pack([0, {"a": None, "b": {}}]) * 120000)
    push(
        target, [target.connect() for _unused in range(20)], itertools.repeat(pack(["t", body, {"compressed": "gzip"}]))
    )


def members(target):
    body = EMPTY_MEMBER * (9 * MIB // len(EMPTY_MEMBER))
    push(
        target, [target.connect() for _unused in range(20)], itertools.repeat(pack(["t", body, {"compressed": "gzip"}]))
    )


def texts(target):
    """Large texts that take many times as much as text, or as JSON."""
    huge = "\U0001f600" + "x" * (9 * MIB)
    messages = [pack(["t", [[0, {"v": text}]]]) for text in (huge, "\x01" * (9 * MIB), "\x01" * (600 << 10))]
    messages.append(pack(["t", [[0, {"v": "\x01" * 10000}] for _unused in range(400)]]))
    messages.append(pack(["t", [[0, {"\x01" * (2 * MIB): ""}]]]))
    push(target, [target.connect() for _unused in range(20)], itertools.cycle(messages))


AMPLIFIED = gzip.compress(pack([0, {"k": "\x01" * 119000}]) * 22)  # 3 KiB, and 15 MiB of JSON
TOO_LARGE = gzip.compress(pack([0, {"k": "\x01" * 119000}]) * 34)


def amplified(target):
    """A few kibibytes of gzip that become as much JSON as one message may have, or more."""
    messages = [pack(["t", packed, {"compressed": "gzip"}]) for packed in (AMPLIFIED, TOO_LARGE)]
    push(target, [target.connect()], itertools.cycle(messages))


def amplified_processes(target):
    """The same by many processes of one user."""
    messages = [pack(["t", packed, {"compressed": "gzip"}]) for packed in (AMPLIFIED, TOO_LARGE)]
    parent = os.getpid()
    for _unused in range(PROCESSES):
        if not os.fork():
            _end_with(parent)
            _said.append(True)
            push(target, [target.connect()], itertools.cycle(messages))
    push(target, [target.connect()], itertools.cycle(messages))


PROCESSES = 8


def _end_with(parent):
    """Have the kernel end this process when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def keys(target):
    """Records whose keys are always new ones: many, and large."""

    def messages():
        for number in itertools.count():
            yield pack(["t", [[0, {"%d-%d" % (number, n): "" for n in range(9000)}] for _unused in range(3)]])
            yield pack(["t", [[0, {"%d" % number + "k" * MIB: "v"}]]])

    push(target, [target.connect() for _unused in range(20)], messages())


def many_keys(target):
    record = {"%d" % number: "" for number in range(100000)}
    push(target, [target.connect() for _unused in range(20)], itertools.repeat(pack(["t", [[0, record]]])))


def tags(target):
    """Every message has a tag of its own."""
    push(
        target,
        [target.connect() for _unused in range(20)],
        (pack(["tag %d" % number, [ENTRY]]) for number in itertools.count()),
    )


# --- requests for configuration


def requests(target):
    """Both kinds of request, and no answer is taken."""
    texts = [
        '{"Request":"AgentTaggedData","RequestId":"1","Tag":"ChangeTracking-Linux"}',
        '{"Request":"RelayStatus"}',
        "[" * 4000,
        '{"a":' + "1" * 4000 + "}",
    ]
    push(target, target.crowd(), itertools.cycle([pack(text) for text in texts]))


def half_requests(target):
    socks = target.crowd()
    for sock in socks:
        offer(sock, pack("x" * 4000)[:-1])
    stay(socks)


def main(name, address, count=COUNT):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    os.nice(5)
    globals()[name](Target(address, int(count)))


if __name__ == "__main__":
    main(*sys.argv[1:])
