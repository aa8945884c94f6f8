# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our uploads are those of azure-storage-blob, and a storage account that runs here (Azurite) takes them."""

import time

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient, ContentSettings

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import blobs
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.blobs import Blobs
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.errors import AzureError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.https import parse
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.identity import STORAGE
from ansible_collections.changetracking.inventory.tests.helpers import azurite as double
from ansible_collections.changetracking.inventory.tests.helpers import web

TEXTS = [b"", b"a\n", "tëxt\r\n".encode() * 1000, b"x" * 65536]
NAMES = ["web01/id/20260101T000000Z-a.conf-00", "h-1.example.org/id/20260101T000000Z-.hidden-00"]
PATHS = ["/etc/a.conf", "/srv/a b/\udcff%/\u00e4.conf"]
# What differs and does not matter: who asks, over which connection, and a number for the log of the account.
UNIMPORTANT = ("user-agent", "accept", "accept-encoding", "connection", "x-ms-client-request-id", "x-ms-date", "host")


class Tokens:
    """One token for both sides."""

    def __init__(self, token="the-token"):
        self.text = token

    def token(self, resource):
        assert resource == STORAGE
        return self.text

    def get_token(self, scope, **_options):
        assert scope == STORAGE + "/.default"
        return AccessToken(self.text, int(time.time()) + 3600)

    def forget(self, resource):
        pass

    def describe(self):
        return "this test"


def theirs(url, tokens, certificate):
    service = BlobServiceClient(url, tokens, api_version=blobs.VERSION, connection_verify=certificate[0], retry_total=0)
    return service.get_container_client(blobs.CONTAINER)


def put(container, name, text, described):
    metadata = {header[10:]: value for header, value in described.items()}
    settings = ContentSettings(content_type="text/plain; charset=utf-8")
    container.upload_blob(
        name, text, metadata=metadata, content_settings=settings, validate_content=True, overwrite=False
    )


def seen(request):
    headers = {name: value for name, value in request.headers.items() if name not in UNIMPORTANT}
    return request.method, request.target, headers, request.body


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_put_as_azure_storage_blob_does(certificate, name, text, path):
    tokens = Tokens()
    described = blobs.metadata("web01", path)
    answer = web.answer(
        201, ETag='"0x1"', Last_Modified="Thu, 26 Nov 2026 10:00:00 GMT", x_ms_request_server_encrypted="true"
    )
    with web.Web(lambda request: answer, certificate=certificate) as server:
        put(theirs(server.url, tokens, certificate), name, text, described)
        ours = Blobs(parse(server.url), tokens, certificate[0])
        ours.put(name, text, described)
        ours.close()
        expected, found = server.requests
    assert seen(found) == seen(expected)


# --- Azurite


@pytest.fixture
def container(azurite, certificate):
    client = theirs(azurite, Tokens(double.unsigned_token()), certificate)
    client.create_container()
    yield client
    client.delete_container()


@pytest.fixture
def ours(azurite, certificate):
    client = Blobs(parse(azurite), Tokens(double.unsigned_token()), certificate[0])
    yield client
    client.close()


@pytest.mark.parametrize("text", TEXTS)
def test_what_we_put_is_what_they_get(container, ours, text):
    described = blobs.metadata("web01", PATHS[1])
    for name in NAMES:
        ours.put(name, text, described)
        ours.put(name, text, described)  # as after a lost answer
        blob = container.get_blob_client(name)
        assert blob.download_blob().readall() == text
        properties = blob.get_blob_properties()
        assert {"x-ms-meta-" + key.lower(): value for key, value in properties.metadata.items()} == {
            key.lower(): value for key, value in described.items()
        }
        assert properties.content_settings.content_type == "text/plain; charset=utf-8"
        with pytest.raises(ResourceExistsError):
            put(container, name, text, described)


def test_another_text_in_its_place_is_noticed_and_not_overwritten(container, ours):
    put(container, NAMES[0], b"theirs", {})
    with pytest.raises(AzureError, match="has another content"):
        ours.put(NAMES[0], b"ours", {})
    assert container.get_blob_client(NAMES[0]).download_blob().readall() == b"theirs"


def test_without_a_container_or_with_an_expired_token_it_is_a_sentence(azurite, ours, certificate):
    with pytest.raises(AzureError, match="Create the container changetrackingblob of https://localhost"):
        ours.put(NAMES[0], b"x", {})
    with pytest.raises(AzureError, match="Create the container changetrackingblob"):
        ours.check("web01")
    expired = Blobs(parse(azurite), Tokens(double.unsigned_token(exp=int(time.time()) - 10)), certificate[0])
    with pytest.raises(AzureError, match=r"the answer is 40[13], \w+"):
        expired.put(NAMES[0], b"x", {})
    expired.close()


def test_the_check_stores_nothing(container, ours):
    ours.check("web01")
    assert list(container.list_blobs()) == []
