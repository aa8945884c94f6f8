# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""npm's @fluent-org/logger, client and server, against ours. Shared keys are left out: we authenticate by TLS only.

CT_NODE_PATH names the folder node_modules which `npm install` made of the package.json beside this file.
"""

import json
import os
import shutil
import subprocess

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import ForwardError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.address import Address
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.sender import Sender
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.wire.tls import Tls
from ansible_collections.changetracking.inventory.tests.helpers.receiver import Receiver

LOCALHOST = Address("tcp", "127.0.0.1", 0)
HERE = os.path.dirname(os.path.abspath(__file__))
MODES = ("Message", "Forward", "PackedForward", "CompressedPackedForward")
# No empty text: the server makes a Buffer of it.
RECORDS = [{"RecordId": str(n), "SvcName": "sshd", "text": "Ünï " * (1 + n % 40)} for n in range(300)]


def need(condition, what):
    if not condition:
        if os.environ.get("CI"):
            pytest.fail("this test needs " + what)
        pytest.skip("this test needs " + what)


@pytest.fixture(scope="module")
def node():
    modules = os.environ.get("CT_NODE_PATH", "")
    need(shutil.which("node"), "node")
    need(os.path.isdir(os.path.join(modules, "@fluent-org")), "CT_NODE_PATH, with @fluent-org/logger in it")
    environment = dict(os.environ, NODE_PATH=modules)

    def start(script, *arguments, **pipes):
        command = ["node", os.path.join(HERE, script)] + list(arguments)
        return subprocess.Popen(command, env=environment, universal_newlines=True, stdout=subprocess.PIPE, **pipes)

    return start


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    need(shutil.which("openssl"), "openssl")
    folder = tmp_path_factory.mktemp("tls")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out cert"
    make += " -addext subjectAltName=DNS:localhost"
    subprocess.check_output(make.split(), cwd=str(folder), stderr=subprocess.STDOUT)
    return Tls(ca=str(folder / "cert"), cert=str(folder / "cert"), key=str(folder / "key"))


def emit(node, receiver, **options):
    options["socket"] = dict(options.get("socket", {}), host="localhost", port=receiver.port, timeout=5000)
    client = node("client.js", json.dumps(options), json.dumps(RECORDS), stderr=subprocess.PIPE)
    errors = client.communicate(timeout=60)[1]
    assert client.returncode == 0, errors


@pytest.mark.parametrize("acks", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_what_its_client_sends_is_decoded_and_its_acks_satisfy_it(node, mode, acks):
    receiver = Receiver(LOCALHOST)
    emit(node, receiver, eventMode=mode, **({"ack": {"ackTimeout": 10000}} if acks else {}))
    batches = receiver.end()
    assert {batch.tag for batch in batches} == {"tag.label"}
    assert [record for batch in batches for _unused, record in batch.entries] == RECORDS
    assert {seconds for batch in batches for seconds, _unused in batch.entries} == {1700000000}
    assert all(bool(batch.chunk) == acks for batch in batches)


def test_its_client_reaches_us_over_tls(node, certificate):
    receiver = Receiver(LOCALHOST, Tls(cert=certificate.cert, key=certificate.key))
    with open(certificate.ca) as file:
        emit(
            node, receiver, eventMode="Forward", ack={}, socket={"tls": {"ca": file.read(), "servername": "localhost"}}
        )
    assert [record for batch in receiver.end() for _unused, record in batch.entries] == RECORDS


@pytest.fixture(params=["tcp", "tls"])
def server(request, node):
    """(Address, Tls, its process)"""
    tls = request.getfixturevalue("certificate") if request.param == "tls" else None
    process = node("server.js", str(5 * len(RECORDS)), *([tls.cert, tls.key] if tls else []))
    try:
        port = int(process.stdout.readline())
        yield Address(request.param, "localhost" if tls else "127.0.0.1", port), tls and Tls(ca=tls.ca), process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("acks", ["auto", "require", "off"])
def test_its_server_takes_and_acknowledges_what_we_send(server, acks):
    where, tls, process = server
    entries = [(1700000000 + number, record) for number, record in enumerate(RECORDS * 5)]
    with Sender(where, acks=acks, tls=tls) as sender:
        assert sender.send("dcr-1:CTDataSource-Linux:CONFIG_DATA_BLOB_V2", entries) is (acks != "off")
        received = json.loads(process.communicate(timeout=60)[0])
    assert received == [["dcr-1:CTDataSource-Linux:CONFIG_DATA_BLOB_V2", *entry] for entry in entries]


def test_its_server_when_killed_is_reported_and_not_waited_for(node):
    process = node("server.js", "2")
    where = Address("tcp", "127.0.0.1", int(process.stdout.readline()))
    with Sender(where) as sender:
        assert sender.send("tag", [(0, RECORDS[0])]) is True
        process.kill()
        process.communicate()
        with pytest.raises(ForwardError, match="Connection refused"):
            sender.send("tag", [(0, RECORDS[1])])
