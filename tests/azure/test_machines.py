# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as it runs on a virtual machine and on an Arc machine, with doubles of the metadata services at their own addresses, and an
Azurite as the storage account."""

import hashlib
import os
import pwd
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from azure.core.credentials import AccessToken
from azure.storage.blob import BlobClient, BlobServiceClient

from ansible_collections.changetracking.inventory.tests.helpers import web
from ansible_collections.changetracking.inventory.tests.helpers.agent_process import Host
from ansible_collections.changetracking.inventory.tests.helpers.azurite import unsigned_token

KEYS = Path("/var/opt/azcmagent/tokens")
LINKS = "SELECT FileSystemPath, FileContentChecksum, json_extract(AdditionalColumns, '$.FileContentBlobLink') FROM ConfigurationChange"


class Token:
    def get_token(self, *_scopes, **_options):
        return AccessToken(unsigned_token(), int(time.time()) + 3600)


class Metadata:
    """Answers as the metadata service of a virtual machine and of an Arc machine do."""

    def __init__(self):
        self.lifetime = 86400
        self.tokens = []
        self.trouble = lambda request: None

    def grant(self):
        self.tokens.append(unsigned_token(jti=str(len(self.tokens))))
        now = int(time.time())
        return web.answer(200, {
            "access_token": self.tokens[-1], "client_id": "c", "expires_in": str(self.lifetime), "expires_on": str(now + self.lifetime),
            "ext_expires_in": str(self.lifetime), "not_before": str(now), "resource": "https://storage.azure.com", "token_type": "Bearer",
        })  # fmt: skip

    def vm(self, request):
        found = self.trouble(request)
        if found is not None:
            return found
        if request.headers.get("metadata") != "true" or "x-forwarded-for" in request.headers:
            return web.answer(
                400, {"error": "invalid_request", "error_description": "Required metadata header not specified"}
            )
        return self.grant()

    def arc(self, request):
        key = KEYS / "0a1b.key"
        if request.headers.get("authorization") == "Basic the-key":
            return self.grant()
        KEYS.mkdir(parents=True, exist_ok=True)
        key.write_text("the-key")
        key.chmod(0o440)
        return web.answer(401, WWW_Authenticate="Basic realm=%s" % key)


@pytest.fixture
def container(account, certificate):
    service = BlobServiceClient(account.url, Token(), connection_verify=certificate[0])
    client = service.get_container_client("changetrackingblob")
    client.create_container()
    yield client
    client.delete_container()


@pytest.fixture
def host(programs, account, container):
    host = Host(programs, Path(tempfile.mkdtemp(prefix="agent")))
    for folder in (host.folder, host.tracked):
        folder.chmod(0o755)
    item = {"name": "all", "destinationPath": str(host.tracked) + "/*", "uploadContent": True}
    files = {
        "fileCollectionFrequency": 1,
        "fileInfo": [item],
        "uploadSetting": {"blobEndpoint": account.url, "managedIdentity": ""},
    }
    host.relay.put_chunk(
        "one.json",
        "1",
        settings={"enableSoftware": False, "enableServices": False, "enableUpload": True, "fileSettings": files},
    )
    host.relay.start()
    yield host
    host.end()
    shutil.rmtree(str(host.folder))


def options(account, certificate, identity):
    return [
        "--contents",
        "--upload-contents",
        "--upload-host",
        account.host,
        "--azure-identity",
        identity,
        "--azure-ca",
        certificate[0],
    ]


def write(host, number):
    path = host.tracked / ("f%d" % number)
    path.write_text("text %d\n" % number * 50)
    path.chmod(0o644)


def check(host, certificate, expected):
    """Each of the changed files has a link that leads to its very text, as azure-storage-blob reads it."""
    rows = host.arrived().relay.rows(LINKS)
    assert sorted(Path(path).name for path, _checksum, _link in rows) == sorted("f%d" % number for number in expected)
    for path, checksum, link in rows:
        content = BlobClient.from_blob_url(link, Token(), connection_verify=certificate[0]).download_blob().readall()
        assert content == Path(path).read_bytes() and hashlib.sha256(content).hexdigest() == checksum


@pytest.mark.parametrize("kind", ["vm", "arc"])
def test_contents_arrive_with_the_identity_of_the_machine(host, account, certificate, kind):
    metadata = Metadata()
    address = {"vm": ("169.254.169.254", 80), "arc": ("127.0.0.1", 40342)}[kind]
    with web.Web(getattr(metadata, kind), host=address[0], port=address[1]):
        given = options(account, certificate, kind)
        assert host.run("once", *given)[0] == 0
        for number in range(5):
            write(host, number)
        code, log = host.run("once", *given)
        assert code == 0 and "The contents of 5 files were uploaded, 0 waiting." in log
        assert "the-key" not in log and not any(token in log for token in metadata.tokens)
    check(host, certificate, range(5))


def test_a_stranger_at_the_port_of_the_arc_agent_gets_nothing(host, account, certificate):
    """The port is not privileged, so any user may listen there."""
    nobody = pwd.getpwnam("nobody").pw_uid
    metadata = Metadata()
    asked, served = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setuid(nobody)
            _server = web.Web(metadata.arc, port=40342)
            os.write(served, b"1")
            time.sleep(120)
        finally:
            os._exit(1)
    os.close(served)
    try:
        assert os.read(asked, 1) == b"1"
        given = options(account, certificate, "arc")
        host.run("once", *given)
        write(host, 0)
        log = host.run("once", *given)[1]
        assert (
            "in the place of the Azure Connected Machine agent. Nothing was sent." in log
            and "1 record was delivered" in log
        )
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(asked)


def test_contents_arrive_after_bad_days_of_the_machine_and_of_the_account(host, account, certificate, container):
    metadata = Metadata()
    given = options(account, certificate, "vm")
    number = 0

    def change():
        nonlocal number
        write(host, number)
        number += 1

    with web.Web(metadata.vm, host="169.254.169.254", port=80):
        assert host.run("once", *given)[0] == 0
        metadata.trouble = lambda request: web.answer(
            400, {"error": "invalid_request", "error_description": "Identity not found"}
        )
        change()
        assert "Assign a managed identity to this machine" in host.run("once", *given)[1]
        busy = [web.answer(410), web.answer(429), web.answer(500)]
        metadata.trouble = lambda request: busy.pop() if busy else None
        account.end()
        change()
        assert "No answer from https://localhost" in host.run("once", *given)[1]
        account.start()
        for _kill in range(2):
            host.start(*given)
            change()
            change()
            time.sleep(1.5)
            host.kill()
            account.end()
            account.start()
        code, log = host.run("once", *given)
        assert code == 0, log
    check(host, certificate, range(number))
    assert len(list(container.list_blobs())) == number
