# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay as its users run it."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import address, msgpack, sockets
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.sender import Sender
from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE, Program

EXTENSION = "ChangeTracking-Linux"


class Relay(Program):
    """One place (folders, sockets, database) in which relays run one after the other."""

    def __init__(self, zipapp, folder):
        super().__init__(zipapp)
        self.folder = folder
        self.chunks = folder / "chunks"
        self.events = folder / "events"
        self.sockets = folder / "s"
        self.database = folder / "relay.db"
        self.chunks.mkdir()

    def put_chunk(self, name, *dcrs, extension=EXTENSION, settings=None):
        elements = [
            {
                "id": "dcr-%s:CTDataSource-Linux" % dcr,
                "originIds": ["/subscriptions/s/dataCollectionRules/%s" % dcr],
                "extensionSettings": settings or {},
                "outputStreams": {
                    stream: "dcr-%s:CTDataSource-Linux:%s" % (dcr, stream)
                    for stream in ("CONFIG_CHANGE_BLOB", "CONFIG_CHANGE_BLOB_V2", "CONFIG_DATA_BLOB_V2")
                },
            }
            for dcr in dcrs
        ]
        path = self.chunks / name
        path.with_suffix(".new").write_text(json.dumps({"extensionConfigurations": {extension: elements}}))
        os.replace(str(path.with_suffix(".new")), str(path))

    def start(self, *options, upload=None, wait="The relay is ready", **keywords):
        command = [sys.executable, self.zipapp, "run", "--chunks", str(self.chunks), "--events", str(self.events)]
        command += [
            "--upload",
            upload or "sqlite:%s" % self.database,
            "--interval",
            "0.2",
            "--sockets",
            str(self.sockets),
        ]
        self.launch(command + list(options), wait, **keywords)
        return self

    def address(self, role=EXTENSION):
        return address.parse(str(self.sockets / (role + ".socket")))

    def connect(self, role=EXTENSION):
        sock = sockets.connect(self.address(role), PATIENCE, [str(os.geteuid())])
        sock.settimeout(PATIENCE)
        return sock

    def sender(self, **keywords):
        return Sender(self.address(), [str(os.geteuid())], acks="require", deadline=PATIENCE, **keywords)

    def status(self):
        command = [sys.executable, self.zipapp, "status", "--json", "--sockets", str(self.sockets)]
        return json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, timeout=PATIENCE, check=False).stdout.decode()
        )

    def rows(self, query):
        with sqlite3.connect(str(self.database)) as database:
            return database.execute(query).fetchall()

    def cpu_seconds(self):
        with open("/proc/%d/stat" % self.process.pid) as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self):
        """The most memory it ever had in RAM."""
        with open("/proc/%d/status" % self.process.pid) as file:
            return int(re.search(r"VmHWM:\s*(\d+) kB", file.read()).group(1))


def read_value(sock):
    """One msgpack value."""
    unpacker = msgpack.Unpacker()
    while True:
        data = sock.recv(65536)
        assert data, "closed by the relay"
        unpacker.feed(data)
        for value in unpacker:
            return value


def is_closed_by_peer(sock):
    try:
        return sock.recv(1) == b""
    except (ConnectionResetError, socket.timeout) as error:
        return isinstance(error, ConnectionResetError)


def certificate(folder, name):
    """A self-signed certificate with its key in one file."""
    path = str(folder / (name + ".pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", path + ".key", "-out", path]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with open(path, "a") as file, open(path + ".key") as key:
        file.write(key.read())
    return path
