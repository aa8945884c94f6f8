# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the Azure Monitor Agent (AMA) at its sockets, as a process of its own with AMA's name.

It answers requests for configuration, in pieces, with the rule if it has one yet. It reads records and acknowledges nothing. The socket
of an extension is there only while a rule names it. On SIGTERM, it reads what was sent and ends.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time

try:
    from ansible_collections.changetracking.inventory.tests.helpers.program import Program
except ImportError:  # as a program
    Program = object

EXTENSION = "ChangeTracking-Linux"
STREAMS = ("CONFIG_CHANGE_BLOB", "CONFIG_CHANGE_BLOB_V2", "CONFIG_DATA_BLOB_V2")


class FakeAma(Program):
    """`sockets`: the folder in which the agent looks for AMA's sockets."""

    def __init__(self, library, folder, sockets):
        super().__init__(__file__)
        self._library = library  # a program of ours, whose decoder it uses
        self._sockets = sockets
        self._rule = folder / "rule.json"
        self._records = folder / "records.jsonl"

    def associate(self, *dcrs, settings=None):
        """Give it rules; without any, they are withdrawn."""
        elements = [
            {
                "id": "dcr-%s:CTDataSource-Linux" % dcr,
                "originIds": ["/subscriptions/s/dataCollectionRules/%s" % dcr],
                "extensionSettings": settings or {},
                "outputStreams": {stream: "dcr-%s:CTDataSource-Linux:%s" % (dcr, stream) for stream in STREAMS},
            }
            for dcr in dcrs
        ]
        new = self._rule.with_suffix(".new")
        new.write_text(json.dumps(elements))
        os.replace(str(new), str(self._rule))

    def start(self):
        command = [sys.executable, self.zipapp, str(self._sockets), str(self._rule), str(self._records)]
        self.launch(command, "ready", env=dict(os.environ, PYTHONPATH=str(self._library)))

    def records(self):
        """(tag, record), in the order in which they came."""
        if not self._records.exists():
            return []
        return [tuple(json.loads(line)) for line in self._records.read_text().splitlines()]


def listen(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(16)
    return sock


def answer(request, elements):
    document = {"schemaVersion": 1, "version": "", "extensionName": EXTENSION, "extensionConfigurations": elements}
    known = elements and request["Tag"] == EXTENSION
    return json.dumps(
        {
            "Request": request["Request"], "RequestId": request["RequestId"], "Version": "1", "Success": True, "Description": "",
            "TaggedData": json.dumps(document) if known else None,
        }
    ).encode()  # fmt: skip


def main(folder, rule, records):
    from _cti.wire import forward
    from _cti.wire.msgpack import Unpacker

    with open("/proc/self/comm", "w") as file:
        file.write("mdsd")
    os.makedirs(folder, exist_ok=True)
    ending = []
    signal.signal(signal.SIGTERM, lambda *_signal: ending.append(True))
    selector = selectors.DefaultSelector()
    config, data = listen(os.path.join(folder, "config.socket")), None
    data_path = os.path.join(folder, EXTENSION + ".socket")
    selector.register(config, selectors.EVENT_READ, "config")
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    quiet = 0
    while not ending or quiet < 3:
        elements = []
        if os.path.exists(rule):
            with open(rule) as file:
                elements = json.load(file)
        if elements and data is None and not ending:
            data = listen(data_path)
            selector.register(data, selectors.EVENT_READ, "data")
        if data is not None and (ending or not elements):
            selector.unregister(data)
            data.close()
            os.unlink(data_path)
            data = None
        ready = selector.select(0.1)
        quiet = 0 if ready else quiet + 1
        for key, _mask in ready:
            if isinstance(key.data, str):
                client = key.fileobj.accept()[0]
                selector.register(client, selectors.EVENT_READ, (key.data, Unpacker()))
                continue
            role, unpacker = key.data
            try:
                piece = key.fileobj.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                continue
            unpacker.feed(piece)
            for value in unpacker:
                if role == "config":
                    reply = answer(json.loads(value), elements)
                    for at in range(0, len(reply), 700):
                        key.fileobj.sendall(reply[at : at + 700])
                        time.sleep(0.001)
                elif value is not None:
                    batch = forward.decode(value)
                    with open(records, "a") as file:
                        file.writelines(json.dumps([batch.tag, record]) + "\n" for _time, record in batch.entries)


if __name__ == "__main__":
    main(*sys.argv[1:])
