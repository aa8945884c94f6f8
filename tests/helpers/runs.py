# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real runs with the callback enabled, beside a real relay, or a receiver of a bad temper."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire import address, forward, sockets
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.msgpack import Unpacker
from ansible_collections.changetracking.inventory.tests.helpers.program import wait_for
from ansible_collections.changetracking.inventory.tests.helpers.relay_process import Relay

CALLBACK = "changetracking.inventory.ama_forward"
INVENTORY = """
h1
h2
h3
gone ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1
[local]
h1
h2
h3
[local:vars]
ansible_connection=local
[all:vars]
ansible_python_interpreter={python}
"""


@contextlib.contextmanager
def called(name):
    """This process, which listens where runs send to, has this name meanwhile."""
    path = Path("/proc/%d/comm" % os.getpid())
    before = path.read_text()
    path.write_text(name)
    try:
        yield
    finally:
        path.write_text(before)


class Run:
    def __init__(self, process):
        self.output = process.stdout
        self.status = process.returncode

    @property
    def last_line(self):
        return self.output.rstrip("\n").rpartition("\n")[2]

    @property
    def counts(self):
        """(delivered, spooled, dropped), as the last line has them."""
        match = re.match(r"ama_forward: delivered (\d+), spooled (\d+), dropped (\d+) records", self.last_line)
        assert match, self.output
        return tuple(map(int, match.groups()))

    @property
    def warnings(self):
        """Each as one line: Ansible breaks them where the terminal ends."""
        text = re.sub(r"\s+", " ", self.output)
        return re.findall(r"\[WARNING\]: ama_forward: (.*?\.)(?= (?:\[|PLAY|TASK|ama_forward:|h1 ))", text)


class Place:
    """Folders, an inventory of three hosts (all of them this machine) and one that cannot be reached, a relay."""

    def __init__(self, zipapp, folder):
        self.folder = folder
        self.spool = folder / "spool"
        self.inventory = folder / "hosts"
        self.inventory.write_text(INVENTORY.format(python=sys.executable))
        self._short = Path(tempfile.mkdtemp(prefix="ct"))  # sockets have short paths
        self.relay = Relay(zipapp, self._short)
        self.relay.put_chunk("one.json", "1")
        self.address = str(self.relay.address())
        self._receivers = []

    def close(self):
        for receiver in self._receivers:
            receiver.close()
        self.relay.end()
        shutil.rmtree(str(self._short))

    def environment(self, **options):
        environment = dict(
            os.environ,
            ANSIBLE_CALLBACKS_ENABLED=CALLBACK,
            ANSIBLE_FORCE_COLOR="0",
            ANSIBLE_LOCALHOST_WARNING="0",
            COLUMNS="10000",
            AMA_FORWARD_ADDRESS=self.address,
            AMA_FORWARD_CONFIG_ADDRESS=str(self.relay.address("config")),
            AMA_FORWARD_ALLOW_USERS=str(os.geteuid()),
            AMA_FORWARD_SPOOL=str(self.spool),
        )
        named = {name if name.isupper() else "AMA_FORWARD_" + name.upper(): value for name, value in options.items()}
        environment.update((name, str(value)) for name, value in named.items())
        return {name: value for name, value in environment.items() if named.get(name, value) is not None}

    def command(self, *command, **options):
        return Run(
            subprocess.run(
                command, cwd=str(self.folder), env=self.environment(**options),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
            )
        )  # fmt: skip

    def play(self, text, *arguments, **options):
        path = self.folder / "play.yml"
        path.write_text(text, encoding="utf-8")
        return self.command("ansible-playbook", "-i", str(self.inventory), str(path), *arguments, **options)

    def receiver(self, temper, where=None):
        receiver = Receiver(where or address.parse(str(self._short / "receiver")), temper)
        self._receivers.append(receiver)
        self.address = str(receiver.address)
        return receiver

    def arrived(self, query):
        """Rows of the relay's tables, once all it received is there."""
        wait_for(lambda: not any(sink["Rows"] for sink in self.relay.status()["Sinks"]))
        return self.relay.rows(query)

    def statuses(self):
        """[Computer, Kind, Status, Message] of each, sorted."""
        rows = self.arrived(
            "SELECT Computer, AdditionalColumns FROM ConfigurationData WHERE ConfigDataType = 'CollectionStatus'"
        )
        told = [(computer, json.loads(more)) for computer, more in rows]
        return sorted([computer, more.get("Kind", ""), more["Status"], more["Message"]] for computer, more in told)


class Receiver:
    """Listens at a socket file. Its temper: `good` acknowledges, `stalls` reads nothing, `closes` in the middle of each
    message, `silent` reads all and acknowledges nothing, `dies` in the middle of the first message."""

    def __init__(self, where, temper):
        self.received = bytearray()
        self._temper = temper
        self._listener = sockets.listen(where)
        self.address = where if where.scheme == "file" else where._replace(port=self._listener.getsockname()[1])
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for sock in (self._listener, *self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def _accept(self):
        try:
            while True:
                sock = self._listener.accept()[0]
                self._open.append(sock)
                if self._temper != "stalls":
                    threading.Thread(target=self._serve, args=(sock,), daemon=True).start()
        except OSError:  # closed
            pass

    def _serve(self, sock):
        unpacker = Unpacker()
        try:
            for data in iter(lambda: sock.recv(1000 if self._temper in ("closes", "dies") else 65536), b""):
                self.received += data
                if self._temper == "closes":
                    sock.close()
                    return
                if self._temper == "dies":
                    self.close()
                    return
                unpacker.feed(data)
                for value in unpacker:
                    if self._temper == "good":
                        sock.sendall(forward.ack(forward.decode(value).chunk))
        except OSError:
            pass
